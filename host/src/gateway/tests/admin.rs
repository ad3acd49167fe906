//! The administration's routes.

use super::*;

#[tokio::test]
async fn only_the_platform_role_gets_in() {
    let host = Host::start(Setting::default()).await;
    assert_eq!(host.send("GET", "/api/admin/plugins", &[], "").await.problem(), (401, "UNAUTHORIZED".into()));
    let second = host.register("bob@example.com").await;
    let bearer = format!("Bearer {second}");
    let other = host.send("GET", "/api/admin/plugins", &[("authorization", &bearer)], "").await;
    assert_eq!(
        other.problem(),
        (403, "FORBIDDEN".into()),
        "a Super Admin of another organization is not the platform's"
    );
    assert_eq!(host.call("GET", "/api/admin/plugins", &[], "").await.status, 200, "the first user is");
    let list = host.operate("GET", "/api/admin/plugins", &[], "").await;
    assert_eq!(list.json()["items"], json!([{ "name": "planning" }]));
}

#[tokio::test]
async fn a_deploy_says_whether_the_old_build_has_drained() {
    let host = Host::start(Setting::default()).await;
    let wasm = [("content-type", "application/wasm")];
    let accepted = host.operate("POST", "/api/admin/plugins/planning/deploy", &wasm, "component").await;
    assert_eq!((accepted.status, accepted.json()), (202, json!({ "revision": 2 })));
    let waited = host.operate("POST", "/api/admin/plugins/planning/deploy?wait=true", &wasm, "component").await;
    assert_eq!(waited.status, 200);
    assert_eq!(*host.deploys.asked.lock(), ["deploy planning 9 operator", "deploy planning 9 operator"]);
}

#[tokio::test]
async fn a_plan_is_no_deploy_and_a_signature_goes_along() {
    let host = Host::start(Setting::default()).await;
    let deploy = "/api/admin/plugins/planning/deploy";
    let signed = [("x-berth-signature", "AAAA")];
    let planned = host.operate("POST", &format!("{deploy}?plan=true"), &signed, "component").await;
    assert_eq!((planned.status, planned.json()), (200, json!({ "action": "plan" })));
    assert_eq!(*host.deploys.asked.lock(), ["plan planning 9 Some(\"AAAA\")"]);
    let long = "A".repeat(129);
    let refused = host.operate("POST", deploy, &[("x-berth-signature", &long)], "component").await;
    assert_eq!(refused.problem(), (400, "VALIDATION_ERROR".into()));
    for switch in ["plan", "grant", "force"] {
        let refused = host.operate("POST", &format!("{deploy}?{switch}=maybe"), &[], "component").await;
        assert_eq!(refused.problem(), (400, "VALIDATION_ERROR".into()), "{switch}");
    }
}

#[tokio::test]
async fn a_deploy_that_cannot_be_is_a_clear_problem() {
    let host = Host::start(Setting::default()).await;
    let deploy = "/api/admin/plugins/planning/deploy";
    assert_eq!(host.operate("POST", deploy, &[], "garbage").await.problem(), (422, "UNPROCESSABLE".into()));
    assert_eq!(host.operate("POST", deploy, &[], "").await.problem(), (422, "UNPROCESSABLE".into()));
    let large = "x".repeat(1025);
    assert_eq!(host.operate("POST", deploy, &[], &large).await.problem(), (413, "PAYLOAD_TOO_LARGE".into()));
    let unknown = host.operate("POST", "/api/admin/plugins/nobody/deploy", &[], "component").await;
    assert_eq!(unknown.problem(), (404, "NOT_FOUND".into()));
    let reference =
        host.operate("POST", deploy, &[("content-type", "application/json")], "{\"reference\":\"oci://x\"}").await;
    assert_eq!(reference.problem(), (501, "NOT_IMPLEMENTED".into()));
    for source in ["x".repeat(513), "a\tb".to_owned()] {
        let headers = [("x-berth-source", source.as_str())];
        let refused = host.operate("POST", deploy, &headers, "component").await;
        assert_eq!(refused.problem(), (400, "VALIDATION_ERROR".into()), "{source}");
    }
    let wrong = host.operate("GET", deploy, &[], "").await;
    assert_eq!((wrong.problem().0, wrong.header("allow")), (405, "POST"));
    assert!(host.deploys.asked.lock().is_empty());
}

