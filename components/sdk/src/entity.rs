//! Records in tables: one mechanism for create, read, update, delete and list, for every entity of every service.
//!
//! An entity is a struct with `#[entity(table = "…")]`, its [`Rules`], and one line of routing:
//! [`Router::entity`](crate::router::Router::entity). What it gets for that: the common columns, tenancy (a row of another
//! organization is a 404), partial updates, `ETag` and `If-Match`, filters, paging, sorting, parents that must exist,
//! events in the transaction of the change, and JSON Schemas.
//!
//! ```
//! use berth_sdk::{choice, data, entity, entity::Rules, router::Router, validate::Faults, Id};
//! #[choice]
//! pub enum Mood { Good, Bad }
//!
//! #[entity(table = "note_notes", created = "note.created")]
//! pub struct Note {
//!     #[field(min = 1, max = 200, plain)]
//!     pub title: String,
//!     pub body: Option<String>,
//!     #[field(default = Mood::Good)]
//!     pub mood: Mood,
//!     #[field(default)]
//!     pub tags: Vec<String>,
//! }
//! impl Rules for Note {
//!     fn check(&self, faults: &mut Faults) {
//!         if self.tags.len() > 20 { faults.add("tags", "must have at most 20 entries"); }
//!     }
//! }
//! let router = Router::new().entity::<Note>("/api/notes").build().unwrap();
//! assert_eq!(router.routes().len(), 6);
//! ```

mod column;
mod routes;
mod select;
mod statements;
mod store;
mod stored;

pub use column::{Column, Kind};
pub use routes::{Draft, Patch};
pub(crate) use routes::{patch_schema, writable_schema};
pub use select::Select;
pub(crate) use select::list_words;
pub use statements::Statements;
pub use store::{create, create_as, create_from, delete, find, read, read_text, save, update};
pub use stored::{Made, Stored};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    database::Transaction,
    problem::Result,
    validate::{Faults, Rule, Tidy},
};

/// Who may set a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever may write the row.
    Open,
    /// Only who creates the row; a change is a 400.
    Immutable,
    /// Only the service itself; in a body it is ignored.
    Readonly,
}

/// One field of an entity.
#[derive(Debug)]
pub struct Field {
    /// In JSON.
    pub name: &'static str,
    /// In SQL.
    pub column: &'static str,
    /// How it is stored.
    pub kind: Kind,
    /// May be null.
    pub is_optional: bool,
    /// Lists can be filtered by it.
    pub can_filter: bool,
    /// The texts it can have, where that is a closed set.
    pub choices: &'static [&'static str],
    /// Never shown in an answer.
    pub is_hidden: bool,
    /// Who may set it.
    pub access: Access,
    /// The entity whose row it names.
    pub parent: Option<fn() -> &'static Definition>,
    /// What its value must look like.
    pub rule: Rule,
}

/// What `#[entity]` reads off a struct.
#[derive(Debug)]
pub struct Definition {
    /// For people: `task`.
    pub name: &'static str,
    /// The table.
    pub table: &'static str,
    /// The struct's fields.
    pub fields: &'static [Field],
    /// The event published after a create, an update and a delete.
    pub created: Option<&'static str>,
    /// See `created`.
    pub updated: Option<&'static str>,
    /// See `created`.
    pub deleted: Option<&'static str>,
    /// How lists are sorted when nothing is said: a field's name, `-` before it for largest first.
    pub sort: &'static str,
    /// Deleting sets `deleted_at`.
    pub soft_delete: bool,
    /// Rows without an organization are everybody's to read and the platform's to write.
    pub global: bool,
    /// The column with the version: `version`, or `lock_version` where the entity has a textual `version` of its own.
    pub token: &'static str,
    /// See [`Rules::scope`].
    pub scope: fn() -> Option<Condition>,
}

