//! Failed calls that are kept, and played again to another build: what a capsule tells, and what it must not.
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use berth_tests::host::OPERATOR_TOKEN;
use berth_tests::{Client, Host, Manifest, Slot, eventually, guests, manifest};
use serde_json::{Value, json};

/// The key of a customer, which only the secrets room may know.
const KEY: &str = "key-of-a-customer-0123456789";
/// What a client sends by mistake.
const PASSWORD: &str = "correct horse battery";

fn fragile() -> Slot {
    Slot::new("fragile", guests::fixture("fragile"), "/api/fragile").with(
        "public = [\"POST /api/fragile/orders\", \"POST /api/fragile/ship\", \"POST /api/fragile/refuse\"]\n\
         isolation = \"plugin\"\n[plugin.grant]\ntables = [\"fragile_\"]\nsecrets = true\n\
         [plugin.config]\nvendor_token = \"vendor-token-0123456789\"\nvendor = \"example\"",
    )
}

async fn host() -> Host {
    Host::with(Manifest::of([fragile(), manifest::unruly()])).start().await
}

/// An order that the plain build cannot ship, and the attempt to do it.
async fn fail(client: &Client, number: i64) {
    let order = json!({ "number": number, "quantity": null, "key": KEY });
    client.post("/api/fragile/orders", &order).await.done(200);
    let shipment = json!({ "number": number, "password": PASSWORD });
    client.post("/api/fragile/ship", &shipment).await.problem(502, "PLUGIN_FAILED");
}

async fn list(operator: &Client, plugin: &str) -> Vec<Value> {
    let capsules = operator.get(&format!("/api/admin/capsules?plugin={plugin}")).await.expect(200);
    capsules["items"].as_array().cloned().unwrap_or_default()
}

/// The newest capsule of a plugin, once there is one whose call is `what`.
async fn capsule(operator: &Client, plugin: &str, what: &str) -> Value {
    eventually("a capsule", async || list(operator, plugin).await.into_iter().find(|capsule| capsule["what"] == what))
        .await
}

fn id(capsule: &Value) -> String {
    capsule["id"].as_str().expect("an id").to_owned()
}

/// What a command says, and how it ended.
fn run(host: &Host, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = host.berth(arguments).output().expect("berth");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Plays a capsule, and says the exit status and the report.
fn replay(host: &Host, capsule: &str, with: Option<&Path>) -> (Option<i32>, Value) {
    let with = with.map(|path| path.display().to_string());
    let mut arguments = vec!["replay", capsule, "--json"];
    arguments.extend(with.iter().flat_map(|with| ["--with", with.as_str()]));
    let (status, said, complaint) = run(host, &arguments);
    let report = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said} {complaint}"));
    (status, report)
}

fn build(name: &str) -> PathBuf {
    guests::fixture(&format!("fragile-{name}"))
}

