//! The service observability: what an OpenTelemetry SDK sends is taken, put together and read back; alerts and checks speak once.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use berth_tests::answer::text;
use berth_tests::manifest::Manifest;
use berth_tests::members::host_with_ada;
use berth_tests::wait::heard_of;
use berth_tests::{Answer, Client, Host, eventually, members};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use reqwest::Method;
use serde_json::{Value, json};

const PATH: &str = "/api/observability";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Nanoseconds since 1970, some milliseconds from now.
fn nanos(millis: i64) -> u64 {
    u64::try_from((chrono::Utc::now().timestamp_millis() + millis) * 1_000_000).expect("a time")
}

/// A moment as milliseconds since 1970, in a text.
fn millis(moment: &str) -> String {
    chrono::DateTime::parse_from_rfc3339(moment).expect("a time").timestamp_millis().to_string()
}

fn named(service: &str) -> Value {
    json!({"attributes": [{"key": "service.name", "value": {"stringValue": service}}]})
}

/// A span in the JSON of OTLP.
fn span(id: &str, parent: &str, name: &str, start: u64, status: i64) -> Value {
    json!({"traceId": TRACE, "spanId": id, "parentSpanId": parent, "name": name, "kind": 2,
        "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 40_000_000).to_string(),
        "attributes": [{"key": "http.route", "value": {"stringValue": "/buy"}}, {"key": "items", "value": {"intValue": "3"}}],
        "status": {"code": status}})
}

fn export(service: &str, spans: &[Value]) -> Value {
    json!({"resourceSpans": [{"resource": named(service), "scopeSpans": [{"scope": {"name": "tests"}, "spans": spans}]}]})
}

