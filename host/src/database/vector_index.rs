//! Vector indexes: `CREATE VECTOR INDEX ON table (column)` in a migration, and what PostgreSQL's pieces of one are called.
//!
//! SQLite needs none: its function reads the bytes as they are. PostgreSQL keeps the vectors once more, as pgvector has them,
//! in a table beside the table, which the statements of others never see.

/// What the pieces' names begin with. No grant gives these.
pub(super) const PREFIX: &str = "vectors__";
/// What a statement asks: the rows' ids and their vectors, once all of them are there.
pub(super) const ID: &str = "vectors__id";
/// See [`ID`].
pub(super) const VECTOR: &str = "vectors__vector";
/// A parameter as a vector of pgvector's; null when it takes no such vector.
pub(super) const READ: &str = "vectors__read";
/// The members of a vector of ours.
pub(super) const MEMBERS: &str = "vectors__members";
/// The product of two vectors of pgvector's.
pub(super) const INNER: &str = "vectors__inner";
/// The product of two vectors of ours.
pub(super) const PRODUCT: &str = "vectors__product";
/// Bytes of the names of table and column, so that every name made from them is within PostgreSQL's 63.
pub(super) const NAME_BYTES_MAX: usize = 44;

/// Whether nobody but the host may call anything so: answers leave such columns out, and joins have such names.
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// A vector index, with names that have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VectorIndex {
    pub table: String,
    pub column: String,
}

impl VectorIndex {
    /// None when the names are too long to make others from them, or when those could be another index's.
    pub(super) fn new(table: &str, column: &str) -> Option<Self> {
        let is_short = table.len() + column.len() <= NAME_BYTES_MAX;
        let is_single = !table.contains("__") && !column.contains("__");
        (is_short && is_single).then(|| Self { table: table.to_owned(), column: column.to_owned() })
    }

    /// The view that statements ask.
    pub(super) fn view(&self) -> String {
        format!("{PREFIX}{}__{}", self.table, self.column)
    }

    /// The table behind it.
    pub(super) fn rows(&self) -> String {
        format!("{}__rows", self.view())
    }

    /// The function of the trigger that fills the table.
    pub(super) fn keeper(&self) -> String {
        format!("{}__keep", self.view())
    }

    /// Fails where the table has no such columns, in both databases.
    pub(super) fn proof(&self) -> String {
        format!("SELECT id, {} FROM {} WHERE 1 = 0", self.column, self.table)
    }
}
