//! Running the tests: units natively, then the promises against a real host with real components.
//!
//! Everything runs in the release profile, so that wasmtime is compiled once for the host and for all its tests.

use std::process::Command;

use anyhow::{Result, bail};

use crate::servers::Servers;
use crate::{build, workspace};

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
    let suites: [&[&str]; 2] = [&["--workspace", "--exclude", "berth-tests"], &["--package", "berth-tests"]];
    for packages in suites {
        let mut command = runner(packages, filter);
        servers.give_to(&mut command);
        workspace::run(&mut command)?;
    }
    if filter.is_none() {
        // The examples in the documentation: no runner but cargo's own runs them.
        workspace::run(workspace::cargo().args(["test", "--release", "--doc", "--package", "berth-sdk"]))?;
    }
    Ok(())
}

/// nextest where it is installed, cargo's own runner otherwise.
fn runner(packages: &[&str], filter: Option<&str>) -> Command {
    let mut command = workspace::cargo();
    let is_promises = packages.contains(&"berth-tests");
    if workspace::has_program("cargo-nextest") {
        command.args(["nextest", "run", "--release", "--no-tests=pass", "--no-fail-fast"]).args(packages).args(filter);
    } else {
        command.args(["test", "--release", "--no-fail-fast"]).args(packages);
        // Documentation tests run once, at the end.
        command.args(if is_promises { &["--tests"][..] } else { &["--lib", "--bins", "--tests"][..] });
        command.args(filter);
        if is_promises {
            // Each starts a host of its own: more at once than cores only makes them wait for each other.
            command.args(["--", "--test-threads=2"]);
        }
    }
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
