//! usage-tracking: metered, priced, limited to the unit, and summed up as one would by hand.
#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use berth_tests::answer::text;
use berth_tests::members::host_with_ada;
use berth_tests::{Client, eventually, members, plans};
use serde_json::{Value, json};

fn completion(id: &str, tokens: u64) -> Value {
    json!({"eventId": id, "categoryCode": "ai.completion", "metrics": {"totalTokens": tokens, "count": 1}})
}

async fn price(client: &Client, body: Value) -> String {
    let mut whole = json!({"categoryCode": "ai.completion", "effectiveFrom": "2026-01-01T00:00:00Z"});
    for (name, value) in body.as_object().into_iter().flatten() {
        whole[name] = value.clone();
    }
    text(&client.post("/api/usage/pricing", &whole).await.expect(201), "id")
}

async fn cost_of(client: &Client, event_id: &str) -> i64 {
    let found = client.get(&format!("/api/usage/events?eventId={event_id}")).await.expect(200);
    found["items"][0]["costMicro"].as_i64().unwrap_or_else(|| panic!("no event {event_id}: {found}"))
}

#[tokio::test]
async fn usage_is_stored_once_priced_and_summed_up() {
    let (host, ada) = host_with_ada().await;
    // 3 dollars a million tokens are 300 cents, 300 000 000 micro-cents.
    price(&ada, json!({"pricingModel": "PER_MILLION", "unitPriceMicro": 300_000_000})).await;
    price(
        &ada,
        json!({"pricingModel": "PER_MILLION", "unitPriceMicro": 900_000_000, "dimensionKey": "model", "dimensionValue": "large"}),
    )
    .await;
    let done = ada.post("/api/usage/events", &completion("e1", 1_234)).await.expect(202);
    assert_eq!(done, json!({"accepted": 1, "duplicates": 0, "rejected": []}));
    let again = ada
        .post("/api/usage/events", &json!([completion("e1", 1_234), completion("e2", 10), completion("e2", 10)]))
        .await;
    assert_eq!(again.expect(202), json!({"accepted": 1, "duplicates": 2, "rejected": []}));
    let mut large = completion("e3", 1_000);
    large["dimensions"] = json!({"model": "large"});
    ada.post("/api/usage/events", &large).await.done(202);
    assert_eq!(
        (cost_of(&ada, "e1").await, cost_of(&ada, "e2").await, cost_of(&ada, "e3").await),
        (370_200, 3_000, 900_000)
    );
    let summary = ada.get("/api/usage/summary?period=month").await.expect(200);
    let line = &summary["categories"][0];
    assert_eq!((&line["eventCount"], &line["totalCostMicro"]), (&json!(3), &json!(1_273_200)), "{summary}");
    assert_eq!(line["metrics"]["totalTokens"], 2_244.0);
    let billing = ada.get("/api/usage/billing").await.expect(200);
    assert_eq!((&billing["totalCostMicro"], &billing["totalCents"]), (&json!(1_273_200), &json!(1)), "{billing}");
    let question = json!({"from": "2026-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z", "categories": ["ai.*"],
        "dimensionKey": "model", "groupBy": ["dimension"]});
    let answer = ada.post("/api/usage/query", &question).await.expect(200);
    assert_eq!(answer["items"][0]["dimensionValue"], "large", "{answer}");
    assert_eq!(answer["items"][0]["totalCostMicro"], 900_000);
    assert_eq!(ada.get("/api/usage/realtime").await.expect(200)["counters"]["hour"]["eventCount"], 3);
    let csv = ada.post("/api/usage/export", &json!({"format": "csv"})).await;
    assert_eq!(csv.text().lines().count(), 4, "{}", csv.text());
    // Somebody else's organization sees none of it, and may report the same ids.
    let eve = host.client().register("eve@example.com", "Reef").await;
    assert_eq!(eve.get("/api/usage/events").await.expect(200)["total"], 0);
    let id = ada.get("/api/usage/events").await.expect(200)["items"][0]["id"].as_str().unwrap_or_default().to_owned();
    eve.get(&format!("/api/usage/events/{id}")).await.problem(404, "NOT_FOUND");
    assert_eq!(eve.post("/api/usage/events", &completion("e1", 5)).await.expect(202)["accepted"], 1);
    // The form of CloudEvents, as other meters take it.
    let cloud = json!({"specversion": "1.0", "id": "c1", "source": "my-app", "type": "ai.completion",
        "data": {"totalTokens": 1_000, "model": "large"}});
    let request = ada.request(reqwest::Method::POST, "/api/usage/events");
    let request = request.header("content-type", "application/cloudevents+json").body(cloud.to_string());
    assert_eq!(ada.send(request).await.expect(202)["accepted"], 1);
    assert_eq!(cost_of(&ada, "c1").await, 900_000);
}

