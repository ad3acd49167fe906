//! The routes of this host as its document describes them, in the form in which they are offered.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use berth_sdk::{
    http_out,
    prelude::*,
    serde_json::{Map, Value},
};

use crate::endpoint::NATIVE;

/// How old the document may be: a deploy is noticed after it.
const FRESH: Duration = Duration::from_secs(15);
/// How long the host may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Routes that are never offered: credentials, administration, and this service itself.
const NEVER: [&str; 8] = [
    "/api/auth",
    "/api/admin",
    "/api/mcp",
    "/api/users/me/api-keys",
    "/api/secrets/export",
    "/api/secrets/import",
    "/api/secrets/{id}/value",
    "/api/health",
];
/// How the document says which plugin answers a prefix.
const HEALTH: (&str, &str) = ("Whether ", " answers.");

thread_local! {
    /// The document is everybody's, and costs more to read than to keep.
    static LAST: RefCell<Option<(Timestamp, Rc<Catalogue>)>> = const { RefCell::new(None) };
}

/// A route, as it can be offered.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// As in `plans_create`.
    pub name: String,
    /// Upper case.
    pub method: String,
    /// With `{name}` for what is to be filled in.
    pub path: String,
    /// Who answers it.
    pub plugin: String,
    /// One line.
    pub summary: String,
    /// What the caller must hold.
    pub permission: Option<String>,
    /// The names in the path.
    pub in_path: Vec<String>,
    /// Parameters of the query: name, schema, whether it must be there.
    pub in_query: Vec<(String, Value, bool)>,
    /// Schema of the body.
    pub body: Option<Value>,
    /// The answer comes piece by piece.
    pub is_streaming: bool,
    /// It speaks the protocol itself.
    pub is_native: bool,
}

/// Every route that can be offered.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// In the order of paths and methods.
    pub operations: Vec<Operation>,
}

impl Catalogue {
    /// The operation of a method and a path as the document writes it.
    pub fn find(&self, method: &str, path: &str) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.method == method && operation.path == path)
    }
}

