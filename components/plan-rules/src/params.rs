//! What `params` of each step type must hold. Unknown members are faults; paths are normalised in place.

use berth_sdk::{
    serde_json::{Map, Value},
    validate::{self, Faults, Path},
};

use crate::StepType;

/// The largest content of a file, in bytes.
pub const CONTENT_BYTES_MAX: usize = 1024 * 1024;
/// The longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 512;
/// The most assertions of one step or condition.
pub const ASSERTIONS_MAX: usize = 100;
/// The most arguments of a command.
pub const ARGUMENTS_MAX: usize = 200;
/// The longest a step may take, in milliseconds.
pub const TIMEOUT_MS_MAX: i64 = 24 * 60 * 60 * 1000;

/// Checks and normalises the parameters of a step.
///
/// ```
/// use berth_sdk::{json, validate::{Faults, Path}};
/// use plan_rules::{StepType, params::check};
/// let mut params = json!({"path": "./src//a.rs", "content": ""});
/// let mut faults = Faults::default();
/// check(StepType::FileCreate, &mut params, &Path::default(), &mut faults);
/// assert!(faults.is_empty());
/// assert_eq!(params["path"], "src/a.rs");
/// ```
pub fn check(kind: StepType, params: &mut Value, path: &Path<'_>, faults: &mut Faults) {
    let Some(members) = params.as_object_mut() else {
        return faults.add(path.to_string(), "must be an object");
    };
    let mut checker = Checker { members, path, faults };
    match kind {
        StepType::FileCreate => {
            checker.known(&["path", "content"]);
            checker.file_path("path");
            checker.content("content");
        }
        StepType::FileEdit => file_edit(&mut checker),
        StepType::FileDelete => {
            checker.known(&["path"]);
            checker.file_path("path");
        }
        StepType::Validation | StepType::Test => {
            checker.known(&["assertions"]);
            assertions(checker.members.get_mut("assertions"), 1, &path.member("assertions"), checker.faults);
        }
        StepType::Http => http(&mut checker),
        StepType::McpTool => {
            checker.known(&["serverId", "tool", "arguments"]);
            checker.id("serverId", true);
            checker.text("tool", 1, 200, true);
            checker.object("arguments", true);
        }
        StepType::Agent => {
            checker.known(&["agentId", "input", "context"]);
            checker.id("agentId", true);
            checker.present("input");
        }
        StepType::Human => human(&mut checker),
        StepType::Command => command(&mut checker),
    }
}

/// Checks and normalises a list of assertions, such as the conditions of a step.
pub fn conditions(list: &mut [Value], path: &Path<'_>, faults: &mut Faults) {
    if list.len() > ASSERTIONS_MAX {
        return faults.add(path.to_string(), format!("must have at most {ASSERTIONS_MAX} entries"));
    }
    for (index, value) in list.iter_mut().enumerate() {
        assertion(value, &path.index(index), faults);
    }
}

/// Checks and normalises one assertion.
pub fn assertion(value: &mut Value, path: &Path<'_>, faults: &mut Faults) {
    let Some(members) = value.as_object_mut() else {
        return faults.add(path.to_string(), "must be an object");
    };
    let kind = members.get("kind").and_then(Value::as_str).unwrap_or_default().to_string();
    let compares_step = members.contains_key("step");
    let mut checker = Checker { members, path, faults };
    match kind.as_str() {
        "exists" | "absent" => {
            checker.known(&["kind", "path"]);
            checker.file_path("path");
        }
        "contains" => {
            checker.known(&["kind", "path", "value"]);
            checker.file_path("path");
            checker.text("value", 1, CONTENT_BYTES_MAX, true);
        }
        "matches" => {
            checker.known(&["kind", "path", "pattern"]);
            checker.file_path("path");
            checker.text("pattern", 1, 1_000, true);
        }
        "equals" if compares_step => {
            checker.known(&["kind", "step", "pointer", "value"]);
            let names_step = checker.members.get("step").is_some_and(|step| {
                step.as_i64().is_some() || step.as_str().is_some_and(|id| validate::id(id).is_ok())
            });
            if !names_step {
                checker.add("step", "must be the order or the id of a step");
            }
            match checker.members.get("pointer").and_then(Value::as_str) {
                Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => {}
                _ => checker.add("pointer", "must be a JSON pointer such as /body/id"),
            }
            checker.present("value");
        }
        "equals" => {
            checker.known(&["kind", "path", "value"]);
            checker.file_path("path");
            checker.present("value");
        }
        "json_schema" => {
            checker.known(&["kind", "path", "schema"]);
            checker.file_path("path");
            checker.object("schema", true);
        }
        _ => checker.add("kind", "must be one of exists, absent, contains, matches, equals, json_schema"),
    }
}

