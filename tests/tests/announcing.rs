//! What planning, notification-manager, prompt-management, secret-management and usage-tracking tell the others: each event of
//! theirs that the specification names and no other promise hears reaches whoever binds it.

use berth_tests::answer::text;
use berth_tests::secrets::{made, value};
use berth_tests::wait::heard_of;
use berth_tests::{Client, Host, Manifest, members, plans};
use serde_json::{Value, json};

/// The services, the herald among them, and the owner of an organization.
async fn harbour() -> (Host, Client) {
    let services = Manifest::services_and_herald("", "").with("reencrypt = \"1m\"", "reencrypt = \"1s\"");
    let host = Host::with(services).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

/// Waits until events of these types were heard that name `mark`; what they tell, of each type the first one.
async fn told(client: &Client, mark: &str, kinds: &[&str]) -> Vec<Value> {
    let mut told = Vec::new();
    for kind in kinds {
        told.push(heard_of(client, kind, 1, |data| data.to_string().contains(mark)).await.remove(0));
    }
    told
}

#[tokio::test]
async fn a_secret_tells_what_becomes_of_it_and_never_what_it_is() {
    const PLAIN: &str = "never-told-4711";
    let (host, ada) = harbour().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let id = made(&ada, json!({"name": "stripe", "type": "GENERIC", "value": PLAIN})).await;
    let path = format!("/api/secrets/{id}");
    ada.put(&path, &json!({"description": "for payments"})).await.done(200);
    ada.put(&format!("{path}/value"), &json!({"value": format!("{PLAIN}-2")})).await.done(200);
    value(&ada, &id).await.done(200);
    let grant = json!({"granteeType": "USER", "granteeId": members::id(&bob), "canRead": true});
    let grant = text(&ada.post(&format!("{path}/access"), &grant).await.expect(201), "id");
    ada.delete(&format!("{path}/access/{grant}")).await.done(204);
    ada.delete(&path).await.done(204);
    ada.post(&format!("{path}/restore"), &json!({})).await.done(200);
    let kinds = [
        "secret.created",
        "secret.updated",
        "secret.rotated",
        "secret.accessed",
        "secret.access.granted",
        "secret.access.revoked",
        "secret.deleted",
        "secret.restored",
    ];
    for data in told(&ada, &id, &kinds).await {
        assert_eq!((&data["secretId"], &data["name"]), (&json!(id), &json!("stripe")), "{data}");
    }
    let keys = ada.get("/api/secrets/keys").await.expect(200);
    let key = text(&keys["items"].get(0).cloned().expect("a key"), "keyId");
    ada.post("/api/secrets/keys/rotate", &json!({})).await.done(202);
    told(&ada, &key, &["secret.key.rotated"]).await;
    let everything = ada.get("/api/herald/events?limit=200").await.expect(200);
    assert!(!everything.to_string().contains(PLAIN), "an event tells a value");
}

#[tokio::test]
async fn a_prompt_tells_of_its_versions_overrides_experiments_and_uses() {
    let (_host, ada) = harbour().await;
    let id = text(&ada.post("/api/prompts", &json!({"name": "greet", "content": "Hi"})).await.expect(201), "id");
    ada.post("/api/prompts/greet/versions/1/publish", &json!({})).await.done(200);
    ada.post("/api/prompts/render", &json!({"name": "greet"})).await.done(200);
    let over = ada.post("/api/prompts/overrides", &json!({"promptId": id, "content": "Ahoy"})).await.expect(201);
    let experiment = json!({"promptId": id, "name": "Politeness", "variants": [
        {"name": "plain", "isControl": true, "customContent": "Hi"}, {"name": "polite", "customContent": "Good day"}]});
    let experiment = text(&ada.post("/api/prompts/experiments", &experiment).await.expect(201), "id");
    for step in ["start", "stop"] {
        ada.post(&format!("/api/prompts/experiments/{experiment}/{step}"), &json!({})).await.done(200);
    }
    told(&ada, &id, &["prompt.template.created", "prompt.version.published", "prompt.rendered"]).await;
    told(&ada, &text(&over, "id"), &["prompt.override.created"]).await;
    let kinds = ["prompt.experiment.started", "prompt.experiment.completed"];
    let statuses: Vec<Value> =
        told(&ada, &experiment, &kinds).await.into_iter().map(|data| data["status"].clone()).collect();
    assert_eq!(statuses, [json!("RUNNING"), json!("COMPLETED")]);
}

#[tokio::test]
async fn usage_tells_of_each_threshold_that_is_crossed() {
    let (_host, ada) = harbour().await;
    let price = json!({"categoryCode": "ai.completion", "pricingModel": "FLAT", "unitPriceMicro": 1_000,
        "effectiveFrom": "2026-01-01T00:00:00Z"});
    ada.post("/api/usage/pricing", &price).await.done(201);
    let quota = json!({"name": "Tokens", "categoryCode": "ai.*", "metricKey": "totalTokens", "period": "YEARLY",
        "limitValue": 10});
    let quota = text(&ada.post("/api/usage/quotas", &quota).await.expect(201), "id");
    let budget = json!({"name": "Words", "period": "YEARLY", "amountMicro": 1_200});
    let budget = text(&ada.post("/api/usage/budgets", &budget).await.expect(201), "id");
    // Nine of ten tokens and five sixths of the money; then more than there is of either.
    for (id, tokens) in [("e1", 9), ("e2", 2)] {
        let event = json!({"eventId": id, "categoryCode": "ai.completion", "metrics": {"totalTokens": tokens}});
        ada.post("/api/usage/events", &event).await.done(202);
    }
    for (what, id) in [("quota", &quota), ("budget", &budget)] {
        let [warning, exceeded] = ["warning", "exceeded"].map(|threshold| format!("usage.{what}.{threshold}"));
        let all = told(&ada, id, &[warning.as_str(), exceeded.as_str()]).await;
        let thresholds: Vec<i64> = all.iter().filter_map(|data| data["threshold"].as_i64()).collect();
        assert_eq!(thresholds, [80, 100], "{all:?}");
        told(&ada, id, &["usage.event.recorded"]).await;
    }
}

#[tokio::test]
async fn plans_projects_tasks_and_releases_tell_what_becomes_of_them() {
    let (_host, ada) = harbour().await;
    let plan = plans::ready_plan(&ada, &plans::many_steps(1)).await;
    let started = ada.post(&format!("/api/plans/{plan}/execute"), &json!({})).await.expect(202);
    plans::reaches(&ada, &text(&started, "executionId"), &["completed"]).await;
    told(&ada, &plan, &["planning.plan.created", "planning.plan.validated", "planning.plan.approved"]).await;
    let executed = told(&ada, &plan, &["planning.plan.executed"]).await;
    assert_eq!(executed[0]["status"], "success");
    let project = plans::project(&ada, "Quay").await;
    let draft = text(&plans::plan(&ada, &project, &plans::many_steps(1)).await, "id");
    ada.delete(&format!("/api/plans/{draft}")).await.done(204);
    told(&ada, &draft, &["planning.plan.deleted"]).await;

    let task = json!({"projectId": project, "title": "Paint", "assignedTo": members::id(&ada)});
    let task = text(&ada.post("/api/tasks", &task).await.expect(201), "id");
    for status in ["in_progress", "in_review", "completed"] {
        ada.put(&format!("/api/tasks/{task}/status"), &json!({ "status": status })).await.done(200);
    }
    told(&ada, &task, &["task.created", "task.assigned", "task.status_changed", "task.completed"]).await;

    let release = json!({"projectId": project, "name": "R", "version": "1.0.0"});
    let release = text(&ada.post("/api/releases", &release).await.expect(201), "id");
    ada.post(&format!("/api/releases/{release}/deploy"), &json!({"environment": "dev"})).await.done(200);
    ada.post(&format!("/api/releases/{release}/rollback"), &json!({})).await.done(200);
    told(&ada, &release, &["release.created", "release.deployed", "release.rolled_back"]).await;

    ada.put(&format!("/api/projects/{project}"), &json!({"description": "By the water"})).await.done(200);
    ada.delete(&format!("/api/projects/{project}")).await.done(204);
    told(&ada, &project, &["project.created", "project.updated", "project.deleted"]).await;
}

#[tokio::test]
async fn a_notification_tells_that_it_came_and_was_read() {
    let (_host, ada) = harbour().await;
    let body = json!({"eventType": "release.announced", "recipientIds": [members::id(&ada)], "title": "Fog", "body": "Stay in."});
    let sent = ada.post("/api/notifications", &body).await.expect(202);
    let id = text(&json!({"id": sent["notificationIds"][0]}), "id");
    told(&ada, &id, &["notification.created", "notification.delivered"]).await;
    ada.put(&format!("/api/notifications/{id}/read"), &json!({})).await.done(200);
    for data in told(&ada, &id, &["notification.created", "notification.delivered", "notification.read"]).await {
        assert_eq!((&data["notificationId"], &data["title"]), (&json!(id), &json!("Fog")), "{data}");
    }
}
