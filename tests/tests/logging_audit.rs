//! The audit log at its ends: what was taken away or put in there, and what retention takes. Rows are forged in the database of a
//! stopped host.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;

use berth_tests::answer::text;
use berth_tests::{Client, Host, Manifest, Store, eventually};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

async fn verify(client: &Client, question: Value) -> Value {
    client.post("/api/audit-logs/verification/verify", &question).await.expect(200)
}

#[tokio::test]
async fn rows_that_were_taken_away_or_put_in_are_found_at_the_ends_too() {
    let host = Host::with(Manifest::services()).start().await;
    let mut chains: Vec<(String, Value)> = Vec::new();
    for name in ["after", "cut", "kept", "alone", "blurred"] {
        let client = host.client().register(&format!("{name}@example.com"), name).await;
        let entries: Vec<Value> = (0..30).map(|number| json!({"action": format!("crane.{number}")})).collect();
        client.post("/api/audit-logs/batch", &json!(entries)).await.done(201);
        let verdict = verify(&client, json!({})).await;
        assert_eq!(verdict["valid"], true, "{verdict}");
        if name == "cut" {
            let made = client.post("/api/audit-logs/verification/checkpoint", &json!({})).await.expect(201);
            assert_eq!(made["status"], "VERIFIED", "{made}");
        }
        chains.push((text(&client.account["organization"], "id"), verdict));
    }
    let stopped = host.stop().await;
    let store = stopped.store();
    // A row that nobody wrote, far behind the last one: the chain itself does not know of it.
    let columns = match store.is_postgres() {
        true => "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'audit_logs'",
        false => "SELECT name FROM pragma_table_info('audit_logs')",
    };
    let columns = store.ask(columns).await;
    let values: Vec<&str> = columns
        .iter()
        .map(|column| match column.as_str() {
            "id" => "'forged'",
            "sequence" => "sequence + 1000",
            other => other,
        })
        .collect();
    let (columns, values, chain) = (columns.join(", "), values.join(", "), &chains[0].0);
    let copy = format!(
        "INSERT INTO audit_logs ({columns}) SELECT {values} FROM audit_logs WHERE chain = '{chain}' ORDER BY sequence DESC LIMIT 1"
    );
    assert_eq!(store.change(&copy).await, 1);
    // The end is gone, and the chain was told that it never had one.
    for (chain, _) in &chains[1..3] {
        let forget = format!(
            "UPDATE audit_chains SET (last_sequence, last_hash) = (SELECT sequence, hash FROM audit_logs \
             WHERE chain = '{chain}' ORDER BY sequence DESC LIMIT 1 OFFSET 20) WHERE chain = '{chain}'"
        );
        assert_eq!(store.change(&forget).await, 1);
        let cut = format!(
            "DELETE FROM audit_logs WHERE chain = '{chain}' \
             AND sequence > (SELECT last_sequence FROM audit_chains WHERE chain = '{chain}')"
        );
        assert_eq!(store.change(&cut).await, 20);
    }
    assert_eq!(store.change(&format!("DELETE FROM audit_chains WHERE chain = '{}'", chains[3].0)).await, 1);
    // One that can be read no more: no text on one database, larger than any answer on the other.
    let place = format!("chain = '{}' AND sequence = 7", chains[4].0);
    let blurred = if store.is_postgres() { "repeat('x', 9000000)" } else { "CAST(X'FF' AS TEXT)" };
    let blurred_id = store.ask(&format!("SELECT id FROM audit_logs WHERE {place}")).await;
    assert_eq!(store.change(&format!("UPDATE audit_logs SET message = {blurred} WHERE {place}")).await, 1);
    let host = stopped.start().await;
    let asked = async |name: &str, question: Value| {
        verify(&host.client().login(&format!("{name}@example.com")).await, question).await
    };
    let verdict = asked("after", json!({})).await;
    assert_eq!(
        (&verdict["valid"], &verdict["reason"], &verdict["firstBrokenId"]),
        (&json!(false), &json!("INSERTED"), &json!("forged")),
        "{verdict}"
    );
    // The checkpoint knows better; where there is none, what was kept elsewhere does.
    let verdict = asked("cut", json!({})).await;
    assert_eq!((&verdict["valid"], &verdict["reason"]), (&json!(false), &json!("TRUNCATED")), "{verdict}");
    let before = &chains[2].1;
    let anchor = json!({"anchor": {"sequence": before["toSequence"], "hash": before["lastHash"]}});
    let verdict = asked("kept", anchor).await;
    assert_eq!((&verdict["valid"], &verdict["reason"]), (&json!(false), &json!("TRUNCATED")), "{verdict}");
    let verdict = asked("alone", json!({})).await;
    assert_eq!((&verdict["valid"], &verdict["reason"]), (&json!(false), &json!("INSERTED")), "{verdict}");
    let verdict = asked("blurred", json!({})).await;
    assert_eq!((&verdict["reason"], &verdict["firstBrokenSequence"]), (&json!("ALTERED"), &json!(7)), "{verdict}");
    assert_eq!(verdict["firstBrokenId"], blurred_id[0].as_str(), "{verdict}");
    // A checkpoint says so as well, and whoever watches hears of it.
    let client = host.client().login("blurred@example.com").await;
    for _ in 0..2 {
        let made = client.post("/api/audit-logs/verification/checkpoint", &json!({})).await.expect(201);
        assert_eq!((&made["status"], &made["failure"]["sequence"]), (&json!("FAILED"), &json!(7)), "{made}");
    }
    eventually("the news", async || {
        let events = client.get("/api/observability/events?type=audit.verification.failed").await.expect(200);
        (events["total"].as_i64() >= Some(3)).then_some(())
    })
    .await;
}

