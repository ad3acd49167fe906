//! What the admin API and the command line tell about plugins, builds and routes.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::consent::Changes;
use super::history::Line;
use super::shadow::ComparisonReport;
use super::{Build, Prefix, Slot, SlotState, Trial, TrialMode};
use crate::plugins_file::EntryOrigin;

/// A deploy or rollback that switched.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeployReport {
    pub plugin: String,
    /// `deploy`, `rollback`, `canary`, `shadow`, `promote` or `abort`.
    pub action: &'static str,
    /// The build this is about.
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
    /// How long the switch itself took; none where nothing was switched.
    pub flip_us: Option<u64>,
    /// The share of the callers that the build gets, in percent; none where it is no canary.
    pub share: Option<f64>,
    /// For how long the build is compared with the one before it, and goes by itself when it is worse.
    pub watch_ms: Option<u64>,
    /// How long the old build took to finish; none when there was none, or it was not waited for.
    pub drained_ms: Option<u64>,
    /// Whether the old build's last calls were cancelled.
    pub is_cut_short: Option<bool>,
    /// How the build differs from the one that ran; none where nobody was asked about it, as in a rollback.
    pub changes: Option<Changes>,
}

/// What a deploy of a build would do; nothing of it was done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlanReport {
    pub plugin: String,
    /// `plan`.
    pub action: &'static str,
    /// The number that the build would get, if nobody is quicker.
    pub revision: i64,
    /// The build that runs.
    pub previous_revision: Option<i64>,
    pub sha256: String,
    pub size_bytes: u64,
    /// The component's own version.
    pub version: Option<String>,
    pub routes: usize,
    /// Whether a trusted key has signed it; false where the host asks for no signature.
    pub is_signed: bool,
    /// Migrations that are new, in their order; all of them were judged.
    pub migrations: Vec<MigrationPlan>,
    pub changes: Changes,
    /// What the deploy has to say to be taken: `grant`, `force`, both or nothing.
    pub needs: Vec<&'static str>,
    /// How long the looking took.
    pub prepare_ms: u64,
}

/// A migration that would be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MigrationPlan {
    pub name: String,
    /// How many statements it has for this database.
    pub statements: usize,
}

/// One line of a plugin's history, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HistoryEntry {
    pub id: String,
    pub plugin: String,
    /// `deploy`, `rollback`, `canary`, `shadow`, `promote`, `abort` or `start`.
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
    /// `switched`, `started` or `ended` for a build on trial, or `failed`.
    pub outcome: String,
    /// Why it failed, why the host did it by itself, or what of it somebody has accepted.
    pub reason: Option<String>,
    /// Where the build came from, as its deployer put it.
    pub source: Option<String>,
    pub is_signed: bool,
    pub prepare_ms: i64,
    pub flip_us: Option<i64>,
    pub drained_ms: Option<i64>,
    pub is_cut_short: Option<bool>,
    #[serde(serialize_with = "milliseconds")]
    pub created_at: DateTime<Utc>,
}

/// A plugin as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PluginStatus {
    pub name: String,
    /// Where the entry comes from: `file`, `added` or `changed`.
    pub origin: EntryOrigin,
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
    /// Requests to the present build, and how many of them failed.
    pub requests: u64,
    pub failures: u64,
    /// Requests a second, over the last ten seconds, by every build.
    pub rate: f64,
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
    /// Until when, in milliseconds from now, the present build is compared with the one before it.
    pub watch_ms: Option<u64>,
    pub trial: Option<TrialStatus>,
}

/// A build on trial as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrialStatus {
    pub mode: TrialMode,
    pub revision: i64,
    pub sha256: String,
    /// Percent of the callers; 0 for a shadow.
    pub share: f64,
    #[serde(serialize_with = "milliseconds")]
    pub began_at: DateTime<Utc>,
    pub requests: u64,
    pub failures: u64,
    pub traps: u64,
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
    /// What the answers of a shadow came to.
    pub comparison: Option<ComparisonReport>,
}

impl TrialStatus {
    fn of<R: Build>(trial: &Trial<R>) -> Self {
        let reading = trial.build.meter().reading();
        Self {
            mode: trial.mode,
            revision: trial.build.number(),
            sha256: trial.build.digest().to_string(),
            share: f64::from(trial.share()) / 100.0,
            began_at: trial.began_at,
            requests: reading.requests(),
            failures: reading.failures,
            traps: trial.build.statistics().traps,
            p50_us: reading.quantile_us(0.5),
            p99_us: reading.quantile_us(0.99),
            comparison: (trial.mode == TrialMode::Shadow).then(|| trial.comparison.report()),
        }
    }
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

impl DeployReport {
    /// What a line of the history says; times of switch and drain are still to come.
    pub(super) fn of<R: Build>(line: &Line, revision: &R) -> Self {
        Self {
            plugin: line.plugin.clone(),
            action: line.action.as_str(),
            revision: revision.number(),
            previous_revision: line.previous_revision,
            sha256: line.sha256.clone(),
            size_bytes: line.size_bytes,
            version: line.version.clone(),
            routes: revision.description().map_or(0, |described| described.routes.len()),
            migrations: Vec::new(),
            prepare_ms: line.prepare_ms,
            flip_us: None,
            share: None,
            watch_ms: None,
            drained_ms: None,
            is_cut_short: None,
            changes: None,
        }
    }
}

impl PluginStatus {
    pub(super) fn of<R: Build>(slot: &Slot<R>) -> Self {
        let options = slot.options();
        let current = slot.current();
        let description = current.as_ref().and_then(|revision| revision.description());
        let statistics = current.as_ref().map(|revision| revision.statistics()).unwrap_or_default();
        let reading = current.as_ref().map(|revision| revision.meter().reading()).unwrap_or_default();
        let left = slot.watched().map(|watched| watched.until.saturating_duration_since(std::time::Instant::now()));
        Self {
            name: slot.name().to_string(),
            origin: options.origin,
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
            requests: reading.requests(),
            failures: reading.failures,
            rate: slot.builds().iter().map(|(_, build)| build.meter().rate()).sum(),
            p50_us: reading.quantile_us(0.5),
            p99_us: reading.quantile_us(0.99),
            watch_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            trial: slot.trial().map(|trial| TrialStatus::of(&trial)),
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
