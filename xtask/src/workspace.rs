//! Where things are, and how other programs are started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The target of every guest.
pub(crate) const GUEST_TARGET: &str = "wasm32-wasip2";
/// The profile of every guest.
pub(crate) const GUEST_PROFILE: &str = "guest";

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The one target folder.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The host that `build` leaves.
pub(crate) fn host_binary() -> PathBuf {
    target().join("release/berth")
}

/// Cargo, at the root of the repository.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What this process's own cargo said of xtask: build scripts that look at it would run again, and everything above
    // them, whenever xtask and a person take turns.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("{program} cannot be started"))?;
    if !status.success() {
        bail!("{} failed: {status}", line_of(command));
    }
    Ok(())
}

/// Standard output of a command, or nothing when it does not succeed.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    std::iter::once(program.into()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// The names of the workspace's own crates.
///
/// # Errors
/// When cargo cannot read the workspace.
pub(crate) fn packages() -> Result<Vec<String>> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))
        .context("cargo metadata says nothing of the workspace")?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata.get("packages").and_then(|packages| packages.as_array()).into_iter().flatten();
    Ok(packages.filter_map(|package| Some(package.get("name")?.as_str()?.to_owned())).collect())
}

/// Whether a program can be found.
pub(crate) fn has_program(name: &str) -> bool {
    berth_test_servers::find_program(name).is_some()
}

/// A crate that becomes a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Component {
    /// The package's name, which is the plugin's.
    pub name: String,
    pub folder: PathBuf,
}

/// Every crate below `folder` with a `cdylib`, sorted by name.
///
/// # Errors
/// When a manifest cannot be read.
pub(crate) fn components(folder: &Path) -> Result<Vec<Component>> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(found) };
    for entry in entries.flatten() {
        let manifest = entry.path().join("Cargo.toml");
        if !manifest.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&manifest)?;
        let document: toml_edit::DocumentMut =
            text.parse().with_context(|| format!("{} is not TOML", manifest.display()))?;
        let lib = document.get("lib").and_then(|lib| lib.get("crate-type")).and_then(|kinds| kinds.as_array());
        let is_component = lib.is_some_and(|kinds| kinds.iter().any(|kind| kind.as_str() == Some("cdylib")));
        let name = document.get("package").and_then(|package| package.get("name")).and_then(|name| name.as_str());
        if let (true, Some(name)) = (is_component, name) {
            found.push(Component { name: name.to_owned(), folder: entry.path() });
        }
    }
    found.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(found)
}
