//! Filling a template: `{{name}}` and `{{a.b}}` become values, what is missing becomes nothing and is named. Pure; what
//! was filled in is not looked at again.

use berth_sdk::{prelude::*, serde_json::Value};

/// The longest text that comes out, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Variables one template may have.
pub const VARIABLES_MAX: usize = 100;

/// A filled text, and what was missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// The text.
    pub text: String,
    /// Names without a value.
    pub missing: Vec<String>,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As they are.
    Plain,
    /// Safe within HTML.
    Html,
    /// On one line, for subjects and titles.
    Line,
}

/// Fills a template with the members of an object.
pub fn fill(template: &str, values: &Value, style: Style) -> Filled {
    let mut filled = Filled::default();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.text.push_str(before);
        let Some((name, further)) = after.split_once("}}") else {
            filled.text.push_str("{{");
            rest = after;
            continue;
        };
        let name = name.trim();
        match lookup(values, name) {
            Some(value) => write(&mut filled.text, value, style),
            None if !filled.missing.iter().any(|known| known == name) => filled.missing.push(name.to_string()),
            None => {}
        }
        rest = further;
        if filled.text.len() > TEXT_BYTES_MAX {
            break;
        }
    }
    filled.text.push_str(rest);
    if filled.text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|index| filled.text.is_char_boundary(*index)).unwrap_or(0);
        filled.text.truncate(end);
    }
    if style == Style::Line {
        filled.text = validate::clean_plain(&filled.text.replace(['\n', '\r', '\t'], " "));
    }
    filled
}

/// The names a template uses, each once.
pub fn names(templates: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for template in templates {
        for piece in template.split("{{").skip(1) {
            if let Some((name, _)) = piece.split_once("}}")
                && names.len() < VARIABLES_MAX
                && !names.iter().any(|known| known == name.trim())
            {
                names.push(name.trim().to_string());
            }
        }
    }
    names
}

fn lookup<'value>(values: &'value Value, name: &str) -> Option<&'value Value> {
    let mut found = values;
    for part in name.split('.') {
        found = found.get(part)?;
    }
    (!found.is_null()).then_some(found)
}

fn write(text: &mut String, value: &Value, style: Style) {
    let plain = match value {
        Value::String(plain) => plain.clone(),
        Value::Array(entries) if entries.iter().all(Value::is_string) => {
            entries.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    if style != Style::Html {
        text.push_str(&plain);
        return;
    }
    for letter in plain.chars() {
        match letter {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&#39;"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_filled_in_once_and_missing_ones_are_empty() {
        let values = json!({"name": "{{other}}", "task": {"title": "Paint"}, "tags": ["a", "b"], "none": null, "n": 0});
        let filled = fill("{{name}} {{ task.title }} {{tags}} {{n}} {{none}}{{gone}}{{gone}}!", &values, Style::Plain);
        assert_eq!(filled.text, "{{other}} Paint a, b 0 !");
        assert_eq!(filled.missing, ["none", "gone"]);
        assert_eq!(fill("a {{ b", &values, Style::Plain).text, "a {{ b");
    }

    #[test]
    fn a_value_is_no_markup_and_no_second_line() {
        let values = json!({"x": "<b>\"&'\r\nBcc: y"});
        assert_eq!(fill("<i>{{x}}</i>", &values, Style::Html).text, "<i>&lt;b&gt;&quot;&amp;&#39;\r\nBcc: y</i>");
        assert_eq!(fill("{{x}}", &values, Style::Line).text, "b\"&'  Bcc: y");
    }

    #[test]
    fn a_text_stays_within_its_limit() {
        let values = json!({"x": "é".repeat(40_000)});
        assert!(fill("{{x}}{{x}}{{x}}", &values, Style::Plain).text.len() <= 64 * 1024);
    }

    #[test]
    fn a_template_names_its_variables() {
        assert_eq!(names(&["{{a}} {{ b }}", "{{a}} {{c"]), ["a", "b"]);
    }
}
