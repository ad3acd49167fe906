//! Takes out of texts and documents what must not be stored: passwords, tokens, keys and card numbers.

use std::borrow::Cow;

pub(crate) use berth_sdk::redact::REDACTED;
use berth_sdk::serde_json::{Map, Value};

/// How deep a document is looked at; what lies deeper is taken out whole.
const DEPTH_MAX: usize = 32;
/// Words of secret names, besides those that are secret everywhere.
const WORDS: [&str; 1] = ["creditcard"];
/// How the names of secret numbers end.
const NUMBERS: [&str; 5] = ["password", "passwd", "passphrase", "cardnumber", "creditcard"];
/// Words before a credential.
const SCHEMES: [&str; 2] = ["bearer", "basic"];
/// Digits of a card number.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Whether what is called so is secret.
fn is_secret(name: &str) -> bool {
    berth_sdk::redact::is_secret(name, &WORDS)
}

/// Whether a number that is called so is secret itself, and not something about it.
fn is_secret_number(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    NUMBERS.iter().any(|word| plain.to_ascii_lowercase().ends_with(word))
}

/// A text without secrets.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    let mut ranges = Vec::new();
    named_values(text, &mut ranges);
    schemes(text, &mut ranges);
    cards(text.as_bytes(), &mut ranges);
    if ranges.is_empty() {
        return Cow::Borrowed(text);
    }
    ranges.sort_unstable();
    let mut clean = String::with_capacity(text.len());
    let mut done = 0;
    for (from, to) in ranges {
        if to <= done {
            continue;
        }
        clean.push_str(text.get(done..from.max(done)).unwrap_or_default());
        clean.push_str(REDACTED);
        done = to;
    }
    clean.push_str(text.get(done..).unwrap_or_default());
    Cow::Owned(clean)
}

/// Values after a secret name: `password=x`, `"token": "x"`, `Api-Key: x`.
fn named_values(text: &str, ranges: &mut Vec<(usize, usize)>) {
    let bytes = text.as_bytes();
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| matches!(byte, b'=' | b':')) {
        let before = bytes.get(..at).unwrap_or_default();
        let end =
            before.iter().rposition(|byte| !matches!(byte, b' ' | b'"' | b'\'' | b'\\')).map_or(0, |last| last + 1);
        let begin =
            before.get(..end).unwrap_or_default().iter().rposition(|byte| !is_name(byte)).map_or(0, |last| last + 1);
        if begin == end || !text.get(begin..end).is_some_and(is_secret) {
            continue;
        }
        if let Some(range) = value_after(bytes, at + 1) {
            ranges.push(range);
        }
    }
}

/// Where the value after a separator is: to the closing quote, or to what ends a word. After `Bearer` the next word is
/// part of it.
fn value_after(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let begin = at + bytes.get(at..)?.iter().position(|byte| !matches!(byte, b' ' | b'\\' | b'='))?;
    let rest = bytes.get(begin..)?;
    if let Some(quote) = rest.first().filter(|byte| matches!(byte, b'"' | b'\'')) {
        let inner = rest.get(1..)?;
        let length = inner.iter().position(|byte| byte == quote || *byte == b'\\').unwrap_or(inner.len());
        return (length > 0).then_some((begin + 1, begin + 1 + length));
    }
    let word = |bytes: &[u8]| {
        bytes.iter().position(|byte| byte.is_ascii_whitespace() || b",;&)}]\"'\\".contains(byte)).unwrap_or(bytes.len())
    };
    let mut length = word(rest);
    let is_scheme = |bytes: &[u8]| SCHEMES.iter().any(|scheme| bytes.eq_ignore_ascii_case(scheme.as_bytes()));
    if is_scheme(rest.get(..length)?) && rest.get(length) == Some(&b' ') {
        length += 1 + word(rest.get(length + 1..)?);
    }
    (length > 0).then_some((begin, begin + length))
}

/// What follows `Bearer` or `Basic` and looks like a credential.
fn schemes(text: &str, ranges: &mut Vec<(usize, usize)>) {
    let bytes = text.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b' ') {
        let before = bytes.get(..at).unwrap_or_default();
        let is_scheme = SCHEMES.iter().any(|scheme| {
            before.len() >= scheme.len()
                && before
                    .get(before.len() - scheme.len()..)
                    .is_some_and(|end| end.eq_ignore_ascii_case(scheme.as_bytes()))
        });
        if !is_scheme {
            continue;
        }
        let rest = bytes.get(at + 1..).unwrap_or_default();
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        if length >= 12 {
            ranges.push((at + 1, at + 1 + length));
        }
    }
}

