//! usage-tracking: what its timers do. They sum up, keep budgets up to date, notice what is unusual, and forget what is old.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::answer::text;
use berth_tests::{Client, Host, Manifest, eventually};
use chrono::{DateTime, Datelike, NaiveTime, TimeDelta, Timelike, Utc};
use serde_json::{Value, json};

/// A host whose clock does not keep a test waiting, and which keeps single events for one day.
async fn restless() -> Host {
    let manifest = Manifest::services().with(
        "aggregate = \"1h\"\nbudgets = \"15m\"\nretention = \"daily\"\n",
        "aggregate = \"1s\"\nbudgets = \"1s\"\nretention = \"1s\"\n\n[plugin.config]\nraw_days = \"1\"\n",
    );
    Host::with(manifest).start().await
}

fn completion(id: &str, project: &str) -> Value {
    json!({"eventId": id, "categoryCode": "ai.completion", "projectId": project, "metrics": {"totalTokens": 1, "count": 1}})
}

/// The beginning of a day, so many days ago.
fn day(ago: i64) -> String {
    (Utc::now() - TimeDelta::days(ago)).format("%Y-%m-%dT00:00:00.000Z").to_string()
}

/// The events in the sums of a granularity, of one organization.
async fn summed_up(host: &Host, organization: &str, granularity: &str) -> String {
    let sql = format!(
        "SELECT CAST(COALESCE(SUM(event_count), 0) AS TEXT) FROM usage_aggregates WHERE organization_id = '{organization}' \
         AND granularity = '{granularity}' AND dimension_key IS NULL"
    );
    host.store().ask(&sql).await.pop().unwrap_or_default()
}

async fn are_summed_up(host: &Host, organization: &str, events: &str) {
    eventually("the sums of days and months", async || {
        let (days, months) =
            (summed_up(host, organization, "DAILY").await, summed_up(host, organization, "MONTHLY").await);
        (days == events && months == events).then_some(())
    })
    .await;
}

async fn spent(client: &Client, from: &str, to: &str, project: &str) -> Value {
    let question = json!({"from": from, "to": to, "projectId": project});
    client.post("/api/usage/query", &question).await.expect(200)["total"]["totalCostMicro"].clone()
}

