//! Spans of time as people write them: whole seconds, or `90s`, `15m`, `2h`, `7d`. Pure.

use std::{borrow::Cow, time::Duration};

use berth_sdk::{
    schemars::{JsonSchema, Schema, SchemaGenerator, json_schema},
    serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _},
    serde_json::Value,
    validate::Tidy,
};

/// The longest span: messages wait no longer.
pub const SECONDS_MAX: i64 = 30 * 24 * 60 * 60;

/// A span of 0 seconds to 30 days; stored as seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(i64);

impl Span {
    /// So many seconds; none when it is negative or longer than 30 days.
    pub fn of_seconds(seconds: i64) -> Option<Self> {
        (0..=SECONDS_MAX).contains(&seconds).then_some(Self(seconds))
    }

    /// Reads a number of seconds or a text with a unit.
    ///
    /// ```
    /// use berth_sdk::json;
    /// use workflow::span::Span;
    /// let seconds = |value| Span::read(&value).map(Span::seconds);
    /// assert_eq!(seconds(json!(90)), Some(90));
    /// assert_eq!(seconds(json!("15m")), Some(900));
    /// assert_eq!(seconds(json!("31d")), None);
    /// assert_eq!(seconds(json!("soon")), None);
    /// ```
    pub fn read(value: &Value) -> Option<Self> {
        if let Some(seconds) = value.as_i64() {
            return Self::of_seconds(seconds);
        }
        let text = value.as_str()?.trim();
        let (count, factor) = match text.as_bytes().last()? {
            b's' => (text.strip_suffix('s')?, 1),
            b'm' => (text.strip_suffix('m')?, 60),
            b'h' => (text.strip_suffix('h')?, 60 * 60),
            b'd' => (text.strip_suffix('d')?, 24 * 60 * 60),
            _ => (text, 1),
        };
        if !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Self::of_seconds(count.parse::<i64>().ok()?.checked_mul(factor)?)
    }

    /// How many seconds.
    pub fn seconds(self) -> i64 {
        self.0
    }

    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::try_from(self.0).unwrap_or(0))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::read(&value).ok_or_else(|| D::Error::custom("must be seconds or a text such as 15m, at most 30 days"))
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "integer", "minimum": 0, "maximum": SECONDS_MAX},
            {"type": "string", "pattern": "^[0-9]{1,9}[smhd]?$"},
        ]})
    }
}

impl Tidy for Span {}
