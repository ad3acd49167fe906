//! What the host says of itself and of a plugin's health.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};

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

/// The last answer of `/ready`.
#[derive(Default)]
pub(super) struct Readiness {
    last: Mutex<Option<(Instant, bool, Value)>>,
}

impl<U: Upstream> Gateway<U> {
    /// `/ready`: whether database, cache and queue can be reached and new requests are wanted.
    pub(super) async fn ready(&self) -> Response<ResponseBody> {
        let recent = self.readiness.last.lock().clone().filter(|(at, ..)| at.elapsed() < READY_FOR);
        let (is_ready, checks) = match recent {
            Some((_, is_ready, checks)) => (is_ready, checks),
            None => {
                let (is_ready, checks) = self.check().await;
                *self.readiness.last.lock() = Some((Instant::now(), is_ready, checks.clone()));
                (is_ready, checks)
            }
        };
        if is_ready && !self.is_stopping.load(Ordering::Relaxed) {
            return respond::json(StatusCode::OK, &json!({ "status": "ready", "checks": checks }));
        }
        respond::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not_ready", "checks": checks }))
    }

    async fn check(&self) -> (bool, Value) {
        let (database, cache, queue) = tokio::join!(
            is_there(async { self.database.ping().await.is_ok() }),
            is_there(async { self.cache.ping().await.is_ok() }),
            is_there(async { self.queue.stats().await.is_ok() }),
        );
        (database && cache && queue, json!({ "database": word(database), "cache": word(cache), "queue": word(queue) }))
    }
}

/// `/health`: the process is up.
pub(super) fn process() -> Response<ResponseBody> {
    let body = json!({
        "status": "ok",
        "service": "berth",
        "version": VERSION,
        "uptimeSeconds": STARTED.elapsed().as_secs(),
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
