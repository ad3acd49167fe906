//! The first connection: what is wrong for good is said at once, in one sentence, and not at every request.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::super::DatabaseError;
use super::error::{from_driver, is_dead};

/// The oldest version that is still kept up by its makers.
const VERSION_MIN: u32 = 14;
/// How long a server may take to answer at all.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two attempts while it refuses connections, as one that starts does.
const PAUSE: Duration = Duration::from_millis(200);
/// SQLSTATEs (postgresql.org/docs/current/errcodes-appendix.html).
const WRONG_PASSWORD: [&str; 2] = ["28P01", "28000"];
const NO_DATABASE: &str = "3D000";
const NOT_ALLOWED: &str = "42501";

/// Connects once and judges what it finds. Waits a while for a server that is about to start.
pub(super) async fn judge(connect: &PgConnectOptions, wait_max: Duration) -> Result<(), DatabaseError> {
    let place = format!("{}:{}", connect.get_host(), connect.get_port());
    if connect.get_socket().is_none() && !connect.get_host().starts_with('/') {
        let found = tokio::net::lookup_host((connect.get_host(), connect.get_port())).await;
        found.map(drop).map_err(|_| refused(format!("no address is known of its host {}", connect.get_host())))?;
    }
    let deadline = Instant::now() + wait_max;
    let mut connection = loop {
        match tokio::time::timeout(ANSWER_TIME_MAX, connect.connect()).await {
            Ok(Ok(connection)) => break connection,
            Ok(Err(error)) if is_dead(&error) && Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Ok(Err(error)) => return Err(of_connecting(error, connect, &place)),
            Err(_) => return Err(refused(format!("{place} does not answer"))),
        }
    };
    let judged = judge_server(&mut connection).await;
    connection.close().await.ok();
    judged
}

async fn judge_server(connection: &mut PgConnection) -> Result<(), DatabaseError> {
    // The server says it unasked, and an old one might not understand what is asked below.
    let version = connection.server_version_num().map(|number| number / 10_000);
    if let Some(version) = version.filter(|version| *version < VERSION_MIN) {
        return Err(refused(format!("the server is PostgreSQL {version}; {VERSION_MIN} is the oldest that will do")));
    }
    let sql = "SELECT current_user::text AS me, current_schema() IS NOT NULL \
               AND has_schema_privilege(current_schema(), 'CREATE') AS may_make_tables, \
               EXISTS (SELECT 1 FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolcreaterole)) AS may_make_roles";
    let row = sqlx::query(sql).fetch_one(connection).await.map_err(from_driver)?;
    let me: String = row.try_get("me").map_err(from_driver)?;
    if !row.try_get::<bool, _>("may_make_tables").map_err(from_driver)? {
        return Err(refused(format!("the user {me} may not make tables in the schema (GRANT CREATE ON SCHEMA)")));
    }
    // Without a role for each plugin nothing but the host's own checks would keep one plugin from another's tables.
    if !row.try_get::<bool, _>("may_make_roles").map_err(from_driver)? {
        return Err(refused(format!("the user {me} may not make roles (ALTER ROLE {me} CREATEROLE)")));
    }
    Ok(())
}

fn of_connecting(error: sqlx::Error, connect: &PgConnectOptions, place: &str) -> DatabaseError {
    let code = error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
    match code.as_deref() {
        Some(code) if WRONG_PASSWORD.contains(&code) => {
            refused(format!("the server refuses the user {} or the password", connect.get_username()))
        }
        Some(NO_DATABASE) => {
            refused(format!("the server has no database {}", connect.get_database().unwrap_or(connect.get_username())))
        }
        Some(NOT_ALLOWED) => refused(format!("the user {} may not connect to the database", connect.get_username())),
        _ if is_dead(&error) => refused(format!("{place} takes no connection: {error}")),
        _ => from_driver(error),
    }
}

fn refused(sentence: String) -> DatabaseError {
    DatabaseError::Invalid(sentence)
}