#[tokio::test]
async fn a_rollback_names_its_revision_or_none() {
    let host = Host::start(Setting::default()).await;
    let rollback = "/api/admin/plugins/planning/rollback";
    assert_eq!(host.operate("POST", rollback, &[], "").await.status, 202);
    assert_eq!(host.operate("POST", rollback, &[], "{\"revision\":3}").await.status, 202);
    assert_eq!(host.operate("POST", &format!("{rollback}?revision=4&wait=true"), &[], "").await.status, 200);
    for (path, body) in
        [(rollback.to_owned(), "{\"revision\":0}"), (rollback.to_owned(), "{"), (format!("{rollback}?revision=x"), "")]
    {
        assert_eq!(host.operate("POST", &path, &[], body).await.problem().0, 400, "{path} {body}");
    }
    let asked = host.deploys.asked.lock().clone();
    assert_eq!(
        asked,
        ["rollback planning None operator", "rollback planning Some(3) operator", "rollback planning Some(4) operator"]
    );
}

#[tokio::test]
async fn history_routes_and_queues_are_told() {
    let host = Host::start(Setting::default()).await;
    let history = host.operate("GET", "/api/admin/plugins/planning/history?limit=7", &[], "").await.json();
    assert_eq!(history["items"], json!([{ "plugin": "planning", "limit": 7 }]));
    assert_eq!(host.operate("GET", "/api/admin/plugins/planning/history?limit=201", &[], "").await.problem().0, 400);
    assert_eq!(
        host.operate("GET", "/api/admin/routes", &[], "").await.json()["items"],
        json!([{ "path": "/api/plans" }])
    );
    assert_eq!(host.operate("GET", "/api/admin/queues", &[], "").await.json()["items"], json!([]));
    let redrive = host.operate("POST", "/api/admin/queues/nobody/redrive", &[], "").await;
    assert_eq!(redrive.problem(), (404, "NOT_FOUND".into()));
    assert_eq!(host.operate("GET", "/api/admin/nothing", &[], "").await.problem(), (404, "ROUTE_NOT_FOUND".into()));
}

#[tokio::test]
async fn what_is_to_be_seen_is_the_platforms_alone() {
    let host = Host::start(Setting::default()).await;
    let bob = format!("Bearer {}", host.register("bob@example.com").await);
    for path in ["status", "events", "grants", "plugins/planning/grants", "plugins/planning/logs?follow"] {
        let path = format!("/api/admin/{path}");
        assert_eq!(host.send("GET", &path, &[], "").await.problem(), (401, "UNAUTHORIZED".into()), "{path}");
        let other = host.send("GET", &path, &[("authorization", &bob)], "").await;
        assert_eq!(other.problem(), (403, "FORBIDDEN".into()), "{path}");
        let wrong = host.operate("POST", &path, &[], "").await;
        assert_eq!((wrong.problem().0, wrong.header("allow")), (405, "GET, HEAD"), "{path}");
    }
}

#[tokio::test]
async fn status_and_grants_are_of_one_plugin_or_of_all() {
    let host = Host::start(Setting::default()).await;
    let status = host.operate("GET", "/api/admin/status?plugin=planning", &[], "").await.json();
    assert_eq!((&status["total"], &status["items"][0]["revision"]), (&json!(2), &json!(2)), "{status}");
    assert!(status["host"]["uptimeSeconds"].is_u64() && status["host"]["inFlight"] == 1, "{status}");
    let grants = host.operate("GET", "/api/admin/grants", &[], "").await.json();
    assert_eq!(grants["items"][0]["plugin"], "planning");
    let own = host.operate("GET", "/api/admin/plugins/planning/grants", &[], "").await.json();
    assert_eq!(own["may"], json!(["answer requests below /api/plans"]));
    for path in ["status?plugin=nobody", "plugins/nobody/grants", "plugins/nobody/logs", "plugins/No/logs"] {
        let unknown = host.operate("GET", &format!("/api/admin/{path}"), &[], "").await;
        assert_eq!(unknown.problem().0, 404, "{path}");
    }
}

