//! What plugins may not share: names, ports, routes and table prefixes, with each other and with the host.

use super::document::{Judge, Word};
use super::plugin::Draft;
use super::words::is_below;
use crate::settings::nearest;

/// Paths that the host answers itself.
const HOST_ROUTES: &[&str] = &[
    "/health",
    "/ready",
    "/live",
    "/metrics",
    "/console",
    "/.well-known",
    "/api/auth",
    "/api/users",
    "/api/organizations",
    "/api/teams",
    "/api/permissions",
    "/api/invitations",
    "/api/audit",
    "/api/health",
    "/api/admin",
    "/api/docs",
    "/api/openapi.json",
];
/// In `call`: the main app, which says who belongs to an organization; see `gateway/directory.rs`.
const MAIN_APP: &str = "host";
/// Beginnings of tables that are not for plugins: the host's, the databases' own, and those that statements are written with.
const HOST_TABLE_PREFIXES: &[&str] = &["berth_", "pg_", "sqlite_", "text__", "vectors__", "cte__"];
/// The host's tables without prefix.
const HOST_TABLES: &[&str] = &[
    "users",
    "sessions",
    "accounts",
    "login_attempts",
    "password_history",
    "one_time_tokens",
    "organizations",
    "roles",
    "permissions",
    "role_permissions",
    "organization_memberships",
    "invitations",
    "teams",
    "team_members",
];

/// Reports everything that two plugins, or a plugin and the host, both claim.
pub(super) fn judge(judge: &mut Judge<'_>, plugins: &[Draft]) {
    for (position, plugin) in plugins.iter().enumerate() {
        let earlier = plugins.get(..position).unwrap_or_default();
        judge.go_back(plugin.source);
        judge_name_and_port(judge, plugin, earlier);
        judge_calls(judge, plugin, plugins);
    }
    judge_routes(judge, &claims(plugins, |plugin| &plugin.routes));
    judge_tables(judge, &claims(plugins, |plugin| &plugin.tables));
}

/// A word with the plugin that claims it.
struct Claim<'a> {
    plugin: &'a str,
    word: &'a Word,
    source: usize,
}

fn claims<'a>(plugins: &'a [Draft], pick: fn(&Draft) -> &Vec<Word>) -> Vec<Claim<'a>> {
    plugins
        .iter()
        .flat_map(|plugin| {
            pick(plugin).iter().map(|word| Claim { plugin: &plugin.name.value, word, source: plugin.source })
        })
        .collect()
}

fn judge_name_and_port(judge: &mut Judge<'_>, plugin: &Draft, earlier: &[Draft]) {
    let name = &plugin.name;
    if let Some(other) = earlier.iter().find(|other| !name.value.is_empty() && other.name.value == name.value) {
        let place = judge.place(other.source, other.name.span.as_ref());
        judge.taken_at(name.span.clone(), format!("the name {} is taken in {place}", name.value));
    }
    if let Some((port, span)) = &plugin.port
        && let Some(other) = earlier.iter().find(|other| other.port.as_ref().is_some_and(|(taken, _)| taken == port))
    {
        judge.taken_at(span.clone(), format!("port {port} is taken by {}", other.name.value));
    }
}

fn judge_calls(judge: &mut Judge<'_>, plugin: &Draft, plugins: &[Draft]) {
    for call in plugin.call.iter().filter(|call| call.value != "*" && call.value != MAIN_APP) {
        if plugins.iter().any(|other| other.name.value == call.value) {
            continue;
        }
        let hint = nearest(&call.value, plugins.iter().map(|other| other.name.value.as_str()))
            .map_or_else(String::new, |near| format!("; did you mean {near}?"));
        judge.fault_at(call.span.clone(), format!("call names {}, but there is no such plugin{hint}", call.value));
    }
}

fn judge_routes(judge: &mut Judge<'_>, claims: &[Claim<'_>]) {
    for (position, claim) in claims.iter().enumerate() {
        let route = claim.word.value.as_str();
        judge.go_back(claim.source);
        if let Some(host) = HOST_ROUTES.iter().find(|host| is_below(route, host) || is_below(host, route)) {
            judge.taken_at(
                claim.word.span.clone(),
                format!("route {route} overlaps {host}, which the host answers itself"),
            );
        }
        let earlier = claims.get(..position).unwrap_or_default();
        if let Some(other) = earlier.iter().find(|other| {
            let taken = other.word.value.as_str();
            is_below(route, taken) || is_below(taken, route)
        }) {
            let place = judge.place(other.source, other.word.span.as_ref());
            let sentence = format!("route {route} overlaps {} of {} in {place}", other.word.value, other.plugin);
            judge.taken_at(claim.word.span.clone(), sentence);
        }
    }
}

fn judge_tables(judge: &mut Judge<'_>, claims: &[Claim<'_>]) {
    for (position, claim) in claims.iter().enumerate() {
        let prefix = claim.word.value.as_str();
        if prefix.is_empty() {
            continue;
        }
        judge.go_back(claim.source);
        let is_host = HOST_TABLE_PREFIXES.iter().any(|host| overlaps(prefix, host))
            || HOST_TABLES.iter().any(|table| table.starts_with(prefix));
        if is_host {
            judge.taken_at(claim.word.span.clone(), format!("table prefix {prefix} is reserved for the host's tables"));
        }
        let earlier = claims.get(..position).unwrap_or_default();
        if let Some(other) = earlier.iter().find(|other| overlaps(prefix, &other.word.value)) {
            let place = judge.place(other.source, other.word.span.as_ref());
            let sentence =
                format!("table prefix {prefix} overlaps {} of {} in {place}", other.word.value, other.plugin);
            judge.taken_at(claim.word.span.clone(), sentence);
        }
    }
}

/// One being the beginning of the other: then a table could belong to both.
fn overlaps(left: &str, right: &str) -> bool {
    !left.is_empty() && !right.is_empty() && (left.starts_with(right) || right.starts_with(left))
}
