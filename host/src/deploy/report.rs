//! What the admin API and the command line tell about plugins, builds and routes.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Build, Prefix, Slot, SlotState};

/// A deploy or rollback that switched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeployReport {
    pub plugin: String,
    /// `deploy` or `rollback`.
    pub action: &'static str,
    pub revision: i64,
    pub previous_revision: Option<i64>,
    pub sha256: String,
    pub size_bytes: u64,
    /// The component's own version.
    pub version: Option<String>,
    pub routes: usize,
    /// Names of the migrations that were applied.
    pub migrations: Vec<String>,
    /// From the first byte judged to the moment before the switch.
    pub prepare_ms: u64,
    /// How long the switch itself took.
    pub flip_us: u64,
    /// How long the old build took to finish; none when there was none, or it was not waited for.
    pub drained_ms: Option<u64>,
    /// Whether the old build's last calls were cancelled.
    pub is_cut_short: Option<bool>,
}

/// One line of a plugin's history, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HistoryEntry {
    pub id: String,
    pub plugin: String,
    /// `deploy`, `rollback` or `start`.
    pub action: String,
    /// `api` or `file`.
    pub origin: String,
    /// None for a deploy that failed.
    pub revision: Option<i64>,
    pub previous_revision: Option<i64>,
    /// Whether this line is the deploy of the build that serves.
    pub is_current: bool,
    pub sha256: String,
    pub size_bytes: i64,
    pub version: Option<String>,
    pub actor: String,
    /// `switched` or `failed`.
    pub outcome: String,
    pub reason: Option<String>,
    pub prepare_ms: i64,
    pub flip_us: Option<i64>,
    pub drained_ms: Option<i64>,
    pub is_cut_short: Option<bool>,
    #[serde(serialize_with = "milliseconds")]
    pub created_at: DateTime<Utc>,
}

/// A plugin as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PluginStatus {
    pub name: String,
    pub state: SlotState,
    pub revision: Option<i64>,
    pub version: Option<String>,
    pub sha256: Option<String>,
    pub in_flight: usize,
    pub calls: u64,
    pub traps: u64,
    pub timeouts: u64,
    /// The first line of the last trap of the present build.
    pub last_trap: Option<String>,
    /// Idle warm instances.
    pub warm: usize,
    /// Older builds that still finish what they began.
    pub draining: usize,
    pub prefixes: Vec<String>,
    pub port: Option<u16>,
    /// Routes the present build describes.
    pub routes: usize,
    /// Why there is no build.
    pub failure: Option<String>,
}

/// One line of the effective route table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RouteEntry {
    pub path: String,
    pub service: String,
    pub port: Option<u16>,
    pub state: SlotState,
}

impl PluginStatus {
    pub(super) fn of<R: Build>(slot: &Slot<R>) -> Self {
        let options = slot.options();
        let current = slot.current();
        let description = current.as_ref().and_then(|revision| revision.description());
        let statistics = current.as_ref().map(|revision| revision.statistics()).unwrap_or_default();
        Self {
            name: slot.name().to_string(),
            state: slot.state(),
            revision: current.as_ref().map(|revision| revision.number()),
            version: description.map(|described| described.version.clone()),
            sha256: current.as_ref().map(|revision| revision.digest().to_string()),
            in_flight: slot.in_flight(),
            calls: statistics.calls,
            traps: slot.traps(),
            timeouts: statistics.timeouts,
            last_trap: statistics.last_trap,
            warm: statistics.warm,
            draining: slot.draining().len(),
            prefixes: options.prefixes.iter().map(ToString::to_string).collect(),
            port: options.port,
            routes: description.map_or(0, |described| described.routes.len()),
            failure: slot.failure().filter(|_| current.is_none()).map(|reason| reason.to_string()),
        }
    }
}

impl RouteEntry {
    pub(super) fn of<R: Build>(prefix: &Prefix, slot: &Slot<R>) -> Self {
        Self {
            path: prefix.to_string(),
            service: slot.name().to_string(),
            port: slot.options().port,
            state: slot.state(),
        }
    }
}

fn milliseconds<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::database::format_timestamp(*time))
}
