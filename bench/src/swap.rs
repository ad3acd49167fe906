//! `swap`: execution-service is replaced again and again while it is called, and this says what its callers noticed.
//!
//! Two parts: swaps under load with slow uploads and an open event stream, whose slowest answers are set beside those of a
//! quiet time in the same run; then swaps without a pause, over which memory, descriptors, threads and connections to the
//! database must stay where they were.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_tests::load::Report;
use berth_tests::{Client, Host, Load, Manifest, guests, plans};
use serde_json::json;

const CONNECTIONS: usize = 32;
const UPLOADS: usize = 4;
const STEADY: Duration = Duration::from_secs(15);
const SWAPS: usize = 200;
const SWAPS_WITHOUT_PAUSE: usize = 5_000;
/// How long a deploy may find another one running.
const TURN_PATIENCE: Duration = Duration::from_secs(10);
const TURN_PAUSE: Duration = Duration::from_millis(10);
/// What the host keeps for a while after its last work, as idle threads, is gone by then.
const SETTLED_AFTER: Duration = Duration::from_secs(15);
/// What may be more at the end than in the middle and at the beginning: memory by a share, everything else by a few.
const MEMORY_MARGIN: f64 = 0.05;
const COUNT_MARGIN: usize = 4;
/// The least time between two swaps under load: nobody deploys faster, and every build shall be called.
const BETWEEN: Duration = Duration::from_millis(100);
/// Every so often a build comes that was never seen before and has to be compiled.
const NEW_EVERY: usize = 20;

/// What is called while the service changes.
struct Scene {
    host: Host,
    ada: Client,
    execution_id: String,
}

/// `swap [swaps under load] [swaps without a pause]`.
pub(crate) async fn measure(arguments: &[String]) -> Result<()> {
    let number = |place: usize, default| arguments.get(place).map_or(Ok(default), |word| word.parse::<usize>());
    let swaps = number(0, SWAPS).context("swap takes a number of swaps")?;
    let further = number(1, SWAPS_WITHOUT_PAUSE).context("swap takes a second number of swaps")?;
    let scene = Scene::set().await;
    let (load, began) = (scene.load(), Instant::now());
    tokio::time::sleep(STEADY).await;
    let steady = load.stop().await;
    say("steady", &steady, began.elapsed());

    let stream = tokio::spawn(follow(scene.ada.clone(), scene.execution_id.clone()));
    let (load, began) = (scene.load(), Instant::now());
    let flips_us = scene.swap(swaps, BETWEEN).await?;
    let swapped = load.stop().await;
    say(&format!("{swaps} swaps"), &swapped, began.elapsed());
    stream.abort();
    if let Ok(Err(error)) = stream.await {
        return Err(error);
    }
    let ratio =
        swapped.latencies_us.value_at_quantile(0.99) as f64 / steady.latencies_us.value_at_quantile(0.99) as f64;
    println!("p99 during swaps is {ratio:.2} of the steady p99 (wanted: under 2)");
    println!("pointer flip: median {} us, longest {} us", middle(&flips_us), flips_us.iter().max().unwrap_or(&0));
    ensure!(steady.failures.is_empty() && swapped.failures.is_empty(), "{:#?}{:#?}", steady.failures, swapped.failures);

    scene.swap_and_stay_flat(further).await
}

impl Scene {
    /// A host with the services as they ship, and an execution that waits in the middle.
    async fn set() -> Self {
        let host = Host::with(Manifest::services()).start().await;
        let ada = host.client().register("ada@example.com", "Harbour").await;
        let plan_id = plans::ready_plan(&ada, &plans::many_steps(20)).await;
        let execution_id = plans::execute(&ada, &plan_id).await;
        ada.post(&format!("/api/executions/{execution_id}/pause"), &json!({})).await;
        plans::reaches(&ada, &execution_id, &["paused", "completed"]).await;
        Self { host, ada, execution_id }
    }

    fn load(&self) -> Load {
        let headers = format!("authorization: Bearer {}\r\n", self.ada.token());
        let path = format!("/api/executions/{}", self.execution_id);
        let upload = json!({ "reason": "words ".repeat(200) }).to_string();
        Load::new().getting(self.host.address(), CONNECTIONS, &path, &headers, |_| Ok(())).posting_slowly(
            self.host.address(),
            UPLOADS,
            &format!("{path}/pause"),
            &headers,
            &upload,
        )
    }

