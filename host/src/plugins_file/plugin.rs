//! Judging one `[[plugin]]`. What concerns several plugins is in `overlap`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml_edit::{Table, TableLike};

use super::document::{Judge, Word};
use super::{EntryOrigin, PluginEntry, PublicRoute, RouteLimit, TimerEntry, words};
use crate::capability::Plugin;
use crate::capability::grant::{Grant, Isolation, Limits};
use crate::settings::nearest;

const PLUGIN_KEYS: &[&str] = &[
    "name",
    "component",
    "routes",
    "port",
    "public",
    "isolation",
    "grant",
    "timers",
    "limits",
    "rate_limits",
    "config",
];
const GRANT_KEYS: &[&str] = &[
    "tables",
    "cache",
    "publish",
    "consume",
    "call",
    "outbound",
    "outbound_private",
    "secrets",
    "mail",
    "act_for_users",
    "serve_as_members",
];
const LIMIT_KEYS: &[&str] =
    &["memory_mib", "request_timeout_ms", "concurrency", "body_mib", "rate_per_minute", "drain_ms"];
const ISOLATIONS: [(&str, Isolation); 3] =
    [("request", Isolation::Request), ("organization", Isolation::Organization), ("plugin", Isolation::Plugin)];
/// Characters of one value in `[plugin.config]`.
const CONFIG_VALUE_CHARACTERS_MAX: usize = 64 * 1024;
const TIMERS_MAX: usize = 20;
/// First segments of the host's own event types: a plugin that could publish them could forge them.
const HOST_EVENTS: [&str; 10] =
    ["host", "timer", "user", "session", "sessions", "auth", "organization", "team", "role", "invitation"];

/// A plugin as far as it could be read, with the places of what is compared later.
pub(super) struct Draft {
    /// In which of the judge's texts the places are.
    pub source: usize,
    pub origin: EntryOrigin,
    pub name: Word,
    pub component: Option<PathBuf>,
    pub routes: Vec<Word>,
    pub port: Option<(u16, Option<Range<usize>>)>,
    pub public: Vec<PublicRoute>,
    pub isolation: Isolation,
    pub tables: Vec<Word>,
    pub call: Vec<Word>,
    pub grant: Grant,
    pub limits: Limits,
    pub timers: Vec<TimerEntry>,
    pub rate_limits: Vec<RouteLimit>,
    pub config: BTreeMap<String, String>,
}

impl Draft {
    pub(super) fn into_entry(self) -> PluginEntry {
        let plugin = Plugin {
            name: Arc::from(self.name.value),
            grant: Grant { tables: values(self.tables), call: values(self.call), ..self.grant },
            limits: self.limits,
            config: self.config,
        };
        PluginEntry {
            origin: self.origin,
            plugin: Arc::new(plugin),
            component: self.component,
            routes: values(self.routes),
            port: self.port.map(|(port, _)| port),
            public: self.public,
            isolation: self.isolation,
            timers: self.timers,
            rate_limits: self.rate_limits,
        }
    }
}

/// Reads one plugin and reports what is wrong with it alone. `laid` is the plugin that an entry outside the file is for:
/// such an entry need not repeat the name, and its first build was deployed and need not lie in a file.
pub(super) fn judge(
    judge: &mut Judge<'_>,
    table: &Table,
    span: Option<Range<usize>>,
    folder: &Path,
    laid: Option<&str>,
) -> Draft {
    judge.known_keys(table, "[[plugin]]", PLUGIN_KEYS);
    let name = judge_name(judge, table, span.clone(), laid);
    let has_component = laid.is_none() || table.contains_key("component");
    let component = has_component.then(|| required(judge, table, "component", span.clone()).value);
    let routes = judge_routes(judge, table, span);
    let public = judge_public(judge, table, &routes);
    let port_span = table.get("port").and_then(toml_edit::Item::span);
    let port = judge.number(table, "port", 1..=u32::from(u16::MAX)).and_then(|port| u16::try_from(port).ok());
    let (grant, tables, call) = match judge.section(table, "grant") {
        Some(section) => judge_grant(judge, section),
        None => (Grant::default(), Vec::new(), Vec::new()),
    };
    Draft {
        source: judge.source(),
        origin: EntryOrigin::File,
        name,
        component: component.map(|component| folder.join(component)),
        port: port.map(|port| (port, port_span)),
        public,
        isolation: judge_isolation(judge, table),
        tables,
        call,
        grant,
        limits: judge.section(table, "limits").map_or_else(Limits::default, |section| judge_limits(judge, section)),
        timers: judge.section(table, "timers").map_or_else(Vec::new, |section| judge_timers(judge, section)),
        rate_limits: judge
            .section(table, "rate_limits")
            .map_or_else(Vec::new, |section| judge_rate_limits(judge, section, &routes)),
        config: judge.section(table, "config").map_or_else(BTreeMap::new, |section| judge_config(judge, section)),
        routes,
    }
}