/// A path relative to the workspace in its one form: no empty and no `.` segments; `..`, an absolute path, a backslash
/// and control characters are refused.
///
/// ```
/// use plan_rules::params::normalise_path;
/// assert_eq!(normalise_path("./a//b/./c.txt").unwrap(), "a/b/c.txt");
/// assert!(normalise_path("a/../b").is_err());
/// assert!(normalise_path("/etc/hosts").is_err());
/// ```
pub fn normalise_path(path: &str) -> Result<String, String> {
    if path.starts_with('/') || path.get(1..3).is_some_and(|colon| colon.starts_with(':')) {
        return Err("must be relative to the workspace".into());
    }
    if path.contains('\\') || path.chars().any(char::is_control) {
        return Err("must have no backslash and no control character".into());
    }
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => return Err("must not leave the workspace".into()),
            segment => segments.push(segment),
        }
    }
    let normal = segments.join("/");
    match normal.len() {
        0 => Err("must name a file".into()),
        length if length > PATH_BYTES_MAX => Err(format!("must have at most {PATH_BYTES_MAX} bytes")),
        _ => Ok(normal),
    }
}

fn assertions(list: Option<&mut Value>, min: usize, path: &Path<'_>, faults: &mut Faults) {
    match list {
        Some(Value::Array(list)) if list.len() >= min => conditions(list, path, faults),
        Some(Value::Array(_)) => faults.add(path.to_string(), "must not be empty"),
        _ => faults.add(path.to_string(), "must be an array of assertions"),
    }
}

fn file_edit(checker: &mut Checker<'_, '_, '_>) {
    checker.known(&["path", "content", "diff", "search", "replace"]);
    checker.file_path("path");
    let has = |name: &str| checker.members.contains_key(name);
    let ways = [has("content"), has("diff"), has("search") || has("replace")];
    if ways.iter().filter(|way| **way).count() != 1 {
        return checker.add("", "must have exactly one of content, diff, or search with replace");
    }
    match ways {
        [true, ..] => checker.content("content"),
        [_, true, _] => checker.text("diff", 1, CONTENT_BYTES_MAX, true),
        _ => {
            checker.text("search", 1, CONTENT_BYTES_MAX, true);
            checker.content("replace");
        }
    }
}

