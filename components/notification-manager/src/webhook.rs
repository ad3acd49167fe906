//! Webhooks: outgoing ones are told of events, incoming ones bring notifications in. Both are signed with a stored secret
//! that the host alone knows.

pub mod incoming;
pub mod outgoing;
pub mod signature;

use berth_sdk::{cache, prelude::*};

use crate::{egress, preference::MANAGE};

/// How long the outgoing webhooks stay in the cache.
const CACHED: std::time::Duration = std::time::Duration::from_secs(300);
const CACHE_KEY: &str = "webhooks";
/// Webhooks of one organization that are told.
const WEBHOOKS_MAX: i64 = 100;

/// Which way.
#[choice(upper)]
pub enum Direction {
    /// Somebody calls here.
    Incoming,
    /// Berth calls somebody.
    Outgoing,
}

/// How the other side knows who calls.
#[choice(upper)]
pub enum AuthType {
    /// Not at all; only for outgoing ones.
    None,
    /// User and password.
    Basic,
    /// A token.
    Bearer,
    /// A signature over time and body.
    HmacSha256,
    /// A key in a header.
    ApiKey,
}

/// A webhook.
#[entity(table = "notification_webhooks", name = "webhook", sort = "name")]
pub struct Webhook {
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// Which way.
    #[field(immutable)]
    pub direction: Direction,
    /// Where an outgoing one goes; an incoming one has the address that it is read with.
    #[field(max = 2_048)]
    pub url: Option<String>,
    /// How it is protected.
    #[field(default = AuthType::None)]
    pub auth_type: AuthType,
    /// The secret with the credentials or the key.
    pub auth_secret_id: Option<Id>,
    /// The types or patterns it is about; empty: every type.
    #[field(default, max = 100)]
    pub event_types: Vec<String>,
    /// Whether it is used.
    #[field(default = true)]
    pub is_active: bool,
    /// How often a call is repeated.
    #[field(default = 3, min = 0, max = 10)]
    pub max_retries: i64,
    /// Events in a row that could not be delivered.
    #[field(readonly, default = 0)]
    pub failure_count: i64,
    /// When a call last worked.
    #[field(readonly)]
    pub last_success_at: Option<Timestamp>,
}

impl Rules for Webhook {
    fn check(&self, faults: &mut Faults) {
        match (self.direction, &self.url) {
            (Direction::Outgoing, None) => faults.add("url", "is required for an outgoing webhook"),
            (_, Some(url)) => {
                faults.check("url", validate::url(url));
                if egress::is_internal(url) {
                    faults.add("url", "must not be an address of this host");
                }
            }
            (Direction::Incoming, None) => {}
        }
        if self.auth_type != AuthType::None && self.auth_secret_id.is_none() {
            faults.add("authSecretId", "is required for this authType");
        }
        if self.direction == Direction::Incoming && self.auth_type != AuthType::HmacSha256 {
            faults.add("authType", "must be HMAC_SHA256 for an incoming webhook: its route is public");
        }
        if self.event_types.iter().any(|pattern| pattern.is_empty() || pattern.len() > 200) {
            faults.add("eventTypes", "must be types or patterns of 1 to 200 characters");
        }
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        auth::require(MANAGE)
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        auth::require(MANAGE)?;
        // Switched on again, it begins anew.
        if self.is_active && !old.is_active {
            self.failure_count = 0;
        }
        Ok(())
    }

    fn before_delete(_: &Stored<Self>, _: &Transaction) -> Result<()> {
        auth::require(MANAGE)
    }

    fn committed(_: &Stored<Self>) {
        cache::del(CACHE_KEY);
    }
}

/// An outgoing webhook, as far as choosing it goes.
#[data]
pub struct Target {
    /// The webhook.
    pub id: Id,
    /// What it is about.
    pub event_types: Vec<String>,
}

/// The active outgoing webhooks that an event type concerns. No query while they are cached.
pub fn targets(event_type: &str) -> Result<Vec<Target>> {
    let all: Vec<Target> = cache::remember(CACHE_KEY, CACHED, || {
        let rows = Select::<Webhook>::new()
            .equal("direction", Direction::Outgoing)
            .equal("is_active", true)
            .limit(WEBHOOKS_MAX)
            .all(&Pool)?;
        Ok::<_, Problem>(
            rows.into_iter()
                .map(|row| Target { id: row.id.clone(), event_types: row.event_types.clone() })
                .collect::<Vec<_>>(),
        )
    })?;
    let fits = |target: &Target| {
        target.event_types.is_empty() || target.event_types.iter().any(|pattern| events::matches(pattern, event_type))
    };
    Ok(all.into_iter().filter(fits).collect())
}

/// No webhook is told any more than is true: after a change by the service itself the cached list goes.
pub fn forget() {
    cache::del(CACHE_KEY);
}

/// The routes of webhooks.
pub fn routes() -> Router {
    Router::new()
        .entity::<Webhook>("/api/notifications/webhooks")
        .post("/api/notifications/webhooks/{id}/test", outgoing::test)
        .summary("Send a test call.")
        .permission(MANAGE)
        .post("/api/notifications/webhooks/in/{id}", incoming::receive)
        .summary("Take a signed call from outside.")
        .public()
}
