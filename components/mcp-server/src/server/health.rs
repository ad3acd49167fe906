//! How servers do: what calls find, what a look finds, and what the clock finds every minute.

use std::time::{Duration, Instant};

use berth_sdk::{cache, events::Message, http::Answer, prelude::*, serde_json::Value, types::Health};

use super::{Server, Status, Transport, auth, read};
use crate::peer::{self, Failure, Peer};

/// How long a look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Slower than this is not well.
const SLOW: Duration = Duration::from_secs(2);
/// Looks of one tick.
const LOOKS_MAX: i64 = 10;
/// Who was well is looked at again after this.
const WELL_FOR: Duration = Duration::from_secs(300);
/// Failures in a row that make a server unhealthy.
const FAILURES_MAX: i64 = 3;
/// How long failures are counted.
const FAILURES_TTL: Duration = Duration::from_secs(600);
/// How long looks are kept.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long the latest health is remembered.
const HEALTH_TTL: Duration = Duration::from_secs(60);

/// One look.
#[entity(table = "mcp_health_checks", name = "health check", sort = "-checkedAt")]
pub struct HealthCheck {
    /// At which server.
    #[field(filter)]
    pub server_id: Id,
    /// What was found.
    #[field(filter)]
    pub status: Health,
    /// How long it took.
    pub latency_ms: Option<i64>,
    /// What was wrong.
    pub error: Option<String>,
    /// When.
    pub checked_at: Timestamp,
}

impl Rules for HealthCheck {}

/// `GET /api/mcp/servers/{id}/health`: the latest health, and the last looks.
pub fn latest(Params(id): Params<Id>) -> Result<Json<Value>> {
    let server = read(&Pool, &id)?;
    let checks = Select::<HealthCheck>::new().equal("server_id", &id).limit(20).all(&Pool)?;
    let last = checks.first();
    Ok(Json(json!({
        "serverId": id, "name": server.name, "status": server.health, "health": server.health,
        "latencyMs": last.and_then(|check| check.latency_ms), "error": last.and_then(|check| check.error.clone()),
        "checkedAt": last.map(|check| check.checked_at), "checks": checks,
    })))
}

/// `POST /api/mcp/servers/{id}/health/check`.
pub fn check(Params(id): Params<Id>) -> Result<Json<Value>> {
    let server = read(&Pool, &id)?;
    peer::require_transport(&server)?;
    let secret_id = auth::require(&server)?;
    let (failure, latency) = look(&Peer::of(&server, secret_id.as_ref()));
    let health = note(&server, failure.as_ref(), Some(latency))?;
    Ok(Json(json!({
        "serverId": id, "name": server.name, "status": health, "health": health, "latencyMs": millis(latency),
        "error": failure.map(|failure| failure.said()), "checkedAt": clock::now(),
    })))
}

/// `GET /api/mcp/health`: how many servers do how.
pub fn summary(query: PageQuery) -> Result<impl Answer> {
    let key = format!("health-summary:{}:{}", query.limit, query.offset);
    let summary = cache::remember(&key, Duration::from_secs(5), || {
        let rows = Select::<Server>::new()
            .one_of("status", [Status::Active.as_str(), Status::Deprecated.as_str()])
            .limit(2_000)
            .all(&Pool)?;
        let count = |health: Health| rows.iter().filter(|row| row.health == health).count();
        let (skip, take) = (usize::try_from(query.offset).unwrap_or(0), usize::try_from(query.limit).unwrap_or(0));
        let items: Vec<Value> = rows
            .iter()
            .skip(skip)
            .take(take)
            .map(|row| json!({"serverId": row.id, "name": row.name, "health": row.health, "lastSyncedAt": row.last_synced_at}))
            .collect();
        Ok::<_, Problem>(json!({
            "status": if count(Health::Unhealthy) > 0 { "degraded" } else { "ok" },
            "healthy": count(Health::Healthy), "degraded": count(Health::Degraded), "unhealthy": count(Health::Unhealthy),
            "unknown": count(Health::Unknown), "items": items, "total": rows.len(), "limit": query.limit, "offset": query.offset,
        }))
    })?;
    Ok(Json(summary))
}