fn http(checker: &mut Checker<'_, '_, '_>) {
    checker.known(&["method", "url", "headers", "body", "expectStatus", "authSecretId", "idempotencyKey"]);
    match checker.members.get("method").and_then(Value::as_str) {
        Some("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => {}
        _ => checker.add("method", "must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    }
    let url = checker.members.get("url").and_then(Value::as_str).map_or(Err("is required".into()), validate::url);
    if let Err(message) = url {
        checker.add("url", message);
    }
    checker.texts_or_references("headers");
    if let Some(expected) = checker.members.get("expectStatus") {
        let fits = expected.as_array().is_some_and(|list| {
            !list.is_empty()
                && list.iter().all(|status| status.as_i64().is_some_and(|status| (100..=599).contains(&status)))
        });
        if !fits {
            checker.add("expectStatus", "must be an array of statuses from 100 to 599");
        }
    }
    checker.id("authSecretId", false);
    checker.text("idempotencyKey", 1, 200, false);
}

fn human(checker: &mut Checker<'_, '_, '_>) {
    checker.known(&["message", "approvers", "fields"]);
    checker.text("message", 1, 10_000, true);
    if let Some(approvers) = checker.members.get("approvers") {
        let fits = approvers
            .as_array()
            .is_some_and(|list| list.iter().all(|id| id.as_str().is_some_and(|id| validate::id(id).is_ok())));
        if !fits {
            checker.add("approvers", "must be an array of user ids");
        }
    }
    checker.object("fields", false);
}

fn command(checker: &mut Checker<'_, '_, '_>) {
    checker.known(&["command", "args", "workingDirectory", "environment", "timeoutMs"]);
    checker.text("command", 1, 1_000, true);
    if let Some(arguments) = checker.members.get("args") {
        match arguments.as_array() {
            Some(list) if list.len() > ARGUMENTS_MAX => {
                checker.add("args", format!("must have at most {ARGUMENTS_MAX} entries"));
            }
            Some(list) if list.iter().all(Value::is_string) => {}
            _ => checker.add("args", "must be an array of texts"),
        }
    }
    if checker.members.contains_key("workingDirectory") {
        checker.file_path("workingDirectory");
    }
    checker.texts_or_references("environment");
    if let Some(timeout) = checker.members.get("timeoutMs")
        && !timeout.as_i64().is_some_and(|timeout| (1..=TIMEOUT_MS_MAX).contains(&timeout))
    {
        checker.add("timeoutMs", format!("must be a whole number from 1 to {TIMEOUT_MS_MAX}"));
    }
}

/// Looks at the members of one object.
struct Checker<'m, 'p, 'f> {
    members: &'m mut Map<String, Value>,
    path: &'p Path<'p>,
    faults: &'f mut Faults,
}

impl Checker<'_, '_, '_> {
    fn add(&mut self, name: &str, message: impl Into<String>) {
        let field = if name.is_empty() { self.path.to_string() } else { self.path.member(name).to_string() };
        self.faults.add(field, message);
    }

    fn known(&mut self, names: &[&str]) {
        let unknown: Vec<String> =
            self.members.keys().filter(|name| !names.contains(&name.as_str())).cloned().collect();
        for name in unknown {
            self.add(&name, "is not known here");
        }
    }

    fn present(&mut self, name: &str) {
        if !self.members.contains_key(name) {
            self.add(name, "is required");
        }
    }

    fn file_path(&mut self, name: &str) {
        match self.members.get(name) {
            None => self.add(name, "is required"),
            Some(Value::String(text)) => match normalise_path(text) {
                Ok(normal) => {
                    self.members.insert(name.to_string(), Value::String(normal));
                }
                Err(message) => self.add(name, message),
            },
            Some(_) => self.add(name, "must be a text"),
        }
    }

    fn content(&mut self, name: &str) {
        self.text(name, 0, CONTENT_BYTES_MAX, true);
    }

    /// A text of so many bytes.
    fn text(&mut self, name: &str, min: usize, max: usize, is_required: bool) {
        let message = match self.members.get(name) {
            None if is_required => "is required".to_string(),
            None => return,
            Some(Value::String(text)) if text.len() < min => "must not be empty".to_string(),
            Some(Value::String(text)) if text.len() > max => format!("must have at most {max} bytes"),
            Some(Value::String(_)) => return,
            Some(_) => "must be a text".to_string(),
        };
        self.add(name, message);
    }

    fn id(&mut self, name: &str, is_required: bool) {
        let message = match self.members.get(name) {
            None if is_required => "is required".to_string(),
            None => return,
            Some(Value::String(text)) => match validate::id(text) {
                Ok(()) => return,
                Err(message) => message,
            },
            Some(_) => "must be a text".to_string(),
        };
        self.add(name, message);
    }

    fn object(&mut self, name: &str, is_required: bool) {
        match self.members.get(name) {
            None if is_required => self.add(name, "is required"),
            None | Some(Value::Object(_)) => {}
            Some(_) => self.add(name, "must be an object"),
        }
    }

    /// An object whose values are texts or references to secrets.
    fn texts_or_references(&mut self, name: &str) {
        let is_reference = |value: &Value| {
            value.get("type").and_then(Value::as_str) == Some("SECRET_REF")
                && value.get("secretId").and_then(Value::as_str).is_some_and(|id| validate::id(id).is_ok())
        };
        match self.members.get(name) {
            None => {}
            Some(Value::Object(values)) if values.values().all(|value| value.is_string() || is_reference(value)) => {}
            Some(_) => self.add(name, "must be an object of texts or of {\"type\":\"SECRET_REF\",\"secretId\":…}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::{
        json,
        serde_json::Value,
        validate::{Faults, Path},
    };
    use proptest::prelude::*;

    use super::{check, normalise_path};
    use crate::StepType;

    fn faults(kind: StepType, mut params: Value) -> Vec<String> {
        let mut faults = Faults::default();
        check(kind, &mut params, &Path::default().member("params"), &mut faults);
        faults.errors().iter().map(|fault| fault.field.clone()).collect()
    }

    #[test]
    fn every_type_takes_what_it_needs() {
        let fine = [
            (StepType::FileCreate, json!({"path": "a.txt", "content": ""})),
            (StepType::FileEdit, json!({"path": "a.txt", "content": "x"})),
            (StepType::FileEdit, json!({"path": "a.txt", "diff": "@@ -1 +1 @@"})),
            (StepType::FileEdit, json!({"path": "a.txt", "search": "x", "replace": ""})),
            (StepType::FileDelete, json!({"path": "a.txt"})),
            (
                StepType::Validation,
                json!({"assertions": [
                    {"kind": "exists", "path": "a"}, {"kind": "absent", "path": "b"},
                    {"kind": "contains", "path": "a", "value": "x"}, {"kind": "matches", "path": "a", "pattern": "^x$"},
                    {"kind": "equals", "path": "a", "value": "x"}, {"kind": "equals", "step": 1, "pointer": "/status", "value": 200},
                    {"kind": "json_schema", "path": "a", "schema": {}}]}),
            ),
            (
                StepType::Http,
                json!({"method": "GET", "url": "https://example.com/", "expectStatus": [200], "headers": {"a": "b", "c": {"type": "SECRET_REF", "secretId": "s"}}}),
            ),
            (StepType::McpTool, json!({"serverId": "s", "tool": "t", "arguments": {}})),
            (StepType::Agent, json!({"agentId": "a", "input": "x", "context": {}})),
            (StepType::Human, json!({"message": "ok?", "approvers": ["u1"], "fields": {}})),
            (
                StepType::Command,
                json!({"command": "true", "args": ["a"], "workingDirectory": "sub", "environment": {"A": "b"}, "timeoutMs": 5}),
            ),
        ];
        for (kind, params) in fine {
            assert_eq!(faults(kind, params.clone()), Vec::<String>::new(), "{kind} {params}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = [
            (StepType::FileCreate, json!({"path": "../a", "content": ""}), "params.path"),
            (StepType::FileCreate, json!({"path": "a"}), "params.content"),
            (StepType::FileCreate, json!({"path": "a", "content": "", "mode": 7}), "params.mode"),
            (StepType::FileEdit, json!({"path": "a"}), "params"),
            (StepType::FileEdit, json!({"path": "a", "content": "x", "diff": "y"}), "params"),
            (StepType::FileEdit, json!({"path": "a", "search": "x"}), "params.replace"),
            (StepType::Validation, json!({"assertions": []}), "params.assertions"),
            (StepType::Validation, json!({"assertions": [{"kind": "magic"}]}), "params.assertions[0].kind"),
            (
                StepType::Test,
                json!({"assertions": [{"kind": "equals", "step": 1, "pointer": "x", "value": 1}]}),
                "params.assertions[0].pointer",
            ),
            (StepType::Http, json!({"method": "get", "url": "https://a.b/"}), "params.method"),
            (StepType::Http, json!({"method": "GET", "url": "file:///x"}), "params.url"),
            (
                StepType::Http,
                json!({"method": "GET", "url": "https://a.b/", "expectStatus": [99]}),
                "params.expectStatus",
            ),
            (StepType::Human, json!({}), "params.message"),
            (StepType::Command, json!({"command": "x", "args": [1]}), "params.args"),
            (StepType::Command, json!({"command": "x", "workingDirectory": "/tmp"}), "params.workingDirectory"),
            (StepType::Agent, json!([]), "params"),
        ];
        for (kind, params, field) in wrong {
            assert_eq!(faults(kind, params.clone()), [field], "{kind} {params}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_path_stays_inside_and_is_normal_already(path in "[a-c./\\\\]{0,24}") {
            if let Ok(normal) = normalise_path(&path) {
                prop_assert!(!normal.starts_with('/') && !normal.split('/').any(|part| part.is_empty() || part == ".." || part == "."));
                prop_assert_eq!(normalise_path(&normal).unwrap(), normal);
            }
        }
    }
}
