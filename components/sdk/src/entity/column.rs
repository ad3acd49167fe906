//! How types are stored.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::{clock::Timestamp, database::Value, id::Id};

/// How a field is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `TEXT`.
    Text,
    /// `BIGINT`.
    Integer,
    /// `DOUBLE PRECISION`.
    Float,
    /// `BOOLEAN`.
    Boolean,
    /// `TIMESTAMPTZ`.
    Timestamp,
    /// `JSONB`.
    Json,
}

impl Kind {
    /// A JSON value as a parameter of this kind.
    pub(crate) fn value(self, json: &Json) -> Value {
        match (self, json) {
            (_, Json::Null) => Value::Null,
            (Self::Json, json) => Value::Json(json.to_string()),
            (Self::Timestamp, Json::String(text)) => Value::Timestamp(text.clone()),
            (Self::Float, Json::Number(number)) => Value::Float(number.as_f64().unwrap_or_default()),
            (_, Json::String(text)) => Value::Text(text.clone()),
            (_, Json::Bool(truth)) => Value::Boolean(*truth),
            (_, Json::Number(number)) => match number.as_i64() {
                Some(number) => Value::Integer(number),
                None => Value::Float(number.as_f64().unwrap_or_default()),
            },
            (_, json) => Value::Json(json.to_string()),
        }
    }

    /// The text of a filter as a parameter of this kind; none when it is not one.
    pub(crate) fn parse(self, text: &str) -> Option<Value> {
        match self {
            // PostgreSQL has no text with U+0000 in it.
            Self::Text => (!text.contains('\0')).then(|| Value::Text(text.to_string())),
            Self::Integer => text.parse().ok().map(Value::Integer),
            Self::Float => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float),
            Self::Boolean => match text {
                "true" | "1" => Some(Value::Boolean(true)),
                "false" | "0" => Some(Value::Boolean(false)),
                _ => None,
            },
            Self::Timestamp => Timestamp::parse(text).map(Value::from),
            Self::Json => None,
        }
    }
}

/// A type that a field of an entity can have. A record of your own is stored as JSON:
///
/// ```
/// use berth_sdk::{data, entity::{Column, Kind}};
/// #[data]
/// struct Quality { score: f64 }
/// impl Column for Quality { const KIND: Kind = Kind::Json; }
/// assert_eq!(<Option<Quality> as Column>::KIND, Kind::Json);
/// ```
pub trait Column {
    /// How it is stored.
    const KIND: Kind;
    /// May be null.
    const OPTIONAL: bool = false;
    /// Lists can be filtered by it without being told so.
    const FILTER: bool = false;
    /// The texts it can have, where that is a closed set.
    const CHOICES: &'static [&'static str] = &[];
}

macro_rules! columns {
    ($($kind:ty => $stored:ident $filter:literal,)*) => {$(
        impl Column for $kind {
            const KIND: Kind = Kind::$stored;
            const FILTER: bool = $filter;
        }
    )*};
}

columns! {
    String => Text false,
    Id => Text true,
    i64 => Integer false,
    i32 => Integer false,
    u32 => Integer false,
    f64 => Float false,
    bool => Boolean true,
    Timestamp => Timestamp false,
    Json => Json false,
    Map<String, Json> => Json false,
}

impl<T: Column> Column for Option<T> {
    const KIND: Kind = T::KIND;
    const OPTIONAL: bool = true;
    const FILTER: bool = T::FILTER;
    const CHOICES: &'static [&'static str] = T::CHOICES;
}

impl<T> Column for Vec<T> {
    const KIND: Kind = Kind::Json;
}

impl<T> Column for BTreeMap<String, T> {
    const KIND: Kind = Kind::Json;
}
