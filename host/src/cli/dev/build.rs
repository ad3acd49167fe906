//! One run of cargo over the components that have changed. What the compiler has to say goes to whoever watches, as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::super::CommandError;
use super::workspace::{Workspace, cargo};

/// The target of every guest.
const GUEST_TARGET: &str = "wasm32-wasip2";
/// The profile of every guest.
const GUEST_PROFILE: &str = "guest";
/// What makes the second build quick, at the price of a slower guest: only what has changed is compiled, and nothing is
/// optimised across crates. Without any optimisation the component would be so large that the host compiles longer.
const QUICK: [&str; 4] = ["opt-level=1", "lto=\"off\"", "codegen-units=256", "incremental=true"];

/// How components are built.
#[derive(Clone, Debug)]
pub(super) enum Profile {
    /// The guests' own, with what makes the next build quick.
    QuickGuest,
    /// One that was named.
    AsItIs(String),
}

impl Profile {
    fn name(&self) -> &str {
        match self {
            Self::QuickGuest => GUEST_PROFILE,
            Self::AsItIs(name) => name,
        }
    }

    /// Settings for cargo that lie over the workspace's.
    fn settings(&self) -> impl Iterator<Item = String> {
        let quick = if matches!(self, Self::QuickGuest) { QUICK.as_slice() } else { &[] };
        quick.iter().map(|setting| format!("profile.{GUEST_PROFILE}.{setting}"))
    }
}

/// Builds the packages named and returns the component of each that did build. One that fails does not keep back the others.
///
/// # Errors
/// When cargo cannot be started.
pub(super) async fn build(
    workspace: &Workspace,
    names: &BTreeSet<String>,
    profile: &Profile,
) -> Result<BTreeMap<String, PathBuf>, CommandError> {
    let failed = |error: std::io::Error| CommandError::failed(format!("cargo cannot be started: {error}"));
    let mut command = cargo();
    command.current_dir(&workspace.root).args([
        "build",
        "--target",
        GUEST_TARGET,
        "--profile",
        profile.name(),
        "--keep-going",
    ]);
    for setting in profile.settings() {
        command.args(["--config", &setting]);
    }
    command.args(["--message-format", "json-render-diagnostics"]);
    for name in names {
        command.args(["--package", name]);
    }
    // Its words for people go to standard error, past this process; only what it has made is read.
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().map_err(failed)?;
    let mut built = BTreeMap::new();
    if let Some(stdout) = process.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Some((manifest, component)) = component_in(&line) else { continue };
            let name = names.iter().find(|name| workspace.folder(name) == manifest.parent());
            if let Some(name) = name {
                built.insert(name.clone(), component);
            }
        }
    }
    process.wait().await.map_err(failed)?;
    Ok(built)
}

/// The package's manifest and the component, of a message that says one was made.
fn component_in(line: &str) -> Option<(PathBuf, PathBuf)> {
    let message: Message =
        serde_json::from_str(line).ok().filter(|message: &Message| message.reason == "compiler-artifact")?;
    let is_component = message.target?.crate_types.iter().any(|kind| kind == "cdylib");
    let mut files = message.filenames.into_iter();
    let component = files.find(|file| file.extension().is_some_and(|extension| extension == "wasm"));
    Some((message.manifest_path?, component.filter(|_| is_component)?))
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    crate_types: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_components_count() {
        let message = |reason: &str, kind: &str, file: &str| {
            json!({"reason": reason, "package_id": "x", "manifest_path": "/w/hello/Cargo.toml",
                "target": {"kind": [kind], "crate_types": [kind], "name": "hello"}, "filenames": ["/t/libhello.rlib", file]})
            .to_string()
        };
        let expected = Some((PathBuf::from("/w/hello/Cargo.toml"), PathBuf::from("/t/hello.wasm")));
        assert_eq!(component_in(&message("compiler-artifact", "cdylib", "/t/hello.wasm")), expected);
        for line in [
            message("compiler-artifact", "lib", "/t/hello.wasm"),
            message("compiler-artifact", "cdylib", "/t/libhello.so"),
            message("compiler-message", "cdylib", "/t/hello.wasm"),
            json!({"reason": "build-finished", "success": true}).to_string(),
            "warning: words".to_owned(),
        ] {
            assert_eq!(component_in(&line), None, "{line}");
        }
    }
}
