//! PostgreSQL's SQLSTATEs as our errors.

use sqlx::postgres::PgDatabaseError;

use super::super::DatabaseError;

/// Turns a driver's error into ours.
pub(super) fn from_driver(error: sqlx::Error) -> DatabaseError {
    match &error {
        sqlx::Error::Database(database) => match database.try_downcast_ref::<PgDatabaseError>() {
            Some(postgres) => from_server(postgres),
            None => DatabaseError::Internal(error.into()),
        },
        sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_) | sqlx::Error::Configuration(_) => {
            DatabaseError::Invalid(error.to_string())
        }
        _ if is_dead(&error) => {
            tracing::warn!(%error, "the connection to the database was lost");
            DatabaseError::Unavailable
        }
        _ => DatabaseError::Internal(error.into()),
    }
}

/// Whether the connection is gone (and not only the statement wrong).
pub(super) fn is_dead(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::PoolClosed => true,
        // Shut down by an administrator, crashed, or starting up; or the protocol's own connection errors.
        _ => state(error).is_some_and(|state| matches!(state, "57P01" | "57P02" | "57P03") || state.starts_with("08")),
    }
}

/// Whether a prepared statement knows an older schema: to be prepared anew and run again.
pub(super) fn is_stale(error: &sqlx::Error) -> bool {
    let postgres = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    postgres.is_some_and(|error| error.code() == "0A000" && error.routine() == Some("RevalidateCachedQuery"))
}

fn state(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error()?.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::code)
}

/// By SQLSTATE, or by its class (the first two characters).
fn from_server(error: &PgDatabaseError) -> DatabaseError {
    let constraint = || error.constraint().unwrap_or("a key").to_owned();
    let message = || error.message().to_owned();
    match error.code() {
        "23505" | "23503" | "23P01" => DatabaseError::Conflict(constraint()),
        "40001" => DatabaseError::Conflict("a transaction that ran at the same time".to_owned()),
        "40P01" => DatabaseError::Conflict("a transaction that waits for this one (a deadlock)".to_owned()),
        "0A000" if error.routine() == Some("RevalidateCachedQuery") => {
            DatabaseError::Conflict("a change of the schema".to_owned())
        }
        "55P03" | "53300" => DatabaseError::Busy,
        "57014" | "25P03" | "25P04" => DatabaseError::Timeout,
        "42501" => DatabaseError::Invalid("the statement is not allowed".to_owned()),
        code => match code.get(..2) {
            Some("08" | "28" | "53" | "57" | "58" | "F0") => unavailable(error),
            Some("25") if code == "25006" => unavailable(error),
            Some("54") => DatabaseError::TooLarge(message()),
            Some("XX") => DatabaseError::internal(format!("{}: {}", code, error.message())),
            _ => DatabaseError::Invalid(message()),
        },
    }
}

fn unavailable(error: &PgDatabaseError) -> DatabaseError {
    tracing::error!(state = error.code(), message = error.message(), "the database cannot be used");
    DatabaseError::Unavailable
}
