//! `neighbour`: how long hello's answers take while another plugin traps, loops, eats memory or floods handles, beside the
//! same in a quiet time of the same run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use berth_tests::{Client, Host, Load, Manifest, manifest};

use crate::swap::say;

const CONNECTIONS: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);
/// Callers of the plugin that misbehaves.
const TROUBLEMAKERS: usize = 8;
const PART: Duration = Duration::from_secs(8);
const MISBEHAVIOURS: [&str; 5] = ["trap", "spin", "grow", "handles", "recurse"];

pub(crate) async fn measure() -> Result<()> {
    let host = Host::with(Manifest::of([manifest::hello(), manifest::unruly()])).start().await;
    let quiet = run(&host, None).await?;
    for what in MISBEHAVIOURS {
        let p99 = run(&host, Some(what)).await?;
        println!("  p99 of hello beside {what}: {:.2} of its own (wanted: under 3)", p99 as f64 / quiet as f64);
    }
    Ok(())
}

/// The p99 of hello's answers in microseconds.
async fn run(host: &Host, misbehaviour: Option<&'static str>) -> Result<u64> {
    let is_over = Arc::new(AtomicBool::new(false));
    let troublemakers: Vec<_> = misbehaviour
        .into_iter()
        .flat_map(|what| (0..TROUBLEMAKERS).map(move |_| what))
        .map(|what| tokio::spawn(trouble(host.client(), what, is_over.clone())))
        .collect();
    let load = Load::new().getting_calmly(host.address(), CONNECTIONS, "/api/hello", PAUSE);
    let began = Instant::now();
    tokio::time::sleep(PART).await;
    let report = load.stop().await;
    is_over.store(true, Ordering::Relaxed);
    for troublemaker in troublemakers {
        troublemaker.await?;
    }
    say(misbehaviour.unwrap_or("quiet"), &report, began.elapsed());
    ensure!(report.failures.is_empty(), "{:#?}", report.failures);
    Ok(report.latencies_us.value_at_quantile(0.99))
}

async fn trouble(client: Client, what: &str, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::Relaxed) {
        // Refused, trapped or timed out: what it is, the tests say.
        client.get(&format!("/api/unruly/{what}")).await;
    }
}