/// The present routes.
pub fn load() -> Result<Rc<Catalogue>> {
    let now = clock::now();
    let known = LAST.with_borrow(|last| {
        last.as_ref().filter(|(at, _)| now.since(*at) < FRESH).map(|(_, catalogue)| Rc::clone(catalogue))
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let document: Value = http_out::plugin("host").get("/openapi.json").timeout(TIMEOUT).fetch()?;
    let catalogue = Rc::new(read(&document));
    LAST.set(Some((now, Rc::clone(&catalogue))));
    Ok(catalogue)
}

/// Reads a document.
pub fn read(document: &Value) -> Catalogue {
    let paths = document.get("paths").and_then(Value::as_object);
    let plugins = plugins(paths);
    let mut operations: Vec<Operation> = Vec::new();
    for (path, item) in paths.into_iter().flatten() {
        let Some(plugin) = owner(path, &plugins) else { continue };
        for (method, described) in item.as_object().into_iter().flatten() {
            let method = method.to_ascii_uppercase();
            // PATCH means what PUT does.
            if matches!(method.as_str(), "GET" | "POST" | "PUT" | "DELETE") && is_offerable(path, &method, &plugin) {
                operations.extend(operation(&method, path, &plugin, described));
            }
        }
    }
    operations.sort_by(|one, other| (&one.path, &one.method).cmp(&(&other.path, &other.method)));
    let mut names = BTreeSet::new();
    for operation in &mut operations {
        let (base, mut number) = (operation.name.clone(), 2);
        while !names.insert(operation.name.clone()) {
            operation.name = format!("{base}_{number}");
            number += 1;
        }
    }
    Catalogue { operations }
}

/// Which plugin answers which prefix: the document has a health route of each.
fn plugins(paths: Option<&Map<String, Value>>) -> Vec<(String, String)> {
    let mut plugins: Vec<(String, String)> = paths
        .into_iter()
        .flatten()
        .filter_map(|(path, item)| {
            let prefix = path.strip_suffix("/health")?;
            let get = item.get("get")?;
            let is_health = get.pointer("/tags/0").and_then(Value::as_str) == Some("health");
            let summary = get.get("summary").and_then(Value::as_str).filter(|_| is_health)?;
            let name = summary.strip_prefix(HEALTH.0)?.strip_suffix(HEALTH.1)?;
            Some((prefix.to_string(), name.to_string()))
        })
        .collect();
    // The main app lets itself be read.
    plugins.extend(["/api/users", "/api/teams", "/api/organizations"].map(|prefix| (prefix.into(), "host".into())));
    plugins.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    plugins
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn owner(path: &str, plugins: &[(String, String)]) -> Option<String> {
    plugins.iter().find(|(prefix, _)| is_below(path, prefix)).map(|(_, name)| name.clone())
}

fn is_offerable(path: &str, method: &str, plugin: &str) -> bool {
    let is_health = path.ends_with("/health") && path.split('/').count() == 4;
    !is_health && !NEVER.iter().any(|prefix| is_below(path, prefix)) && (plugin != "host" || method == "GET")
}

fn operation(method: &str, path: &str, plugin: &str, described: &Value) -> Option<Operation> {
    let text = |name: &str| described.get(name).and_then(Value::as_str);
    let parameters = described.get("parameters").and_then(Value::as_array);
    let in_query = parameters
        .into_iter()
        .flatten()
        .filter(|parameter| parameter.get("in").and_then(Value::as_str) == Some("query"))
        .filter_map(|parameter| {
            let name = parameter.get("name")?.as_str()?.to_string();
            let mut schema = parameter.get("schema").cloned().unwrap_or_else(|| json!({}));
            let words = parameter.get("description").and_then(Value::as_str).unwrap_or_default();
            if let Some(members) = schema.as_object_mut().filter(|_| !words.is_empty()) {
                members.entry("description").or_insert_with(|| words.into());
            }
            Some((name, schema, parameter.get("required") == Some(&Value::Bool(true))))
        })
        .collect::<Vec<_>>();
    let content = described.pointer("/requestBody/content").and_then(Value::as_object);
    let body = match content {
        None => None,
        // What is no JSON cannot be an argument.
        Some(content) => Some(content.get("application/json")?.get("schema").cloned().unwrap_or_else(|| json!({}))),
    };
    let answers = described.get("responses").and_then(Value::as_object);
    let is_native = answers
        .into_iter()
        .flatten()
        .filter_map(|(_, answer)| answer.get("content"))
        .any(|content| content.get(NATIVE).is_some());
    let takes_limit = in_query.iter().any(|(name, ..)| name == "limit");
    Some(Operation {
        name: name(method, path, takes_limit),
        method: method.to_string(),
        path: path.to_string(),
        plugin: plugin.to_string(),
        summary: text("summary").unwrap_or_default().to_string(),
        permission: text("x-permission").map(ToString::to_string),
        in_path: path.split('/').filter_map(parameter).map(ToString::to_string).collect(),
        in_query,
        body,
        is_streaming: described.get("x-streaming") == Some(&Value::Bool(true)),
        is_native,
    })
}

/// `name` of `{name}`.
pub fn parameter(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

/// `plans_create` of `POST /api/plans`, `plans_approve` of `POST /api/plans/{id}/approve`.
fn name(method: &str, path: &str, takes_limit: bool) -> String {
    let segments: Vec<&str> = path.trim_start_matches("/api/").split('/').collect();
    let words: Vec<&str> = segments.iter().copied().filter(|segment| parameter(segment).is_none()).collect();
    let ends_in_row = segments.last().is_some_and(|segment| parameter(segment).is_some());
    let is_action = method == "POST" && segments.iter().any(|segment| parameter(segment).is_some()) && !ends_in_row;
    let verb = match method {
        "GET" if ends_in_row => "read",
        "GET" if takes_limit => "list",
        "GET" => "get",
        "POST" if is_action => "",
        "POST" if words.len() > 1 => "",
        "POST" => "create",
        "PUT" => "update",
        _ => "delete",
    };
    let mut name = words.join("_");
    if !verb.is_empty() {
        name.push('_');
        name.push_str(verb);
    }
    let fits = |letter: char| if letter.is_ascii_alphanumeric() || "_-.".contains(letter) { letter } else { '_' };
    name.chars().map(fits).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        let health = |name: &str| json!({"get": {"tags": ["health"], "summary": format!("Whether {name} answers.")}});
        let list = json!({"get": {"summary": "List", "x-permission": "plans.plan.read",
            "parameters": [{"name": "limit", "in": "query", "description": "Most", "schema": {"type": "integer"}}]},
            "post": {"summary": "Create", "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}},
            "patch": {"summary": "no"}});
        json!({"paths": {
            "/api/plans/health": health("planning"),
            "/api/secrets/health": health("secret-management"),
            "/api/plans": list,
            "/api/plans/{id}": {"get": {}, "put": {}, "delete": {}},
            "/api/plans/{id}/approve": {"post": {"responses": {"200": {"content": {"application/vnd.berth.mcp+json": {}}}}}},
            "/api/plans/upload": {"post": {"requestBody": {"content": {"application/wasm": {}}}}},
            "/api/secrets/{id}/value": {"get": {}},
            "/api/users": {"get": {}, "post": {}},
            "/api/auth/me": {"get": {}},
            "/nowhere": {"get": {}},
        }})
    }

    #[test]
    fn routes_get_names_and_owners() {
        let catalogue = read(&document());
        let names: Vec<_> = catalogue.operations.iter().map(|one| format!("{} {}", one.plugin, one.name)).collect();
        assert_eq!(
            names,
            [
                "planning plans_list",
                "planning plans_create",
                "planning plans_delete",
                "planning plans_read",
                "planning plans_update",
                "planning plans_approve",
                "host users_get"
            ]
        );
        let list = catalogue.find("GET", "/api/plans").unwrap();
        assert_eq!(list.permission.as_deref(), Some("plans.plan.read"));
        assert_eq!(list.in_query[0].1["description"], "Most");
        assert!(catalogue.find("POST", "/api/plans/{id}/approve").unwrap().is_native);
    }
}
