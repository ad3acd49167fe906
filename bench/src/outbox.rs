//! Events through the outbox to RabbitMQ and into a consumer: how many a second, how late, and whether each took effect once.
//!
//! Against the servers that `cargo xtask bench outbox` finds or starts; one host, PostgreSQL and RabbitMQ on this machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_tests::{Host, Manifest, Space, Urls, manifest};
use serde_json::{Value, json};

/// Events where nothing is said.
const EVENTS: u64 = 100_000;
/// Events of one request, which are published in one transaction.
const AT_ONCE: u64 = 100;
/// Requests at a time.
const PUBLISHERS: u64 = 2;
/// How long the consumer may go on without a new event.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// `outbox [events]`.
pub(crate) async fn measure(arguments: &[String]) -> Result<()> {
    let events = arguments.first().map(|text| text.parse()).transpose().context("how many events?")?;
    let events: u64 = events.unwrap_or(EVENTS).next_multiple_of(AT_ONCE * PUBLISHERS);
    let space = Space::on(Urls::given());
    let host = Host::with(Manifest::of([manifest::ledger()])).on(&space).start().await;
    let begin = Instant::now();
    let publishers: Vec<_> = (0..PUBLISHERS).map(|lane| tokio::spawn(publish(host.client(), events, lane))).collect();
    for publisher in publishers {
        publisher.await??;
    }
    let published = begin.elapsed();
    let figures = until_all_are_noted(&host, events).await?;
    let noted = begin.elapsed();
    let number = |name: &str| figures.get(name).and_then(|value| value.as_u64()).unwrap_or(0);
    let rate = |time: Duration| (events as f64 / time.as_secs_f64()).round();
    println!("events       {events}, {PUBLISHERS} publishers, {AT_ONCE} in a transaction");
    println!("published    {:>8.1} s  {:>8} a second", published.as_secs_f64(), rate(published));
    println!("taken in     {:>8.1} s  {:>8} a second", noted.as_secs_f64(), rate(noted));
    println!("lag          median {} ms, most {} ms", number("lagMsMedian"), number("lagMsMax"));
    println!(
        "effects      {} of {} different events, {} out of order",
        number("entries"),
        number("events"),
        number("late")
    );
    ensure!(number("entries") == events && number("events") == events, "not every event took effect exactly once");
    ensure!(number("late") == 0, "events of one aggregate came out of order");
    Ok(())
}

async fn publish(client: berth_tests::Client, events: u64, lane: u64) -> Result<()> {
    let share = events / PUBLISHERS;
    // A lane's numbers are of aggregates of its own, since the ledger looks at their order.
    let mut from = lane * share;
    while from < (lane + 1) * share {
        let body = json!({ "from": from, "count": AT_ONCE, "lane": lane });
        let answer = client.post("/ledger/publish", &body).await;
        match answer.status {
            200 => from += AT_ONCE,
            503 => tokio::time::sleep(Duration::from_millis(100)).await,
            status => anyhow::bail!("{status}: {}", answer.text()),
        }
    }
    Ok(())
}

async fn until_all_are_noted(host: &Host, events: u64) -> Result<Value> {
    let (mut noted, mut since) = (0, Instant::now());
    loop {
        let answer = host.client().get("/ledger").await;
        if answer.status == 200 {
            let figures = answer.json();
            let now = figures.get("events").and_then(|value| value.as_u64()).unwrap_or(0);
            if now >= events {
                return Ok(figures);
            }
            if now > noted {
                (noted, since) = (now, Instant::now());
            }
        }
        ensure!(since.elapsed() < PATIENCE, "only {noted} of {events} events were taken in");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
