//! Much data into the services that take it in: how many records a second, what a look at them costs then, what a record takes on the disk,
//! and whether every figure is what adding them up gives.
#![expect(clippy::indexing_slicing, reason = "what is not in an answer is null, and fails the check")]

mod vectors;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_tests::{Client, Host, Manifest};
use chrono::Utc;
use serde_json::{Value, json};

/// Records of one request; the services take no more.
const AT_ONCE: u64 = 1_000;
/// Requests at a time.
const WRITERS: u64 = 2;
/// How often a question is asked.
const QUESTIONS: usize = 20;
/// A price in micro-cents of a thousand units.
const PRICE: u64 = 777;
const PROJECTS: u64 = 5;
const MODELS: u64 = 3;

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Usage,
    Lines,
    Spans,
}

/// `ingest [usage|lines|spans|vectors] [count]`; the first three with their usual counts where nothing is said.
pub(crate) async fn measure(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (kinds, count): (Vec<Kind>, _) = match words.as_slice() {
        ["vectors"] => return vectors::measure(vectors::USUAL).await,
        ["vectors", count] => return vectors::measure(count.parse().context("how many vectors?")?).await,
        [] => (vec![Kind::Usage, Kind::Lines, Kind::Spans], None),
        [name] => (vec![Kind::of(name)?], None),
        [name, count] => (vec![Kind::of(name)?], Some(count.parse::<u64>().context("how many records?")?)),
        _ => anyhow::bail!("ingest takes usage, lines, spans or vectors, and a count"),
    };
    for kind in kinds {
        let count = count.unwrap_or_else(|| kind.usual()).next_multiple_of(AT_ONCE * WRITERS);
        kind.measure(count).await?;
    }
    Ok(())
}

impl Kind {
    fn of(name: &str) -> Result<Self> {
        match name {
            "usage" => Ok(Self::Usage),
            "lines" => Ok(Self::Lines),
            "spans" => Ok(Self::Spans),
            _ => anyhow::bail!("there are usage, lines, spans and vectors, not {name}"),
        }
    }

    fn usual(self) -> u64 {
        match self {
            Self::Usage => 1_000_000,
            Self::Lines | Self::Spans => 100_000,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage events",
            Self::Lines => "log lines",
            Self::Spans => "spans",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Usage => "/api/usage/events",
            Self::Lines => "/api/logs",
            Self::Spans => "/api/observability/v1/traces",
        }
    }

    /// One request's worth of records.
    fn records(self, from: u64) -> Value {
        let numbers = from..from + AT_ONCE;
        match self {
            Self::Usage => numbers.map(usage).collect(),
            Self::Lines => numbers.map(line).collect(),
            Self::Spans => {
                let name = json!([{"key": "service.name", "value": {"stringValue": "crane"}}]);
                let spans: Vec<Value> = numbers.map(span).collect();
                json!({"resourceSpans": [{"resource": {"attributes": name}, "scopeSpans": [{"spans": spans}]}]})
            }
        }
    }

    async fn measure(self, count: u64) -> Result<()> {
        let host = Host::with(Manifest::services()).start().await;
        let client = host.client().register("ada@example.com", "Harbour").await;
        if self == Self::Usage {
            let price = json!({"categoryCode": "ai.completion", "pricingModel": "PER_THOUSAND", "unitPriceMicro": PRICE,
                "effectiveFrom": "2026-01-01T00:00:00Z"});
            client.post("/api/usage/pricing", &price).await.done(201);
        }
        let before = stored(&host)?;
        let begin = Instant::now();
        let writers: Vec<_> = (0..WRITERS).map(|lane| tokio::spawn(write(client.clone(), self, count, lane))).collect();
        for writer in writers {
            writer.await??;
        }
        let took = begin.elapsed();
        let bytes = stored(&host)?.saturating_sub(before);
        println!("{count} {}, {WRITERS} writers, {AT_ONCE} in a request", self.name());
        println!("  taken in   {:>8.1} s  {:>8.0} a second", took.as_secs_f64(), count as f64 / took.as_secs_f64());
        println!("  stored     {:>8.0} bytes each", bytes as f64 / count as f64);
        match self {
            Self::Usage => usage_adds_up(&client, count).await,
            Self::Lines => lines_are_found(&client, count).await,
            Self::Spans => spans_are_found(&client, count).await,
        }
    }
}

fn usage(number: u64) -> Value {
    json!({"eventId": format!("e{number}"), "categoryCode": "ai.completion", "metrics": {"totalTokens": quantity(number)},
        "dimensions": {"model": format!("m{}", number % MODELS)}, "projectId": format!("p{}", number % PROJECTS)})
}

fn quantity(number: u64) -> u64 {
    number % 2_003
}

