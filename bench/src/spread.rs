//! `spread`: a deploy on one of three hosts, and how long after its answer it is live on all of them.
//!
//! Hosts with folders of their own on one PostgreSQL, Redis and RabbitMQ, as in production, but on one machine: they compile
//! a new build at the same time and share its processors.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_tests::{Host, Manifest, Space, Urls, guests};

const HOSTS: usize = 3;
/// Deploys where nothing is said: half of them builds that no host has seen, half that every host has compiled.
const DEPLOYS: usize = 20;
/// What is promised.
const WANTED: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// `spread [deploys]`.
pub(crate) async fn measure(arguments: &[String]) -> Result<()> {
    let deploys =
        arguments.first().map_or(Ok(DEPLOYS), |word| word.parse()).context("spread takes a number of deploys")?;
    let space = Space::on(Urls::given());
    let mut hosts = Vec::with_capacity(HOSTS);
    for _ in 0..HOSTS {
        hosts.push(Host::with(Manifest::hello()).on(&space).start().await);
    }
    let (first, next) = (guests::bytes(&guests::plugin("hello")), guests::bytes(&guests::fixture("hello-next")));
    let (mut new, mut known) = (Vec::new(), Vec::new());
    for number in 0..deploys {
        // Version 2 is always a build of its own, version 1 always the first one.
        let is_new = number % 2 == 0;
        let (component, version) =
            if is_new { (guests::variant(&next, u32::try_from(number)?), "2") } else { (first.clone(), "1") };
        let host = hosts.get(number % HOSTS).context("a host")?;
        deploy(host, &component).await?;
        let took = until_all_answer(&hosts, version).await?;
        let times = if is_new { &mut new } else { &mut known };
        times.push(took);
    }
    for (name, times) in [("new builds", &mut new), ("known builds", &mut known)] {
        times.sort_unstable();
        let (middle, longest) = (times.get(times.len() / 2), times.last());
        println!(
            "{name:<13} {} deploys, live on {HOSTS} hosts after a median of {:?}, at most {:?} (wanted: under {WANTED:?})",
            times.len(),
            middle.copied().unwrap_or_default(),
            longest.copied().unwrap_or_default()
        );
    }
    let longest = new.last().max(known.last()).copied().unwrap_or_default();
    ensure!(longest < WANTED, "a deploy took {longest:?} to reach every host");
    Ok(())
}

/// Again while the host still loads what another one deployed.
async fn deploy(host: &Host, component: &[u8]) -> Result<()> {
    let (operator, began) = (host.operator(), Instant::now());
    loop {
        let request = operator.request("POST".parse()?, "/api/admin/plugins/hello/deploy?watch=off");
        let request = request.header("content-type", "application/wasm");
        let answer = operator.send(request.body(component.to_vec())).await;
        if matches!(answer.status, 200 | 202) {
            return Ok(());
        }
        ensure!(answer.status == 409 && began.elapsed() < PATIENCE, "{}: {}", answer.status, answer.text());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How long it takes until every host answers with this version.
async fn until_all_answer(hosts: &[Host], version: &str) -> Result<Duration> {
    let began = Instant::now();
    for host in hosts {
        let client = host.client();
        while client.get("/api/hello").await.json().get("version").and_then(|value| value.as_str()) != Some(version) {
            ensure!(began.elapsed() < PATIENCE, "version {version} did not reach every host");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(began.elapsed())
}
