//! `cargo xtask`: everything one does in this repository besides writing code.
//!
//! It must never be needed to run a built host: it builds, tests, checks and scaffolds, and nothing in the product knows it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the person at the terminal")]

mod bench;
mod browser;
mod build;
mod ci;
mod fuzz;
mod pgvector;
mod promtool;
mod scaffold;
mod servers;
mod test;
mod tidy;
mod vendor;
mod workspace;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <command>

  run [berth run flags]       build components and host, and start the host with plugins.toml
  build [plugin…]             components to target/plugins/, test guests to target/fixtures/, host to target/release/berth
  test [--embedded] [filter]  build, then unit tests, then the promises against a real host
                              --servers: the promises once more on PostgreSQL, Redis and RabbitMQ
                              --embedded: without PostgreSQL, Redis and RabbitMQ
  tidy                        the rules of the house that no compiler checks
  new <plugin>                a new plugin's crate, and the entry for plugins.toml
  vendor-wit                  copy the WASI contracts of the wasmtime version in use to wit/deps
  ci                          format, lints, tidy and tests, as .ci/run does
  fuzz                        schemathesis over the whole served /openapi.json, every check on (needs python3)
                              --seconds <n> at most (840), --examples <n> random cases a route (8), --paths <regex> only,
                              --built: without building first, -- <arguments of schemathesis>
  bench <name>                hello: requests per second beside a bare hyper server
                              outbox [events]: through PostgreSQL and RabbitMQ into a consumer, each exactly once
                              swap [n]: what callers notice of n swaps, and what the host holds over 5,000 more
                              neighbour: hello's answers while another plugin misbehaves
                              restart: from start to ready with everything compiled
                              ingest [usage|lines|spans|vectors] [count]: rate, search and storage of what services take in
                              workflow [runs]: runs a second, and what a step costs beside a write
                              --servers: outbox always, ingest and workflow where asked, on PostgreSQL, Redis and RabbitMQ
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let outcome = match command.as_str() {
        "run" => build::run(&rest),
        "build" => build::build(&rest),
        "test" => test::test(&rest),
        "tidy" => tidy::tidy(),
        "new" => scaffold::scaffold(&rest),
        "vendor-wit" => vendor::vendor(),
        "ci" => ci::ci(),
        "bench" => bench::bench(&rest),
        "fuzz" => fuzz::fuzz(&rest),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprint!("xtask: there is no command {other}\n\n{HELP}");
            return ExitCode::from(64);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
