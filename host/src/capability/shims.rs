//! Standard interfaces over Berth's rooms, so that components which know nothing of Berth run unmodified:
//! `wasi:keyvalue@0.2.0-draft` over the cache, `wasi:config@0.2.0-rc.1` over the settings, `wasi:logging@0.1.0-draft` over
//! the log.
//!
//! Nothing is kept here, and no shim may do what its room would refuse. What a room cannot do answers an error.

mod host;

pub(crate) use host::{link_config, link_keyvalue, link_logging};

use super::tape::Taped;
use super::{cache, config, logging};

/// Identifiers under which the cache can be opened as a bucket. All mean the same one.
const BUCKETS: &[&str] = &["", "default", "cache"];
/// How long a value lives, as the standard knows no time to live: the longest the cache allows.
const TTL_MS: u64 = cache::TTL_MAX.as_millis() as u64;
/// Keys in one batch.
const BATCH_MAX: usize = cache::KEYS_MAX;

/// An open bucket; there is only one, so it holds nothing.
pub struct Bucket;

/// What the key-value shim sees of the running call.
pub(crate) struct KeyValueView<'a> {
    pub cache: Taped<'a, cache::View<'a>>,
    pub table: &'a mut host::Table,
}

/// What the config shim sees.
pub(crate) struct ConfigView<'a>(pub config::View<'a>);

/// What the logging shim sees.
pub(crate) struct LoggingView<'a>(pub logging::View<'a>);
