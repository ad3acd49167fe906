//! How every build of a plugin fares at this moment: one entry for each build that may be answering something.

use serde::Serialize;

use super::slot::BuildRole;
use super::{Build, Slot, SlotState};

/// A build as it fares; or a plugin without one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BuildStatus {
    pub plugin: String,
    /// The plugin's state.
    pub state: SlotState,
    /// What the build is to the plugin; none where there is no build.
    pub role: Option<BuildRole>,
    pub revision: Option<i64>,
    pub version: Option<String>,
    pub sha256: Option<String>,
    /// Calls under way: requests, messages and ticks.
    pub in_flight: usize,
    /// Requests a second, over the last ten seconds.
    pub rate: f64,
    /// Requests so far, and how many of them failed: 5xx but 501.
    pub requests: u64,
    pub failures: u64,
    /// Times of requests in microseconds, right to a quarter; none without a request.
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
    /// Calls of any kind so far, and how they went wrong.
    pub calls: u64,
    pub traps: u64,
    pub timeouts: u64,
    /// The first line of the last trap.
    pub last_trap: Option<String>,
    /// Idle warm instances.
    pub warm: usize,
    /// Linear memory of its instances, idle or at work.
    pub memory_bytes: u64,
    /// Processor time of its calls so far, in seconds.
    pub cpu_seconds: f64,
    /// How many processors its calls kept busy over the last ten seconds: 1 is one of them.
    pub cpu_share: f64,
    /// Why there is no build.
    pub failure: Option<String>,
}

impl BuildStatus {
    /// Every build of a plugin: the current one first, then one on trial, then those that drain.
    pub(super) fn of<R: Build>(slot: &Slot<R>) -> Vec<Self> {
        let builds = slot.builds();
        if builds.is_empty() {
            return vec![Self::without_build(slot)];
        }
        builds.iter().map(|(role, build)| Self::of_build(slot, *role, &**build)).collect()
    }

    fn of_build<R: Build>(slot: &Slot<R>, role: BuildRole, build: &R) -> Self {
        let (statistics, reading) = (build.statistics(), build.meter().reading());
        Self {
            role: Some(role),
            revision: Some(build.number()),
            version: build.description().map(|described| described.version.clone()),
            sha256: Some(build.digest().to_string()),
            in_flight: statistics.in_flight,
            rate: build.meter().rate(),
            requests: reading.requests(),
            failures: reading.failures,
            p50_us: reading.quantile_us(0.5),
            p99_us: reading.quantile_us(0.99),
            calls: statistics.calls,
            traps: statistics.traps,
            timeouts: statistics.timeouts,
            last_trap: statistics.last_trap,
            warm: statistics.warm,
            memory_bytes: statistics.memory_bytes,
            cpu_seconds: statistics.cpu_seconds,
            cpu_share: statistics.cpu_share,
            failure: None,
            ..Self::without_build(slot)
        }
    }

    fn without_build<R: Build>(slot: &Slot<R>) -> Self {
        Self {
            plugin: slot.name().to_string(),
            state: slot.state(),
            role: None,
            revision: None,
            version: None,
            sha256: None,
            in_flight: 0,
            rate: 0.0,
            requests: 0,
            failures: 0,
            p50_us: None,
            p99_us: None,
            calls: 0,
            traps: 0,
            timeouts: 0,
            last_trap: None,
            warm: 0,
            memory_bytes: 0,
            cpu_seconds: 0.0,
            cpu_share: 0.0,
            failure: slot.failure().map(|reason| reason.to_string()),
        }
    }
}
