//! The pool of connections, each of which remembers on whose behalf its session stands.
//!
//! A connection is not tested before each use, which saves a round trip; only one that was idle for a while is.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, PoolError, RecycleError, RecycleResult, TimeoutType};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

use super::super::waiting::Waiting;
use super::super::{DatabaseError, DatabaseOptions};
use super::error::{from_driver, is_dead};
use super::wall::Standing;

/// A connection that was idle for longer is tested before it is used.
const IDLE_UNTESTED_MAX: Duration = Duration::from_secs(10);
/// The server stops a statement whose connection we have closed within this time, and with it gives back its locks.
const CONNECTION_CHECK_MS: u64 = 200;
/// How long the server lets a transaction sit idle; the capability room ends a guest's after ten seconds.
const IDLE_TRANSACTION_MS_MAX: u64 = 30_000;
/// How long to wait before the next attempt while the server refuses connections.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// How long a session may take for what is no statement: BEGIN, COMMIT, ROLLBACK, whose behalf it is on, whether it is there.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(15);

/// A server that hangs, or to which nothing gets through any more, is as good as gone.
pub(super) async fn in_time<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(CONTROL_TIMEOUT, asked).await {
        Ok(answered) => answered,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// A connection, and on whose behalf its session was told to work.
pub(super) struct Link {
    pub connection: PgConnection,
    pub standing: Standing,
}

/// Makes and looks after connections.
pub(super) struct Links {
    options: PgConnectOptions,
    session: Arc<str>,
}

impl Manager for Links {
    type Type = Link;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Link, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        connection.execute(AssertSqlSafe(Arc::clone(&self.session))).await?;
        Ok(Link { connection, standing: Standing::default() })
    }

    async fn recycle(&self, link: &mut Link, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        if metrics.last_used() > IDLE_UNTESTED_MAX {
            link.connection.ping().await.map_err(RecycleError::Backend)?;
        }
        Ok(())
    }
}

/// The pool. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool {
    links: deadpool::managed::Pool<Links>,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
    wait_max: Duration,
}

impl Pool {
    pub(super) fn new(connect: PgConnectOptions, options: &DatabaseOptions) -> Result<Self, DatabaseError> {
        let session = format!(
            "SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
             SET client_connection_check_interval = {CONNECTION_CHECK_MS}; SET TIME ZONE 'UTC'; SET standard_conforming_strings = on; SET client_min_messages = warning",
            options.statement_timeout.as_millis(),
            options.lock_timeout.as_millis(),
            IDLE_TRANSACTION_MS_MAX
        );
        let links = deadpool::managed::Pool::builder(Links { options: connect, session: session.into() })
            .max_size(options.connections_max as usize)
            .wait_timeout(Some(options.wait_max))
            .create_timeout(Some(options.wait_max))
            .recycle_timeout(Some(options.wait_max))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| DatabaseError::internal(error.to_string()))?;
        Ok(Self { links, waiting: Arc::default(), waiting_max: options.waiting_max, wait_max: options.wait_max })
    }

    /// A connection, whoever it stands for. While the server refuses connections, as one that restarts does, it is asked
    /// again until the waiting is over.
    pub(super) async fn acquire(&self) -> Result<Busy, DatabaseError> {
        let _waiting = Waiting::enter(&self.waiting, self.waiting_max)?;
        let deadline = Instant::now() + self.wait_max;
        loop {
            match self.links.get().await {
                Ok(link) => return Ok(Busy(Some(link))),
                Err(PoolError::Timeout(TimeoutType::Wait)) => return Err(DatabaseError::Busy),
                Err(PoolError::Backend(error)) if is_dead(&error) && Instant::now() + RECONNECT_PAUSE < deadline => {
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
                Err(PoolError::Backend(error)) => {
                    tracing::error!(%error, "no connection to the database could be made");
                    return Err(from_driver(error));
                }
                Err(error) => {
                    tracing::error!(%error, "no connection to the database could be made");
                    return Err(DatabaseError::Unavailable);
                }
            }
        }
    }

    /// A connection that has just answered; dead ones on the way are closed.
    pub(super) async fn acquire_tested(&self) -> Result<Busy, DatabaseError> {
        for _ in 0..=self.links.status().max_size {
            let mut busy = self.acquire().await?;
            match in_time(busy.connection()?.ping()).await {
                Ok(()) => return Ok(busy),
                // The others would hang as well.
                Err(sqlx::Error::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut => break,
                Err(_) => {}
            }
        }
        Err(DatabaseError::Unavailable)
    }
}

/// A connection in the middle of a statement. Dropped so, it is closed and not given to anybody else.
pub(super) struct Busy(Option<Object<Links>>);

impl Busy {
    /// Takes up a connection that was put aside between two statements of a transaction.
    pub(super) fn again(link: Object<Links>) -> Self {
        Self(Some(link))
    }

    pub(super) fn link(&mut self) -> Result<&mut Link, DatabaseError> {
        self.0.as_deref_mut().ok_or(DatabaseError::Unavailable)
    }

    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, DatabaseError> {
        self.link().map(|link| &mut link.connection)
    }

    /// The statement is over. Dropped, the connection goes back into the pool.
    pub(super) fn finish(mut self) -> Option<Object<Links>> {
        self.0.take()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(link) = self.0.take() {
            drop(Object::take(link));
        }
    }
}

/// A connection that is not in the middle of a statement.
pub(super) type Idle = Object<Links>;
