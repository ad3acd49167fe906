//! Many runs of a workflow of ten steps: how many a second, and what a step costs beside a write of the same database.
#![expect(clippy::indexing_slicing, reason = "what is not in an answer is null, and fails the check")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_tests::{Host, Manifest, workflows};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, PgConnection};

/// Runs where nothing is said.
const RUNS: u64 = 1_000;
const STEPS: usize = 10;
/// Rows that are written one by one, each in a transaction of its own, to know what a write costs.
const WRITES: u32 = 1_000;
/// How long no run may come to its end.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// `workflow [runs]`.
pub(crate) async fn measure(arguments: &[String]) -> Result<()> {
    let count = arguments.first().map(|text| text.parse()).transpose().context("how many runs?")?.unwrap_or(RUNS);
    let host = Host::with(Manifest::services()).start().await;
    let write = a_write(&host).await?;
    let client = host.client().register("ada@example.com", "Harbour").await;
    let steps: Vec<Value> = (0..STEPS)
        .map(|number| {
            let waits_for: Vec<String> = number.checked_sub(1).map(|before| format!("s{before}")).into_iter().collect();
            json!({"id": format!("s{number}"), "type": "action", "action": "transform", "dependencies": waits_for, "input": {"value": number}})
        })
        .collect();
    let id = workflows::active(&client, workflows::named("Ten steps", json!(steps))).await;
    let begin = Instant::now();
    for _ in 0..count {
        workflows::execute(&client, &id, json!({})).await;
    }
    let started = begin.elapsed();
    let (mut completed, mut since) = (0, Instant::now());
    while completed < count {
        let page = client.get(&format!("/api/workflows/{id}/runs?status=completed&limit=1")).await.expect(200);
        let now = page["total"].as_u64().context("no total")?;
        if now > completed {
            (completed, since) = (now, Instant::now());
        }
        ensure!(since.elapsed() < PATIENCE, "only {completed} of {count} runs came to their end");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let took = begin.elapsed();
    let all = client.get(&format!("/api/workflows/{id}/runs?limit=1")).await.expect(200);
    ensure!(all["total"].as_u64() == Some(count), "{count} runs were started, and there are {}", all["total"]);
    let step = took.as_secs_f64() / (count as f64 * STEPS as f64);
    println!("{count} runs of {STEPS} steps, one client starts them one by one");
    println!("  started    {:>8.1} s", started.as_secs_f64());
    println!("  completed  {:>8.1} s  {:>6.1} runs a second", took.as_secs_f64(), count as f64 / took.as_secs_f64());
    println!("  a step     {:>8.2} ms, a write {:.2} ms: {:.1} writes' time", step * 1e3, write * 1e3, step / write);
    Ok(())
}

/// How many seconds this database takes to write a row durably, as the host has it set.
async fn a_write(host: &Host) -> Result<f64> {
    const MAKE: &str = "CREATE TABLE writes (id BIGINT PRIMARY KEY, text TEXT NOT NULL)";
    const WRITE: &str = "INSERT INTO writes (id, text) VALUES ($1, 'a row as long as a short message is')";
    let begin;
    if let Some(space) = host.space() {
        let mut connection = PgConnection::connect(&space.database_url()).await?;
        sqlx::raw_sql(MAKE).execute(&mut connection).await?;
        begin = Instant::now();
        for number in 0..WRITES {
            sqlx::query(WRITE).bind(i64::from(number)).execute(&mut connection).await?;
        }
    } else {
        // A file beside the host's own: on the same disk, in nobody's way.
        let options = SqliteConnectOptions::new().filename(host.data().join("writes.db")).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let mut connection = options.connect().await?;
        sqlx::raw_sql(MAKE).execute(&mut connection).await?;
        begin = Instant::now();
        for number in 0..WRITES {
            sqlx::query(WRITE).bind(i64::from(number)).execute(&mut connection).await?;
        }
    }
    Ok(begin.elapsed().as_secs_f64() / f64::from(WRITES))
}
