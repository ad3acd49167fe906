//! Connections to one SQLite file: a lane with one of them for writing, and one with a few for reading.
//!
//! A lease never gives back a connection whose statement was abandoned: that one is interrupted and closed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::super::DatabaseError;
use super::super::waiting::{Turn, Turns};
use super::error::from_driver;
use super::wall::Gate;
use super::{texts, vectors};

/// How many of SQLite's instructions run between two looks at the deadline: some tens of microseconds.
const INSTRUCTIONS_PER_CHECK: i32 = 4_000;
/// No deadline.
const NEVER: u64 = u64::MAX;
/// A deadline that has always passed.
const AT_ONCE: u64 = 0;

/// How a lane is sized.
#[derive(Clone, Debug)]
pub(super) struct LaneOptions {
    pub connect: SqliteConnectOptions,
    pub connections_max: usize,
    /// Callers that may wait for a connection; one more is `Busy` at once.
    pub waiting_max: usize,
    /// How long each may wait before it is `Busy`.
    pub wait_max: Duration,
}

/// A bounded set of connections with a bounded queue in front.
pub(super) struct Lane {
    options: LaneOptions,
    turns: Turns,
    idle: Mutex<Vec<Connection>>,
    /// Raised when the schema has changed.
    generation: AtomicU64,
}

/// One connection and the deadline its progress handler watches.
pub(super) struct Connection {
    pub driver: SqliteConnection,
    /// What the statement that comes next may touch.
    pub gate: Arc<Gate>,
    deadline: Arc<AtomicU64>,
    generation: u64,
}

/// A connection for as long as it is held.
pub(super) struct Lease {
    connection: Option<Connection>,
    lane: Arc<Lane>,
    _turn: Turn,
}

impl Lane {
    pub(super) fn new(options: LaneOptions) -> Arc<Self> {
        Arc::new(Self {
            turns: Turns::new(options.connections_max, options.waiting_max, options.wait_max),
            idle: Mutex::new(Vec::with_capacity(options.connections_max)),
            generation: AtomicU64::new(0),
            options,
        })
    }

    /// Waits for a connection. `Busy` when the queue is full or the wait too long.
    pub(super) async fn acquire(self: &Arc<Self>) -> Result<Lease, DatabaseError> {
        let turn = self.turns.take().await?;
        let generation = self.generation.load(Ordering::Acquire);
        // One that knows an older schema is closed, not used: the driver would count its columns wrongly.
        let idle = self.idle.lock().pop().filter(|connection| connection.generation == generation);
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect(generation).await?,
        };
        Ok(Lease { connection: Some(connection), lane: Arc::clone(self), _turn: turn })
    }

    /// Waits until nobody holds a connection, and keeps it so until the turn ends.
    pub(super) async fn acquire_all(&self) -> Result<Turn, DatabaseError> {
        self.turns.take_all().await
    }

    /// Has every connection made anew before its next use, after the schema has changed.
    pub(super) fn renew(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    async fn connect(&self, generation: u64) -> Result<Connection, DatabaseError> {
        let mut driver = self.options.connect.connect().await.map_err(from_driver)?;
        let deadline = Arc::new(AtomicU64::new(NEVER));
        let watched = Arc::clone(&deadline);
        let gate = Arc::<Gate>::default();
        let kept = Arc::clone(&gate);
        let mut handle = driver.lock_handle().await.map_err(from_driver)?;
        handle.set_progress_handler(INSTRUCTIONS_PER_CHECK, move || {
            // The driver lets go of this closure when the last statement of the connection has ended, on its own thread; until
            // then the gate may be asked.
            let _ = &kept;
            now() < watched.load(Ordering::Relaxed)
        });
        gate.install(&mut handle);
        vectors::install(&mut handle)?;
        texts::install(&mut handle)?;
        drop(handle);
        Ok(Connection { driver, gate, deadline, generation })
    }
}

impl Lease {
    /// Takes the connection out for the time of one statement. If the future that holds it is dropped, so is the
    /// connection; otherwise `put_back` returns it.
    pub(super) fn take(&mut self) -> Result<Busy, DatabaseError> {
        self.connection.take().map(|connection| Busy(Some(connection))).ok_or(DatabaseError::Unavailable)
    }

    pub(super) fn put_back(&mut self, busy: Busy) {
        self.connection = busy.finish();
    }

    /// Closes the connection instead of keeping it.
    pub(super) fn close(mut self) {
        self.connection = None;
    }

    /// Whether the connection is still there: false after a statement was abandoned.
    pub(super) fn is_alive(&self) -> bool {
        self.connection.is_some()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.lane.idle.lock().push(connection);
        }
    }
}

/// A connection in the middle of a statement.
pub(super) struct Busy(Option<Connection>);

impl Busy {
    pub(super) fn connection(&mut self) -> Result<&mut Connection, DatabaseError> {
        self.0.as_mut().ok_or(DatabaseError::Unavailable)
    }

    fn finish(mut self) -> Option<Connection> {
        self.0.take()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // The statement was abandoned: stop it, so that the driver's thread ends and closes (and so rolls back).
        if let Some(connection) = &self.0 {
            connection.deadline.store(AT_ONCE, Ordering::Relaxed);
        }
    }
}

impl Connection {
    /// The moment after which the running statement is interrupted.
    pub(super) fn set_deadline(&self, timeout: Duration) {
        let micros = u64::try_from(timeout.as_micros()).unwrap_or(NEVER);
        self.deadline.store(now().saturating_add(micros), Ordering::Relaxed);
    }

    /// Lets statements run without a deadline: for COMMIT and ROLLBACK, which must not be cut short.
    pub(super) fn clear_deadline(&self) {
        self.deadline.store(NEVER, Ordering::Relaxed);
    }
}

/// Microseconds since the first call.
fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX - 1) + 1
}
