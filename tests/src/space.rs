//! What a test gets of PostgreSQL, Redis and RabbitMQ: a database, keys and queues of its own, gone when it is over.
//!
//! It touches nothing in a shared server that does not carry its own name.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use berth_test_servers::{Kind, find_program};
use lapin::options::{
    BasicGetOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties};

/// What `cargo xtask test` sets for the second run of the promises.
const STACK_VARIABLE: &str = "BERTH_TEST_STACK";
/// The waits between deliveries that have a place on the broker, in milliseconds.
const WAITS_MS: [u64; 7] = [1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000, 86_400_000];
/// PostgreSQL refuses a second copy of its template at the same moment.
const CREATE_ATTEMPTS: u32 = 40;
const CREATE_PAUSE: Duration = Duration::from_millis(250);
/// How long taking it all away may take.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(20);

/// Where the three servers are.
#[derive(Clone, Debug)]
pub struct Urls {
    pub postgres: String,
    pub redis: String,
    pub amqp: String,
}

impl Urls {
    /// The servers that `cargo xtask test` found or started.
    ///
    /// # Panics
    /// Where it was not told where they are.
    #[must_use]
    pub fn given() -> Self {
        let url = |kind: Kind| {
            let name = kind.variable();
            std::env::var(name)
                .unwrap_or_else(|_| panic!("{name} must say where {} is; `cargo xtask test` sets it", kind.name()))
        };
        Self { postgres: url(Kind::Postgres), redis: url(Kind::Redis), amqp: url(Kind::Rabbit) }
    }
}

/// A part of the servers that belongs to one test.
#[derive(Debug)]
pub struct Space {
    urls: Urls,
    /// The database, and what stands before every other name.
    name: String,
}

impl Space {
    /// On the servers that were given, when this run of the tests is on servers.
    #[must_use]
    pub fn of_this_run() -> Option<Arc<Self>> {
        match std::env::var(STACK_VARIABLE).as_deref() {
            Ok("servers") => Some(Self::on(Urls::given())),
            _ => None,
        }
    }

    /// On these servers.
    ///
    /// # Panics
    /// When the database cannot be made.
    #[must_use]
    pub fn on(urls: Urls) -> Arc<Self> {
        let space = Self { urls, name: format!("berth_{}", uuid::Uuid::now_v7().simple()) };
        let statement = format!("create database {}", space.name);
        let mut said = String::new();
        for _ in 0..CREATE_ATTEMPTS {
            match space.psql(&space.urls.postgres, &statement) {
                Ok(_) => return Arc::new(space),
                Err(reason) => said = reason,
            }
            std::thread::sleep(CREATE_PAUSE);
        }
        panic!("no database for the test: {said}");
    }

    /// The URL of its database.
    #[must_use]
    pub fn database_url(&self) -> String {
        let server = self.urls.postgres.rsplit_once('/').map_or(self.urls.postgres.as_str(), |(server, _)| server);
        format!("{server}/{}", self.name)
    }

    /// The first column of what a statement answers in its database, a line a row.
    ///
    /// # Panics
    /// When the statement fails.
    #[must_use]
    pub fn ask(&self, statement: &str) -> Vec<String> {
        let answer = self.psql(&self.database_url(), statement);
        answer.unwrap_or_else(|reason| panic!("{statement}: {reason}")).lines().map(str::to_owned).collect()
    }

    /// Every key of it in the cache, with what lies there.
    ///
    /// # Panics
    /// When it cannot be read, or something else than a text lies at a key.
    #[must_use]
    pub fn cached(&self) -> Vec<u8> {
        let read = || -> redis::RedisResult<Vec<u8>> {
            let mut connection = redis::Client::open(self.urls.redis.as_str())?.get_connection()?;
            let mut all = Vec::new();
            for key in self.keys(&mut connection)? {
                // None: its time has ended meanwhile.
                let value: Option<Vec<u8>> = redis::cmd("GET").arg(&key).query(&mut connection)?;
                all.extend([key.into_bytes(), value.unwrap_or_default()].join(&b'\n'));
                all.push(b'\n');
            }
            Ok(all)
        };
        read().unwrap_or_else(|error| panic!("the cache of the test: {error}"))
    }

