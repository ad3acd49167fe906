//! A service's tables: SQL files embedded in the component, applied by the host in the order of their names, once.

/// Which database a migration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Both.
    Any,
    /// Only SQLite.
    Sqlite,
    /// Only PostgreSQL.
    Postgres,
}

/// One file of SQL.
///
/// ```
/// use berth_sdk::migrations::Migration;
/// const NOTES: Migration = Migration::new("0001_notes", "CREATE TABLE note_notes (id TEXT PRIMARY KEY)");
/// assert_eq!(NOTES.name, "0001_notes");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// As in `0001_create_plans`; unique.
    pub name: &'static str,
    /// The database it is for.
    pub dialect: Dialect,
    /// Statements, separated by `;`.
    pub sql: &'static str,
}

impl Migration {
    /// For both databases.
    pub const fn new(name: &'static str, sql: &'static str) -> Self {
        Self { name, dialect: Dialect::Any, sql }
    }

    /// For one of them.
    pub const fn only(dialect: Dialect, name: &'static str, sql: &'static str) -> Self {
        Self { name, dialect, sql }
    }
}

/// Embeds the files named here; the paths are relative to the file that calls it.
///
/// ```
/// use berth_sdk::migrations::embed;
/// let migrations = embed!["../Cargo.toml"]; // any text file will do for an example
/// assert_eq!(migrations[0].name, "Cargo");
/// ```
#[macro_export]
macro_rules! embed_migrations {
    ($($file:literal),* $(,)?) => {
        [$($crate::migrations::named($file, ::core::include_str!($file))),*]
    };
}
pub use crate::embed_migrations as embed;

/// The migration in a file: `…/0003_x.sqlite.sql` is for SQLite only.
#[doc(hidden)]
pub fn named(file: &'static str, sql: &'static str) -> Migration {
    let name = file.rsplit('/').next().unwrap_or(file);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    match stem.rsplit_once('.') {
        Some((stem, "sqlite")) => Migration::only(Dialect::Sqlite, stem, sql),
        Some((stem, "postgres")) => Migration::only(Dialect::Postgres, stem, sql),
        _ => Migration::new(stem, sql),
    }
}
