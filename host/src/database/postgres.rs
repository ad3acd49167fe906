//! PostgreSQL behind a bounded pool.
//!
//! A read that meets a dead connection is tried once more on a tested one; a write never is, since nobody knows whether it
//! happened.

mod decode;
mod encode;
mod error;
mod first;
mod listen;
mod numeric;
mod pool;
mod vectors;
mod wall;

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Column as _, Connection as _, Either, Executor as _, SqlSafeStr as _, Statement as _};

use super::collect::Collector;
use super::lexical::is_read;
use super::vector_index::VectorIndex;
use super::{Database, DatabaseError, DatabaseOptions, Scope, Value};
use error::{from_driver, is_dead, is_stale};
pub(super) use listen::PostgresListener;
use pool::{Busy, Idle, Pool, in_time};
use wall::{Wall, Wanted};

/// How often a read is prepared again while the schema changes under it; after that it is a conflict.
const STALE_ATTEMPTS_MAX: u32 = 5;

/// Prepared statements a connection keeps.
const STATEMENTS_CACHED: usize = 256;
/// How much longer than the statement's own deadline we wait for the server to say so.
const GRACE: Duration = Duration::from_secs(1);
/// How long a migration waits for another host's migration.
const MIGRATION_LOCK_MS_MAX: u64 = 60_000;
/// The advisory lock of migrations: "berth" as a number.
const MIGRATION_LOCK: i64 = 0x62_65_72_74_68;

/// The pool. Cheap to clone.
#[derive(Clone)]
pub(super) struct Postgres {
    connect: Arc<PgConnectOptions>,
    pool: Pool,
    wall: Wall,
}

/// An open transaction.
pub(super) struct PostgresTransaction {
    /// None once it has ended, or after a statement was abandoned.
    connection: Option<Idle>,
}

impl Postgres {
    pub(super) async fn open(url: &str, options: &DatabaseOptions) -> Result<Self, DatabaseError> {
        let connect = PgConnectOptions::from_str(url)
            .map_err(|_| DatabaseError::Invalid("the database URL is malformed".to_owned()))?
            .application_name("berth")
            .statement_cache_capacity(STATEMENTS_CACHED);
        first::judge(&connect, options.wait_max).await?;
        let pool = Pool::new(connect.clone(), options)?;
        Ok(Self { connect: Arc::new(connect), pool, wall: Wall::default() })
    }

    /// Makes the database itself keep a plugin to its own tables and to the caller's organization, from its next statement on.
    pub(super) async fn raise_wall(
        &self,
        database: &Database,
        plugin: &str,
        prefixes: &[String],
    ) -> Result<(), DatabaseError> {
        self.wall.raise(database, plugin, prefixes).await
    }

    /// Makes the vector indexes of a plugin and fills them, for `time_max` at most, where the server has pgvector.
    pub(super) async fn keep_vectors(
        &self,
        database: &Database,
        plugin: &str,
        prefixes: &[String],
        indexes: &[VectorIndex],
        time_max: Option<Duration>,
    ) {
        if vectors::keep(database, plugin, indexes, time_max).await
            && let Err(error) = self.raise_wall(database, plugin, prefixes).await
        {
            tracing::warn!(plugin, %error, "the plugin may not use its vector indexes yet: its component compares vectors");
        }
    }

    /// Runs one statement outside a transaction.
    pub(super) async fn fetch(
        &self,
        scope: Scope<'_>,
        sql: &str,
        parameters: &[Value],
        collector: &mut Collector,
    ) -> Result<(), DatabaseError> {
        if !is_read(sql) {
            // A statement that changes rows and answers more than the caps allow must not have happened.
            let mut transaction = self.begin(scope).await?;
            transaction.fetch(sql, parameters, collector).await?;
            return transaction.commit().await;
        }
        let wanted = self.wall.wanted(scope);
        let mut busy = self.acquire_for(&wanted).await?;
        let timeout = collector.limits().timeout;
        match run(&mut busy, sql, parameters, timeout, Some(&mut *collector)).await {
            Err(Failure::Dead) => {
                drop(busy);
                collector.restart();
                let mut busy = self.acquire_tested_for(&wanted).await?;
                run(&mut busy, sql, parameters, timeout, Some(collector)).await.map_err(Failure::into_error)?;
                drop(busy.finish());
            }
            Err(Failure::Stale) => {
                let mut outcome = Err(Failure::Stale);
                for _ in 0..STALE_ATTEMPTS_MAX {
                    if !matches!(outcome, Err(Failure::Stale)) {
                        break;
                    }
                    busy.connection()?.clear_cached_statements().await.map_err(from_driver)?;
                    collector.restart();
                    outcome = run(&mut busy, sql, parameters, timeout, Some(&mut *collector)).await;
                }
                finish(busy, outcome)?;
            }
            outcome => {
                finish(busy, outcome)?;
            }
        }
        Ok(())
    }