    /// Swaps without a pause, in two halves: what grows over the second one grows for ever.
    async fn swap_and_stay_flat(&self, swaps: usize) -> Result<()> {
        let mut moments = vec![Resources::of(&self.host).await];
        for half in [swaps / 2, swaps - swaps / 2] {
            let began = Instant::now();
            self.swap(half, Duration::ZERO).await?;
            println!("{half} swaps without a pause in {:.1} s", began.elapsed().as_secs_f64());
            moments.push(Resources::of(&self.host).await);
        }
        for (name, moment) in ["begin", "middle", "end"].iter().zip(&moments) {
            println!("{name:<8} {moment}");
        }
        let [begin, middle, end] = moments.as_slice() else { return Ok(()) };
        // The first half may still fill what has a bound, as the history and the pools.
        ensure!(end.is_flat_after(middle) && end.is_flat_after(begin), "it is not flat over {swaps} swaps");
        Ok(())
    }

    /// Two builds in turns, now and then one that has to be compiled; how long each switch took, in microseconds.
    async fn swap(&self, swaps: usize, between: Duration) -> Result<Vec<u64>> {
        let build = guests::bytes(&guests::plugin("execution-service"));
        let operator = self.host.operator();
        let mut flips_us = Vec::with_capacity(swaps);
        for number in 0..swaps {
            let is_new = !between.is_zero() && number % NEW_EVERY == 0;
            let variant = if is_new { 1_000 + number } else { number % 2 };
            let component = guests::variant(&build, u32::try_from(variant)?);
            let path = "/api/admin/plugins/execution-service/deploy";
            let began = Instant::now();
            let answer = loop {
                let request = operator.request("POST".parse()?, path).header("content-type", "application/wasm");
                let answer = operator.send(request.body(component.clone())).await;
                // With a database that hosts share, this one may be looking at what was recorded a moment ago.
                if answer.status != 409 || began.elapsed() > TURN_PATIENCE {
                    break answer;
                }
                tokio::time::sleep(TURN_PAUSE).await;
            };
            ensure!(answer.status == 202, "swap {number}: {}", answer.text());
            flips_us.push(answer.json().get("flipUs").and_then(|value| value.as_u64()).context("no flipUs")?);
            tokio::time::sleep(between).await;
        }
        Ok(flips_us)
    }
}

/// Reads the execution's event stream as an EventSource would: whenever a build goes and says so, it connects again. A
/// stream that breaks without a word is an error.
async fn follow(ada: Client, execution_id: String) -> Result<()> {
    loop {
        let path = format!("/api/executions/{execution_id}/stream");
        let response = ada.request("GET".parse()?, &path).send().await.context("no event stream")?;
        ensure!(response.status() == 200, "the event stream answered {}", response.status());
        let text = response.text().await.context("the event stream was reset")?;
        let last = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
        ensure!(last.contains("event: error") || last.contains("execution."), "it ended without a word: {last}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a host holds at one moment.
struct Resources {
    resident_mib: f64,
    descriptors: usize,
    threads: usize,
    /// To PostgreSQL; none where the database is a file.
    connections: Option<usize>,
}

impl Resources {
    /// Once the host has nothing to do.
    async fn of(host: &Host) -> Self {
        tokio::time::sleep(SETTLED_AFTER).await;
        let (descriptors, threads) = host.descriptors_and_threads();
        let connections = host.space().map(|space| {
            let asked =
                "select pid from pg_stat_activity where datname = current_database() and application_name = 'berth'";
            space.ask(asked).iter().filter(|line| !line.is_empty()).count()
        });
        Self { resident_mib: host.resident_bytes() as f64 / f64::from(1 << 20), descriptors, threads, connections }
    }

    fn is_flat_after(&self, earlier: &Self) -> bool {
        let counts = [
            (earlier.descriptors, self.descriptors),
            (earlier.threads, self.threads),
            (earlier.connections.unwrap_or(0), self.connections.unwrap_or(0)),
        ];
        self.resident_mib <= earlier.resident_mib * (1.0 + MEMORY_MARGIN)
            && counts.iter().all(|(before, now)| *now <= before + COUNT_MARGIN)
    }
}

impl std::fmt::Display for Resources {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { resident_mib, descriptors, threads, connections } = self;
        write!(formatter, "resident {resident_mib:.1} MiB, {descriptors} descriptors, {threads} threads, ")?;
        match connections {
            Some(connections) => write!(formatter, "{connections} connections to PostgreSQL"),
            None => write!(formatter, "no connections: the database is a file"),
        }
    }
}

pub(crate) fn say(name: &str, report: &Report, elapsed: Duration) {
    let rate = report.requests as f64 / elapsed.as_secs_f64();
    let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|quantile| report.latencies_us.value_at_quantile(quantile));
    println!(
        "{name:<24} {:>9} answers, {rate:>7.0}/s, p50 {p50} us, p99 {p99} us, longest {longest} us, {} failed",
        report.requests,
        report.failures.len()
    );
}

fn middle(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
