//! What is asked before a swap: a build that wants more, a route that others may call, a signature; and a plan, which only
//! tells.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::path::Path;

use berth_tests::{Answer, Client, Host, Manifest, Slot, guests};
use reqwest::Method;
use serde_json::Value;

fn hello() -> Vec<u8> {
    guests::bytes(&guests::plugin("hello"))
}

/// A build with tables, events, a timer and other routes than hello.
fn ledger() -> Vec<u8> {
    guests::bytes(&guests::fixture("ledger"))
}

/// A plugin that starts as hello and may become the ledger.
fn changing() -> Slot {
    Slot::new("changing", guests::plugin("hello"), "/api/hello").route("/ledger").with(
        "public = [\"GET /api/hello\", \"POST /api/hello/echo\", \"GET /api/hello/stream\", \"GET /ledger\", \
         \"POST /ledger/publish\"]\nisolation = \"plugin\"\n[plugin.grant]\ntables = [\"ledger_\"]\npublish = [\"ledger.#\"]\n\
         consume = [\"planning.#\", \"project.#\", \"ledger.noted\"]",
    )
}

/// A plugin that makes calls, and may call the one that changes.
fn calling() -> Slot {
    Slot::new("calling", guests::fixture("mcp-routes"), "/api/kit")
        .with("isolation = \"plugin\"\n[plugin.grant]\ncall = [\"changing\"]")
}

async fn deploy(operator: &Client, query: &str, component: &[u8]) -> Answer {
    let path = format!("/api/admin/plugins/changing/deploy?wait=true{query}");
    let request = operator.request(Method::POST, &path).header("content-type", "application/wasm");
    operator.send(request.body(component.to_vec())).await
}

async fn rollback(operator: &Client) -> Answer {
    operator.send(operator.request(Method::POST, "/api/admin/plugins/changing/rollback?wait=true")).await
}