    /// Runs one statement for its effect.
    pub(super) async fn execute(
        &self,
        scope: Scope<'_>,
        sql: &str,
        parameters: &[Value],
        timeout: Duration,
    ) -> Result<u64, DatabaseError> {
        let mut busy = self.acquire_for(&self.wall.wanted(scope)).await?;
        match run(&mut busy, sql, parameters, timeout, None).await {
            Err(Failure::Stale) => {
                busy.connection()?.clear_cached_statements().await.map_err(from_driver)?;
                let outcome = run(&mut busy, sql, parameters, timeout, None).await;
                finish(busy, outcome)
            }
            outcome => finish(busy, outcome),
        }
    }

    pub(super) async fn begin(&self, scope: Scope<'_>) -> Result<PostgresTransaction, DatabaseError> {
        let wanted = self.wall.wanted(scope);
        let mut busy = self.pool.acquire().await?;
        match in_time(busy.link()?.begin_for(&wanted)).await {
            Ok(()) => {}
            Err(error) if is_dead(&error) => {
                drop(busy);
                busy = self.pool.acquire_tested().await?;
                in_time(busy.link()?.begin_for(&wanted)).await.map_err(from_driver)?;
            }
            Err(error) => return Err(from_driver(error)),
        }
        Ok(PostgresTransaction { connection: busy.finish() })
    }

    /// Begins a transaction that holds the lock of migrations.
    pub(super) async fn begin_migration(
        &self,
        statement_timeout: Duration,
    ) -> Result<PostgresTransaction, DatabaseError> {
        let mut transaction = self.begin(Scope::default()).await?;
        let sql = format!(
            "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {MIGRATION_LOCK_MS_MAX}; \
             SELECT pg_advisory_xact_lock({MIGRATION_LOCK})",
            statement_timeout.as_millis()
        );
        let mut busy = transaction.take()?;
        busy.connection()?.execute(AssertSqlSafe(sql)).await.map_err(from_driver)?;
        transaction.connection = busy.finish();
        Ok(transaction)
    }

    /// A connection whose session works on behalf of `wanted`.
    async fn acquire_for(&self, wanted: &Wanted<'_>) -> Result<Busy, DatabaseError> {
        let mut busy = self.pool.acquire().await?;
        match in_time(busy.link()?.stand_for(wanted)).await {
            Ok(()) => Ok(busy),
            Err(error) if is_dead(&error) => {
                drop(busy);
                self.acquire_tested_for(wanted).await
            }
            Err(error) => Err(from_driver(error)),
        }
    }

    async fn acquire_tested_for(&self, wanted: &Wanted<'_>) -> Result<Busy, DatabaseError> {
        let mut busy = self.pool.acquire_tested().await?;
        in_time(busy.link()?.stand_for(wanted)).await.map_err(from_driver)?;
        Ok(busy)
    }
}

impl PostgresTransaction {
    pub(super) async fn fetch(
        &mut self,
        sql: &str,
        parameters: &[Value],
        collector: &mut Collector,
    ) -> Result<(), DatabaseError> {
        let timeout = collector.limits().timeout;
        self.run(sql, parameters, timeout, Some(collector)).await.map(|_| ())
    }

    pub(super) async fn execute(
        &mut self,
        sql: &str,
        parameters: &[Value],
        timeout: Duration,
    ) -> Result<u64, DatabaseError> {
        self.run(sql, parameters, timeout, None).await
    }

    pub(super) async fn commit(mut self) -> Result<(), DatabaseError> {
        let mut busy = self.take()?;
        let done = in_time(busy.connection()?.execute("COMMIT")).await.map_err(from_driver);
        if done.is_ok() {
            drop(busy.finish()); // back into the pool; otherwise it is closed, which rolls back
        }
        done.map(|_| ())
    }

    pub(super) async fn rollback(mut self) -> Result<(), DatabaseError> {
        if let Some(connection) = self.connection.take() {
            roll_back(connection).await;
        }
        Ok(())
    }

