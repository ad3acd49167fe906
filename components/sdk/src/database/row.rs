//! Rows and reading them by name.

use std::rc::Rc;

use serde::de::DeserializeOwned;

use super::Value;
use crate::{Fault, clock::Timestamp, id::Id};

/// The answer of a query.
///
/// ```
/// use berth_sdk::database::{Rows, Value};
/// let rows = Rows::new(vec!["count".into()], vec![vec![Value::Integer(2)]]);
/// let counts: Vec<i64> = rows.into_iter().map(|row| row.get("count").unwrap()).collect();
/// assert_eq!(counts, [2]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Rows {
    columns: Rc<[String]>,
    rows: Vec<Vec<Value>>,
}

impl Rows {
    /// Rows of these columns; for tests and the SDK itself.
    pub fn new(columns: Vec<String>, rows: Vec<Vec<Value>>) -> Self {
        Self { columns: columns.into(), rows }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl IntoIterator for Rows {
    type Item = Row;
    type IntoIter = Box<dyn Iterator<Item = Row>>;
    fn into_iter(self) -> Self::IntoIter {
        let columns = self.columns;
        Box::new(self.rows.into_iter().map(move |values| Row { columns: Rc::clone(&columns), values }))
    }
}

/// One row.
///
/// ```
/// use berth_sdk::database::{Rows, Value};
/// let rows = Rows::new(vec!["tags".into(), "due".into()], vec![vec![Value::Json("[\"a\"]".into()), Value::Null]]);
/// let row = rows.into_iter().next().unwrap();
/// assert_eq!(row.json::<Vec<String>>("tags").unwrap(), ["a"]);
/// assert_eq!(row.get::<Option<String>>("due").unwrap(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Row {
    columns: Rc<[String]>,
    values: Vec<Value>,
}

impl Row {
    /// The value of a column; [`Fault::Invalid`] when there is no such column or it holds something else.
    pub fn get<T: FromValue>(&self, column: &str) -> Result<T, Fault> {
        let value = self.value(column)?.clone();
        T::from_value(value).ok_or_else(|| Fault::Invalid(format!("column {column} holds another type")))
    }

    /// A JSON column, read into a type. SQL `NULL` reads as JSON `null`.
    pub fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, Fault> {
        let text = match self.value(column)? {
            Value::Json(text) | Value::Text(text) => text.as_str(),
            Value::Null => "null",
            _ => return Err(Fault::Invalid(format!("column {column} holds no JSON"))),
        };
        serde_json::from_str(text).map_err(|error| Fault::Invalid(format!("column {column} does not fit: {error}")))
    }

    fn value(&self, column: &str) -> Result<&Value, Fault> {
        let index = self.columns.iter().position(|name| name == column);
        index
            .and_then(|index| self.values.get(index))
            .ok_or_else(|| Fault::Invalid(format!("there is no column {column}")))
    }
}

/// A type that a column can be read into.
///
/// ```
/// use berth_sdk::database::{FromValue, Value};
/// assert_eq!(i64::from_value(Value::Integer(7)), Some(7));
/// assert_eq!(i64::from_value(Value::Text("7".into())), None);
/// ```
pub trait FromValue: Sized {
    /// The value, or none when it is of another type.
    fn from_value(value: Value) -> Option<Self>;
}

impl FromValue for Value {
    fn from_value(value: Value) -> Option<Self> {
        Some(value)
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(text) | Value::Timestamp(text) | Value::Json(text) => Some(text),
            _ => None,
        }
    }
}

impl FromValue for Id {
    fn from_value(value: Value) -> Option<Self> {
        String::from_value(value).map(Id::from)
    }
}

impl FromValue for i64 {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Integer(number) => Some(number),
            _ => None,
        }
    }
}

impl FromValue for i32 {
    fn from_value(value: Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}

impl FromValue for u32 {
    fn from_value(value: Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}

impl FromValue for f64 {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Float(number) => Some(number),
            #[expect(clippy::cast_precision_loss, reason = "a whole number in a float column")]
            Value::Integer(number) => Some(number as f64),
            _ => None,
        }
    }
}

impl FromValue for bool {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Boolean(truth) => Some(truth),
            // An expression has no declared type in SQLite, so its truth arrives as 0 or 1.
            Value::Integer(number @ (0 | 1)) => Some(number == 1),
            _ => None,
        }
    }
}

impl FromValue for Timestamp {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Timestamp(text) | Value::Text(text) => Timestamp::parse(&text),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl FromValue for serde_json::Value {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Json(text) | Value::Text(text) => serde_json::from_str(&text).ok(),
            Value::Null => Some(Self::Null),
            _ => None,
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Option<Self> {
        if value == Value::Null { Some(None) } else { T::from_value(value).map(Some) }
    }
}
