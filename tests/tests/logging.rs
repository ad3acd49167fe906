//! logging: lines are taken, found and followed; the audit log says when it was tampered with, and where.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::path::Path;

use berth_tests::answer::text;
use berth_tests::manifest::Manifest;
use berth_tests::members::host_with_ada;
use berth_tests::{Client, Host, Store, eventually, members, plans};
use reqwest::Method;
use serde_json::{Value, json};

fn line(message: &str) -> Value {
    json!({"level": "info", "service": "crane", "message": message})
}

fn messages(page: &Value) -> Vec<String> {
    page["items"].as_array().into_iter().flatten().map(|item| text(item, "message")).collect()
}

async fn search(client: &Client, query: &str) -> Vec<String> {
    let url = reqwest::Url::parse_with_params("http://x/api/logs/search", [("q", query), ("order", "asc")]);
    let url = url.expect("a query");
    messages(&client.get(&format!("{}?{}", url.path(), url.query().unwrap_or_default())).await.expect(200))
}

/// Everything that has come on a stream once `count` events are there.
async fn events(client: &Client, path: &str, after: &str, count: usize) -> Vec<(i64, Value)> {
    let request = client.request(Method::GET, path).header("last-event-id", after);
    let mut response = request.send().await.expect("a stream");
    assert_eq!(response.status().as_u16(), 200);
    let mut whole = String::new();
    while whole.matches("event: log").count() < count || !whole.ends_with("\n\n") {
        let Some(chunk) = response.chunk().await.expect("a piece") else { break };
        whole.push_str(&String::from_utf8_lossy(&chunk));
    }
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned)).unwrap_or_default()
    };
    whole
        .split("\n\n")
        .filter(|event| event.contains("event: log"))
        .map(|event| {
            let data = serde_json::from_str(&field(event, "data: ")).unwrap_or(Value::Null);
            (field(event, "id: ").parse().expect("a number"), data)
        })
        .collect()
}

#[tokio::test]
async fn lines_are_taken_cleaned_and_found() {
    let (host, ada) = host_with_ada().await;
    let sent = json!([
        {"level": "ERROR", "service": "crane", "message": "the disk is full, password=hunter2", "traceId": "t-1",
            "context": {"orderId": "o7", "apiKey": "k", "load": 3, "password": 482_913, "paidBy": 4_111_111_111_111_111_u64}},
        {"service": "crane", "message": "hook is down", "level": "info"},
        {"service": "gate", "message": "the disk is fine", "timestamp": "2099-01-01T00:00:00Z"},
        {"level": "loud", "service": "gate", "message": "x"},
        {"service": "gate", "message": "long".repeat(5_000)},
        7
    ]);
    let answer = ada.post("/api/logs", &sent).await.expect(202);
    assert_eq!(answer["accepted"], 4, "{answer}");
    assert_eq!(
        (&answer["rejected"][0]["index"], &answer["rejected"][0]["errors"][0]["field"]),
        (&json!(3), &json!("level"))
    );
    assert_eq!(answer["rejected"][1]["index"], 5, "{answer}");
    let page = ada.get("/api/logs?sortBy=sequence&order=asc").await.expect(200);
    assert_eq!(page["total"], 4, "{page}");
    let first = &page["items"][0];
    assert_eq!(first["message"], "the disk is full, password=[redacted]");
    let gone = "[redacted]";
    let kept = json!({"orderId": "o7", "apiKey": gone, "load": 3, "password": gone, "paidBy": gone});
    assert_eq!(first["context"], kept, "numbers can be secrets too");
    assert_eq!((&first["level"], &first["isTruncated"]), (&json!("error"), &json!(false)));
    assert_eq!(page["items"][2]["isClamped"], true, "{page}");
    assert_eq!(page["items"][3]["isTruncated"], true);
    assert_eq!(text(&page["items"][3], "message").len(), 16 * 1024);
    assert_eq!(search(&ada, "disk full").await.len(), 1, "every word");
    assert_eq!(search(&ada, "\"disk is\"").await.len(), 2, "a phrase");
    assert_eq!(search(&ada, "disk service:gate").await, ["the disk is fine"]);
    assert_eq!(search(&ada, "level:error -service:gate").await.len(), 1);
    assert_eq!(search(&ada, "context.orderId:o7").await.len(), 1);
    assert_eq!(search(&ada, "context.load:3").await.len(), 1);
    assert_eq!(search(&ada, "nowhere").await.len(), 0);
    assert_eq!(ada.get("/api/logs?traceId=t-1").await.expect(200)["total"], 1);
    assert_eq!(ada.get("/api/logs?minLevel=warn").await.expect(200)["total"], 1);
    let stats = ada.get("/api/logs/stats").await.expect(200);
    assert_eq!((&stats["total"], &stats["byLevel"]["error"]), (&json!(4), &json!(1)), "{stats}");
    assert_eq!(stats["byService"][0], json!({"service": "crane", "count": 2, "errors": 1}), "{stats}");
    let services = ada.get("/api/logs/services").await.expect(200);
    assert_eq!(services["items"].as_array().map(Vec::len), Some(2), "{services}");
    let by_hour = ada.get("/api/logs/aggregate?groupBy=service,level&interval=hour").await.expect(200);
    let counted: i64 =
        by_hour["items"].as_array().into_iter().flatten().filter_map(|item| item["count"].as_i64()).sum();
    assert_eq!(counted, 4, "{by_hour}");
    // Rights and organizations.
    let path = format!("/api/logs/{}", text(first, "id"));
    ada.get(&path).await.done(200);
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&path).await.problem(404, "NOT_FOUND");
    assert_eq!(eve.get("/api/logs").await.expect(200)["total"], 0);
    let viewer = members::bring(&host, &ada, "vera@example.com", "Viewer").await;
    assert_eq!(viewer.get("/api/logs").await.expect(200)["total"], 4);
    viewer.post("/api/logs", &line("x")).await.problem(403, "FORBIDDEN");
    let member = members::bring(&host, &ada, "mo@example.com", "Member").await;
    member.delete("/api/logs?before=2099-01-01T00:00:00Z").await.problem(403, "FORBIDDEN");
    ada.delete("/api/logs?before=2099-01-01T00:00:00Z").await.done(204);
    assert_eq!(ada.get("/api/logs").await.expect(200)["total"], 0);
    let noted = ada.get("/api/audit-logs?action=logs.deleted").await.expect(200);
    assert_eq!((&noted["total"], &noted["items"][0]["userId"]), (&json!(1), &json!(members::id(&ada))), "{noted}");
}

