//! `plugins`: the list, and plugins added, changed and removed while the host runs.
//!
//! An entry is TOML, as in `plugins.toml`; the host judges it.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::Value;

use super::CommandError;
use super::client::{Client, Target, segment};
use super::inspect::{self, short_digest, text};
use super::output;
use super::source::{Component, SourceArguments};

/// Bytes of an entry's file; the host's own limit is lower.
const ENTRY_BYTES_MAX: u64 = 1024 * 1024;
/// The media type of an entry.
const TOML: &str = "application/toml";

/// `plugins` and what can be done with one.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct PluginsArguments {
    #[command(subcommand)]
    command: Option<PluginsCommand>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum PluginsCommand {
    /// A plugin's entry as it stands
    Show {
        plugin: String,
        #[command(flatten)]
        target: Target,
    },
    /// Add a plugin with its first build
    Add {
        plugin: String,
        #[command(flatten)]
        source: SourceArguments,
        #[command(flatten)]
        entry: EntryArguments,
        #[command(flatten)]
        target: Target,
    },
    /// Change a plugin's entry: the whole of it (--entry), or the keys that are named
    Set {
        plugin: String,
        #[command(flatten)]
        entry: EntryArguments,
        #[command(flatten)]
        target: Target,
    },
    /// Remove a plugin; its data, its messages and its history stay
    Remove {
        plugin: String,
        #[command(flatten)]
        target: Target,
    },
}

/// An entry, from a file or key by key.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct EntryArguments {
    /// A file with the entry: one [[plugin]] as in plugins.toml, or its keys alone
    #[arg(long, value_name = "FILE")]
    entry: Option<PathBuf>,
    /// Keys of the entry as lines of TOML: 'routes = ["/api/notes"]' 'grant.tables = ["note_"]'
    #[arg(value_name = "KEY=VALUE")]
    keys: Vec<String>,
}

impl EntryArguments {
    /// The entry, and whether it is a whole one.
    fn read(&self) -> Result<(String, bool), CommandError> {
        match &self.entry {
            Some(file) => Ok((read_entry(file)?, true)),
            None => Ok((self.keys.join("\n"), false)),
        }
    }
}

pub(super) async fn plugins(arguments: PluginsArguments) -> Result<(), CommandError> {
    match arguments.command {
        None => inspect::plugins(arguments.target).await,
        Some(PluginsCommand::Show { plugin, target }) => show(&plugin, &target).await,
        Some(PluginsCommand::Add { plugin, source, entry, target }) => add(&plugin, &source, &entry, &target).await,
        Some(PluginsCommand::Set { plugin, entry, target }) => set(&plugin, &entry, &target).await,
        Some(PluginsCommand::Remove { plugin, target }) => remove(&plugin, &target).await,
    }
}

async fn show(plugin: &str, target: &Target) -> Result<(), CommandError> {
    let answer = Client::operator(target)?.get(&path(plugin)).await?;
    if target.json {
        output::json(&answer);
    } else {
        text(&answer, "entry").unwrap_or_default().lines().for_each(output::say);
    }
    Ok(())
}

async fn add(
    plugin: &str,
    source: &SourceArguments,
    entry: &EntryArguments,
    target: &Target,
) -> Result<(), CommandError> {
    let client = Client::operator(target)?;
    let (entry, _) = entry.read()?;
    let component = source.read().await?;
    output::progress(&format!("{plugin}: verify → warm → serve"));
    let boundary = format!("berth-{}", uuid::Uuid::now_v7().simple());
    let form = form(&boundary, &entry, &component.bytes);
    let Component { source, signature, .. } = component;
    let media_type = format!("multipart/form-data; boundary={boundary}");
    let report = client.post_origin(&path(plugin), &media_type, form, &source, signature.as_deref()).await?;
    if target.json {
        output::json(&report);
        return Ok(());
    }
    let revision = report.get("revision").and_then(Value::as_i64).unwrap_or_default();
    let digest = text(&report, "sha256").map(short_digest).unwrap_or_default();
    output::say(&format!("{plugin}: added; revision {revision} serves ({digest})"));
    Ok(())
}

async fn set(plugin: &str, entry: &EntryArguments, target: &Target) -> Result<(), CommandError> {
    let client = Client::operator(target)?;
    let (entry, is_whole) = entry.read()?;
    let method = if is_whole { Method::PUT } else { Method::PATCH };
    output::progress(&format!("{plugin}: verify → warm → swap → drain"));
    let report = client.send_text(method, &waiting(plugin), TOML, entry).await?;
    if target.json {
        output::json(&report);
        return Ok(());
    }
    if report.get("hasChanged").and_then(Value::as_bool) == Some(false) {
        output::say(&format!("{plugin}: nothing is different"));
        return Ok(());
    }
    let prefixes = report.get("prefixes").and_then(Value::as_array).cloned().unwrap_or_default();
    let prefixes: Vec<&str> = prefixes.iter().filter_map(Value::as_str).collect();
    output::say(&format!("{plugin}: changed; it answers {}", prefixes.join(" ")));
    Ok(())
}

async fn remove(plugin: &str, target: &Target) -> Result<(), CommandError> {
    let client = Client::operator(target)?;
    output::progress(&format!("{plugin}: drain"));
    let answer = client.exchange(Method::DELETE, &waiting(plugin), None).await?;
    if !answer.status.is_success() {
        return Err(answer.refusal());
    }
    if target.json {
        output::json(&answer.body);
    } else {
        output::say(&format!("{plugin}: removed; its data, its messages and its history stay"));
    }
    Ok(())
}

fn path(plugin: &str) -> String {
    format!("/api/admin/plugins/{}", segment(plugin))
}

/// The same, for an answer after the drain.
fn waiting(plugin: &str) -> String {
    format!("{}?wait=true", path(plugin))
}

/// Entry and component as a form (RFC 7578).
fn form(boundary: &str, entry: &str, component: &[u8]) -> Vec<u8> {
    let head = |name: &str, media_type: &str| {
        format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\ncontent-type: {media_type}\r\n\r\n")
    };
    let mut form = head("entry", TOML).into_bytes();
    form.extend_from_slice(entry.as_bytes());
    form.extend_from_slice(b"\r\n");
    form.extend_from_slice(head("component", "application/wasm").as_bytes());
    form.extend_from_slice(component);
    form.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    form
}

fn read_entry(file: &Path) -> Result<String, CommandError> {
    let unreadable = |reason: String| CommandError::failed(format!("{} cannot be read: {reason}", file.display()));
    let size = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
    if size > ENTRY_BYTES_MAX {
        return Err(unreadable(format!("it is larger than {ENTRY_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))
}
