//! The rooms a guest may import from, and what every room may know of the plugin and the running call.
//!
//! A room checks the grant, keeps its per-call state, and links itself; only its `host.rs` names wasmtime. No room reads
//! the environment, and none knows another room's backend.

pub(crate) mod acting;
pub(crate) mod auth;
pub(crate) mod cache;
pub(crate) mod capsule;
pub(crate) mod config;
pub(crate) mod credentials;
pub(crate) mod database;
pub(crate) mod grant;
pub(crate) mod http_out;
pub(crate) mod logging;
pub(crate) mod mail;
pub(crate) mod queue;
pub(crate) mod secrets;
pub(crate) mod shims;
pub(crate) mod tape;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::principal::Call;
use grant::{Grant, Limits};

/// A named slot of the manifest: what stands in `plugins.toml` about it, parsed and judged.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    pub name: Arc<str>,
    pub grant: Grant,
    pub limits: Limits,
    /// `[plugin.config]`, sorted by key.
    pub config: BTreeMap<String, String>,
}

/// The present call, as every room sees it: which plugin runs, which build of it, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub plugin: Arc<Plugin>,
    /// The revision's digest, shortened, for log lines.
    pub revision: Arc<str>,
    pub call: Call,
}

/// Every room that has a backend, one set a host: what a store needs to serve its guest.
pub(crate) struct Rooms {
    pub cache: cache::CacheRoom,
    pub database: database::DatabaseRoom,
    pub queue: queue::QueueRoom,
    pub secrets: secrets::Vault,
    pub logging: logging::LogRoom,
    pub mail: mail::MailRoom,
    pub acting: acting::ActingRoom,
    pub http_out: Arc<http_out::Egress>,
    /// Whether calls are kept until they have ended well, or answered from a capsule.
    pub tapes: tape::Tapes,
}
