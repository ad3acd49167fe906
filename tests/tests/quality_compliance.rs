//! quality: checks that never pass by mistake and run one at a time, policies that refuse, certifications that end, and reports
//! that stay as they are.

use std::sync::Arc;

use berth_tests::answer::text;
use berth_tests::wait::{heard_of, heard_so_far};
use berth_tests::{Client, Host, Manifest, eventually, members};
use reqwest::Method;
use serde_json::{Value, json};

const CHECKS: &str = "/api/compliance/checks";
const POLICIES: &str = "/api/compliance/policies";
const CERTIFICATIONS: &str = "/api/compliance/certifications";
const REPORTS: &str = "/api/compliance/reports";

/// What is told of the end of a certification, before it and after.
const EXPIRING: &str = "compliance.certification.expiring";

async fn host_with_ada(manifest: Manifest) -> (Host, Client) {
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

fn check(kind: &str, rule: Value) -> Value {
    json!({"name": "Access is reviewed", "framework": "soc2", "controlId": "CC6.1", "checkType": kind, "rule": rule})
}

fn expressions(all: &[&str]) -> Value {
    all.iter().map(|expression| json!({"name": expression, "expression": expression})).collect()
}

async fn made(client: &Client, path: &str, body: &Value) -> String {
    format!("{path}/{}", text(&client.post(path, body).await.expect(201), "id"))
}

/// Whether an event is about what lies at `path`.
fn is_about(data: &Value, path: &str) -> bool {
    data["id"].as_str().is_some_and(|id| path.ends_with(id))
}

#[tokio::test]
async fn a_check_never_passes_by_mistake() {
    let (host, ada) = host_with_ada(Manifest::services_and_herald("", "")).await;
    let rule = json!({"facts": {"days": 30}, "assertions": expressions(&["days <= 90", "mfa"])});
    let path = made(&ada, CHECKS, &check("rule", rule)).await;
    assert_eq!(ada.get(&path).await.expect(200)["status"], "not_run");
    let run = format!("{path}/run");
    let passed = ada.post(&run, &json!({"facts": {"mfa": true}})).await.expect(200);
    assert_eq!((&passed["status"], &passed["evidence"]["facts"]["mfa"]), (&json!("pass"), &json!(true)), "{passed}");
    assert_eq!(passed["runBy"], json!(members::id(&ada)));
    // A fact that is missing is no fact that is false.
    let failed = ada.post(&run, &json!({})).await.expect(200);
    assert_eq!(failed["status"], "fail");
    assert!(text(&failed["evidence"], "error").contains("mfa"), "{failed}");
    assert_eq!(ada.get(&path).await.expect(200)["status"], "fail");
    let told = heard_of(&ada, "compliance.check.failed", 1, |data| is_about(data, &path)).await;
    assert_eq!(told[0]["runId"], failed["id"]);
    let runs = ada.get(&format!("{path}/runs")).await.expect(200);
    assert_eq!((&runs["total"], &runs["items"][0]["id"]), (&json!(2), &failed["id"]));
    // The service's own figures, and those of others.
    let rule = json!({
        "queries": [{"name": "own", "path": "/api/compliance/dashboard"},
            {"name": "audit", "path": "/api/audit-logs", "query": {"limit": "1"}},
            {"name": "projects", "path": "/api/projects", "query": {"limit": "1"}}],
        "assertions": expressions(&["own.policies.total == 0", "audit.total >= 0", "projects.total == 0"])
    });
    let asked = made(&ada, CHECKS, &check("query", rule)).await;
    let found = ada.post(&format!("{asked}/run"), &json!({"facts": {"projects": {"total": 7}}})).await.expect(200);
    assert_eq!(found["status"], "pass", "an answer stands above what a run brings: {found}");
    // A manual one is told, and only what makes sense.
    let manual = made(&ada, CHECKS, &check("manual", json!({}))).await;
    let silent = ada.post(&format!("{manual}/run"), &json!({})).await;
    silent.problem(400, "VALIDATION_ERROR");
    assert_eq!(silent.faulty_fields(), ["status"]);
    let told = json!({"status": "partial", "evidence": {"ticket": "T-1"}, "findings": ["two of three"]});
    assert_eq!(ada.post(&format!("{manual}/run"), &told).await.expect(200)["findings"], json!(["two of three"]));
    // Nobody else's.
    let eve = host.client().register("eve@example.com", "Reef").await;
    for path in [path.clone(), format!("{path}/runs")] {
        eve.get(&path).await.problem(404, "NOT_FOUND");
    }
    eve.post(&run, &json!({})).await.problem(404, "NOT_FOUND");
    let viewer = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    viewer.post(&run, &json!({})).await.problem(403, "FORBIDDEN");
    viewer.get(&path).await.done(200);
    // What was asked of others is shown to whoever asked, and to administrators.
    let facts = async |who: &Client| {
        let runs = who.get(&format!("{asked}/runs")).await.expect(200);
        runs["items"][0]["evidence"]["facts"].clone()
    };
    assert_eq!(facts(&ada).await["audit"], found["evidence"]["facts"]["audit"]);
    assert_eq!(facts(&viewer).await, json!({}));
    // By schedule it asks as the organization, which sees what a member does not: they neither make nor turn one into that.
    let member = members::bring(&host, &ada, "mo@example.com", "Member").await;
    let mut nightly = check(
        "query",
        json!({"queries": [{"name": "audit", "path": "/api/audit-logs/search"}], "assertions": expressions(&["audit.total >= 0"])}),
    );
    let by_hand = made(&member, CHECKS, &nightly).await;
    member.put(&by_hand, &json!({"scheduleCron": "0 3 * * *"})).await.problem(403, "FORBIDDEN");
    nightly["scheduleCron"] = json!("0 3 * * *");
    member.post(CHECKS, &nightly).await.problem(403, "FORBIDDEN");
    let nightly = made(&ada, CHECKS, &nightly).await;
    member.put(&nightly, &json!({"name": "Mine"})).await.problem(403, "FORBIDDEN");
    ada.delete(&path).await.done(204);
    ada.get(&format!("{path}/runs")).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_source_that_is_away_fails_a_check() {
    // Nobody may call it: then it is as if it were away.
    let manifest = Manifest::services().with("call = [\"logging\", \"planning\"]", "call = [\"planning\"]");
    let (_host, ada) = host_with_ada(manifest).await;
    let rule = json!({"queries": [{"name": "errors", "path": "/api/logs/stats"}], "assertions": expressions(&["not exists errors.any"])});
    let path = made(&ada, CHECKS, &check("query", rule)).await;
    let run = ada.post(&format!("{path}/run"), &json!({})).await.expect(200);
    assert_eq!(run["status"], "fail", "{run}");
    assert!(text(&run["evidence"], "error").contains("/api/logs/stats of logging"), "{run}");
}

#[tokio::test]
async fn every_fault_of_a_check_is_named() {
    let (_host, ada) = host_with_ada(Manifest::services()).await;
    let rule = json!({"queries": [{"name": "1st", "path": "/api/secrets"}], "assertions": expressions(&["a ==", "a"])});
    let refused = ada
        .post(
            CHECKS,
            &json!({"name": "x", "framework": "soc2", "controlId": "1", "checkType": "query",
        "rule": rule, "scheduleCron": "* * * * *"}),
        )
        .await;
    refused.problem(400, "VALIDATION_ERROR");
    let fields = ["rule.assertions[0].expression", "rule.queries[0].name", "rule.queries[0].path", "scheduleCron"];
    assert_eq!(refused.faulty_fields(), fields);
    ada.post(CHECKS, &check("guess", json!({}))).await.problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn a_check_runs_one_at_a_time() {
    let (host, ada) = host_with_ada(Manifest::services()).await;
    let questions: Vec<Value> =
        (0..10).map(|place| json!({"name": format!("q{place}"), "path": "/api/projects"})).collect();
    let rule = json!({"queries": questions, "assertions": expressions(&["q9.total == 0"])});
    let path = made(&ada, CHECKS, &check("query", rule)).await;
    let ada = Arc::new(ada);
    let runners: Vec<_> = (0..12)
        .map(|_| {
            let (ada, path) = (Arc::clone(&ada), path.clone());
            tokio::spawn(async move {
                let answer = ada.post(&format!("{path}/run"), &json!({})).await;
                if answer.status != 200 {
                    answer.problem(409, "CHECK_RUNNING");
                }
                answer.status
            })
        })
        .collect();
    let mut done = 0;
    for runner in runners {
        done += usize::from(runner.await.expect("a runner") == 200);
    }
    let runs = ada.get(&format!("{path}/runs")).await.expect(200);
    assert!(done >= 1 && runs["total"] == done, "{done} were told that it ran, {} did", runs["total"]);
    // While one goes on no other begins, until it counts as one that its host has died with.
    let (_, id) = path.rsplit_once('/').expect("a path with an id");
    for (seconds, status) in [(10, 409), (151, 200), (0, 200)] {
        if seconds > 0 {
            let begun = (chrono::Utc::now() - chrono::Duration::seconds(seconds))
                .to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            let claim = format!(
                "UPDATE compliance_checks SET run_token = 'other', run_started_at = '{begun}' WHERE id = '{id}'"
            );
            assert_eq!(host.store().change(&claim).await, 1);
        }
        let answer = ada.post(&format!("{path}/run"), &json!({})).await;
        match status {
            409 => drop(answer.problem(409, "CHECK_RUNNING")),
            _ => answer.done(status),
        }
    }
    let runs = ada.get(&format!("{path}/runs")).await.expect(200);
    assert_eq!(runs["total"], done + 2, "{runs}");
}

#[tokio::test]
async fn a_policy_refuses_what_it_cannot_judge() {
    let (host, ada) = host_with_ada(Manifest::services_and_herald("", "")).await;
    let policy = json!({"name": "Two pairs of eyes", "policyType": "deployment", "enforcementMode": "block", "rules": [
        {"name": "approvals", "when": "action == 'deploy' and context.environment == 'production'",
            "require": "context.approvals >= 2", "message": "Production needs two approvals."}]});
    let path = made(&ada, POLICIES, &policy).await;
    let ask = async |who: &Client, context: Value| {
        let question = json!({"resourceType": "release", "resourceId": "r1", "action": "deploy", "context": context});
        who.post(&format!("{path}/check"), &question).await.expect(200)
    };
    let good = ask(&ada, json!({"environment": "production", "approvals": 2})).await;
    assert_eq!((&good["allowed"], &good["violations"]), (&json!(true), &json!([])));
    let bad = ask(&ada, json!({"environment": "production", "approvals": 1})).await;
    assert_eq!((&bad["allowed"], &bad["mode"]), (&json!(false), &json!("block")));
    assert_eq!(bad["violations"][0]["message"], "Production needs two approvals.");
    let unknown = ask(&ada, json!({"environment": "production"})).await;
    assert_eq!(unknown["allowed"], false);
    assert!(text(&unknown["violations"][0], "error").contains("context.approvals"), "{unknown}");
    assert_eq!(ask(&ada, json!({"environment": "staging"})).await["allowed"], true);
    let told = heard_of(&ada, "compliance.violation", 1, |data| is_about(data, &path)).await;
    assert_eq!(told[0]["allowed"], false);
    let entry = eventually("an entry of the audit log", async || {
        let page = ada.get("/api/audit-logs?action=compliance.violation").await.expect(200);
        page["items"].as_array().and_then(|items| items.first().cloned())
    })
    .await;
    assert_eq!((&entry["resourceType"], &entry["userId"]), (&json!("release"), &json!(members::id(&ada))), "{entry}");
    // A change counts at once, whatever is kept at hand.
    ada.put(&path, &json!({"enforcementMode": "warn"})).await.done(200);
    let warned = ask(&ada, json!({"environment": "production", "approvals": 0})).await;
    assert_eq!((&warned["allowed"], warned["violations"].as_array().map(Vec::len)), (&json!(true), Some(1)));
    ada.put(&path, &json!({"enforcementMode": "block", "enabled": false})).await.done(200);
    assert_eq!(ask(&ada, json!({"environment": "production"})).await["allowed"], true);
    // Whoever may see it may ask; nobody else's.
    let viewer = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    assert_eq!(ask(&viewer, json!({"environment": "staging"})).await["allowed"], true);
    viewer.put(&path, &json!({"enabled": true})).await.problem(403, "FORBIDDEN");
    let eve = host.client().register("eve@example.com", "Reef").await;
    let question = json!({"resourceType": "release", "action": "deploy"});
    eve.post(&format!("{path}/check"), &question).await.problem(404, "NOT_FOUND");
    let refused =
        ada.post(POLICIES, &json!({"name": "x", "policyType": "y", "rules": [{"name": "r", "require": "a ="}]})).await;
    refused.problem(400, "VALIDATION_ERROR");
    assert_eq!(refused.faulty_fields(), ["rules[0].require"]);
    ada.delete(&path).await.done(204);
    ada.post(&format!("{path}/check"), &question).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn certifications_end_by_themselves() {
    let manifest = Manifest::services_and_herald("", "")
        .with("checks = \"1m\"\ncertifications = \"daily\"", "checks = \"1s\"\ncertifications = \"1s\"");
    let (host, ada) = host_with_ada(manifest).await;
    let certified = |kind: &str, expiry: &str| json!({"certificationType": kind, "status": "certified", "issuedDate": "2020-01-01T00:00:00Z", "expiryDate": expiry});
    let old = ada.post(CERTIFICATIONS, &certified("SOC 2", "2021-01-01T00:00:00Z")).await.expect(201);
    assert_eq!(old["status"], "expired", "{old}");
    let soon = chrono::Utc::now() + chrono::Duration::milliseconds(1_500);
    let short = made(&ada, CERTIFICATIONS, &certified("ISO 27001", &soon.to_rfc3339())).await;
    let later = chrono::Utc::now() + chrono::Duration::days(20);
    let warned = made(&ada, CERTIFICATIONS, &certified("HIPAA", &later.to_rfc3339())).await;
    let quiet = made(&ada, CERTIFICATIONS, &certified("GDPR", "2100-01-01T00:00:00Z")).await;
    eventually("its end", async || (ada.get(&short).await.expect(200)["status"] == "expired").then_some(())).await;
    heard_of(&ada, EXPIRING, 1, |data| data["isExpired"] == true && is_about(data, &short)).await;
    let news = heard_of(&ada, EXPIRING, 1, |data| is_about(data, &warned)).await.remove(0);
    assert_eq!((&news["daysLeft"], &news["isExpired"]), (&json!(20), &json!(false)), "{news}");
    let page = ada.get(&format!("{CERTIFICATIONS}?status=expired")).await.expect(200);
    assert_eq!(page["total"], 2, "{page}");
    assert_eq!(ada.get(&quiet).await.expect(200)["status"], "certified");
    // Each warning once, however often the timer ticks: the next of its kind is that of another certification.
    let other = made(&ada, CERTIFICATIONS, &certified("PCI", &later.to_rfc3339())).await;
    heard_of(&ada, EXPIRING, 1, |data| is_about(data, &other)).await;
    let all = heard_so_far(&ada, "herald", EXPIRING).await;
    let of = |path: &str| all.iter().filter(|data| is_about(data, path)).count();
    assert_eq!((of(&warned), of(&quiet)), (1, 0), "{all:?}");
    let refused = ada.post(CERTIFICATIONS, &certified("x", "2019-01-01T00:00:00Z")).await;
    refused.problem(400, "VALIDATION_ERROR");
    assert_eq!(refused.faulty_fields(), ["expiryDate"]);
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&quiet).await.problem(404, "NOT_FOUND");
    // Checks have their time as well: one that can runs by itself, one that somebody must look at is to be looked at again.
    let mut nightly = check("rule", json!({"facts": {"ok": true}, "assertions": expressions(&["ok"])}));
    nightly["scheduleCron"] = json!("0 3 * * *");
    let by_itself = made(&ada, CHECKS, &nightly).await;
    nightly["checkType"] = json!("manual");
    let by_hand = made(&ada, CHECKS, &nightly).await;
    ada.post(&format!("{by_hand}/run"), &json!({"status": "pass"})).await.done(200);
    let due = "UPDATE compliance_checks SET next_run_at = '2020-01-01T03:00:00.000Z'";
    assert_eq!(host.store().change(due).await, 2);
    eventually("what is due", async || {
        let (ran, again) = (ada.get(&by_itself).await.expect(200), ada.get(&by_hand).await.expect(200));
        (ran["status"] == "pass" && again["status"] == "not_run").then_some(())
    })
    .await;
    let runs = ada.get(&format!("{by_itself}/runs")).await.expect(200);
    assert_eq!((&runs["total"], &runs["items"][0]["runBy"]), (&json!(1), &json!("schedule")), "{runs}");
    let next = text(&ada.get(&by_itself).await.expect(200), "nextRunAt");
    assert!(next > chrono::Utc::now().to_rfc3339(), "{next}");
}

#[tokio::test]
async fn a_report_stays_as_it_is() {
    let (host, ada) = host_with_ada(Manifest::services()).await;
    let rule = json!({"facts": {"ok": true}, "assertions": expressions(&["ok"])});
    let good = made(&ada, CHECKS, &check("rule", rule)).await;
    let day = |days: i64| (chrono::Utc::now() + chrono::Duration::days(days)).to_rfc3339();
    let wanted = json!({"reportType": "soc2", "period": "monthly", "startDate": day(-1), "endDate": day(1)});
    let status = async || ada.post(REPORTS, &wanted).await.expect(201)["status"].clone();
    assert_eq!(status().await, "partial", "nobody has looked");
    ada.post(&format!("{good}/run"), &json!({})).await.done(200);
    let first = ada.post(REPORTS, &wanted).await.expect(201);
    assert_eq!((&first["status"], &first["framework"]), (&json!("compliant"), &json!("soc2")), "{first}");
    ada.post(&format!("{good}/run"), &json!({"facts": {"ok": false}})).await.done(200);
    assert_eq!(status().await, "non_compliant");
    let path = format!("{REPORTS}/{}", text(&first, "id"));
    assert_eq!(ada.get(&path).await.expect(200)["findings"], first["findings"], "it says what it said");
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        let answer = ada.send(ada.request(method, &path).json(&json!({"status": "compliant"}))).await;
        answer.problem(405, "METHOD_NOT_ALLOWED");
    }
    let past = ada.post(REPORTS, &json!({"reportType": "board", "period": "quarterly"})).await.expect(201);
    assert_eq!((&past["status"], &past["framework"]), (&json!("partial"), &Value::Null), "nothing ran then: {past}");
    ada.post(REPORTS, &json!({"reportType": "x", "period": "weekly"})).await.problem(400, "VALIDATION_ERROR");
    let dashboard = ada.get("/api/compliance/dashboard").await.expect(200);
    assert_eq!(dashboard["frameworks"][0]["fail"], 1, "{dashboard}");
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&path).await.problem(404, "NOT_FOUND");
    assert_eq!(eve.get("/api/compliance/dashboard").await.expect(200)["frameworks"], json!([]));
}

#[tokio::test]
async fn a_kind_of_data_has_one_retention_policy() {
    let (_host, ada) = host_with_ada(Manifest::services()).await;
    let body = json!({"resourceType": "messages", "retentionDays": 365, "action": "delete"});
    let ada = Arc::new(ada);
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (ada, body) = (Arc::clone(&ada), body.clone());
            tokio::spawn(async move { ada.post("/api/compliance/retention", &body).await.status })
        })
        .collect();
    let mut statuses = Vec::new();
    for writer in writers {
        statuses.push(writer.await.expect("a writer"));
    }
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 201 | 409)), "{statuses:?}");
    let page = ada.get("/api/compliance/retention?resourceType=messages").await.expect(200);
    let path = format!("/api/compliance/retention/{}", text(&page["items"][0], "id"));
    assert_eq!(ada.put(&path, &json!({"retentionDays": 30})).await.expect(200)["retentionDays"], 30);
    ada.put(&path, &json!({"retentionDays": 0})).await.problem(400, "VALIDATION_ERROR");
    ada.delete(&path).await.done(204);
}