#[tokio::test]
async fn what_is_no_usage_is_refused_or_set_aside() {
    let (_host, ada) = host_with_ada().await;
    let wrong = ada
        .post(
            "/api/usage/events",
            &json!([completion("a", 1), {"categoryCode": "ai.completion", "metrics": {"n": -1}}]),
        )
        .await;
    wrong.problem(400, "VALIDATION_ERROR");
    assert_eq!(wrong.faulty_fields(), ["events[1].metrics.n"]);
    assert_eq!(ada.get("/api/usage/events").await.expect(200)["total"], 0, "all or nothing");
    let mut old = completion("old", 1);
    old["occurredAt"] = json!("2020-01-01T00:00:00Z");
    ada.post("/api/usage/events", &old).await.problem(422, "UNPROCESSABLE");
    let unknown = json!({"eventId": "u", "categoryCode": "no.such", "metrics": {"n": 1}});
    let set_aside = ada.post("/api/usage/events", &json!([unknown, completion("b", 1), old])).await.expect(202);
    assert_eq!(
        (&set_aside["accepted"], &set_aside["rejected"][0]["storedAs"]),
        (&json!(1), &json!("uncategorized")),
        "{set_aside}"
    );
    assert_eq!(set_aside["rejected"][1]["code"], "OUT_OF_TIME");
    assert_eq!(ada.get("/api/usage/events?categoryCode=uncategorized").await.expect(200)["total"], 1);
    // Who says so themselves is not corrected.
    let plain = json!({"eventId": "plain", "categoryCode": "uncategorized", "metrics": {"n": 1}});
    let taken = ada.post("/api/usage/events", &plain).await.expect(202);
    assert_eq!(taken, json!({"accepted": 1, "duplicates": 0, "rejected": []}));
    // A late event lands in its own period.
    let three_days_ago = chrono_days_ago(3);
    let mut late = completion("late", 7);
    late["occurredAt"] = json!(three_days_ago);
    ada.post("/api/usage/events", &late).await.done(202);
    let question = json!({"from": "2026-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z", "granularity": "DAILY"});
    let answer = ada.post("/api/usage/query", &question).await.expect(200);
    assert_eq!(answer["items"].as_array().map(Vec::len), Some(2), "{answer}");
    assert!(three_days_ago.starts_with(&text(&answer["items"][0], "periodStart")[..10]), "{answer}");
    // Categories: those of the system stay, one with a price is kept.
    ada.delete("/api/usage/categories/ai.completion").await.problem(403, "FORBIDDEN");
    ada.post("/api/usage/categories", &json!({"code": "crane.lift", "name": "Lifts", "primaryMetric": "count"}))
        .await
        .done(201);
    let lift =
        price(&ada, json!({"categoryCode": "crane.lift", "pricingModel": "PER_UNIT", "unitPriceMicro": 5})).await;
    ada.delete("/api/usage/categories/crane.lift").await.problem(409, "CONFLICT");
    ada.delete(&format!("/api/usage/pricing/{lift}")).await.done(204);
    ada.delete("/api/usage/categories/crane.lift").await.done(204);
    ada.get("/api/usage/categories/crane.lift").await.problem(404, "NOT_FOUND");
}

/// A moment some days ago, as a program would write it.
fn chrono_days_ago(days: u64) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("{days} days ago"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output();
    String::from_utf8_lossy(&output.expect("date").stdout).trim().to_owned()
}