fn line(number: u64) -> Value {
    let level = ["debug", "info", "info", "warn", "error"][usize::try_from(number % 5).unwrap_or(0)];
    json!({"level": level, "service": format!("crane{}", number % 7), "context": {"orderId": format!("o{}", number % 997)},
        "message": format!("move {number} of hook {} lifted container {} onto the quay", number % 31, number % 4_999)})
}

/// Ten spans make a trace.
fn span(number: u64) -> Value {
    let start = Utc::now().timestamp_nanos_opt().unwrap_or_default();
    let parent = if number.is_multiple_of(10) { String::new() } else { format!("{:016x}", number - number % 10 + 1) };
    json!({"traceId": format!("{:032x}", number / 10 + 1), "spanId": format!("{:016x}", number + 1), "parentSpanId": parent,
        "name": format!("step {}", number % 10), "kind": 2, "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": (start + 1_000_000).to_string(), "attributes": [{"key": "http.route", "value": {"stringValue": "/moves"}}]})
}

async fn write(client: Client, kind: Kind, count: u64, lane: u64) -> Result<()> {
    let share = count / WRITERS;
    let mut from = lane * share;
    while from < (lane + 1) * share {
        let answer = client.post(kind.path(), &kind.records(from)).await;
        match answer.status {
            200 | 202 => from += AT_ONCE,
            503 => tokio::time::sleep(Duration::from_millis(100)).await,
            status => anyhow::bail!("{status}: {}", answer.text()),
        }
    }
    Ok(())
}

/// Sums of the service beside sums made here, record by record.
async fn usage_adds_up(client: &Client, count: u64) -> Result<()> {
    let (mut tokens, mut cost, mut by_model) = (0, 0, vec![0; usize::try_from(MODELS)?]);
    for number in 0..count {
        tokens += quantity(number);
        cost += quantity(number) * PRICE / 1_000;
        by_model[usize::try_from(number % MODELS)?] += quantity(number);
    }
    let question = json!({"from": "2026-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z", "dimensionKey": "model", "groupBy": ["dimension"]});
    let all = json!({"from": "2026-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z", "groupBy": ["project"]});
    let answer = client.post("/api/usage/query", &all).await.expect(200);
    ensure!(
        answer["total"]["metrics"]["totalTokens"].as_f64() == Some(tokens as f64),
        "{tokens} tokens, but {}",
        answer["total"]
    );
    ensure!(answer["total"]["totalCostMicro"].as_u64() == Some(cost), "a cost of {cost}, but {}", answer["total"]);
    let models = client.post("/api/usage/query", &question).await.expect(200);
    for (index, expected) in by_model.iter().enumerate() {
        let found = &models["items"][index]["metrics"]["totalTokens"];
        ensure!(found.as_f64() == Some(*expected as f64), "model {index} used {expected}, but {found}");
    }
    let median = asked(async || client.post("/api/usage/query", &all).await.done(200)).await;
    println!(
        "  summed up  {:>8.1} ms (median); tokens, cost and each model as adding up the events gives",
        milliseconds(median)
    );
    Ok(())
}

async fn lines_are_found(client: &Client, count: u64) -> Result<()> {
    for query in ["q=container+4321", "q=level:error+context.orderId:o17", "service=crane3&minLevel=warn"] {
        let path = format!("/api/logs/search?{query}");
        let found = client.get(&path).await.expect(200);
        ensure!(
            found["total"].as_u64().is_some_and(|total| total > 0 && total < count),
            "{query} finds {}",
            found["total"]
        );
        let median = asked(async || client.get(&path).await.done(200)).await;
        println!("  {query:<36} {:>6.1} ms (median), {} found", milliseconds(median), found["total"]);
    }
    Ok(())
}

async fn spans_are_found(client: &Client, count: u64) -> Result<()> {
    let trace = format!("/api/observability/traces/{:032x}", count / 20);
    let tree = client.get(&trace).await.expect(200);
    ensure!(tree["spanCount"].as_u64() == Some(10), "a trace of ten spans is {tree}");
    for path in [trace.as_str(), "/api/observability/traces?service=crane", "/api/observability/service-map"] {
        let median = asked(async || client.get(path).await.done(200)).await;
        println!("  {path:<72} {:>6.1} ms (median)", milliseconds(median));
    }
    Ok(())
}

/// How long a question usually takes.
async fn asked(mut question: impl AsyncFnMut()) -> Duration {
    let mut times = Vec::new();
    for _ in 0..QUESTIONS {
        let begin = Instant::now();
        question().await;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    times[QUESTIONS / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Bytes of the database.
fn stored(host: &Host) -> Result<u64> {
    if let Some(space) = host.space() {
        let answer = space.ask("select pg_database_size(current_database())");
        return answer.first().context("no size")?.trim().parse().context("a size is a number");
    }
    let size = |name: &str| std::fs::metadata(Path::new(&host.data()).join(name)).map_or(0, |file| file.len());
    Ok(size("berth.db") + size("berth.db-wal"))
}
