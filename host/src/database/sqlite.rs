//! The embedded database: one SQLite file in WAL mode with one writing connection and a few reading ones.
//!
//! Every write and every transaction goes through the one writer, so that it never meets a lock of our own making;
//! who waits for it stands in a bounded queue. `synchronous=FULL`: what was acknowledged survives a power cut.

mod decode;
mod error;
mod function;
mod lane;
mod texts;
mod vectors;
mod wall;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Column as _, Either, Executor as _, Row as _, SqlSafeStr as _, Statement as _};

use super::collect::Collector;
use super::lexical::{is_read, parameter_count};
use super::waiting::Turn;
use super::{DatabaseError, DatabaseOptions, Value};
use error::from_driver;
use lane::{Busy, Lane, LaneOptions, Lease};

/// How long a statement may run over its deadline before the connection is given up: the deadline itself is enforced
/// inside SQLite, this is only for a disk that hangs.
const GRACE: Duration = Duration::from_secs(3);
/// For BEGIN, COMMIT and ROLLBACK, which are never interrupted.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(15);
/// Memory SQLite may use in this process: a statement that wants more fails.
const HEAP_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Prepared statements a connection keeps.
const STATEMENTS_CACHED: usize = 256;

/// The lanes of one file. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sqlite {
    writer: Arc<Lane>,
    readers: Arc<Lane>,
}

/// Prefixes of the tables that a guest's statement may touch.
type Tables = Arc<[String]>;

/// An open transaction on the writer.
pub(super) struct SqliteTransaction {
    /// None once it has ended.
    lease: Option<Lease>,
    exclusive: Option<Exclusive>,
}

/// Keeps readers out while the schema changes; afterwards all connections are made anew before their next use.
struct Exclusive {
    sqlite: Sqlite,
    _readers: Turn,
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        // Before the turn ends, so that nobody uses a connection that knows the older schema.
        self.sqlite.writer.renew();
        self.sqlite.readers.renew();
    }
}

impl Sqlite {
    /// Opens or makes the file; a new one is readable by its owner alone.
    pub(super) async fn open(path: &Path, options: &DatabaseOptions) -> Result<Self, DatabaseError> {
        create(path)?;
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(options.lock_timeout)
            .statement_cache_capacity(STATEMENTS_CACHED)
            .pragma("trusted_schema", "OFF")
            // As in PostgreSQL, LIKE tells upper from lower case.
            .pragma("case_sensitive_like", "ON")
            .pragma("hard_heap_limit", HEAP_BYTES_MAX.to_string())
            .pragma("journal_size_limit", "67108864");
        let lane = LaneOptions {
            connect: connect.clone(),
            connections_max: 1,
            waiting_max: options.waiting_max,
            wait_max: options.wait_max,
        };
        let writer = Lane::new(lane.clone());
        let readers = Lane::new(LaneOptions {
            connect: connect.pragma("query_only", "ON"),
            connections_max: options.readers_max,
            ..lane
        });
        // Opened once now, so that a file that is no database is found at the start.
        drop(writer.acquire().await?);
        Ok(Self { writer, readers })
    }

    /// Runs one statement outside a transaction: a plain read on a reader, anything else on the writer.
    pub(super) async fn fetch(
        &self,
        sql: &str,
        tables: Option<&Tables>,
        parameters: &[Value],
        collector: &mut Collector,
    ) -> Result<(), DatabaseError> {
        if is_read(sql) {
            let mut lease = self.readers.acquire().await?;
            let timeout = collector.limits().timeout;
            let mut read = run(&mut lease, sql, tables, parameters, timeout, Some(&mut *collector)).await;
            if !lease.is_alive() && matches!(read, Err(DatabaseError::Unavailable)) {
                // The driver's thread is gone, as happens when another process changes the schema: once more.
                drop(lease);
                collector.restart();
                let mut lease = self.readers.acquire().await?;
                read = run(&mut lease, sql, tables, parameters, timeout, Some(collector)).await;
            }
            return read.map(|_| ());
        }
        // A statement that changes rows and answers more than the caps allow must not have happened.
        let mut transaction = self.begin().await?;
        transaction.fetch(sql, tables, parameters, collector).await?;
        transaction.commit().await
    }

    /// Runs one statement for its effect.
    pub(super) async fn execute(
        &self,
        sql: &str,
        tables: Option<&Tables>,
        parameters: &[Value],
        timeout: Duration,
    ) -> Result<u64, DatabaseError> {
        let mut lease = self.writer.acquire().await?;
        run(&mut lease, sql, tables, parameters, timeout, None).await
    }

    /// Begins a transaction that holds the write lock from the start, so that it cannot fail for it later.
    pub(super) async fn begin(&self) -> Result<SqliteTransaction, DatabaseError> {
        let mut lease = self.writer.acquire().await?;
        control(&mut lease, "BEGIN IMMEDIATE").await?;
        Ok(SqliteTransaction { lease: Some(lease), exclusive: None })
    }

    /// The same, alone: no reader runs until it ends. For changes of the schema.
    pub(super) async fn begin_exclusive(&self) -> Result<SqliteTransaction, DatabaseError> {
        let mut transaction = self.begin().await?;
        transaction.exclusive = Some(Exclusive { sqlite: self.clone(), _readers: self.readers.acquire_all().await? });
        Ok(transaction)
    }
}

impl SqliteTransaction {
    pub(super) async fn fetch(
        &mut self,
        sql: &str,
        tables: Option<&Tables>,
        parameters: &[Value],
        collector: &mut Collector,
    ) -> Result<(), DatabaseError> {
        let timeout = collector.limits().timeout;
        run(self.lease()?, sql, tables, parameters, timeout, Some(collector)).await.map(|_| ())
    }