#[tokio::test]
async fn a_trap_is_played_again_to_the_same_build_a_mended_one_and_another() {
    let host = host().await;
    let (client, operator) = (host.client(), host.operator());
    fail(&client, 1).await;
    let summary = capsule(&operator, "fragile", "POST /api/fragile/ship").await;
    assert_eq!((&summary["revision"], &summary["failure"]["kind"]), (&json!(1), &json!("trap")), "{summary}");
    let id = id(&summary);

    // Whoever sees the failure in the log or among the events finds the capsule.
    let logs = operator.get("/api/admin/plugins/fragile/logs").await.expect(200).to_string();
    assert!(logs.contains(&id), "{logs}");
    let told = eventually("the event", async || {
        let events = operator.get("/api/admin/events?plugin=fragile").await.expect(200);
        let mut events = events["items"].as_array().cloned().unwrap_or_default().into_iter();
        events.find(|event| event["type"] == "host.plugin.trapped")
    })
    .await;
    assert_eq!(told["data"]["capsule"], id.as_str(), "{told}");

    let (status, report) = replay(&host, &id, None);
    assert_eq!((status, &report["verdict"]), (Some(2), &json!("fails")), "{report}");
    assert_eq!(report["recorded"]["sha256"], report["sha256"], "without --with it is the build that failed");
    assert_eq!(report["calls"]["asked"], report["calls"]["fromTheRecording"], "{report}");

    let (status, report) = replay(&host, &id, Some(&build("mended")));
    assert_eq!((status, &report["verdict"]), (Some(0), &json!("answers")), "{report}");
    assert_eq!(report["answer"], json!({ "status": 200, "body": "{\"number\":1,\"quantity\":0}" }), "{report}");
    let done = report["calls"]["takenAsDone"].as_array().cloned().unwrap_or_default();
    assert!(done.len() == 1 && done[0].as_str().is_some_and(|call| call.contains("fragile_shipments")), "{report}");

    let (status, report) = replay(&host, &id, Some(&build("other")));
    assert_eq!((status, &report["verdict"]), (Some(3), &json!("diverged")), "{report}");
    let sentence = report["sentence"].as_str().unwrap_or_default();
    for words in ["diverged at host call 1", "the recorded build asked database.query", "this one asks", "COUNT(*)"] {
        assert!(sentence.contains(words), "{words} is not in: {sentence}");
    }

    // Nothing of it has happened here.
    let (_, said, _) = run(&host, &["replay", &id, "--with", &build("mended").display().to_string()]);
    for words in ["POST /api/fragile/ship of fragile", "trapped", "answers 200", "taken as done", "verdict"] {
        assert!(said.contains(words), "{words} is not in: {said}");
    }
    let (status, _, complaint) = run(&host, &["replay", &id, "--with", "/dev/null"]);
    assert!(status == Some(1) && complaint.contains("empty"), "{complaint}");
}

#[tokio::test]
async fn a_file_is_played_without_the_host_and_holds_no_secret() {
    let host = host().await;
    let operator = host.operator();
    let client = host.client().register("ada@example.com", "Engine Works").await;
    fail(&client, 1).await;
    let id = id(&capsule(&operator, "fragile", "POST /api/fragile/ship").await);
    let folder = host.data().join("capsules");
    let files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("the folder").filter_map(|entry| Some(entry.ok()?.path())).collect();
    let [file] = files.as_slice() else { panic!("not one capsule: {files:?}") };
    let text = std::fs::read_to_string(file).expect("the capsule");
    let signed_in = client.token().to_owned();
    for secret in [KEY, PASSWORD, "vendor-token-0123456789", OPERATOR_TOKEN, signed_in.as_str()] {
        assert!(!text.contains(secret), "{secret} is in {text}");
        let hexadecimal: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!text.contains(&hexadecimal), "{secret} is in {text} in hexadecimal");
    }
    for kept in ["ada@example.com", "SELECT data, sealed FROM fragile_orders", "\"vendor\":\"example\""] {
        assert!(text.contains(kept), "{kept} is not in {text}");
    }
    let (status, shown, _) = run(&host, &["capsules", "show", &id]);
    assert_eq!(status, Some(0));
    let copy = host.data().join("copy.json");
    std::fs::write(&copy, shown).expect("a copy");
    let stopped = host.stop().await;
    let arguments = ["replay", &copy.display().to_string(), "--json", "--with", &build("mended").display().to_string()];
    let mut command = std::process::Command::new(guests::host_binary());
    let output = command.args(arguments).env("BERTH_URL", "http://127.0.0.1:1").output().expect("berth");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    drop(stopped);
}

