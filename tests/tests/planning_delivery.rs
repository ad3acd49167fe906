//! planning: what goes out and where it runs: releases, environments, dependencies, modules and architecture.

use berth_tests::answer::text;
use berth_tests::{Client, Host, members, plans};
use serde_json::{Value, json};

async fn made(client: &Client, path: &str, body: Value) -> Value {
    client.post(path, &body).await.expect(201)
}

async fn made_id(client: &Client, path: &str, body: Value) -> String {
    text(&made(client, path, body).await, "id")
}

async fn quay() -> (Host, Client, String) {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let project = plans::project(&ada, "Quay").await;
    (host, ada, project)
}

#[tokio::test]
async fn a_release_goes_through_every_environment_in_order() {
    let (_host, ada, project) = quay().await;
    let release = async |version: &str| {
        ada.post(
            "/api/releases",
            &json!({"projectId": project, "name": "R", "version": version, "services": ["web", "api", "db"]}),
        )
        .await
    };
    assert_eq!(release("one").await.faulty_fields(), ["version"]);
    let first = release("1.0.0").await.expect(201);
    release("1.0.0").await.problem(409, "VERSION_TAKEN");
    assert_eq!((&first["version"], &first["status"]), (&json!("1.0.0"), &json!("planned")), "{first}");
    let path = format!("/api/releases/{}", text(&first, "id"));
    let db = made_id(&ada, "/api/modules", json!({"projectId": project, "name": "db", "path": "db"})).await;
    let api = made_id(
        &ada,
        "/api/modules",
        json!({"projectId": project, "name": "api", "path": "api", "dependencies": [db]}),
    )
    .await;
    made(&ada, "/api/modules", json!({"projectId": project, "name": "web", "path": "web", "dependencies": [api]}))
        .await;

    let deploy =
        async |environment: &str| ada.post(&format!("{path}/deploy"), &json!({ "environment": environment })).await;
    let problem = deploy("production").await.problem(409, "ENVIRONMENT_SKIPPED");
    assert_eq!(problem["missingEnvironment"], "dev");
    deploy("moon").await.problem(400, "VALIDATION_ERROR");
    for environment in ["dev", "test", "staging"] {
        let deployment = deploy(environment).await.expect(200);
        assert_eq!(
            (&deployment["services"], &deployment["status"]),
            (&json!(["db", "api", "web"]), &json!("completed"))
        );
    }
    let week = json!(["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]);
    let production = made_id(
        &ada,
        "/api/environments",
        json!({"projectId": project, "name": "production", "config": {"timeRules": {"blockedDays": week}}}),
    )
    .await;
    let problem = deploy("production").await.problem(409, "WINDOW_BLOCKED");
    assert!(problem.as_object().is_some_and(|members| members.contains_key("nextWindow")), "{problem}");
    let rules = json!({"config": {"timeRules": {"blockedDays": ["2020-01-01"]}}});
    ada.put(&format!("/api/environments/{production}"), &rules).await.done(200);
    deploy("production").await.done(200);
    let out = ada.get(&path).await.expect(200);
    assert_eq!(out["status"], "deployed", "{out}");
    assert!(out["actualStart"].is_string() && out["actualEnd"].is_string(), "{out}");

    assert_eq!(ada.post(&format!("{path}/rollback"), &json!({})).await.expect(200)["environment"], "production");
    assert_eq!(ada.get(&path).await.expect(200)["status"], "in_progress");
    for environment in ["staging", "test", "dev"] {
        assert_eq!(ada.post(&format!("{path}/rollback"), &json!({})).await.expect(200)["environment"], environment);
    }
    ada.post(&format!("{path}/rollback"), &json!({})).await.problem(409, "NOTHING_TO_ROLL_BACK");
    deploy("test").await.problem(409, "ENVIRONMENT_SKIPPED");
    assert_eq!(ada.get(&format!("{path}/deployments")).await.expect(200)["total"], 4);
}

#[tokio::test]
async fn a_deployment_that_takes_its_time_is_finished_later() {
    let (_host, ada, project) = quay().await;
    let release =
        made_id(&ada, "/api/releases", json!({"projectId": project, "name": "R", "version": "2.0.0-rc.1"})).await;
    let path = format!("/api/releases/{release}");
    let begun =
        ada.post(&format!("{path}/deploy"), &json!({"environment": "dev", "status": "in_progress"})).await.expect(200);
    ada.post(&format!("{path}/deploy"), &json!({"environment": "test"})).await.problem(409, "ENVIRONMENT_SKIPPED");
    let deployment = format!("{path}/deployments/{}", text(&begun, "id"));
    ada.put(&deployment, &json!({"status": "pending"})).await.problem(409, "ILLEGAL_TRANSITION");
    ada.put(&deployment, &json!({"status": "completed"})).await.done(200);
    ada.put(&deployment, &json!({"status": "failed"})).await.problem(409, "ILLEGAL_TRANSITION");
    ada.post(&format!("{path}/deploy"), &json!({"environment": "test"})).await.done(200);
    let circle = json!({"environment": "staging", "serviceDependencies": {"a": ["b"], "b": ["a"]}});
    ada.put(&path, &json!({"services": ["a", "b"]})).await.done(200);
    ada.post(&format!("{path}/deploy"), &circle).await.problem(409, "DEPENDENCY_CYCLE");
    ada.put(&path, &json!({"status": "deployed"})).await.problem(409, "ILLEGAL_TRANSITION");
    ada.put(&path, &json!({"status": "cancelled"})).await.done(200);
    ada.post(&format!("{path}/deploy"), &json!({"environment": "staging"})).await.problem(409, "CONFLICT");
}

#[tokio::test]
async fn a_changelog_holds_the_tasks_completed_since_the_release_before() {
    let (_host, ada, project) = quay().await;
    let complete = async |title: &str, kind: &str| {
        let task = made_id(&ada, "/api/tasks", json!({"projectId": project, "title": title, "type": kind})).await;
        for status in ["in_progress", "in_review", "completed"] {
            ada.put(&format!("/api/tasks/{task}/status"), &json!({ "status": status })).await.done(200);
        }
    };
    let out = async |version: &str| {
        let release = made_id(
            &ada,
            "/api/releases",
            json!({"projectId": project, "name": "Quay", "version": version, "releaseNotes": "Mind the gap."}),
        )
        .await;
        for environment in ["dev", "test", "staging", "production"] {
            ada.post(&format!("/api/releases/{release}/deploy"), &json!({ "environment": environment }))
                .await
                .done(200);
        }
        ada.get(&format!("/api/releases/{release}/changelog")).await.expect(200)
    };
    complete("Pier", "feature").await;
    let first = out("1.0.0").await;
    assert_eq!(first["sections"][0]["entries"][0]["identifier"], "QUAY-1", "{first}");
    complete("Leak", "bug").await;
    let second = out("1.1.0").await;
    assert_eq!(second["markdown"], "# Quay 1.1.0\n\nMind the gap.\n\n## Fixed\n\n- Leak (QUAY-2)\n", "{second}");
    assert!(second["since"].is_string(), "{second}");
}

#[tokio::test]
async fn an_environment_names_its_secrets_and_never_holds_them() {
    let (_host, ada, project) = quay().await;
    let reference = json!({"type": "SECRET_REF", "secretId": "s1"});
    let make = async |name: &str, config: Value| {
        ada.post("/api/environments", &json!({"projectId": project, "name": name, "config": config})).await
    };
    let refused = make("dev", json!({"databaseUrl": "postgres://u:p@h/d", "envVars": {"DB_PASSWORD": "x"}})).await;
    refused.problem(400, "VALIDATION_ERROR");
    assert_eq!(refused.faulty_fields(), ["config.databaseUrl", "config.envVars.DB_PASSWORD"]);
    let dev = text(
        &make("dev", json!({"envVars": {"DB_PASSWORD": reference, "LEVEL": "1", "EXTRA": true}, "services": ["api"]}))
            .await
            .expect(201),
        "id",
    );
    make("dev", json!({})).await.problem(409, "ENVIRONMENT_EXISTS");
    let own = json!({"type": "SECRET_REF", "secretId": "s2"});
    let test = text(&make("test", json!({"envVars": {"DB_PASSWORD": own, "LEVEL": "2"}})).await.expect(201), "id");
    let verdict = ada.post(&format!("/api/environments/{test}/validate"), &json!({})).await.expect(200);
    assert_eq!(
        (&verdict["isValid"], &verdict["warnings"][0]["field"]),
        (&json!(true), &json!("config.envVars.EXTRA")),
        "{verdict}"
    );
    let compared = ada.get(&format!("/api/environments/compare?a={dev}&b={test}")).await.expect(200);
    let paths: Vec<&str> =
        compared["differences"].as_array().unwrap().iter().filter_map(|one| one["path"].as_str()).collect();
    assert_eq!(paths, ["envVars.DB_PASSWORD", "envVars.EXTRA", "envVars.LEVEL", "services"], "{compared}");
    let synced = ada.post(&format!("/api/environments/{test}/sync"), &json!({"sourceId": dev})).await.expect(200);
    assert_eq!(synced["config"]["envVars"]["LEVEL"], "1", "{synced}");
    assert_eq!(synced["config"]["envVars"]["DB_PASSWORD"]["secretId"], "s2", "{synced}");
    let variables = format!("/api/environments/{test}/variables");
    let changed = ada.put(&variables, &json!({"variables": {"LEVEL": null, "COLOUR": "red"}})).await.expect(200);
    assert_eq!((&changed["variables"]["LEVEL"], &changed["variables"]["COLOUR"]), (&Value::Null, &json!("red")));
    let refused = ada.put(&variables, &json!({"variables": {"API_TOKEN": "x"}})).await;
    assert_eq!(refused.faulty_fields(), ["variables.API_TOKEN"]);
    assert_eq!(ada.get(&variables).await.expect(200), changed);
    // A task that names an environment is ready while that exists.
    let task = made_id(&ada, "/api/tasks", json!({"projectId": project, "title": "T", "environmentId": test})).await;
    let readiness = format!("/api/tasks/{task}/readiness");
    assert_eq!(ada.get(&readiness).await.expect(200)["isReady"], true);
    ada.delete(&format!("/api/environments/{test}")).await.done(204);
    assert_eq!(ada.get(&readiness).await.expect(200)["reasons"][0]["code"], "ENVIRONMENT_MISSING");
}

#[tokio::test]
async fn a_scan_keeps_packages_and_what_is_known_of_them() {
    let (_host, ada, project) = quay().await;
    let scan = async |manifest: &str, advisories: Value| {
        ada.post("/api/dependencies/scan", &json!({"projectId": project, "fileName": "app/package.json", "manifest": manifest, "advisories": advisories})).await
    };
    scan("[", json!([])).await.problem(400, "VALIDATION_ERROR");
    let advisories = json!([{"package": "left", "id": "A-1", "severity": "high", "fixedIn": "1.3.0"}]);
    let first = scan(r#"{"dependencies": {"left": "^1.2.0", "right": "2.0.0"}}"#, advisories.clone()).await.expect(200);
    assert_eq!(
        (&first["added"], &first["vulnerabilities"], &first["feed"]),
        (&json!(2), &json!(1), &json!("not_configured")),
        "{first}"
    );
    let known = ada.get(&format!("/api/dependencies/vulnerabilities?projectId={project}")).await.expect(200);
    assert_eq!((&known["total"], &known["items"][0]["name"]), (&json!(1), &json!("left")), "{known}");
    let package = text(&known["items"][0], "packageId");
    let update = format!("/api/dependencies/{package}/update");
    ada.put(&update, &json!({"version": "1.0.0"})).await.problem(422, "UNPROCESSABLE");
    ada.put(&update, &json!({})).await.problem(400, "VALIDATION_ERROR");
    let moved = ada.put(&update, &json!({"version": "1.3.1"})).await.expect(200);
    assert_eq!((&moved["version"], &moved["vulnerabilityCount"]), (&json!("1.3.1"), &json!(0)), "{moved}");
    let again = scan(r#"{"dependencies": {"left": "1.4.0", "right": "2.0.0"}}"#, advisories).await.expect(200);
    assert_eq!(
        (&again["added"], &again["changed"], &again["vulnerabilities"]),
        (&json!(0), &json!(1), &json!(0)),
        "{again}"
    );
    assert_eq!(ada.get("/api/dependencies/packages").await.expect(200)["total"], 2);
}

#[tokio::test]
async fn what_teams_need_of_each_other_is_a_graph_with_its_health() {
    let (_host, ada, project) = quay().await;
    let need = async |from: &str, to: &str, more: Value| {
        let mut body = json!({"projectId": project, "fromTeamId": from, "toTeamId": to, "dependencyType": "api"});
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        ada.post("/api/dependencies", &body).await
    };
    assert_eq!(need("web", "web", json!({})).await.faulty_fields(), ["toTeamId"]);
    let first = need("web", "api", json!({"contract": {"version": 1}})).await.expect(201);
    assert_eq!(first["healthScore"], 1.0, "{first}");
    need("api", "web", json!({"status": "blocked", "blocking": true, "slaStatus": "breached"})).await.done(201);
    let graph = ada.get(&format!("/api/dependencies/graph?projectId={project}")).await.expect(200);
    assert_eq!(
        (graph["edges"].as_array().map(Vec::len), &graph["cyclic"]),
        (Some(2), &json!(["api", "web"])),
        "{graph}"
    );
    assert_eq!((&graph["nodes"][0]["teamId"], &graph["nodes"][0]["health"]), (&json!("api"), &json!(0.0)), "{graph}");
    let path = format!("/api/dependencies/{}", text(&first, "id"));
    let changed = ada.put(&path, &json!({"slaStatus": "at_risk", "contract": null})).await.expect(200);
    assert_eq!(changed["healthScore"], 0.7, "{changed}");
}

#[tokio::test]
async fn modules_are_detected_nested_and_removed_with_what_is_below() {
    let (_host, ada, project) = quay().await;
    let files = json!({"files": ["src/auth/login.ts", {"path": "src/auth/session.ts", "imports": ["../db/pool"]}, "src/db/pool.ts"]});
    let proposed = ada.post("/api/modules/detect", &files).await.expect(200);
    let names: Vec<&str> =
        proposed["modules"].as_array().unwrap().iter().filter_map(|module| module["name"].as_str()).collect();
    assert_eq!(
        (names, &proposed["modules"][0]["dependencies"]),
        (vec!["auth", "db"], &json!(["src/db"])),
        "{proposed}"
    );
    ada.post("/api/modules/detect", &json!({"files": ["/etc/passwd"]})).await.problem(400, "VALIDATION_ERROR");
    assert_eq!(ada.get("/api/modules").await.expect(200)["total"], 0);

    let metrics = json!({"cohesion": 1, "coupling": 0.5, "complexity": 0.5, "duplication": 0});
    let top =
        made(&ada, "/api/modules", json!({"projectId": project, "name": "db", "path": "src/db", "metrics": metrics}))
            .await;
    assert_eq!(top["qualityScore"], 0.55, "{top}");
    let top = text(&top, "id");
    let below =
        made_id(&ada, &format!("/api/modules/{top}/submodules"), json!({"name": "pool", "path": "src/db/pool"})).await;
    let user = made_id(
        &ada,
        "/api/modules",
        json!({"projectId": project, "name": "auth", "path": "src/auth", "dependencies": [top, below]}),
    )
    .await;
    ada.post("/api/modules", &json!({"projectId": project, "name": "x", "path": "x", "dependencies": ["nobody"]}))
        .await
        .problem(404, "NOT_FOUND");
    ada.put(&format!("/api/modules/{top}"), &json!({"parentModuleId": below})).await.problem(409, "MODULE_CYCLE");
    ada.put(&format!("/api/modules/submodules/{top}"), &json!({"name": "x"})).await.problem(404, "NOT_FOUND");
    assert_eq!(
        ada.put(&format!("/api/modules/submodules/{below}"), &json!({"name": "pools"})).await.expect(200)["name"],
        "pools"
    );
    assert_eq!(ada.get(&format!("/api/modules/{top}/submodules")).await.expect(200)["total"], 1);
    assert_eq!(ada.get(&format!("/api/projects/{project}/modules")).await.expect(200)["total"], 3);
    ada.delete(&format!("/api/modules/{top}")).await.done(204);
    ada.get(&format!("/api/modules/{below}")).await.problem(404, "NOT_FOUND");
    assert_eq!(ada.get(&format!("/api/modules/{user}")).await.expect(200)["dependencies"], json!([]));
}

#[tokio::test]
async fn a_design_is_approved_by_a_review_and_replaced_by_its_next_version() {
    let (host, ada, project) = quay().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let eve = members::bring(&host, &ada, "eve@example.com", "Member").await;
    let design = async |data: Value| {
        ada.post(
            "/api/architecture/diagrams",
            &json!({"projectId": project, "title": "Quay", "architectureData": data}),
        )
        .await
    };
    let refused = design(json!({"nodes": [{"id": "a"}], "edges": [{"source": "a", "target": "b"}]})).await;
    assert_eq!(refused.faulty_fields(), ["architectureData.edges[0].target"]);
    let data = json!({"nodes": [{"id": "web"}, {"id": "api"}], "edges": [{"source": "web", "target": "api"}, {"source": "api", "target": "web"}]});
    let first = text(&design(data.clone()).await.expect(201), "id");
    let analysis = ada.post("/api/architecture/analyze", &json!({"designId": first})).await.expect(200);
    assert_eq!(analysis["findings"][0]["code"], "CYCLE", "{analysis}");
    let path = format!("/api/architecture/diagrams/{first}");
    let approve = async |design: &str| {
        let reviewers = json!({"reviewers": [text(&bob.account["user"], "id")]});
        let review =
            text(&ada.post(&format!("/api/architecture/diagrams/{design}/review"), &reviewers).await.expect(201), "id");
        let decision = format!("/api/architecture/reviews/{review}/decision");
        eve.put(&decision, &json!({"decision": "approved"})).await.problem(403, "FORBIDDEN");
        bob.put(&decision, &json!({"decision": "maybe"})).await.problem(400, "VALIDATION_ERROR");
        assert_eq!(
            bob.put(&decision, &json!({"decision": "approved", "decisionNotes": "Good"})).await.expect(200)["status"],
            "approved"
        );
        bob.put(&decision, &json!({"decision": "rejected"})).await.problem(409, "CONFLICT");
    };
    ada.put(&path, &json!({"status": "approved"})).await.problem(409, "ILLEGAL_TRANSITION");
    approve(&first).await;
    ada.put(&path, &json!({"architectureData": {"nodes": []}})).await.problem(409, "DESIGN_CLOSED");
    let next = made(&ada, &format!("{path}/versions"), json!({"architectureData": {"nodes": [{"id": "web"}]}})).await;
    let before = ada.get(&path).await.expect(200);
    assert_eq!((&next["parentVersionId"], &next["status"]), (&json!(first), &json!("draft")), "{next}");
    assert_eq!(next["version"].as_i64(), before["version"].as_i64().map(|version| version + 1));
    approve(&text(&next, "id")).await;
    assert_eq!(ada.get(&path).await.expect(200)["status"], "deprecated");
}
