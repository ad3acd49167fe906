//! The manifest, `plugins.toml`: which plugins exist, what each may do, and where it is mounted.
//!
//! It is judged whole, and every fault is reported with its line. It must never be half taken: a manifest with one fault
//! changes nothing. It says nothing of revisions; those live in the database. Entries that were recorded while hosts ran lie
//! over the file's, and are judged with it as if they stood there.

mod document;
mod entry;
mod overlap;
mod plugin;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::capability::Plugin;
use crate::capability::grant::Isolation;
use crate::signature::{TRUSTED_KEYS_MAX, TrustedKey, key_fault};
use document::Judge;
pub(crate) use entry::{label, merged, plain};

/// Bytes of a manifest.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;
/// What `[host]` may hold.
const HOST_KEYS: &[&str] = &[
    "direct_ports",
    "trusted_keys",
    "rate_limit_per_minute",
    "organization_rate_per_minute",
    "address_rate_per_minute",
    "in_flight_max",
    "deploy_mib",
];
/// Plugins in a manifest.
const PLUGINS_MAX: usize = 200;

/// A manifest without fault.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manifest {
    pub host: HostSection,
    /// In the order of the file, then those that lie over it; names, routes, ports and table prefixes are distinct.
    pub plugins: Vec<PluginEntry>,
    /// What it was read from.
    pub file: Arc<ManifestFile>,
}

/// The manifest's file as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct ManifestFile {
    /// For messages.
    name: String,
    /// Where relative component paths begin.
    folder: PathBuf,
    text: String,
    /// Its entries by name, each in the form of [`plain`].
    entries: BTreeMap<String, String>,
}

/// An entry that was recorded while hosts ran: it counts in the place of the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Laid {
    pub plugin: String,
    /// As TOML: the keys of one `[[plugin]]`, with or without that line. None: the plugin was removed.
    pub entry: Option<String>,
}

/// Where a plugin's entry comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EntryOrigin {
    /// `plugins.toml`.
    #[default]
    File,
    /// It was added while hosts ran; the file has none of its name.
    Added,
    /// It was changed while hosts ran; the file has another one of its name.
    Changed,
}

/// `[host]`. The environment wins over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostSection {
    /// Whether plugins listen on their own ports too.
    pub direct_ports: bool,
    /// When not empty, components without a signature of one of these keys are refused.
    pub trusted_keys: Vec<TrustedKey>,
    /// Requests per minute and principal; 0 turns the limit off; none: 600.
    pub rate_limit_per_minute: Option<u32>,
    /// Requests per minute of a whole organization; 0: not counted.
    pub organization_rate_per_minute: u32,
    /// Requests per minute from one address, with or without a token; 0: not counted.
    pub address_rate_per_minute: u32,
    /// Requests under way before one more is turned away (16 to 100000).
    pub in_flight_max: Option<u32>,
    /// A deployed component, in MiB (1 to 1024).
    pub deploy_mib: u32,
}

impl Default for HostSection {
    fn default() -> Self {
        Self {
            direct_ports: false,
            trusted_keys: Vec::new(),
            rate_limit_per_minute: None,
            organization_rate_per_minute: 0,
            address_rate_per_minute: 0,
            in_flight_max: None,
            deploy_mib: 64,
        }
    }
}

/// One `[[plugin]]`.
#[derive(Clone, Debug)]
pub(crate) struct PluginEntry {
    pub origin: EntryOrigin,
    /// Name, grant, limits and config.
    pub plugin: Arc<Plugin>,
    /// The component of the first deploy; a relative path is relative to the manifest. May not exist. None only for an
    /// entry that did not come from the file.
    pub component: Option<PathBuf>,
    /// Path prefixes of whole segments, as `/api/plans`.
    pub routes: Vec<String>,
    /// The direct port, when the host opens direct ports.
    pub port: Option<u16>,
    /// Routes that need no token, each under one of `routes`.
    pub public: Vec<PublicRoute>,
    pub isolation: Isolation,
    /// Timers of the manifest; they win over the component's own of the same name.
    pub timers: Vec<TimerEntry>,
    /// `[plugin.rate_limits]`: requests per minute and principal below a path prefix.
    pub rate_limits: Vec<RouteLimit>,
}

/// One entry of `public`: `GET /api/calendar/feed.ics`, or without a method for every method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicRoute {
    /// Upper case; none: every method.
    pub method: Option<String>,
    /// With `{name}` for one segment and `{*name}` at the end for the rest.
    pub path: String,
}

/// One entry of `[plugin.timers]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimerEntry {
    pub name: String,
    /// An interval (`30s`, `15m`, `1h`, `1d`) or a cron expression; judged.
    pub schedule: String,
}

/// One entry of `[plugin.rate_limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteLimit {
    /// A path prefix of whole segments below one of the plugin's routes.
    pub prefix: String,
    pub per_minute: u32,
}

/// One thing wrong with the manifest, as `plugins.toml:12: sentence`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    /// The file's name, or `entry of <plugin>`.
    pub file: String,
    /// From 1; none where no line is to blame.
    pub line: Option<usize>,
    pub sentence: String,
    pub kind: FaultKind,
}

/// Who is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// The entry is wrong in itself.
    Wrong,
    /// It claims what another plugin or the host has.
    Taken,
}

impl Fault {
    /// Where it stands: `plugins.toml:12`.
    pub(crate) fn place(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.file),
            None => self.file.clone(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place(), self.sentence)
    }
}

