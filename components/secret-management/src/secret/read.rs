//! Routes that answer with values: for people with the right, never for other components, each reading audited and counted.

use std::{collections::BTreeSet, time::Duration};

use berth_sdk::{
    cache,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Secret, api, tell, versions};
use crate::{
    audit::{self, Outcome, Subject},
    reauthentication, rights, usage,
};

/// Readings of one user in a minute.
const READS_PER_MINUTE: i64 = 100;
/// Secrets in one resolution.
const RESOLVED_MAX: usize = 100;
/// Secrets in one export.
const EXPORTED_MAX: i64 = 1_000;
/// How deep a configuration is looked through.
const DEPTH_MAX: usize = 64;

/// What was read.
#[data]
pub(crate) struct ReadValue {
    secret_id: Id,
    name: String,
    r#type: super::SecretType,
    version: i64,
    #[field(raw)]
    value: Value,
}

/// An answer that nobody may store, the gateway included.
fn private(response: Result<Response>) -> Result<Response> {
    Ok(response?.with_header("cache-control", "no-store"))
}

/// How many values one user reads in a minute.
fn limit() -> i64 {
    config::get_or("reads_per_minute", READS_PER_MINUTE)
}

/// Counts readings; 429 when there were too many in this minute. Without the cache, the audit is counted.
fn count(readings: i64) -> Result<()> {
    let user_id = auth::principal().user_id.unwrap_or_default();
    let limit = limit();
    let now = clock::now();
    let minute = now.millis().div_euclid(60_000);
    let sum = match cache::incr_by(&format!("reads:{user_id}:{minute}"), readings, Duration::from_secs(120)) {
        Ok(sum) => sum,
        Err(_) => {
            let row = database::query_one(
                "SELECT COUNT(*) AS total FROM secret_audit_logs WHERE actor_id = $1 AND category = 'access' AND timestamp > $2",
                params![user_id, now.minus(Duration::from_secs(60))],
            )?;
            row.map_or(Ok(0), |row| row.get::<i64>("total"))?.saturating_add(readings)
        }
    };
    if sum <= limit {
        return Ok(());
    }
    let seconds = 60 - now.millis().div_euclid(1_000).rem_euclid(60);
    Err(Problem::rate_limited(format!("At most {limit} values can be read in a minute."))
        .with("retryAfter", seconds)
        .with_header("retry-after", seconds.to_string()))
}

/// The value of a secret that the caller may read, without any trace yet.
fn value_of(secret: &Stored<Secret>, action: &str) -> Result<Value> {
    rights::require(secret, action, |rights| rights.read)?;
    if secret.is_expired(clock::now()) {
        audit::note_alone(&Subject::from(secret), action, Outcome::Failure, json!({ "reason": "expired" }));
        return Err(Problem::gone("The secret has expired.").with_code("SECRET_EXPIRED"));
    }
    versions::open(secret, secret.current_version)
}

/// Leaves the trace of readings.
fn note(secrets: &[&Stored<Secret>], action: &str) -> Result<()> {
    database::transaction(|transaction| {
        for secret in secrets {
            let details = json!({ "version": secret.current_version });
            audit::note(transaction, &Subject::from(*secret), action, Outcome::Success, details)?;
            usage::note(transaction, secret, "user", None)?;
            tell(transaction, "secret.accessed", secret, json!({ "consumer": "user" }))?;
        }
        Ok(())
    })
}

