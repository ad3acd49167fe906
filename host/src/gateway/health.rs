//! What the host says of itself and of a plugin's health.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::error::GatewayError;
use super::respond::{self, ResponseBody};
use super::upstream::Upstream;
use super::{Gateway, Ordering};
use crate::deploy::{Registry, Slot};

/// The host's version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long one backend may take to say that it is there.
const CHECK_TIME_MAX: Duration = Duration::from_secs(2);
/// How long an answer of `/ready` is good for: whoever asks more often gets it again.
const READY_FOR: Duration = Duration::from_secs(1);

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What each backend said when it was last asked.
#[derive(Default)]
pub(super) struct Readiness {
    last: Mutex<Option<(Instant, Checks)>>,
}

/// Whether each backend is there.
#[derive(Clone, Copy)]
struct Checks {
    database: bool,
    cache: bool,
    queue: bool,
}

impl Checks {
    /// Whether everything is there that `need` names: words separated by commas, all three when it says nothing.
    fn suffice(self, need: Option<&str>) -> Result<bool, GatewayError> {
        let Some(need) = need else { return Ok(self.database && self.cache && self.queue) };
        let mut is_enough = true;
        for word in need.split(',') {
            is_enough &= match word {
                "database" => self.database,
                "cache" => self.cache,
                "queue" => self.queue,
                _ => {
                    return Err(GatewayError::Malformed("`need` names database, cache and queue, separated by commas"));
                }
            };
        }
        Ok(is_enough)
    }
}

impl<U: Upstream> Gateway<U> {
    /// `/ready`: whether database, cache and queue can be reached and new requests are wanted. `?need=database` lets a load
    /// balancer ask for less, since a host without broker or cache still answers every request.
    pub(super) async fn ready(&self, query: Option<&str>) -> Result<Response<ResponseBody>, GatewayError> {
        let need = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("need=")));
        // One look at a time: nobody is counted here, and a backend that is slow must not be asked by all of them at once.
        let mut last = self.readiness.last.lock().await;
        let checks = match last.filter(|(at, _)| at.elapsed() < READY_FOR) {
            Some((_, checks)) => checks,
            None => {
                let checks = self.check().await;
                *last = Some((Instant::now(), checks));
                checks
            }
        };
        drop(last);
        let is_ready = checks.suffice(need)? && !self.is_stopping.load(Ordering::Relaxed);
        let (status, text) =
            if is_ready { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
        let checks =
            json!({ "database": word(checks.database), "cache": word(checks.cache), "queue": word(checks.queue) });
        Ok(respond::json(status, &json!({ "status": text, "checks": checks })))
    }

    async fn check(&self) -> Checks {
        let (database, cache, queue) = tokio::join!(
            is_there(async { self.database.ping().await.is_ok() }),
            is_there(async { self.cache.ping().await.is_ok() }),
            is_there(async { self.queue.backend().ping().await.is_ok() }),
        );
        Checks { database, cache, queue }
    }
}

/// How long the process has been up.
pub(super) fn uptime() -> Duration {
    STARTED.elapsed()
}

/// `/health`: the process is up.
pub(super) fn process() -> Response<ResponseBody> {
    let body = json!({
        "status": "ok",
        "service": "berth",
        "version": VERSION,
        "uptimeSeconds": uptime().as_secs(),
    });
    respond::json(StatusCode::OK, &body)
}

/// `/`: which host this is and which paths lead somewhere.
pub(super) fn root<U: Upstream>(registry: &Registry<U>) -> Response<ResponseBody> {
    let routes: Vec<Value> = registry
        .prefixes()
        .iter()
        .map(|(prefix, slot)| json!({ "path": prefix.as_str(), "service": &**slot.name() }))
        .collect();
    respond::json(StatusCode::OK, &json!({ "service": "berth", "version": VERSION, "status": "ok", "routes": routes }))
}

/// `/api/<prefix>/health`: 503 when no build answers.
pub(super) fn plugin<U: Upstream>(slot: &Slot<U>) -> Response<ResponseBody> {
    let Some(build) = slot.current() else {
        let body = json!({ "service": &**slot.name(), "status": "unavailable" });
        return respond::json(StatusCode::SERVICE_UNAVAILABLE, &body);
    };
    let statistics = build.statistics();
    let body = json!({
        "service": &**slot.name(),
        "status": "ok",
        "version": build.description().map(|description| description.version.as_str()),
        "revision": build.number(),
        "sha256": &**build.digest(),
        "inFlight": statistics.in_flight,
        "traps": statistics.traps,
        "lastTrap": statistics.last_trap,
    });
    respond::json(StatusCode::OK, &body)
}

async fn is_there(check: impl Future<Output = bool>) -> bool {
    tokio::time::timeout(CHECK_TIME_MAX, check).await.unwrap_or(false)
}

fn word(is_there: bool) -> &'static str {
    if is_there { "ok" } else { "unavailable" }
}
