//! SQLite's result codes as our errors.

use super::super::DatabaseError;

/// The primary codes we tell apart (sqlite.org/rescode.html); the extended code's low byte.
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const NO_MEMORY: i32 = 7;
const READ_ONLY: i32 = 8;
const INTERRUPT: i32 = 9;
const IO_ERROR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;
const PROTOCOL: i32 = 15;
const TOO_BIG: i32 = 18;
const CONSTRAINT: i32 = 19;
const AUTHORISATION: i32 = 23;
const NOT_A_DATABASE: i32 = 26;
/// Extended codes of the constraints that are the guest's mistake and not a conflict.
const CONSTRAINT_CHECK: i32 = 275;
const CONSTRAINT_NOT_NULL: i32 = 1299;
const CONSTRAINT_DATATYPE: i32 = 3091;

/// Turns a driver's error into ours.
pub(super) fn from_driver(error: sqlx::Error) -> DatabaseError {
    let code = code(&error);
    match &error {
        sqlx::Error::Database(database) => match code & 0xff {
            BUSY | LOCKED => DatabaseError::Busy,
            INTERRUPT => DatabaseError::Timeout,
            TOO_BIG => DatabaseError::TooLarge("a value or the statement".to_owned()),
            READ_ONLY | IO_ERROR | CORRUPT | FULL | CANNOT_OPEN | PROTOCOL | NO_MEMORY | NOT_A_DATABASE => {
                tracing::error!(code, message = database.message(), "the database file cannot be used");
                DatabaseError::Unavailable
            }
            CONSTRAINT if matches!(code, CONSTRAINT_CHECK | CONSTRAINT_NOT_NULL | CONSTRAINT_DATATYPE) => {
                DatabaseError::Invalid(database.message().to_owned())
            }
            CONSTRAINT => DatabaseError::Conflict(constraint(database.message())),
            AUTHORISATION => DatabaseError::Invalid("the statement is not allowed".to_owned()),
            _ => DatabaseError::Invalid(database.message().to_owned()),
        },
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed | sqlx::Error::PoolClosed => {
            tracing::error!(%error, "the database file cannot be used");
            DatabaseError::Unavailable
        }
        sqlx::Error::PoolTimedOut => DatabaseError::Busy,
        sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_) | sqlx::Error::Configuration(_) => {
            DatabaseError::Invalid(error.to_string())
        }
        _ => DatabaseError::Internal(error.into()),
    }
}

/// The extended result code; 0 when it is not SQLite that failed.
pub(super) fn code(error: &sqlx::Error) -> i32 {
    error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// What SQLite names after the colon (`UNIQUE constraint failed: plan_plans.slug`): columns, never values.
fn constraint(message: &str) -> String {
    message.split_once(": ").map_or("a foreign key", |(_, name)| name).to_owned()
}