fn judge_name(judge: &mut Judge<'_>, table: &Table, span: Option<Range<usize>>, laid: Option<&str>) -> Word {
    let name = match laid {
        Some(laid) if !table.contains_key("name") => Word { value: laid.to_owned(), span },
        _ => required(judge, table, "name", span),
    };
    if let Some(laid) = laid.filter(|laid| !name.value.is_empty() && *laid != name.value) {
        judge.fault_at(name.span.clone(), format!("the entry is for {laid}, but names {}", name.value));
    }
    if !name.value.is_empty() && !words::is_kebab(&name.value) {
        let sentence =
            format!("\"{}\" is not a plugin's name: small letters, digits and single hyphens, at most 40", name.value);
        judge.fault_at(name.span.clone(), sentence);
    } else if words::is_reserved_name(&name.value) {
        judge.fault_at(name.span.clone(), format!("the name {} is reserved", name.value));
    }
    name
}

fn judge_routes(judge: &mut Judge<'_>, table: &Table, span: Option<Range<usize>>) -> Vec<Word> {
    let is_missing = table.get("routes").is_none();
    let routes = judge.strings(table, "routes");
    if is_missing {
        judge.fault_at(span, "a [[plugin]] needs routes = [\"/api/…\"]".to_owned());
    }
    for route in routes.iter().filter(|route| !words::is_route(&route.value)) {
        let sentence = format!(
            "\"{}\" is not a route: a path of whole segments without a slash at the end, as /api/plans",
            route.value
        );
        judge.fault_at(route.span.clone(), sentence);
    }
    routes
}

fn judge_public(judge: &mut Judge<'_>, table: &Table, routes: &[Word]) -> Vec<PublicRoute> {
    let mut public = Vec::new();
    for word in judge.strings(table, "public") {
        match words::public_route(&word.value) {
            Some(route) if routes.iter().any(|prefix| words::is_below(&route.path, &prefix.value)) => {
                public.push(route)
            }
            Some(route) => {
                judge.fault_at(word.span, format!("public {} is not below one of the plugin's routes", route.path))
            }
            None => {
                let sentence =
                    format!("\"{}\" is not a public route, as in \"GET /api/calendar/feed/{{token}}\"", word.value);
                judge.fault_at(word.span, sentence);
            }
        }
    }
    public
}

fn judge_isolation(judge: &mut Judge<'_>, table: &Table) -> Isolation {
    let Some(word) = judge.string(table, "isolation") else { return Isolation::default() };
    match ISOLATIONS.iter().find(|(name, _)| *name == word.value) {
        Some((_, isolation)) => *isolation,
        None => {
            let hint = nearest(&word.value, ISOLATIONS.iter().map(|(name, _)| *name)).map_or_else(
                || "it is one of request, organization, plugin".to_owned(),
                |near| format!("did you mean {near}?"),
            );
            judge.fault_at(word.span, format!("there is no isolation \"{}\"; {hint}", word.value));
            Isolation::default()
        }
    }
}

fn judge_grant(judge: &mut Judge<'_>, section: &dyn TableLike) -> (Grant, Vec<Word>, Vec<Word>) {
    judge.known_keys(section, "[plugin.grant]", GRANT_KEYS);
    let tables = judge.strings(section, "tables");
    for prefix in tables.iter().filter(|prefix| !words::is_table_prefix(&prefix.value)) {
        let sentence =
            format!("\"{}\" is not a table prefix: small letters, digits and underscores, ending in _", prefix.value);
        judge.fault_at(prefix.span.clone(), sentence);
    }
    let publish = judge_patterns(judge, section, "publish");
    for pattern in &publish {
        let first = pattern.value.split('.').next().unwrap_or_default();
        if matches!(first, "*" | "#") || HOST_EVENTS.contains(&first) {
            judge.fault_at(
                pattern.span.clone(),
                format!("publish \"{}\" would allow the host's own events", pattern.value),
            );
        }
    }
    let grant = Grant {
        tables: Vec::new(),
        cache: judge.truth(section, "cache").unwrap_or_default(),
        publish: values(publish),
        consume: values(judge_patterns(judge, section, "consume")),
        call: Vec::new(),
        outbound: judge_words(
            judge,
            section,
            "outbound",
            words::is_outbound,
            "a name to reach, as api.example.com or *.example.com:8443",
        ),
        outbound_private: judge_words(
            judge,
            section,
            "outbound_private",
            words::is_address_range,
            "an address or a range, as 10.0.0.0/8",
        ),
        secrets: judge.truth(section, "secrets").unwrap_or_default(),
        mail: judge.truth(section, "mail").unwrap_or_default(),
        act_for_users: judge.truth(section, "act_for_users").unwrap_or_default(),
        serve_as_members: judge_words(
            judge,
            section,
            "serve_as_members",
            words::is_permission,
            "a permission without wildcards, as calendar.calendar.read",
        ),
    };
    let call = judge.strings(section, "call");
    (grant, tables, call)
}

