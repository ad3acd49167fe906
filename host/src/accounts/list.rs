//! Lists: one way to count, cut and show rows.
//!
//! Only constants and allow-listed columns become SQL text; every value is a parameter.

use serde_json::{Value as Json, json};

use super::Reply;
use super::context::ok;
use super::error::AccountsError;
use super::input::Paging;
use crate::database::{Database, DatabaseError, Row, Value};

/// A list's statement, built from constants and parameters.
pub(super) struct Select {
    columns: &'static str,
    tables: &'static str,
    conditions: Vec<String>,
    parameters: Vec<Value>,
}

impl Select {
    pub(super) fn new(columns: &'static str, tables: &'static str) -> Self {
        Self { columns, tables, conditions: Vec::new(), parameters: Vec::new() }
    }

    /// One more condition; each `?` is the value.
    pub(super) fn and(mut self, condition: &'static str, value: impl Into<Value>) -> Self {
        self.parameters.push(value.into());
        self.conditions.push(condition.replace('?', &format!("${}", self.parameters.len())));
        self
    }

    /// One more condition without a value.
    pub(super) fn and_sql(mut self, condition: &'static str) -> Self {
        self.conditions.push(condition.to_owned());
        self
    }

    /// One more condition where there is a value.
    pub(super) fn and_if<T: Into<Value>>(self, condition: &'static str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.and(condition, value),
            None => self,
        }
    }

    fn source(&self) -> String {
        let conditions = if self.conditions.is_empty() { "1 = 1".to_owned() } else { self.conditions.join(" AND ") };
        format!("FROM {} WHERE {conditions}", self.tables)
    }
}

/// `{items,total,limit,offset}`.
pub(super) async fn page(
    database: &Database,
    select: Select,
    paging: &Paging,
    to_json: impl Fn(&Row) -> Result<Json, DatabaseError>,
) -> Result<Reply, AccountsError> {
    let source = select.source();
    let counted = database.query_one(&format!("SELECT COUNT(*) AS total {source}"), &select.parameters).await?;
    let total = match counted {
        Some(row) => row.integer("total")?,
        None => 0,
    };
    let sql = format!(
        "SELECT {} {source} ORDER BY {} LIMIT {} OFFSET {}",
        select.columns, paging.order_by, paging.limit, paging.offset
    );
    let rows = database.query(&sql, &select.parameters).await?;
    let items = rows.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
    Ok(ok(json!({ "items": items, "total": total, "limit": paging.limit, "offset": paging.offset })))
}

/// A pattern for `LIKE … ESCAPE '\'` that finds the text anywhere, lower-cased.
pub(super) fn contains(text: &str) -> String {
    let mut pattern = String::from("%");
    for character in text.to_lowercase().chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// A timestamp column as the API shows it.
pub(super) fn timestamp(row: &Row, column: &str) -> Result<Json, DatabaseError> {
    let moment = row.optional_timestamp(column)?;
    Ok(moment.map_or(Json::Null, |moment| Json::String(show(moment))))
}

/// RFC 3339 in UTC with milliseconds.
pub(super) fn show(moment: chrono::DateTime<chrono::Utc>) -> String {
    moment.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