/// A piece of SQL that must hold of a row; each `?` stands for the next value.
///
/// ```
/// use berth_sdk::entity::Condition;
/// let mine = Condition::new("\"created_by\" = ?", ["u1"]);
/// assert_eq!(mine.values.len(), 1);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The SQL.
    pub sql: String,
    /// The values of its `?`, in their order.
    pub values: Vec<crate::database::Value>,
}

impl Condition {
    /// SQL with its values.
    pub fn new<V: Into<crate::database::Value>>(sql: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        Self { sql: sql.into(), values: values.into_iter().map(Into::into).collect() }
    }

    /// That this one holds or another.
    ///
    /// ```
    /// use berth_sdk::entity::Condition;
    /// let either = Condition::new("a = ?", ["x"]).or(Condition::new("b = ?", ["y"]));
    /// assert_eq!(either, Condition::new("a = ? OR b = ?", ["x", "y"]));
    /// ```
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let values = self.values.into_iter().chain(other.values).collect();
        Self { sql: format!("{} OR {}", self.sql, other.sql), values }
    }

    /// The SQL for a statement that has some values already: each `?` is the number of its value, which is put behind them.
    ///
    /// ```
    /// use berth_sdk::{database::Value, entity::Condition};
    /// let mut values = vec![Value::from("o1")];
    /// assert_eq!(Condition::new("a = ? OR b = ?", ["x", "y"]).placed(&mut values), "a = $2 OR b = $3");
    /// assert_eq!(values, ["o1", "x", "y"].map(Value::from));
    /// ```
    pub fn placed(self, values: &mut Vec<crate::database::Value>) -> String {
        store::place(&self.sql, self.values, values)
    }
}

impl Definition {
    /// The field of this JSON name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// A record that lives in a table; `#[entity]` implements it.
pub trait Entity: Serialize + DeserializeOwned + JsonSchema + Tidy + Clone + 'static {
    /// What is known of it.
    const DEFINITION: &'static Definition;
    /// Its SQL, made once an instance.
    fn statements() -> &'static Statements;
}

/// What is particular to an entity. Every method has a default that does nothing; those with a transaction run inside
/// the one that changes the row, so that a problem undoes everything.
pub trait Rules: Entity {
    /// Only rows of which this holds exist for the caller: others are a 404 and in no list. The caller's organization
    /// holds anyway; this is for what is private within it.
    fn scope() -> Option<Condition> {
        None
    }
    /// Checks what concerns several fields; runs before create and update.
    fn check(&self, faults: &mut Faults) {
        let _ = faults;
    }
    /// Asks others what its rules need to know, before the transaction of one of its routes begins: no call to another service
    /// may keep a transaction waiting. `fields` are those that the body names; none when a row is to go. What it refuses does
    /// not happen.
    fn before_transaction(fields: &Map<String, Value>) -> Result<()> {
        let _ = fields;
        Ok(())
    }
    /// Sets or refuses before a row is made.
    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        let _ = transaction;
        Ok(())
    }
    /// After a row was made.
    fn after_create(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let _ = (row, transaction);
        Ok(())
    }
    /// Sets or refuses before a row changes.
    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let _ = (old, transaction);
        Ok(())
    }
    /// After a row changed.
    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let _ = (old, new, transaction);
        Ok(())
    }
    /// Refuses before a row goes, or takes along what belongs to it.
    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let _ = (row, transaction);
        Ok(())
    }
    /// After the change of a row by one of its routes is durable, whatever the change was: for what hangs on it outside
    /// the database, such as a cached copy. Nothing can be refused here.
    fn committed(row: &Stored<Self>) {
        let _ = row;
    }
    /// What its events carry: the id, ids of others, names and choices.
    fn event_data(row: &Stored<Self>) -> Value {
        let mut data = Map::new();
        data.insert("id".into(), row.id.as_str().into());
        let all = row.data_map();
        for field in Self::DEFINITION.fields {
            let is_named = matches!(field.name, "name" | "title");
            if (field.can_filter || is_named)
                && !field.is_hidden
                && let Some(value) = all.get(field.name)
            {
                data.insert(field.name.into(), value.clone());
            }
        }
        Value::Object(data)
    }
}
