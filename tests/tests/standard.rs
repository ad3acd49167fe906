//! Components from outside, which know nothing of Berth, run as they are.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::{Host, Manifest, Slot, guests};
use reqwest::Method;
use serde_json::Value;

async fn host() -> Host {
    let slot = |name: &str| {
        let public = format!("public = [\"/{name}\", \"/{name}/{{*rest}}\"]\nisolation = \"plugin\"");
        Slot::new(name, guests::fixture(name), &format!("/{name}")).with(&public)
    };
    Host::with(Manifest::of([slot("standard"), slot("standard-next")])).start().await
}

async fn status_of(host: &Host, plugin: &str) -> Value {
    let plugins = host.operator().get("/api/admin/plugins").await.expect(200);
    let items = plugins["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().find(|item| item["name"] == plugin).expect("the plugin")
}

/// A component answers what it saw of the request, to every request, with instances that are used again.
async fn it_runs(plugin: &str, tells_method: bool) {
    let host = host().await;
    let client = host.client();
    for length in [0_usize, 1, 1_000, 5_000_000] {
        let path = format!("/{plugin}/some/path?with=query");
        let answer = client.send(client.request(Method::POST, &path).body(vec![b'x'; length])).await;
        answer.done(200);
        let wanted = if tells_method { format!("POST {path} {length}") } else { format!("0.3 {path} {length}") };
        assert_eq!(answer.text(), wanted);
    }
    for number in 0..40 {
        let path = format!("/{plugin}/{number}");
        let answer = client.get(&path).await;
        answer.done(200);
        assert!(answer.text().ends_with(&format!("{path} 0")), "{}", answer.text());
    }
    let status = status_of(&host, plugin).await;
    assert_eq!((&status["calls"], &status["traps"]), (&44.into(), &0.into()), "{status}");
    // One request at a time: more instances than were warmed before would mean that none is used again.
    assert!(status["warm"].as_u64().is_some_and(|warm| (1..=3).contains(&warm)), "{status}");
}

#[tokio::test]
async fn a_component_of_wasi_http_0_2_runs_unmodified() {
    it_runs("standard", true).await;
}

#[tokio::test]
async fn a_component_of_wasi_http_0_3_runs_unmodified() {
    it_runs("standard-next", false).await;
}

#[tokio::test]
async fn what_a_component_from_outside_does_not_make_public_needs_a_token() {
    let manifest = Manifest::of([Slot::new("standard", guests::fixture("standard"), "/standard")]);
    let host = Host::with(manifest).start().await;
    let _ = host.client().get("/standard/a").await.problem(401, "UNAUTHORIZED");
    let member = host.client().register("ada@example.com", "Harbour").await;
    assert_eq!(member.get("/standard/a").await.text(), "GET /standard/a 0");
}
