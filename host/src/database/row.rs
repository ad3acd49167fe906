//! Rows as the host reads them: by column name, typed, without panics.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use super::value::{format_timestamp, parse_timestamp};
use super::{DatabaseError, Value};

/// The answer of a query: its columns and rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    columns: Arc<[String]>,
    rows: Vec<Row>,
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Rows {
    pub(super) fn new(columns: Arc<[String]>, rows: Vec<Row>) -> Self {
        Self { columns, rows }
    }

    /// The columns' names in their order. Known even when there is no row, except on SQLite.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Row> {
        self.rows.iter()
    }

    pub(crate) fn first(&self) -> Option<&Row> {
        self.rows.first()
    }
}

impl IntoIterator for Rows {
    type Item = Row;
    type IntoIter = std::vec::IntoIter<Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

impl<'a> IntoIterator for &'a Rows {
    type Item = &'a Row;
    type IntoIter = std::slice::Iter<'a, Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}

impl Row {
    pub(super) fn new(columns: Arc<[String]>, values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    /// The values in the order of the columns.
    pub(crate) fn into_values(self) -> Vec<Value> {
        self.values
    }

    /// The value of a column; a missing column is `Invalid`.
    pub(crate) fn value(&self, column: &str) -> Result<&Value, DatabaseError> {
        self.columns
            .iter()
            .position(|name| name == column)
            .and_then(|index| self.values.get(index))
            .ok_or_else(|| DatabaseError::Invalid(format!("the row has no column {column}")))
    }

    /// Text; also a time or a JSON document as text.
    pub(crate) fn text(&self, column: &str) -> Result<String, DatabaseError> {
        match self.value(column)? {
            Value::Text(text) | Value::Json(text) => Ok(text.clone()),
            Value::Timestamp(time) => Ok(format_timestamp(*time)),
            other => Err(wrong(column, "text", other)),
        }
    }

    pub(crate) fn optional_text(&self, column: &str) -> Result<Option<String>, DatabaseError> {
        self.optional(column, Self::text)
    }

    pub(crate) fn integer(&self, column: &str) -> Result<i64, DatabaseError> {
        match self.value(column)? {
            Value::Integer(number) => Ok(*number),
            other => Err(wrong(column, "an integer", other)),
        }
    }

    pub(crate) fn optional_integer(&self, column: &str) -> Result<Option<i64>, DatabaseError> {
        self.optional(column, Self::integer)
    }

    /// A float; also an integer as one.
    #[cfg(test)]
    pub(crate) fn float(&self, column: &str) -> Result<f64, DatabaseError> {
        match self.value(column)? {
            Value::Float(number) => Ok(*number),
            #[expect(clippy::cast_precision_loss, reason = "the caller asked for a float")]
            Value::Integer(number) => Ok(*number as f64),
            other => Err(wrong(column, "a float", other)),
        }
    }

    /// A boolean; also 0 and 1, which is how SQLite answers a comparison.
    pub(crate) fn boolean(&self, column: &str) -> Result<bool, DatabaseError> {
        match self.value(column)? {
            Value::Boolean(value) => Ok(*value),
            Value::Integer(number @ (0 | 1)) => Ok(*number == 1),
            other => Err(wrong(column, "a boolean", other)),
        }
    }

    pub(crate) fn optional_boolean(&self, column: &str) -> Result<Option<bool>, DatabaseError> {
        self.optional(column, Self::boolean)
    }

    /// A time; also an RFC 3339 text, which is how SQLite answers `MAX(created_at)`.
    pub(crate) fn timestamp(&self, column: &str) -> Result<DateTime<Utc>, DatabaseError> {
        match self.value(column)? {
            Value::Timestamp(time) => Ok(*time),
            value @ Value::Text(text) => parse_timestamp(text).ok_or_else(|| wrong(column, "a timestamp", value)),
            other => Err(wrong(column, "a timestamp", other)),
        }
    }

    pub(crate) fn optional_timestamp(&self, column: &str) -> Result<Option<DateTime<Utc>>, DatabaseError> {
        self.optional(column, Self::timestamp)
    }

    /// A JSON document, parsed; also one that stands in a text.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, DatabaseError> {
        let value = self.value(column)?;
        let (Value::Json(text) | Value::Text(text)) = value else { return Err(wrong(column, "JSON", value)) };
        serde_json::from_str(text).map_err(|_| {
            DatabaseError::Invalid(format!("the JSON in column {column} does not have the expected shape"))
        })
    }

    pub(crate) fn optional_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, DatabaseError> {
        self.optional(column, Self::json)
    }

    pub(crate) fn bytes(&self, column: &str) -> Result<Vec<u8>, DatabaseError> {
        match self.value(column)? {
            Value::Bytes(bytes) => Ok(bytes.clone()),
            other => Err(wrong(column, "bytes", other)),
        }
    }

    fn optional<T>(
        &self,
        column: &str,
        read: fn(&Self, &str) -> Result<T, DatabaseError>,
    ) -> Result<Option<T>, DatabaseError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            _ => read(self, column).map(Some),
        }
    }
}

fn wrong(column: &str, expected: &str, found: &Value) -> DatabaseError {
    DatabaseError::Invalid(format!("column {column} holds {} and not {expected}", found.kind()))
}