#[tokio::test]
async fn what_is_old_is_told_by_days_and_then_by_months_and_counts_once() {
    let host = restless().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let organization = text(&ada.account["organization"], "id");
    let price = json!({"categoryCode": "ai.completion", "pricingModel": "FLAT", "unitPriceMicro": 1_000,
        "effectiveFrom": "2026-01-01T00:00:00Z"});
    ada.post("/api/usage/pricing", &price).await.done(201);
    let budget = json!({"name": "Words", "period": "MONTHLY", "amountMicro": 10_000});
    let budget = text(&ada.post("/api/usage/budgets", &budget).await.expect(201), "id");
    let events = json!([completion("young", "young"), completion("old", "old")]);
    assert_eq!(ada.post("/api/usage/events", &events).await.expect(202)["accepted"], 2);
    are_summed_up(&host, &organization, "2").await;

    // A new period begins for a budget even where nobody uses anything.
    let store = host.store();
    let past = "UPDATE usage_budgets SET current_usage_micro = 77, period_start_date = '2020-05-01T00:00:00.000Z'";
    assert_eq!(store.change(past).await, 1);
    eventually("the budget of this month", async || {
        let row = ada.get(&format!("/api/usage/budgets/{budget}")).await.expect(200);
        (row["currentUsageMicro"] == 2_000 && !text(&row, "periodStartDate").starts_with("2020")).then_some(())
    })
    .await;

    // What is kept is put close to its end, what is not kept behind it.
    for (granularity, project, start) in [
        ("HOURLY", "young", day(80)),
        ("HOURLY", "old", day(95)),
        ("DAILY", "young", day(100)),
        ("DAILY", "old", day(800)),
        ("MONTHLY", "young", "2020-05-01T00:00:00.000Z".to_owned()),
    ] {
        let sql = format!(
            "UPDATE usage_aggregates SET period_start = '{start}' WHERE granularity = '{granularity}' AND project_id = '{project}'"
        );
        assert_eq!(store.change(&sql).await, 1, "{granularity} {project}");
    }
    let two_days_ago = (Utc::now() - TimeDelta::days(2)).format("%Y-%m-%dT%H:%M:%S.000Z").to_string();
    let aged = format!(
        "UPDATE usage_events SET received_at = '{two_days_ago}', occurred_at = '{two_days_ago}' WHERE event_id = 'old'"
    );
    assert_eq!(store.change(&aged).await, 1);
    let expired = format!(
        "SELECT id FROM usage_aggregates WHERE (granularity = 'HOURLY' AND period_start < '{}') \
         OR (granularity = 'DAILY' AND period_start < '{}')",
        day(90),
        day(730)
    );
    eventually("what is old being forgotten", async || {
        let events = ada.get("/api/usage/events").await.expect(200);
        (events["total"] == 1 && store.ask(&expired).await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(spent(&ada, &day(80), &day(79), "young").await, 1_000, "by the hour");
    assert_eq!(spent(&ada, &day(100), &day(99), "young").await, 1_000, "by the day");
    let billing = ada.get("/api/usage/billing?period=2020-05").await.expect(200);
    assert_eq!(billing["totalCostMicro"], 1_000, "by the month: {billing}");

    // Who reports something once more is told so, whether it is still there or not.
    let mut again = completion("old", "old");
    again["occurredAt"] = two_days_ago.as_str().into();
    let again = ada.post("/api/usage/events", &json!([again, completion("young", "young")])).await.expect(202);
    assert_eq!(again, json!({"accepted": 0, "duplicates": 2, "rejected": []}));
}

#[tokio::test]
async fn an_unusual_hour_is_noticed_and_summed_up_with_its_day() {
    let host = restless().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let organization = text(&ada.account["organization"], "id");
    let now = Utc::now();
    // One event in each of seven hours, and thirty in the last whole one; as many in this one, should it be over before the look.
    let mut events = Vec::new();
    for (ago, count) in [(0, 30), (1, 30), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1)] {
        for number in 0..count {
            let mut event = completion(&format!("{ago}-{number}"), "p");
            event["occurredAt"] = json!((now - TimeDelta::hours(ago)).to_rfc3339());
            events.push(event);
        }
    }
    assert_eq!(ada.post("/api/usage/events", &json!(events)).await.expect(202)["accepted"], 67);
    let alert = eventually("the unusual hour", async || {
        let alerts = ada.get("/api/usage/alerts").await.expect(200);
        alerts["items"].as_array().into_iter().flatten().find(|alert| alert["alertType"] == "SPIKE").cloned()
    })
    .await;
    assert_eq!((&alert["currentValue"], &alert["status"]), (&json!(30), &json!("ACTIVE")), "{alert}");
    are_summed_up(&host, &organization, "67").await;
}

#[tokio::test]
async fn periods_begin_at_the_organizations_midnight_whoever_asks() {
    let host = restless().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let organization = text(&ada.account["organization"], "id");
    let settings = format!("/api/organizations/{organization}/settings");
    // Fourteen hours ahead of UTC, all year round: the day begins at ten o'clock of the day before.
    ada.put(&settings, &json!({"timezone": "Pacific/Kiritimati"})).await.done(200);
    // The first who asks is a program that may see nothing of what the organization has set.
    let body = json!({"name": "Meter", "permissions": ["usage.*"]});
    let program = ada.post("/api/users/me/api-keys", &body).await.expect(201);
    let program = host.client().with_token(&text(&program, "key"));
    program.get(&settings).await.problem(403, "FORBIDDEN");
    let check = json!({"categoryCode": "ai.completion", "estimatedMetrics": {"totalTokens": 1}});
    program.post("/api/usage/quotas/check", &check).await.done(200);
    let quota = json!({"name": "Day", "categoryCode": "ai.*", "metricKey": "totalTokens", "period": "DAILY",
        "limitValue": 100, "action": "HARD_LIMIT"});
    ada.post("/api/usage/quotas", &quota).await.done(201);
    let begin = async || {
        let answer = program.post("/api/usage/quotas/check", &check).await.expect(200);
        let verdict = answer["quotas"][0].clone();
        let end = DateTime::parse_from_rfc3339(&text(&verdict, "resetAt")).expect("a time").with_timezone(&Utc);
        (end - TimeDelta::days(1), verdict["current"].clone())
    };
    let (day, _) = begin().await;
    assert_eq!((day.hour(), day.minute()), (10, 0), "{day}");
    // Three events: just before this day, at its beginning, and now. The third one's day may be the next by then.
    let at = |id: &str, moment: DateTime<Utc>| {
        let mut event = completion(id, "p");
        event["occurredAt"] = json!(moment.to_rfc3339());
        event
    };
    let events = [at("before", day - TimeDelta::seconds(1)), at("first", day), completion("now", "p")];
    assert_eq!(ada.post("/api/usage/events", &json!(events)).await.expect(202)["accepted"], 3);
    let (today, used) = begin().await;
    assert_eq!(used, if today == day { 2.0 } else { 1.0 }, "of {today}");

    // The clock, which acts for nobody, sums up the same days.
    are_summed_up(&host, &organization, "3").await;
    let store = host.store();
    let days = "SELECT CAST(COUNT(DISTINCT period_start) AS TEXT) FROM usage_aggregates WHERE granularity = 'DAILY'";
    let of_day = |moment: DateTime<Utc>| {
        let start = moment.format("%Y-%m-%dT10:00:00.000Z");
        format!(
            "SELECT CAST(COALESCE(SUM(event_count), 0) AS TEXT) FROM usage_aggregates WHERE granularity = 'DAILY' \
             AND period_start = '{start}' AND dimension_key IS NULL"
        )
    };
    assert_eq!(store.ask(&of_day(day - TimeDelta::days(1))).await, ["1"]);
    let known = store.ask(days).await;
    // As if they had been summed up while the organization counted in UTC, the former day so long ago that nothing else would
    // sum it up anew: they are replaced and count once.
    let aged = format!(
        "UPDATE usage_aggregates SET updated_at = '2026-01-01T00:00:00.000Z' WHERE granularity = 'HOURLY' AND period_start < '{}'",
        day.format("%Y-%m-%dT10:00:00.000Z")
    );
    assert_eq!(store.change(&aged).await, 1);
    for day in [day - TimeDelta::days(1), day] {
        let of_utc = day.date_naive().and_time(NaiveTime::MIN).and_utc();
        let month = (day + TimeDelta::hours(14)).date_naive();
        let month = (month - TimeDelta::days(i64::from(month.day0()))).and_time(NaiveTime::MIN).and_utc();
        for (granularity, from, to) in [("DAILY", day, of_utc), ("MONTHLY", month - TimeDelta::hours(14), month)] {
            let moved = format!(
                "UPDATE usage_aggregates SET aggregate_key = 'utc|' || aggregate_key, period_start = '{}' \
                 WHERE granularity = '{granularity}' AND period_start = '{}'",
                to.format("%Y-%m-%dT%H:%M:%S.000Z"),
                from.format("%Y-%m-%dT%H:%M:%S.000Z")
            );
            store.change(&moved).await;
        }
    }
    eventually("the days of the present zone", async || {
        let elsewhere = "SELECT id FROM usage_aggregates WHERE aggregate_key LIKE 'utc|%'";
        (store.ask(elsewhere).await.is_empty() && store.ask(days).await == known).then_some(())
    })
    .await;
    are_summed_up(&host, &organization, "3").await;
    assert_eq!(store.ask(&of_day(day - TimeDelta::days(1))).await, ["1"]);

    // A month in which clocks go forward, of an organization that has such clocks.
    let eve = host.client().register("eve@example.com", "Reef").await;
    let settings = format!("/api/organizations/{}/settings", text(&eve.account["organization"], "id"));
    eve.put(&settings, &json!({"timezone": "Europe/Berlin"})).await.done(200);
    // The platform's administrator is told of the same month as the organization.
    let billing = "/api/usage/billing?period=2026-03";
    let reef = text(&eve.account["organization"], "id");
    for (client, path) in [(&ada, format!("{billing}&organizationId={reef}")), (&eve, billing.to_owned())] {
        let march = client.get(&path).await.expect(200);
        assert_eq!(march["periodStart"], "2026-02-28T23:00:00.000Z", "{path}: {march}");
        assert_eq!(march["periodEnd"], "2026-03-31T22:00:00.000Z", "{path}: {march}");
    }
}
