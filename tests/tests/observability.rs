//! What an operator sees from outside: traces, metrics, and the operator's own door.
#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use berth_test_servers::find_program;
use berth_tests::collector::{Collector, Span};
use berth_tests::{Client, Host, Manifest, eventually, plans};
use reqwest::Method;
use serde_json::json;

/// As the W3C's own example.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// An address that was free a moment ago.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

#[tokio::test]
async fn one_execution_of_a_plan_is_one_connected_tree() {
    let collector = Collector::start().await;
    let host = Host::with(Manifest::services()).variable("BERTH_OTLP_ENDPOINT", &collector.url).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let plan = plans::ready_plan(&ada, &plans::three_steps()).await;
    let request = ada
        .request(Method::POST, "/api/executions/execute")
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .json(&json!({ "planId": plan }));
    let started = ada.send(request).await.expect(202);
    let execution = berth_tests::answer::text(&started, "id");
    plans::reaches(&ada, &execution, &["completed"]).await;
    // The last spans come a moment later, in a batch.
    let tree = eventually("a tree with everything in it", async || {
        let spans = collector.of(TRACE);
        let has = |name: &str| spans.iter().any(|span| span.name.starts_with(name));
        let is_whole = has("POST /api/executions/execute")
            && has("guest")
            && has("database ")
            && has("deliver execution-service")
            && has("deliver planning")
            && orphans(&spans).is_empty();
        is_whole.then_some(spans)
    })
    .await;
    let begin = tree.iter().find(|span| span.name.starts_with("POST /api/executions/execute")).expect("it is there");
    assert_eq!(begin.parent, CALLER, "the tree goes on where the caller's ended");
    assert_eq!(begin.attribute("http.response.status_code"), "202");
    assert_eq!(begin.attribute("berth.plugin"), "execution-service");
    let deliveries = tree.iter().filter(|span| span.name.starts_with("deliver ")).count();
    assert!(deliveries >= 3, "{deliveries} deliveries in the tree of three steps");
    assert!(tree.iter().all(|span| !format!("{span:?}").contains("hello world")), "a value reached a span");
}

/// Spans whose parent is neither in the tree nor the caller.
fn orphans(spans: &[Span]) -> Vec<String> {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    let lost = spans.iter().filter(|span| span.parent != CALLER && !ids.contains(span.parent.as_str()));
    lost.map(|span| span.name.clone()).collect()
}

#[tokio::test]
async fn nothing_is_sent_of_what_is_not_sampled() {
    let collector = Collector::start().await;
    let host = Host::with(Manifest::hello())
        .variable("BERTH_OTLP_ENDPOINT", &collector.url)
        .variable("BERTH_OTLP_SAMPLE", "0")
        .start()
        .await;
    let client = host.client();
    let request = client.request(Method::GET, "/api/hello").header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    client.send(request).await.done(200);
    let _ = host.stop().await;
    assert!(collector.spans().is_empty(), "{:?}", collector.spans());
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nobody_anything() {
    let host = Host::with(Manifest::hello())
        .variable("BERTH_OTLP_ENDPOINT", &format!("http://{}", free_address()))
        .start()
        .await;
    for _ in 0..50 {
        host.client().get("/api/hello").await.done(200);
    }
    assert!(host.stop().await.status.success());
}

#[tokio::test]
async fn the_metrics_are_what_prometheus_expects_and_tell_what_happened() {
    let address = free_address();
    let host = Host::with(Manifest::services()).variable("BERTH_ADMIN_LISTEN", &address).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    ada.get("/api/projects").await.done(200);
    ada.get("/api/projects/nobody").await.problem(404, "NOT_FOUND");
    host.client().get("/api/projects").await.problem(401, "UNAUTHORIZED");
    for number in 0..50 {
        host.client().get(&format!("/made-up/{number}")).await.problem(404, "ROUTE_NOT_FOUND");
    }
    let door = Client::anonymous(&format!("http://{address}"));
    let page = door.get("/metrics").await;
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = page.text();
    for line in [
        "berth_http_requests_total{service=\"planning\",status=\"2xx\"} 1",
        "berth_http_requests_total{service=\"planning\",status=\"4xx\"} 2",
        "berth_plugin_up{plugin=\"planning\"} 1",
        "berth_queue_dead_letters{plugin=\"planning\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing:\n{text}");
    }
    for name in ["berth_plugin_cpu_seconds_total{plugin=\"planning\"} ", "process_cpu_seconds_total "] {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok());
        assert!(value > Some(0.0), "{name} is {value:?}");
    }
    assert!(!text.contains("made-up") && text.lines().count() < 1000, "a client made series of its own");
    check_with_promtool(&text);
}

