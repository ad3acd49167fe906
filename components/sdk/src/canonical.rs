//! Canonical JSON and its digest: the one way in which plans are hashed.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// How deep a document may nest; what lies deeper is written as `null`, so two such documents may share a digest.
const DEPTH_MAX: usize = 128;

/// The document without white space, with the members of every object sorted by name (by code point).
///
/// ```
/// use berth_sdk::{canonical, json};
/// assert_eq!(canonical::text(&json!({"b": [1, 2.0], "a": "x"})), r#"{"a":"x","b":[1,2]}"#);
/// ```
pub fn text(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text, 0);
    text
}

/// SHA-256 of the canonical text, in lower-case hexadecimal.
///
/// ```
/// use berth_sdk::{canonical, json};
/// assert_eq!(canonical::sha256(&json!({"a": 1, "b": 2})), canonical::sha256(&json!({"b": 2, "a": 1})));
/// ```
pub fn sha256(value: &Value) -> String {
    hex::encode(Sha256::digest(text(value).as_bytes()))
}

/// SHA-256 of bytes, in lower-case hexadecimal.
///
/// ```
/// assert!(berth_sdk::canonical::sha256_bytes(b"").starts_with("e3b0c442"));
/// ```
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn write(value: &Value, text: &mut String, depth: usize) {
    if depth > DEPTH_MAX {
        return text.push_str("null");
    }
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_unstable();
            text.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write(members.get(name).unwrap_or(&Value::Null), text, depth + 1);
            }
            text.push('}');
        }
        Value::Array(entries) => {
            text.push('[');
            for (index, entry) in entries.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(entry, text, depth + 1);
            }
            text.push(']');
        }
        // PostgreSQL keeps 2.0 apart from 2 and SQLite may not: a whole number has one form here.
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (None, Some(float)) if float.fract() == 0.0 && float.abs() < 9e15 => {
                #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
                text.push_str(&(float as i64).to_string());
            }
            _ => text.push_str(&number.to_string()),
        },
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn order_and_form_of_numbers_do_not_matter() {
        let one = json!({"z": {"y": 1.0, "x": [null, true]}, "a": "ä\n"});
        let two = json!({"a": "ä\n", "z": {"x": [null, true], "y": 1}});
        assert_eq!(super::sha256(&one), super::sha256(&two));
        assert_ne!(super::sha256(&one), super::sha256(&json!({"a": "ä", "z": {"x": [null, true], "y": 1}})));
    }
}