    pub(super) async fn execute(
        &mut self,
        sql: &str,
        tables: Option<&Tables>,
        parameters: &[Value],
        timeout: Duration,
    ) -> Result<u64, DatabaseError> {
        run(self.lease()?, sql, tables, parameters, timeout, None).await
    }

    pub(super) async fn commit(mut self) -> Result<(), DatabaseError> {
        let committed = control(self.lease()?, "COMMIT").await;
        if committed.is_ok() {
            self.exclusive = None;
            self.lease = None;
        }
        committed
    }

    pub(super) async fn rollback(mut self) -> Result<(), DatabaseError> {
        let Some(lease) = self.lease.take() else { return Ok(()) };
        roll_back(lease).await;
        Ok(())
    }

    fn lease(&mut self) -> Result<&mut Lease, DatabaseError> {
        self.lease.as_mut().ok_or(DatabaseError::Unavailable)
    }
}

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        if !lease.is_alive() {
            return; // its connection is being closed, which rolls back
        }
        let exclusive = self.exclusive.take();
        match tokio::runtime::Handle::try_current() {
            // The turn goes with it: the next writer begins after the rollback.
            Ok(runtime) => drop(runtime.spawn(async move {
                roll_back(lease).await;
                drop(exclusive);
            })),
            Err(_) => lease.close(),
        }
    }
}

/// Rolls back; a connection that cannot is closed, which has the same effect.
async fn roll_back(mut lease: Lease) {
    if control(&mut lease, "ROLLBACK").await.is_err() {
        lease.close();
    }
}

/// BEGIN, COMMIT or ROLLBACK.
async fn control(lease: &mut Lease, sql: &'static str) -> Result<(), DatabaseError> {
    let mut busy = lease.take()?;
    let connection = busy.connection()?;
    connection.clear_deadline();
    connection.gate.set(None);
    let done = tokio::time::timeout(CONTROL_TIMEOUT, connection.driver.execute(sql)).await;
    match done {
        // Without its thread the connection is of no use.
        Ok(Err(error @ sqlx::Error::WorkerCrashed)) => Err(from_driver(error)),
        Ok(done) => {
            lease.put_back(busy);
            done.map(|_| ()).map_err(from_driver)
        }
        Err(_) => Err(DatabaseError::Unavailable),
    }
}

/// Runs one statement to its end, or to the collector's cap. Returns how many rows it changed.
async fn run(
    lease: &mut Lease,
    sql: &str,
    tables: Option<&Tables>,
    parameters: &[Value],
    timeout: Duration,
    collector: Option<&mut Collector>,
) -> Result<u64, DatabaseError> {
    // SQLite would take a missing parameter for NULL; PostgreSQL refuses it, so do we.
    let expected = parameter_count(sql);
    if expected != parameters.len() {
        let given = parameters.len();
        return Err(DatabaseError::Invalid(format!("the statement takes {expected} parameters and was given {given}")));
    }
    let arguments = decode::arguments(parameters)?;
    let mut busy = lease.take()?;
    busy.connection()?.gate.set(tables);
    let outcome = tokio::time::timeout(timeout + GRACE, step(&mut busy, sql, arguments, timeout, collector)).await;
    match outcome {
        Ok(Err(Failure::Crashed)) => {
            tracing::error!("the thread of a connection to the database file has ended");
            Err(DatabaseError::Unavailable)
        }
        Ok(outcome) => {
            lease.put_back(busy);
            outcome.map_err(|failure| match failure {
                Failure::Ended(error) => error,
                Failure::Crashed => DatabaseError::Unavailable,
            })
        }
        Err(_) => Err(DatabaseError::Timeout),
    }
}

/// Why a statement failed.
enum Failure {
    /// The connection's thread is gone.
    Crashed,
    /// The connection is fine.
    Ended(DatabaseError),
}

impl Failure {
    fn from_driver(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::WorkerCrashed => Self::Crashed,
            error => Self::Ended(from_driver(error)),
        }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::Ended(error)
    }
}

async fn step(
    busy: &mut Busy,
    sql: &str,
    arguments: sqlx::sqlite::SqliteArguments,
    timeout: Duration,
    mut collector: Option<&mut Collector>,
) -> Result<u64, Failure> {
    let connection = busy.connection()?;
    connection.set_deadline(timeout);
    let mut changed = 0;
    let mut declared = None;
    {
        let mut stream = connection.driver.fetch_many(sqlx::query_with(AssertSqlSafe(sql), arguments));
        while let Some(item) = stream.try_next().await.map_err(Failure::from_driver)? {
            match (item, &mut collector) {
                (Either::Left(done), _) => changed = done.rows_affected(),
                (Either::Right(row), Some(collector)) => {
                    if declared.is_none() {
                        collector.begin(row.columns().iter().map(|column| column.name()))?;
                    }
                    let declared =
                        declared.get_or_insert_with(|| decode::declared(&row, |column| collector.hint(column)));
                    collector.row(declared.iter().enumerate().map(|(index, kind)| decode::cell(&row, index, *kind)))?;
                }
                (Either::Right(_), None) => {}
            }
        }
    }
    if let (Some(collector), None) = (collector, declared) {
        let statement =
            connection.driver.prepare(AssertSqlSafe(sql).into_sql_str()).await.map_err(Failure::from_driver);
        collector.begin(statement?.columns().iter().map(|column| column.name()))?;
    }
    Ok(changed)
}

/// Makes the file, private to its owner, unless it is there.
fn create(path: &Path) -> Result<(), DatabaseError> {
    let made = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    made.map(drop).map_err(|error| {
        tracing::error!(%error, path = %path.display(), "the database file cannot be opened");
        DatabaseError::Unavailable
    })
}
