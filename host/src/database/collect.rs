//! Gathers the rows a driver gives, as values or straight as JSON text, and enforces the caps while doing so.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};

use super::statement::Hint;
use super::value::{format_timestamp, is_json};
use super::{DatabaseError, Row, Rows, Value};

/// How much one statement may give and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryLimits {
    /// Rows of the answer.
    pub rows_max: usize,
    /// Bytes of the answer's values, or of its JSON text.
    pub bytes_max: usize,
    /// From the moment a connection is held.
    pub timeout: Duration,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self { rows_max: 10_000, bytes_max: 8 * 1024 * 1024, timeout: Duration::from_secs(5) }
    }
}

/// One value as the driver holds it, borrowed where possible.
pub(super) enum Cell<'r> {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'r, str>),
    Bytes(&'r [u8]),
    Timestamp(DateTime<Utc>),
    Json(Cow<'r, str>),
}

impl Cell<'_> {
    fn into_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => Value::Boolean(value),
            Self::Integer(value) => Value::Integer(value),
            Self::Float(value) => Value::Float(value),
            Self::Text(value) => Value::Text(value.into_owned()),
            Self::Bytes(value) => Value::Bytes(value.to_vec()),
            Self::Timestamp(value) => Value::Timestamp(value),
            Self::Json(value) => Value::Json(value.into_owned()),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Null | Self::Boolean(_) => 1,
            Self::Integer(_) | Self::Float(_) => 8,
            Self::Text(text) | Self::Json(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Timestamp(_) => 24,
        }
    }

    fn write_json(&self, output: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        match self {
            Self::Null => output.extend_from_slice(b"null"),
            Self::Boolean(value) => serde_json::to_writer(output, value)?,
            Self::Integer(value) => serde_json::to_writer(output, value)?,
            Self::Float(value) => serde_json::to_writer(output, value)?,
            Self::Text(value) => serde_json::to_writer(output, value)?,
            Self::Bytes(value) => serde_json::to_writer(output, &STANDARD.encode(value))?,
            Self::Timestamp(value) => serde_json::to_writer(output, &format_timestamp(*value))?,
            // A broken document (SQLite cannot keep one out) must not break the others.
            Self::Json(value) if is_json(value) => output.extend_from_slice(value.as_bytes()),
            Self::Json(value) => serde_json::to_writer(output, value)?,
        }
        Ok(())
    }
}

enum Output {
    Values(Vec<Row>),
    /// The text so far, and each column's `"name":`.
    Json(Vec<u8>, Vec<Vec<u8>>),
}

/// Takes rows one by one until a cap is reached.
pub(super) struct Collector {
    limits: QueryLimits,
    columns: Arc<[String]>,
    output: Output,
    rows: usize,
    bytes: usize,
    hints: Arc<[Option<Hint>]>,
}

impl Collector {
    /// Gathers values.
    pub(super) fn values(limits: QueryLimits) -> Self {
        let output = Output::Values(Vec::new());
        Self { limits, columns: Arc::default(), output, rows: 0, bytes: 0, hints: Arc::default() }
    }

    /// Gathers JSON text.
    pub(super) fn json(limits: QueryLimits) -> Self {
        Self { output: Output::Json(b"[".to_vec(), Vec::new()), ..Self::values(limits) }
    }

    /// Says what kinds of values the statement's expressions have.
    pub(super) fn with_hints(self, hints: &Arc<[Option<Hint>]>) -> Self {
        Self { hints: Arc::clone(hints), ..self }
    }

    /// What is known of a column that has no declared type.
    pub(super) fn hint(&self, column: usize) -> Option<Hint> {
        self.hints.get(column).copied().flatten()
    }

    /// The same, but empty: for a statement that is run again.
    pub(super) fn restart(&mut self) {
        let empty = match self.output {
            Output::Values(_) => Self::values(self.limits),
            Output::Json(..) => Self::json(self.limits),
        };
        *self = empty.with_hints(&self.hints);
    }

    pub(super) fn limits(&self) -> &QueryLimits {
        &self.limits
    }

    /// Tells the columns, before the first row.
    pub(super) fn begin<'c>(&mut self, columns: impl Iterator<Item = &'c str>) -> Result<(), DatabaseError> {
        self.columns = columns.map(str::to_owned).collect();
        if let Output::Json(_, names) = &mut self.output {
            for column in self.columns.iter() {
                let mut name = serde_json::to_vec(column).map_err(|error| DatabaseError::Internal(error.into()))?;
                name.push(b':');
                names.push(name);
            }
        }
        Ok(())
    }

    /// Takes a row. `TooLarge` when a cap is passed: the statement is to be stopped then.
    pub(super) fn row<'r>(
        &mut self,
        cells: impl Iterator<Item = Result<Cell<'r>, DatabaseError>>,
    ) -> Result<(), DatabaseError> {
        self.rows += 1;
        if self.rows > self.limits.rows_max {
            return Err(DatabaseError::TooLarge(format!("more than {} rows", self.limits.rows_max)));
        }
        match &mut self.output {
            Output::Values(rows) => {
                let mut values = Vec::with_capacity(self.columns.len());
                for cell in cells {
                    let cell = cell?;
                    self.bytes = self.bytes.saturating_add(cell.size());
                    if self.bytes > self.limits.bytes_max {
                        return Err(too_many_bytes(&self.limits));
                    }
                    values.push(cell.into_value());
                }
                rows.push(Row::new(Arc::clone(&self.columns), values));
            }
            Output::Json(text, names) => {
                if self.rows > 1 {
                    text.push(b',');
                }
                text.push(b'{');
                for (index, (cell, name)) in cells.zip(names.iter()).enumerate() {
                    if index > 0 {
                        text.push(b',');
                    }
                    text.extend_from_slice(name);
                    cell?.write_json(text).map_err(|error| DatabaseError::Internal(error.into()))?;
                    if text.len() > self.limits.bytes_max {
                        return Err(too_many_bytes(&self.limits));
                    }
                }
                text.push(b'}');
            }
        }
        Ok(())
    }

    /// The rows, when values were gathered.
    pub(super) fn into_rows(self) -> Rows {
        match self.output {
            Output::Values(rows) => Rows::new(self.columns, rows),
            Output::Json(..) => Rows::default(),
        }
    }

    /// The JSON array, when JSON was gathered.
    pub(super) fn into_json(self) -> Vec<u8> {
        match self.output {
            Output::Json(mut text, _) => {
                text.push(b']');
                text
            }
            Output::Values(_) => b"[]".to_vec(),
        }
    }
}

fn too_many_bytes(limits: &QueryLimits) -> DatabaseError {
    DatabaseError::TooLarge(format!("more than {} bytes", limits.bytes_max))
}
