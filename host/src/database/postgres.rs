//! PostgreSQL behind a bounded pool.
//!
//! A connection is not tested before each use, which saves a round trip. A read that meets a dead connection is tried
//! once more on a tested one; a write never is, since nobody knows whether it happened.

mod decode;
mod encode;
mod error;
mod numeric;

use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Column as _, Connection as _, Either, Executor as _, SqlSafeStr as _, Statement as _};

use super::collect::Collector;
use super::lexical::is_read;
use super::{DatabaseError, DatabaseOptions, Value};
use error::{from_driver, is_dead, is_stale};

/// How often a read is prepared again while the schema changes under it; after that it is a conflict.
const STALE_ATTEMPTS_MAX: u32 = 5;

/// Prepared statements a connection keeps.
const STATEMENTS_CACHED: usize = 256;
/// A connection that was idle for longer is tested before it is used.
const IDLE_UNTESTED_MAX: Duration = Duration::from_secs(10);
/// How long the server lets a transaction sit idle; the capability room ends a guest's after ten seconds.
const IDLE_TRANSACTION_MS_MAX: u64 = 30_000;
/// The server stops a statement whose connection we have closed within this time, and with it gives back its locks.
/// Versions before 14 have no such setting, and then this does nothing.
const CONNECTION_CHECK: &str = "SELECT set_config(name, '200', false) FROM pg_settings \
                                WHERE name = 'client_connection_check_interval'";
/// How much longer than the statement's own deadline we wait for the server to say so.
const GRACE: Duration = Duration::from_secs(1);
/// How long a migration waits for another host's migration.
const MIGRATION_LOCK_MS_MAX: u64 = 60_000;
/// The advisory lock of migrations: "berth" as a number.
const MIGRATION_LOCK: i64 = 0x62_65_72_74_68;

/// The pool. Cheap to clone.
#[derive(Clone)]
pub(super) struct Postgres {
    pool: PgPool,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
}

/// An open transaction.
pub(super) struct PostgresTransaction {
    /// None once it has ended, or after a statement was abandoned.
    connection: Option<PoolConnection<sqlx::Postgres>>,
}