#[tokio::test]
async fn words_beyond_ascii_are_found_whatever_their_case() {
    let (_host, ada) = host_with_ada().await;
    ada.post("/api/logs", &json!([line("Überlauf am Kai"), line("ein überlauf")])).await.done(202);
    assert_eq!(search(&ada, "Überlauf kai").await, ["Überlauf am Kai"]);
    assert_eq!(search(&ada, "\"Überlauf AM\"").await, ["Überlauf am Kai"]);
    for whatever_case in ["überlauf", "ÜBERLAUF"] {
        assert_eq!(search(&ada, whatever_case).await.len(), 2, "{whatever_case}");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_by_name() {
    let (_host, ada) = host_with_ada().await;
    for (path, field) in [
        ("/api/logs?from=yesterday", "from"),
        ("/api/logs?from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z", "from"),
        ("/api/logs?level=loud", "level"),
        ("/api/logs?sortBy=message", "sortBy"),
        ("/api/logs?limit=0", "limit"),
        ("/api/logs/aggregate", "groupBy"),
        ("/api/logs/aggregate?groupBy=message", "groupBy"),
        ("/api/logs/aggregate?interval=1s", "interval"),
        ("/api/logs/tail?lastEventId=x", "lastEventId"),
        ("/api/audit-logs?category=LOUD", "category"),
        ("/api/audit-logs?scope=TEAM", "scope"),
    ] {
        let answer = ada.get(path).await;
        answer.problem(400, "VALIDATION_ERROR");
        assert_eq!(answer.faulty_fields(), [field], "{path}");
    }
    let single = ada.post("/api/logs", &json!({"message": "m"})).await;
    single.problem(400, "VALIDATION_ERROR");
    assert_eq!(single.faulty_fields(), ["service"]);
    let many: Vec<Value> = (0..1_001).map(|number| line(&number.to_string())).collect();
    ada.post("/api/logs", &json!(many)).await.problem(400, "VALIDATION_ERROR");
    ada.delete("/api/logs").await.problem(400, "VALIDATION_ERROR");
    let entries = ada.post("/api/audit-logs/batch", &json!([{"action": "a"}, {"severity": "LOUD"}])).await;
    entries.problem(400, "VALIDATION_ERROR");
    assert!(entries.faulty_fields().iter().all(|field| field.starts_with("logs[1].")), "{:?}", entries.faulty_fields());
    assert_eq!(ada.get("/api/audit-logs?source=api").await.expect(200)["total"], 0, "all or nothing");
}

#[tokio::test]
async fn a_tail_misses_no_line_of_many_writers_and_goes_on_after_a_restart() {
    let (host, ada) = host_with_ada().await;
    let writers = (0..8).map(|writer| {
        let ada = ada.clone();
        tokio::spawn(async move {
            for batch in 0..5 {
                let lines: Vec<Value> = (0..20).map(|number| line(&format!("w{writer}-{batch}-{number}"))).collect();
                assert_eq!(ada.post("/api/logs", &json!(lines)).await.expect(202)["accepted"], 20);
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let seen = events(&ada, "/api/logs/tail", "0", 800).await;
    for writer in writers {
        writer.await.expect("a writer");
    }
    let numbers: Vec<i64> = seen.iter().map(|(id, _)| *id).collect();
    assert_eq!(numbers, (1..=800).collect::<Vec<_>>(), "each once and in order");
    let host = host.restart().await;
    let ada = host.client().login("ada@example.com").await;
    ada.post(
        "/api/logs",
        &json!([line("quiet"), {"level": "error", "service": "gate", "message": "loud"}, line("quiet")]),
    )
    .await
    .done(202);
    ada.post("/api/logs", &json!({"level": "fatal", "service": "gate", "message": "louder"})).await.done(202);
    let after = events(&ada, "/api/logs/tail?minLevel=error", "800", 2).await;
    let said: Vec<String> = after.iter().map(|(_, line)| text(line, "message")).collect();
    assert_eq!(said, ["loud", "louder"]);
    assert_eq!(after[1].0, 804);
}

async fn verify(client: &Client, question: Value) -> Value {
    client.post("/api/audit-logs/verification/verify", &question).await.expect(200)
}

#[tokio::test]
async fn many_writers_make_one_chain_that_nobody_can_change() {
    let (host, ada) = host_with_ada().await;
    let member = members::bring(&host, &ada, "mo@example.com", "Member").await;
    let writers = (0..16).map(|writer| {
        let client = if writer % 2 == 0 { ada.clone() } else { member.clone() };
        tokio::spawn(async move {
            for number in 0..5 {
                let entry = json!({"action": "crane.moved", "message": format!("{writer}-{number}"), "resourceType": "crane",
                    "metadata": {"height": 1.50, "large": 1e20, "token": "secret-x"}});
                client.post("/api/audit-logs", &entry).await.done(201);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer");
    }
    let verdict = verify(&ada, json!({})).await;
    assert_eq!((&verdict["valid"], &verdict["isComplete"]), (&json!(true), &json!(true)), "{verdict}");
    assert!(verdict["checked"].as_i64().is_some_and(|checked| checked >= 80), "{verdict}");
    let page = ada.get("/api/audit-logs?action=crane.*&limit=200").await.expect(200);
    assert_eq!(page["total"], 80);
    let entry = &page["items"][0];
    assert_eq!(entry["metadata"], json!({"height": 1.5, "large": 1e20, "token": "[redacted]"}));
    assert_eq!(text(entry, "hash").len(), 64);
    // Members see what they did, and administrators all.
    assert_eq!(member.get("/api/audit-logs?action=crane.*").await.expect(200)["total"], 40);
    assert_eq!(member.get("/api/audit-logs/my-activity?action=crane.*").await.expect(200)["total"], 40);
    let id_of_member = members::id(&member);
    let foreign = page["items"].as_array().into_iter().flatten().find(|item| item["userId"] != json!(id_of_member));
    let path = format!("/api/audit-logs/{}", text(foreign.expect("one of Ada's"), "id"));
    member.get(&path).await.problem(404, "NOT_FOUND");
    ada.get(&path).await.done(200);
    host.client().register("eve@example.com", "Reef").await.get(&path).await.problem(404, "NOT_FOUND");
    let forged = json!({"action": "x", "userId": members::id(&ada)});
    member.post("/api/audit-logs", &forged).await.problem(403, "FORBIDDEN");
    // Nothing changes or removes an entry.
    ada.put(&path, &json!({"message": "x"})).await.problem(405, "METHOD_NOT_ALLOWED");
    ada.delete(&path).await.problem(405, "METHOD_NOT_ALLOWED");
    // And nobody but administrators sets it up.
    member.post("/api/audit-logs/verification/verify", &json!({})).await.problem(403, "FORBIDDEN");
    member.put("/api/audit-logs/configuration", &json!({"captureIp": false})).await.problem(403, "FORBIDDEN");
    let policy = json!({"retentionDays": 30, "deleteAfterDays": 30});
    member.post("/api/audit-logs/policies", &policy).await.problem(403, "FORBIDDEN");
    let counted = ada.get("/api/audit-logs/aggregate?groupBy=userId&action=crane.*").await.expect(200);
    assert_eq!(counted["items"][0]["count"], 40, "{counted}");
    let stats = ada.get("/api/audit-logs/stats?action=crane.*").await.expect(200);
    assert_eq!((&stats["total"], &stats["bySeverity"]["INFO"]), (&json!(80), &json!(80)), "{stats}");
}

/// Replaces bytes in a file.
fn forge(file: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len(), "the file keeps its size");
    let mut bytes = std::fs::read(file).expect("a file");
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, part)| *part == from.as_bytes()).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "{} has no {from}", file.display());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    std::fs::write(file, bytes).expect("a file");
}

#[tokio::test]
async fn one_altered_byte_in_the_database_is_found_and_located() {
    let (host, ada) = host_with_ada().await;
    for batch in 0..10 {
        let entries: Vec<Value> = (0..1_000)
            .map(|number| json!({"action": "crane.moved", "message": format!("move number {:05} of the day", batch * 1_000 + number)}))
            .collect();
        assert_eq!(ada.post("/api/audit-logs/batch", &json!(entries)).await.expect(201)["accepted"], 1_000);
    }
    let whole = verify(&ada, json!({})).await;
    assert_eq!(whole["valid"], true, "{whole}");
    assert!(whole["checked"].as_i64().is_some_and(|checked| checked >= 10_000), "{whole}");
    let wanted = ada.get("/api/audit-logs/search?q=%22number%2001234%22").await.expect(200);
    assert_eq!(wanted["total"], 1, "{wanted}");
    let (id, sequence) = (text(&wanted["items"][0], "id"), wanted["items"][0]["sequence"].clone());
    let stopped = host.stop().await;
    // An early row: what was written last may still be in the journal, which has sums of its own.
    let (from, to) = ("move number 01234 of the day", "move number 01234 of the dax");
    match stopped.store() {
        Store::File(file) => forge(&file, from, to),
        store @ Store::Space(_) => {
            let forge = format!("UPDATE audit_logs SET message = '{to}' WHERE message = '{from}'");
            assert_eq!(store.change(&forge).await, 1);
        }
    }
    let host = stopped.start().await;
    let ada = host.client().login("ada@example.com").await;
    let verdict = verify(&ada, json!({})).await;
    assert_eq!((&verdict["valid"], &verdict["reason"]), (&json!(false), &json!("ALTERED")), "{verdict}");
    assert_eq!((&verdict["firstBrokenId"], &verdict["firstBrokenSequence"]), (&json!(id), &sequence), "{verdict}");
    let checkpoint = ada.post("/api/audit-logs/verification/checkpoint", &json!({})).await.expect(201);
    let checkpoint = if checkpoint["status"] == "PENDING" {
        let path = "/api/audit-logs/verification/checkpoints";
        eventually("the end of the verification", async || {
            let list = ada.get(path).await.expect(200);
            (list["items"][0]["status"] != "PENDING").then(|| list["items"][0].clone())
        })
        .await
    } else {
        checkpoint
    };
    assert_eq!(
        (&checkpoint["status"], &checkpoint["failure"]["logId"]),
        (&json!("FAILED"), &json!(id)),
        "{checkpoint}"
    );
}

#[tokio::test]
async fn events_of_other_services_become_entries_once() {
    let (host, ada) = host_with_ada().await;
    let plan = plans::ready_plan(&ada, &plans::three_steps()).await;
    let entry = eventually("an entry about the plan", async || {
        let page =
            ada.get(&format!("/api/audit-logs?action=planning.plan.created&resourceId={plan}")).await.expect(200);
        (page["total"] == 1).then(|| page["items"][0].clone())
    })
    .await;
    assert_eq!((&entry["source"], &entry["category"]), (&json!("planning"), &json!("ACTION")), "{entry}");
    assert_eq!(entry["userId"], json!(members::id(&ada)), "{entry}");
    let started = ada.post("/api/executions/execute", &json!({ "planId": plan })).await.expect(202);
    let execution = text(&started, "id");
    plans::reaches(&ada, &execution, &["completed"]).await;
    eventually("the end of the execution", async || {
        let page = ada.get("/api/audit-logs?action=execution.completed").await.expect(200);
        (page["total"] == 1).then_some(())
    })
    .await;
    eventually("the sign-in", async || {
        let page = ada.get("/api/audit-logs?category=ACCESS").await.expect(200);
        (page["total"].as_i64() > Some(0)).then_some(())
    })
    .await;
    let verdict = verify(&ada, json!({})).await;
    assert_eq!(verdict["valid"], true, "{verdict}");
    // What concerns no organization is a chain of its own, for the platform alone.
    let nobody = json!({"email": "nobody@example.com", "password": "a long guess of nobody's"});
    host.client().post("/api/auth/login", &nobody).await.problem(401, "UNAUTHORIZED");
    eventually("the sign-in of nobody", async || {
        let page = ada.get("/api/audit-logs?scope=GLOBAL&action=auth.*").await.expect(200);
        (page["total"].as_i64() > Some(0)).then_some(())
    })
    .await;
    let verdict = verify(&ada, json!({"scope": "GLOBAL"})).await;
    assert_eq!(verdict["valid"], true, "{verdict}");
    // The first organization is the platform's; another one's administrators are not.
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get("/api/audit-logs?scope=GLOBAL").await.problem(403, "FORBIDDEN");
    eve.post("/api/audit-logs/verification/verify", &json!({"scope": "GLOBAL"})).await.problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn checkpoints_are_made_by_hand_and_by_the_clock() {
    let services = Manifest::services().with("checkpoint = \"1h\"", "checkpoint = \"1s\"");
    let host = Host::with(services).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let entries: Vec<Value> = (0..50).map(|number| json!({"action": format!("crane.{number}")})).collect();
    let written = ada.post("/api/audit-logs/batch", &json!(entries)).await.expect(201);
    let last = &written["items"][49];
    let path = "/api/audit-logs/verification/checkpoints";
    let checkpoint = eventually("a checkpoint by the clock", async || {
        let list = ada.get(path).await.expect(200);
        let found = list["items"]
            .as_array()?
            .iter()
            .find(|item| item["status"] == "VERIFIED" && item["lastSequence"].as_i64() >= last["sequence"].as_i64())?;
        Some(found.clone())
    })
    .await;
    let again = ada
        .post(&format!("/api/audit-logs/verification/checkpoint/{}/verify", text(&checkpoint, "id")), &json!({}))
        .await;
    assert_eq!(again.expect(200)["status"], "VERIFIED");
    let made = ada.post("/api/audit-logs/verification/checkpoint", &json!({})).await.expect(201);
    assert_eq!(made["status"], "VERIFIED", "{made}");
    // What was kept elsewhere is believed more than the database.
    let anchor = json!({"anchor": {"sequence": last["sequence"], "hash": last["hash"]}});
    assert_eq!(verify(&ada, anchor).await["valid"], true);
    let other = json!({"anchor": {"sequence": last["sequence"], "hash": "0".repeat(64)}});
    let verdict = verify(&ada, other).await;
    assert_eq!((&verdict["valid"], &verdict["reason"]), (&json!(false), &json!("REWRITTEN")), "{verdict}");
    let beside = json!({"anchor": {"sequence": made["lastSequence"], "hash": "0".repeat(64)}});
    assert_eq!(verify(&ada, beside).await["reason"], "REWRITTEN", "also where there is a checkpoint");
    let eve = host.client().register("eve@example.com", "Reef").await;
    let foreign = format!("/api/audit-logs/verification/checkpoint/{}/verify", text(&made, "id"));
    eve.post(&foreign, &json!({})).await.problem(404, "NOT_FOUND");
}

/// An export that is finished: its path, and what it says of itself.
async fn exported(client: &Client, format: &str, filters: &Value) -> (String, Value) {
    let wanted = json!({"format": format, "filters": filters});
    let started = client.post("/api/audit-logs/export", &wanted).await.expect(202);
    let path = format!("/api/audit-logs/export/{}", text(&started, "id"));
    let done = eventually("the export", async || {
        let export = client.get(&path).await.expect(200);
        (export["status"] == "COMPLETED").then_some(export)
    })
    .await;
    (path, done)
}

/// Runs the script of the README on an export of the whole chain, as it is and with one letter changed. It needs python3.
async fn check_as_the_readme_says(ada: &Client) {
    let numbers =
        json!({"small": 0.000_02, "smaller": 0.000_000_1, "large": 1e20, "word": "Äpfel \u{7}\u{1f}\u{7f}\u{2028}"});
    ada.post("/api/audit-logs", &json!({"action": "crane.weighed", "metadata": numbers})).await.done(201);
    let readme = include_str!("../../components/logging/README.md");
    let (_, script) = readme.split_once("```python\n").expect("a script");
    let (script, _) = script.split_once("```").expect("its end");
    let (path, _) = exported(ada, "JSON", &json!({})).await;
    let rows = ada.get(&format!("{path}/download")).await.text();
    let folder = tempfile::tempdir().expect("a folder");
    for (rows, is_right) in [(rows.clone(), true), (rows.replacen("1e-7", "2e-7", 2), false)] {
        std::fs::write(folder.path().join("audit-logs.json"), rows).expect("written");
        let output = std::process::Command::new("python3").args(["-c", script]).current_dir(folder.path()).output();
        let output = output.expect("python3");
        assert_eq!(output.status.success(), is_right, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn exports_are_written_in_parts_and_fetched_whole() {
    let (host, ada) = host_with_ada().await;
    let member = members::bring(&host, &ada, "mo@example.com", "Member").await;
    for _ in 0..5 {
        let entries: Vec<Value> = (0..500)
            .map(|number| json!({"action": "crane.moved", "message": format!("=1+{number}, \"quoted\"")}))
            .collect();
        ada.post("/api/audit-logs/batch", &json!(entries)).await.done(201);
    }
    member.post("/api/audit-logs", &json!({"action": "crane.moved"})).await.done(201);
    let crane = json!({"action": "crane.*"});
    let export = async |client: &Client, format: &str| exported(client, format, &crane).await;
    let (path, done) = export(&ada, "CSV").await;
    assert_eq!((&done["totalRecords"], &done["progress"]), (&json!(2_501), &json!(1.0)), "{done}");
    let csv = ada.get(&format!("{path}/download")).await;
    assert!(csv.header("content-disposition").contains(".csv"), "{}", csv.header("content-disposition"));
    assert_eq!(csv.text().lines().count(), 2_502);
    assert!(csv.text().contains("\"'=1+7, \"\"quoted\"\"\""), "no cell is a formula");
    member.get(&path).await.problem(404, "NOT_FOUND");
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&format!("{path}/download")).await.problem(404, "NOT_FOUND");
    let (own, _) = export(&member, "JSON").await;
    let rows = member.get(&format!("{own}/download")).await.expect(200);
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    let (whole, _) = export(&ada, "JSON").await;
    let rows = ada.get(&format!("{whole}/download")).await.expect(200);
    let numbers: Vec<i64> = rows.as_array().into_iter().flatten().filter_map(|row| row["sequence"].as_i64()).collect();
    assert_eq!(numbers.len(), 2_501);
    assert!(numbers.is_sorted());
    // Anybody can check a whole one without Berth.
    check_as_the_readme_says(&ada).await;
    let gone = "UPDATE audit_exports SET expires_at = '2020-01-01T00:00:00.000Z'";
    assert!(host.store().change(gone).await >= 4);
    ada.get(&format!("{path}/download")).await.problem(410, "GONE");
    ada.delete(&path).await.done(204);
    ada.get(&format!("{path}/download")).await.problem(404, "NOT_FOUND");
    ada.post("/api/audit-logs/export", &json!({"format": "XML"})).await.problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn an_organization_says_what_is_kept_and_how_long() {
    let (_host, ada) = host_with_ada().await;
    let path = "/api/audit-logs/configuration";
    let defaults = ada.get(path).await.expect(200);
    assert_eq!((&defaults["captureIp"], &defaults["hashChainEnabled"]), (&json!(true), &json!(true)), "{defaults}");
    let set = json!({"captureUserAgent": false, "redactionPatterns": ["B-[0-9]{4}"]});
    assert_eq!(ada.put(path, &set).await.expect(200)["captureIp"], true);
    let wrong = ada.put(path, &json!({"redactionPatterns": ["("]})).await;
    wrong.problem(400, "VALIDATION_ERROR");
    assert_eq!(wrong.faulty_fields(), ["redactionPatterns[0]"]);
    let entry = json!({"action": "gate.opened", "message": "badge B-1234", "metadata": {"badge": "B-9999", "geolocation": "x"}});
    let entry = ada.post("/api/audit-logs", &entry).await.expect(201);
    assert_eq!((&entry["message"], &entry["userAgent"]), (&json!("badge [redacted]"), &Value::Null), "{entry}");
    assert_eq!(entry["metadata"], json!({"badge": "[redacted]"}));
    // Switched off, the chain goes on where it was when it is switched on again.
    ada.put(path, &json!({"hashChainEnabled": false})).await.done(200);
    assert_eq!(ada.post("/api/audit-logs", &json!({"action": "a"})).await.expect(201)["hash"], "");
    ada.put(path, &json!({"hashChainEnabled": true})).await.done(200);
    ada.post("/api/audit-logs", &json!({"action": "b"})).await.done(201);
    // What happened elsewhere meanwhile (her own registration, for one) may have been written down unchained too.
    let verdict = verify(&ada, json!({})).await;
    let entries = ada.get("/api/audit-logs?limit=100").await.expect(200);
    let entries = entries["items"].as_array().expect("entries").clone();
    let unchained: Vec<&str> =
        entries.iter().filter(|entry| entry["hash"] == "").filter_map(|entry| entry["action"].as_str()).collect();
    assert!(unchained.contains(&"a") && !unchained.contains(&"b"), "{entries:?}");
    assert_eq!((&verdict["valid"], &verdict["unchained"]), (&json!(true), &json!(unchained.len())), "{verdict}");
    ada.delete(path).await.done(204);
    assert_eq!(ada.get(path).await.expect(200)["redactionPatterns"], json!([]));
    assert!(ada.get("/api/audit-logs?action=audit.configuration.*").await.expect(200)["total"].as_i64() >= Some(3));
    // Policies.
    let policies = "/api/audit-logs/policies";
    for (body, field) in [
        (json!({"retentionDays": 29, "deleteAfterDays": 30}), "retentionDays"),
        (json!({"retentionDays": 30, "deleteAfterDays": 2_556}), "deleteAfterDays"),
        (json!({"retentionDays": 60, "deleteAfterDays": 30}), "deleteAfterDays"),
    ] {
        let answer = ada.post(policies, &body).await;
        answer.problem(400, "VALIDATION_ERROR");
        assert_eq!(answer.faulty_fields(), [field]);
    }
    let policy = json!({"category": "SECURITY", "retentionDays": 365, "deleteAfterDays": 365, "immutable": true});
    let policy_id = text(&ada.post(policies, &policy).await.expect(201), "id");
    ada.post(policies, &policy).await.problem(409, "CONFLICT");
    let path = format!("{policies}/{policy_id}");
    ada.put(&path, &json!({"immutable": false})).await.problem(409, "CONFLICT");
    ada.put(&path, &json!({"deleteAfterDays": 400})).await.done(200);
    ada.delete(&path).await.problem(409, "CONFLICT");
}

#[tokio::test]
async fn alert_rules_speak_of_what_they_are_about() {
    let (_host, ada) = host_with_ada().await;
    let rules = "/api/audit-logs/alerts";
    let missing = ada.post(rules, &json!({"name": "n", "type": "THRESHOLD", "conditions": {}})).await;
    missing.problem(400, "VALIDATION_ERROR");
    assert_eq!(missing.faulty_fields(), ["conditions.threshold"]);
    let pattern = json!({"name": "Crane fell", "type": "PATTERN", "conditions": {"action": "crane.*", "severity": ["CRITICAL"]},
        "notificationChannels": ["duty"]});
    let pattern = format!("{rules}/{}", text(&ada.post(rules, &pattern).await.expect(201), "id"));
    let threshold = json!({"name": "Many moves", "type": "THRESHOLD",
        "conditions": {"action": "crane.moved", "threshold": 3, "windowMinutes": 10_080, "groupBy": "user"}});
    let threshold = format!("{rules}/{}", text(&ada.post(rules, &threshold).await.expect(201), "id"));
    let count = async |path: &str| ada.get(path).await.expect(200)["triggerCount"].as_i64().unwrap_or(-1);
    ada.post("/api/audit-logs/batch", &json!([{"action": "crane.moved"}, {"action": "crane.moved"}])).await.done(201);
    assert_eq!((count(&pattern).await, count(&threshold).await), (0, 0));
    ada.post("/api/audit-logs", &json!({"action": "crane.moved", "severity": "CRITICAL"})).await.done(201);
    assert_eq!((count(&pattern).await, count(&threshold).await), (1, 1));
    ada.post("/api/audit-logs", &json!({"action": "crane.moved"})).await.done(201);
    assert_eq!((count(&pattern).await, count(&threshold).await), (1, 1), "once in a while");
    let evaluation = ada.post(&format!("{threshold}/evaluate"), &json!({})).await.expect(200);
    assert_eq!((&evaluation["triggered"], &evaluation["value"]), (&json!(true), &json!(4.0)), "{evaluation}");
    assert_eq!(count(&threshold).await, 1);
    ada.put(&pattern, &json!({"enabled": false})).await.done(200);
    ada.post("/api/audit-logs", &json!({"action": "crane.moved", "severity": "CRITICAL"})).await.done(201);
    assert_eq!(count(&pattern).await, 1, "a disabled rule is silent");
    // More than usual: nothing is usual of what never happened, and a few are no crowd.
    let anomaly = json!({"name": "Odd", "type": "ANOMALY", "conditions": {"action": "hook.*", "minimum": 3}});
    let anomaly = format!("{rules}/{}", text(&ada.post(rules, &anomaly).await.expect(201), "id"));
    let counts = [0, 0, 1, 1];
    for expected in counts {
        ada.post("/api/audit-logs", &json!({"action": "hook.lost"})).await.done(201);
        assert_eq!(count(&anomaly).await, expected);
    }
    // Every group of a batch is counted, however many there are.
    let each = json!({"name": "Each", "type": "THRESHOLD", "conditions": {"action": "gate.*", "threshold": 2, "groupBy": "action"}});
    let each = format!("{rules}/{}", text(&ada.post(rules, &each).await.expect(201), "id"));
    let batch: Vec<Value> = (0..59).map(|number| json!({"action": format!("gate.{}", number / 2)})).collect();
    ada.post("/api/audit-logs/batch", &json!(batch)).await.done(201);
    assert_eq!(count(&each).await, 29, "of thirty groups the last has one entry");
}

#[tokio::test]
async fn lines_of_a_project_are_there_for_who_sees_it() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let secret = json!({"name": "Secret", "visibility": "private"});
    let secret = text(&ada.post("/api/projects", &secret).await.expect(201), "id");
    let open = plans::project(&ada, "Harbour").await;
    let mut sent = ["of none", "of the open one", "of the secret one"].map(line);
    sent[1]["projectId"] = open.into();
    sent[2]["projectId"] = secret.as_str().into();
    assert_eq!(ada.post("/api/logs", &json!(sent)).await.expect(202)["accepted"], 3);
    for (client, count) in [(&ada, 3), (&bob, 2)] {
        for path in ["/api/logs?service=crane", "/api/logs/search?q=service:crane", "/api/logs/stats?service=crane"] {
            assert_eq!(client.get(path).await.expect(200)["total"], count, "{path}");
        }
        let grouped = client.get("/api/logs/aggregate?groupBy=projectId&service=crane").await.expect(200);
        assert_eq!(grouped["items"].as_array().map(Vec::len), Some(count), "{grouped}");
    }
    let found = ada.get(&format!("/api/logs?projectId={secret}")).await.expect(200);
    let path = format!("/api/logs/{}", text(&found["items"][0], "id"));
    ada.get(&path).await.done(200);
    bob.get(&path).await.problem(404, "NOT_FOUND");
    let followed = events(&bob, "/api/logs/tail?service=crane", "0", 2).await;
    let told: Vec<String> = followed.iter().map(|(_, line)| text(line, "message")).collect();
    assert_eq!(told, ["of none", "of the open one"]);
}
