//! The checks of observability: they ask by the clock, speak once of what has changed, and tell late from never.

use std::sync::Arc;

use berth_tests::answer::text;
use berth_tests::manifest::Manifest;
use berth_tests::model_provider::{Act, Asked, whole};
use berth_tests::wait::heard_of;
use berth_tests::{Host, ModelProvider, eventually, members};
use serde_json::{Value, json};
use tokio::sync::Notify;

const PATH: &str = "/api/observability";

#[tokio::test]
async fn checks_ask_by_the_clock_and_say_what_they_found() {
    let services = Manifest::services_and_herald("", "")
        .with("checks = \"30s\"", "checks = \"1s\"")
        .with("alerts = \"1m\"", "alerts = \"1s\"");
    let host = Host::with(services).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let checks = format!("{PATH}/checks");
    let good = text(&ada.post(&checks, &json!({"name": "logs", "service": "logging"})).await.expect(201), "id");
    let bad = json!({"name": "inside", "url": "http://127.0.0.1:1/", "timeoutMs": 500});
    let bad = text(&ada.post(&checks, &bad).await.expect(201), "id");
    let rule = json!({"name": "Down", "source": "health", "query": "inside", "operator": "lt", "threshold": 1});
    ada.post(&format!("{PATH}/alerts/rules"), &rule).await.done(201);
    let result = async |id: &str| {
        eventually("a result", async || {
            let results = ada.get(&format!("{checks}/{id}/results")).await.expect(200);
            (results["total"].as_i64() > Some(0)).then(|| results["items"][0].clone())
        })
        .await
    };
    assert_eq!(result(&good).await["status"], "ok");
    let refused = result(&bad).await;
    assert_eq!((&refused["status"], &refused["latencyMs"]), (&json!("failed"), &Value::Null), "{refused}");
    assert_eq!(ada.get(&format!("{checks}/{bad}")).await.expect(200)["lastStatus"], "failed");
    let now = ada.post(&format!("{checks}/{good}/run"), &json!({})).await.expect(200);
    assert_eq!(now["status"], "ok", "{now}");
    let health = ada.get(&format!("{PATH}/services/logging/health")).await.expect(200);
    assert_eq!(health["status"], "HEALTHY", "{health}");
    eventually("an alert about it", async || {
        let alerts = ada.get(&format!("{PATH}/alerts?status=firing")).await.expect(200);
        (alerts["total"] == 1 && alerts["items"][0]["labels"]["check"] == "inside").then_some(())
    })
    .await;
    // However often it is asked, the news is that it has changed.
    let news = heard_of(&ada, "observability.health.changed", 1, |_| true).await;
    assert_eq!((news.len(), &news[0]["checkId"], &news[0]["status"]), (1, &json!(bad), &json!("failed")), "{news:?}");
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&format!("{checks}/{good}/results")).await.problem(404, "NOT_FOUND");
    let member = members::bring(&host, &ada, "mo@example.com", "Member").await;
    member.delete(&format!("{checks}/{good}")).await.problem(403, "FORBIDDEN");
    // By the clock a plugin is asked as the organization: whether its answer has a word in it is not for everybody to find out.
    let probe = json!({"path": "/api/audit-logs/search", "bodyContains": "invoice"});
    let body = json!({"name": "probe", "service": "logging", "expected": probe});
    member.post(&checks, &body).await.problem(403, "FORBIDDEN");
    member.put(&format!("{checks}/{good}"), &json!({"expected": probe})).await.problem(403, "FORBIDDEN");
    ada.put(&format!("{checks}/{good}"), &json!({"expected": {"bodyContains": ""}})).await.done(200);
    ada.delete(&format!("{checks}/{good}")).await.done(204);
}

/// Who answers too late has timed out, and who answers later than they should has failed; how long it took is on record.
#[tokio::test]
async fn a_check_knows_late_from_never() {
    let begun = Arc::new(Notify::new());
    let told = Arc::clone(&begun);
    let answering = move |asked: &Asked| {
        told.notify_one();
        match asked.target.as_str() {
            "/never" => vec![Act::Hang],
            _ => [vec![Act::Gate], whole(200, "", "{}")].concat(),
        }
    };
    let server = ModelProvider::start(Arc::new(answering)).await;
    let granted =
        format!("may ask: add their names.\noutbound = [{:?}]\noutbound_private = [\"127.0.0.1\"]", server.address());
    // By the clock nobody asks meanwhile.
    let manifest = Manifest::services()
        .with("may ask: add their names.\noutbound = []", &granted)
        .with("checks = \"30s\"", "checks = \"1h\"");
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let checked = async |path: &str, timeout_ms: i64, max_latency_ms: i64| {
        let url = format!("http://{}{path}", server.address());
        let body =
            json!({"name": path, "url": url, "timeoutMs": timeout_ms, "expected": {"maxLatencyMs": max_latency_ms}});
        let id = text(&ada.post(&format!("{PATH}/checks"), &body).await.expect(201), "id");
        // So long after it was asked, whenever that is on a busy machine.
        let release = async {
            begun.notified().await;
            tokio::time::sleep(std::time::Duration::from_millis(400)).await;
            server.release(1);
        };
        let (run, nothing) = (format!("{PATH}/checks/{id}/run"), json!({}));
        let (result, ()) = tokio::join!(ada.post(&run, &nothing), release);
        let result = result.expect(200);
        assert_eq!(ada.get(&format!("{PATH}/checks/{id}")).await.expect(200)["lastStatus"], result["status"]);
        result
    };
    for (most, status) in [(30_000, "ok"), (100, "failed")] {
        let late = checked("/late", 30_000, most).await;
        let took = late["latencyMs"].as_i64().unwrap_or_default();
        assert!(late["status"] == status && (300..30_000).contains(&took), "{late}");
        let error = (status == "failed").then(|| format!("It took {took} ms."));
        assert_eq!(late["error"], json!(error));
    }
    let never = checked("/never", 300, 300).await;
    assert_eq!((&never["status"], &never["latencyMs"]), (&json!("timeout"), &Value::Null), "{never}");
    assert_eq!(never["error"], "No answer within 300 ms.");
    assert_eq!(ada.get(PATH).await.expect(200)["checks"], json!({"ok": 1, "failed": 2}));
}
