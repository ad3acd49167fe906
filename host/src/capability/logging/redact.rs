//! Makes a guest's line fit to be written down: secrets out, length bounded, no control characters.

use serde_json::Value;

use super::{FIELDS_MAX, LINE_BYTES_MAX};

/// What stands in the place of a secret.
const REDACTED: &str = "[redacted]";
/// What ends a line or a value that was cut.
const CUT: &str = "…[cut]";
/// Parts of a field's name that mark its value as a secret; compared without case, dashes, underscores and dots.
const SECRET_NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "authorization",
    "apikey",
    "cookie",
    "credential",
    "privatekey",
    "accesskey",
    "signingkey",
    "masterkey",
    "encryptionkey",
    "bearer",
    "jwt",
    "otp",
];
/// Nesting of a JSON value that is searched for secret names; what lies deeper is replaced whole.
const DEPTH_MAX: usize = 16;

/// Bytes of the JSON values of a line that are searched. What is over is replaced whole: in the beginning of a value alone
/// nobody finds its members.
const SEARCHED_BYTES_MAX: usize = 64 << 10;

/// The line without secrets and within its bytes.
pub(super) fn cleaned(message: String, fields: Vec<(String, String)>) -> (String, Vec<(String, String)>) {
    let message = bounded(message, LINE_BYTES_MAX);
    let mut left = LINE_BYTES_MAX - message.len();
    let mut search_left = SEARCHED_BYTES_MAX;
    let mut kept = Vec::with_capacity(fields.len().min(FIELDS_MAX));
    for (name, value) in fields.into_iter().take(FIELDS_MAX) {
        if left <= CUT.len() {
            break;
        }
        let value = redacted(&name, value, &mut search_left);
        let name = bounded(name, left);
        let value = bounded(value, left - name.len());
        left -= name.len() + value.len();
        kept.push((name, value));
    }
    (message, kept)
}

/// The value, or a placeholder when the name looks like a secret's; within a JSON value, the same for each member.
fn redacted(name: &str, value: String, search_left: &mut usize) -> String {
    if is_secret(name) && !is_count(name, &value) {
        return REDACTED.to_owned();
    }
    if !value.trim_start().starts_with(['{', '[']) {
        return value;
    }
    let Some(left) = search_left.checked_sub(value.len()) else { return REDACTED.to_owned() };
    *search_left = left;
    match serde_json::from_str::<Value>(&value) {
        Ok(mut json) => {
            if redact_json(&mut json, 0) {
                json.to_string()
            } else {
                value
            }
        }
        Err(_) => value,
    }
}

/// Replaces secrets inside a JSON value; whether there were any.
fn redact_json(json: &mut Value, depth: usize) -> bool {
    if depth == DEPTH_MAX {
        *json = Value::from(REDACTED);
        return true;
    }
    match json {
        Value::Object(members) => {
            let mut found = false;
            for (name, member) in members {
                let count = member.is_number() && is_count(name, "0");
                if is_secret(name) && !count && !member.is_null() {
                    *member = Value::from(REDACTED);
                    found = true;
                } else {
                    found |= redact_json(member, depth + 1);
                }
            }
            found
        }
        Value::Array(items) => {
            let mut found = false;
            for item in items {
                found |= redact_json(item, depth + 1);
            }
            found
        }
        _ => false,
    }
}

/// Whether a field's name says that its value is a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    SECRET_NAMES.iter().any(|part| match *part {
        // Too short to be looked for inside other words.
        "otp" | "jwt" | "pwd" => plain == *part,
        part => plain.contains(part),
    })
}

/// Numbers of tokens (`totalTokens`) are no secrets.
pub(crate) fn is_count(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    (name.ends_with("tokens") || name.ends_with("token_count") || name.ends_with("tokencount"))
        && value.parse::<f64>().is_ok()
}

/// The text without control characters, cut to `bytes_max` at a character's border.
fn bounded(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let mut end = bytes_max.saturating_sub(CUT.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        if bytes_max >= CUT.len() {
            text.push_str(CUT);
        }
    }
    // A line break would let a guest write a line of its own making; each such character becomes one space.
    if text.contains(char::is_control) {
        text = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> String {
        cleaned(String::new(), vec![(name.into(), value.into())]).1[0].1.clone()
    }

    #[test]
    fn fields_that_look_like_secrets_are_redacted_whatever_their_spelling() {
        for name in [
            "password",
            "userPassword",
            "Authorization",
            "api_key",
            "API-KEY",
            "x.api.key",
            "set-cookie",
            "accessToken",
            "client_secret",
            "privateKey",
            "OTP",
            "credentials",
            "tokens",
        ] {
            assert_eq!(field(name, "s3cr3t"), REDACTED, "{name}");
        }
        for name in ["planId", "key", "author", "keyboard", "adopt", "path"] {
            assert_eq!(field(name, "open"), "open", "{name}");
        }
        assert_eq!(field("totalTokens", "123"), "123");
        assert_eq!(field("refreshToken", "123"), REDACTED);
    }

    #[test]
    fn secrets_inside_a_json_value_are_redacted() {
        let value = field("body", r#"{"user":"a","login":{"password":"p"},"list":[{"token":"t"}],"usedTokens":3}"#);
        assert_eq!(
            value,
            r#"{"user":"a","login":{"password":"[redacted]"},"list":[{"token":"[redacted]"}],"usedTokens":3}"#
        );
        assert_eq!(field("body", "{not json"), "{not json");
        assert_eq!(field("body", "\n {\"password\":\"p\"}"), r#"{"password":"[redacted]"}"#);
        let large = |bytes| format!(r#"{{"password":"s3cr3t","text":"{}"}}"#, "x".repeat(bytes));
        let cut = field("body", &large(2 * LINE_BYTES_MAX));
        assert!(cut.ends_with(CUT) && !cut.contains("s3cr3t"), "{cut}");
        assert_eq!(field("body", &large(SEARCHED_BYTES_MAX)), REDACTED);
        let half = format!(r#"{{"password":"{}"}}"#, "x".repeat(SEARCHED_BYTES_MAX / 2));
        let fields = cleaned(String::new(), vec![("a".into(), half.clone()), ("b".into(), half)]).1;
        assert_eq!((fields[0].1.as_str(), fields[1].1.as_str()), (r#"{"password":"[redacted]"}"#, REDACTED));
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(field("deep", &deep).contains(REDACTED));
    }

    #[test]
    fn a_line_has_at_most_its_bytes_and_is_cut_between_characters() {
        let (message, fields) = cleaned("é".repeat(LINE_BYTES_MAX), vec![("a".into(), "b".into())]);
        assert!(message.len() <= LINE_BYTES_MAX && message.ends_with(CUT));
        assert!(fields.is_empty());
        let many = vec![("name".to_owned(), "x".repeat(1000)); 100];
        let (message, fields) = cleaned("m".into(), many);
        let bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(message.len() + bytes <= LINE_BYTES_MAX, "{bytes}");
    }

    #[test]
    fn a_guest_cannot_write_a_second_line() {
        let (message, fields) = cleaned("a\nERROR b\u{1b}[2J".into(), vec![("k\n".into(), "v\r\n".into())]);
        assert_eq!(message, "a ERROR b [2J");
        assert_eq!(fields, [("k ".to_owned(), "v  ".to_owned())]);
    }
}
