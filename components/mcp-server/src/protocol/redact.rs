//! Takes out of documents what is called like a secret, before they are stored.

use berth_sdk::{
    redact::{self, REDACTED},
    serde_json::Value,
};

/// How deep a document is looked at; what lies deeper is taken out whole.
const DEPTH_MAX: usize = 32;
/// Words of secret names, besides those that are secret everywhere.
const WORDS: [&str; 2] = ["accesskey", "cookie"];

/// Whether what is called so is secret.
///
/// ```
/// use mcp_server::protocol::redact::is_secret;
/// assert!(is_secret("api_key") && is_secret("Set-Cookie"));
/// assert!(!is_secret("secretId") && !is_secret("maxTokens"));
/// ```
pub fn is_secret(name: &str) -> bool {
    redact::is_secret(name, &WORDS)
}

/// The document without the values of secret members.
pub fn document(value: &Value) -> Value {
    within(value, 0)
}

fn within(value: &Value, depth: usize) -> Value {
    match value {
        Value::Array(_) | Value::Object(_) if depth >= DEPTH_MAX => REDACTED.into(),
        Value::Array(entries) => entries.iter().map(|entry| within(entry, depth + 1)).collect(),
        Value::Object(members) => {
            let clean = |(name, value): (&String, &Value)| {
                let value = if is_secret(name) && !value.is_null() && !value.is_boolean() {
                    REDACTED.into()
                } else {
                    within(value, depth + 1)
                };
                (name.clone(), value)
            };
            Value::Object(members.iter().map(clean).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::json;

    use super::*;

    #[test]
    fn secrets_go_wherever_they_are() {
        let given = json!({"a": [{"password": "x", "user": "u"}], "Api-Key": {"k": 1}, "secretId": "s", "token": null});
        let clean = document(&given);
        assert_eq!(
            clean,
            json!({"a": [{"password": REDACTED, "user": "u"}], "Api-Key": REDACTED, "secretId": "s", "token": null})
        );
    }

    #[test]
    fn a_deep_document_is_cut() {
        let deep = (0..100).fold(json!({"password": "x"}), |inner, _| json!([inner]));
        assert!(!document(&deep).to_string().contains('x'));
    }
}
