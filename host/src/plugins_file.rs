//! The manifest, `plugins.toml`: which plugins exist, what each may do, and where it is mounted.
//!
//! It is judged whole, and every fault is reported with its line. It must never be half taken: a manifest with one fault
//! changes nothing. It says nothing of revisions; those live in the database.

mod document;
mod overlap;
mod plugin;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::capability::Plugin;
use crate::capability::grant::Isolation;
use document::Judge;

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
    /// In the order of the file; names, routes, ports and table prefixes are distinct.
    pub plugins: Vec<PluginEntry>,
}

/// `[host]`. The environment wins over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostSection {
    /// Whether plugins listen on their own ports too.
    pub direct_ports: bool,
    /// When not empty, components without a signature of one of these keys are refused.
    pub trusted_keys: Vec<String>,
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
    /// Name, grant, limits and config.
    pub plugin: Arc<Plugin>,
    /// The component of the first deploy; a relative path is relative to the manifest. May not exist.
    pub component: PathBuf,
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
    pub file: String,
    /// From 1; none where no line is to blame.
    pub line: Option<usize>,
    pub sentence: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}:{line}: {}", self.file, self.sentence),
            None => write!(formatter, "{}: {}", self.file, self.sentence),
        }
    }
}

impl Manifest {
    /// Reads and judges the manifest at `path`.
    ///
    /// # Errors
    /// Every fault found, in the order of the lines.
    pub(crate) fn load(path: &Path) -> Result<Self, Vec<Fault>> {
        let file =
            path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        let folder = path.parent().unwrap_or(Path::new(""));
        let fault = |sentence: String| vec![Fault { file: path.display().to_string(), line: None, sentence }];
        let size = std::fs::metadata(path).map_err(|error| fault(format!("cannot be read: {error}")))?.len();
        if size > MANIFEST_BYTES_MAX {
            return Err(fault(format!("is larger than {MANIFEST_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| fault(format!("cannot be read: {error}")))?;
        Self::parse(&file, folder, &text)
    }

    /// Judges a manifest's text. `file` is for the messages; component paths are relative to `folder`.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub(crate) fn parse(file: &str, folder: &Path, text: &str) -> Result<Self, Vec<Fault>> {
        let document = toml_edit::Document::parse(text).map_err(|error| {
            let line = error.span().map(|span| document::line_of(text, span.start));
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            vec![Fault { file: file.to_owned(), line, sentence: format!("is not TOML: {message}") }]
        })?;
        let mut judge = Judge::new(file, text);
        let manifest = judge_document(&mut judge, document.as_table(), folder);
        judge.finish().map(|()| manifest)
    }

    /// The entry of a plugin.
    pub(crate) fn plugin(&self, name: &str) -> Option<&PluginEntry> {
        self.plugins.iter().find(|entry| &*entry.plugin.name == name)
    }
}

fn judge_document(judge: &mut Judge<'_>, root: &toml_edit::Table, folder: &Path) -> Manifest {
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
            tables.into_iter().take(PLUGINS_MAX).map(|(table, span)| plugin::judge(judge, table, span, folder)),
        );
    }
    overlap::judge(judge, &drafts);
    Manifest { host, plugins: drafts.into_iter().map(plugin::Draft::into_entry).collect() }
}

fn judge_host(judge: &mut Judge<'_>, table: &dyn toml_edit::TableLike) -> HostSection {
    let defaults = HostSection::default();
    judge.known_keys(table, "[host]", HOST_KEYS);
    HostSection {
        direct_ports: judge.truth(table, "direct_ports").unwrap_or(defaults.direct_ports),
        trusted_keys: judge.strings(table, "trusted_keys").into_iter().map(|word| word.value).collect(),
        rate_limit_per_minute: judge.number(table, "rate_limit_per_minute", 0..=1_000_000),
        organization_rate_per_minute: judge.number(table, "organization_rate_per_minute", 0..=1_000_000).unwrap_or(0),
        address_rate_per_minute: judge.number(table, "address_rate_per_minute", 0..=1_000_000).unwrap_or(0),
        in_flight_max: judge.number(table, "in_flight_max", 16..=100_000),
        deploy_mib: judge.number(table, "deploy_mib", 1..=1024).unwrap_or(defaults.deploy_mib),
    }
}

#[cfg(test)]
mod tests;
