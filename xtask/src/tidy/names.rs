//! Names that belong to one place: the stores' drivers, the engine, the environment.

use super::Finding;
use super::source::Source;

/// A crate or function, where it may be named, and what to do instead.
struct Rule {
    name: &'static str,
    is_allowed: fn(&str) -> bool,
    advice: &'static str,
}

const RULES: &[Rule] = &[
    Rule { name: "sqlx", is_allowed: is_store, advice: "go through crate::database" },
    Rule { name: "redis", is_allowed: is_store, advice: "go through the cache room" },
    Rule { name: "lapin", is_allowed: is_store, advice: "go through the queue room" },
    Rule { name: "wasmtime", is_allowed: is_engine, advice: "only bindings, engine and a room's host.rs may" },
    Rule { name: "wasmtime_wasi", is_allowed: is_engine, advice: "only bindings, engine and a room's host.rs may" },
    Rule {
        name: "wasmtime_wasi_http",
        is_allowed: is_engine,
        advice: "only bindings, engine and a room's host.rs may",
    },
];
/// Functions that read the environment.
const ENVIRONMENT: [&str; 4] = ["env::var(", "env::var_os(", "env::vars(", "env::vars_os("];

fn is_store(path: &str) -> bool {
    ["capability/", "database/", "database.rs"].iter().any(|place| path.starts_with(place))
}

fn is_engine(path: &str) -> bool {
    ["engine/", "engine.rs", "bindings.rs", "bindings/"].iter().any(|place| path.starts_with(place))
        || (path.starts_with("capability/") && path.ends_with("/host.rs"))
}

fn may_read_environment(path: &str) -> bool {
    ["settings.rs", "settings/", "cli.rs", "cli/", "main.rs"].iter().any(|place| path.starts_with(place))
}

/// Every forbidden name in the code of the host.
pub(super) fn check(source: &Source, findings: &mut Vec<Finding>) {
    let Some(path) = source.path.strip_prefix("host/src/") else { return };
    for (line, code) in source.code_lines() {
        let mut find = |sentence: String| {
            findings.push(Finding { path: source.path.clone(), line: Some(line), sentence });
        };
        // A room's suite may play the guest.
        for rule in RULES.iter().filter(|rule| !(rule.is_allowed)(path) && !source.is_test_only()) {
            if names_crate(code, rule.name) {
                find(format!("names {}; {}", rule.name, rule.advice));
            }
        }
        let reads = ENVIRONMENT.iter().any(|function| code.contains(function));
        if reads && !may_read_environment(path) && !source.is_test_only() {
            find("reads the environment; only settings and the command line may".to_owned());
        }
    }
}

/// Whether the code uses the crate: `name::`, `use name;` or `::name` after no other word.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code.get(..at).unwrap_or_default();
        let after = code.get(at + name.len()..).unwrap_or_default();
        let is_word = before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '"' || c == '.');
        let is_path = before.ends_with("::") && !before.trim_start().is_empty() && before.trim() != "::";
        !is_word
            && !is_path
            && (after.starts_with("::") || (before.trim_end().ends_with("use") && after.starts_with(';')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_places() {
        for (path, text, count) in [
            ("host/src/capability/cache/redis.rs", "use redis::Client;", 0),
            ("host/src/gateway.rs", "use redis::Client;", 1),
            ("host/src/accounts/users.rs", "let a = sqlx::query(\"x\");", 1),
            ("host/src/capability/cache.rs", "mod redis;\npub(crate) use self::redis::Redis;", 0),
            ("host/src/accounts.rs", "//! never sqlx::query", 0),
            ("host/src/deploy.rs", "use wasmtime::Engine;", 1),
            ("host/src/capability/cache/host.rs", "use wasmtime::component::Linker;", 0),
            ("host/src/capability/cache.rs", "fn link(l: wasmtime::component::Linker<T>)", 1),
            ("host/src/capability/cache/conformance.rs", "std::env::var(\"X\")", 0),
            ("host/src/capability/cache.rs", "std::env::var(\"X\")", 1),
            ("host/src/settings/read.rs", "std::env::var(\"X\")", 0),
        ] {
            let mut findings = Vec::new();
            check(&Source::new(path, text), &mut findings);
            assert_eq!(findings.len(), count, "{path}: {text}: {findings:?}");
        }
    }
}
