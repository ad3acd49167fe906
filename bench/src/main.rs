//! Benchmarks: servers on one core, the load on another, taking turns, medians of several rounds.
//!
//! It starts the host as a user would and knows nothing of its inside.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the person at the terminal")]

mod hello;
mod load;
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("hello") => hello::measure(arguments.get(1..).unwrap_or_default()),
        Some("load") => load::main(arguments.get(1..).unwrap_or_default()),
        _ => Err(anyhow::anyhow!("there is the benchmark hello")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
