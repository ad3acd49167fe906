//! What a run comes to: a text, or JSON that fits the agent's schema.

use berth_sdk::{
    prelude::*,
    serde_json::{self, Value},
};

/// Faults that the model is told of.
const FAULTS_SHOWN: usize = 10;

/// The output of a run, or what is wrong with it in words for the model.
pub fn read(text: &str, schema: Option<&Value>) -> Result<Value, String> {
    let Some(schema) = schema else { return Ok(Value::String(text.to_string())) };
    let value = json_in(text).ok_or_else(|| "It is not JSON.".to_string())?;
    let faults = validate::json_schema_faults(schema, &value);
    if faults.is_empty() {
        return Ok(value);
    }
    let shown: Vec<String> =
        faults
            .iter()
            .take(FAULTS_SHOWN)
            .map(|fault| {
                if fault.field.is_empty() {
                    fault.message.clone()
                } else {
                    format!("{}: {}", fault.field, fault.message)
                }
            })
            .collect();
    Err(shown.join("; "))
}

/// The JSON of an answer: all of it, within a fence, or from the first bracket to the last.
fn json_in(text: &str) -> Option<Value> {
    let text = text.trim();
    let fenced = text.split("```").nth(1).map(|inner| inner.trim_start_matches("json").trim());
    let between = |open: char, close: char| {
        let (from, to) = (text.find(open)?, text.rfind(close)?);
        text.get(from..=to)
    };
    [Some(text), fenced, between('{', '}'), between('[', ']')]
        .into_iter()
        .flatten()
        .find_map(|candidate| serde_json::from_str(candidate).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_found_in_what_models_write() {
        let schema = json!({"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}}});
        for text in ["{\"port\": 1}", "Sure:\n```json\n{\"port\": 1}\n```\nDone.", "It is {\"port\": 1}."] {
            assert_eq!(read(text, Some(&schema)).unwrap(), json!({"port": 1}), "{text}");
        }
        assert_eq!(read("none", Some(&schema)).unwrap_err(), "It is not JSON.");
        assert_eq!(read("{}", Some(&schema)).unwrap_err(), "port: is required");
        assert_eq!(read("{}", None).unwrap(), json!("{}"));
    }
}
