//! Running the tests: units natively, then the promises against a real host with real components.
//!
//! Everything runs in the release profile, so that wasmtime is compiled once for the host and for all its tests.

use std::process::Command;

use anyhow::{Result, bail};

use crate::servers::{self, Servers};
use crate::{build, promtool, workspace};

/// Promises that run together: each starts a host of its own, and more at once than cores only makes them wait.
const PROMISES_AT_ONCE: &str = "2";

/// Promises about several hosts, and about servers that fail or will not do: they start what they need themselves. One at a
/// time: three hosts are enough for a small machine.
pub(crate) const ON_SERVERS_ONLY: [&str; 3] = ["cluster", "outage", "refusals"];
/// Promises that have nothing to do with what stands behind the rooms; every other file runs on both stacks.
const ON_EMBEDDED_ONLY: [&str; 5] = ["dev", "registry", "starting", "swap", "watching"];
/// Promises that need the program of a registry.
const WITH_REGISTRY_ONLY: &str = "registry";
/// Promises of which some talk through the clients of others, which are installed from PyPI and npm's registry: those are marked
/// as ignored, so that nobody's `cargo test` fetches programs unasked, and run here by name.
const WITH_CLIENTS: [&str; 3] = ["calendar_dav", "mcp_clients", "openai_client"];
/// What installs and runs those clients.
const CLIENT_PROGRAMS: [&str; 2] = ["python3", "npm"];
/// The programs of peers that promises talk to, and what is not run without them.
const PEER_PROGRAMS: [(&str, &str); 2] = [
    ("python3", "not run: promises about mail, for want of python3"),
    ("node", "not run: sign-in by OpenID Connect, for want of Node.js"),
];
/// Tells the harness of the promises to start its hosts on PostgreSQL, Redis and RabbitMQ.
pub(crate) const STACK_VARIABLE: &str = "BERTH_TEST_STACK";

/// `test [--embedded] [--servers] [filter]`.
///
/// # Errors
/// When something does not compile, a test fails, or a server is missing and `--embedded` was not given.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    let mut is_embedded = false;
    let mut with_servers = false;
    let mut filter = None;
    for argument in arguments {
        match argument.as_str() {
            "--embedded" => is_embedded = true,
            "--servers" => with_servers = true,
            flag if flag.starts_with('-') => bail!("test has no flag {flag}"),
            word if filter.is_none() => filter = Some(word),
            _ => bail!("test takes one filter"),
        }
    }
    build::build_guests()?;
    build::build_host()?;
    // What earlier test hosts compiled; it only grows.
    let _ = std::fs::remove_dir_all(workspace::target().join("test-compiled"));
    let servers = if is_embedded { Servers::none() } else { Servers::find()? };
    for (name, url) in servers.urls() {
        println!("xtask: {name} at {}", without_password(url));
    }
    let has_registry = servers::has_registry(!is_embedded)?;
    let promtool = promtool::find(!is_embedded);
    let has_pgvector = servers.has_pgvector();
    let has_clients = !is_embedded && CLIENT_PROGRAMS.into_iter().all(workspace::has_program);
    let suites = [Suite::Units, Suite::Embedded, Suite::Clients, Suite::Hosts, Suite::Servers];
    // One that fails does not hide what the next one finds.
    let mut failures = Vec::new();
    for suite in suites.into_iter().filter(|suite| match suite {
        Suite::Units | Suite::Embedded => true,
        Suite::Clients => has_clients,
        Suite::Hosts => !is_embedded,
        Suite::Servers => with_servers,
    }) {
        println!("xtask: {}", suite.name());
        let mut command = runner(suite, has_registry, filter)?;
        servers.give_to(&mut command);
        if let Some(promtool) = &promtool {
            command.env(promtool::VARIABLE, promtool);
        }
        if let Err(error) = workspace::run(&mut command) {
            failures.push(format!("{}: {error:#}", suite.name()));
        }
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("; "));
    }
    let seen = [
        (
            is_embedded || with_servers,
            "not run: the promises of the embedded stack once more on servers; --servers runs them too",
        ),
        (!is_embedded, "not run: what needs servers: the suites of their backends, and cluster, outage and refusals"),
        (has_clients, "not run: the clients of others, which need python3 and npm"),
        (has_registry, "not run: registry, for want of docker-registry"),
        (is_embedded || has_pgvector, "not seen: how PostgreSQL compares vectors, for want of pgvector"),
        (promtool.is_some(), "not seen: what promtool says of the metrics"),
    ];
    say_what_is_missing(&seen);
    if filter.is_none() {
        // The examples in the documentation: no runner but cargo's own runs them.
        let mut command = workspace::cargo();
        command.args(["test", "--release", "--doc", "--package", "berth-sdk"]).args(unoptimised()?);
        workspace::run(&mut command)?;
    }
    Ok(())
}