    /// Hears from now on every event that hosts publish on it. One must have been started.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn tap(&self) -> Tap {
        let tap = async {
            let connection = Connection::connect(&self.urls.amqp, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            // The broker names it, and takes it away with the connection.
            let options = QueueDeclareOptions::exclusive();
            let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?.name().clone();
            let (events, options) = (self.events().into(), QueueBindOptions::default());
            channel.queue_bind(queue.clone(), events, "#".into(), options, FieldTable::default()).await?;
            lapin::Result::Ok(Tap { connection, channel, queue })
        };
        tap.await.unwrap_or_else(|error| panic!("the broker of the test: {error}"))
    }

    /// The exchange of all events.
    fn events(&self) -> String {
        format!("{}.berth.events", self.name)
    }

    /// What tells a host to use it.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        [
            ("BERTH_DATABASE_URL", self.database_url()),
            ("BERTH_CACHE_URL", self.urls.redis.clone()),
            ("BERTH_QUEUE_URL", self.urls.amqp.clone()),
            ("BERTH_NAMESPACE", self.name.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn psql(&self, url: &str, statement: &str) -> Result<String, String> {
        let psql = find_program("psql").ok_or("there is no psql")?;
        let mut command = Command::new(psql);
        command.args(["--no-password", "--quiet", "--no-psqlrc", "--tuples-only", "--no-align"]);
        command.args(["--dbname", url, "--command", statement]).env("PGCONNECT_TIMEOUT", "3");
        let output = command.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Removes queues and exchanges from the broker.
    async fn leave_broker(&self, plugins: &[String]) -> lapin::Result<()> {
        let connection = Connection::connect(&self.urls.amqp, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let (queues, exchanges) = (QueueDeleteOptions::default(), ExchangeDeleteOptions::default());
        let name = |rest: String| format!("{}.{rest}", self.name);
        for plugin in plugins {
            for queue in [name(format!("{plugin}-queue")), name(format!("{plugin}.dlq"))] {
                channel.queue_delete(queue.into(), queues).await?;
            }
        }
        for wait in WAITS_MS {
            let place = name(format!("berth.retry.{wait}"));
            channel.queue_delete(place.clone().into(), queues).await?;
            channel.exchange_delete(place.into(), exchanges).await?;
        }
        channel.exchange_delete(self.events().into(), exchanges).await?;
        connection.close(200, "done".into()).await
    }

    fn keys(&self, connection: &mut redis::Connection) -> redis::RedisResult<Vec<String>> {
        redis::cmd("KEYS").arg(format!("berth:n:{}:*", self.name)).query(connection)
    }

    /// Removes keys from the cache.
    fn leave_cache(&self) -> redis::RedisResult<()> {
        let mut connection = redis::Client::open(self.urls.redis.as_str())?.get_connection()?;
        for keys in self.keys(&mut connection)?.chunks(1_000) {
            redis::cmd("UNLINK").arg(keys).exec(&mut connection)?;
        }
        Ok(())
    }
}

/// What the broker gave to a queue of the test's own.
pub struct Tap {
    connection: Connection,
    channel: Channel,
    queue: ShortString,
}

impl Tap {
    /// Everything that was published, with what was written on it.
    ///
    /// # Panics
    /// When the broker does not hand it out.
    pub async fn heard(self) -> Vec<u8> {
        let mut all = Vec::new();
        let drain = async {
            let options = BasicGetOptions { no_ack: true };
            while let Some(message) = self.channel.basic_get(self.queue.clone(), options).await? {
                let delivery = message.delivery;
                all.extend(format!("{} {:?}\n", delivery.routing_key, delivery.properties).into_bytes());
                all.extend(delivery.data);
            }
            self.connection.close(200, "heard".into()).await
        };
        drain.await.unwrap_or_else(|error| panic!("the broker of the test: {error}"));
        all
    }
}

impl Drop for Space {
    /// Best effort: a server that the test has stopped takes everything with it.
    fn drop(&mut self) {
        let plugins = self.psql(&self.database_url(), "select name from berth_plugins").unwrap_or_default();
        let plugins: Vec<String> = plugins.lines().map(str::to_owned).collect();
        let _ = self.psql(&self.urls.postgres, &format!("drop database if exists {} with (force)", self.name));
        let _ = self.leave_cache();
        // A test's own runtime cannot be waited on from here.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    let leaving = self.leave_broker(&plugins);
                    let _ = runtime.block_on(async { tokio::time::timeout(FAREWELL_PATIENCE, leaving).await });
                }
            });
        });
    }
}
