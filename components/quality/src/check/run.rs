//! Running a check: one at a time, and every run is kept with what it was judged by.

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Check, CheckStatus, CheckType, MANAGE, facts, rule};

/// A run that was not finished after so long has died with its host; another one may begin.
const ABANDONED: Duration = Duration::from_secs(150);
/// What a run may bring or be judged by, as JSON.
const EVIDENCE_BYTES_MAX: usize = 1024 * 1024;

/// One run.
#[entity(table = "compliance_check_runs", name = "run", sort = "-createdAt")]
pub struct CheckRun {
    /// The check.
    pub check_id: Id,
    /// How it ended.
    pub status: CheckStatus,
    /// What it was judged by: the facts, and the error where there was one.
    pub evidence: Value,
    /// What each assertion came to, or what somebody has found.
    pub findings: Vec<Value>,
    /// Who ran it; `schedule` where it ran by itself.
    #[field(filter)]
    pub run_by: String,
}

impl Rules for CheckRun {}

/// What a run brings.
#[data]
#[derive(Default)]
pub struct RunInput {
    /// Of a rule: facts in addition to those of the check.
    #[field(default)]
    facts: Map<String, Value>,
    /// Of a manual check: `pass`, `fail` or `partial`.
    status: Option<CheckStatus>,
    /// Of a manual check: what shows it.
    evidence: Option<Map<String, Value>>,
    /// Of a manual check: what was found.
    #[field(max = 1_000)]
    findings: Option<Vec<Value>>,
}

/// `POST /api/compliance/checks/{id}/run`: 200 with the run; 409 while another one goes on.
pub fn run_now(Params(id): Params<Id>, input: Option<Json<RunInput>>) -> Result<Stored<CheckRun>> {
    let check = entity::read::<Check>(&Pool, &id)?;
    let input = input.map(|Json(input)| input).unwrap_or_default();
    require_fit(&check, &input)?;
    let run_by = auth::principal().user_id.unwrap_or_else(|| "operator".into());
    run(&check, input, run_by, None)?.ok_or_else(running)
}

/// 400 where a manual check is not told what was found, or one that finds out itself is.
fn require_fit(check: &Check, input: &RunInput) -> Result<()> {
    let mut faults = Faults::default();
    let is_manual = check.check_type == CheckType::Manual;
    match input.status {
        None if is_manual => faults.add("status", "is required for a manual check: pass, fail or partial"),
        Some(CheckStatus::NotRun) if is_manual => faults.add("status", "must be pass, fail or partial"),
        Some(_) if !is_manual => faults.add("status", "follows from the rule"),
        _ => {}
    }
    if !is_manual && input.evidence.is_some() {
        faults.add("evidence", "follows from the rule; facts go to facts");
    }
    if !is_manual && input.findings.is_some() {
        faults.add("findings", "follow from the rule");
    }
    if json!([input.facts, input.evidence, input.findings]).to_string().len() > EVIDENCE_BYTES_MAX {
        faults.add("evidence", format!("must have at most {EVIDENCE_BYTES_MAX} bytes with facts and findings"));
    }
    faults.finish()
}

fn running() -> Problem {
    Problem::conflict("Another run of the check goes on.").with_code("CHECK_RUNNING")
}

/// Runs a check; none when another run goes on.
fn run(check: &Stored<Check>, input: RunInput, run_by: String, once: Option<&str>) -> Result<Option<Stored<CheckRun>>> {
    let token = Id::new();
    let now = clock::now();
    // The claim is a statement of its own, seen by everybody before anything is asked.
    let claimed = database::execute(
        "UPDATE compliance_checks SET run_token = $3, run_started_at = $4 WHERE id = $1 AND organization_id = $2 \
         AND (run_token IS NULL OR run_started_at < $5)",
        params![&check.id, auth::organization_id()?, &token, now, now.minus(ABANDONED)],
    )?;
    if claimed == 0 {
        return Ok(None);
    }
    let verdict = judge(check, input);
    let result = database::transaction(|transaction| {
        if let Some(id) = once
            && !transaction.once(id)?
        {
            return Ok(None);
        }
        note(transaction, check, &token, verdict, run_by).map(Some)
    });
    // Whatever has happened, nobody waits for this run any more.
    let freed = database::execute(
        "UPDATE compliance_checks SET run_token = NULL, run_started_at = NULL WHERE id = $1 AND run_token = $2",
        params![&check.id, &token],
    );
    if let Err(fault) = freed {
        logging::warn!("a check stays claimed until it counts as abandoned", check = check.id, fault = fault);
    }
    result
}

/// What a run has found.
struct Verdict {
    status: CheckStatus,
    evidence: Value,
    findings: Vec<Value>,
}