    async fn run(
        &mut self,
        sql: &str,
        parameters: &[Value],
        timeout: Duration,
        collector: Option<&mut Collector>,
    ) -> Result<u64, DatabaseError> {
        let mut busy = self.take()?;
        let outcome = run(&mut busy, sql, parameters, timeout, collector).await;
        match outcome {
            Err(failure @ (Failure::Dead | Failure::Abandoned(_))) => Err(failure.into_error()),
            outcome => {
                self.connection = busy.finish();
                outcome.map_err(Failure::into_error)
            }
        }
    }

    /// Takes the connection out for one statement: dropped in the middle of it, it is closed.
    fn take(&mut self) -> Result<Busy, DatabaseError> {
        self.connection.take().map(Busy::again).ok_or(DatabaseError::Unavailable)
    }
}

impl Drop for PostgresTransaction {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(roll_back(connection))),
            Err(_) => drop(Busy::again(connection)),
        }
    }
}

/// Rolls back; a connection that cannot is closed, which has the same effect.
async fn roll_back(connection: Idle) {
    let mut busy = Busy::again(connection);
    let Ok(connection) = busy.connection() else { return };
    // The schema may have changed under a failed statement: forget it together with the transaction.
    if in_time(connection.execute("ROLLBACK")).await.is_ok() {
        drop(busy.finish());
    }
}

/// Why a statement did not end well, as far as the next step differs.
enum Failure {
    /// The connection is gone.
    Dead,
    /// The prepared statement knows an older schema.
    Stale,
    /// The statement is still running or sending rows: the connection must be closed.
    Abandoned(DatabaseError),
    /// The statement has ended; the connection is fine.
    Ended(DatabaseError),
}

impl Failure {
    fn from_driver(error: sqlx::Error) -> Self {
        if is_stale(&error) {
            Self::Stale
        } else if is_dead(&error) {
            tracing::warn!(%error, "the connection to the database was lost");
            Self::Dead
        } else {
            Self::Ended(from_driver(error))
        }
    }

    fn into_error(self) -> DatabaseError {
        match self {
            Self::Dead => DatabaseError::Unavailable,
            Self::Stale => DatabaseError::Conflict("a change of the schema".to_owned()),
            Self::Abandoned(error) | Self::Ended(error) => error,
        }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::Ended(error)
    }
}

/// Gives the connection back unless it has to be closed.
fn finish(busy: Busy, outcome: Result<u64, Failure>) -> Result<u64, DatabaseError> {
    if !matches!(outcome, Err(Failure::Dead | Failure::Abandoned(_))) {
        drop(busy.finish());
    }
    outcome.map_err(Failure::into_error)
}

/// Runs one statement to its end, or to the collector's cap. Returns how many rows it changed.
async fn run(
    busy: &mut Busy,
    sql: &str,
    parameters: &[Value],
    timeout: Duration,
    collector: Option<&mut Collector>,
) -> Result<u64, Failure> {
    let connection = busy.connection()?;
    match tokio::time::timeout(timeout + GRACE, step(connection, sql, parameters, collector)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::Abandoned(DatabaseError::Timeout)),
    }
}

async fn step(
    connection: &mut PgConnection,
    sql: &str,
    parameters: &[Value],
    mut collector: Option<&mut Collector>,
) -> Result<u64, Failure> {
    let text: Arc<str> = sql.into();
    // Prepared once a connection and statement; afterwards this does not reach the server.
    let statement =
        connection.prepare(AssertSqlSafe(Arc::clone(&text)).into_sql_str()).await.map_err(Failure::from_driver)?;
    let types = match statement.parameters() {
        Some(Either::Left(types)) => types,
        _ => &[],
    };
    let arguments = encode::arguments(parameters, types)?;
    if let Some(collector) = &mut collector {
        let columns = statement.columns().iter();
        collector.begin(columns.filter(|column| !decode::is_hidden(column)).map(|column| column.name()))?;
    }
    let mut changed = 0;
    let mut kinds = None;
    let mut stream = connection.fetch_many(sqlx::query_with(AssertSqlSafe(text), arguments));
    while let Some(item) = stream.try_next().await.map_err(Failure::from_driver)? {
        match (item, &mut collector) {
            (Either::Left(done), _) => changed = done.rows_affected(),
            (Either::Right(row), Some(collector)) => {
                let kinds = kinds.get_or_insert_with(|| decode::kinds(&row));
                let cells = kinds.iter().map(|(index, kind)| decode::cell(&row, *index, *kind));
                collector.row(cells).map_err(Failure::Abandoned)?;
            }
            (Either::Right(_), None) => {}
        }
    }
    Ok(changed)
}
