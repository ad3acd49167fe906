//! What a build asks for and what a plan found, as lines for people.

use serde_json::Value;

use super::inspect::{short_digest, text};

/// How a build differs from the one before it: a line for each kind of difference, none where there is none. A first build
/// is told whole.
pub(super) fn lines(plugin: &str, report: &Value) -> Vec<String> {
    let Some(changes) = report.get("changes").filter(|changes| !changes.is_null()) else { return Vec::new() };
    let is_first = report.get("previousRevision").is_some_and(Value::is_null);
    let mut lines = Vec::new();
    let kinds: &[(&str, &str)] = match is_first {
        true => &[("wants", "wants")],
        false => &[("newlyWants", "newly wants"), ("noLongerWants", "no longer wants")],
    };
    for (member, verb) in kinds {
        if let Some(words) = list(changes, member) {
            lines.push(format!("{plugin}: {verb} {words}"));
        }
    }
    if let Some(routes) = list(changes, "lostRoutes") {
        let callers = list(changes, "callers").map(|callers| format!(", which {callers} may call"));
        lines.push(format!("{plugin}: no longer has {routes}{}", callers.unwrap_or_default()));
    }
    lines
}

/// A plan, whole.
pub(super) fn plan_lines(plugin: &str, plan: &Value) -> Vec<String> {
    let number = |member: &str| plan.get(member).and_then(Value::as_i64);
    let mut first = format!("{plugin}: a deploy would make this revision {}", number("revision").unwrap_or_default());
    if let Some(digest) = text(plan, "sha256") {
        first.push_str(&format!(" ({})", short_digest(digest)));
    }
    if let Some(previous) = number("previousRevision") {
        first.push_str(&format!(" in place of {previous}"));
    }
    let mut lines = vec![first];
    lines.extend(self::lines(plugin, plan));
    let migrations = members(plan, "migrations").iter().filter_map(|migration| {
        let statements = migration.get("statements").and_then(Value::as_u64)?;
        Some(format!("{} ({statements} statement{})", text(migration, "name")?, if statements == 1 { "" } else { "s" }))
    });
    let migrations: Vec<String> = migrations.collect();
    lines.push(match migrations.is_empty() {
        true => format!("{plugin}: no new migrations"),
        false => format!("{plugin}: applies the migrations {}", plain(&migrations.join(", "))),
    });
    let flags: Vec<String> =
        members(plan, "needs").iter().filter_map(Value::as_str).map(|word| format!("--{}", plain(word))).collect();
    lines.push(match flags.is_empty() {
        true => format!("{plugin}: nothing has to be accepted, and nothing was swapped"),
        false => format!("{plugin}: the deploy needs {}; nothing was swapped", flags.join(" and ")),
    });
    lines
}

/// The words of a list, or none where it is empty.
fn list(changes: &Value, member: &str) -> Option<String> {
    let words: Vec<&str> = members(changes, member).iter().filter_map(Value::as_str).collect();
    (!words.is_empty()).then(|| plain(&words.join(", ")))
}

/// The entries of a list; none where it is absent.
fn members<'a>(row: &'a Value, member: &str) -> &'a [Value] {
    row.get(member).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What a host sends may hold a guest's words, and those control characters.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_a_line_each() {
        let report = json!({"previousRevision": 3, "changes": {
            "wants": ["cache", "outbound api.example.com"], "newlyWants": ["outbound api.example.com"],
            "noLongerWants": ["mail"], "lostRoutes": ["GET /api/x"], "callers": ["dashboard", "workflow"],
        }});
        assert_eq!(
            lines("planning", &report),
            [
                "planning: newly wants outbound api.example.com",
                "planning: no longer wants mail",
                "planning: no longer has GET /api/x, which dashboard, workflow may call",
            ]
        );
        let first = json!({"previousRevision": null, "changes": {"wants": ["cache"], "newlyWants": []}});
        assert_eq!(lines("planning", &first), ["planning: wants cache"]);
        assert!(lines("planning", &json!({"changes": null})).is_empty());
    }

    #[test]
    fn a_plan_says_what_a_deploy_would_do_and_need() {
        let plan = json!({"revision": 4, "previousRevision": 3, "sha256": "0123456789abcdef", "needs": ["grant", "force"],
            "migrations": [{"name": "0002_more", "statements": 1}, {"name": "0003_most", "statements": 2}],
            "changes": {"newlyWants": ["cache\u{1b}[2J"]}});
        assert_eq!(
            plan_lines("planning", &plan),
            [
                "planning: a deploy would make this revision 4 (0123456789ab) in place of 3",
                "planning: newly wants cache [2J",
                "planning: applies the migrations 0002_more (1 statement), 0003_most (2 statements)",
                "planning: the deploy needs --grant and --force; nothing was swapped",
            ]
        );
    }
}
