//! How providers do: what completions find, what a test finds, and what the clock finds every minute.

use std::time::{Duration, Instant};

use berth_sdk::{
    cache,
    events::Message,
    http_out::{Call, Client},
    prelude::*,
    serde_json::{self, Value},
    types::Health,
};

use super::{Provider, ProviderConfiguration, ProviderType};
use crate::{
    catalog::{self, KnownProvider},
    failure::{Failure, FailureKind},
};

/// How long a look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Looks of one tick.
const LOOKS_MAX: i64 = 10;
/// Who was well is looked at again after this.
const WELL_FOR: Duration = Duration::from_secs(300);
/// Failures in a row that make a provider unhealthy.
const FAILURES_MAX: i64 = 3;
/// How long failures are counted.
const FAILURES_TTL: Duration = Duration::from_secs(600);
/// Models that a test names.
const NAMES_MAX: usize = 200;

/// What a test found.
#[data]
pub struct TestResult {
    /// Whether it answered as it should.
    pub success: bool,
    /// How long it took.
    pub latency_ms: i64,
    /// The models it names, at most 200.
    pub models: Vec<String>,
    /// What went wrong, as a code.
    pub code: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// `POST /api/ai/providers/{id}/test`.
pub fn test(Params(id): Params<Id>) -> Result<Json<TestResult>> {
    entity::read::<Provider>(&Pool, &id)?;
    // What is cached may be older than the key that is to be tested.
    cache::del(catalog::KEY);
    let catalog = catalog::load()?;
    let known = catalog.providers.iter().find(|known| known.id == *id).ok_or_else(|| Problem::missing("provider"))?;
    let began = Instant::now();
    let found = look(known, None);
    let latency_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    note(known, found.as_ref().err())?;
    Ok(Json(match found {
        Ok(models) => TestResult { success: true, latency_ms, models, code: None, error: None },
        Err(failure) => TestResult {
            success: false,
            latency_ms,
            models: Vec::new(),
            code: Some(failure.problem().code.to_string()),
            error: Some(failure.problem().detail),
        },
    }))
}

/// Asks a provider which models it has.
fn look(known: &KnownProvider, organization_id: Option<&str>) -> Result<Vec<String>, Failure> {
    if known.kind == ProviderType::Echo {
        return Ok(vec!["echo".into()]);
    }
    if let Some(why) = known.why_not.as_ref().filter(|_| known.base_url.is_none() || known.secret_id.is_none()) {
        return Err(Failure::new(FailureKind::Auth, why.clone()));
    }
    let mut call = question(known).timeout(LOOK_TIMEOUT);
    if let Some(organization_id) = organization_id {
        call = call.secrets_of(organization_id);
    }
    let reply = call.send().map_err(|fault| Failure::of_fault(&fault))?;
    if !reply.is_success() {
        let head = berth_sdk::http_out::Head { status: reply.status, headers: reply.headers.clone() };
        return Err(Failure::of_status(&head, &reply.body));
    }
    let value: Value = serde_json::from_slice(&reply.body)
        .map_err(|_| Failure::invalid("The provider answered with something else than JSON."))?;
    let list = value.get("data").or_else(|| value.get("models")).and_then(Value::as_array);
    let name =
        |entry: &Value| entry.get("id").or_else(|| entry.get("name")).and_then(Value::as_str).map(ToString::to_string);
    Ok(list.into_iter().flatten().filter_map(name).take(NAMES_MAX).collect())
}

fn question(known: &KnownProvider) -> Call {
    let base = known.base_url.as_deref().unwrap_or_default();
    match known.kind {
        ProviderType::Anthropic => {
            let call = Client::new(base.trim_end_matches('/').trim_end_matches("/v1")).get("/v1/models");
            let call = call.header("anthropic-version", known.api_version.as_deref().unwrap_or("2023-06-01"));
            known.secret_id.iter().fold(call, |call, id| call.secret_header("x-api-key", id))
        }
        ProviderType::Ollama => {
            let call = Client::new(base).get("/api/tags");
            known.secret_id.iter().fold(call, |call, id| call.auth_secret_id(id.as_str()))
        }
        ProviderType::AzureOpenai => {
            let call = Client::new(base).get("/openai/models");
            let call = call.query("api-version", known.api_version.as_deref().unwrap_or("2024-10-21"));
            known.secret_id.iter().fold(call, |call, id| call.secret_header("api-key", id))
        }
        _ => {
            let call = Client::new(base).get("/models");
            known.secret_id.iter().fold(call, |call, id| call.auth_secret_id(id.as_str()))
        }
    }
}

/// What a result makes of a provider's health; `failures` is how many there were in a row, this one with them.
pub fn judged(failure: Option<FailureKind>, failures: i64) -> Option<Health> {
    match failure {
        None => Some(Health::Healthy),
        Some(FailureKind::Auth | FailureKind::Denied) => Some(Health::Unhealthy),
        Some(FailureKind::Server | FailureKind::Timeout | FailureKind::Invalid) if failures >= FAILURES_MAX => {
            Some(Health::Unhealthy)
        }
        Some(FailureKind::Server | FailureKind::Timeout | FailureKind::Invalid | FailureKind::RateLimited) => {
            Some(Health::Degraded)
        }
        // The request was at fault, or nobody waited for the answer.
        Some(FailureKind::Content | FailureKind::TooLong | FailureKind::Cancelled) => None,
    }
}

/// Whether what the caller finds says how a provider does. What is everybody's does not become unhealthy for everybody because of
/// one organization: that the platform says.
fn may_judge(known: &KnownProvider) -> bool {
    if known.is_shared { auth::principal().is_platform } else { known.configuration_id.is_some() || known.is_own }
}

/// Notes how a provider did; what changes nothing costs nothing.
pub fn note(known: &KnownProvider, failure: Option<&Failure>) -> Result<()> {
    if !may_judge(known) {
        return Ok(());
    }
    let key = format!("failures:{}", known.configuration_id.as_ref().unwrap_or(&known.id));
    let failures = match failure.map(|failure| failure.kind) {
        Some(FailureKind::Server | FailureKind::Timeout | FailureKind::Invalid) => {
            cache::incr_by(&key, 1, FAILURES_TTL).unwrap_or(1)
        }
        _ => 0,
    };
    let Some(health) = judged(failure.map(|failure| failure.kind), failures) else { return Ok(()) };
    if failure.is_none() && known.health != Health::Healthy {
        cache::del(&key);
    }
    if health == known.health {
        return Ok(());
    }
    let error = failure.map(|failure| failure.message.as_str());
    match &known.configuration_id {
        Some(configuration_id) => set(configuration_id, known, health, error, None)?,
        None => set_own(known, health, error)?,
    }
    cache::del(catalog::KEY);
    Ok(())
}

/// Writes the health of a provider of the organization's own that it uses without further settings.
fn set_own(known: &KnownProvider, health: Health, error: Option<&str>) -> Result<()> {
    database::transaction(|transaction| {
        let sql = "UPDATE ai_providers SET health = $2, updated_at = $3 WHERE id = $1 AND organization_id = $4 AND health <> $2";
        let values = params![&known.id, health, clock::now(), auth::organization_id()?];
        if transaction.execute(sql, values)? > 0 {
            transaction.send(&told(known, &known.id, health, error)?)?;
        }
        Ok(())
    })
}

/// What is told of another health.
fn told(known: &KnownProvider, key: &str, health: Health, error: Option<&str>) -> Result<Message> {
    let data = json!({ "providerId": known.id, "provider": known.name, "health": health, "previous": known.health, "error": error });
    Ok(Message::new("ai.provider.health.changed", &data)?.with_key(key))
}

/// Writes a health, and tells of it when it is another one.
fn set(
    configuration_id: &str,
    known: &KnownProvider,
    health: Health,
    error: Option<&str>,
    organization_id: Option<&str>,
) -> Result<()> {
    database::transaction(|transaction| {
        let now = clock::now();
        let changed = transaction.execute(
            "UPDATE ai_provider_configurations SET health = $2, health_error = $3, checked_at = $4, updated_at = $4 \
             WHERE id = $1 AND health <> $2",
            params![configuration_id, health, error, now],
        )?;
        if changed == 0 {
            let sql = "UPDATE ai_provider_configurations SET checked_at = $2, health_error = $3 WHERE id = $1";
            transaction.execute(sql, params![configuration_id, now, error])?;
            return Ok(());
        }
        let mut message = told(known, configuration_id, health, error)?;
        if let Some(organization_id) = organization_id {
            message = message.for_organization(organization_id);
        }
        if organization_id.is_some() || auth::principal().organization_id.is_some() {
            transaction.send(&message)?;
        }
        Ok(())
    })
}

/// The clock's look: those that are not well, and those that nobody has looked at for a while.
pub fn tick() -> Result<()> {
    let now = clock::now();
    // Those that cannot be asked are not looked at in the first place: they would be first in the row for ever.
    let sql = "SELECT c.id AS configuration_id, c.organization_id, c.api_key_secret_id, c.custom_base_url, c.health, \
               p.id, p.name, p.type, p.base_url, p.api_version \
               FROM ai_provider_configurations c JOIN ai_providers p ON p.id = c.provider_id \
               WHERE c.is_enabled = $1 AND p.is_enabled = $1 AND p.type <> $2 AND c.organization_id IS NOT NULL \
               AND COALESCE(c.custom_base_url, p.base_url) IS NOT NULL AND (c.api_key_secret_id IS NOT NULL OR p.type IN ($6, $7)) \
               AND (c.checked_at IS NULL OR c.checked_at < $3 OR c.health <> $4) \
               ORDER BY c.checked_at NULLS FIRST LIMIT $5";
    let values = params![
        true,
        ProviderType::Echo,
        now.minus(WELL_FOR),
        Health::Healthy,
        LOOKS_MAX,
        ProviderType::Ollama,
        ProviderType::Custom
    ];
    for row in database::query(sql, values)? {
        let organization_id: String = row.get("organization_id")?;
        let configuration_id: String = row.get("configuration_id")?;
        let kind: ProviderType = row.get("type")?;
        let base_url: Option<String> = row.get("custom_base_url")?;
        let known = KnownProvider {
            id: row.get("id")?,
            name: row.get("name")?,
            kind,
            base_url: base_url.or(row.get("base_url")?),
            api_version: row.get("api_version")?,
            secret_id: row.get("api_key_secret_id")?,
            configuration_id: Some(configuration_id.clone()),
            is_configured_enabled: true,
            is_default: false,
            priority: 0,
            health: row.get("health")?,
            is_own: true,
            is_shared: false,
            why_not: None,
        };
        let found = look(&known, Some(&organization_id));
        let failure = found.err();
        // It was tried just once: only what keeps failing is unhealthy.
        let failures = if known.health == Health::Healthy { 1 } else { FAILURES_MAX };
        let health = judged(failure.as_ref().map(|failure| failure.kind), failures).unwrap_or(known.health);
        set(
            &configuration_id,
            &known,
            health,
            failure.as_ref().map(|failure| failure.message.as_str()),
            Some(&organization_id),
        )?;
    }
    Ok(())
}

/// `secret.rotated`: a provider with this key is looked at anew.
pub fn rotated(envelope: &Envelope) -> Result<()> {
    #[data]
    struct Rotated {
        secret_id: Option<Id>,
        id: Option<Id>,
    }
    let rotated: Rotated = envelope.data()?;
    let (Some(secret_id), Some(organization_id)) = (rotated.secret_id.or(rotated.id), &envelope.organization_id) else {
        return Ok(());
    };
    cache::del(catalog::KEY);
    let rows =
        Select::<ProviderConfiguration>::new().equal("api_key_secret_id", &secret_id).limit(LOOKS_MAX).all(&Pool)?;
    let catalog = catalog::load()?;
    for row in rows.iter().filter(|row| row.organization_id.is_some()) {
        let Some(known) = catalog.providers.iter().find(|known| *row.provider_id == known.id) else { continue };
        let failure = look(known, Some(organization_id)).err();
        let health = judged(failure.as_ref().map(|failure| failure.kind), 1).unwrap_or(Health::Unknown);
        set(&row.id, known, health, failure.as_ref().map(|failure| failure.message.as_str()), None)?;
    }
    cache::del(catalog::KEY);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::sample;

    #[test]
    fn one_organization_does_not_say_how_everybodys_provider_does() {
        berth_sdk::testing::sign_in("u1", "o1");
        let failure = Failure::new(FailureKind::Auth, "x");
        let own = sample::provider("p1", ProviderType::Openai);
        assert_eq!(note(&own, Some(&failure)).unwrap_err().status, 503, "natively nothing is noted");
        let shared = KnownProvider { is_shared: true, ..own.clone() };
        assert!(note(&shared, Some(&failure)).is_ok(), "nothing is to be noted");
        let plain = KnownProvider { configuration_id: None, ..own };
        assert!(note(&plain, Some(&failure)).is_ok());
    }

    #[test]
    fn a_refused_key_counts_at_once_and_failures_when_there_are_several() {
        assert_eq!(judged(None, 0), Some(Health::Healthy));
        assert_eq!(judged(Some(FailureKind::Auth), 0), Some(Health::Unhealthy));
        assert_eq!(judged(Some(FailureKind::Server), 1), Some(Health::Degraded));
        assert_eq!(judged(Some(FailureKind::Timeout), 3), Some(Health::Unhealthy));
        assert_eq!(judged(Some(FailureKind::Content), 9), None);
    }
}
