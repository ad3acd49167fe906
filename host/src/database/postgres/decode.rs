//! PostgreSQL's values as ours. All answers are in the binary format, since every statement is prepared.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDateTime, Utc};
use sqlx::postgres::{PgColumn, PgRow, PgValueRef, Postgres};
use sqlx::{Column as _, Decode, Row as _, TypeInfo as _, ValueRef as _};

use super::super::DatabaseError;
use super::super::collect::Cell;
use super::super::vector_index;
use super::error::from_driver;
use super::numeric;

/// A column type of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Integer2,
    Integer4,
    Integer8,
    Float4,
    Float8,
    Numeric,
    Text,
    Bytes,
    /// With or without a zone: both are UTC here.
    TimestampWithZone,
    Timestamp,
    Json,
    Jsonb,
    /// Anything else: an error when there is a value.
    Unknown,
}

/// Whether a column is one of a text or vector index, which SQLite's tables do not have: `*` does not mean it.
pub(super) fn is_hidden(column: &PgColumn) -> bool {
    matches!(column.name(), vector_index::ID | vector_index::VECTOR)
        || column.type_info().name().eq_ignore_ascii_case("tsvector")
}

/// The places and types of an answer's columns.
pub(super) fn kinds(row: &PgRow) -> Vec<(usize, Kind)> {
    row.columns()
        .iter()
        .enumerate()
        .filter(|(_, column)| !is_hidden(column))
        .map(|(index, column)| (index, kind(column)))
        .collect()
}

fn kind(column: &PgColumn) -> Kind {
    match column.type_info().name() {
        "BOOL" => Kind::Boolean,
        "INT2" => Kind::Integer2,
        "INT4" => Kind::Integer4,
        "INT8" => Kind::Integer8,
        "FLOAT4" => Kind::Float4,
        "FLOAT8" => Kind::Float8,
        "NUMERIC" => Kind::Numeric,
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" => Kind::Text,
        "BYTEA" => Kind::Bytes,
        "TIMESTAMPTZ" => Kind::TimestampWithZone,
        "TIMESTAMP" => Kind::Timestamp,
        "JSON" => Kind::Json,
        "JSONB" => Kind::Jsonb,
        _ => Kind::Unknown,
    }
}

/// One value of a row.
pub(super) fn cell<'r>(row: &'r PgRow, index: usize, kind: Kind) -> Result<Cell<'r>, DatabaseError> {
    let value = row.try_get_raw(index).map_err(from_driver)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    Ok(match kind {
        Kind::Boolean => Cell::Boolean(read(value)?),
        Kind::Integer2 => Cell::Integer(read::<i16>(value)?.into()),
        Kind::Integer4 => Cell::Integer(read::<i32>(value)?.into()),
        Kind::Integer8 => Cell::Integer(read(value)?),
        Kind::Float4 => Cell::Float(read::<f32>(value)?.into()),
        Kind::Float8 => Cell::Float(read(value)?),
        Kind::Numeric => {
            let bytes = value.as_bytes().map_err(unreadable)?;
            numeric::decode(bytes).ok_or_else(|| DatabaseError::internal("a malformed NUMERIC"))?
        }
        Kind::Text | Kind::Json => {
            let text = Cow::Borrowed(value.as_str().map_err(unreadable)?);
            if kind == Kind::Text { Cell::Text(text) } else { Cell::Json(text) }
        }
        Kind::Jsonb => {
            // One byte of version, then the text.
            let bytes = value.as_bytes().map_err(unreadable)?.get(1..).unwrap_or_default();
            Cell::Json(Cow::Borrowed(std::str::from_utf8(bytes).map_err(|error| unreadable(error.into()))?))
        }
        Kind::Bytes => Cell::Bytes(value.as_bytes().map_err(unreadable)?),
        Kind::TimestampWithZone => milliseconds(read(value)?),
        Kind::Timestamp => milliseconds(read::<NaiveDateTime>(value)?.and_utc()),
        Kind::Unknown => {
            let kind = value.type_info().name().to_owned();
            return Err(DatabaseError::Invalid(format!("the answer has a {kind}, which is not supported: cast it")));
        }
    })
}

fn milliseconds(time: DateTime<Utc>) -> Cell<'static> {
    DateTime::from_timestamp_millis(time.timestamp_millis()).map_or(Cell::Null, Cell::Timestamp)
}

fn read<'r, T: Decode<'r, Postgres>>(value: PgValueRef<'r>) -> Result<T, DatabaseError> {
    T::decode(value).map_err(unreadable)
}

fn unreadable(error: Box<dyn std::error::Error + Send + Sync>) -> DatabaseError {
    DatabaseError::Invalid(format!("a value could not be read: {error}"))
}
