//! Arrows between the rooms of the host point downward only.
//!
//! It looks at `crate::room` in the code of `host/src`; a path through `super` cannot leave a room unseen, as rooms are
//! top-level modules.

use super::Finding;
use super::source::Source;

/// The rooms by height: a room may use those with a smaller number. Rooms of one height do not know each other.
const HEIGHTS: &[(&str, u8)] = &[
    ("main", 9),
    ("cli", 8),
    ("app", 7),
    ("gateway", 6),
    ("worker", 6),
    ("accounts", 5),
    ("deploy", 5),
    ("plugins_file", 4),
    ("engine", 3),
    ("capability", 2),
    ("database", 1),
    ("bindings", 1),
    ("settings", 1),
];
/// May be used by all, and use nothing above the database.
const SHARED: &[&str] = &["principal", "body", "schedule", "signature", "tasks", "telemetry", "trace"];
/// The settings are handed down by `app` as values: only these may name their room.
const MAY_KNOW_SETTINGS: &[&str] = &["main", "cli", "app", "plugins_file"];
/// Upward by height, and right: the bindings name the handle types that a room keeps behind a WIT resource.
const ALLOWED: &[(&str, &str)] = &[("bindings", "capability")];

/// Every `crate::room` that points up or sideways.
pub(super) fn check(source: &Source, findings: &mut Vec<Finding>) {
    let Some(room) = room_of(&source.path) else { return };
    for (line, code) in source.code_lines() {
        for target in targets(code) {
            if let Some(sentence) = judge(room, target) {
                findings.push(Finding { path: source.path.clone(), line: Some(line), sentence });
            }
        }
    }
}

/// `host/src/gateway/route.rs` lies in `gateway`.
fn room_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("host/src/")?;
    Some(rest.split(['/', '.']).next().unwrap_or(rest))
}

/// The rooms named by `crate::room` and `crate::{a, b::c}` on one line.
fn targets(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, begin) in code.match_indices("crate::") {
        // `$crate` belongs to a macro's caller, and `some_crate::` is another name.
        if code.get(..at).is_some_and(|before| before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')) {
            continue;
        }
        let rest = code.get(at + begin.len()..).unwrap_or_default();
        match rest.strip_prefix('{') {
            Some(list) => found.extend(top_level_names(list)),
            None => found.push(first_word(rest)),
        }
    }
    found
}

/// The first words of the entries of `a::{x, y}, b}`, without what is nested.
fn top_level_names(list: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let mut begin = 0;
    let mut names = Vec::new();
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(first_word(list.get(begin..at).unwrap_or_default().trim()));
                return names;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(first_word(list.get(begin..at).unwrap_or_default().trim()));
                begin = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    text.get(..end).unwrap_or(text)
}

/// What is wrong with `room` naming `target`, if anything.
fn judge(room: &str, target: &str) -> Option<String> {
    if room == target || SHARED.contains(&target) || ALLOWED.contains(&(room, target)) {
        return None;
    }
    let height = |name: &str| HEIGHTS.iter().find(|(room, _)| *room == name).map(|(_, height)| *height);
    let to = height(target)?;
    if SHARED.contains(&room) {
        return (to > 1).then(|| format!("{room} is shared by all rooms and must not know {target}"));
    }
    let Some(from) = height(room) else {
        return Some(format!("the room {room} has no place yet; give it one in xtask/src/tidy/arrows.rs"));
    };
    let is_down = to < from && (target != "settings" || MAY_KNOW_SETTINGS.contains(&room));
    (!is_down).then(|| format!("{room} must not know {target}: arrows between rooms point downward"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(&Source::new(path, text), &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arrows_point_downward_only() {
        for (path, text, count) in [
            ("host/src/gateway/route.rs", "use crate::deploy::Registry;", 0),
            ("host/src/gateway/route.rs", "use crate::principal::Principal;", 0),
            ("host/src/gateway/route.rs", "use crate::worker::Worker;", 1),
            ("host/src/deploy.rs", "use crate::gateway::Gateway;", 1),
            ("host/src/deploy.rs", "use crate::accounts::Accounts;", 1),
            ("host/src/engine/pool.rs", "fn a() { crate::deploy::b() }", 1),
            ("host/src/engine.rs", "// see crate::deploy", 0),
            ("host/src/engine.rs", "use crate::{capability::{a, deploy}, app, database};", 1),
            ("host/src/database.rs", "use crate::capability::Guest;", 1),
            ("host/src/principal.rs", "use crate::engine::Engine;", 1),
            ("host/src/app.rs", "use crate::{gateway, worker, settings::Settings};", 0),
            ("host/src/engine.rs", "#[cfg(test)]\nmod tests {\n use crate::app::x;\n}", 1),
            ("host/src/engine.rs", "\n#[cfg(test)]\nmod tests {\n use crate::app::x;\n}", 0),
            ("host/src/gateway.rs", "use crate::settings::Settings;", 1),
            ("components/sdk/src/lib.rs", "use crate::app;", 0),
        ] {
            assert_eq!(findings(path, text).len(), count, "{path}: {text}");
        }
    }
}