/// What Prometheus's own tool says: nothing. `cargo xtask test` installs it; where it cannot, this is not seen, and is
/// said not to be.
fn check_with_promtool(text: &str) {
    let program = std::env::var_os("BERTH_TEST_PROMTOOL").map(PathBuf::from).or_else(|| find_program("promtool"));
    let Some(program) = program else {
        #[expect(clippy::print_stderr, reason = "whoever reads the run must know what was not tested")]
        {
            eprintln!("SKIPPED: what `promtool check metrics` says is not seen, for want of promtool");
        }
        return;
    };
    let started = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = started.expect("promtool starts");
    promtool.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("sent");
    let output = promtool.wait_with_output().expect("an end");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn the_metrics_of_a_busy_host_are_what_prometheus_expects() {
    let address = free_address();
    let host = Host::with(Manifest::services()).variable("BERTH_ADMIN_LISTEN", &address).start().await;
    let door = Client::anonymous(&format!("http://{address}"));
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let plan = plans::ready_plan(&ada, &plans::three_steps()).await;
    let started = ada.post("/api/executions/execute", &json!({ "planId": plan })).await.expect(202);
    let execution = berth_tests::answer::text(&started, "id");
    let readers = (0..8).map(|number| {
        let (ada, door) = (ada.clone(), door.clone());
        tokio::spawn(async move {
            for _ in 0..25 {
                ada.get("/api/projects").await.done(200);
                ada.get(&format!("/api/plans/nobody-{number}")).await.problem(404, "NOT_FOUND");
                // Read while everything is counted.
                check_histograms(&door.get("/metrics").await.text());
            }
        })
    });
    for reader in readers {
        reader.await.expect("a reader");
    }
    plans::reaches(&ada, &execution, &["completed"]).await;
    let page = door.get("/metrics").await;
    assert_eq!(page.status, 200, "{}", page.text());
    check_with_promtool(&page.text());
}

/// The last bucket of every histogram is its count, however much is counted meanwhile.
fn check_histograms(text: &str) {
    let series = |prefix: &str| -> BTreeMap<String, String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(prefix)?.rsplit_once(' '));
        let of_all = |labels: &str| labels.replace(",le=\"+Inf\"", "");
        let all = lines.filter(|(labels, _)| !labels.contains("le=") || labels.contains("le=\"+Inf\""));
        all.map(|(labels, value)| (of_all(labels), value.to_owned())).collect()
    };
    let name = "berth_http_request_duration_seconds";
    let counts = series(&format!("{name}_count"));
    assert!(!counts.is_empty(), "{text}");
    assert_eq!(counts, series(&format!("{name}_bucket")));
}

#[tokio::test]
async fn the_operators_door_has_the_administration_and_nothing_else() {
    let address = free_address();
    let host = Host::with(Manifest::hello()).variable("BERTH_ADMIN_LISTEN", &address).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let door = Client::anonymous(&format!("http://{address}"));
    door.get("/api/admin/plugins").await.problem(401, "UNAUTHORIZED");
    door.with_token(host.operator().token()).get("/api/admin/plugins").await.done(200);
    door.with_token(ada.token()).get("/api/admin/plugins").await.done(200);
    door.get("/health").await.done(200);
    for path in ["/api/hello", "/api/auth/me", "/openapi.json", "/"] {
        door.with_token(ada.token()).get(path).await.problem(404, "ROUTE_NOT_FOUND");
    }
    // And they are not on the gateway any more.
    for path in ["/api/admin/plugins", "/metrics"] {
        host.operator().get(path).await.problem(404, "ROUTE_NOT_FOUND");
    }
}