fn judge(check: &Check, input: RunInput) -> Verdict {
    if check.check_type == CheckType::Manual {
        return Verdict {
            status: input.status.unwrap_or(CheckStatus::Fail),
            evidence: Value::Object(input.evidence.unwrap_or_default()),
            findings: input.findings.unwrap_or_default(),
        };
    }
    let mut asked = check.rule.clone();
    if check.check_type == CheckType::Rule {
        asked.queries.clear();
    }
    let (facts, mut findings) = facts::gather(&asked, input.facts);
    let facts = Value::Object(facts);
    findings.extend(asked.judge(&facts));
    let mut status = rule::status(&findings);
    let mut errors: Vec<String> = findings.iter().filter_map(|finding| finding.error.clone()).collect();
    let mut evidence = Map::new();
    if !asked.queries.is_empty() {
        evidence.insert("asked".into(), asked.queries.iter().map(|question| question.name.as_str()).collect());
    }
    if facts.to_string().len() > EVIDENCE_BYTES_MAX {
        // What cannot be kept shows nothing.
        errors.push(format!("the facts have more than {EVIDENCE_BYTES_MAX} bytes"));
        status = CheckStatus::Fail;
    } else {
        evidence.insert("facts".into(), facts);
    }
    if !errors.is_empty() {
        evidence.insert("error".into(), errors.join("; ").into());
    }
    let findings = findings.into_iter().map(|finding| json!(finding)).collect();
    Verdict { status, evidence: Value::Object(evidence), findings }
}

/// Keeps a run, with the check's status and the news of a failure. 409 when the claim was lost meanwhile.
fn note(
    transaction: &Transaction,
    check: &Stored<Check>,
    token: &Id,
    verdict: Verdict,
    run_by: String,
) -> Result<Stored<CheckRun>> {
    let now = clock::now();
    let changed = transaction.execute(
        "UPDATE compliance_checks SET status = $3, last_run_at = $4, updated_at = $4, version = version + 1, run_token = NULL, \
         run_started_at = NULL WHERE id = $1 AND run_token = $2",
        params![&check.id, token, verdict.status, now],
    )?;
    if changed == 0 {
        return Err(Problem::conflict("The check was deleted, or the run has taken too long.").with_code("RUN_LOST"));
    }
    let Verdict { status, evidence, findings } = verdict;
    let row = entity::create(transaction, CheckRun { check_id: check.id.clone(), status, evidence, findings, run_by })?;
    if status == CheckStatus::Fail {
        let data = json!({
            "id": check.id, "checkId": check.id, "runId": row.id, "name": check.name, "framework": check.framework,
            "controlId": check.control_id, "status": status, "runBy": row.run_by,
            "error": told_error(&row.evidence),
        });
        transaction.send(&events::Message::new("compliance.check.failed", &data)?.with_key(check.id.as_str()))?;
    }
    Ok(row)
}

/// What everybody may hear of an error: none of one that may quote what other services have answered.
fn told_error(evidence: &Value) -> Option<String> {
    let error = evidence.get("error").and_then(Value::as_str).filter(|_| evidence.get("asked").is_none());
    error.map(|text| text.chars().take(500).collect())
}

/// `GET /api/compliance/checks/{id}/runs`: what other services have answered is for whoever has asked them, and for administrators.
pub(super) fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<CheckRun>>>> {
    let check = entity::read::<Check>(&Pool, &id)?;
    let page = Select::<CheckRun>::new().equal("check_id", &id).page(&Pool, &query)?;
    if auth::has(MANAGE) {
        return Ok(page);
    }
    let mut page: Value = berth_sdk::serde_json::from_slice(&page.text).map_err(|_| Problem::internal())?;
    let reader = auth::principal().user_id.unwrap_or_default();
    for row in page.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        if row.get("runBy").and_then(Value::as_str) != Some(reader.as_str()) {
            withhold(row, check.check_type);
        }
    }
    Ok(JsonText::new(200, page.to_string().into_bytes()))
}

/// Takes out of a run what other services have answered: the facts that were asked for, and the errors, which may quote them.
fn withhold(row: &mut Value, check_type: CheckType) {
    let Some(evidence) = row.get_mut("evidence").and_then(Value::as_object_mut) else { return };
    match evidence.get("asked").and_then(Value::as_array) {
        Some(asked) => {
            let asked: Vec<String> = asked.iter().filter_map(Value::as_str).map(ToString::to_string).collect();
            if let Some(facts) = evidence.get_mut("facts").and_then(Value::as_object_mut) {
                facts.retain(|name, _| !asked.contains(name));
            }
        }
        // Runs that do not say what was asked for are of an earlier version.
        None if check_type == CheckType::Query => drop(evidence.remove("facts")),
        None => return,
    }
    evidence.remove("error");
    for finding in row.get_mut("findings").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(error) = finding.get_mut("error").filter(|error| !error.is_null()) {
            *error = "is for whoever ran it and for administrators".into();
        }
    }
}

