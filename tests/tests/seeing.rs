//! Seeing a running host: how builds fare, what they log, what the host did, and what each plugin may do.
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use berth_tests::wait::PATIENCE;
use berth_tests::{Client, EventStream, Host, Manifest, eventually, guests, manifest};
use reqwest::Method;
use serde_json::{Value, json};

/// Less than requests in flight may take to end.
const STOP_TIME_MAX: Duration = Duration::from_secs(20);

fn both() -> Manifest {
    let granted = manifest::hello().with("[plugin.grant]\ncache = true\noutbound = [\"api.example.com\"]");
    Manifest::of([granted, manifest::unruly()])
}

/// What a command says, and whether it did what it should.
fn run(host: &Host, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = host.berth(arguments).output().expect("berth");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn succeed(host: &Host, arguments: &[&str]) -> String {
    let (status, said, complaint) = run(host, arguments);
    assert_eq!(status, Some(0), "{arguments:?}: {complaint}");
    said
}

fn json_of(host: &Host, arguments: &[&str]) -> Value {
    let said = succeed(host, arguments);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {said}"))
}

async fn builds(operator: &Client, plugin: &str) -> Vec<Value> {
    let status = operator.get(&format!("/api/admin/status?plugin={plugin}")).await.expect(200);
    status["items"].as_array().cloned().unwrap_or_default()
}

/// A command that goes on, and its lines as they come.
struct Following {
    process: Child,
    lines: Receiver<String>,
}

impl Following {
    fn begin(host: &Host, arguments: &[&str]) -> Self {
        let mut process = host.berth(arguments).stdout(Stdio::piped()).spawn().expect("berth");
        let (sender, lines) = channel();
        let stdout = process.stdout.take().expect("its output");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { process, lines }
    }

    fn wait_for(&self, what: impl Fn(&str) -> bool) -> String {
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            if what(&line) {
                return line;
            }
            seen.push(line);
        }
        panic!("the line did not come; there were:\n{}", seen.join("\n"));
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn status_counts_requests_failures_and_traps_of_each_build() {
    let host = Host::with(both().and(Manifest::of([manifest::ledger()]).text())).start().await;
    let (client, operator) = (host.client(), host.operator());
    for _ in 0..7 {
        client.get("/api/hello").await.done(200);
    }
    client.get("/api/unruly/ok").await.done(200);
    client.get("/api/unruly/trap").await.problem(502, "PLUGIN_FAILED");
    // A request is counted when its answer has gone out.
    let hello = eventually("seven requests", async || {
        builds(&operator, "hello").await.into_iter().find(|build| build["requests"] == 7)
    })
    .await;
    assert_eq!((&hello["role"], &hello["revision"], &hello["failures"]), (&json!("current"), &json!(1), &json!(0)));
    assert!(hello["p50Us"].as_u64() <= hello["p99Us"].as_u64() && hello["p99Us"].is_u64(), "{hello}");
    assert!(hello["warm"].as_u64() > Some(0) && hello["memoryBytes"].as_u64() > Some(64 * 1024), "{hello}");
    assert!(hello["cpuSeconds"].as_f64() > Some(0.0) && hello["cpuShare"].is_number(), "{hello}");
    // Over the last ten seconds, which may be over on a slow machine: so it is asked once more.
    let rate = eventually("the rate", async || {
        client.get("/api/hello").await.done(200);
        builds(&operator, "hello").await.into_iter().find_map(|build| build["rate"].as_f64().filter(|rate| *rate > 0.0))
    })
    .await;
    assert!(rate < 100.0, "{rate} requests a second");
    let unruly = eventually("the trap", async || {
        builds(&operator, "unruly").await.into_iter().find(|build| build["failures"] == 1)
    })
    .await;
    assert_eq!((&unruly["requests"], &unruly["traps"]), (&json!(2), &json!(1)), "{unruly}");
    assert!(unruly["lastTrap"].is_string(), "{unruly}");

    let all = json_of(&host, &["status", "--json"]);
    assert!(all["host"]["cpuSeconds"].as_f64() > hello["cpuSeconds"].as_f64(), "{all}");
    assert!(all["host"]["residentBytes"].is_u64() && all["items"].as_array().is_some_and(|builds| builds.len() == 3));
    let said = succeed(&host, &["status"]);
    let hello = said.lines().find(|line| line.starts_with("hello")).expect("a line");
    assert!(said.starts_with("Berth ") && said.contains("P99") && said.contains("CPU"), "{said}");
    assert!(hello.contains(" %"), "{said}");
    assert!(hello.contains(" ms") || hello.contains(" µs"), "{said}");
    assert!(said.contains("unruly: the last trap: "), "{said}");
    let (status, _, complaint) = run(&host, &["status", "nobody"]);
    assert!(status == Some(1) && complaint.contains("404") && complaint.lines().count() == 1, "{complaint}");

    // How far a consumer lags is told while it does, and nothing when it has caught up.
    let ledger = async || builds(&operator, "ledger").await.remove(0)["queue"].clone();
    for lane in 0..6 {
        client.post("/ledger/publish", &json!({"from": 1, "count": 500, "lane": lane})).await.done(200);
    }
    let queue = eventually("a lag", async || Some(ledger().await).filter(|queue| queue["lagMs"].is_u64())).await;
    assert!(queue["depth"].as_u64() > Some(0), "{queue}");
    assert!(succeed(&host, &["status", "ledger"]).contains("LAG"));
    eventually("the end of the queue", async || {
        let queue = ledger().await;
        (queue["depth"] == 0 && queue["inFlight"] == 0 && queue["lagMs"].is_null()).then_some(())
    })
    .await;

    // A build that drains is seen beside the new one until its last answer has ended.
    let mut stream = EventStream::open(&client, "/api/hello/stream?count=1000", None).await.expect("a stream");
    stream.wait_for("tick").await;
    let next = guests::variant(&guests::bytes(&guests::plugin("hello")), 1);
    let deploy = operator.request(Method::POST, "/api/admin/plugins/hello/deploy");
    operator.send(deploy.header("content-type", "application/wasm").body(next)).await.done(202);
    let builds = builds(&operator, "hello").await;
    let roles: Vec<(&Value, &Value)> = builds.iter().map(|build| (&build["revision"], &build["role"])).collect();
    assert_eq!(roles, [(&json!(2), &json!("current")), (&json!(1), &json!("draining"))], "{builds:?}");
    assert_eq!(builds[1]["inFlight"], 1, "{builds:?}");
}

#[tokio::test]
async fn logs_show_what_a_guest_says_and_what_the_host_says_of_it_and_go_on() {
    let host = Host::with(both()).start().await;
    let client = host.client();
    client.get("/api/unruly/trap").await.done(502);
    let following = Following::begin(&host, &["logs", "unruly", "--follow"]);
    following.wait_for(|line| line.contains("guest") && line.contains("the guest gives up"));
    following.wait_for(|line| line.contains("host") && line.contains("a guest trapped"));
    // Only now, and so after it began to follow.
    client.get("/api/unruly/spin").await.done(504);
    let line = following.wait_for(|line| line.contains("a guest ran out of time"));
    assert!(line.contains(" warn ") && line.contains("host"), "{line}");

    let list = json_of(&host, &["logs", "unruly", "--json", "-n", "1000"]);
    let lines = list["items"].as_array().expect("lines");
    let ids: Vec<u64> = lines.iter().filter_map(|line| line["id"].as_u64()).collect();
    assert!(ids.len() == lines.len() && ids.is_sorted_by(|one, other| one < other), "{list}");
    let warnings = json_of(&host, &["logs", "unruly", "--json", "--level", "warn"]);
    let warnings = warnings["items"].as_array().expect("lines");
    assert!(!warnings.is_empty() && warnings.iter().all(|line| line["level"] == "warn"), "{warnings:?}");
    assert!(succeed(&host, &["logs", "hello"]).lines().all(|line| !line.contains("gives up")), "another plugin's log");
    assert!(!succeed(&host, &["logs", "host"]).contains("gives up"));
    let (status, _, complaint) = run(&host, &["logs", "nobody", "-f"]);
    assert!(status == Some(1) && complaint.contains("404"), "{complaint}");

    // Who comes back with the id of a line gets those behind it, each once.
    let path = "/api/admin/plugins/unruly/logs";
    let last = ids[0].to_string();
    let stream = EventStream::open(&host.operator(), &format!("{path}?follow"), Some(&last)).await;
    let mut stream = stream.expect("a stream");
    for id in &ids[1..] {
        let event = stream.wait_for("log").await;
        assert_eq!(event.id, Some(id.to_string()), "{event:?}");
    }
    let json = Following::begin(&host, &["logs", "unruly", "-f", "-n", "1", "--json"]);
    let one: Value = serde_json::from_str(&json.wait_for(|_| true)).expect("JSON on one line");
    assert_eq!(one["id"].as_u64(), ids.last().copied());
}

#[tokio::test]
async fn a_follower_comes_back_to_a_host_that_was_restarted() {
    let port = berth_tests::process::free_port();
    let host = Host::with(both()).flag("--listen", &format!("127.0.0.1:{port}")).start().await;
    let following = Following::begin(&host, &["events", "-f"]);
    following.wait_for(|line| line.contains("deployed") && line.contains("hello"));
    let host = host.restart().await;
    let next = guests::variant(&guests::bytes(&guests::plugin("hello")), 3);
    host.operator().deploy("hello", next).await.done(200);
    let line = following.wait_for(|line| line.contains("hello"));
    assert!(line.contains("revision 2 in place of 1"), "it came back where it was, and not to the beginning: {line}");
    let begin = Instant::now();
    let stopped = host.stop().await;
    assert!(stopped.status.success() && begin.elapsed() < STOP_TIME_MAX, "a follower held it up:\n{}", stopped.log);
}

#[tokio::test]
async fn events_tell_of_deploys_failures_reverts_and_traps() {
    let host = Host::with(both()).start().await;
    let operator = host.operator();
    let following = Following::begin(&host, &["events", "hello", "--follow"]);
    following.wait_for(|line| line.contains("deployed") && line.contains("revision 1"));
    let hello = guests::bytes(&guests::plugin("hello"));
    operator.deploy("hello", guests::variant(&hello, 1)).await.done(200);
    let line = following.wait_for(|line| line.contains("deployed"));
    assert!(
        line.contains("hello") && line.contains("revision 2 in place of 1") && line.contains("by operator"),
        "{line}"
    );
    operator.deploy("hello", b"garbage".to_vec()).await.done(422);
    following.wait_for(|line| line.contains("failed") && line.contains("by operator"));
    succeed(&host, &["rollback", "hello"]);
    following.wait_for(|line| line.contains("rolled back") && line.contains("revision 1 in place of 2"));
    host.client().get("/api/unruly/trap").await.done(502);
    eventually("the trap", async || {
        let events = operator.get("/api/admin/events?plugin=unruly").await.expect(200);
        let items = events["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().find(|event| event["type"] == "host.plugin.trapped")
    })
    .await;
    let all = json_of(&host, &["events", "--json"]);
    let items = all["items"].as_array().expect("events");
    assert!(items.iter().any(|event| event["data"]["plugin"] == "unruly"), "{all}");
    let newest = json_of(&host, &["events", "-n", "1", "--json"]);
    assert_eq!(newest["items"][0], *items.last().expect("one"));
    let later = operator.get(&format!("/api/admin/events?after={}", items[0]["id"])).await.expect(200);
    assert_eq!(later["items"].as_array(), items.get(1..).map(<[Value]>::to_vec).as_ref());
}

#[tokio::test]
async fn grants_are_told_in_words() {
    let host = Host::with(both()).start().await;
    let said = succeed(&host, &["grants", "hello"]);
    for part in [
        "hello",
        "may answer requests below /api/hello",
        "may answer without a token at GET /api/hello",
        "may keep values in the cache",
        "may reach api.example.com by HTTP",
        "64 MiB of memory",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    assert!(!said.contains("tables") && !said.contains("mail"), "{said}");
    let all = json_of(&host, &["grants", "--json"]);
    let names: Vec<&Value> = all["items"].as_array().into_iter().flatten().map(|grants| &grants["plugin"]).collect();
    assert_eq!(names, [&json!("hello"), &json!("unruly")]);
    let (status, _, complaint) = run(&host, &["grants", "nobody"]);
    assert!(status == Some(1) && complaint.contains("404"), "{complaint}");
}

#[tokio::test]
async fn only_the_platform_sees_the_host() {
    let host = Host::with(both()).start().await;
    let _ada = host.client().register("ada@example.com", "Harbour").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    for path in ["status", "grants", "events", "events?follow", "plugins/hello/grants", "plugins/hello/logs?follow"] {
        let path = format!("/api/admin/{path}");
        host.client().get(&path).await.problem(401, "UNAUTHORIZED");
        eve.get(&path).await.problem(403, "FORBIDDEN");
    }
    let mut command = host.berth(&["logs", "hello", "-f"]);
    let output = command.env("BERTH_OPERATOR_TOKEN", eve.token()).output().expect("berth");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && complaint.contains("403") && complaint.contains("--token-file"),
        "{complaint}"
    );
}

#[tokio::test]
async fn the_command_line_helps_and_completes() {
    let host = Host::with(Manifest::hello()).start().await;
    let help = succeed(&host, &["--help"]);
    for command in ["status", "logs", "events", "grants", "routes", "completions"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command} is not in:\n{help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(succeed(&host, &["completions", shell]).contains("grants"), "{shell}");
    }
    let mut command = host.berth(&["status"]);
    let output = command.env("BERTH_URL", "http://127.0.0.1:1").output().expect("berth");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(69) && complaint.contains("--url"), "{complaint}");
}
