//! Berth watched in Berth: the host's own lines, spans and figures arrive in logging and observability.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::{Client, Host, Manifest, eventually, manifest};
use serde_json::Value;

const ANY_ID: &str = "01900000-0000-7000-8000-00000000dead";

/// The services, and a guest that traps.
fn services() -> Manifest {
    Manifest::services().and(Manifest::of([manifest::unruly()]).text())
}

async fn items(client: &Client, path: &str) -> Vec<Value> {
    client.get(path).await.expect(200)["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn what_the_host_sees_arrives_in_the_operators_organization_and_nowhere_else() {
    let host = Host::with(services()).variable("BERTH_FEED_ORGANIZATION", "operator").start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get("/api/projects").await.done(200);
    host.client().get("/api/unruly/trap").await.done(502);
    let search = "/api/logs/search?service=unruly";
    let lines = eventually("the lines about the trap", async || {
        let lines = items(&ada, search).await;
        let says =
            |what: &str| lines.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains(what)));
        (says("a guest trapped") && says("the guest gives up")).then_some(lines)
    })
    .await;
    assert!(lines.iter().any(|line| line["context"]["source"] == "host"), "{lines:?}");
    assert!(lines.iter().any(|line| line["context"]["source"] == "guest"), "{lines:?}");

    // Of the request of somebody else's there is a tree, with the statements it caused.
    let trace = eventually("the spans", async || {
        let traces = items(&ada, "/api/observability/traces?name=GET%20/api/projects").await;
        let id = traces.first()?["traceId"].as_str()?.to_owned();
        let trace = ada.get(&format!("/api/observability/traces/{id}")).await.expect(200);
        (trace["spanCount"].as_u64()? >= 3).then_some(trace)
    })
    .await;
    assert_eq!((&trace["rootService"], &trace["isRootMissing"]), (&"planning".into(), &false.into()), "{trace}");
    let metric = "/api/observability/metrics?name=berth.plugin.traps&service=unruly&agg=last";
    eventually("the figures", async || {
        let answer = ada.get(metric).await;
        (answer.status == 200 && answer.json()["series"].as_array().is_some_and(|series| !series.is_empty()))
            .then_some(())
    })
    .await;

    assert!(items(&eve, search).await.is_empty(), "another organization sees nothing of it");
    assert!(items(&eve, "/api/observability/traces").await.is_empty());
}

#[tokio::test]
async fn the_feed_does_not_feed_on_itself() {
    let host = Host::with(services()).variable("BERTH_FEED_ORGANIZATION", "operator").start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    host.client().get("/api/unruly/trap").await.done(502);
    eventually("the feed", async || (!items(&ada, "/api/logs/search?service=unruly").await.is_empty()).then_some(()))
        .await;
    eventually("the figures", async || (!items(&ada, "/api/observability/metrics").await.is_empty()).then_some(()))
        .await;
    assert!(items(&ada, "/api/logs/search?service=logging").await.is_empty(), "lines of the keeper of lines");
    let traces = items(&ada, "/api/observability/traces?limit=200").await;
    let of_feed = traces.iter().filter(|trace| trace.to_string().contains("feed."));
    assert_eq!(of_feed.count(), 0, "{traces:?}");
    let delivered = traces.iter().filter(|trace| trace["rootName"] == "deliver observability");
    assert_eq!(delivered.count(), 0, "{traces:?}");
}

#[tokio::test]
async fn without_the_setting_nothing_is_fed_and_a_wrong_one_is_refused() {
    let host = Host::with(services()).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    host.client().get("/api/unruly/trap").await.done(502);
    // The line is there for the operator, and in no service.
    eventually("the line", async || {
        let lines = host.operator().get("/api/admin/plugins/unruly/logs").await.expect(200);
        lines["items"].as_array().is_some_and(|lines| !lines.is_empty()).then_some(())
    })
    .await;
    assert!(items(&ada, "/api/logs/search?service=unruly").await.is_empty());
    assert!(items(&ada, "/api/observability/traces").await.is_empty());
    for (organization, code) in [("Engine Works", 64), (ANY_ID, 1)] {
        let output = Host::with(Manifest::hello()).variable("BERTH_FEED_ORGANIZATION", organization).run_to_end();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{complaint}");
        assert!(complaint.contains("BERTH_FEED_ORGANIZATION"), "{complaint}");
    }
}