/// Asks a server something that costs it nothing.
fn look(peer: &Peer<'_>) -> (Option<Failure>, Duration) {
    let begun = Instant::now();
    let failure = peer.greet(LOOK_TIMEOUT).err();
    (failure, begun.elapsed())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What a result makes of a server's health; `failures` is how many there were in a row, this one with them. None: it says
/// nothing of the server.
fn judged(failure: Option<&Failure>, failures: i64, latency: Option<Duration>) -> Option<Health> {
    match failure {
        None if latency.is_some_and(|latency| latency > SLOW) => Some(Health::Degraded),
        None => Some(Health::Healthy),
        Some(Failure::Credential | Failure::Denied(_)) => Some(Health::Unhealthy),
        Some(Failure::Rpc { .. } | Failure::Cancelled) => None,
        Some(_) if failures >= FAILURES_MAX => Some(Health::Unhealthy),
        Some(_) => Some(Health::Degraded),
    }
}

/// Whether a server is not to be asked at present. One of the catalogue is judged by each organization for itself, and for
/// a minute: the clock does not look at it, and nobody's failures keep others from it.
pub fn is_out(server: &Stored<Server>) -> bool {
    match &server.organization_id {
        Some(_) => server.health == Health::Unhealthy,
        None => cache::get(&format!("out:{}", server.id)).unwrap_or(false),
    }
}

/// Whether a failure is the organization's own affair: its credential is, at a server that is everybody's.
fn is_own_affair(server: &Stored<Server>, failure: Option<&Failure>) -> bool {
    server.organization_id.is_none() && matches!(failure, Some(Failure::Credential | Failure::Denied(_)))
}

/// Notes how a server did, and tells of it when it is another health than before.
pub fn note(server: &Stored<Server>, failure: Option<&Failure>, latency: Option<Duration>) -> Result<Health> {
    if is_own_affair(server, failure) {
        return Ok(server.health);
    }
    let organization_id = berth_sdk::auth::principal().organization_id;
    let key = format!("failures:{}", server.id);
    let is_failure = judged(failure, 0, latency).is_some_and(|health| health != Health::Healthy) && failure.is_some();
    let failures = if is_failure { cache::incr_by(&key, 1, FAILURES_TTL).unwrap_or(1) } else { 0 };
    let Some(health) = judged(failure, failures, latency) else { return Ok(server.health) };
    // A success that changes nothing is looked at once a minute.
    if failure.is_none()
        && latency.is_none()
        && health == server.health
        && cache::get::<bool>(&format!("health:{}", server.id)).is_some()
    {
        return Ok(health);
    }
    if failure.is_none() {
        cache::del(&key);
    }
    if health == Health::Unhealthy && server.organization_id.is_none() {
        cache::set_ttl(&format!("out:{}", server.id), &true, HEALTH_TTL);
    }
    cache::set_ttl(&format!("health:{}", server.id), &true, HEALTH_TTL);
    set(server, health, failure.map(Failure::said).as_deref(), latency, organization_id.as_deref())?;
    Ok(health)
}

fn set(
    server: &Stored<Server>,
    health: Health,
    error: Option<&str>,
    latency: Option<Duration>,
    organization_id: Option<&str>,
) -> Result<()> {
    // A server of the catalogue does for everybody as it does for the one who looks.
    let owner = server.organization_id.as_ref().map(Id::as_str).or(organization_id);
    database::transaction(|transaction| {
        let now = clock::now();
        let sql = "INSERT INTO mcp_health_checks (id, organization_id, created_at, updated_at, version, server_id, status, latency_ms, error, checked_at) \
                   VALUES ($1, $2, $3, $3, 1, $4, $5, $6, $7, $3)";
        transaction.execute(sql, params![Id::new(), owner, now, &server.id, health, latency.map(millis), error])?;
        let sql = "UPDATE mcp_servers SET health = $2, updated_at = $3, lock_version = lock_version + 1 WHERE id = $1 AND health <> $2";
        if transaction.execute(sql, params![&server.id, health, now])? == 0 {
            return Ok(());
        }
        let data = json!({
            "id": server.id, "serverId": server.id, "name": server.name, "health": health, "status": health,
            "previous": server.health, "error": error, "ownerId": server.created_by,
        });
        let mut message = Message::new("mcp.server.health.changed", &data)?.with_key(server.id.as_str());
        let Some(owner) = owner else { return Ok(()) };
        if organization_id.is_none() {
            message = message.for_organization(owner);
        }
        transaction.send(&message).map(|_| ())
    })
}

#[data]
struct Due {
    id: Id,
    organization_id: Id,
}

/// The clock's look: those that are not well, and those that nobody has looked at for a while.
pub fn tick() -> Result<()> {
    let now = clock::now();
    database::execute("DELETE FROM mcp_health_checks WHERE checked_at < $1", params![now.minus(KEPT_FOR)])?;
    let sql = "SELECT s.id AS \"id\", s.organization_id AS \"organizationId\" FROM mcp_servers s \
               LEFT JOIN (SELECT server_id, MAX(checked_at) AS last_at FROM mcp_health_checks GROUP BY server_id) c ON c.server_id = s.id \
               WHERE s.organization_id IS NOT NULL AND (s.auth_type = $9 OR s.auth_secret_id IS NOT NULL) AND (s.status = $1 OR s.status = $2) AND (s.transport = $3 OR s.transport = $4) \
               AND (c.last_at IS NULL OR c.last_at < $5 OR (s.health <> $6 AND c.last_at < $7)) \
               ORDER BY c.last_at NULLS FIRST LIMIT $8";
    let values = params![
        Status::Active,
        Status::Deprecated,
        Transport::StreamableHttp,
        Transport::HttpSse,
        now.minus(WELL_FOR),
        Health::Healthy,
        now.minus(Duration::from_secs(45)),
        LOOKS_MAX,
        // Without its credential a server cannot be asked, and its user is told so when it is used.
        super::AuthType::None
    ];
    for due in database::query_as::<Due>(&Pool, sql, values)? {
        let row = Select::<Server>::new().of_organization(&due.organization_id).equal("id", &due.id).first(&Pool)?;
        let Some(server) = row else { continue };
        let peer = Peer::of(&server, server.auth_secret_id.as_ref()).for_organization(&due.organization_id);
        let (failure, latency) = look(&peer);
        let failures = if server.health == Health::Healthy { 1 } else { FAILURES_MAX };
        // Noted in any case: who is looked at in vain must not be first in the row again.
        let health = judged(failure.as_ref(), failures, Some(latency)).unwrap_or(server.health);
        set(&server, health, failure.map(|failure| failure.said()).as_deref(), Some(latency), None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(organization_id: Option<&str>) -> Stored<Server> {
        let now = clock::now();
        let data = json!({"name": "a", "displayName": "A", "endpoint": "https://a.example", "health": "UNHEALTHY"});
        Stored {
            id: "s1".into(),
            organization_id: organization_id.map(Id::from),
            created_by: None,
            created_at: now,
            updated_at: now,
            version: 1,
            data: berth_sdk::serde_json::from_value(data).unwrap(),
        }
    }

    #[test]
    fn each_organization_judges_a_server_that_is_everybodys_for_itself() {
        berth_sdk::testing::sign_in("u1", "o1");
        assert!(is_out(&server(Some("o1"))) && !is_out(&server(None)), "it is others that it does not answer");
        cache::set_ttl("out:s1", &true, HEALTH_TTL);
        assert!(is_out(&server(None)));
        for failure in [Failure::Credential, Failure::Denied("no".into())] {
            assert!(
                is_own_affair(&server(None), Some(&failure)) && !is_own_affair(&server(Some("o1")), Some(&failure))
            );
        }
        assert!(!is_own_affair(&server(None), Some(&Failure::Timeout)) && !is_own_affair(&server(None), None));
    }

    #[test]
    fn what_says_nothing_of_a_server_does_not_count_against_it() {
        assert_eq!(judged(None, 0, None), Some(Health::Healthy));
        assert_eq!(judged(None, 0, Some(Duration::from_secs(3))), Some(Health::Degraded));
        assert_eq!(judged(Some(&Failure::Timeout), 1, None), Some(Health::Degraded));
        assert_eq!(judged(Some(&Failure::Timeout), 3, None), Some(Health::Unhealthy));
        assert_eq!(judged(Some(&Failure::Credential), 1, None), Some(Health::Unhealthy));
        let refused = Failure::Rpc { code: -32_602, message: "no".into(), data: None };
        assert_eq!(judged(Some(&refused), 9, None), None);
    }
}