#[tokio::test]
async fn lines_are_told_from_a_place_on_and_by_their_weight() {
    use crate::telemetry::lines::{HostLine, Lines as _};
    let host = Host::start(Setting::default()).await;
    for (level, message) in
        [(tracing::Level::INFO, "one"), (tracing::Level::ERROR, "two"), (tracing::Level::INFO, "three")]
    {
        let plugin = Some("planning".to_owned());
        let (message, fields) = (message.to_owned(), Vec::new());
        host.gateway.logs.take(HostLine { level, plugin, revision: None, request_id: None, message, fields });
    }
    let read = async |query: &str| {
        let path = format!("/api/admin/plugins/planning/logs{query}");
        let answer = host.operate("GET", &path, &[], "").await.json();
        answer["items"].as_array().unwrap().clone()
    };
    let said =
        |lines: &[Value]| lines.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let all = read("").await;
    assert_eq!(said(&all), ["one", "two", "three"]);
    assert_eq!(said(&read("?limit=2").await), ["two", "three"]);
    assert_eq!(said(&read("?level=warn").await), ["two"]);
    assert_eq!(said(&read(&format!("?after={}&limit=1", all[0]["id"])).await), ["two"]);
    for query in ["level=loud", "limit=1001", "after=x", "follow=maybe"] {
        let path = format!("/api/admin/plugins/planning/logs?{query}");
        assert_eq!(host.operate("GET", &path, &[], "").await.problem().0, 400, "{query}");
    }
}

#[tokio::test]
async fn an_entry_is_shown_added_changed_and_removed() {
    let host = Host::start(Setting::default()).await;
    let path = "/api/admin/plugins/notes";
    let shown = host.operate("GET", path, &[], "").await.json();
    assert_eq!(shown, json!({ "name": "notes", "entry": "name = \"notes\"\n" }));
    let form = [("content-type", "multipart/form-data; boundary=x")];
    let part = |name: &str, text: &str| format!("--x\r\ncontent-disposition: form-data; name={name}\r\n\r\n{text}\r\n");
    let whole = part("entry", "a = 1") + &part("component", "wasm") + "--x--";
    assert_eq!(host.operate("POST", path, &form, &whole).await.status, 201);
    let toml = [("content-type", "application/toml; charset=utf-8")];
    assert_eq!(host.operate("PUT", path, &toml, "b = 2").await.status, 202);
    assert_eq!(host.operate("PATCH", &format!("{path}?wait"), &toml, "c = 3").await.status, 200);
    assert_eq!(host.operate("DELETE", path, &[], "").await.status, 202);
    assert_eq!(
        *host.deploys.asked.lock(),
        [
            "add notes a = 1 4 operator",
            "Replace(\"b = 2\") notes operator",
            "Merge(\"c = 3\") notes operator",
            "Remove notes operator"
        ]
    );
    host.deploys.asked.lock().clear();
    for (method, headers, body, wanted) in [
        ("POST", &form, part("entry", "a = 1") + "--x--", (400, "VALIDATION_ERROR")),
        ("POST", &form, part("entry", "a") + &part("entry", "a") + "--x--", (400, "VALIDATION_ERROR")),
        ("POST", &form, "--x".to_owned(), (400, "VALIDATION_ERROR")),
        ("POST", &toml, whole, (415, "UNSUPPORTED_MEDIA_TYPE")),
        ("PUT", &form, "b = 2".to_owned(), (415, "UNSUPPORTED_MEDIA_TYPE")),
        ("PATCH", &toml, "x".repeat(300_000), (413, "PAYLOAD_TOO_LARGE")),
    ] {
        let refused = host.operate(method, path, headers, &body).await.problem();
        assert_eq!(refused, (wanted.0, wanted.1.to_owned()), "{method} {headers:?}");
    }
    assert!(host.deploys.asked.lock().is_empty());
    let bearer = format!("Bearer {}", host.register("bob@example.com").await);
    let other = host.send("DELETE", path, &[("authorization", &bearer)], "").await;
    assert_eq!(other.problem(), (403, "FORBIDDEN".into()));
}
