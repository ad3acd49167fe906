//! The cache in Redis, shared by all hosts: one multiplexed connection that reconnects by itself.
//!
//! It must never use a command whose cost grows with the number of keys (`KEYS`, `SCAN`).

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{
    AsyncCommands, AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, ExistenceCheck, RedisError, Script,
    ServerErrorKind, SetExpiry, SetOptions,
};

use super::backend::{CacheBackend, CacheError};

/// What every key of Berth begins with, so that a Redis may be shared with others.
const PREFIX: &str = "berth:";
/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take before the cache counts as lost.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to reconnect.
const RECONNECT_DELAY_MAX: Duration = Duration::from_millis(500);
/// Attempts to reconnect before the waiting calls are told; the next call begins anew.
const RECONNECT_ATTEMPTS: usize = 1;
/// The oldest version that will do.
const VERSION_MIN: u32 = 6;
/// Commands waiting for the connection; more wait for a place.
const PENDING_MAX: usize = 1024;

/// Adds to a counter and sets its time to live only when this call created it. The sum is read back as text, because a
/// number in the script loses digits beyond 2^53. Answers nothing when an existing value is no number or overflows.
static INCREMENT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local existed = redis.call('EXISTS', KEYS[1]) == 1
         local sum = redis.pcall('INCRBY', KEYS[1], ARGV[1])
         if type(sum) == 'table' and sum.err then
           if existed then return false end
           return sum
         end
         if not existed then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
         return redis.call('GET', KEYS[1])",
    )
});

/// See the file's head.
pub(crate) struct RedisCache {
    connection: ConnectionManager,
    prefix: String,
}

impl RedisCache {
    /// Prepares the connection; it is made with the first command, so Redis need not be there yet.
    pub(crate) fn open(url: &str, namespace: &str) -> Result<Self, CacheError> {
        if namespace.is_empty() {
            return Self::with_prefix(url, PREFIX);
        }
        // The host's own keys begin with `h:`, guests' with `p:`: no namespace can be taken for one of them.
        Self::with_prefix(url, &format!("{PREFIX}n:{namespace}:"))
    }