impl ManifestFile {
    /// Reads the file at `path`, and judges no more than whether it is TOML.
    ///
    /// # Errors
    /// The fault that keeps it from being read.
    pub(crate) fn read(path: &Path) -> Result<Self, Vec<Fault>> {
        let file =
            path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        let folder = path.parent().unwrap_or(Path::new(""));
        let fault = |sentence: String| {
            vec![Fault { file: path.display().to_string(), line: None, sentence, kind: FaultKind::Wrong }]
        };
        let size = std::fs::metadata(path).map_err(|error| fault(format!("cannot be read: {error}")))?.len();
        if size > MANIFEST_BYTES_MAX {
            return Err(fault(format!("is larger than {MANIFEST_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| fault(format!("cannot be read: {error}")))?;
        Self::new(&file, folder, text)
    }

    /// A manifest's text. `name` is for the messages; component paths are relative to `folder`.
    ///
    /// # Errors
    /// When it is not TOML.
    pub(crate) fn new(name: &str, folder: &Path, text: String) -> Result<Self, Vec<Fault>> {
        let entries = entry::of_file(entry::parse(name, &text).map_err(|fault| vec![fault])?.as_table());
        Ok(Self { name: name.to_owned(), folder: folder.to_owned(), text, entries })
    }

    /// A plugin's entry in the form of [`plain`].
    pub(crate) fn entry(&self, plugin: &str) -> Option<&str> {
        self.entries.get(plugin).map(String::as_str)
    }
}

impl Manifest {
    /// Reads and judges the manifest at `path`.
    ///
    /// # Errors
    /// Every fault found, in the order of the lines.
    pub(crate) fn load(path: &Path) -> Result<Self, Vec<Fault>> {
        Self::judge(&Arc::new(ManifestFile::read(path)?), &[])
    }

    /// Judges a file with the entries that lie over it, as one manifest.
    ///
    /// # Errors
    /// Every fault found, in the order of the texts and lines.
    pub(crate) fn judge(file: &Arc<ManifestFile>, laid: &[Laid]) -> Result<Self, Vec<Fault>> {
        let document = entry::parse(&file.name, &file.text).map_err(|fault| vec![fault])?;
        let mut judge = Judge::new(&file.name, &file.text);
        let (host, mut drafts) = judge_document(&mut judge, document.as_table(), &file.folder);
        for change in laid {
            drafts.retain(|draft| draft.name.value != change.plugin);
            if let Some(text) = &change.entry {
                drafts.extend(entry::judge(&mut judge, &change.plugin, text, file)?);
            }
        }
        if drafts.len() > PLUGINS_MAX {
            judge.go_back(0);
            judge.fault_at(None, format!("there are more than {PLUGINS_MAX} plugins"));
        }
        overlap::judge(&mut judge, &drafts);
        let plugins = drafts.into_iter().map(plugin::Draft::into_entry).collect();
        judge.finish().map(|()| Self { host, plugins, file: Arc::clone(file) })
    }

    /// The entry of a plugin.
    #[cfg(test)]
    pub(crate) fn plugin(&self, name: &str) -> Option<&PluginEntry> {
        self.plugins.iter().find(|entry| &*entry.plugin.name == name)
    }
}

/// Reads what the file itself says; what concerns several plugins is judged later.
fn judge_document(judge: &mut Judge<'_>, root: &toml_edit::Table, folder: &Path) -> (HostSection, Vec<plugin::Draft>) {
    judge.known_keys(root, "the manifest", &["host", "plugin"]);
    let host = match root.get_key_value("host") {
        Some((key, item)) => match judge.table(key, item) {
            Some(table) => judge_host(judge, table),
            None => HostSection::default(),
        },
        None => HostSection::default(),
    };
    let mut drafts = Vec::new();
    if let Some((key, item)) = root.get_key_value("plugin") {
        let tables = judge.tables(key, item);
        if tables.len() > PLUGINS_MAX {
            judge.fault_at(key.span(), format!("there are more than {PLUGINS_MAX} plugins"));
        }
        drafts.extend(
            tables.into_iter().take(PLUGINS_MAX).map(|(table, span)| plugin::judge(judge, table, span, folder, None)),
        );
    }
    (host, drafts)
}

fn judge_host(judge: &mut Judge<'_>, table: &dyn toml_edit::TableLike) -> HostSection {
    let defaults = HostSection::default();
    judge.known_keys(table, "[host]", HOST_KEYS);
    HostSection {
        direct_ports: judge.truth(table, "direct_ports").unwrap_or(defaults.direct_ports),
        trusted_keys: judge_keys(judge, table),
        rate_limit_per_minute: judge.number(table, "rate_limit_per_minute", 0..=1_000_000),
        organization_rate_per_minute: judge.number(table, "organization_rate_per_minute", 0..=1_000_000).unwrap_or(0),
        address_rate_per_minute: judge.number(table, "address_rate_per_minute", 0..=1_000_000).unwrap_or(0),
        in_flight_max: judge.number(table, "in_flight_max", 16..=100_000),
        deploy_mib: judge.number(table, "deploy_mib", 1..=1024).unwrap_or(defaults.deploy_mib),
    }
}

fn judge_keys(judge: &mut Judge<'_>, table: &dyn toml_edit::TableLike) -> Vec<TrustedKey> {
    let words = judge.strings(table, "trusted_keys");
    if let Some(word) = words.get(TRUSTED_KEYS_MAX) {
        judge.fault_at(word.span.clone(), format!("trusted_keys has more than {TRUSTED_KEYS_MAX} keys"));
    }
    let mut keys = Vec::new();
    for word in words {
        match TrustedKey::parse(&word.value) {
            Some(key) => keys.push(key),
            None => judge.fault_at(word.span, key_fault(&word.value)),
        }
    }
    keys
}

#[cfg(test)]
mod tests;
