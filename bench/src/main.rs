//! Benchmarks. What is compared takes turns or comes from one run: on a shared machine only ratios mean something.
//!
//! It starts the host as a user would and knows nothing of its inside.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the person at the terminal")]

mod dev;
mod hello;
mod ingest;
mod load;
mod neighbour;
mod outbox;
mod restart;
mod server;
mod spread;
mod swap;
mod vectors;
mod workflow;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let outcome = match arguments.first().map(String::as_str) {
        Some("hello") => hello::measure(rest),
        Some("load") => load::main(rest),
        Some("swap") => on_runtime(swap::measure(rest)),
        Some("neighbour") => on_runtime(neighbour::measure()),
        Some("restart") => on_runtime(restart::measure()),
        Some("outbox") => on_runtime(outbox::measure(rest)),
        Some("ingest") => on_runtime(ingest::measure(rest)),
        Some("vectors") => on_runtime(vectors::measure(rest)),
        Some("spread") => on_runtime(spread::measure(rest)),
        Some("dev") => on_runtime(dev::measure(rest)),
        Some("workflow") => on_runtime(workflow::measure(rest)),
        _ => Err(anyhow::anyhow!(
            "there are hello, swap, neighbour, restart, outbox, ingest, vectors, workflow, dev and spread"
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Two threads, as the machine has cores: the load shares them with the host.
fn on_runtime(measurement: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measurement)
}
