//! What a modern request repeats in its headers, so that whoever stands between can route it without reading its body: how
//! values are written there, and which parameters of a tool its schema wants there.

use base64::{Engine, engine::general_purpose::STANDARD};
use berth_sdk::serde_json::{Map, Value};

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";
/// How deep a schema is looked at.
const DEPTH_MAX: usize = 16;
/// Parameters that a schema can want in headers.
const PARAMETERS_MAX: usize = 64;

/// A value as a header holds it.
///
/// ```
/// use mcp_server::protocol::headers::{decode, encode};
/// assert_eq!(encode("us-west1"), "us-west1");
/// assert_eq!(decode(&encode("Hello, 世界")).as_deref(), Some("Hello, 世界"));
/// assert_eq!(decode("=?base64?SGVsbG8?="), None); // without its padding
/// ```
pub fn encode(value: &str) -> String {
    let is_plain = value.bytes().all(|byte| (0x20..=0x7e).contains(&byte) || byte == b'\t') && value.trim() == value;
    let looks_encoded = value.starts_with(PREFIX) && value.ends_with(SUFFIX);
    if is_plain && !looks_encoded { value.to_string() } else { format!("{PREFIX}{}{SUFFIX}", STANDARD.encode(value)) }
}

/// What a header's value says; none where it is not well formed.
pub fn decode(value: &str) -> Option<String> {
    let value = value.trim_matches([' ', '\t']);
    if value.len() >= PREFIX.len() + SUFFIX.len()
        && let Some(text) = value.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX))
    {
        return STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    }
    value.bytes().all(|byte| (0x20..=0x7e).contains(&byte) || byte == b'\t').then(|| value.to_string())
}

/// Which parameter of a request is its name; none for a method without one.
pub fn name_parameter(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        _ => None,
    }
}

/// The parameters that a tool's schema wants in headers: each with the rest of the header's name, in lower case, and the path to it.
pub fn wanted(schema: &Value) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    look(schema, &mut Vec::new(), &mut found);
    found
}

fn look(schema: &Value, path: &mut Vec<String>, found: &mut Vec<(String, Vec<String>)>) {
    if path.len() >= DEPTH_MAX {
        return;
    }
    for (name, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        path.push(name.clone());
        let kind = schema.get("type").and_then(Value::as_str);
        if let Some(header) = schema.get("x-mcp-header").and_then(Value::as_str)
            && matches!(kind, Some("string" | "integer" | "boolean"))
            && is_token(header)
            && found.len() < PARAMETERS_MAX
        {
            found.push((header.to_ascii_lowercase(), path.clone()));
        }
        look(schema, path, found);
        path.pop();
    }
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter))
}

/// The value of a parameter as a text; none where there is none to repeat.
pub fn value_at(arguments: &Map<String, Value>, path: &[String]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let mut value = arguments.get(first)?;
    for name in rest {
        value = value.get(name)?;
    }
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Whether a header says the same as the body: numbers are compared as numbers.
pub fn is_same(header: &str, body: &str) -> bool {
    header == body || matches!((header.parse::<f64>(), body.parse::<f64>()), (Ok(one), Ok(other)) if one == other)
}

/// The headers that a call of a tool needs.
pub fn of_call(schema: &Value, arguments: &Map<String, Value>) -> Vec<(String, String)> {
    let value = |(header, path): (String, Vec<String>)| {
        Some((format!("mcp-param-{header}"), encode(&value_at(arguments, &path)?)))
    };
    wanted(schema).into_iter().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use berth_sdk::json;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_found_where_the_schema_says() {
        let schema = json!({"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"type": "object", "properties": {"count": {"type": "integer", "x-mcp-header": "Count"}}},
            "price": {"type": "number", "x-mcp-header": "Price"},
            "list": {"type": "array", "items": {"properties": {"x": {"type": "string", "x-mcp-header": "X"}}}},
        }});
        let arguments = json!({"region": " a", "deep": {"count": 7}, "price": 1.5});
        let headers = of_call(&schema, arguments.as_object().unwrap());
        assert_eq!(
            headers,
            [("mcp-param-region".into(), "=?base64?IGE=?=".into()), ("mcp-param-count".to_string(), "7".to_string())]
        );
        assert!(is_same("42.0", "42") && !is_same("a", "b"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(text: String) {
            prop_assert_eq!(decode(&encode(&text)), Some(text));
        }
    }
}