/// The same in protobuf.
fn protobuf(service: &str, id: u64, parent: Option<u64>, name: &str) -> Vec<u8> {
    let value = AnyValue { value: Some(any_value::Value::StringValue(service.into())) };
    let resource = Resource {
        attributes: vec![KeyValue { key: "service.name".into(), value: Some(value), ..KeyValue::default() }],
        ..Resource::default()
    };
    let span = Span {
        trace_id: u128::from_str_radix(TRACE, 16).expect("an id").to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        name: name.into(),
        kind: 2,
        start_time_unix_nano: nanos(30),
        end_time_unix_nano: nanos(40),
        status: Some(Status { code: 2, message: "out of stock".into() }),
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

async fn send_protobuf(client: &Client, path: &str, body: Vec<u8>) -> Answer {
    let request = client.request(Method::POST, path).header("content-type", "application/x-protobuf").body(body);
    client.send(request).await
}

#[tokio::test]
async fn a_trace_that_comes_late_and_out_of_order_is_read_back_whole() {
    let (host, ada) = host_with_ada().await;
    let traces = format!("{PATH}/v1/traces");
    let start = nanos(0);
    // The innermost first, in protobuf; then the middle; the root last.
    let answer = send_protobuf(&ada, &traces, protobuf("store", 3, Some(2), "reserve")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/x-protobuf");
    let answer = ExportTraceServiceResponse::decode(answer.bytes.as_slice()).expect("an answer");
    assert!(answer.partial_success.is_none(), "{answer:?}");
    let path = format!("{PATH}/traces/{TRACE}");
    let early = ada.get(&path).await.expect(200);
    assert_eq!((&early["isRootMissing"], &early["spans"][0]["isOrphan"]), (&json!(true), &json!(true)), "{early}");
    let middle = export("shop", &[span("0000000000000002", "0000000000000001", "buy", start + 10_000_000, 2)]);
    assert_eq!(ada.post(&traces, &middle).await.expect(200), json!({"partialSuccess": {}}));
    let bad = json!({"traceId": "zz", "spanId": "0000000000000009", "name": "x"});
    let root = export("gate", &[span("0000000000000001", "", "GET /buy", start, 1), bad]);
    let partial = ada.post(&traces, &root).await.expect(200);
    assert_eq!(partial["partialSuccess"]["rejectedSpans"], 1, "{partial}");
    // Once more, as an exporter that heard no answer does.
    ada.post(&traces, &middle).await.done(200);
    let whole = ada.get(&path).await.expect(200);
    assert_eq!((&whole["rootService"], &whole["rootName"]), (&json!("gate"), &json!("GET /buy")), "{whole}");
    assert_eq!(
        (&whole["spanCount"], &whole["errorCount"], &whole["isRootMissing"]),
        (&json!(3), &json!(2), &json!(false))
    );
    assert_eq!(whole["services"], json!(["gate", "shop", "store"]));
    let tree: Vec<(String, i64)> = whole["spans"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|span| (text(span, "name"), span["depth"].as_i64().unwrap_or(-1)))
        .collect();
    assert_eq!(tree, [("GET /buy".to_owned(), 0), ("buy".to_owned(), 1), ("reserve".to_owned(), 2)]);
    assert_eq!(whole["spans"][1]["attributes"]["items"], 3, "{whole}");
    let list = ada.get(&format!("{PATH}/traces?service=store&status=error")).await.expect(200);
    assert_eq!((&list["total"], &list["items"][0]["traceId"]), (&json!(1), &json!(TRACE)), "{list}");
    let map = ada.get(&format!("{PATH}/service-map")).await.expect(200);
    let edges: BTreeSet<(String, String)> =
        map["edges"].as_array().into_iter().flatten().map(|edge| (text(edge, "from"), text(edge, "to"))).collect();
    let expected = [("gate", "shop"), ("shop", "store")].map(|(from, to)| (from.to_owned(), to.to_owned()));
    assert_eq!(edges, expected.into(), "{map}");
    let services = ada.get(&format!("{PATH}/services")).await.expect(200);
    assert_eq!(services["total"], 3, "{services}");
    let health = ada.get(&format!("{PATH}/services/store/health")).await.expect(200);
    assert_eq!((&health["status"], &health["load"]["errors"]), (&json!("UNHEALTHY"), &json!(1)), "{health}");
    ada.get(&format!("{PATH}/services/nobody/health")).await.problem(404, "NOT_FOUND");
    // A failed span with a message is an error.
    let errors = ada.get(&format!("{PATH}/errors?service=store")).await.expect(200);
    assert_eq!(
        (&errors["total"], &errors["items"][0]["title"]),
        (&json!(1), &json!("error: out of stock")),
        "{errors}"
    );
    // Rights and organizations.
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&path).await.problem(404, "NOT_FOUND");
    assert_eq!(eve.get(&format!("{PATH}/traces")).await.expect(200)["total"], 0);
    let viewer = members::bring(&host, &ada, "vera@example.com", "Viewer").await;
    viewer.get(&path).await.done(200);
    viewer.post(&traces, &middle).await.problem(403, "FORBIDDEN");
    let host = host.restart().await;
    let ada = host.client().login("ada@example.com").await;
    assert_eq!(ada.get(&path).await.expect(200)["spanCount"], 3);
    // A trace that is almost full takes one more; what it has already is not rejected, however often it comes.
    let full = format!("UPDATE trace_traces SET span_count = 9999 WHERE trace_id = '{TRACE}'");
    assert_eq!(host.store().change(&full).await, 1);
    let known_and_new = ["0000000000000002", "000000000000000a", "000000000000000b"];
    let more = export("shop", &known_and_new.map(|id| span(id, "0000000000000001", "buy", start, 1)));
    for _ in 0..2 {
        assert_eq!(ada.post(&traces, &more).await.expect(200)["partialSuccess"]["rejectedSpans"], 1);
        let whole = ada.get(&path).await.expect(200);
        assert_eq!(whole["spans"].as_array().map(Vec::len), Some(4), "{whole}");
    }
}

#[tokio::test]
async fn what_is_no_export_or_no_question_is_refused() {
    let (_host, ada) = host_with_ada().await;
    let traces = format!("{PATH}/v1/traces");
    let plain = ada.request(Method::POST, &traces).header("content-type", "text/plain").body("x");
    ada.send(plain).await.problem(415, "UNSUPPORTED_MEDIA_TYPE");
    send_protobuf(&ada, &traces, vec![0xff; 20]).await.problem(400, "VALIDATION_ERROR");
    let broken = ada.request(Method::POST, &traces).header("content-type", "application/json").body("{");
    ada.send(broken).await.problem(400, "VALIDATION_ERROR");
    let spans: Vec<Value> = (0..10_001).map(|_| json!({})).collect();
    ada.post(&traces, &export("shop", &spans)).await.problem(413, "PAYLOAD_TOO_LARGE");
    for (path, field) in [
        ("traces?status=odd", "status"),
        ("traces?sortBy=name", "sortBy"),
        ("traces?from=yesterday", "from"),
        ("metrics?name=x&agg=mean", "agg"),
        ("metrics?sortBy=kind", "sortBy"),
        ("metrics?name=x&step=1s&from=2026-01-01T00:00:00Z&to=2026-01-10T00:00:00Z", "step"),
        ("service-map?from=2026-01-01T00:00:00Z&to=2026-01-10T00:00:00Z", "from"),
    ] {
        let answer = ada.get(&format!("{PATH}/{path}")).await;
        answer.problem(400, "VALIDATION_ERROR");
        assert_eq!(answer.faulty_fields(), [field], "{path}");
    }
    let rule = json!({"name": "r", "source": "metric", "query": "mean(x)", "operator": "gt", "threshold": 1});
    let answer = ada.post(&format!("{PATH}/alerts/rules"), &rule).await;
    answer.problem(400, "VALIDATION_ERROR");
    assert_eq!(answer.faulty_fields(), ["query"]);
    let check = ada
        .post(&format!("{PATH}/checks"), &json!({"name": "c", "url": "https://a.example", "service": "logging"}))
        .await;
    check.problem(400, "VALIDATION_ERROR");
    assert_eq!(check.faulty_fields(), ["url"]);
    let native = json!({"spans": [{"traceId": TRACE, "spanId": "1", "service": "s", "name": "n", "startTime": "2026-01-01T00:00:00Z"}]});
    let reported = ada.post(&format!("{PATH}/traces"), &native).await.expect(202);
    assert_eq!((&reported["accepted"], &reported["rejected"][0]["index"]), (&json!(0), &json!(0)), "{reported}");
}

async fn series(client: &Client, query: &str) -> Vec<Value> {
    let answer = client.get(&format!("{PATH}/metrics?{query}")).await.expect(200);
    answer["series"].as_array().cloned().unwrap_or_default()
}

fn last(series: &Value) -> f64 {
    series["points"].as_array().and_then(|points| points.last()).and_then(|at| at["value"].as_f64()).unwrap_or(f64::NAN)
}

#[tokio::test]
async fn metrics_are_summed_up_and_a_repeated_export_counts_once() {
    let (_host, ada) = host_with_ada().await;
    let metrics = format!("{PATH}/v1/metrics");
    let at = nanos(-1_000);
    let point = |value: Value, route: &str, at: u64| {
        let mut point =
            json!({"timeUnixNano": at.to_string(), "attributes": [{"key": "route", "value": {"stringValue": route}}]});
        for (name, member) in value.as_object().into_iter().flatten() {
            point[name] = member.clone();
        }
        point
    };
    let histogram = json!({"count": "10", "sum": 55.0, "bucketCounts": ["5", "4", "1"], "explicitBounds": [5.0, 10.0]});
    let body = json!({"resourceMetrics": [{"resource": named("shop"), "scopeMetrics": [{"metrics": [
        {"name": "orders", "unit": "1", "sum": {"isMonotonic": true, "aggregationTemporality": 1, "dataPoints": [
            point(json!({"asInt": "4"}), "/a", at), point(json!({"asInt": 6}), "/b", at)]}},
        {"name": "depth", "gauge": {"dataPoints": [point(json!({"asDouble": 2.5}), "/a", at), point(json!({"asDouble": 3.5}), "/a", at + 5_000_000)]}},
        {"name": "latency", "unit": "ms", "histogram": {"aggregationTemporality": 1, "dataPoints": [point(histogram, "/a", at)]}},
        {"name": "nothing", "gauge": {"dataPoints": [{"timeUnixNano": at}]}}
    ]}]}]});
    let answer = ada.post(&metrics, &body).await.expect(200);
    assert_eq!(answer["partialSuccess"]["rejectedDataPoints"], 1, "{answer}");
    ada.post(&metrics, &body).await.done(200);
    let names = ada.get(&format!("{PATH}/metrics")).await.expect(200);
    let known: Vec<String> = names["items"].as_array().into_iter().flatten().map(|item| text(item, "name")).collect();
    assert_eq!(known, ["depth", "latency", "orders"], "{names}");
    let all = series(&ada, "name=orders&agg=increase&by=none&step=1h").await;
    assert_eq!((all.len(), last(&all[0])), (1, 10.0), "{all:?}");
    let each = series(&ada, "name=orders&agg=sum&by=route&step=1h").await;
    assert_eq!(each.iter().map(last).collect::<Vec<_>>(), [4.0, 6.0], "{each:?}");
    assert_eq!(last(&series(&ada, "name=orders&agg=sum&labels=route:/b&step=1h").await[0]), 6.0);
    let depth = series(&ada, "name=depth&agg=avg&step=1h").await;
    assert_eq!(last(&depth[0]), 3.0, "{depth:?}");
    assert_eq!(last(&series(&ada, "name=depth&agg=last&step=1h&service=shop").await[0]), 3.5);
    let p95 = last(&series(&ada, "name=latency&agg=p95&step=1h").await[0]);
    assert!((5.0..=10.0).contains(&p95), "{p95}");
    assert!(series(&ada, "name=latency&agg=p95&step=1h&service=nobody").await.is_empty());
    // A cumulative one says what has come since the point before, not since its process began.
    let cumulative = |low: u32, high: u32, at: u64| {
        let buckets = json!({"count": (low + high).to_string(), "sum": 1.0, "bucketCounts": [low.to_string(), high.to_string(), "0"],
            "explicitBounds": [10.0, 100.0]});
        json!({"resourceMetrics": [{"resource": named("shop"), "scopeMetrics": [{"metrics": [{"name": "waiting", "histogram": {
            "aggregationTemporality": 2, "dataPoints": [point(buckets, "/a", at)]}}]}]}]})
    };
    let median = async |path: &str| last(&series(&ada, &format!("name=waiting&agg=p50&{path}")).await[0]);
    ada.post(&metrics, &cumulative(1_000, 0, at - 120_000_000_000)).await.done(200);
    assert!(median("step=1d").await < 10.0, "the first point is all there is");
    ada.post(&metrics, &cumulative(1_000, 100, at)).await.done(200);
    assert!(median("step=1d&service=shop").await > 10.0, "a hundred slow ones came, whatever was before");
    let lately =
        (chrono::Utc::now() - chrono::Duration::seconds(60)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    assert!(median(&format!("step=1d&from={lately}")).await > 10.0, "compared with the point before the stretch");
    // In our own form.
    let own = json!([{"name": "own", "value": 7, "service": "shop", "labels": {"a": "b"}}, {"name": "", "value": 1}]);
    let reported = ada.post(&format!("{PATH}/metrics"), &own).await.expect(202);
    assert_eq!((&reported["accepted"], &reported["rejected"][0]["index"]), (&json!(1), &json!(1)), "{reported}");
}

#[tokio::test]
async fn a_metric_has_a_thousand_series_and_the_rest_is_counted() {
    let (_host, ada) = host_with_ada().await;
    let path = format!("{PATH}/metrics");
    let points = |from: u32, to: u32| -> Value {
        (from..to)
            .map(|user| json!({"name": "logins", "value": 1, "service": "gate", "labels": {"user": user.to_string()}}))
            .collect()
    };
    // Several at once, and together more than there is room for.
    let writers = [(0, 400), (300, 700), (600, 1_010)].map(|(from, to)| {
        let (ada, path, body) = (ada.clone(), path.clone(), points(from, to));
        tokio::spawn(async move { ada.post(&path, &body).await.done(202) })
    });
    for writer in writers {
        writer.await.expect("a writer");
    }
    let metric = ada.get(&format!("{path}?name=logins&agg=count&by=none&step=1h")).await.expect(200);
    assert_eq!((&metric["seriesCount"], &metric["droppedCount"]), (&json!(1_000), &json!(10)), "{metric}");
    // What is there goes on.
    let again = ada.post(&path, &points(0, 10)).await.expect(202);
    assert!(again["accepted"].as_i64() > Some(0), "{again}");
    let over = ada.post(&path, &points(2_000, 2_003)).await.expect(202);
    assert_eq!((&over["accepted"], &over["rejected"][0]["index"]), (&json!(0), &json!(-1)), "{over}");
}

#[tokio::test]
async fn points_that_are_old_go_and_their_hours_stay() {
    let manifest = Manifest::services();
    let host = Host::with(manifest.clone().with("alerts = \"1m\"", "alerts = \"daily\"")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let ago = |days: i64, minutes: i64| {
        let hour = chrono::Utc::now().timestamp_millis() / 3_600_000 * 3_600_000;
        let at = chrono::DateTime::from_timestamp_millis(hour - days * 86_400_000 + minutes * 60_000).expect("a time");
        at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
    };
    let point = |name: &str, kind: &str, value: f64, at: String| json!({"name": name, "kind": kind, "service": "shop", "value": value, "recordedAt": at});
    let points = json!([
        point("depth", "gauge", 2.0, ago(20, 1)), point("depth", "gauge", 4.0, ago(20, 2)),
        point("depth", "gauge", 9.0, ago(20, 70)), {"name": "depth", "service": "shop", "value": 6.0},
        point("orders", "counter", 10.0, ago(20, 1)), point("orders", "counter", 17.0, ago(20, 70)),
        point("ancient", "gauge", 1.0, ago(100, 1))
    ]);
    assert_eq!(ada.post(&format!("{PATH}/metrics"), &points).await.expect(202)["accepted"], 7);
    let event = json!({"service": "shop", "type": "flood", "occurredAt": ago(100, 1)});
    ada.post(&format!("{PATH}/events"), &event).await.done(202);
    // What goes by when it was received or last seen: one that is as old as it may be, and one that is older.
    let both = [span("0000000000000001", "", "old", nanos(0), 2), span("0000000000000002", "", "kept", nanos(0), 2)];
    ada.post(&format!("{PATH}/v1/traces"), &export("shop", &both)).await.done(200);
    let failures = ["old", "kept"].map(|kind| json!({"service": "shop", "type": kind, "severity": "error"}));
    ada.post(&format!("{PATH}/events"), &json!(failures)).await.done(202);
    let stopped = host.stop().await;
    let store = stopped.store();
    for (table, column, name, days) in
        [("trace_spans", "received_ms", "name", [8, 6]), ("telemetry_errors", "last_seen", "type", [91, 89])]
    {
        for (which, days) in ["old", "kept"].into_iter().zip(days) {
            let at = if column == "last_seen" { format!("'{}'", ago(days, 0)) } else { millis(&ago(days, 0)) };
            let age = format!("UPDATE {table} SET {column} = {at} WHERE {name} = '{which}'");
            assert_eq!(store.change(&age).await, 1, "{age}");
        }
    }
    stopped.write_manifest(&manifest.with("alerts = \"1m\"", "alerts = \"1s\""));
    let host = stopped.start().await;
    let ada = host.client().login("ada@example.com").await;
    let around = |days: i64| format!("from={}&to={}", ago(days, -60), ago(days, 180));
    eventually("the end of what is old", async || {
        let events = ada.get(&format!("{PATH}/events?{}", around(100))).await.expect(200);
        let errors = ada.get(&format!("{PATH}/errors?type=old")).await.expect(200);
        (events["total"] == 0 && errors["total"] == 0).then_some(())
    })
    .await;
    let trace = ada.get(&format!("{PATH}/traces/{TRACE}")).await.expect(200);
    let names: Vec<String> = trace["spans"].as_array().into_iter().flatten().map(|span| text(span, "name")).collect();
    assert_eq!(names, ["kept"], "{trace}");
    assert_eq!(ada.get(&format!("{PATH}/errors?type=kept")).await.expect(200)["total"], 1);
    let of = async |query: &str| {
        let found = series(&ada, &format!("{}&{query}", around(20))).await;
        let points = found.first().and_then(|series| series["points"].as_array().cloned()).unwrap_or_default();
        points.iter().filter_map(|at| at["value"].as_f64()).collect::<Vec<_>>()
    };
    assert_eq!(of("name=depth&agg=avg").await, [3.0, 9.0], "without a step it is an hour");
    assert_eq!(of("name=depth&agg=max&step=1m").await, [4.0, 9.0]);
    assert_eq!(of("name=depth&agg=last&step=1h").await, [4.0, 9.0]);
    assert_eq!(of("name=orders&agg=increase&step=1d").await.iter().sum::<f64>(), 7.0);
    assert!(of("name=depth&agg=p95&step=1h").await.is_empty(), "the points themselves are gone");
    let old = series(&ada, &format!("{}&name=ancient&agg=avg", around(100))).await;
    assert!(old.iter().all(|series| series["points"] == json!([])), "{old:?}");
    assert_eq!(last(&series(&ada, "name=depth&agg=p95&step=1h").await[0]), 6.0, "what is new stays");
}

#[tokio::test]
async fn logs_go_to_logging_and_a_resolved_error_that_returns_has_regressed() {
    let host = Host::with(Manifest::services_and_herald("", "")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let record = |message: &str, number: i64, line: u32| {
        json!({"timeUnixNano": nanos(0).to_string(), "severityNumber": number, "body": {"stringValue": message},
            "traceId": TRACE, "spanId": "0000000000000001", "attributes": [
                {"key": "exception.type", "value": {"stringValue": "IOError"}},
                {"key": "exception.message", "value": {"stringValue": message}},
                {"key": "exception.stacktrace", "value": {"stringValue": format!("x\n  File \"shop.py\", line {line}, in buy\nIOError")}}]})
    };
    let body = |records: &[Value]| json!({"resourceLogs": [{"resource": named("shop"), "scopeLogs": [{"logRecords": records}]}]});
    let path = format!("{PATH}/v1/logs");
    let sent = body(&[record("order 17 failed", 17, 3), record("order 99 failed", 17, 8), record("fine", 9, 1)]);
    assert_eq!(ada.post(&path, &sent).await.expect(200), json!({"partialSuccess": {}}));
    let logs = ada.get(&format!("{PATH}/logs?level=error&traceId={TRACE}")).await.expect(200);
    assert_eq!(logs["total"], 2, "{logs}");
    assert_eq!(ada.get("/api/logs?service=shop").await.expect(200)["total"], 3);
    let errors = ada.get(&format!("{PATH}/errors")).await.expect(200);
    let group = &errors["items"][0];
    assert_eq!(
        (&errors["total"], &group["count"], &group["status"]),
        (&json!(1), &json!(2), &json!("open")),
        "{errors}"
    );
    let group = format!("{PATH}/errors/{}", text(group, "id"));
    let regressed = ada.put(&format!("{group}/status"), &json!({"status": "regressed"})).await;
    regressed.problem(400, "VALIDATION_ERROR");
    ada.put(&format!("{group}/status"), &json!({"status": "resolved"})).await.done(200);
    let host = host.restart().await;
    let ada = host.client().login("ada@example.com").await;
    ada.post(&path, &body(&[record("order 5 failed", 21, 9)])).await.done(200);
    let group_now = ada.get(&group).await.expect(200);
    assert_eq!((&group_now["status"], &group_now["count"]), (&json!("regressed"), &json!(3)), "{group_now}");
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.put(&format!("{group}/status"), &json!({"status": "open"})).await.problem(404, "NOT_FOUND");
    let overview = ada.get(PATH).await.expect(200);
    assert_eq!(overview["errors"]["regressed"], 1, "{overview}");
    let is_it = |data: &Value| group.ends_with(data["errorId"].as_str().unwrap_or("?"));
    for kind in ["observability.error.new", "observability.error.regressed"] {
        assert_eq!(heard_of(&ada, kind, 1, is_it).await.len(), 1, "{kind}");
    }
}

#[tokio::test]
async fn an_alert_fires_once_for_each_set_of_labels_and_resolves_once() {
    let services = Manifest::services_and_herald("", "").with("alerts = \"1m\"", "alerts = \"1s\"");
    let host = Host::with(services).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let depth = async |shard: &str, value: f64| {
        let point = json!({"name": "queue.depth", "service": "shop", "value": value, "labels": {"shard": shard}});
        ada.post(&format!("{PATH}/metrics"), &point).await.done(202);
    };
    depth("a", 10.0).await;
    depth("b", 20.0).await;
    depth("c", 1.0).await;
    let rules = format!("{PATH}/alerts/rules");
    let rule = json!({"name": "Too deep", "source": "metric", "query": "last(queue.depth{service=shop})[5m] by (shard)",
        "operator": "gt", "threshold": 5, "channels": ["duty"]});
    let rule = text(&ada.post(&rules, &rule).await.expect(201), "id");
    // No data is not zero.
    let silent =
        json!({"name": "None", "source": "metric", "query": "last(no.such)", "operator": "lt", "threshold": 5});
    let silent = text(&ada.post(&rules, &silent).await.expect(201), "id");
    let patient = json!({"name": "Later", "source": "metric", "query": "last(queue.depth)", "operator": "gt", "threshold": 0, "forMinutes": 5});
    ada.post(&rules, &patient).await.done(201);
    let alerts = format!("{PATH}/alerts");
    let firing = eventually("two alerts", async || {
        let list = ada.get(&alerts).await.expect(200);
        (list["total"] == 2).then_some(list)
    })
    .await;
    let shards: BTreeSet<String> =
        firing["items"].as_array().into_iter().flatten().map(|alert| text(&alert["labels"], "shard")).collect();
    assert_eq!(shards, ["a", "b"].map(str::to_owned).into(), "{firing}");
    let of_a = firing["items"].as_array().into_iter().flatten().find(|alert| alert["labels"]["shard"] == "a").cloned();
    let of_a = format!("{alerts}/{}", text(&of_a.expect("an alert"), "id"));
    assert_eq!(ada.post(&format!("{of_a}/acknowledge"), &json!({})).await.expect(200)["status"], "acknowledged");
    ada.post(&format!("{of_a}/acknowledge"), &json!({})).await.problem(409, "CONFLICT");
    depth("a", 2.0).await;
    let resolved = eventually("its end", async || {
        let alert = ada.get(&of_a).await.expect(200);
        (alert["status"] == "resolved").then_some(alert)
    })
    .await;
    assert!(resolved["resolvedAt"].is_string(), "{resolved}");
    let evaluated = ada.get(&format!("{rules}/{silent}")).await.expect(200);
    assert!(evaluated["lastEvaluatedAt"].is_string(), "{evaluated}");
    assert_eq!(ada.get(&alerts).await.expect(200)["total"], 2, "no third one, however often it was evaluated");
    // Who resolves one by hand is told again where nothing has changed.
    let open = ada.get(&format!("{alerts}?status=firing")).await.expect(200);
    let of_b = format!("{alerts}/{}", text(&open["items"][0], "id"));
    assert_eq!(ada.post(&format!("{of_b}/resolve"), &json!({})).await.expect(200)["status"], "resolved");
    ada.post(&format!("{of_b}/resolve"), &json!({})).await.problem(409, "CONFLICT");
    eventually("the third alert", async || (ada.get(&alerts).await.expect(200)["total"] == 3).then_some(())).await;
    // A rule that goes takes its alerts along.
    ada.delete(&format!("{rules}/{rule}")).await.done(204);
    assert_eq!(ada.get(&format!("{alerts}?status=resolved")).await.expect(200)["total"], 3);
    let is_it = |data: &Value| data["ruleId"] == rule.as_str();
    for kind in ["observability.alert.resolved", "observability.alert.firing"] {
        assert_eq!(heard_of(&ada, kind, 3, is_it).await.len(), 3, "{kind}: each once");
    }
    // Of spans and of logs, too.
    let failed = export(
        "shop",
        &[span("0000000000000001", "", "buy", nanos(0), 2), span("0000000000000002", "", "buy", nanos(0), 1)],
    );
    ada.post(&format!("{PATH}/v1/traces"), &failed).await.done(200);
    ada.post("/api/logs", &json!({"level": "fatal", "service": "shop", "message": "flooded"})).await.done(202);
    let of_spans = json!({"name": "Fails", "source": "trace", "query": "error_rate{service=shop}[5m] by (name)", "operator": "gte", "threshold": 0.5});
    let of_logs = json!({"name": "Flood", "source": "log", "query": "level:fatal flooded [5m]", "operator": "gte", "threshold": 1});
    for (rule, value, labels) in [(of_spans, 0.5, json!({"name": "buy"})), (of_logs, 1.0, json!({}))] {
        let rule = text(&ada.post(&rules, &rule).await.expect(201), "id");
        let alert = eventually("an alert", async || {
            ada.get(&format!("{alerts}?ruleId={rule}")).await.expect(200)["items"].get(0).cloned()
        })
        .await;
        assert_eq!((&alert["value"], &alert["labels"]), (&json!(value), &labels), "{alert}");
    }
    host.client().register("eve@example.com", "Reef").await.get(&of_a).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn events_are_kept_those_of_other_services_too() {
    let (host, ada) = host_with_ada().await;
    let events = format!("{PATH}/events");
    let sent = json!({"events": [{"service": "shop", "type": "deploy.done", "message": "version 3"},
        {"service": "shop", "type": "disk.full", "severity": "error", "message": "disk 7 is full"}, {"severity": "odd"}]});
    let reported = ada.post(&events, &sent).await.expect(202);
    assert_eq!((&reported["accepted"], &reported["rejected"][0]["index"]), (&json!(2), &json!(2)), "{reported}");
    let list = ada.get(&format!("{events}?service=shop&severity=error")).await.expect(200);
    assert_eq!((&list["total"], &list["items"][0]["type"]), (&json!(1), &json!("disk.full")), "{list}");
    assert_eq!(ada.get(&format!("{PATH}/errors?type=disk.full")).await.expect(200)["total"], 1);
    // An alert of the audit log is heard of.
    let rule = json!({"name": "Fell", "type": "PATTERN", "conditions": {"action": "crane.fell"}});
    ada.post("/api/audit-logs/alerts", &rule).await.done(201);
    ada.post("/api/audit-logs", &json!({"action": "crane.fell", "severity": "CRITICAL"})).await.done(201);
    let heard = eventually("the alert of the audit log", async || {
        let list = ada.get(&format!("{events}?type=audit.alert.triggered")).await.expect(200);
        (list["total"] == 1).then(|| list["items"][0].clone())
    })
    .await;
    assert_eq!((&heard["service"], &heard["severity"]), (&json!("logging"), &json!("warn")), "{heard}");
    assert_eq!(heard["attributes"]["name"], "Fell", "{heard}");
    // The audit log is not everybody's, and neither is what is heard of it.
    let member = members::bring(&host, &ada, "mo@example.com", "Member").await;
    for (query, total) in [("type=audit.alert.triggered", 0), ("service=shop", 2)] {
        assert_eq!(member.get(&format!("{events}?{query}")).await.expect(200)["total"], total, "{query}");
    }
}