#[tokio::test]
async fn a_failure_that_the_guest_answers_itself_and_a_timeout_are_kept_too() {
    let host = host().await;
    let (client, operator) = (host.client(), host.operator());
    client.post("/api/fragile/refuse", &json!({})).await.done(500);
    let summary = capsule(&operator, "fragile", "POST /api/fragile/refuse").await;
    assert_eq!((&summary["failure"]["kind"], &summary["failure"]["status"]), (&json!("status"), &json!(500)));
    // Ids and moments that it makes itself are others in each run.
    let (status, report) = replay(&host, &id(&summary), None);
    assert_eq!((status, &report["answer"]["status"]), (Some(2), &json!(500)), "{report}");
    assert_eq!(report["calls"]["asked"], report["calls"]["fromTheRecording"], "{report}");
    let (status, report) = replay(&host, &id(&summary), Some(&build("mended")));
    assert_eq!((status, &report["answer"]["body"]), (Some(0), &json!("{\"build\":\"mended\"}")), "{report}");

    client.get("/api/unruly/spin").await.problem(504, "GATEWAY_TIMEOUT");
    let summary = capsule(&operator, "unruly", "GET /api/unruly/spin").await;
    assert_eq!((&summary["failure"]["kind"], &summary["hostCalls"]), (&json!("timeout"), &json!(0)));
    let (status, report) = replay(&host, &id(&summary), None);
    assert_eq!((status, &report["verdict"]), (Some(2), &json!("fails")), "{report}");
    assert!(report["sentence"].as_str().is_some_and(|sentence| sentence.contains("in time")), "{report}");
    client.get("/api/unruly/ok").await.done(200);
    assert!(list(&operator, "unruly").await.iter().all(|capsule| capsule["what"] != "GET /api/unruly/ok"));
}

#[tokio::test]
async fn capsules_stay_within_their_bound_and_are_for_operators() {
    let manifest = Manifest::of([fragile(), manifest::unruly()]);
    let host = Host::with(manifest).variable("BERTH_CAPSULES", "3").start().await;
    let (client, operator) = (host.client(), host.operator());
    for _ in 0..12 {
        client.get("/api/unruly/trap").await.done(502);
    }
    fail(&client, 1).await;
    let id = id(&capsule(&operator, "fragile", "POST /api/fragile/ship").await);
    // Whatever failed before has been written and pruned by now.
    let kept = list(&operator, "unruly").await;
    assert_eq!(kept.len(), 3);
    let times: Vec<&str> = kept.iter().filter_map(|capsule| capsule["at"].as_str()).collect();
    assert!(times.is_sorted_by(|one, other| one >= other), "not the newest first: {times:?}");
    assert!(std::fs::read_dir(host.data().join("capsules")).expect("the folder").count() <= 4);

    let first = client.register("ada@example.com", "Engine Works").await;
    let second = client.register("eve@example.com", "Other Works").await;
    let paths = [
        "/api/admin/capsules".to_owned(),
        format!("/api/admin/capsules/{id}"),
        format!("/api/admin/capsules/{id}/component"),
    ];
    for path in &paths {
        client.get(path).await.problem(401, "UNAUTHORIZED");
        second.get(path).await.problem(403, "FORBIDDEN");
        first.get(path).await.done(200);
    }
    second.delete(&paths[1]).await.problem(403, "FORBIDDEN");
    let (status, said, complaint) = run(&host, &["capsules", "fragile"]);
    assert!(status == Some(0) && said.contains(&id) && said.contains("trapped"), "{said} {complaint}");
    let (status, ..) = run(&host, &["capsules", "remove", &id]);
    assert_eq!(status, Some(0));
    operator.get(&paths[1]).await.problem(404, "NOT_FOUND");
    operator.get("/api/admin/capsules/nonsense").await.problem(404, "NOT_FOUND");
    let (status, _, complaint) = run(&host, &["replay", &id]);
    assert!(status == Some(1) && complaint.contains("no such capsule"), "{complaint}");
}

#[tokio::test]
async fn a_host_that_keeps_none_says_so() {
    let host = Host::with(Manifest::of([manifest::unruly()])).variable("BERTH_CAPSULES", "0").start().await;
    host.client().get("/api/unruly/trap").await.done(502);
    host.operator().get("/api/admin/capsules").await.problem(501, "NOT_IMPLEMENTED");
    assert!(!host.data().join("capsules").exists());
}
