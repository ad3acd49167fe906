//! Health checks: an address outside, or another plugin, asked again and again.

use std::time::{Duration, Instant};

use berth_sdk::{entity::Column, http_out, prelude::*};

use crate::MANAGE;

/// Checks of an organization.
const CHECKS_MAX: i64 = 100;
/// Checks of one tick.
const DUE_MAX: i64 = 500;

/// How a check ended.
#[choice]
pub(crate) enum Outcome {
    Ok,
    Failed,
    Timeout,
}

/// What a good answer is like.
#[data]
#[derive(Default)]
pub(crate) struct Expected {
    /// 200 to 299 when it is left out; of a plugin anything below 500.
    status: Option<Vec<i64>>,
    #[field(max = 500)]
    body_contains: Option<String>,
    #[field(min = 1, max = 30_000)]
    max_latency_ms: Option<i64>,
    /// For a plugin: the path that is asked; `/health` when it is left out.
    #[field(max = 500)]
    path: Option<String>,
}

impl Column for Expected {
    const KIND: entity::Kind = entity::Kind::Json;
}

/// A check.
#[entity(table = "telemetry_checks", name = "check", sort = "name")]
pub(crate) struct Check {
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// Where it asks: a name that the operator allows.
    #[field(max = 2000, format = "url")]
    pub url: Option<String>,
    /// Or the plugin it asks.
    #[field(min = 1, max = 100)]
    pub service: Option<String>,
    #[field(min = 30, max = 86_400, default = 60)]
    pub interval_s: i64,
    #[field(min = 100, max = 30_000, default = 5_000)]
    pub timeout_ms: i64,
    #[field(default)]
    pub expected: Expected,
    #[field(default = true)]
    pub enabled: bool,
    #[field(readonly)]
    pub last_status: Option<Outcome>,
    #[field(readonly)]
    pub last_checked_at: Option<Timestamp>,
    #[field(hidden, readonly, default)]
    pub next_ms: i64,
}

impl Check {
    /// 403 where its results would tell its author of an answer that is not theirs to read: by the clock a plugin is asked as
    /// the organization.
    fn require_manager(&self) -> Result<()> {
        let looks_into = self.expected.body_contains.is_some() || self.expected.status.is_some();
        if self.service.is_some() && looks_into && !auth::has(MANAGE) {
            return Err(Problem::forbidden("What a plugin answers is looked into only for administrators."));
        }
        Ok(())
    }
}

impl Rules for Check {
    fn check(&self, faults: &mut Faults) {
        if self.url.is_none() == self.service.is_none() {
            faults.add("url", "or `service` is required, and not both");
        }
        let is_name = |name: &String| name.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'-');
        if self.service.as_ref().is_some_and(|name| !is_name(name)) {
            faults.add("service", "must be the name of a plugin");
        }
        if self.url.as_ref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            faults.add("url", "must begin with http:// or https://");
        }
        if self
            .expected
            .status
            .as_ref()
            .is_some_and(|list| list.len() > 20 || list.iter().any(|status| !(100..600).contains(status)))
        {
            faults.add("expected.status", "must be at most 20 numbers from 100 to 599");
        }
        if self.expected.path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            faults.add("expected.path", "must begin with /");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.require_manager()?;
        if Select::<Self>::new().count_in_turn(transaction)? >= CHECKS_MAX {
            return Err(Problem::conflict(format!("There are {CHECKS_MAX} checks already.")));
        }
        Ok(())
    }

    fn before_update(&mut self, _: &Stored<Self>, _: &Transaction) -> Result<()> {
        self.require_manager()
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        transaction.execute("DELETE FROM telemetry_check_results WHERE check_id = $1", params![&row.id])?;
        Ok(())
    }
}

/// A result.
#[entity(table = "telemetry_check_results", name = "result", sort = "-checkedAt")]
pub(crate) struct CheckResult {
    #[field(parent = Check)]
    pub check_id: Id,
    pub status: Outcome,
    pub latency_ms: Option<i64>,
    pub error: Option<String>,
    pub checked_at: Timestamp,
}

impl Rules for CheckResult {}

