//! The time: always UTC, always in milliseconds.

use std::{borrow::Cow, fmt, time::Duration};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A moment, written as RFC 3339 in UTC with milliseconds.
///
/// ```
/// use berth_sdk::clock::Timestamp;
/// let moment = Timestamp::parse("2026-01-31T09:15:00+01:00").unwrap();
/// assert_eq!(moment.to_string(), "2026-01-31T08:15:00.000Z");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// Reads RFC 3339; what is finer than a millisecond is cut off.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
        DateTime::from_timestamp_millis(moment.timestamp_millis()).map(Self)
    }

    /// Milliseconds since 1970.
    pub fn millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// The moment so many milliseconds after 1970, held inside the years 1970 to 9999.
    pub fn from_millis(millis: i64) -> Self {
        const LAST: i64 = 253_402_300_799_999;
        Self(DateTime::from_timestamp_millis(millis.clamp(0, LAST)).unwrap_or_default())
    }

    /// Later by a duration.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.millis().saturating_add(millis))
    }

    /// Earlier by a duration.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.millis().saturating_sub(millis))
    }

    /// How long from `earlier` to here; zero when it is later.
    pub fn since(self, earlier: Self) -> Duration {
        (self.0 - earlier.0).max(TimeDelta::zero()).to_std().unwrap_or_default()
    }

    /// For calendar arithmetic.
    pub fn date_time(self) -> DateTime<Utc> {
        self.0
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(moment: DateTime<Utc>) -> Self {
        Self::from_millis(moment.timestamp_millis())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("must be a time such as 2026-01-31T08:15:00.000Z"))
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

impl crate::validate::Tidy for Timestamp {}

/// Now.
///
/// ```
/// assert!(berth_sdk::clock::now().millis() > 0);
/// ```
pub fn now() -> Timestamp {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

/// Holds the present call for a while; for streams, which wait between events. Keep it short elsewhere: the call's
/// deadline goes on.
///
/// ```
/// berth_sdk::clock::sleep(std::time::Duration::from_millis(1));
/// ```
pub fn sleep(duration: Duration) {
    crate::platform::sleep(duration);
}
