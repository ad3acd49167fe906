//! The filters: how a value is written.

use berth_sdk::serde_json::Value;

/// The longest `truncate`.
const TRUNCATE_MAX: usize = 1_000_000;

/// A filter of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Capital letters.
    Upper,
    /// Small letters.
    Lower,
    /// Without space around it.
    Trim,
    /// As JSON.
    Json,
    /// Safe within HTML.
    Escape,
    /// At most so many characters.
    Truncate(usize),
}

impl Filter {
    /// Reads `upper` or `truncate(100)`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "upper" => Ok(Self::Upper),
            "lower" => Ok(Self::Lower),
            "trim" => Ok(Self::Trim),
            "json" => Ok(Self::Json),
            "escape" => Ok(Self::Escape),
            _ => text
                .strip_prefix("truncate(")
                .and_then(|rest| rest.strip_suffix(')'))
                .and_then(|number| number.trim().parse().ok())
                .filter(|number| (1..=TRUNCATE_MAX).contains(number))
                .map(Self::Truncate)
                .ok_or_else(|| {
                    let shown: String = text.chars().take(60).collect();
                    format!("there is no filter {shown}: known are upper, lower, trim, json, escape, truncate(100)")
                }),
        }
    }
}

/// Writes a value through its filters.
pub fn apply(value: &Value, filters: &[Filter]) -> String {
    // As JSON a value is written from itself and not from its text.
    let (mut text, rest) = match filters.split_first() {
        Some((Filter::Json, rest)) => (value.to_string(), rest),
        _ => (plain(value), filters),
    };
    for filter in rest {
        text = match filter {
            Filter::Upper => text.to_uppercase(),
            Filter::Lower => text.to_lowercase(),
            Filter::Trim => text.trim().to_string(),
            Filter::Json => Value::String(text).to_string(),
            Filter::Escape => escaped(&text),
            Filter::Truncate(count) => text.chars().take(*count).collect(),
        };
    }
    text
}

/// A value as text: texts as they are, nothing for null, everything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use berth_sdk::json;

    use super::*;

    #[test]
    fn each_filter_does_its_work_in_turn() {
        let of = |value: Value, filters: &str| {
            let filters: Vec<Filter> = filters.split('|').map(|filter| Filter::parse(filter).unwrap()).collect();
            apply(&value, &filters)
        };
        assert_eq!(of(json!(" Ab "), "trim|upper"), "AB");
        assert_eq!(of(json!("a\"b"), "json"), "\"a\\\"b\"");
        assert_eq!(of(json!({"a": 1}), "json"), "{\"a\":1}");
        assert_eq!(of(json!("<a>"), "escape|upper"), "&LT;A&GT;");
        assert_eq!(of(json!("äöü!"), "truncate(3)"), "äöü");
        for wrong in ["", "Upper", "truncate", "truncate()", "truncate(0)", "truncate(-1)", "truncate(9999999)"] {
            assert!(Filter::parse(wrong).is_err(), "{wrong}");
        }
    }
}
