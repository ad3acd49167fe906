//! The audit log at its ends: what was taken away or put in there, and what retention takes. Rows are forged in the database of a
//! stopped host, which needs python3.

use std::process::Command;

use berth_tests::answer::text;
use berth_tests::{Client, Host, Manifest, Stopped, eventually};
use serde_json::{Value, json};

async fn verify(client: &Client, question: Value) -> Value {
    client.post("/api/audit-logs/verification/verify", &question).await.expect(200)
}

/// Runs a script of Python on the database of a stopped host; `c` is the connection, `a` the arguments.
fn tamper(stopped: &Stopped, script: &str, arguments: &[&str]) {
    let begin = "import datetime,hashlib,json,sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\na=sys.argv[2:]\n";
    let whole = format!("{begin}{script}\nc.commit()\n");
    let mut python = Command::new("python3");
    let status = python.args(["-c", &whole]).arg(stopped.data().join("berth.db")).args(arguments).status();
    assert!(status.is_ok_and(|status| status.success()), "{script}");
}

#[tokio::test]
async fn rows_that_were_taken_away_or_put_in_are_found_at_the_ends_too() {
    let host = Host::with(Manifest::services()).embedded().start().await;
    let mut chains: Vec<(String, Value)> = Vec::new();
    for name in ["after", "cut", "kept", "alone"] {
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
    // A row that nobody wrote, far behind the last one: the chain itself does not know of it.
    let copy = "n=[r[1] for r in c.execute('PRAGMA table_info(audit_logs)')]\n\
        r=dict(zip(n,c.execute('SELECT * FROM audit_logs WHERE chain=? ORDER BY sequence DESC',a).fetchone()))\n\
        r.update(id='forged',sequence=r['sequence']+1000)\n\
        c.execute('INSERT INTO audit_logs (%s) VALUES (%s)'%(','.join('\"%s\"'%m for m in n),','.join('?'*len(n))),[r[m] for m in n])";
    tamper(&stopped, copy, &[&chains[0].0]);
    // The end is gone, and the chain was told that it never had one.
    let cut = "s,h=c.execute('SELECT sequence,hash FROM audit_logs WHERE chain=? ORDER BY sequence DESC LIMIT 1 OFFSET 20',a).fetchone()\n\
        c.execute('DELETE FROM audit_logs WHERE chain=? AND sequence>?',a+[s])\n\
        c.execute('UPDATE audit_chains SET last_sequence=?,last_hash=? WHERE chain=?',[s,h]+a)";
    tamper(&stopped, cut, &[&chains[1].0]);
    tamper(&stopped, cut, &[&chains[2].0]);
    tamper(&stopped, "c.execute('DELETE FROM audit_chains WHERE chain=?',a)", &[&chains[3].0]);
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
}

/// A chain of entries that are a hundred days old, hashed as the README says.
const OLD_CHAIN: &str = r#"
chain, count = a[0], int(a[1])
at = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(days=100)
moment, millis = at.strftime("%Y-%m-%dT%H:%M:%S.000Z"), int(at.timestamp() * 1000)
names = [r[1] for r in c.execute("PRAGMA table_info(audit_logs)")]
for table in ("audit_logs", "audit_hash_checkpoints"):
    c.execute(f"DELETE FROM {table} WHERE chain = ?", [chain])
previous = ""
rows = []
for number in range(1, count + 1):
    row = {"id": f"old-{number}", "organizationId": chain, "createdBy": None, "chain": chain, "sequence": number, "timestamp": moment,
        "timeMs": millis, "receivedAt": moment, "receivedMs": millis, "userId": None, "sessionId": None, "ipAddress": None,
        "userAgent": None, "action": "crane.moved", "category": "ACTION", "severity": "INFO", "resourceType": None,
        "resourceId": None, "message": "Äpfel", "metadata": "{}", "source": "api", "correlationId": None}
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256((previous + text).encode()).hexdigest()
    stored = {"".join("_" + l.lower() if l.isupper() else l for l in name): value for name, value in row.items()}
    stored |= {"previous_hash": previous or None, "hash": digest}
    previous = digest
    rows.append([stored[name] for name in names])
places = ",".join("?" * len(names))
c.executemany(f"INSERT INTO audit_logs ({','.join(chr(34) + name + chr(34) for name in names)}) VALUES ({places})", rows)
c.execute("UPDATE audit_chains SET last_sequence = ?, last_hash = ?, pruned_sequence = 0, pruned_hash = '' WHERE chain = ?",
    [count, previous, chain])
c.execute("INSERT INTO audit_hash_checkpoints (id, organization_id, created_at, updated_at, version, chain, checkpoint_timestamp, last_log_id, "
    "last_sequence, last_hash, log_count, status) VALUES ('old', ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, 'VERIFIED')",
    [chain, moment, moment, chain, moment, f"old-{count}", count, previous, count])
"#;

#[tokio::test]
async fn what_is_too_old_goes_up_to_a_checkpoint_and_the_chain_stays_whole() {
    let host = Host::with(Manifest::services()).embedded().start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    ada.post("/api/audit-logs", &json!({"action": "crane.moved"})).await.done(201);
    let policy = json!({"deleteAfterDays": 90, "retentionDays": 30});
    ada.post("/api/audit-logs/policies", &policy).await.done(201);
    let immutable = json!({"category": "SECURITY", "retentionDays": 30, "deleteAfterDays": 30, "immutable": true});
    ada.post("/api/audit-logs/policies", &immutable).await.done(201);
    let harbour = text(&ada.account["organization"], "id");
    let stopped = host.stop().await;
    // More at once than one step of retention takes, where checkpoints are close together.
    tamper(&stopped, OLD_CHAIN, &[&harbour, "50500"]);
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
    assert_eq!(told["metadata"], json!({"upTo": 50_500, "rows": 50_500}), "{told}");
    let left = verify(&ada, json!({})).await;
    assert_eq!((&left["valid"], &left["isComplete"]), (&json!(true), &json!(true)), "{left}");
    assert_eq!(left["fromSequence"], 50_501, "{left}");
    ada.get(&format!("/api/audit-logs/{new}")).await.done(200);
    ada.get("/api/audit-logs/old-1").await.problem(404, "NOT_FOUND");
}
