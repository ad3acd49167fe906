//! Running the tests: units natively, then the promises against a real host with real components.
//!
//! Everything runs in the release profile, so that wasmtime is compiled once for the host and for all its tests.

use std::process::Command;

use anyhow::{Result, bail};

use crate::servers::Servers;
use crate::{build, workspace};

/// Promises that run together: each starts a host of its own, and more at once than cores only makes them wait.
const PROMISES_AT_ONCE: &str = "2";

/// `test [--embedded] [filter]`.
///
/// # Errors
/// When something does not compile, a test fails, or a server is missing and `--embedded` was not given.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    let mut is_embedded = false;
    let mut filter = None;
    for argument in arguments {
        match argument.as_str() {
            "--embedded" => is_embedded = true,
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
    for suite in [Suite::Units, Suite::Promises] {
        let mut command = runner(suite, filter);
        servers.give_to(&mut command);
        workspace::run(&mut command)?;
    }
    if filter.is_none() {
        // The examples in the documentation: no runner but cargo's own runs them.
        workspace::run(workspace::cargo().args(["test", "--release", "--doc", "--package", "berth-sdk"]))?;
    }
    Ok(())
}

/// What runs together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suite {
    /// Every crate's own tests.
    Units,
    /// The real host with real components.
    Promises,
}

/// nextest where it is installed, cargo's own runner otherwise. Both always name the whole workspace: a part of it would
/// have dependencies with other features, which are then compiled once more.
fn runner(suite: Suite, filter: Option<&str>) -> Command {
    let mut command = workspace::cargo();
    if workspace::has_program("cargo-nextest") {
        let packages = match suite {
            Suite::Units => "not package(berth-tests)",
            Suite::Promises => "package(berth-tests)",
        };
        command.args(["nextest", "run", "--release", "--workspace", "--no-tests=pass", "--no-fail-fast"]);
        command.args(["--filterset", packages]).args(filter);
        if suite == Suite::Promises {
            command.args(["--test-threads", PROMISES_AT_ONCE]);
        }
        return with_artifacts(command);
    }
    command.args(["test", "--release", "--no-fail-fast"]);
    match suite {
        // Documentation tests run once, at the end.
        Suite::Units => command.args(["--workspace", "--exclude", "berth-tests", "--lib", "--bins", "--tests"]),
        Suite::Promises => command.args(["--package", "berth-tests", "--tests"]),
    };
    command.args(filter);
    if suite == Suite::Promises {
        command.args(["--", "--test-threads", PROMISES_AT_ONCE]);
    }
    with_artifacts(command)
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