    /// Says what is wrong with the server for good. One that is not there at the moment is nothing of the kind: it is looked
    /// for with every command.
    pub(crate) async fn judge(url: &str) -> Result<(), CacheError> {
        const MALFORMED: CacheError = CacheError::Invalid("the cache's address is malformed");
        let client = Client::open(url).map_err(|_| MALFORMED)?;
        if let ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } =
            client.get_connection_info().addr()
        {
            let found = tokio::net::lookup_host((host.as_str(), *port)).await;
            found.map(drop).map_err(|_| CacheError::Invalid("no address is known of its host"))?;
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let met = async {
            let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            redis::cmd("PING").exec_async(&mut connection).await?;
            // As many kinds of commands as are used, on a key that nobody else has.
            let key = format!("{PREFIX}judge:{}", uuid::Uuid::now_v7().simple());
            redis::cmd("SET").arg(&key).arg("1").arg("PX").arg(1_000).exec_async(&mut connection).await?;
            redis::cmd("MGET").arg(&key).exec_async(&mut connection).await?;
            redis::cmd("EVAL")
                .arg("return redis.call('INCRBY', KEYS[1], 1)")
                .arg(1)
                .arg(&key)
                .exec_async(&mut connection)
                .await?;
            redis::cmd("UNLINK").arg(&key).exec_async(&mut connection).await?;
            redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await
        };
        let information = match met.await {
            Err(error) if error.code() == Some("NOAUTH") => {
                return Err(CacheError::Invalid("the server wants a password"));
            }
            Err(error) if error.kind() == ErrorKind::AuthenticationFailed => {
                return Err(CacheError::Invalid("the server refuses the user or the password"));
            }
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => {
                return Err(CacheError::Invalid(
                    "the user lacks rights: it needs PING, INFO, EVAL, and the commands on strings for keys below berth:",
                ));
            }
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) => {
                return Err(CacheError::Invalid("the server is a replica that nothing can be written to"));
            }
            Err(error) if error.code() == Some("OOM") => {
                return Err(CacheError::Invalid(
                    "the server's memory is full and it removes nothing for a new key: a larger maxmemory or another \
                     maxmemory-policy, as allkeys-lru, is needed",
                ));
            }
            Err(_) => return Ok(()),
            Ok(information) => information,
        };
        let version: Option<u32> =
            information.lines().find_map(|line| line.strip_prefix("redis_version:")?.split('.').next()?.parse().ok());
        match version {
            Some(version) if version < VERSION_MIN => Err(CacheError::Invalid("the server is older than Redis 6")),
            _ => Ok(()),
        }
    }

    /// The same under another prefix.
    pub(crate) fn with_prefix(url: &str, prefix: &str) -> Result<Self, CacheError> {
        if url.starts_with("rediss:") {
            // The driver takes the process-wide provider and panics when there are several to choose from and none is
            // chosen. An error means that one is.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = Client::open(url).map_err(|_| CacheError::Invalid("the cache's address is malformed"))?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_max_delay(RECONNECT_DELAY_MAX)
            .set_number_of_retries(RECONNECT_ATTEMPTS)
            .set_pipeline_buffer_size(PENDING_MAX);
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(unavailable)?;
        Ok(Self { connection, prefix: prefix.to_owned() })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

#[async_trait]
impl CacheBackend for RedisCache {
    fn kind(&self) -> &'static str {
        "redis"
    }

    async fn ping(&self) -> Result<(), CacheError> {
        let mut connection = self.connection.clone();
        redis::cmd("PING").exec_async(&mut connection).await.map_err(unavailable)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        let mut connection = self.connection.clone();
        let value: Option<Vec<u8>> = connection.get(self.key(key)).await.map_err(unavailable)?;
        Ok(value.map(Bytes::from))
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, CacheError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        // A pipeline and not MGET: the keys of one call may lie on several nodes of a cluster behind a proxy.
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.get(self.key(key));
        }
        let mut connection = self.connection.clone();
        let values: Vec<Option<Vec<u8>>> = pipeline.query_async(&mut connection).await.map_err(unavailable)?;
        Ok(values.into_iter().map(|value| value.map(Bytes::from)).collect())
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CacheError> {
        let mut connection = self.connection.clone();
        connection.pset_ex::<_, _, ()>(self.key(key), value.as_ref(), milliseconds(ttl)).await.map_err(unavailable)
    }

    async fn delete(&self, key: &str) -> Result<(), CacheError> {
        let mut connection = self.connection.clone();
        connection.unlink::<_, ()>(self.key(key)).await.map_err(unavailable)
    }

    async fn increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64, CacheError> {
        let mut connection = self.connection.clone();
        let mut call = INCREMENT.key(self.key(key));
        call.arg(delta).arg(milliseconds(ttl));
        let sum: Option<i64> = call.invoke_async(&mut connection).await.map_err(unavailable)?;
        sum.ok_or(CacheError::Invalid("the value is not a whole number, or the counter would overflow"))
    }

    async fn add_if_absent(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool, CacheError> {
        let mut connection = self.connection.clone();
        let options =
            SetOptions::default().conditional_set(ExistenceCheck::NX).with_expiration(SetExpiry::PX(milliseconds(ttl)));
        let stored: Option<String> =
            connection.set_options(self.key(key), value.as_ref(), options).await.map_err(unavailable)?;
        Ok(stored.is_some())
    }

    async fn expire(&self, key: &str, ttl: Duration) -> Result<bool, CacheError> {
        let mut connection = self.connection.clone();
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        connection.pexpire(self.key(key), ttl_ms).await.map_err(unavailable)
    }
}

fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

fn unavailable(error: RedisError) -> CacheError {
    CacheError::Unavailable(Some(Box::new(error)))
}