/// `GET /api/secrets/{id}/value`.
pub(crate) fn read(Params(id): Params<Id>) -> Result<Response> {
    rights::refuse_components()?;
    let secret = super::live(&Pool, &id)?;
    count(1)?;
    let value = value_of(&secret, "read")?;
    note(&[&secret], "read")?;
    let (name, version) = (secret.name.clone(), secret.current_version);
    private(Response::json(200, &ReadValue { secret_id: id, name, r#type: secret.r#type, version, value }))
}

/// The body of a resolution.
#[data]
pub(crate) struct Resolve {
    #[field(min = 1, max = 100)]
    secret_ids: Vec<Id>,
}

/// `POST /api/secrets/resolve`: each value, or why there is none.
pub(crate) fn resolve(Json(Resolve { secret_ids }): Json<Resolve>) -> Result<Response> {
    rights::refuse_components()?;
    count(i64::try_from(secret_ids.len()).unwrap_or(i64::MAX))?;
    let (mut values, mut errors, mut seen) = (Map::new(), Vec::new(), Vec::new());
    for id in &secret_ids {
        if values.contains_key(id.as_str()) {
            continue;
        }
        let found = super::live(&Pool, id).and_then(|secret| Ok((value_of(&secret, "resolve")?, secret)));
        match found {
            Ok((value, secret)) => {
                values.insert(id.as_str().into(), value);
                seen.push(secret);
            }
            Err(problem) if problem.status < 500 || problem.code == "DECRYPTION_FAILED" => {
                errors.push(
                    json!({"secretId": id, "status": problem.status, "code": problem.code, "detail": problem.detail}),
                );
            }
            Err(problem) => return Err(problem),
        }
    }
    note(&seen.iter().collect::<Vec<_>>(), "resolve")?;
    private(Response::json(200, &json!({ "values": values, "errors": errors })))
}

/// The body of the resolution of a configuration.
#[data]
pub(crate) struct ResolveConfig {
    #[field(raw)]
    config: Value,
}

/// `POST /api/secrets/resolve/config`: every reference replaced, or the first problem.
pub(crate) fn resolve_config(Json(ResolveConfig { mut config }): Json<ResolveConfig>) -> Result<Response> {
    rights::refuse_components()?;
    let mut ids = Vec::new();
    references(&config, 0, &mut ids)?;
    count(i64::try_from(ids.len()).unwrap_or(i64::MAX))?;
    let (mut values, mut seen) = (Map::new(), Vec::new());
    for id in ids {
        let secret = super::live(&Pool, &Id::parse(id.as_str())?)?;
        values.insert(id, value_of(&secret, "resolve")?);
        seen.push(secret);
    }
    replace(&mut config, &values);
    note(&seen.iter().collect::<Vec<_>>(), "resolve")?;
    private(Response::json(200, &json!({ "config": config })))
}

fn reference(value: &Value) -> Option<&str> {
    let is_reference = value.get("type").and_then(Value::as_str) == Some("SECRET_REF");
    value.get("secretId").and_then(Value::as_str).filter(|_| is_reference)
}

/// Every secret that a configuration refers to, once.
fn references(value: &Value, depth: usize, ids: &mut Vec<String>) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(Problem::field("config", format!("must be nested at most {DEPTH_MAX} deep")));
    }
    if let Some(id) = reference(value) {
        if !ids.iter().any(|known| known == id) {
            ids.push(id.to_string());
        }
        if ids.len() > RESOLVED_MAX {
            return Err(Problem::field("config", format!("must refer to at most {RESOLVED_MAX} secrets")));
        }
        return Ok(());
    }
    match value {
        Value::Array(entries) => entries.iter().try_for_each(|entry| references(entry, depth + 1, ids)),
        Value::Object(members) => members.values().try_for_each(|member| references(member, depth + 1, ids)),
        _ => Ok(()),
    }
}

fn replace(value: &mut Value, values: &Map<String, Value>) {
    if let Some(found) = reference(value).and_then(|id| values.get(id)) {
        *value = found.clone();
        return;
    }
    match value {
        Value::Array(entries) => entries.iter_mut().for_each(|entry| replace(entry, values)),
        Value::Object(members) => members.values_mut().for_each(|member| replace(member, values)),
        _ => {}
    }
}

/// `GET /api/secrets/export`: what the caller sees, and with `includeValues` what they may read.
pub(crate) fn export(query: PageQuery) -> Result<Response> {
    rights::refuse_components()?;
    let is_env = match query.filter("format").as_deref() {
        None | Some("json") => false,
        Some("env") => true,
        Some(_) => return Err(Problem::field("format", "must be json or env")),
    };
    let with_values = query.filter("includeValues").as_deref() == Some("true");
    if with_values {
        reauthentication::require()?;
    }
    let secrets =
        api::selection(&query)?.condition("deleted_at IS NULL", [] as [String; 0]).sort("name").limit(EXPORTED_MAX);
    let secrets = secrets.all(&Pool)?;
    let mut given = Vec::new();
    for secret in secrets.iter().filter(|secret| with_values && !secret.is_expired(clock::now())) {
        if rights::of(secret)?.read {
            given.push(secret);
        }
    }
    if !given.is_empty() {
        // One that has more than a minute's readings takes the whole minute: it can be made at all, and not again at once.
        count(i64::try_from(given.len()).unwrap_or(i64::MAX).min(limit()))?;
    }
    let with_value: BTreeSet<&str> = given.iter().map(|secret| secret.id.as_str()).collect();
    let mut items = Vec::with_capacity(secrets.len());
    for secret in &secrets {
        let mut item = secret.shown();
        if with_value.contains(secret.id.as_str()) {
            item.insert("value".into(), versions::open(secret, secret.current_version)?);
        }
        items.push(item);
    }
    if !given.is_empty() {
        note(&given, "export")?;
    }
    if is_env {
        let lines: Vec<String> = items.iter().flat_map(env_lines).collect();
        return private(Ok(Response::text(200, "text/plain; charset=utf-8", lines.join("\n") + "\n")));
    }
    private(Response::json(200, &json!({ "items": items, "total": items.len() })))
}

/// The lines of a secret in an env file: its variables, or its text under its own name.
fn env_lines(item: &Map<String, Value>) -> Vec<String> {
    let name = item.get("name").and_then(Value::as_str).unwrap_or_default().replace('-', "_");
    match item.get("value") {
        None => vec![format!("{name}=")],
        Some(Value::Object(members)) if item.get("type") == Some(&json!("ENV_VARIABLE_SET")) => {
            members.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect()
        }
        Some(value) => vec![format!("{name}={}", quoted(value))],
    }
}

/// As a shell reads it back.
fn quoted(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), ToString::to_string);
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('$', "\\$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_wherever_they_stand_and_nothing_else_is() {
        let reference = |id: &str| json!({"type": "SECRET_REF", "secretId": id});
        let mut config =
            json!({"a": [reference("s1"), {"b": reference("s2")}], "type": "SECRET_REF", "c": reference("s1")});
        let mut ids = Vec::new();
        references(&config, 0, &mut ids).unwrap();
        assert_eq!(ids, ["s1", "s2"]);
        let values = [("s1".to_string(), json!("x")), ("s2".to_string(), json!({"y": 1}))].into_iter().collect();
        replace(&mut config, &values);
        assert_eq!(config, json!({"a": ["x", {"b": {"y": 1}}], "type": "SECRET_REF", "c": "x"}));
    }

    #[test]
    fn a_value_cannot_break_out_of_its_line() {
        let item = |value: Value| {
            json!({"name": "a-b", "type": "GENERIC", "value": value}).as_object().cloned().unwrap_or_default()
        };
        assert_eq!(env_lines(&item(json!("x\"\nPATH=$y"))), ["a_b=\"x\\\"\\nPATH=\\$y\""]);
        let set = json!({"name": "s", "type": "ENV_VARIABLE_SET", "value": {"A": "1", "B": "2"}});
        assert_eq!(env_lines(set.as_object().unwrap()), ["A=\"1\"", "B=\"2\""]);
    }
}
