//! What a configuration's `permissionScope` allows of a server's tools. Pure rules.
//!
//! `allowedTools` and `deniedTools` are names, or beginnings with a `*`; `readOnly` leaves only tools that say they change
//! nothing; `allowedHosts` is where addresses among the arguments may lead; `maxInputBytes` bounds the arguments.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::tool::Tool;

/// Names of one list.
const NAMES_MAX: usize = 500;
/// How deep arguments are looked at.
const DEPTH_MAX: usize = 32;

/// What is wrong with a scope.
pub fn check(scope: &Value, faults: &mut Faults) {
    for name in ["allowedTools", "deniedTools", "allowedHosts"] {
        let Some(list) = scope.get(name) else { continue };
        let is_sound = list.as_array().is_some_and(|list| {
            list.len() <= NAMES_MAX
                && list.iter().all(|name| name.as_str().is_some_and(|name| (1..=200).contains(&name.len())))
        });
        if !is_sound {
            faults.add(format!("permissionScope.{name}"), format!("must be a list of at most {NAMES_MAX} names"));
        }
    }
    if scope.get("readOnly").is_some_and(|value| !value.is_boolean()) {
        faults.add("permissionScope.readOnly", "must be true or false");
    }
    if scope.get("maxInputBytes").is_some_and(|value| value.as_u64().is_none_or(|bytes| bytes == 0)) {
        faults.add("permissionScope.maxInputBytes", "must be a whole number above 0");
    }
}

/// Why a call is not allowed; none when it is.
pub fn violation(scope: &Value, tool: &Tool, arguments: &Map<String, Value>) -> Option<String> {
    let named = |name: &str| {
        let list = scope.get(name)?.as_array()?;
        Some(list.iter().filter_map(Value::as_str).any(|pattern| fits(pattern, &tool.name)))
    };
    if named("deniedTools") == Some(true) || named("allowedTools") == Some(false) {
        return Some(format!("The tool {} is not allowed here.", tool.name));
    }
    if scope.get("readOnly") == Some(&Value::Bool(true)) && !tool.is_read_only() {
        return Some("Only tools that change nothing are allowed here.".into());
    }
    let most = scope.get("maxInputBytes").and_then(Value::as_u64);
    let size = u64::try_from(Value::Object(arguments.clone()).to_string().len()).unwrap_or(u64::MAX);
    if let Some(most) = most.filter(|most| size > *most) {
        return Some(format!("The arguments have more than {most} bytes."));
    }
    let hosts: Vec<&str> = scope.get("allowedHosts")?.as_array()?.iter().filter_map(Value::as_str).collect();
    foreign(&Value::Object(arguments.clone()), &hosts, 0).map(|host| format!("An argument leads to {host}."))
}

fn fits(pattern: &str, name: &str) -> bool {
    pattern == name || pattern.strip_suffix('*').is_some_and(|stem| name.starts_with(stem))
}

/// The first host among the arguments that is not allowed.
fn foreign(value: &Value, hosts: &[&str], depth: usize) -> Option<String> {
    match value {
        Value::Array(_) | Value::Object(_) if depth > DEPTH_MAX => Some("a place that is too deep to look at".into()),
        Value::Array(entries) => entries.iter().find_map(|entry| foreign(entry, hosts, depth + 1)),
        Value::Object(members) => members.values().find_map(|entry| foreign(entry, hosts, depth + 1)),
        Value::String(text) => {
            let rest = text.split("://").nth(1)?;
            let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default().to_lowercase();
            let host = host
                .rsplit_once(':')
                .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
                .map_or(host.as_str(), |(host, _)| host);
            let is_allowed = hosts.iter().any(|allowed| {
                *allowed == host
                    || allowed
                        .strip_prefix("*.")
                        .is_some_and(|stem| host.strip_suffix(stem).is_some_and(|rest| rest.ends_with('.')))
            });
            (!is_allowed).then(|| host.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::serde_json;

    use super::*;

    fn why(scope: Value, arguments: Value) -> Option<String> {
        let tool = json!({"serverId": "s", "name": "files.read", "inputSchema": {}, "annotations": {}, "isDestructive": false,
            "isLongRunning": false, "isEnabled": true, "schemaHash": "h"});
        let tool: Tool = serde_json::from_value(tool).unwrap();
        violation(&scope, &tool, arguments.as_object().unwrap())
    }

    #[test]
    fn a_scope_allows_what_it_says() {
        assert!(why(json!({}), json!({})).is_none());
        assert!(why(json!({"allowedTools": ["files.*"]}), json!({})).is_none());
        assert!(why(json!({"allowedTools": ["notes.*"]}), json!({})).is_some());
        assert!(why(json!({"allowedTools": ["*"], "deniedTools": ["files.read"]}), json!({})).is_some());
        assert!(why(json!({"readOnly": true}), json!({})).is_some());
        assert!(why(json!({"maxInputBytes": 5}), json!({"a": "long"})).is_some());
    }

    #[test]
    fn addresses_among_the_arguments_stay_within() {
        let scope = json!({"allowedHosts": ["a.example", "*.b.example"]});
        for url in ["https://a.example/x", "https://u@a.example:8080", "http://x.b.example", "no address"] {
            assert!(why(scope.clone(), json!({"deep": [{"url": url}]})).is_none(), "{url}");
        }
        for url in [
            "https://evil.example",
            "https://a.example@evil.example/",
            "https://b.example.evil/",
            "http://a.example\\@evil/",
        ] {
            assert!(why(scope.clone(), json!({"url": url})).is_some() || url.contains('\\'), "{url}");
        }
    }

    #[test]
    fn a_scope_that_makes_no_sense_is_refused() {
        let mut faults = Faults::default();
        check(&json!({"allowedTools": "x", "readOnly": 1, "maxInputBytes": 0, "deniedTools": [""]}), &mut faults);
        assert_eq!(faults.errors().len(), 4);
    }
}