/// Which check.
#[data]
struct Work {
    check_id: Id,
}

/// Handles `quality.check.run`: a check whose time has come. While another run goes on that one is enough.
pub fn due(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let Some(check) = entity::find::<Check>(&Pool, &work.check_id)? else { return Ok(()) };
    if check.check_type == CheckType::Manual {
        return database::transaction(|transaction| {
            if transaction.once(&envelope.id)? {
                let sql =
                    "UPDATE compliance_checks SET status = $2, updated_at = $3, version = version + 1 WHERE id = $1";
                transaction.execute(sql, params![&check.id, CheckStatus::NotRun, clock::now()])?;
            }
            Ok(())
        });
    }
    run(&check, RunInput::default(), "schedule".into(), Some(&envelope.id)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, expression: &str) -> Check {
        berth_sdk::serde_json::from_value(json!({
            "name": "c", "framework": "gdpr", "controlId": "1", "checkType": kind,
            "rule": {"facts": {"days": 30}, "assertions": [{"name": "a", "expression": expression}]}
        }))
        .unwrap()
    }

    fn input(value: Value) -> RunInput {
        berth_sdk::serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_error_is_evidence_and_no_pass() {
        let verdict = judge(&check("rule", "not missing > 3"), RunInput::default());
        assert_eq!(verdict.status, CheckStatus::Fail);
        assert!(verdict.evidence["error"].as_str().unwrap().contains("missing"), "{}", verdict.evidence);
        assert_eq!(verdict.evidence["facts"]["days"], 30);
        let verdict = judge(&check("rule", "days <= 30"), RunInput::default());
        assert_eq!((verdict.status, verdict.evidence.get("error")), (CheckStatus::Pass, None));
        let verdict = judge(&check("rule", "days <= 30"), input(json!({"facts": {"days": 31}})));
        assert_eq!((verdict.status, &verdict.findings[0]["holds"]), (CheckStatus::Fail, &json!(false)));
    }

    #[test]
    fn what_others_have_answered_is_for_whoever_asked_them() {
        let run = |asked: Value| {
            let mut evidence =
                json!({"facts": {"days": 30, "audit": {"total": 7}}, "error": "7 and 'x' cannot be compared so"});
            if !asked.is_null() {
                evidence["asked"] = asked;
            }
            json!({"evidence": evidence, "findings": [{"name": "a", "holds": false, "error": "7 and 'x' cannot be compared so"}, {"name": "b", "holds": true}]})
        };
        let seen = |asked: Value, kind| {
            let mut row = run(asked);
            withhold(&mut row, kind);
            row
        };
        let row = seen(json!(["audit"]), CheckType::Rule);
        assert_eq!(
            row["evidence"],
            json!({"asked": ["audit"], "facts": {"days": 30}}),
            "whatever the check has become"
        );
        assert!(!row.to_string().contains('7'), "{row}");
        assert_eq!(row["findings"][1], json!({"name": "b", "holds": true}));
        assert_eq!(seen(Value::Null, CheckType::Query)["evidence"], json!({}));
        assert_eq!(seen(Value::Null, CheckType::Rule), run(Value::Null));
        assert_eq!(told_error(&run(json!(["audit"]))["evidence"]), None);
        assert!(told_error(&run(Value::Null)["evidence"]).is_some());
        let question = json!({"queries": [{"name": "audit", "path": "/api/audit-logs"}], "assertions": []});
        let mut asking = check("query", "days > 1");
        asking.rule.queries = berth_sdk::serde_json::from_value(question["queries"].clone()).unwrap();
        assert_eq!(judge(&asking, RunInput::default()).evidence["asked"], json!(["audit"]));
    }

    #[test]
    fn a_manual_check_is_told_and_others_are_not() {
        let fields = |kind: &str, value: Value| match require_fit(&check(kind, "days > 1"), &input(value)) {
            Ok(()) => Vec::new(),
            Err(problem) => problem.errors.into_iter().map(|error| error.field).collect(),
        };
        assert_eq!(fields("manual", json!({})), ["status"]);
        assert_eq!(fields("manual", json!({"status": "not_run"})), ["status"]);
        assert!(fields("manual", json!({"status": "pass", "evidence": {"ticket": "T-1"}})).is_empty());
        assert_eq!(
            fields("rule", json!({"status": "pass", "evidence": {}, "findings": []})),
            ["status", "evidence", "findings"]
        );
        assert!(fields("rule", json!({"facts": {"a": 1}})).is_empty());
    }
}
