//! Our values as PostgreSQL's, each written as the type the server expects for that parameter.
//!
//! The statement is prepared first and the server says what it takes, so a null fits any column, an integer fits a
//! DOUBLE PRECISION column and a text fits JSONB, exactly as SQLite's columns would take them.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::postgres::{PgArguments, PgTypeInfo};
use sqlx::types::Json;
use sqlx::{Arguments as _, TypeInfo as _};

use super::super::value::{format_timestamp, is_json, parse_timestamp};
use super::super::{DatabaseError, Value};
use super::numeric::Numeric;

/// Encodes all parameters of a statement.
pub(super) fn arguments(parameters: &[Value], types: &[PgTypeInfo]) -> Result<PgArguments, DatabaseError> {
    if parameters.len() != types.len() {
        return Err(DatabaseError::Invalid(format!(
            "the statement takes {} parameters and was given {}",
            types.len(),
            parameters.len()
        )));
    }
    let mut arguments = PgArguments::default();
    arguments.reserve(parameters.len(), parameters.iter().map(Value::size).sum());
    for (index, (value, expected)) in parameters.iter().zip(types).enumerate() {
        value.check()?;
        let place = Place { number: index + 1, expected: expected.name() };
        add(&mut arguments, value, &place)?;
    }
    Ok(arguments)
}

/// A parameter's number and the type the server wants.
struct Place<'a> {
    number: usize,
    expected: &'a str,
}

impl Place<'_> {
    fn refuse<T>(&self, value: &Value) -> Result<T, DatabaseError> {
        let Self { number, expected } = self;
        Err(DatabaseError::Invalid(format!("parameter ${number} is {expected} and was given {}", value.kind())))
    }
}

fn add(arguments: &mut PgArguments, value: &Value, place: &Place<'_>) -> Result<(), DatabaseError> {
    if *value == Value::Null {
        return arguments.add(None::<String>).map_err(DatabaseError::Internal);
    }
    let added = match place.expected {
        "BOOL" => arguments.add(boolean(value, place)?),
        "INT2" => arguments.add(i16::try_from(integer(value, place)?).or_else(|_| place.refuse(value))?),
        "INT4" => arguments.add(i32::try_from(integer(value, place)?).or_else(|_| place.refuse(value))?),
        "INT8" => arguments.add(integer(value, place)?),
        #[expect(clippy::cast_possible_truncation, reason = "the statement asked for a small float")]
        "FLOAT4" => arguments.add(float(value, place)? as f32),
        "FLOAT8" => arguments.add(float(value, place)?),
        "NUMERIC" => arguments.add(numeric(value, place)?),
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" => arguments.add(text(value, place)?),
        "BYTEA" => match value {
            Value::Bytes(bytes) => arguments.add(bytes.as_slice()),
            _ => return place.refuse(value),
        },
        "TIMESTAMPTZ" => arguments.add(timestamp(value, place)?),
        "TIMESTAMP" => arguments.add(timestamp(value, place)?.naive_utc()),
        "JSON" | "JSONB" => {
            let text = json(value, place)?;
            let raw: &RawValue = serde_json::from_str(&text).map_err(|error| DatabaseError::Internal(error.into()))?;
            arguments.add(Json(raw))
        }
        _ => return place.refuse(value),
    };
    added.map_err(DatabaseError::Internal)
}

fn boolean(value: &Value, place: &Place<'_>) -> Result<bool, DatabaseError> {
    match value {
        Value::Boolean(value) => Ok(*value),
        Value::Integer(number @ (0 | 1)) => Ok(*number == 1),
        _ => place.refuse(value),
    }
}

fn integer(value: &Value, place: &Place<'_>) -> Result<i64, DatabaseError> {
    match value {
        Value::Integer(number) => Ok(*number),
        Value::Boolean(value) => Ok((*value).into()),
        #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53 is kept exactly")]
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Ok(*number as i64),
        Value::Text(text) => text.trim().parse().or_else(|_| place.refuse(value)),
        _ => place.refuse(value),
    }
}

fn float(value: &Value, place: &Place<'_>) -> Result<f64, DatabaseError> {
    match value {
        Value::Float(number) => Ok(*number),
        #[expect(clippy::cast_precision_loss, reason = "the column holds floats, in SQLite too")]
        Value::Integer(number) => Ok(*number as f64),
        Value::Text(text) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => place.refuse(value),
        },
        _ => place.refuse(value),
    }
}

fn numeric(value: &Value, place: &Place<'_>) -> Result<Numeric, DatabaseError> {
    match value {
        Value::Integer(number) => Ok(Numeric(number.to_string())),
        Value::Float(number) if number.abs() < 1e300 => Ok(Numeric(number.to_string())),
        _ => place.refuse(value),
    }
}

fn text(value: &Value, place: &Place<'_>) -> Result<String, DatabaseError> {
    match value {
        Value::Text(text) | Value::Json(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        // As SQLite, which has no booleans.
        Value::Boolean(value) => Ok(u8::from(*value).to_string()),
        Value::Timestamp(time) => Ok(format_timestamp(*time)),
        Value::Null | Value::Bytes(_) => place.refuse(value),
    }
}

fn timestamp(value: &Value, place: &Place<'_>) -> Result<DateTime<Utc>, DatabaseError> {
    let time = match value {
        Value::Timestamp(time) => DateTime::from_timestamp_millis(time.timestamp_millis()),
        Value::Text(text) => parse_timestamp(text),
        _ => None,
    };
    time.map_or_else(|| place.refuse(value), Ok)
}

fn json(value: &Value, place: &Place<'_>) -> Result<String, DatabaseError> {
    match value {
        Value::Json(text) => Ok(text.clone()),
        Value::Text(text) if is_json(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        _ => place.refuse(value),
    }
}
