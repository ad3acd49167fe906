//! Which passages a search is about, as SQL: the caller's organization, what they see of it, and what they ask for.

use berth_sdk::{
    database::Value as Parameter,
    prelude::*,
    serde_json::{Map, Value},
};

use super::SearchInput;
use crate::collection::{self, Collection};

/// Members of a filter, and values in all of them.
const KEYS_MAX: usize = 20;
const VALUES_MAX: usize = 200;
/// Characters of one value.
const VALUE_MAX: usize = 1_000;

/// `FROM … WHERE …` with its parameters. Passages are `c`, their documents `d`.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    conditions: Vec<String>,
    /// The parameters, from `$1` on.
    pub values: Vec<Parameter>,
    joins: bool,
}

impl Scope {
    /// Adds a condition; each `?` stands for the next value.
    pub fn add<V: Into<Parameter>>(&mut self, sql: &str, values: impl IntoIterator<Item = V>) {
        let mut pieces = sql.split('?');
        let mut placed = pieces.next().unwrap_or_default().to_string();
        for (piece, value) in pieces.zip(values) {
            self.values.push(value.into());
            placed.push_str(&format!("${}{piece}", self.values.len()));
        }
        self.conditions.push(format!("({placed})"));
    }

    /// Which tables.
    pub fn from(&self) -> &'static str {
        if self.joins { "emb_chunks c JOIN emb_documents d ON d.id = c.document_id" } else { "emb_chunks c" }
    }

    /// The conditions.
    pub fn condition(&self) -> String {
        self.conditions.join(" AND ")
    }
}

/// Notes what is wrong with a filter.
pub fn check(filter: Option<&Map<String, Value>>, faults: &mut Faults) {
    let Some(filter) = filter else { return };
    if filter.len() > KEYS_MAX {
        faults.add("filter", format!("must have at most {KEYS_MAX} members"));
    }
    let mut count = 0;
    for (name, value) in filter {
        let is_name = !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if !is_name {
            faults.add("filter", "names must have 1 to 64 characters of A-Z, a-z, 0-9, _ and -");
        }
        let list = values_of(value);
        count += list.len();
        let fits = |value: &&Value| match value {
            Value::String(text) => text.chars().count() <= VALUE_MAX && !text.contains('\0'),
            Value::Number(_) | Value::Bool(_) => true,
            _ => false,
        };
        if list.is_empty() || !list.iter().all(fits) {
            faults.add(format!("filter.{name}"), "must be a text, a number, true or false, or a list of those");
        }
    }
    if count > VALUES_MAX {
        faults.add("filter", format!("must have at most {VALUES_MAX} values"));
    }
}

fn values_of(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        one => vec![one],
    }
}

/// The passages of a search.
pub fn scope(
    input: &SearchInput,
    collection: Option<&Stored<Collection>>,
    dimensions: usize,
    model: Option<&str>,
) -> Result<Scope> {
    let mut scope = Scope::default();
    match collection {
        // Whoever sees a collection sees what is in it, as far as they see the projects of that.
        Some(collection) => scope.add("c.collection_id = ?", [&collection.id]),
        None => {
            scope.add("c.organization_id = ?", [auth::organization_id()?]);
            let seen = collection::visible("c");
            scope.add(&seen.sql, seen.values);
        }
    }
    if let Some(project_id) = &input.project_id {
        scope.add("c.project_id = ?", [project_id]);
    }
    if let Some(seen) = people::scope::within("c.project_id") {
        scope.add(&seen.sql, seen.values);
    }
    scope.add("c.dims = ?", [dimensions]);
    if let Some(model) = model {
        scope.add("c.embedding_model = ? OR c.embedding_model IS NULL", [model]);
    }
    for (name, value) in input.filter.iter().flatten() {
        scope.joins = true;
        add_filter(&mut scope, name, &values_of(value));
    }
    Ok(scope)
}

fn add_filter(scope: &mut Scope, name: &str, list: &[&Value]) {
    let column = match name {
        "sourceType" => Some("d.source_type"),
        "sourceId" => Some("d.source_id"),
        "filePath" => Some("d.file_path"),
        "embeddingModel" => Some("d.embedding_model"),
        "documentId" => Some("d.id"),
        _ => None,
    };
    let mut texts: Vec<String> = Vec::new();
    let mut truths: Vec<String> = Vec::new();
    for value in list {
        match value {
            Value::Bool(truth) => truths.push(truth.to_string()),
            Value::String(text) => texts.push(text.clone()),
            other => texts.push(other.to_string()),
        }
    }
    let places = |count: usize| vec!["?"; count].join(", ");
    let mut conditions = Vec::new();
    // The name has been checked: it cannot end the literal.
    let text_of = column.map_or_else(|| format!("d.metadata ->> '{name}'"), ToString::to_string);
    if !texts.is_empty() {
        conditions.push(format!("{text_of} IN ({})", places(texts.len())));
    }
    if !truths.is_empty() {
        // SQLite's `->>` makes numbers of them.
        let truth_of = column.map_or_else(|| format!("CAST(d.metadata -> '{name}' AS TEXT)"), ToString::to_string);
        conditions.push(format!("{truth_of} IN ({})", places(truths.len())));
    }
    texts.extend(truths);
    scope.add(&conditions.join(" OR "), texts);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_becomes_parameters() {
        let mut scope = Scope::default();
        scope.add("c.dims = ?", [3_i64]);
        add_filter(&mut scope, "lang", &[&json!("de"), &json!(5), &json!(true)]);
        assert_eq!(
            scope.condition(),
            "(c.dims = $1) AND (d.metadata ->> 'lang' IN ($2, $3) OR CAST(d.metadata -> 'lang' AS TEXT) IN ($4))"
        );
        assert_eq!(scope.values.len(), 4);
    }

    #[test]
    fn what_is_no_filter_is_named() {
        let faults = |filter: Value| {
            let mut faults = Faults::default();
            check(filter.as_object(), &mut faults);
            faults.errors().iter().map(|error| error.field.clone()).collect::<Vec<_>>()
        };
        assert!(faults(json!({"a": 1, "b": ["x", true]})).is_empty());
        assert_eq!(faults(json!({"a": {}, "b": [], "c'": 1})), ["filter.a", "filter.b", "filter"]);
        assert_eq!(faults(json!({"a": vec![1; 201]})), ["filter"]);
    }
}
