//! The SQL of an entity, made once an instance from its definition.

use super::Definition;

/// The SQL of an entity.
///
/// ```
/// use berth_sdk::{entity, entity::Entity};
/// #[entity(table = "note_notes")]
/// pub struct Note { pub title: String }
/// impl entity::Rules for Note {}
/// assert!(Note::statements().insert.starts_with("INSERT INTO note_notes (\"id\", "));
/// ```
#[derive(Debug)]
pub struct Statements {
    /// The columns that answers show, each named as in JSON.
    pub shown: String,
    /// Every column, each named as in JSON.
    pub all: String,
    /// Makes a row: the common columns first, then the fields in their order.
    pub insert: String,
}

impl Statements {
    /// Makes the SQL of a definition.
    pub fn new(definition: &Definition) -> Self {
        let own = |hidden: bool| {
            definition
                .fields
                .iter()
                .filter(move |field| hidden || !field.is_hidden)
                .map(|field| format!("\"{}\" AS \"{}\"", field.column, field.name))
        };
        let token = if definition.token == "version" { "version" } else { "lockVersion" };
        let common = [
            ("id".to_string(), "id"),
            ("organization_id".to_string(), "organizationId"),
            ("created_by".to_string(), "createdBy"),
            ("created_at".to_string(), "createdAt"),
            ("updated_at".to_string(), "updatedAt"),
            (definition.token.to_string(), token),
        ];
        let select = |hidden: bool| {
            let (first, last) = common.split_at(2);
            let named = |(column, name): &(String, &str)| format!("\"{column}\" AS \"{name}\"");
            first.iter().map(named).chain(own(hidden)).chain(last.iter().map(named)).collect::<Vec<_>>().join(", ")
        };
        let columns: Vec<String> = common
            .iter()
            .map(|(column, _)| format!("\"{column}\""))
            .chain(definition.fields.iter().map(|field| format!("\"{}\"", field.column)))
            .collect();
        let places: Vec<String> = (1..=columns.len()).map(|place| format!("${place}")).collect();
        Self {
            shown: select(false),
            all: select(true),
            insert: format!("INSERT INTO {} ({}) VALUES ({})", definition.table, columns.join(", "), places.join(", ")),
        }
    }
}
