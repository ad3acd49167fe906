//! Building components and host, and starting them.
//!
//! Guests are always built with the profile `guest`: a debug guest is fifty times larger and slower.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::browser;
use crate::workspace::{self, Component, GUEST_PROFILE, GUEST_TARGET};

/// Builds everything, or only the named plugins.
///
/// # Errors
/// When a named plugin does not exist or something does not compile.
pub(crate) fn build(arguments: &[String]) -> Result<()> {
    if let Some(flag) = arguments.iter().find(|argument| argument.starts_with('-')) {
        bail!("build has no flag {flag}");
    }
    if arguments.is_empty() {
        build_guests()?;
        return build_host();
    }
    let components = workspace::components(&workspace::root().join("components"))?;
    let mut wanted = Vec::new();
    for name in arguments {
        match components.iter().find(|component| component.name == *name) {
            Some(component) => wanted.push(component.clone()),
            None => bail!("there is no component {name} in components/"),
        }
    }
    build_components(&wanted, "plugins")
}

/// Builds all and becomes the host: signals and the exit status are the host's own.
///
/// # Errors
/// When something does not compile or the host cannot be started.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    add_guest_target()?;
    build_components(&workspace::components(&workspace::root().join("components"))?, "plugins")?;
    build_host()?;
    let mut command = Command::new(workspace::host_binary());
    command.current_dir(workspace::root()).arg("run").args(arguments);
    Err(command.exec()).context("target/release/berth cannot be started")
}

/// Components to `target/plugins`, test guests to `target/fixtures`.
///
/// # Errors
/// When something does not compile.
pub(crate) fn build_guests() -> Result<()> {
    add_guest_target()?;
    build_components(&workspace::components(&workspace::root().join("components"))?, "plugins")?;
    build_components(&workspace::components(&workspace::root().join("tests/fixtures"))?, "fixtures")
}

/// The host, in release.
///
/// # Errors
/// When it does not compile.
pub(crate) fn build_host() -> Result<()> {
    browser::fetch()?;
    // The whole workspace decides the features of dependencies, as it does for the tests: nothing is compiled twice.
    workspace::run(workspace::cargo().args(["build", "--release", "--workspace", "--bin", "berth"]))
}

fn build_components(components: &[Component], folder: &str) -> Result<()> {
    if components.is_empty() {
        return Ok(());
    }
    let mut command = workspace::cargo();
    command.args(["build", "--profile", GUEST_PROFILE, "--target", GUEST_TARGET]);
    for component in components {
        command.args(["--package", &component.name]);
    }
    workspace::run(&mut command)?;
    let built = workspace::target().join(GUEST_TARGET).join(GUEST_PROFILE);
    let destination = workspace::target().join(folder);
    std::fs::create_dir_all(&destination)?;
    for component in components {
        let wasm = built.join(format!("{}.wasm", component.name.replace('-', "_")));
        // Named after the folder, which for a plugin is its package too.
        let folder = component.folder.file_name().unwrap_or_default().to_string_lossy();
        place(&wasm, &destination.join(format!("{folder}.wasm")))?;
    }
    Ok(())
}

/// Copies by way of a rename, so that a host that reads the old file never sees half of the new one.
fn place(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).with_context(|| format!("{} was not built", from.display()))?;
    if std::fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let temporary = to.with_extension("wasm.new");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, to)?;
    Ok(())
}

/// Adds the guests' target to the toolchain when it is missing.
///
/// # Errors
/// When it is missing and rustup cannot add it.
pub(crate) fn add_guest_target() -> Result<()> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.current_dir(workspace::root()).args(["--print", "target-libdir", "--target", GUEST_TARGET]);
    let is_there = workspace::output(&mut rustc).is_some_and(|folder| Path::new(folder.trim()).is_dir());
    if is_there {
        return Ok(());
    }
    if !workspace::has_program("rustup") {
        bail!("the Rust target {GUEST_TARGET} is missing and there is no rustup to add it");
    }
    let mut rustup = Command::new("rustup");
    workspace::run(rustup.current_dir(workspace::root()).args(["target", "add", GUEST_TARGET]))
}
