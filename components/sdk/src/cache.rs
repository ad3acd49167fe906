//! The cache: in process or Redis, namespaced by the host per plugin and organization. What is in it may vanish at any
//! time; its loss is never an error: every read answers none then, every write nothing.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use crate::{Fault, logging, platform};

/// A value, or none when it is absent, expired or the cache is away.
///
/// ```
/// use berth_sdk::cache;
/// cache::set_ttl("project:p1", &"Apollo", std::time::Duration::from_secs(300));
/// assert_eq!(cache::get::<String>("project:p1").as_deref(), Some("Apollo"));
/// ```
pub fn get<T: DeserializeOwned>(key: &str) -> Option<T> {
    let bytes = noted(platform::cache_get(key)).flatten()?;
    serde_json::from_slice(&bytes).ok()
}

/// The values of up to 500 keys in one question, in their order; none for each that is absent, or when the cache is away.
///
/// ```
/// use berth_sdk::cache;
/// cache::set_ttl("online:u1", &true, std::time::Duration::from_secs(10));
/// assert_eq!(cache::get_many::<bool>(&["online:u1", "online:u2"]), [Some(true), None]);
/// ```
pub fn get_many<T: DeserializeOwned>(keys: &[&str]) -> Vec<Option<T>> {
    if keys.is_empty() {
        return Vec::new();
    }
    let Some(values) = noted(platform::cache_get_many(keys)) else { return keys.iter().map(|_| None).collect() };
    values.into_iter().map(|bytes| serde_json::from_slice(&bytes?).ok()).collect()
}

/// Stores a value for a while.
pub fn set_ttl(key: &str, value: &impl Serialize, ttl: Duration) {
    if let Ok(bytes) = serde_json::to_vec(value) {
        noted(platform::cache_set(key, &bytes, millis(ttl)));
    }
}

/// Removes a key.
///
/// ```
/// use berth_sdk::cache;
/// cache::set_ttl("k", &1, std::time::Duration::from_secs(1));
/// cache::del("k");
/// assert_eq!(cache::get::<i64>("k"), None);
/// ```
pub fn del(key: &str) {
    noted(platform::cache_delete(key));
}

/// Adds to a counter atomically and returns the sum. This one is an error when the cache is away, so that a limit
/// built on it can refuse instead of letting everything through.
///
/// ```
/// use berth_sdk::cache;
/// let ttl = std::time::Duration::from_secs(60);
/// assert_eq!(cache::incr_by("calls", 2, ttl), Ok(2));
/// assert_eq!(cache::incr_by("calls", 1, ttl), Ok(3));
/// ```
pub fn incr_by(key: &str, delta: i64, ttl: Duration) -> Result<i64, Fault> {
    platform::cache_increment(key, delta, millis(ttl))
}

/// Stores a value only when the key is absent, atomically. True when it was stored.
///
/// ```
/// use berth_sdk::cache;
/// let ttl = std::time::Duration::from_secs(60);
/// assert_eq!(cache::add_if_absent("lock", &1, ttl), Ok(true));
/// assert_eq!(cache::add_if_absent("lock", &1, ttl), Ok(false));
/// ```
pub fn add_if_absent(key: &str, value: &impl Serialize, ttl: Duration) -> Result<bool, Fault> {
    let bytes = serde_json::to_vec(value).map_err(|error| Fault::Invalid(error.to_string()))?;
    platform::cache_add_if_absent(key, &bytes, millis(ttl))
}

/// Gives an existing key a new time to live. False when it is absent.
///
/// ```
/// assert_eq!(berth_sdk::cache::expire("absent", std::time::Duration::from_secs(1)), Ok(false));
/// ```
pub fn expire(key: &str, ttl: Duration) -> Result<bool, Fault> {
    platform::cache_expire(key, millis(ttl))
}

/// The cached value, or what `make` makes, which is then cached.
///
/// ```
/// use berth_sdk::{Problem, cache};
/// let ttl = std::time::Duration::from_secs(60);
/// let tree: Vec<String> = cache::remember("tree", ttl, || Ok::<_, Problem>(vec!["a".into()])).unwrap();
/// let again: Vec<String> = cache::remember("tree", ttl, || Err(Problem::internal())).unwrap();
/// assert_eq!(tree, again);
/// ```
pub fn remember<T: Serialize + DeserializeOwned, E>(
    key: &str,
    ttl: Duration,
    make: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    if let Some(value) = get(key) {
        return Ok(value);
    }
    let value = make()?;
    set_ttl(key, &value, ttl);
    Ok(value)
}

fn noted<T>(result: Result<T, Fault>) -> Option<T> {
    result.inspect_err(|fault| logging::debug!("the cache did not answer", fault = fault)).ok()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