/// Says what of this run was left out; of each part whether it was there.
fn say_what_is_missing(seen: &[(bool, &str)]) {
    let peers = PEER_PROGRAMS.map(|(program, sentence)| (workspace::has_program(program), sentence));
    for (_, sentence) in seen.iter().chain(&peers).filter(|(is_there, _)| !is_there) {
        println!("xtask: {sentence}");
    }
}

/// What runs together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suite {
    /// Every crate's own tests.
    Units,
    /// The real host with real components on SQLite, the cache in process and the embedded queue.
    Embedded,
    /// The official clients of the protocols that Berth speaks, against a real host.
    Clients,
    /// Promises that need servers and nothing else will do.
    Hosts,
    /// The promises of the embedded stack on PostgreSQL, Redis and RabbitMQ.
    Servers,
}

impl Suite {
    const fn name(self) -> &'static str {
        match self {
            Self::Units => "unit tests",
            Self::Embedded => "promises on the embedded stack",
            Self::Clients => "promises with the clients of others",
            Self::Hosts => "promises about several hosts, and about servers that fail",
            Self::Servers => "promises on PostgreSQL, Redis and RabbitMQ",
        }
    }

    /// Whether a file of promises belongs to it.
    fn has(self, file: &str, has_registry: bool) -> bool {
        let needs_servers = ON_SERVERS_ONLY.contains(&file);
        match self {
            Self::Units => false,
            Self::Embedded => !needs_servers && (has_registry || file != WITH_REGISTRY_ONLY),
            Self::Clients => WITH_CLIENTS.contains(&file),
            Self::Hosts => needs_servers,
            Self::Servers => !needs_servers && !ON_EMBEDDED_ONLY.contains(&file),
        }
    }

    const fn at_once(self) -> &'static str {
        match self {
            // Two at once would install the same packages into one folder.
            Self::Hosts | Self::Clients => "1",
            _ => PROMISES_AT_ONCE,
        }
    }
}

/// nextest where it is installed, cargo's own runner otherwise. Always of the whole workspace: a part of it would have
/// dependencies with other features, which are then compiled once more.
fn runner(suite: Suite, has_registry: bool, filter: Option<&str>) -> Result<Command> {
    let mut command = workspace::cargo();
    let files: Vec<String> = promises()?.into_iter().filter(|file| suite.has(file, has_registry)).collect();
    if matches!(suite, Suite::Hosts | Suite::Servers) {
        command.env(STACK_VARIABLE, "servers");
    }
    if workspace::has_program("cargo-nextest") {
        let tests = if suite == Suite::Units {
            "not package(berth-tests)".to_owned()
        } else {
            let files: Vec<String> = files.iter().map(|file| format!("binary(={file})")).collect();
            format!("package(berth-tests) and ({})", files.join(" or "))
        };
        command.args(["nextest", "run", "--release", "--workspace", "--no-tests=pass", "--no-fail-fast"]);
        command.args(unoptimised()?);
        command.args(["--filterset", &tests]).args(filter);
        if suite != Suite::Units {
            command.args(["--test-threads", suite.at_once()]);
        }
        if suite == Suite::Clients {
            command.args(["--run-ignored", "only"]);
        }
        return Ok(with_artifacts(command));
    }
    command.args(["test", "--release", "--no-fail-fast"]).args(unoptimised()?);
    if suite == Suite::Units {
        // Documentation tests run once, at the end.
        command.args(["--workspace", "--exclude", "berth-tests", "--lib", "--bins", "--tests"]).args(filter);
        return Ok(with_artifacts(command));
    }
    command.arg("--workspace");
    for file in &files {
        command.args(["--test", file]);
    }
    command.args(filter).args(["--", "--test-threads", suite.at_once()]);
    if suite == Suite::Clients {
        command.arg("--ignored");
    }
    Ok(with_artifacts(command))
}

/// Lets cargo compile the workspace's own crates without optimisation: a test's code is compiled more often than it runs,
/// and what takes its time (the engine, the databases, the ciphers) is in libraries. The host and the guests that the promises
/// start were built before, and with it.
fn unoptimised() -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    for name in workspace::packages()? {
        arguments.extend(["--config".to_owned(), format!("profile.release.package.{name}.opt-level=0")]);
    }
    Ok(arguments)
}

/// The files of promises, by name.
fn promises() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(workspace::root().join("tests/tests"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Where the promises find what was built.
fn with_artifacts(mut command: Command) -> Command {
    command.env("BERTH_TEST_HOST", workspace::host_binary());
    command.env("BERTH_TEST_PLUGINS", workspace::target().join("plugins"));
    command.env("BERTH_TEST_FIXTURES", workspace::target().join("fixtures"));
    command
}

fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => url.to_owned(),
    }
}
