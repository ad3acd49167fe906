//! SQLite's values as ours, and ours as SQLite's.
//!
//! SQLite has five storage classes and forgets the rest, so the declared column type, as `migrate` writes it, says what
//! a value means: `BOOLEAN` for 0 and 1, `TIMESTAMP` for times, and `JSON_BLOB` for JSON, whose text sits in a column
//! without affinity so that the document `5` is not made a number.

use std::borrow::Cow;

use sqlx::sqlite::{SqliteArguments, SqliteRow, SqliteValueRef};
use sqlx::{Arguments as _, Column as _, Row as _, Sqlite, TypeInfo as _, ValueRef as _};

use super::super::collect::Cell;
use super::super::statement::Hint;
use super::super::value::{format_timestamp, is_canonical_timestamp, parse_timestamp};
use super::super::{DatabaseError, Value};
use super::error::from_driver;

/// What a result column was declared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declared {
    Boolean,
    Timestamp,
    /// Bytes, or JSON when the value is not a blob.
    Blob,
    /// An expression: the value says what it is, and the statement's text as far as it can be told.
    Nothing(Option<Hint>),
    Other,
}

/// What each column of the answer was declared as.
pub(super) fn declared(row: &SqliteRow, hint: impl Fn(usize) -> Option<Hint>) -> Vec<Declared> {
    row.columns()
        .iter()
        .enumerate()
        .map(|(index, column)| match column.type_info().name() {
            "BOOLEAN" => Declared::Boolean,
            "DATETIME" => Declared::Timestamp,
            "BLOB" => Declared::Blob,
            "NULL" => Declared::Nothing(hint(index)),
            _ => Declared::Other,
        })
        .collect()
}

/// One value of a row.
pub(super) fn cell<'r>(row: &'r SqliteRow, index: usize, declared: Declared) -> Result<Cell<'r>, DatabaseError> {
    let value = row.try_get_raw(index).map_err(from_driver)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    let storage = value.type_info().into_owned();
    Ok(match (storage.name(), declared) {
        ("INTEGER", Declared::Boolean | Declared::Nothing(Some(Hint::Boolean))) => Cell::Boolean(integer(value)? != 0),
        ("INTEGER", Declared::Blob) => Cell::Json(Cow::Owned(integer(value)?.to_string())),
        ("INTEGER", _) => Cell::Integer(integer(value)?),
        ("REAL", Declared::Blob) => Cell::Json(Cow::Owned(float(value)?.to_string())),
        ("REAL", _) => Cell::Float(float(value)?),
        ("BLOB", _) => Cell::Bytes(<&[u8] as sqlx::Decode<Sqlite>>::decode(value).map_err(undecodable)?),
        ("TEXT", declared) => {
            let text = <&str as sqlx::Decode<Sqlite>>::decode(value).map_err(undecodable)?;
            match declared {
                Declared::Blob | Declared::Nothing(Some(Hint::Json)) => Cell::Json(Cow::Borrowed(text)),
                Declared::Timestamp => parse_timestamp(text).map_or(Cell::Text(Cow::Borrowed(text)), Cell::Timestamp),
                // `MAX(created_at)` has no declared type; only a time has this exact form.
                Declared::Nothing(None) if is_canonical_timestamp(text) => {
                    parse_timestamp(text).map_or(Cell::Text(Cow::Borrowed(text)), Cell::Timestamp)
                }
                _ => Cell::Text(Cow::Borrowed(text)),
            }
        }
        (other, _) => return Err(DatabaseError::internal(format!("unknown storage class {other}"))),
    })
}

/// Parameters as SQLite takes them.
pub(super) fn arguments(parameters: &[Value]) -> Result<SqliteArguments, DatabaseError> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(parameters.len(), 0);
    for parameter in parameters {
        parameter.check()?;
        let added = match parameter {
            Value::Null => arguments.add(None::<String>),
            Value::Boolean(value) => arguments.add(*value),
            Value::Integer(value) => arguments.add(*value),
            Value::Float(value) => arguments.add(*value),
            Value::Text(value) | Value::Json(value) => arguments.add(value.as_str()),
            Value::Bytes(value) => arguments.add(value.as_slice()),
            Value::Timestamp(value) => arguments.add(format_timestamp(*value)),
        };
        added.map_err(DatabaseError::Internal)?;
    }
    Ok(arguments)
}

fn integer(value: SqliteValueRef<'_>) -> Result<i64, DatabaseError> {
    <i64 as sqlx::Decode<Sqlite>>::decode(value).map_err(undecodable)
}

fn float(value: SqliteValueRef<'_>) -> Result<f64, DatabaseError> {
    <f64 as sqlx::Decode<Sqlite>>::decode(value).map_err(undecodable)
}

fn undecodable(error: Box<dyn std::error::Error + Send + Sync>) -> DatabaseError {
    DatabaseError::Invalid(format!("a value could not be read: {error}"))
}