/// A moment a hundred days ago, as rows and as numbers have it.
fn long_ago() -> (String, i64) {
    let at = chrono::Utc::now() - chrono::Duration::days(100);
    (at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true), at.timestamp_millis())
}

/// Puts a chain of entries that are a hundred days old in the place of what is there, each of a category, hashed as the README says;
/// a verified checkpoint after each of `checkpoints`.
async fn put_old_chain(store: &Store, chain: &str, categories: &[&str], checkpoints: &[usize]) {
    let (moment, millis) = long_ago();
    for table in ["audit_logs", "audit_hash_checkpoints"] {
        store.change(&format!("DELETE FROM {table} WHERE chain = '{chain}'")).await;
    }
    let (mut rows, mut hashes) = (Vec::new(), vec![String::new()]);
    for (number, category) in (1..).zip(categories) {
        let nothing = Value::Null;
        let row: BTreeMap<&str, Value> = BTreeMap::from([
            ("id", json!(format!("old-{number}"))),
            ("organizationId", json!(chain)),
            ("createdBy", nothing.clone()),
            ("chain", json!(chain)),
            ("sequence", json!(number)),
            ("timestamp", json!(moment)),
            ("timeMs", json!(millis)),
            ("receivedAt", json!(moment)),
            ("receivedMs", json!(millis)),
            ("userId", nothing.clone()),
            ("sessionId", nothing.clone()),
            ("ipAddress", nothing.clone()),
            ("userAgent", nothing.clone()),
            ("action", json!("crane.moved")),
            ("category", json!(category)),
            ("severity", json!("INFO")),
            ("resourceType", nothing.clone()),
            ("resourceId", nothing.clone()),
            ("message", json!("Äpfel")),
            ("metadata", json!("{}")),
            ("source", json!("api")),
            ("correlationId", nothing),
        ]);
        let before = hashes.last().cloned().unwrap_or_default();
        let digest = Sha256::digest(format!("{before}{}", json!(row)));
        let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let before = if before.is_empty() { "NULL".to_owned() } else { format!("'{before}'") };
        rows.push(format!(
            "('old-{number}', '{chain}', '{chain}', {number}, '{moment}', {millis}, '{moment}', {millis}, 'crane.moved', '{category}', 'INFO', \
             'Äpfel', '{{}}', 'api', {before}, '{hash}')"
        ));
        hashes.push(hash);
    }
    for part in rows.chunks(1_000) {
        let insert = format!(
            "INSERT INTO audit_logs (id, organization_id, chain, sequence, \"timestamp\", time_ms, received_at, received_ms, action, category, \
             severity, message, metadata, source, previous_hash, hash) VALUES {}",
            part.join(", ")
        );
        store.change(&insert).await;
    }
    let (last, hash) = (categories.len(), &hashes[categories.len()]);
    let known = format!(
        "UPDATE audit_chains SET last_sequence = {last}, last_hash = '{hash}', pruned_sequence = 0, pruned_hash = '' WHERE chain = '{chain}'"
    );
    assert_eq!(store.change(&known).await, 1);
    for at in checkpoints {
        let checkpoint = format!(
            "INSERT INTO audit_hash_checkpoints (id, organization_id, created_at, updated_at, version, chain, checkpoint_timestamp, last_log_id, \
             last_sequence, last_hash, log_count, status) VALUES ('old-{at}', '{chain}', '{moment}', '{moment}', 1, '{chain}', '{moment}', \
             'old-{at}', {at}, '{}', {at}, 'VERIFIED')",
            hashes[*at]
        );
        assert_eq!(store.change(&checkpoint).await, 1);
    }
}

