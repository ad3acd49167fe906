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