/// Card numbers: 13 to 19 digits, alone or in groups, that pass the check of the cards.
fn cards(bytes: &[u8], ranges: &mut Vec<(usize, usize)>) {
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(u8::is_ascii_digit)) {
        let begin = at + found;
        let is_inside = begin > 0 && bytes.get(begin - 1).is_some_and(u8::is_ascii_alphanumeric);
        let (mut digits, mut end) = (Vec::new(), begin);
        let mut next = begin;
        while let Some(byte) = bytes.get(next) {
            if byte.is_ascii_digit() {
                digits.push(byte - b'0');
                end = next + 1;
            } else if !(matches!(byte, b' ' | b'-') && bytes.get(next + 1).is_some_and(u8::is_ascii_digit)) {
                break;
            }
            next += 1;
        }
        let is_word_end = !bytes.get(end).is_some_and(u8::is_ascii_alphanumeric);
        let begins_like_a_card = digits.first().is_some_and(|digit| (2..=6).contains(digit));
        if !is_inside && is_word_end && begins_like_a_card && CARD_DIGITS.contains(&digits.len()) && passes(&digits) {
            ranges.push((begin, end));
        }
        at = end.max(begin + 1);
    }
}

/// The check of card numbers (Luhn).
fn passes(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(*digit);
            match (place % 2, digit * 2) {
                (0, _) => digit,
                (_, double) if double > 9 => double - 9,
                (_, double) => double,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Takes secrets out of a document: what has a secret name, and what stands in its texts.
pub(crate) fn members(members: &mut Map<String, Value>) {
    object(members, 0);
}

fn object(members: &mut Map<String, Value>, depth: usize) {
    for (name, value) in members.iter_mut() {
        let is_plain = match value {
            Value::Null | Value::Bool(_) => true,
            // A number of tokens is no token; a password may be a number.
            Value::Number(_) => !is_secret_number(name),
            _ => false,
        };
        if is_secret(name) && !is_plain {
            *value = REDACTED.into();
        } else {
            document(value, depth + 1);
        }
    }
}

fn document(value: &mut Value, depth: usize) {
    match value {
        _ if depth > DEPTH_MAX => *value = REDACTED.into(),
        Value::String(content) => {
            if let Cow::Owned(clean) = text(content) {
                *content = clean;
            }
        }
        // A card's number may stand there without quotes.
        Value::Number(number) if matches!(text(&number.to_string()), Cow::Owned(_)) => *value = REDACTED.into(),
        Value::Array(entries) => entries.iter_mut().for_each(|entry| document(entry, depth + 1)),
        Value::Object(members) => object(members, depth),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sdk::json;
    use proptest::prelude::*;

    #[test]
    fn what_follows_a_secret_name_goes() {
        for (given, expected) in [
            ("login password=hunter2 failed", "login password=[redacted] failed"),
            (r#"{"token": "a b", "n": 1}"#, r#"{"token": "[redacted]", "n": 1}"#),
            ("Authorization: Bearer abc.def", "Authorization: [redacted]"),
            ("sent X-Api-Key:k1;next", "sent X-Api-Key:[redacted];next"),
            ("with bearer eyJhbGciOiJIUzI1 it works", "with bearer [redacted] it works"),
            ("basic rules apply here", "basic rules apply here"),
            ("secretId=s1 tokens: 512", "secretId=s1 tokens: 512"),
            ("nothing at 12:30", "nothing at 12:30"),
            ("access_token=", "access_token="),
            (r#"{\"password\":\"p\",\"a\":1}"#, r#"{\"password\":\"[redacted]\",\"a\":1}"#),
        ] {
            assert_eq!(text(given), expected, "{given}");
        }
    }

    #[test]
    fn card_numbers_go_and_other_numbers_stay() {
        assert_eq!(text("paid by 4111 1111 1111 1111."), "paid by [redacted].");
        assert_eq!(text("card 5500-0000-0000-0004"), "card [redacted]");
        for kept in ["1700000000000", "4111 1111 1111 1112", "id4111111111111111", "order 123456"] {
            assert_eq!(text(kept), kept);
        }
    }

    #[test]
    fn documents_lose_their_secrets_and_keep_their_numbers() {
        let mut document = json!({"user": {"password": "x", "apiKey": ["k"], "totalTokens": 5, "token": 7},
            "note": "pwd password: y", "secretId": "s1"});
        members(document.as_object_mut().unwrap());
        assert_eq!(
            document,
            json!({"user": {"password": REDACTED, "apiKey": REDACTED, "totalTokens": 5, "token": 7},
                "note": "pwd password: [redacted]", "secretId": "s1"})
        );
    }

    #[test]
    fn numbers_that_are_secrets_go_too() {
        let mut document = json!({"password": 482_913, "passwordLength": 6, "maxTokens": 512, "card": 4_111_111_111_111_111_u64,
            "cardNumber": 17, "at": 1_700_000_000_000_u64, "list": [5_500_000_000_000_004_u64, 7]});
        members(document.as_object_mut().unwrap());
        assert_eq!(
            document,
            json!({"password": REDACTED, "passwordLength": 6, "maxTokens": 512, "card": REDACTED, "cardNumber": REDACTED,
                "at": 1_700_000_000_000_u64, "list": [REDACTED, 7]})
        );
    }

    proptest! {
        #[test]
        fn any_text_can_be_looked_at(given in ".{0,200}") {
            let _ = text(&given);
        }

        #[test]
        fn a_password_never_stays(secret in "[A-Za-z0-9]{4,30}", around in "[a-z ]{0,20}") {
            let given = format!("{around} password={secret} {around}");
            let named = format!("={secret}");
            prop_assert!(!text(&given).contains(&named));
        }
    }
}