#[tokio::test]
async fn what_is_too_old_goes_up_to_a_checkpoint_and_the_chain_stays_whole() {
    let host = Host::with(Manifest::services()).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    ada.post("/api/audit-logs", &json!({"action": "crane.moved"})).await.done(201);
    let policy = json!({"deleteAfterDays": 90, "retentionDays": 30, "archiveAfterDays": 60});
    ada.post("/api/audit-logs/policies", &policy).await.done(201);
    let immutable = json!({"category": "SECURITY", "retentionDays": 30, "deleteAfterDays": 30, "immutable": true});
    ada.post("/api/audit-logs/policies", &immutable).await.done(201);
    let line = |message: &str, at: &str| json!({"service": "crane", "message": message, "timestamp": at});
    let lines = json!([line("old", &long_ago().0), line("new", &chrono::Utc::now().to_rfc3339())]);
    ada.post("/api/logs", &lines).await.done(202);
    let harbour = text(&ada.account["organization"], "id");
    let stopped = host.stop().await;
    // More at once than one step of retention takes, where checkpoints are close together; then one that must stay, and others that stay
    // with it.
    let (going, security, staying) = (50_500, 50_501, 50_510);
    let mut categories = vec!["ACTION"; staying];
    categories[security - 1] = "SECURITY";
    put_old_chain(&stopped.store(), &harbour, &categories, &[going, staying]).await;
    let host = stopped.start().await;
    let ada = host.client().login("ada@example.com").await;
    let whole = verify(&ada, json!({"toSequence": 1_000})).await;
    assert_eq!((&whole["valid"], &whole["checked"]), (&json!(true), &json!(1_000)), "{whole}");
    let new = text(&ada.post("/api/audit-logs", &json!({"action": "crane.moved"})).await.expect(201), "id");
    let stopped = host.stop().await;
    stopped.write_manifest(
        &Manifest::services().with("retention = \"daily\"\ncheckpoint", "retention = \"1s\"\ncheckpoint"),
    );
    let host = stopped.start().await;
    let ada = host.client().login("ada@example.com").await;
    let told = eventually("the end of what is old", async || {
        let told = ada.get("/api/audit-logs?action=audit.retention.deleted").await.expect(200);
        (told["total"].as_i64() > Some(0)).then(|| told["items"][0].clone())
    })
    .await;
    assert_eq!(told["metadata"], json!({"upTo": going, "rows": going}), "{told}");
    let left = verify(&ada, json!({})).await;
    assert_eq!((&left["valid"], &left["isComplete"]), (&json!(true), &json!(true)), "{left}");
    assert_eq!(left["fromSequence"], security, "{left}");
    ada.get(&format!("/api/audit-logs/{new}")).await.done(200);
    ada.get(&format!("/api/audit-logs/old-{going}")).await.problem(404, "NOT_FOUND");
    // What stays only because something before it must is archived: lists leave it out unless it is asked for.
    let day = |days: i64| {
        (chrono::Utc::now() - chrono::Duration::days(days)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    };
    let around = format!("/api/audit-logs?from={}&to={}", day(101), day(99));
    let listed = ada.get(&around).await.expect(200);
    assert_eq!((&listed["total"], &listed["items"][0]["category"]), (&json!(1), &json!("SECURITY")), "{listed}");
    assert_eq!(ada.get(&format!("{around}&includeArchived=true")).await.expect(200)["total"], staying - going);
    // Lines of the log go by their own age.
    let total = async |from: i64, to: i64| {
        ada.get(&format!("/api/logs?from={}&to={}", day(from), day(to))).await.expect(200)["total"].clone()
    };
    eventually("the end of the old line", async || (total(101, 99).await == 0).then_some(())).await;
    assert_eq!(total(1, -1).await, 1);
}

/// What was exported goes when its day is over, and a day later the export too; until then it says that it is gone.
#[tokio::test]
async fn an_export_that_has_expired_is_taken_away() {
    let manifest = Manifest::services().with("retention = \"daily\"\ncheckpoint", "retention = \"1s\"\ncheckpoint");
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    ada.post("/api/audit-logs", &json!({"action": "crane.moved"})).await.done(201);
    let exported = async || {
        let wanted = json!({"format": "CSV", "filters": {"action": "crane.*"}});
        let started = ada.post("/api/audit-logs/export", &wanted).await.expect(202);
        let id = text(&started, "id");
        let path = format!("/api/audit-logs/export/{id}");
        eventually("the export", async || (ada.get(&path).await.expect(200)["status"] == "COMPLETED").then_some(()))
            .await;
        (id, path)
    };
    let ((kept, kept_path), (late, late_path), (gone, gone_path)) =
        (exported().await, exported().await, exported().await);
    let store = host.store();
    for (id, hours) in [(&late, 1), (&gone, 25)] {
        let moment =
            (chrono::Utc::now() - chrono::Duration::hours(hours)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let expire = format!("UPDATE audit_exports SET expires_at = '{moment}' WHERE id = '{id}'");
        assert_eq!(store.change(&expire).await, 1);
    }
    eventually("the end of the export", async || (ada.get(&gone_path).await.status == 404).then_some(())).await;
    ada.get(&format!("{gone_path}/download")).await.problem(404, "NOT_FOUND");
    ada.get(&late_path).await.done(200);
    ada.get(&format!("{late_path}/download")).await.problem(410, "GONE");
    assert_eq!(store.ask("SELECT DISTINCT export_id FROM audit_export_parts").await, [kept]);
    assert_eq!(ada.get(&format!("{kept_path}/download")).await.text().lines().count(), 2);
}
