//! `dev`: builds what somebody is writing and puts it in place of what serves, whenever a file is saved.
//!
//! What does not compile or is refused is shown, and the build before it serves on. Data and sessions stay, since nothing is
//! restarted. It must never decide what a sound build is: the host judges, as at every deploy.

mod build;
mod own_host;
mod watch;
mod workspace;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::client::{Client, Target, segment};
use super::inspect::{items, text};
use super::source::{Sha256Digest, read_local};
use super::{CommandError, output};
use build::Profile;
use own_host::OwnHost;
use watch::Watch;
use workspace::Workspace;

#[derive(Debug, clap::Args)]
pub(super) struct DevArguments {
    /// Plugins to watch [default: all of the host's that the Cargo workspace here builds]
    plugins: Vec<String>,
    /// The Cargo profile they are built with, as it is [default: guest, set to build quickly]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The host; when none answers there, and it is this machine, one is started with the settings of `berth run`
    #[arg(long, env = "BERTH_URL", default_value = "http://127.0.0.1:3000", hide_env_values = true)]
    url: String,
    /// A file with the operator's token [or BERTH_OPERATOR_TOKEN; default: operator.token in the data folder]
    #[arg(long, value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,
}

/// Watches until a signal comes or the host that it started ends.
pub(super) async fn develop(arguments: DevArguments) -> Result<(), CommandError> {
    let workspace = Workspace::read().await?;
    let mut own_host = own_host::start_unless_there(&arguments.url).await?;
    let ended = tokio::select! {
        ended = work(arguments, workspace) => ended,
        ended = stopped() => ended,
        error = lost(own_host.as_mut()) => Err(error),
    };
    if let Some(host) = own_host {
        host.stop().await;
    }
    ended
}

async fn work(arguments: DevArguments, workspace: Workspace) -> Result<(), CommandError> {
    let DevArguments { plugins, profile, url, token_file } = arguments;
    let client = Client::operator(&Target { url, token_file, json: false })?;
    let served = client.get("/api/admin/plugins").await?;
    let served: BTreeSet<&str> = items(&served).iter().filter_map(|row| text(row, "name")).collect();
    let plugins = chosen(plugins, &served, &workspace)?;
    let mut watch = Watch::new(&workspace.target)?;
    for name in &plugins {
        for folder in workspace.sources(name) {
            watch.add(name, &folder)?;
        }
    }
    let profile = profile.map_or(Profile::QuickGuest, Profile::AsItIs);
    let session = Session { client, workspace, profile };
    output::say(&format!("watching the sources of {}", plugins.iter().cloned().collect::<Vec<_>>().join(", ")));
    // What serves may be older than the sources; and the first change is then as quick as every other.
    let mut changed = plugins;
    let mut saved = None;
    loop {
        session.rebuild(&changed, saved, &mut watch).await?;
        let (names, at) = watch.next().await;
        (changed, saved) = (names, Some(at));
    }
}

/// The plugins that are watched: those named, or all that both the host and the workspace know.
fn chosen(
    named: Vec<String>,
    served: &BTreeSet<&str>,
    workspace: &Workspace,
) -> Result<BTreeSet<String>, CommandError> {
    if named.is_empty() {
        let all: BTreeSet<String> =
            workspace.components().filter(|name| served.contains(name)).map(str::to_owned).collect();
        if all.is_empty() {
            return Err(CommandError::failed(format!(
                "the workspace in {} builds none of the host's plugins ({})",
                workspace.root.display(),
                served.iter().copied().collect::<Vec<_>>().join(", ")
            )));
        }
        return Ok(all);
    }
    for name in &named {
        if !workspace.components().any(|component| component == name) {
            return Err(CommandError::usage(format!(
                "the workspace in {} has no package {name} that becomes a component (crate-type cdylib)",
                workspace.root.display()
            )));
        }
        if !served.contains(name.as_str()) {
            return Err(CommandError::failed(format!(
                "there is no plugin {name} in the host's manifest; add it first"
            )));
        }
    }
    Ok(named.into_iter().collect())
}

struct Session {
    client: Client,
    workspace: Workspace,
    profile: Profile,
}

impl Session {
    /// Builds what has changed and deploys what came of it. `saved` is when the first file was saved.
    ///
    /// # Errors
    /// Only when cargo cannot be started or the sources cannot be watched any more.
    async fn rebuild(
        &self,
        names: &BTreeSet<String>,
        saved: Option<Instant>,
        watch: &mut Watch,
    ) -> Result<(), CommandError> {
        let began = Instant::now();
        output::progress(&format!("building {}", names.iter().cloned().collect::<Vec<_>>().join(", ")));
        let built = build::build(&self.workspace, names, &self.profile).await?;
        let building = began.elapsed();
        for name in names {
            let Some(component) = built.get(name) else {
                output::complain(&format!("{name} does not build; the build before it serves on"));
                continue;
            };
            for folder in self.workspace.further_sources(component) {
                watch.add(name, &folder)?;
            }
            match self.deploy(name, component).await {
                Ok(Some(report)) => output::say(&format!("{name}: {}", served_sentence(&report, saved, building))),
                Ok(None) => output::say(&format!("{name}: what serves is what the sources say")),
                Err(error) => output::complain(&format!("{name}: {error}; the build before it serves on")),
            }
        }
        Ok(())
    }

    /// What the host says of the deploy; none when the very same build serves already.
    async fn deploy(&self, name: &str, component: &Path) -> Result<Option<Value>, CommandError> {
        let component = read_local(&component.display().to_string())?;
        let digest = Sha256Digest::of(&component.bytes);
        let plugins = self.client.get("/api/admin/plugins").await?;
        let row = items(&plugins).iter().find(|row| text(row, "name") == Some(name));
        if row.and_then(|row| text(row, "sha256")) == Some(digest.digits()) {
            return Ok(None);
        }
        // Not watched after the switch: half-written code may well be worse, and is still what shall serve. What it
        // newly wants needs no question, since the manifest stays the bound.
        let path = format!("/api/admin/plugins/{}/deploy?watch=off&grant=true&force=true", segment(name));
        self.client.post_component(&path, component).await.map(Some)
    }
}

fn served_sentence(report: &Value, saved: Option<Instant>, building: Duration) -> String {
    let number = |member: &str| report.get(member).and_then(Value::as_u64).unwrap_or_default();
    let (revision, building) = (number("revision"), building.as_secs_f64());
    match saved {
        Some(saved) => {
            let (whole, preparing) = (saved.elapsed().as_secs_f64(), number("prepareMs") as f64 / 1e3);
            format!(
                "revision {revision} serves, {whole:.2} s after the save ({building:.2} s building, {preparing:.2} s \
                 compiling and warming)"
            )
        }
        None => format!("revision {revision} serves, built in {building:.1} s"),
    }
}

/// Until somebody wants the end.
async fn stopped() -> Result<(), CommandError> {
    let failed = |error: std::io::Error| CommandError::failed(format!("signals cannot be watched: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Until the host ends that was started here; for ever when none was.
async fn lost(host: Option<&mut OwnHost>) -> CommandError {
    match host {
        Some(host) => host.ended().await,
        None => std::future::pending().await,
    }
}