fn judge_patterns(judge: &mut Judge<'_>, section: &dyn TableLike, name: &str) -> Vec<Word> {
    let patterns = judge.strings(section, name);
    for pattern in patterns.iter().filter(|pattern| !words::is_topic_pattern(&pattern.value)) {
        judge.fault_at(
            pattern.span.clone(),
            format!("{name}: \"{}\" is not a pattern of event types, as planning.#", pattern.value),
        );
    }
    patterns
}

fn judge_words(
    judge: &mut Judge<'_>,
    section: &dyn TableLike,
    name: &str,
    is_good: fn(&str) -> bool,
    wanted: &str,
) -> Vec<String> {
    let found = judge.strings(section, name);
    for word in found.iter().filter(|word| !is_good(&word.value)) {
        judge.fault_at(word.span.clone(), format!("{name}: \"{}\" is not {wanted}", word.value));
    }
    values(found)
}

fn judge_limits(judge: &mut Judge<'_>, section: &dyn TableLike) -> Limits {
    let defaults = Limits::default();
    judge.known_keys(section, "[plugin.limits]", LIMIT_KEYS);
    let milliseconds = |number: u32| Duration::from_millis(u64::from(number));
    Limits {
        memory_mib: judge.number(section, "memory_mib", 1..=4096).unwrap_or(defaults.memory_mib),
        request_timeout: judge
            .number(section, "request_timeout_ms", 10..=600_000)
            .map_or(defaults.request_timeout, milliseconds),
        concurrency: judge.number(section, "concurrency", 1..=10_000).unwrap_or(defaults.concurrency),
        body_mib: judge.number(section, "body_mib", 1..=1024).unwrap_or(defaults.body_mib),
        rate_per_minute: judge.number(section, "rate_per_minute", 0..=1_000_000),
        drain: judge.number(section, "drain_ms", 0..=600_000).map_or(defaults.drain, milliseconds),
    }
}

fn judge_timers(judge: &mut Judge<'_>, section: &dyn TableLike) -> Vec<TimerEntry> {
    let entries = judge.string_entries(section);
    if let Some((name, _)) = entries.get(TIMERS_MAX) {
        judge.fault_at(name.span.clone(), format!("a plugin has at most {TIMERS_MAX} timers"));
    }
    let mut timers = Vec::new();
    for (name, schedule) in entries {
        if !words::is_kebab(&name.value) {
            judge.fault_at(
                name.span,
                format!("\"{}\" is not a timer's name: small letters, digits and hyphens", name.value),
            );
        } else if words::is_schedule(&schedule.value) {
            timers.push(TimerEntry { name: name.value, schedule: schedule.value });
        } else {
            let sentence = format!(
                "timer {}: \"{}\" is no schedule: write an interval of 1s to 366d, as 15m, or hourly, daily, weekly, or a cron expression, as 0 3 * * *",
                name.value, schedule.value
            );
            judge.fault_at(schedule.span, sentence);
        }
    }
    timers
}

fn judge_rate_limits(judge: &mut Judge<'_>, section: &dyn TableLike, routes: &[Word]) -> Vec<RouteLimit> {
    let prefixes: Vec<String> = section.iter().map(|(name, _)| name.to_owned()).collect();
    let mut limits = Vec::new();
    for prefix in prefixes {
        let span = section.get_key_value(&prefix).and_then(|(key, item)| key.span().or(item.span()));
        let Some(per_minute) = judge.number(section, &prefix, 1..=1_000_000) else { continue };
        if words::is_route(&prefix) && routes.iter().any(|route| words::is_below(&prefix, &route.value)) {
            limits.push(RouteLimit { prefix, per_minute });
        } else {
            judge.fault_at(span, format!("rate limit \"{prefix}\" is not a path below one of the plugin's routes"));
        }
    }
    limits
}

fn judge_config(judge: &mut Judge<'_>, section: &dyn TableLike) -> BTreeMap<String, String> {
    let mut config = BTreeMap::new();
    for (key, value) in judge.string_entries(section) {
        if !words::is_config_key(&key.value) {
            judge.fault_at(
                key.span,
                format!("\"{}\" is not a config key: letters, digits, _ - and ., at most 128", key.value),
            );
        } else if value.value.len() > CONFIG_VALUE_CHARACTERS_MAX {
            judge.fault_at(
                value.span,
                format!("config {} is longer than {CONFIG_VALUE_CHARACTERS_MAX} characters", key.value),
            );
        } else {
            config.insert(key.value, value.value);
        }
    }
    config
}

/// A string that must be there; empty when it is not.
fn required(judge: &mut Judge<'_>, table: &Table, name: &str, span: Option<Range<usize>>) -> Word {
    match table.get(name) {
        None => judge.fault_at(span.clone(), format!("a [[plugin]] needs a {name}")),
        Some(item) if item.as_str().is_some_and(|value| value.trim().is_empty()) => {
            judge.fault_at(item.span().or(span.clone()), format!("{name} must not be empty"));
        }
        Some(_) => {}
    }
    judge.string(table, name).unwrap_or(Word { value: String::new(), span })
}

fn values(words: Vec<Word>) -> Vec<String> {
    words.into_iter().map(|word| word.value).collect()
}
