//! One value of a row or a parameter, the same for SQLite and PostgreSQL.
//!
//! What is bound is what comes back: text that looks like a number stays text, a JSON document that is a bare number
//! stays JSON, times have milliseconds in both databases.

use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDateTime, SecondsFormat, Utc};

use super::DatabaseError;

/// A value as statements take it and rows give it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Always finite as a parameter.
    Float(f64),
    /// Never with a NUL character as a parameter, since PostgreSQL has no place for one.
    Text(String),
    Bytes(Vec<u8>),
    /// Kept with milliseconds; whatever is finer is cut off.
    Timestamp(DateTime<Utc>),
    /// A JSON document as text. PostgreSQL does not keep white space and the order of keys.
    Json(String),
}

/// Parameters from anything that has a `From`: `values![id, 5_i64, None::<String>]`.
macro_rules! values {
    ($($value:expr),* $(,)?) => { Vec::<$crate::database::Value>::from([$($crate::database::Value::from($value)),*]) };
}
pub(crate) use values;

impl Value {
    /// The value's kind, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "a timestamp",
            Self::Json(_) => "JSON",
        }
    }

    /// About how many bytes it takes, for the byte caps.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Null | Self::Boolean(_) => 1,
            Self::Integer(_) | Self::Float(_) => 8,
            Self::Text(text) | Self::Json(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Timestamp(_) => TIMESTAMP_LENGTH,
        }
    }

    /// Refuses what one of the databases would refuse or change, so that both refuse the same.
    pub(super) fn check(&self) -> Result<(), DatabaseError> {
        let fault = match self {
            Self::Float(number) if !number.is_finite() => "a float parameter must be finite",
            Self::Text(text) if text.contains('\0') => "a text parameter must not contain the NUL character",
            Self::Json(text) if text.contains("\\u0000") && has_nul(text) => "a JSON parameter must not contain NUL",
            Self::Json(text) if !is_json(text) => "a JSON parameter must be one JSON document",
            Self::Timestamp(time) if !(0..=9999).contains(&time.year()) => "a timestamp's year must be 0 to 9999",
            _ => return Ok(()),
        };
        Err(DatabaseError::Invalid(fault.to_owned()))
    }
}

/// The length of `2026-01-31T08:15:00.000Z`.
const TIMESTAMP_LENGTH: usize = 24;

/// A time as both databases and the API show it: RFC 3339, UTC, milliseconds.
pub(crate) fn format_timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Reads any RFC 3339 time and cuts it to milliseconds.
pub(crate) fn parse_timestamp(text: &str) -> Option<DateTime<Utc>> {
    let time = match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.with_timezone(&Utc),
        // The form SQLite's own functions write.
        Err(_) => NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?.and_utc(),
    };
    DateTime::from_timestamp_millis(time.timestamp_millis())
}

/// Whether a text is a time in exactly the canonical form.
pub(super) fn is_canonical_timestamp(text: &str) -> bool {
    const SHAPE: &[u8; TIMESTAMP_LENGTH] = b"0000-00-00T00:00:00.000Z";
    text.len() == TIMESTAMP_LENGTH
        && text
            .bytes()
            .zip(SHAPE)
            .all(|(byte, shape)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == *shape })
}

/// Whether a text is exactly one JSON document.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Whether a string inside the document really holds NUL (and not an escaped backslash before `u0000`).
fn has_nul(text: &str) -> bool {
    let mut escaped = false;
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        match (escaped, byte) {
            (true, b'u') if bytes.get(index + 1..index + 5) == Some(b"0000".as_slice()) => return true,
            (true, _) => escaped = false,
            (false, b'\\') => escaped = true,
            _ => {}
        }
    }
    false
}

macro_rules! value_from {
    ($($type:ty => |$value:ident| $expression:expr),* $(,)?) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self { $expression }
        })*
    };
}

value_from! {
    &str => |value| Self::Text(value.to_owned()),
    String => |value| Self::Text(value),
    &String => |value| Self::Text(value.clone()),
    Arc<str> => |value| Self::Text(value.to_string()),
    &Arc<str> => |value| Self::Text(value.to_string()),
    std::borrow::Cow<'_, str> => |value| Self::Text(value.into_owned()),
    uuid::Uuid => |value| Self::Text(value.to_string()),
    bool => |value| Self::Boolean(value),
    i64 => |value| Self::Integer(value),
    i32 => |value| Self::Integer(value.into()),
    u32 => |value| Self::Integer(value.into()),
    u16 => |value| Self::Integer(value.into()),
    u8 => |value| Self::Integer(value.into()),
    f64 => |value| Self::Float(value),
    Vec<u8> => |value| Self::Bytes(value),
    &[u8] => |value| Self::Bytes(value.to_vec()),
    DateTime<Utc> => |value| Self::Timestamp(value),
    serde_json::Value => |value| Self::Json(value.to_string()),
    &serde_json::Value => |value| Self::Json(value.to_string()),
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, format_timestamp, is_canonical_timestamp, parse_timestamp};

    #[test]
    fn a_timestamp_is_cut_to_milliseconds_and_read_in_any_zone() {
        let time = parse_timestamp("2026-01-31T09:15:00.123987+01:00").unwrap();
        assert_eq!(format_timestamp(time), "2026-01-31T08:15:00.123Z");
        assert!(is_canonical_timestamp(&format_timestamp(time)));
        assert!(!is_canonical_timestamp("2026-01-31T08:15:00Z"));
        assert_eq!(parse_timestamp("2026-13-31T08:15:00Z"), None);
    }

    #[test]
    fn parameters_no_database_can_keep_are_refused() {
        for value in [
            Value::Float(f64::NAN),
            Value::Text("a\0b".into()),
            Value::Json("{".into()),
            Value::Json("1 2".into()),
            Value::Json(r#""\u0000""#.into()),
        ] {
            assert!(value.check().is_err(), "{value:?}");
        }
        assert!(Value::Json(r#""\\u0000""#.into()).check().is_ok());
        assert!(Value::Json("5".into()).check().is_ok());
    }
}