/// `GET /api/observability/checks/{id}/results`.
pub(crate) fn results(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<CheckResult>>>> {
    entity::read::<Check>(&Pool, &id)?;
    Select::new().equal("check_id", id).page(&Pool, &query)
}

/// The timer `checks`: a message for each check that is due. Its next time is set first, so that it is asked once.
pub(crate) fn tick(_: &Envelope) -> Result<()> {
    let now = clock::now();
    database::transaction(|transaction| {
        let due = transaction.query(
            "UPDATE telemetry_checks SET next_ms = $1 + interval_s * 1000 WHERE id IN \
             (SELECT id FROM telemetry_checks WHERE enabled = TRUE AND next_ms <= $1 ORDER BY next_ms LIMIT $2) \
             RETURNING id, organization_id",
            params![now.millis(), DUE_MAX],
        )?;
        for row in due {
            let (id, organization_id): (String, String) = (row.get("id")?, row.get("organization_id")?);
            let message = events::Message::new("observability.check.run", &json!({ "checkId": id }))?
                .for_organization(organization_id)
                .with_key(id);
            transaction.enqueue_message(&message)?;
        }
        Ok(())
    })
}

/// What is to be checked.
#[data]
struct Work {
    check_id: Id,
}

/// Handles `observability.check.run`.
pub(crate) fn run(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let Some(check) = entity::find::<Check>(&Pool, &work.check_id)? else { return Ok(()) };
    ask_and_note(&check, Some(&envelope.id)).map(|_| ())
}

/// `POST /api/observability/checks/{id}/run`: now.
pub(crate) fn run_now(Params(id): Params<Id>) -> Result<Stored<CheckResult>> {
    let check = entity::read::<Check>(&Pool, &id)?;
    ask_and_note(&check, None)?.ok_or_else(Problem::internal)
}

fn ask_and_note(check: &Stored<Check>, once: Option<&str>) -> Result<Option<Stored<CheckResult>>> {
    let now = clock::now();
    let (status, latency_ms, error) = ask(check);
    database::transaction(|transaction| {
        if let Some(id) = once
            && !transaction.once(id)?
        {
            return Ok(None);
        }
        // The row is held: of two results the change of health is told once.
        let row = transaction
            .query_one("SELECT last_status FROM telemetry_checks WHERE id = $1 FOR UPDATE", params![&check.id])?;
        let Some(row) = row else { return Ok(None) };
        let before: Option<String> = row.get("last_status")?;
        let result =
            CheckResult { check_id: check.id.clone(), status, latency_ms, error: error.clone(), checked_at: now };
        let result = entity::create(transaction, result)?;
        transaction.execute(
            "UPDATE telemetry_checks SET last_status = $2, last_checked_at = $3 WHERE id = $1",
            params![&check.id, status, now],
        )?;
        // The first result is news only when it is bad.
        let is_changed = before.as_deref().map_or(status != Outcome::Ok, |before| before != status.as_str());
        if is_changed {
            let data = json!({
                "checkId": check.id.as_str(),
                "name": check.name,
                "service": check.service,
                "status": status,
                "previousStatus": before,
                "error": error,
            });
            transaction
                .send(&events::Message::new("observability.health.changed", &data)?.with_key(check.id.as_str()))?;
        }
        Ok(Some(result))
    })
}

/// Asks once.
fn ask(check: &Check) -> (Outcome, Option<i64>, Option<String>) {
    let call = match (&check.service, &check.url) {
        (Some(service), _) => http_out::plugin(service).get(check.expected.path.as_deref().unwrap_or("/health")),
        (None, Some(url)) => {
            let after = url.find("://").map_or(0, |at| at + 3);
            let path = url.get(after..).and_then(|rest| rest.find(['/', '?'])).map_or(url.len(), |at| after + at);
            let (base, rest) = url.split_at_checked(path).unwrap_or((url, ""));
            let rest = if rest.starts_with('/') { rest.to_string() } else { format!("/{rest}") };
            http_out::Client::new(base).get(&rest)
        }
        (None, None) => return (Outcome::Failed, None, Some("There is nothing to ask.".into())),
    };
    let begun = Instant::now();
    let timeout = Duration::from_millis(check.timeout_ms.unsigned_abs());
    let answer = call.header("user-agent", "berth-check").timeout(timeout).send();
    let latency_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    match answer {
        Ok(reply) => {
            let error = fault(check, reply.status, &reply.body, latency_ms);
            (if error.is_some() { Outcome::Failed } else { Outcome::Ok }, Some(latency_ms), error)
        }
        Err(Fault::Timeout) => (Outcome::Timeout, None, Some(format!("No answer within {} ms.", check.timeout_ms))),
        Err(Fault::Denied(_)) => (Outcome::Failed, None, Some("The operator does not allow this destination.".into())),
        Err(_) => (Outcome::Failed, None, Some("It cannot be reached.".into())),
    }
}

/// What is wrong with an answer.
fn fault(check: &Check, status: u16, body: &[u8], latency_ms: i64) -> Option<String> {
    let expected = &check.expected;
    let is_good = match &expected.status {
        Some(list) => list.contains(&i64::from(status)),
        None if check.service.is_some() => status < 500,
        None => (200..300).contains(&status),
    };
    if !is_good {
        return Some(format!("It answered {status}."));
    }
    if let Some(text) = &expected.body_contains
        && !String::from_utf8_lossy(body).contains(text.as_str())
    {
        return Some("Its answer does not contain what it should.".into());
    }
    let most = expected.max_latency_ms?;
    (latency_ms > most).then(|| format!("It took {latency_ms} ms."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sdk::serde_json;

    fn check(value: serde_json::Value) -> Check {
        let mut whole = json!({"name": "n", "url": "https://example.com/health"});
        for (name, member) in value.as_object().unwrap() {
            whole[name] = member.clone();
        }
        serde_json::from_value(whole).unwrap()
    }

    fn faulty(value: serde_json::Value) -> Vec<String> {
        let mut faults = Faults::default();
        check(value).check(&mut faults);
        faults.errors().iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn a_check_asks_one_thing() {
        assert!(faulty(json!({})).is_empty());
        assert!(faulty(json!({"url": null, "service": "planning"})).is_empty());
        assert_eq!(faulty(json!({"service": "planning"})), ["url"]);
        assert_eq!(faulty(json!({"url": null})), ["url"]);
        assert_eq!(faulty(json!({"url": "ftp://x"})), ["url"]);
        assert_eq!(faulty(json!({"url": null, "service": "a/b"})), ["service"]);
        assert_eq!(faulty(json!({"expected": {"status": [99], "path": "x"}})), ["expected.status", "expected.path"]);
    }

    #[test]
    fn only_administrators_look_into_what_a_plugin_answers() {
        berth_sdk::testing::sign_in("u1", "o1");
        let status = |value| check(value).require_manager().err().map(|problem| problem.status);
        let plugin = json!({"url": null, "service": "logging", "expected": {"bodyContains": "x"}});
        assert_eq!(status(plugin.clone()), Some(403));
        let is_there = json!({"url": null, "service": "logging", "expected": {"path": "/api/x/1", "status": [200]}});
        assert_eq!(status(is_there), Some(403), "whether something exists is told by the status");
        assert_eq!(status(json!({"expected": {"bodyContains": "x"}})), None, "of an address everybody may");
        assert_eq!(status(json!({"url": null, "service": "logging"})), None);
        berth_sdk::testing::permit(MANAGE);
        assert_eq!(status(plugin), None);
    }

    #[test]
    fn an_answer_is_good_or_it_is_said_why_not() {
        let plain = check(json!({}));
        assert_eq!(fault(&plain, 204, b"", 1), None);
        assert!(fault(&plain, 404, b"", 1).is_some());
        let strict = check(json!({"expected": {"status": [404], "bodyContains": "gone", "maxLatencyMs": 10}}));
        assert_eq!(fault(&strict, 404, b"it is gone", 10), None);
        assert!(fault(&strict, 404, b"here", 1).is_some());
        assert!(fault(&strict, 404, b"gone", 11).is_some());
        let plugin = check(json!({"url": null, "service": "planning"}));
        assert_eq!((fault(&plugin, 404, b"", 1), fault(&plugin, 503, b"", 1).is_some()), (None, true));
    }
}
