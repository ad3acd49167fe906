//! Copying the WASI contracts that the wasmtime version in use was built with.
//!
//! They must have its version: bindings are matched by the version in their names.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace;

/// The packages that a component may need, and so the files that are copied.
const PACKAGES: [&str; 7] = ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];

/// # Errors
/// When the crate or one of its files cannot be found.
pub(crate) fn vendor() -> Result<()> {
    let source = http_crate()?.join("wit/deps");
    let destination = workspace::root().join("wit/deps");
    std::fs::create_dir_all(&destination)?;
    for package in PACKAGES {
        let file = format!("{package}.wit");
        let text =
            std::fs::read(source.join(&file)).with_context(|| format!("{file} is not in {}", source.display()))?;
        std::fs::write(destination.join(&file), text)?;
        println!("wit/deps/{file}");
    }
    Ok(())
}

/// The folder of the `wasmtime-wasi-http` that the workspace uses.
fn http_crate() -> Result<PathBuf> {
    let mut command = workspace::cargo();
    command.args(["metadata", "--format-version", "1"]);
    let text = workspace::output(&mut command).context("cargo metadata failed")?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    let packages = metadata.get("packages").and_then(|packages| packages.as_array()).context("no packages")?;
    let manifest = packages
        .iter()
        .find(|package| package.get("name").and_then(|name| name.as_str()) == Some("wasmtime-wasi-http"))
        .and_then(|package| package.get("manifest_path")?.as_str())
        .context("wasmtime-wasi-http is not a dependency")?;
    Ok(Path::new(manifest).parent().unwrap_or(Path::new("")).to_path_buf())
}
