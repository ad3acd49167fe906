//! The official OpenTelemetry SDK of Python against a real host: traces, metrics and logs by OTLP, read back. It is installed into an
//! environment below `target/` where it is missing. Where python3 is missing or PyPI is out of reach nothing is asserted here; what is
//! sent is then tested in `telemetry.rs` alone.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use berth_tests::answer::text;
use berth_tests::{Host, guests};
use serde_json::{Value, json};

/// The version whose behaviour is known.
const VERSION: &str = "1.45.2";
const PATH: &str = "/api/observability";

/// The environment's Python; none where it cannot be installed.
fn install() -> Option<PathBuf> {
    let environment = guests::root().join(format!("target/otel-python-{VERSION}"));
    let python = environment.join("bin/python");
    if !environment.join("installed").is_file() {
        let run = |command: &mut Command| {
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success()).then_some(())
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        let packages = ["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"];
        run(Command::new(environment.join("bin/pip"))
            .args(["install", "--quiet", "--timeout", "10", "--retries", "1"])
            .args(packages.map(|package| format!("{package}=={VERSION}"))))?;
        assert!(std::fs::write(environment.join("installed"), VERSION).is_ok(), "the environment cannot be marked");
    }
    Some(python)
}

fn items(page: &Value) -> Vec<Value> {
    page["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn what_the_official_sdk_exports_is_read_back_whole() {
    let Some(python) = install() else {
        eprintln!("SKIPPED: what the official OpenTelemetry SDK sends is not seen, for want of python3 or PyPI");
        return;
    };
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let key = json!({"name": "SDK", "permissions": ["observability.*", "logs.*"], "expiresInDays": 1});
    let key = text(&ada.post("/api/users/me/api-keys", &key).await.expect(201), "key");
    let mut client = Command::new(python);
    client
        .arg(guests::root().join("tests/clients/otlp_client.py"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", ada.url(PATH))
        .env("OTEL_EXPORTER_OTLP_HEADERS", format!("Authorization=Bearer%20{key}"));
    let output = client.output().unwrap_or_else(|error| unreachable!("{error}"));
    let trace_id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{trace_id}{}", String::from_utf8_lossy(&output.stderr));

    let whole = ada.get(&format!("{PATH}/traces/{trace_id}")).await.expect(200);
    let tree: Vec<(String, String, i64)> = whole["spans"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|span| (text(span, "service"), text(span, "name"), span["depth"].as_i64().unwrap_or(-1)))
        .collect();
    let expected = [("gate", "GET /buy", 0), ("gate", "call shop", 1), ("shop", "buy", 2), ("store", "reserve", 3)];
    assert_eq!(tree, expected.map(|(service, name, depth)| (service.to_owned(), name.to_owned(), depth)), "{whole}");
    assert_eq!((&whole["spanCount"], &whole["errorCount"]), (&json!(4), &json!(1)), "{whole}");
    let (root, reserve) = (&whole["spans"][0], &whole["spans"][3]);
    assert_eq!(root["kind"], "server");
    assert_eq!(
        (&root["attributes"]["http.route"], &root["attributes"]["items"]),
        (&json!("/buy"), &json!(3)),
        "{root}"
    );
    assert_eq!((&root["attributes"]["service.version"], &root["isOrphan"]), (&json!("1.2.3"), &json!(false)), "{root}");
    assert_eq!(whole["spans"][2]["events"][0]["attributes"], json!({"size": 2}), "{whole}");
    assert_eq!(
        (&reserve["status"], &reserve["statusMessage"]),
        (&json!("error"), &json!("shelf 99 is empty")),
        "{reserve}"
    );
    assert_eq!(reserve["attributes"]["tags"], json!(["a", "b"]), "{reserve}");

    let map = ada.get(&format!("{PATH}/service-map")).await.expect(200);
    let edge = |edge: &Value| (text(edge, "from"), text(edge, "to"), edge["calls"].as_i64(), edge["errors"].as_i64());
    let edges: BTreeSet<_> = map["edges"].as_array().into_iter().flatten().map(edge).collect();
    let expected = [("gate", "shop", 0), ("shop", "store", 1)];
    let expected = expected.map(|(from, to, errors)| (from.to_owned(), to.to_owned(), Some(1), Some(errors)));
    assert_eq!(edges, expected.into(), "{map}");

    let names = items(&ada.get(&format!("{PATH}/metrics")).await.expect(200));
    let kinds: Vec<(String, String)> =
        names.iter().map(|metric| (text(metric, "name"), text(metric, "kind"))).collect();
    let expected = [("depth", "gauge"), ("latency", "histogram"), ("orders", "counter")];
    assert_eq!(kinds, expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
    let last = async |query: &str| {
        let answer = ada.get(&format!("{PATH}/metrics?step=1h&service=shop&{query}")).await.expect(200);
        answer["series"][0]["points"].as_array().and_then(|points| points.last()).and_then(|at| at["value"].as_f64())
    };
    assert_eq!(last("name=orders&agg=last&labels=route:/buy").await, Some(6.0));
    assert_eq!(last("name=depth&agg=last&labels=queue:a").await, Some(7.0));
    let median = last("name=latency&agg=p50").await;
    assert!(median.is_some_and(|median| (10.0..=90.0).contains(&median)), "{median:?}");

    let lines = items(&ada.get(&format!("{PATH}/logs?traceId={trace_id}&sortBy=sequence&order=asc")).await.expect(200));
    let said: Vec<(String, String)> = lines.iter().map(|line| (text(line, "level"), text(line, "message"))).collect();
    let accepted = "order 17 accepted, token=[redacted]";
    let expected = [("info", accepted), ("error", "reservation failed")];
    assert_eq!(said, expected.map(|(level, message)| (level.to_owned(), message.to_owned())), "{lines:?}");
    assert_eq!(lines[0]["spanId"], whole["spans"][2]["spanId"], "{lines:?}");
    let errors = items(&ada.get(&format!("{PATH}/errors?type=LookupError")).await.expect(200));
    let services: BTreeSet<String> = errors.iter().map(|error| text(error, "service")).collect();
    assert_eq!(services, ["shop", "store"].map(str::to_owned).into(), "in the span and in the log: {errors:?}");
}
