//! `hello`: requests per second of the plugin hello through the whole pipeline, beside a bare hyper server in the same
//! binary, and beside `wasmtime serve` where it is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::server::{Server, cores, pinned};

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 3;
const ROUND_MS: u64 = 4000;
const WARM_UP_MS: u64 = 1500;
/// The least share of bare hyper that a warm plugin must reach.
const SHARE_MIN: f64 = 0.55;

/// One server and what it reached.
struct Contender {
    name: &'static str,
    server: Server,
    path: &'static str,
    rates: Vec<f64>,
}

pub(crate) fn measure(arguments: &[String]) -> Result<()> {
    let is_strict = arguments.iter().any(|argument| argument == "--strict");
    let (server_core, load_core) = cores();
    if server_core.is_none() {
        println!("note: fewer than two cores or no taskset: servers and load share them");
    }
    let folder = tempfile::tempdir()?;
    let mut contenders = vec![hyper(server_core)?, berth(server_core, folder.path())?];
    contenders.extend(wasmtime(server_core)?);
    for contender in &contenders {
        load(contender, load_core, WARM_UP_MS)?;
    }
    for _ in 0..ROUNDS {
        for contender in &mut contenders {
            let rate = load(contender, load_core, ROUND_MS)?;
            contender.rates.push(rate);
        }
    }
    let bare = contenders.first().map(|hyper| median(&hyper.rates)).context("no contender")?;
    println!("{:<28} {:>12} {:>8}", "", "requests/s", "share");
    let mut share_of_berth = 0.0;
    for contender in &contenders {
        let rate = median(&contender.rates);
        if contender.name.starts_with("berth") {
            share_of_berth = rate / bare;
        }
        println!("{:<28} {:>12.0} {:>8.2}", contender.name, rate, rate / bare);
    }
    println!(
        "{CONNECTIONS} connections, server on one core, median of {ROUNDS} rounds of {} s, taking turns",
        ROUND_MS / 1000
    );
    if is_strict && share_of_berth < SHARE_MIN {
        bail!("hello reaches {share_of_berth:.2} of bare hyper; at least {SHARE_MIN} is wanted");
    }
    Ok(())
}

fn host_binary() -> Result<PathBuf> {
    std::env::var_os("BERTH_TEST_HOST").map(PathBuf::from).context("start it with `cargo xtask bench hello`")
}

fn guest(variable: &str, file: &str) -> Result<PathBuf> {
    let folder = std::env::var_os(variable).context("start it with `cargo xtask bench hello`")?;
    Ok(Path::new(&folder).join(file))
}

fn hyper(core: Option<usize>) -> Result<Contender> {
    let server = Server::start(core, &host_binary()?, |command| {
        command.arg("bench-hyper");
    })?;
    Ok(Contender { name: "bare hyper", server, path: "/", rates: Vec::new() })
}

fn berth(core: Option<usize>, folder: &Path) -> Result<Contender> {
    let manifest = folder.join("plugins.toml");
    let component = guest("BERTH_TEST_PLUGINS", "hello.wasm")?;
    let text = format!(
        "[[plugin]]\nname = \"hello\"\ncomponent = {:?}\nroutes = [\"/api/hello\"]\npublic = [\"GET /api/hello\", \"POST /api/hello/echo\", \"GET /api/hello/stream\"]\nisolation = \"plugin\"\n",
        component.display().to_string()
    );
    std::fs::write(&manifest, text)?;
    let data = folder.join("data");
    let server = Server::start(core, &host_binary()?, |command| {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BERTH_")) {
            command.env_remove(name);
        }
        command.env("BERTH_RATE_LIMIT_PER_MINUTE", "0").env("BERTH_LOG", "warn");
        command.args(["run", "--listen", "127.0.0.1:0", "--config"]).arg(&manifest).arg("--data").arg(&data);
    })?;
    Ok(Contender { name: "berth: hello", server, path: "/api/hello", rates: Vec::new() })
}

/// Only when it is installed.
fn wasmtime(core: Option<usize>) -> Result<Option<Contender>> {
    if !Command::new("wasmtime").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("note: wasmtime is not installed, so there is no `wasmtime serve` to compare with");
        return Ok(None);
    }
    let component = guest("BERTH_TEST_FIXTURES", "standard.wasm")?;
    let server = Server::start(core, Path::new("wasmtime"), |command| {
        command.args(["serve", "--addr", "127.0.0.1:0"]).arg(component);
    })?;
    Ok(Some(Contender { name: "wasmtime serve", server, path: "/", rates: Vec::new() }))
}

/// Requests per second of one round.
fn load(contender: &Contender, core: Option<usize>, milliseconds: u64) -> Result<f64> {
    let mut command = pinned(core, &std::env::current_exe()?);
    let arguments =
        ["load", &contender.server.address, contender.path, &CONNECTIONS.to_string(), &milliseconds.to_string()];
    let output = command.args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [requests, failures, microseconds] = numbers.as_slice() else {
        bail!("{}: no load: {}", contender.name, String::from_utf8_lossy(&output.stderr).trim());
    };
    if *failures > 0.0 {
        bail!("{}: {failures} connections failed after {requests} requests", contender.name);
    }
    Ok(requests / (microseconds / 1_000_000.0))
}

/// The middle one of the values, 0 for none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