#[tokio::test]
async fn tiers_are_priced_as_worked_out_by_hand() {
    let (_host, ada) = host_with_ada().await;
    ada.post("/api/usage/categories", &json!({"code": "crane.lift", "name": "Lifts", "primaryMetric": "count"}))
        .await
        .done(201);
    let tiers =
        json!([{"upTo": 1_000, "unitPriceMicro": 10}, {"upTo": 5_000, "unitPriceMicro": 8}, {"unitPriceMicro": 5}]);
    price(&ada, json!({"categoryCode": "crane.lift", "pricingModel": "TIERED", "tiers": tiers})).await;
    let lift = |id: &str, count: u64| json!({"eventId": id, "categoryCode": "crane.lift", "metrics": {"count": count}});
    // 800 × 10; then 200 × 10 + 200 × 8; then 3 800 × 8 + 1 000 × 5, in one report.
    ada.post("/api/usage/events", &lift("a", 800)).await.done(202);
    ada.post("/api/usage/events", &lift("b", 400)).await.done(202);
    ada.post("/api/usage/events", &json!([lift("c", 3_800), lift("d", 1_000)])).await.done(202);
    let costs =
        [cost_of(&ada, "a").await, cost_of(&ada, "b").await, cost_of(&ada, "c").await, cost_of(&ada, "d").await];
    assert_eq!(costs, [8_000, 3_600, 30_400, 5_000]);
    let total = ada.get("/api/usage/billing").await.expect(200)["totalCostMicro"].clone();
    assert_eq!(total, 47_000, "as 6 000 at once: 1 000 × 10 + 4 000 × 8 + 1 000 × 5");
    // Beside a price of its own for one dimension, the order in which things happen changes nothing: 100 × 10 + 100 × 5.
    let two = json!([{"upTo": 1_000, "unitPriceMicro": 10}, {"unitPriceMicro": 5}]);
    for (code, events) in [
        ("crane.first", json!([["x", 900, "large"], ["y", 200, "small"]])),
        ("crane.last", json!([["x", 1, "small"], ["y", 900, "large"], ["z", 199, "small"]])),
    ] {
        let category = json!({"code": code, "name": code, "primaryMetric": "count"});
        ada.post("/api/usage/categories", &category).await.done(201);
        let tiered = price(&ada, json!({"categoryCode": code, "pricingModel": "TIERED", "tiers": two})).await;
        let own = json!({"categoryCode": code, "pricingModel": "PER_UNIT", "unitPriceMicro": 1, "dimensionKey": "size",
            "dimensionValue": "large"});
        price(&ada, own).await;
        let mut spent = 0;
        for event in events.as_array().into_iter().flatten() {
            let id = format!("{code}-{}", text(&json!({"id": event[0]}), "id"));
            let body = json!({"eventId": id, "categoryCode": code, "metrics": {"count": event[1]}, "dimensions": {"size": event[2]}});
            ada.post("/api/usage/events", &body).await.done(202);
            spent += if event[2] == "small" { cost_of(&ada, &id).await } else { 0 };
        }
        assert_eq!(spent, 1_500, "{code}");
        // A price that is changed has another volume, of which there was nothing yet.
        let tiny = json!({"dimensionKey": "size", "dimensionValue": "tiny"});
        ada.put(&format!("/api/usage/pricing/{tiered}"), &tiny).await.done(200);
        let id = format!("{code}-tiny");
        let body =
            json!({"eventId": id, "categoryCode": code, "metrics": {"count": 10}, "dimensions": {"size": "tiny"}});
        ada.post("/api/usage/events", &body).await.done(202);
        assert_eq!(cost_of(&ada, &id).await, 100, "{code}");
    }
    ada.post(
        "/api/usage/pricing",
        &json!({"categoryCode": "crane.lift", "pricingModel": "TIERED", "effectiveFrom": "2026-01-01T00:00:00Z",
        "tiers": [{"upTo": 10, "unitPriceMicro": 1}, {"upTo": 5, "unitPriceMicro": 1}]}),
    )
    .await
    .problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn thirty_two_writers_never_go_over_a_hard_limit() {
    let (_host, ada) = host_with_ada().await;
    let quota = json!({"name": "Lifts a day", "categoryCode": "ai.*", "metricKey": "count", "period": "DAILY", "limitValue": 100,
        "action": "HARD_LIMIT"});
    let quota = text(&ada.post("/api/usage/quotas", &quota).await.expect(201), "id");
    let ada = Arc::new(ada);
    let writers = (0..32).map(|writer| {
        let ada = Arc::clone(&ada);
        tokio::spawn(async move {
            let mut taken = 0;
            for number in 0..8 {
                let mut event = completion(&format!("w{writer}-{number}"), 1);
                event["enforce"] = true.into();
                let answer = ada.post("/api/usage/events", &event).await;
                match answer.status {
                    202 => taken += 1,
                    429 => {
                        answer.problem(429, "QUOTA_EXCEEDED");
                        assert!(!answer.header("retry-after").is_empty());
                    }
                    _ => panic!("{}", answer.text()),
                }
            }
            taken
        })
    });
    let mut taken = 0;
    for writer in writers.collect::<Vec<_>>() {
        taken += writer.await.expect("a writer");
    }
    assert_eq!(taken, 100, "not one over the limit, and not one less");
    assert_eq!(ada.get("/api/usage/events").await.expect(200)["total"], 100);
    let check = json!({"categoryCode": "ai.completion", "estimatedMetrics": {"count": 1}});
    let verdict = ada.post("/api/usage/quotas/check", &check).await.expect(200);
    assert_eq!((&verdict["allowed"], &verdict["quotas"][0]["current"]), (&json!(false), &json!(100.0)), "{verdict}");
    assert!(verdict["retryAfter"].as_i64().is_some_and(|seconds| seconds > 0));
    // One alert for each threshold, and each only once.
    let alerts = ada.get(&format!("/api/usage/alerts?quotaId={quota}")).await.expect(200);
    assert_eq!(alerts["total"], 3, "{alerts}");
    let id = text(&alerts["items"][0], "id");
    assert_eq!(
        ada.post(&format!("/api/usage/alerts/{id}/acknowledge"), &json!({})).await.expect(200)["status"],
        "ACKNOWLEDGED"
    );
    ada.post(&format!("/api/usage/alerts/{id}/resolve"), &json!({})).await.done(200);
    ada.post(&format!("/api/usage/alerts/{id}/acknowledge"), &json!({})).await.problem(409, "CONFLICT");
    // Without `enforce` what has happened is recorded, whatever the limit.
    ada.post("/api/usage/events", &completion("over", 1)).await.done(202);
    // More room is room at once.
    ada.put(&format!("/api/usage/quotas/{quota}"), &json!({"limitValue": 102})).await.done(200);
    let mut last = completion("last", 1);
    last["enforce"] = true.into();
    ada.post("/api/usage/events", &last).await.done(202);
    last["eventId"] = "one-too-many".into();
    ada.post("/api/usage/events", &last).await.problem(429, "QUOTA_EXCEEDED");
}

#[tokio::test]
async fn budgets_tell_what_is_spent_and_where_it_leads() {
    let (_host, ada) = host_with_ada().await;
    price(&ada, json!({"pricingModel": "FLAT", "unitPriceMicro": 1_000})).await;
    ada.post("/api/usage/events", &completion("before", 1)).await.done(202);
    let budget = json!({"name": "Words", "period": "MONTHLY", "amountMicro": 10_000, "categoryCode": "ai.*"});
    let budget = text(&ada.post("/api/usage/budgets", &budget).await.expect(201), "id");
    let path = format!("/api/usage/budgets/{budget}");
    assert_eq!(
        ada.get(&format!("{path}/status")).await.expect(200)["spentMicro"],
        1_000,
        "what was there before counts"
    );
    let more: Vec<Value> = (0..8).map(|number| completion(&format!("e{number}"), 1)).collect();
    ada.post("/api/usage/events", &json!(more)).await.done(202);
    let status = ada.get(&format!("{path}/status")).await.expect(200);
    assert_eq!((&status["spentMicro"], &status["percentage"]), (&json!(9_000), &json!(90.0)), "{status}");
    assert!(status["projectedMicro"].as_i64().is_some_and(|projected| projected >= 9_000), "{status}");
    assert_eq!(ada.get(&path).await.expect(200)["currentUsageMicro"], 9_000);
    assert_eq!(
        ada.get(&format!("/api/usage/alerts?budgetId={budget}")).await.expect(200)["items"][0]["alertType"],
        "BUDGET_WARNING"
    );
    ada.post("/api/usage/events", &completion("last", 1)).await.done(202);
    let alerts = ada.get(&format!("/api/usage/alerts?budgetId={budget}")).await.expect(200);
    assert_eq!(alerts["total"], 2, "{alerts}");
    let wrong = json!({"name": "w", "period": "MONTHLY", "amountMicro": 0});
    ada.post("/api/usage/budgets", &wrong).await.problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn sums_are_what_a_recomputation_gives() {
    let (_host, ada) = host_with_ada().await;
    price(&ada, json!({"pricingModel": "PER_THOUSAND", "unitPriceMicro": 777})).await;
    let (mut tokens, mut cost, mut by_model) = (0_u64, 0_u64, [0_u64; 3]);
    let tasks = (0..8_u64).map(|task| {
        let ada = ada.clone();
        tokio::spawn(async move {
            let events: Vec<Value> = (0..250_u64)
                .map(|number| {
                    let mut event = completion(&format!("t{task}-{number}"), number * 7 + task);
                    event["dimensions"] = json!({"model": format!("m{}", number % 3)});
                    event["projectId"] = format!("p{}", task % 2).into();
                    event
                })
                .collect();
            assert_eq!(ada.post("/api/usage/events", &json!(events)).await.expect(202)["accepted"], 250);
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("a task");
    }
    for task in 0..8_u64 {
        for number in 0..250_u64 {
            let quantity = number * 7 + task;
            tokens += quantity;
            cost += quantity * 777 / 1_000;
            by_model[usize::try_from(number % 3).unwrap_or(0)] += quantity;
        }
    }
    let question = |more: Value| {
        let mut whole = json!({"from": "2026-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z"});
        for (name, value) in more.as_object().into_iter().flatten() {
            whole[name] = value.clone();
        }
        whole
    };
    let answer = ada.post("/api/usage/query", &question(json!({"groupBy": ["project"]}))).await.expect(200);
    assert_eq!(answer["total"]["metrics"]["totalTokens"].as_f64(), Some(tokens as f64), "{answer}");
    assert_eq!(answer["total"]["totalCostMicro"].as_u64(), Some(cost));
    assert_eq!(answer["items"].as_array().map(Vec::len), Some(2));
    let models = ada
        .post("/api/usage/query", &question(json!({"dimensionKey": "model", "groupBy": ["dimension"]})))
        .await
        .expect(200);
    for (index, expected) in by_model.iter().enumerate() {
        assert_eq!(models["items"][index]["metrics"]["totalTokens"].as_f64(), Some(*expected as f64), "{models}");
    }
    // The single events, added up page by page, say the same.
    let (mut read, mut total) = (0, 0);
    while read < 2_000 {
        let page = ada.get(&format!("/api/usage/events?limit=200&offset={read}")).await.expect(200);
        for event in page["items"].as_array().into_iter().flatten() {
            total += event["costMicro"].as_u64().unwrap_or_default();
            read += 1;
        }
    }
    assert_eq!(total, cost);
}

#[tokio::test]
async fn members_see_their_own_usage_and_make_no_rules() {
    let (host, ada) = host_with_ada().await;
    let organization = text(&ada.account["organization"], "id");
    let roles = ada.get(&format!("/api/organizations/{organization}/roles")).await.expect(200);
    let member = roles["items"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|role| role["name"] == "Member")
        .map(|role| text(role, "id"));
    let own = host.client().register("bob@example.com", "Pier").await;
    let body = json!({"email": "bob@example.com", "roleId": member});
    let invited = ada.post(&format!("/api/organizations/{organization}/invitations"), &body).await.expect(201);
    own.post(&format!("/api/invitations/{}/accept", text(&invited, "token")), &json!({})).await.done(200);
    let switched =
        own.post("/api/auth/switch-organization", &json!({"organizationId": organization})).await.expect(200);
    let bob = own.with_token(&text(&switched, "token"));
    ada.post("/api/usage/events", &completion("ada", 10)).await.done(202);
    bob.post("/api/usage/events", &completion("bob", 3)).await.done(202);
    assert_eq!(bob.get("/api/usage/events").await.expect(200)["total"], 1);
    assert_eq!(bob.get("/api/usage/summary").await.expect(200)["total"]["metrics"]["totalTokens"], 3.0);
    assert_eq!(ada.get("/api/usage/summary").await.expect(200)["total"]["metrics"]["totalTokens"], 13.0);
    let ada_id = text(&ada.account["user"], "id");
    let mut forged = completion("forged", 1);
    forged["userId"] = ada_id.as_str().into();
    bob.post("/api/usage/events", &forged).await.problem(403, "FORBIDDEN");
    let credit = json!({"eventId": "c", "categoryCode": "adjustment", "metrics": {"amountMicro": -500}});
    bob.post("/api/usage/events", &credit).await.problem(403, "FORBIDDEN");
    ada.post("/api/usage/events", &credit).await.done(202);
    assert_eq!(cost_of(&ada, "c").await, -500);
    let quota = json!({"name": "q", "categoryCode": "*", "metricKey": "count", "period": "DAILY", "limitValue": 1});
    bob.post("/api/usage/quotas", &quota).await.problem(403, "FORBIDDEN");
    bob.get("/api/usage/billing").await.problem(403, "FORBIDDEN");
    let asked = json!({"from": "2026-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z", "userId": ada_id});
    bob.post("/api/usage/query", &asked).await.problem(403, "FORBIDDEN");
    // What the organization spends is not everybody's to know; a budget for each user is.
    let budget = |scope: &str| json!({"name": scope, "scope": scope, "period": "MONTHLY", "amountMicro": 10_000});
    let whole = text(&ada.post("/api/usage/budgets", &budget("ORGANIZATION")).await.expect(201), "id");
    let each = text(&ada.post("/api/usage/budgets", &budget("USER")).await.expect(201), "id");
    assert_eq!(ada.get("/api/usage/budgets").await.expect(200)["total"], 2);
    let seen = bob.get("/api/usage/budgets").await.expect(200);
    assert_eq!((&seen["total"], &seen["items"][0]["id"]), (&json!(1), &json!(each)), "{seen}");
    bob.get(&format!("/api/usage/budgets/{whole}")).await.problem(404, "NOT_FOUND");
    bob.get(&format!("/api/usage/budgets/{whole}/status")).await.problem(404, "NOT_FOUND");
    bob.get(&format!("/api/usage/budgets/{each}/status")).await.done(200);
    for (client, count) in [(&ada, 2), (&bob, 1)] {
        let check = json!({"categoryCode": "ai.completion"});
        let verdict = client.post("/api/usage/quotas/check", &check).await.expect(200);
        assert_eq!(verdict["budgets"].as_array().map(Vec::len), Some(count), "{verdict}");
    }
    // The platform's administrators read any organization's, and nobody else reads another one's.
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.post("/api/usage/events", &completion("eve", 77)).await.done(202);
    let reef = text(&eve.account["organization"], "id");
    for (path, tokens) in [("summary", "total"), ("billing", "items")] {
        let path = format!("/api/usage/{path}?organizationId={reef}");
        let answer = ada.get(&path).await.expect(200);
        let sum = if tokens == "items" { &answer["items"][0] } else { &answer["total"] };
        assert_eq!(sum["metrics"]["totalTokens"], 77.0, "{answer}");
        bob.get(&path).await.problem(
            if tokens == "items" { 403 } else { 404 },
            if tokens == "items" { "FORBIDDEN" } else { "NOT_FOUND" },
        );
    }
    let foreign = json!({"from": "2026-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z", "organizationId": reef});
    assert_eq!(ada.post("/api/usage/query", &foreign).await.expect(200)["total"]["metrics"]["totalTokens"], 77.0);
    let harbour = json!({"from": "2026-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z", "organizationId": organization});
    eve.post("/api/usage/query", &harbour).await.problem(404, "NOT_FOUND");
    // Each user has a limit of their own.
    let each = json!({"name": "each", "scope": "USER", "categoryCode": "ai.*", "metricKey": "count", "period": "DAILY", "limitValue": 2,
        "action": "HARD_LIMIT"});
    ada.post("/api/usage/quotas", &each).await.done(201);
    for (client, name) in [(&ada, "a"), (&bob, "b")] {
        let event = |number: u64| {
            let mut event = completion(&format!("{name}{number}"), 1);
            event["enforce"] = true.into();
            event
        };
        client.post("/api/usage/events", &event(1)).await.done(202);
        client.post("/api/usage/events", &event(2)).await.problem(429, "QUOTA_EXCEEDED");
    }
}

#[tokio::test]
async fn metrics_are_kept_and_put_together() {
    let (host, ada) = host_with_ada().await;
    let points: Vec<Value> = (1..=100)
        .map(|number| {
            json!({"name": "latency", "type": "histogram", "value": number, "unit": "ms", "recordedAt": "2026-11-01T00:00:30Z",
                "labels": {"env": if number % 2 == 0 { "prod" } else { "test" }}})
        })
        .collect();
    assert_eq!(ada.post("/api/metrics", &json!({"points": points})).await.expect(202)["recorded"], 100);
    ada.post(
        "/api/metrics",
        &json!({"name": "latency", "type": "histogram", "value": 7, "recordedAt": "2026-11-01T00:01:30Z"}),
    )
    .await
    .done(202);
    let read = async |more: &str| {
        let path = format!("/api/metrics?name=latency&from=2026-11-01T00:00:00Z&to=2026-11-02T00:00:00Z{more}");
        ada.get(&path).await.expect(200)["items"].clone()
    };
    let first =
        async |aggregation: &str| read(&format!("&aggregation={aggregation}&step=1m")).await[0]["value"].clone();
    assert_eq!(first("sum").await, 5_050.0);
    assert_eq!(first("avg").await, 50.5);
    assert_eq!((first("min").await, first("max").await), (json!(1.0), json!(100.0)));
    assert_eq!(first("count").await, 100.0);
    assert_eq!(first("p95").await, 95.0);
    let steps = read("&aggregation=count&step=1m").await;
    assert_eq!((&steps[1]["value"], &steps[1]["start"]), (&json!(1.0), &json!("2026-11-01T00:01:00.000Z")), "{steps}");
    assert_eq!(read("&aggregation=count&labels=env:prod").await[0]["value"], 50.0);
    assert_eq!(read("&aggregation=max&labels=env:pro").await, json!([]));
    let names = ada.get("/api/metrics/names").await.expect(200);
    assert_eq!((&names["items"][0]["name"], &names["items"][0]["points"]), (&json!("latency"), &json!(101)), "{names}");
    let eve = host.client().register("eve@example.com", "Reef").await;
    assert_eq!(eve.get("/api/metrics/names").await.expect(200)["total"], 0);
    let one = text(&read("").await[0], "id");
    eve.get(&format!("/api/metrics/{one}")).await.problem(404, "NOT_FOUND");
    ada.get("/api/metrics?name=latency&aggregation=median").await.problem(400, "VALIDATION_ERROR");
    ada.get("/api/metrics?name=latency&aggregation=sum&step=1s&from=2020-01-01T00:00:00Z")
        .await
        .problem(400, "VALIDATION_ERROR");
    ada.post("/api/metrics", &json!({"name": "a b", "value": 1})).await.problem(400, "VALIDATION_ERROR");
    ada.delete(&format!("/api/metrics/{one}")).await.done(204);
    ada.get(&format!("/api/metrics/{one}")).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn metrics_of_a_project_are_for_who_sees_it() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let secret = json!({"name": "Secret", "visibility": "private"});
    let secret = text(&ada.post("/api/projects", &secret).await.expect(201), "id");
    let open = plans::project(&ada, "Harbour").await;
    let points = json!([{"name": "load", "value": 1}, {"name": "load", "value": 2, "projectId": open},
        {"name": "load", "value": 4, "projectId": secret}, {"name": "launches", "value": 8, "projectId": secret}]);
    assert_eq!(ada.post("/api/metrics", &points).await.expect(202)["recorded"], 4);
    for (client, count, sum, p95, names) in [(&ada, 3, 7.0, 4.0, 2), (&bob, 2, 3.0, 2.0, 1)] {
        assert_eq!(client.get("/api/metrics?name=load").await.expect(200)["total"], count);
        for (aggregation, value) in [("sum", sum), ("count", f64::from(count)), ("p95", p95)] {
            let path = format!("/api/metrics?name=load&aggregation={aggregation}");
            assert_eq!(client.get(&path).await.expect(200)["items"][0]["value"], value, "{aggregation}");
        }
        assert_eq!(client.get("/api/metrics/names").await.expect(200)["total"], names);
    }
    let launches = ada.get("/api/metrics?name=launches").await.expect(200);
    let launches = format!("/api/metrics/{}", text(&launches["items"][0], "id"));
    ada.get(&launches).await.done(200);
    bob.get(&launches).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_plan_that_was_executed_is_usage_with_a_price() {
    let (_host, ada) = host_with_ada().await;
    price(&ada, json!({"categoryCode": "compute.agent", "pricingModel": "PER_UNIT", "unitPriceMicro": 2_500})).await;
    let plan = plans::ready_plan(&ada, &plans::three_steps()).await;
    let execution = plans::execute(&ada, &plan).await;
    plans::reaches(&ada, &execution, &["completed"]).await;
    let event = eventually("the usage", async || {
        let found = ada.get("/api/usage/events?categoryCode=compute.agent").await.expect(200);
        found["items"].get(0).cloned()
    })
    .await;
    assert_eq!((&event["costMicro"], &event["sourceModule"]), (&json!(2_500), &json!("execution-service")), "{event}");
    assert_eq!(event["sourceResourceId"], execution.as_str(), "{event}");
}
