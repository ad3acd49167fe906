//! Reading several rows, within the caller's organization.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    Condition, Entity, Field, Kind, Stored,
    store::{place, visible, visible_to},
};
use crate::{
    database::{Executor, Transaction, Value},
    http::JsonText,
    id::Id,
    page::{Page, PageQuery, unknown_sort},
    problem::{Problem, Result},
};

/// A selection of rows.
///
/// ```
/// use berth_sdk::{Problem, database::Pool, entity, entity::{Select, Stored}};
/// #[entity(table = "note_notes")]
/// pub struct Note { #[field(filter)] pub title: String, pub stars: i64 }
/// impl entity::Rules for Note {}
/// fn best() -> Result<Vec<Stored<Note>>, Problem> {
///     Select::new().equal("title", "a").condition("\"stars\" > ?", [3]).sort("-stars").limit(10).all(&Pool)
/// }
/// assert_eq!(best().unwrap_err().code, "ORGANIZATION_REQUIRED");
/// ```
#[derive(Clone, Debug)]
pub struct Select<T> {
    conditions: Vec<Condition>,
    sort: Option<String>,
    limit: Option<i64>,
    organization_id: Option<Id>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Entity> Default for Select<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Entity> Select<T> {
    /// Every row of the caller's organization that is not deleted.
    pub fn new() -> Self {
        Self { conditions: Vec::new(), sort: None, limit: None, organization_id: None, kind: PhantomData }
    }

    /// The rows of this organization instead of the caller's: for calls that have none, a timer's or a public route's,
    /// where the service itself has found out whose rows they are about.
    #[must_use]
    pub fn of_organization(mut self, organization_id: &Id) -> Self {
        self.organization_id = Some(organization_id.clone());
        self
    }

    /// Only rows with this value in this column.
    #[must_use]
    pub fn equal(self, column: &str, value: impl Into<Value>) -> Self {
        self.condition(&format!("\"{column}\" = ?"), [value.into()])
    }

    /// Only rows with one of these values in this column.
    #[must_use]
    pub fn one_of<V: Into<Value>>(self, column: &str, values: impl IntoIterator<Item = V>) -> Self {
        let values: Vec<Value> = values.into_iter().map(Into::into).collect();
        if values.is_empty() {
            return self.condition("1 = 0", [] as [Value; 0]);
        }
        let places = vec!["?"; values.len()].join(", ");
        self.condition(&format!("\"{column}\" IN ({places})"), values)
    }

    /// Only rows of which this SQL holds; each `?` stands for the next value.
    #[must_use]
    pub fn condition<V: Into<Value>>(self, sql: &str, values: impl IntoIterator<Item = V>) -> Self {
        self.meets(Condition::new(sql, values))
    }

    /// Only rows of which this condition holds.
    #[must_use]
    pub fn meets(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Sorted by a field's JSON name, `-` before it for largest first. Choices go in the order in which they are declared.
    #[must_use]
    pub fn sort(mut self, sort: &str) -> Self {
        self.sort = Some(sort.to_string());
        self
    }

    /// At most so many.
    #[must_use]
    pub fn limit(mut self, limit: i64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The rows.
    pub fn all(self, database: &dyn Executor) -> Result<Vec<Stored<T>>> {
        let (sql, values) = self.statement(&T::statements().all)?;
        Ok(Stored::query(database, &sql, &values)?)
    }

    /// Some columns of the rows, each to be named as the member of `R` is: for rows whose whole would be much.
    pub fn columns<R: DeserializeOwned>(self, database: &dyn Executor, columns: &str) -> Result<Vec<R>> {
        let (sql, values) = self.statement(columns)?;
        Ok(crate::database::query_as(database, &sql, &values)?)
    }

    /// The first row.
    pub fn first(self, database: &dyn Executor) -> Result<Option<Stored<T>>> {
        Ok(self.limit(1).all(database)?.into_iter().next())
    }

    /// How many there are.
    pub fn count(&self, database: &dyn Executor) -> Result<i64> {
        let (from, values) = self.from()?;
        let row = database.query_one(&format!("SELECT COUNT(*) AS \"total\" {from}"), &values)?;
        Ok(row.map_or(Ok(0), |row| row.get("total"))?)
    }

    /// How many there are, asked by one transaction after the other: the oldest row is held until the transaction ends, so that
    /// of two who count before they insert the later one counts what the other has inserted. Where there is no row there is
    /// nothing to hold: it is for limits above one.
    pub fn count_in_turn(&self, transaction: &Transaction) -> Result<i64> {
        let (sql, values) = self.turn()?;
        transaction.query_one(&sql, &values)?;
        self.count(transaction)
    }

    /// The rows as the text of a JSON array: the fast path.
    pub fn text(self, database: &dyn Executor) -> Result<Vec<u8>> {
        let (sql, values) = self.statement(&T::statements().shown)?;
        Ok(database.query_json(&sql, &values)?)
    }

    /// One page, filtered and sorted as the request asks; 400 for a filter or sort field that does not fit.
    pub fn page(self, database: &dyn Executor, query: &PageQuery) -> Result<JsonText<Page<Stored<T>>>> {
        self.page_of(database, query, &T::statements().shown)
    }

    /// The same with some columns only, each to be named as the member of `R` is: for rows whose whole would be much.
    pub fn page_of<R>(
        mut self,
        database: &dyn Executor,
        query: &PageQuery,
        columns: &str,
    ) -> Result<JsonText<Page<R>>> {
        for field in T::DEFINITION.fields.iter().filter(|field| field.can_filter) {
            let Some(text) = query.filter(field.name) else { continue };
            let misfit = |message: String| Problem::field(field.name, message);
            if field.choices.is_empty() {
                let value = field.kind.parse(&text).ok_or_else(|| misfit("does not fit".into()))?;
                self = self.equal(field.column, value);
            } else {
                let wanted: Vec<&str> = text.split(',').map(str::trim).collect();
                for choice in &wanted {
                    crate::validate::one_of(choice, field.choices).map_err(misfit)?;
                }
                self = self.one_of(field.column, wanted);
            }
        }
        let total = self.count(database)?;
        if let Some(sort) = requested_sort::<T>(query)? {
            self.sort = Some(sort);
        }
        let (sql, mut values) = self.statement(columns)?;
        let place = values.len();
        values.extend([query.limit.into(), query.offset.into()]);
        let sql = format!("{sql} LIMIT ${} OFFSET ${}", place + 1, place + 2);
        let items = if total > query.offset { database.query_json(&sql, &values)? } else { b"[]".to_vec() };
        Ok(JsonText::new(200, query.envelope_text(&items, total)))
    }

    fn from(&self) -> Result<(String, Vec<Value>)> {
        let (condition, mut values) = match &self.organization_id {
            Some(organization_id) => visible_to(T::DEFINITION, organization_id.clone()),
            None => visible(T::DEFINITION)?,
        };
        let mut sql = format!("FROM {} WHERE {condition}", T::DEFINITION.table);
        for condition in &self.conditions {
            let placed = place(&condition.sql, condition.values.iter().cloned(), &mut values);
            sql.push_str(&format!(" AND ({placed})"));
        }
        Ok((sql, values))
    }

    fn turn(&self) -> Result<(String, Vec<Value>)> {
        let (from, values) = self.from()?;
        Ok((format!("SELECT \"id\" {from} ORDER BY \"created_at\", \"id\" LIMIT 1 FOR UPDATE"), values))
    }

    fn statement(&self, columns: &str) -> Result<(String, Vec<Value>)> {
        let (from, values) = self.from()?;
        let order = order_by::<T>(self.sort.as_deref().unwrap_or(T::DEFINITION.sort))?;
        let limit = self.limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
        Ok((format!("SELECT {columns} {from} ORDER BY {order}{limit}"), values))
    }
}

/// The sort that a request asks for, checked.
fn requested_sort<T: Entity>(query: &PageQuery) -> Result<Option<String>> {
    let descending = query.descending.unwrap_or(false);
    match (&query.sort_by, query.descending) {
        (Some(field), _) => {
            order_by::<T>(field)?;
            Ok(Some(format!("{}{field}", if descending { "-" } else { "" })))
        }
        (None, Some(descending)) => {
            let field = T::DEFINITION.sort.trim_start_matches('-');
            Ok(Some(format!("{}{field}", if descending { "-" } else { "" })))
        }
        (None, None) => Ok(None),
    }
}

/// The fields that are common to all rows, with their columns.
const COMMON: [(&str, &str); 4] =
    [("id", "id"), ("createdAt", "created_at"), ("updatedAt", "updated_at"), ("createdBy", "created_by")];

fn sortable<T: Entity>() -> impl Iterator<Item = &'static Field> {
    T::DEFINITION.fields.iter().filter(|field| field.kind != Kind::Json && !field.is_hidden)
}

/// The names of all fields that a list can be sorted by.
fn sort_names<T: Entity>() -> Vec<&'static str> {
    sortable::<T>().map(|field| field.name).chain(COMMON.iter().map(|(known, _)| *known)).collect()
}

/// What [`Select::page`] takes of a request's query, for the API's document.
pub(crate) fn list_words<T: Entity>() -> serde_json::Value {
    let schema = |field: &Field| match field.kind {
        _ if !field.choices.is_empty() => json!({ "type": "array", "items": { "enum": field.choices } }),
        Kind::Integer => json!({ "type": "integer", "format": "int64" }),
        Kind::Float => json!({ "type": "number" }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Timestamp => json!({ "type": "string", "format": "date-time" }),
        Kind::Text | Kind::Json => json!({ "type": "string" }),
    };
    let filters = T::DEFINITION.fields.iter().filter(|field| field.can_filter && field.kind != Kind::Json);
    let filters: serde_json::Map<_, _> = filters.map(|field| (field.name.to_string(), schema(field))).collect();
    json!({ "sorts": sort_names::<T>(), "filters": filters })
}

fn order_by<T: Entity>(sort: &str) -> Result<String> {
    let (name, direction) = match sort.strip_prefix('-') {
        Some(name) => (name, "DESC"),
        None => (sort, "ASC"),
    };
    let own = sortable::<T>().find(|field| field.name == name);
    let column = own
        .map(|field| field.column)
        .or_else(|| COMMON.iter().find(|(known, _)| *known == name).map(|(_, column)| *column))
        .ok_or_else(|| unknown_sort(&sort_names::<T>()))?;
    // SQLite puts nulls first and PostgreSQL last: say it, so that both do the same.
    let nulls = if own.is_some_and(|field| field.is_optional) { " NULLS LAST" } else { "" };
    let key = match own.filter(|field| !field.choices.is_empty()) {
        // Choices go by what they mean and not by their letters: `low` comes before `high`.
        Some(field) => {
            let places = field.choices.iter().enumerate();
            let places: Vec<String> = places.map(|(place, choice)| format!("WHEN '{choice}' THEN {place}")).collect();
            format!("CASE \"{column}\" {} END", places.join(" "))
        }
        None => format!("\"{column}\""),
    };
    Ok(format!("{key} {direction}{nulls}, \"id\" {direction}"))
}

#[cfg(test)]
mod tests {
    use super::{Select, requested_sort};
    use crate::{choice, entity, http::FromRequest, http::Request, page::PageQuery, testing};

    #[choice]
    enum Color {
        Red,
        Green,
    }

    #[entity(table = "note_notes", soft_delete, sort = "title")]
    struct Note {
        title: String,
        color: Option<Color>,
        #[field(hidden)]
        secret: Option<String>,
        #[field(default)]
        tags: Vec<String>,
    }
    impl crate::entity::Rules for Note {}

    fn query(text: &str) -> PageQuery {
        PageQuery::from_request(&mut Request::new("GET", &format!("/?{text}"))).unwrap()
    }

    #[test]
    fn a_selection_stays_within_the_organization() {
        testing::sign_in("u1", "o1");
        let select = Select::<Note>::new().equal("color", "red").condition("\"title\" IN (?, ?)", ["a", "b"]);
        let (sql, values) = select.statement("\"id\"").unwrap();
        assert_eq!(
            sql,
            "SELECT \"id\" FROM note_notes WHERE \"organization_id\" = $1 AND \"deleted_at\" IS NULL AND (\"color\" = $2) \
             AND (\"title\" IN ($3, $4)) ORDER BY \"title\" ASC, \"id\" ASC"
        );
        assert_eq!(values.len(), 4);
    }

    #[test]
    fn whoever_counts_in_turn_holds_the_oldest_row() {
        testing::sign_in("u1", "o1");
        let (sql, values) = Select::<Note>::new().equal("color", "red").turn().unwrap();
        assert_eq!(
            sql,
            "SELECT \"id\" FROM note_notes WHERE \"organization_id\" = $1 AND \"deleted_at\" IS NULL AND (\"color\" = $2) \
             ORDER BY \"created_at\", \"id\" LIMIT 1 FOR UPDATE"
        );
        assert_eq!(values.len(), 2);
    }

    #[test]
    fn choices_sort_in_the_order_in_which_they_are_declared() {
        testing::sign_in("u1", "o1");
        let (sql, _) = Select::<Note>::new().sort("-color").statement("\"id\"").unwrap();
        let order = "ORDER BY CASE \"color\" WHEN 'red' THEN 0 WHEN 'green' THEN 1 END DESC NULLS LAST, \"id\" DESC";
        assert!(sql.ends_with(order), "{sql}");
    }

    #[test]
    fn only_listed_fields_sort() {
        assert_eq!(requested_sort::<Note>(&query("sortBy=color&order=desc")).unwrap().as_deref(), Some("-color"));
        assert_eq!(requested_sort::<Note>(&query("order=desc")).unwrap().as_deref(), Some("-title"));
        for field in ["tags", "secret", "nothing", "title; DROP"] {
            assert_eq!(
                requested_sort::<Note>(&query(&format!("sortBy={}", field.replace(' ', "+")))).unwrap_err().status,
                400
            );
        }
    }
}
