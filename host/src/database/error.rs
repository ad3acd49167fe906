//! What can go wrong in a database, named by what the caller can do about it.
//!
//! Drivers' errors are told apart by their codes and never by their texts. A text a driver wrote may only ever reach
//! the author of the statement, inside `Invalid` or `Conflict`.

/// Why a statement, a transaction or a migration failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    /// The state of the data is in the way: a unique or foreign key, or a serialisation failure. Names the
    /// constraint, never its values. Inside a transaction only a rollback helps.
    #[error("it conflicts with {0}")]
    Conflict(String),
    /// Too much at once: the pool, the queue of writers or a lock. Trying again later helps.
    #[error("the database is busy")]
    Busy,
    /// The database cannot be reached or cannot write (disk full, read only, damaged). Trying again later helps.
    #[error("the database is unavailable")]
    Unavailable,
    /// The statement's or the transaction's deadline has passed; nothing of it has happened.
    #[error("the database did not answer in time")]
    Timeout,
    /// The answer or an argument is larger than the limit that the text names.
    #[error("too large: {0}")]
    TooLarge(String),
    /// The statement or an argument makes no sense to the database.
    #[error("{0}")]
    Invalid(String),
    /// A broken assumption of the host. Not the caller's fault and not to be shown.
    #[error("the database failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl DatabaseError {
    /// A broken assumption of the host, in a few words.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::Internal(message.into().into())
    }

    /// Whether a later try may succeed without any change.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable | Self::Timeout)
    }
}