impl Postgres {
    pub(super) async fn open(url: &str, options: &DatabaseOptions) -> Result<Self, DatabaseError> {
        let connect = PgConnectOptions::from_str(url)
            .map_err(|_| DatabaseError::Invalid("the database URL is malformed".to_owned()))?
            .application_name("berth")
            .statement_cache_capacity(STATEMENTS_CACHED);
        let session: Arc<str> = format!(
            "SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
             SET TIME ZONE 'UTC'; SET standard_conforming_strings = on",
            options.statement_timeout.as_millis(),
            options.lock_timeout.as_millis(),
            IDLE_TRANSACTION_MS_MAX
        )
        .into();
        let pool = PgPoolOptions::new()
            .max_connections(options.connections_max)
            .acquire_timeout(options.wait_max)
            .test_before_acquire(false)
            .before_acquire(|connection, idle| {
                Box::pin(async move {
                    if idle.idle_for > IDLE_UNTESTED_MAX {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                let session = Arc::clone(&session);
                Box::pin(async move {
                    connection.execute(AssertSqlSafe(session)).await?;
                    connection.execute(CONNECTION_CHECK).await?;
                    Ok(())
                })
            })
            .connect_with(connect)
            .await
            .map_err(|error| match error {
                sqlx::Error::PoolTimedOut => DatabaseError::Unavailable,
                error => from_driver(error),
            })?;
        Ok(Self { pool, waiting: Arc::default(), waiting_max: options.waiting_max })
    }

    /// Runs one statement outside a transaction.
    pub(super) async fn fetch(
        &self,
        sql: &str,
        parameters: &[Value],
        collector: &mut Collector,
    ) -> Result<(), DatabaseError> {
        if !is_read(sql) {
            // A statement that changes rows and answers more than the caps allow must not have happened.
            let mut transaction = self.begin().await?;
            transaction.fetch(sql, parameters, collector).await?;
            return transaction.commit().await;
        }
        let mut busy = Busy::new(self.acquire().await?);
        let timeout = collector.limits().timeout;
        match run(&mut busy, sql, parameters, timeout, Some(&mut *collector)).await {
            Err(Failure::Dead) => {
                drop(busy);
                collector.restart();
                let mut busy = Busy::new(self.acquire_tested().await?);
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
        sql: &str,
        parameters: &[Value],
        timeout: Duration,
    ) -> Result<u64, DatabaseError> {
        let mut busy = Busy::new(self.acquire().await?);
        match run(&mut busy, sql, parameters, timeout, None).await {
            Err(Failure::Stale) => {
                busy.connection()?.clear_cached_statements().await.map_err(from_driver)?;
                let outcome = run(&mut busy, sql, parameters, timeout, None).await;
                finish(busy, outcome)
            }
            outcome => finish(busy, outcome),
        }
    }

    pub(super) async fn begin(&self) -> Result<PostgresTransaction, DatabaseError> {
        let mut busy = Busy::new(self.acquire().await?);
        match busy.connection()?.execute("BEGIN").await {
            Ok(_) => {}
            Err(error) if is_dead(&error) => {
                drop(busy);
                busy = Busy::new(self.acquire_tested().await?);
                busy.connection()?.execute("BEGIN").await.map_err(from_driver)?;
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
        let mut transaction = self.begin().await?;
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

    async fn acquire(&self) -> Result<PoolConnection<sqlx::Postgres>, DatabaseError> {
        let _waiting = Waiting::enter(&self.waiting, self.waiting_max)?;
        self.pool.acquire().await.map_err(|error| match error {
            // Waited in vain: either all connections are used, or no new one could be made.
            sqlx::Error::PoolTimedOut if self.pool.size() < self.pool.options().get_max_connections() => {
                tracing::error!("no connection to the database could be made");
                DatabaseError::Unavailable
            }
            error => from_driver(error),
        })
    }

    /// A connection that has just answered; dead ones on the way are closed.
    async fn acquire_tested(&self) -> Result<PoolConnection<sqlx::Postgres>, DatabaseError> {
        for _ in 0..=self.pool.options().get_max_connections() {
            let mut busy = Busy::new(self.acquire().await?);
            if busy.connection()?.ping().await.is_ok()
                && let Some(connection) = busy.finish()
            {
                return Ok(connection);
            }
        }
        Err(DatabaseError::Unavailable)
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
        let done = busy.connection()?.execute("COMMIT").await.map_err(from_driver);
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
        self.connection.take().map(Busy::new).ok_or(DatabaseError::Unavailable)
    }
}

impl Drop for PostgresTransaction {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(roll_back(connection))),
            Err(_) => drop(Busy::new(connection)),
        }
    }
}

/// Rolls back; a connection that cannot is closed, which has the same effect.
async fn roll_back(connection: PoolConnection<sqlx::Postgres>) {
    let mut busy = Busy::new(connection);
    let Ok(connection) = busy.connection() else { return };
    // The schema may have changed under a failed statement: forget it together with the transaction.
    if connection.execute("ROLLBACK").await.is_ok() {
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
        collector.begin(statement.columns().iter().map(|column| column.name()))?;
    }
    let mut changed = 0;
    let mut kinds = None;
    let mut stream = connection.fetch_many(sqlx::query_with(AssertSqlSafe(text), arguments));
    while let Some(item) = stream.try_next().await.map_err(Failure::from_driver)? {
        match (item, &mut collector) {
            (Either::Left(done), _) => changed = done.rows_affected(),
            (Either::Right(row), Some(collector)) => {
                let kinds = kinds.get_or_insert_with(|| decode::kinds(&row));
                let cells = kinds.iter().enumerate().map(|(index, kind)| decode::cell(&row, index, *kind));
                collector.row(cells).map_err(Failure::Abandoned)?;
            }
            (Either::Right(_), None) => {}
        }
    }
    Ok(changed)
}

/// A connection in the middle of a statement. Dropped so, it is closed and not given to anybody else.
struct Busy(Option<PoolConnection<sqlx::Postgres>>);

impl Busy {
    fn new(connection: PoolConnection<sqlx::Postgres>) -> Self {
        Self(Some(connection))
    }

    fn connection(&mut self) -> Result<&mut PgConnection, DatabaseError> {
        self.0.as_deref_mut().ok_or(DatabaseError::Unavailable)
    }

    /// The statement is over.
    fn finish(mut self) -> Option<PoolConnection<sqlx::Postgres>> {
        self.0.take()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.close_on_drop();
        }
    }
}

/// A place in the queue for connections.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, max: usize) -> Result<Self, DatabaseError> {
        let place = Self(count);
        if count.fetch_add(1, Ordering::AcqRel) >= max { Err(DatabaseError::Busy) } else { Ok(place) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
