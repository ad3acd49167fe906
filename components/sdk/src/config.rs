//! The plugin's settings: `[plugin.config]` in `plugins.toml`. A change takes effect on the next call.

use std::{collections::BTreeMap, str::FromStr};

use crate::{
    platform,
    problem::{Problem, Result},
};

/// One setting, parsed; none when it is absent or does not parse.
///
/// ```
/// use berth_sdk::{config, testing};
/// testing::set_config("auto_approve", "true");
/// assert_eq!(config::get::<bool>("auto_approve"), Some(true));
/// assert_eq!(config::get::<u32>("retries"), None);
/// ```
pub fn get<T: FromStr>(key: &str) -> Option<T> {
    platform::config_get(key)?.parse().ok()
}

/// One setting, or a default.
///
/// ```
/// assert_eq!(berth_sdk::config::get_or("retries", 3), 3);
/// ```
pub fn get_or<T: FromStr>(key: &str, default: T) -> T {
    get(key).unwrap_or(default)
}

/// A setting that must be there; 503 otherwise. Name it in `Service::required_config` too, so that a deploy without
/// it fails.
///
/// ```
/// assert_eq!(berth_sdk::config::require::<String>("feed_url").unwrap_err().status, 503);
/// ```
pub fn require<T: FromStr>(key: &str) -> Result<T> {
    get(key).ok_or_else(|| Problem::unavailable(format!("The setting {key} is missing or wrong.")))
}

/// Every setting.
///
/// ```
/// berth_sdk::testing::set_config("a", "1");
/// assert_eq!(berth_sdk::config::snapshot()["a"], "1");
/// ```
pub fn snapshot() -> BTreeMap<String, String> {
    platform::config_all().into_iter().collect()
}
