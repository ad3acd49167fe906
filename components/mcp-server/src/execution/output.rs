//! What a tool answered: cut to a size, judged by the tool's schema, and without secrets where it is kept. Pure rules.

use berth_sdk::{
    prelude::*,
    serde_json::{self, Map, Value},
};

use crate::protocol::redact;

/// Bytes of an answer that are kept and passed on.
pub const BYTES_MAX: usize = 1 << 20;
/// Warnings of one answer.
const WARNINGS_MAX: usize = 10;

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// Texts, images and the like.
    pub content: Vec<Value>,
    /// The same for a program.
    pub structured: Option<Value>,
    /// The tool says that it failed.
    pub is_error: bool,
    /// Something was cut off.
    pub is_truncated: bool,
    /// What is odd about it.
    pub warnings: Vec<String>,
}

impl Output {
    /// Reads the result of `tools/call`.
    pub fn read(result: &Value, output_schema: Option<&Value>) -> Self {
        let content = result.get("content").and_then(Value::as_array).cloned().unwrap_or_default();
        let structured = result.get("structuredContent").filter(|value| !value.is_null()).cloned();
        let is_error = result.get("isError") == Some(&Value::Bool(true));
        let mut warnings = Vec::new();
        match (output_schema, &structured) {
            (Some(schema), Some(value)) => {
                let faults = validate::json_schema_faults(schema, value);
                let words =
                    |fault: &validate::FieldError| format!("structured output: {} {}", fault.field, fault.message);
                warnings.extend(faults.iter().take(WARNINGS_MAX).map(words));
            }
            (Some(_), None) if !is_error => warnings.push("structured output: is missing".into()),
            _ => {}
        }
        let mut output = Self { content, structured, is_error, is_truncated: false, warnings };
        output.cut();
        output
    }

    fn size(&self) -> usize {
        let of = |value: &Value| value.to_string().len();
        self.content.iter().map(of).sum::<usize>() + self.structured.as_ref().map_or(0, of)
    }

    /// Leaves what is too much: first what is there twice, then the end.
    fn cut(&mut self) {
        if self.size() <= BYTES_MAX {
            return;
        }
        self.is_truncated = true;
        if !self.content.is_empty() {
            self.structured = None;
        }
        if self.structured.as_ref().is_some_and(|value| value.to_string().len() > BYTES_MAX) {
            self.structured = None;
        }
        let mut left = BYTES_MAX;
        let mut kept = Vec::new();
        for mut part in std::mem::take(&mut self.content) {
            let size = part.to_string().len();
            if size > left {
                if let Some(Value::String(text)) = part.get_mut("text") {
                    let mut end = left.saturating_sub(200) / 2;
                    while !text.is_char_boundary(end) && end > 0 {
                        end -= 1;
                    }
                    text.truncate(end);
                    kept.push(part);
                }
                break;
            }
            left -= size;
            kept.push(part);
        }
        self.content = kept;
    }

    /// What the caller is answered.
    pub fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("content".into(), Value::Array(self.content.clone()));
        members.insert("structuredContent".into(), self.structured.clone().unwrap_or_default());
        members.insert("isError".into(), self.is_error.into());
        members.insert("truncated".into(), self.is_truncated.into());
        members.insert("warnings".into(), json!(self.warnings));
        members
    }

    /// What is kept: without secrets, in texts that are JSON too.
    pub fn kept(&self) -> Value {
        let mut members = self.members();
        if let Some(Value::Array(content)) = members.get_mut("content") {
            for part in content {
                let clean = part.get("text").and_then(Value::as_str).and_then(clean);
                if let (Some(clean), Some(members)) = (clean, part.as_object_mut()) {
                    members.insert("text".into(), clean.into());
                }
            }
        }
        redact::document(&Value::Object(members))
    }

    /// Its first text, for whoever reads why it failed: kept as well, and so without secrets.
    pub fn words(&self) -> String {
        let text = self.content.iter().find_map(|part| part.get("text").and_then(Value::as_str));
        let text = text.unwrap_or("The tool says that it failed.");
        clean(text).unwrap_or_else(|| text.to_string()).chars().take(500).collect()
    }
}

/// A text that is a JSON document, without secrets; none for any other.
fn clean(text: &str) -> Option<String> {
    let document: Value = serde_json::from_str(text).ok()?;
    (document.is_object() || document.is_array()).then(|| redact::document(&document).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_answer_is_cut_and_says_so() {
        let text = "ä".repeat(800_000);
        let output = Output::read(
            &json!({"content": [{"type": "text", "text": "first"}, {"type": "text", "text": text}], "structuredContent": {"a": text}}),
            None,
        );
        assert!(output.is_truncated && output.structured.is_none() && output.size() <= BYTES_MAX);
        assert_eq!(output.content.len(), 2);
        let small = Output::read(&json!({"content": [], "structuredContent": {"a": 1}}), None);
        assert!(!small.is_truncated && small.structured.is_some());
    }

    #[test]
    fn what_does_not_fit_the_schema_is_kept_with_a_warning() {
        let schema = json!({"type": "object", "required": ["sum"]});
        let output = Output::read(&json!({"content": [], "structuredContent": {}}), Some(&schema));
        assert_eq!(output.warnings, ["structured output: sum is required"]);
        assert_eq!(Output::read(&json!({"content": []}), Some(&schema)).warnings.len(), 1);
        assert!(Output::read(&json!({"content": [], "isError": true}), Some(&schema)).warnings.is_empty());
    }

    #[test]
    fn secrets_are_passed_on_and_not_kept() {
        let output = Output::read(
            &json!({"content": [{"type": "text", "text": "{\"password\":\"x1\"}"}], "structuredContent": {"token": "x2"}}),
            None,
        );
        assert!(json!(output.members()).to_string().contains("x2"));
        assert_eq!(output.words(), "{\"password\":\"[redacted]\"}");
        let kept = output.kept().to_string();
        assert!(!kept.contains("x1") && !kept.contains("x2") && kept.contains("[redacted]"), "{kept}");
    }
}