async fn revision(operator: &Client) -> Value {
    let plugins = operator.get("/api/admin/plugins").await.expect(200);
    let items = plugins["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().find(|item| item["name"] == "changing").unwrap_or_default()["revision"].clone()
}

async fn newest_line(operator: &Client) -> Value {
    let history = operator.get("/api/admin/plugins/changing/history").await.expect(200);
    history["items"][0].clone()
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn says(problem: &Value, parts: &[&str]) {
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(!detail.contains('\n'), "not one sentence: {detail}");
    for part in parts {
        assert!(detail.contains(part), "{part} is not in: {detail}");
    }
}

#[tokio::test]
async fn a_build_that_wants_more_is_refused_until_it_is_accepted() {
    let host = Host::with(Manifest::of([changing()])).start().await;
    let (operator, client) = (host.operator(), host.client());
    let problem = deploy(&operator, "", &ledger()).await.problem(409, "CAPABILITY_DIFF");
    says(
        &problem,
        &["newly wants", "tables ledger_", "publish ledger.#", "consume planning.#", "timer beat", "--grant"],
    );
    says(&problem, &["public GET /ledger"]);
    assert_eq!(revision(&operator).await, 1);
    client.get("/api/hello").await.done(200);
    let line = newest_line(&operator).await;
    assert_eq!((&line["outcome"], &line["reason"]), (&"failed".into(), &problem["detail"]), "{line}");
    deploy(&operator, "&force=true", &ledger()).await.problem(409, "CAPABILITY_DIFF");
    deploy(&operator, "&grant=perhaps", &ledger()).await.problem(400, "VALIDATION_ERROR");

    let report = deploy(&operator, "&grant=true", &ledger()).await.expect(200);
    assert_eq!(report["revision"], 2);
    let changes = &report["changes"];
    assert!(words(&changes["newlyWants"]).contains(&"tables ledger_"), "{report}");
    assert!(words(&changes["lostRoutes"]).contains(&"GET /api/hello"), "{report}");
    client.get("/ledger").await.done(200);
    let line = newest_line(&operator).await;
    assert!(line["reason"].as_str().is_some_and(|reason| reason.starts_with("granted: ")), "{line}");

    // Neither the way back is a question nor a restart.
    assert_eq!(rollback(&operator).await.expect(200)["changes"], Value::Null);
    deploy(&operator, "&grant=true", &guests::variant(&ledger(), 1)).await.done(200);
    let report = deploy(&operator, "&grant=true", &guests::variant(&hello(), 1)).await.expect(200);
    assert!(words(&report["changes"]["noLongerWants"]).contains(&"timer beat"), "{report}");
    let host = host.restart().await;
    host.client().get("/api/hello").await.done(200);
}

#[tokio::test]
async fn a_grant_is_never_more_than_the_manifests() {
    let host = Host::with(Manifest::hello()).start().await;
    let greedy = guests::bytes(&guests::fixture("greedy"));
    let operator = host.operator();
    let path = "/api/admin/plugins/hello/deploy?grant=true&force=true";
    let request = operator.request(Method::POST, path).header("content-type", "application/wasm").body(greedy);
    says(&operator.send(request).await.problem(422, "UNPROCESSABLE"), &["its grant has no `secrets`"]);
}

#[tokio::test]
async fn routes_that_another_plugin_may_call_go_only_by_force() {
    let host = Host::with(Manifest::of([changing(), calling()])).start().await;
    let operator = host.operator();
    let problem = deploy(&operator, "&grant=true", &ledger()).await.problem(409, "ROUTES_IN_USE");
    says(&problem, &["GET /api/hello", "POST /api/hello/echo", "calling", "--force"]);
    assert_eq!(revision(&operator).await, 1);
    host.client().get("/api/hello").await.done(200);
    // The same routes in another build are no loss.
    deploy(&operator, "", &guests::variant(&hello(), 1)).await.done(200);
    let report = deploy(&operator, "&grant=true&force=true", &ledger()).await.expect(200);
    assert_eq!(words(&report["changes"]["callers"]), ["calling"], "{report}");
    host.client().get("/ledger").await.done(200);
    rollback(&operator).await.done(200);
    host.client().get("/api/hello").await.done(200);
}

#[tokio::test]
async fn a_plan_tells_what_a_deploy_would_do_and_swaps_nothing() {
    let host = Host::with(Manifest::of([changing(), calling()])).start().await;
    let operator = host.operator();
    let before = operator.get("/api/admin/plugins/changing/history").await.expect(200);
    let plan = deploy(&operator, "&plan=true", &ledger()).await.expect(200);
    assert_eq!((&plan["action"], &plan["revision"], &plan["previousRevision"]), (&"plan".into(), &2.into(), &1.into()));
    assert_eq!(words(&plan["needs"]), ["grant", "force"], "{plan}");
    assert_eq!(plan["migrations"][0]["name"], "0001_ledger", "{plan}");
    assert!(words(&plan["changes"]["newlyWants"]).contains(&"publish ledger.#"), "{plan}");
    assert_eq!(words(&plan["changes"]["callers"]), ["calling"], "{plan}");
    let same = deploy(&operator, "&plan=true", &guests::variant(&hello(), 1)).await.expect(200);
    assert_eq!((words(&same["needs"]), same["migrations"].as_array().map(Vec::len)), (Vec::new(), Some(0)), "{same}");
    // What a deploy would refuse whatever is accepted, a plan refuses with the same words.
    deploy(&operator, "&plan=true", b"garbage").await.problem(422, "UNPROCESSABLE");
    assert_eq!(revision(&operator).await, 1);
    assert_eq!(
        operator.get("/api/admin/plugins/changing/history").await.expect(200),
        before,
        "a plan was written down"
    );
    host.client().get("/api/hello").await.done(200);
    assert_ne!(host.client().get("/ledger").await.status, 200);

    let file = host.data().join("ledger.wasm");
    std::fs::write(&file, ledger()).expect("written");
    let file = file.display().to_string();
    let (status, said, complaint) = run(&host, &["deploy", "changing", &file, "--plan"]);
    assert_eq!(status, Some(0), "{complaint}");
    for part in ["revision 2", "newly wants", "0001_ledger", "which calling may call", "--grant and --force"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    let (status, said, _) = run(&host, &["deploy", "changing", &file, "--plan", "--json"]);
    assert!(status == Some(0) && said.contains("\"newlyWants\""), "{said}");
    let (status, _, complaint) = run(&host, &["deploy", "changing", &file]);
    assert_eq!((status, complaint.lines().count()), (Some(1), 1), "{complaint}");
    assert!(complaint.contains("409 CAPABILITY_DIFF") && complaint.contains("--grant"), "{complaint}");
    let (status, said, complaint) = run(&host, &["deploy", "changing", &file, "--grant", "--force"]);
    assert!(status == Some(0) && said.contains("newly wants"), "{said}{complaint}");
    host.client().get("/ledger").await.done(200);
}

fn run(host: &Host, arguments: &[&str]) -> (Option<i32>, String, String) {
    match host.berth(arguments).output() {
        Ok(output) => (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ),
        Err(error) => (None, String::new(), error.to_string()),
    }
}

/// Makes a key, and tells its public half.
fn key(host: &Host, file: &Path) -> String {
    let (status, said, complaint) = run(host, &["keygen", &file.display().to_string(), "--json"]);
    assert_eq!(status, Some(0), "{complaint}");
    let made: Value = serde_json::from_str(&said).unwrap_or_default();
    berth_tests::answer::text(&made, "publicKey")
}

#[tokio::test]
async fn where_keys_are_trusted_only_signed_builds_are_deployed() {
    let host = Host::with(Manifest::hello()).start().await;
    let folder = host.data();
    let (ours, theirs, file) = (folder.join("ours.pem"), folder.join("theirs.pem"), folder.join("build.wasm"));
    let public = key(&host, &ours);
    let _ = key(&host, &theirs);
    let (status, _, complaint) = run(&host, &["keygen", &ours.display().to_string()]);
    assert!(status == Some(1) && complaint.contains("not overwritten"), "{complaint}");

    // The build that is recorded was deployed before there were keys, and starts all the same.
    let stopped = host.stop().await;
    stopped.write_manifest(&Manifest::hello().and(&format!("[host]\ntrusted_keys = [\"{public}\"]\n")));
    let host = stopped.start().await;
    host.client().get("/api/hello").await.done(200);

    std::fs::write(&file, guests::variant(&hello(), 1)).expect("written");
    let file_name = file.display().to_string();
    let deploying = ["deploy", "hello", file_name.as_str()];
    let refused = |expected: &str| {
        let (status, _, complaint) = run(&host, &deploying);
        assert_eq!((status, complaint.lines().count()), (Some(1), 1), "{complaint}");
        assert!(complaint.contains("422") && complaint.contains(expected), "{complaint}");
    };
    refused("has no signature");
    let sign = |with: &Path| {
        let (status, _, complaint) = run(&host, &["sign", &with.display().to_string(), &file_name]);
        assert_eq!(status, Some(0), "{complaint}");
    };
    sign(&theirs);
    refused("by any of the host's trusted_keys");
    sign(&ours);
    std::fs::write(&file, guests::variant(&hello(), 2)).expect("written");
    refused("not one of these bytes");
    let garbled = host.operator().request(Method::POST, "/api/admin/plugins/hello/deploy");
    let garbled = garbled.header("x-berth-signature", "c2lnbmVk").body(hello());
    host.operator().send(garbled).await.problem(422, "UNPROCESSABLE");
    sign(&ours);
    let (status, said, complaint) = run(&host, &deploying);
    assert!(status == Some(0) && said.contains("revision 2"), "{said}{complaint}");
    let history = host.operator().get("/api/admin/plugins/hello/history").await.expect(200);
    assert_eq!(
        (&history["items"][0]["isSigned"], &history["items"][0]["revision"]),
        (&true.into(), &2.into()),
        "{history}"
    );
    // And back to the one that was never signed, as every recorded build.
    let back = host.operator().request(Method::POST, "/api/admin/plugins/hello/rollback?wait=true");
    assert_eq!(host.operator().send(back).await.expect(200)["revision"], 1);
}
