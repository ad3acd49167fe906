//! Tools of other servers, as they were read last.

use berth_sdk::{
    canonical,
    http::Answer,
    prelude::*,
    serde_json::{Map, Value},
    types::Scope,
};

use crate::{
    access, audit,
    server::{self, Server, toggle::Toggles},
};

/// Tools of one server.
pub const TOOLS_MAX: i64 = 1_000;
/// Bytes of a schema; a tool with a larger one is left out.
const SCHEMA_BYTES_MAX: usize = 128 * 1024;
/// Characters of a description.
const DESCRIPTION_CHARS_MAX: usize = 10_000;

/// Who may call a tool.
#[choice(upper)]
pub enum Level {
    /// Whoever may execute.
    Standard,
    /// Whoever may manage.
    Elevated,
    /// Administrators.
    Admin,
}

/// A tool.
#[entity(table = "mcp_tools", name = "tool", sort = "name", global)]
pub struct Tool {
    /// Of which server.
    #[field(filter, immutable)]
    pub server_id: Id,
    /// As the server calls it.
    #[field(immutable, filter)]
    pub name: String,
    /// For people.
    #[field(immutable)]
    pub title: Option<String>,
    /// What it is good for.
    #[field(immutable, raw)]
    pub description: Option<String>,
    /// What it takes.
    #[field(immutable)]
    pub input_schema: Value,
    /// What it answers, where it says so.
    #[field(immutable)]
    pub output_schema: Option<Value>,
    /// What it says of itself. Its server says so, and nobody else.
    #[field(immutable)]
    pub annotations: Value,
    /// What it is good for, such as `files.read`.
    #[field(default)]
    pub capabilities: Vec<String>,
    /// Who may call it.
    #[field(default = Level::Standard)]
    pub permission_level: Level,
    /// A call must be confirmed.
    pub is_destructive: bool,
    /// It is better called asynchronously.
    pub is_long_running: bool,
    /// Whether it is called at all. A tool that has changed is not, until somebody has looked at it.
    pub is_enabled: bool,
    /// Of everything that it says of itself.
    #[field(immutable)]
    pub schema_hash: String,
    /// GLOBAL in the catalogue.
    #[field(immutable, default = Scope::Organization)]
    pub scope: Scope,
}

impl Rules for Tool {
    /// What its server lists no more is kept for what was decided about it, and is not there otherwise.
    fn scope() -> Option<Condition> {
        Some(Condition::new("\"removed_at\" IS NULL", [] as [&str; 0]))
    }

    fn check(&self, faults: &mut Faults) {
        if self.capabilities.len() > 50 || self.capabilities.iter().any(|path| path.is_empty() || path.len() > 200) {
            faults.add("capabilities", "must have at most 50 entries of 1 to 200 characters");
        }
    }
}

impl Tool {
    /// Whether its server says that a repetition does no harm.
    pub fn is_repeatable(&self) -> bool {
        ["readOnlyHint", "idempotentHint"].iter().any(|hint| self.annotations.get(hint) == Some(&Value::Bool(true)))
    }

    /// Whether its server says that it changes nothing.
    pub fn is_read_only(&self) -> bool {
        self.annotations.get("readOnlyHint") == Some(&Value::Bool(true))
    }
}

/// Reads a tool of `tools/list`; none when it does not fit.
pub fn parsed(server: &Stored<Server>, value: &Value) -> Option<Tool> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let name = text("name").filter(|name| {
        (1..=128).contains(&name.chars().count()) && !name.contains(|letter: char| letter.is_control())
    })?;
    let input_schema = value.get("inputSchema").filter(|schema| schema.is_object()).cloned()?;
    let output_schema = value.get("outputSchema").filter(|schema| schema.is_object()).cloned();
    let is_large = |schema: &Value| schema.to_string().len() > SCHEMA_BYTES_MAX;
    if is_large(&input_schema) || output_schema.as_ref().is_some_and(is_large) {
        return None;
    }
    let annotations = value.get("annotations").filter(|hints| hints.is_object()).cloned().unwrap_or_else(|| json!({}));
    let hint = |name: &str| annotations.get(name).and_then(Value::as_bool);
    let description: Option<String> =
        text("description").map(|text| text.chars().take(DESCRIPTION_CHARS_MAX).collect());
    let title = text("title").or_else(|| annotations.get("title").and_then(Value::as_str));
    let schema_hash = canonical::sha256(&json!({
        "name": name, "description": description, "inputSchema": input_schema, "outputSchema": output_schema,
        "annotations": annotations,
    }));
    let long = value.pointer("/execution/taskSupport").and_then(Value::as_str);
    let named = value.pointer("/_meta/capabilities").and_then(Value::as_array);
    let capabilities = named.into_iter().flatten().filter_map(Value::as_str).take(50);
    Some(Tool {
        server_id: server.id.clone(),
        name: name.to_string(),
        title: title.map(|title| title.chars().take(200).collect()),
        description,
        input_schema,
        output_schema,
        is_destructive: hint("destructiveHint") == Some(true) && hint("readOnlyHint") != Some(true),
        is_long_running: matches!(long, Some("required" | "optional")),
        annotations,
        capabilities: capabilities.map(|path| path.chars().take(200).collect()).collect(),
        permission_level: Level::Standard,
        is_enabled: true,
        schema_hash,
        scope: server.scope,
    })
}

/// A tool of a server by its name.
pub fn find(database: &dyn Executor, server_id: &Id, name: &str) -> Result<Option<Stored<Tool>>> {
    Select::<Tool>::new().equal("server_id", server_id).equal("name", name).first(database)
}

/// A tool of a server by its name, 404 otherwise.
pub fn read(database: &dyn Executor, server_id: &Id, name: &str) -> Result<Stored<Tool>> {
    find(database, server_id, name)?.ok_or_else(missing)
}

/// 404 in the words of this service.
pub fn missing() -> Problem {
    Problem::missing("tool").with_code("TOOL_NOT_FOUND")
}

/// A tool with the name of its server, as lists show it.
pub fn shown(row: &Stored<Tool>, server: &Stored<Server>) -> Map<String, Value> {
    let mut shown = row.shown();
    shown.insert("serverName".into(), json!(server.name));
    if row.capabilities.is_empty() {
        shown.insert("capabilities".into(), json!(server.capabilities));
    }
    shown
}

/// `GET /api/mcp/servers/{id}/tools`.
pub fn of_server(Params(id): Params<Id>, query: PageQuery) -> Result<impl Answer> {
    server::read(&Pool, &id)?;
    Select::<Tool>::new().equal("server_id", &id).page(&Pool, &query)
}

/// `GET /api/mcp/tools`: of every server that is used here. `?capability&search&projectId`.
pub fn list(query: PageQuery) -> Result<Page<Map<String, Value>>> {
    let project_id = query.filter("projectId").map(Id::parse).transpose()?;
    let servers = usable_servers(project_id.as_ref())?;
    let mut select = Select::<Tool>::new().one_of("server_id", servers.iter().map(|row| row.id.as_str()));
    if let Some(search) = query.filter("search") {
        let columns = ["\"name\"", "COALESCE(\"title\", '')", "COALESCE(\"description\", '')"];
        select = select.meets(database::like::in_one_of(&columns, &search));
    }
    let capability = query.filter("capability");
    let rows = select.limit(10_000).all(&Pool)?;
    let matching: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row, servers.iter().find(|server| server.id == row.server_id)?)))
        .filter(|(row, server)| capability.as_ref().is_none_or(|path| can(row, server, path)))
        .collect();
    let (skip, take) = (usize::try_from(query.offset).unwrap_or(0), usize::try_from(query.limit).unwrap_or(0));
    let items = matching.iter().skip(skip).take(take).map(|(row, server)| shown(row, server)).collect();
    Ok(query.envelope(items, i64::try_from(matching.len()).unwrap_or(i64::MAX)))
}

/// Servers that are turned on for the caller and can be spoken to or may be one day.
pub fn usable_servers(project_id: Option<&Id>) -> Result<Vec<Stored<Server>>> {
    let toggles = Toggles::load(&Pool, project_id)?;
    let usable = [server::Status::Active, server::Status::Deprecated];
    let rows =
        Select::<Server>::new().one_of("status", usable.map(|status| status.as_str())).limit(2_000).all(&Pool)?;
    Ok(rows.into_iter().filter(|row| toggles.is_on(row)).collect())
}

/// Whether a tool has a capability: `files.read` has `files.read`, and so has everything below `files.*`.
pub fn can(tool: &Tool, server: &Server, wanted: &str) -> bool {
    let paths = if tool.capabilities.is_empty() { &server.capabilities } else { &tool.capabilities };
    paths.iter().any(|path| {
        path == wanted
            || path
                .strip_suffix(".*")
                .is_some_and(|stem| wanted.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.')))
    })
}

/// `GET /api/mcp/tools/{serverId}/{name}`.
pub fn read_one(request: Request) -> Result<Json<Map<String, Value>>> {
    let (server, row) = addressed(&request)?;
    Ok(Json(shown(&row, &server)))
}

fn addressed(request: &Request) -> Result<(Stored<Server>, Stored<Tool>)> {
    let of = |index: usize| request.params.get(index).map(String::as_str).unwrap_or_default();
    let server_id = Id::parse(of(0))?;
    let server = server::read(&Pool, &server_id)?;
    let row = read(&Pool, &server_id, of(1))?;
    Ok((server, row))
}

/// What somebody who looked at a tool decides.
#[data]
pub struct Decision {
    /// Whether it is called; `true` approves a tool that has changed.
    is_enabled: Option<bool>,
    /// Who may call it.
    permission_level: Option<Level>,
    /// Whether a call must be confirmed.
    is_destructive: Option<bool>,
    /// Whether it is better called asynchronously.
    is_long_running: Option<bool>,
    /// What it is good for.
    capabilities: Option<Vec<String>>,
}

/// `PUT /api/mcp/tools/{serverId}/{name}`.
pub fn decide(request: Request) -> Result<Stored<Tool>> {
    let mut request = request;
    let (server, row) = addressed(&request)?;
    access::require_manager(row.organization_id.is_none())?;
    let if_match = IfMatch::from_request(&mut request)?;
    let Json(decision) = Json::<Decision>::from_request(&mut request)?;
    let body = json!(decision);
    let patch: Map<String, Value> = body
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let row = database::transaction(|transaction| {
        let row = entity::update::<Tool>(transaction, &row.id, &patch, if_match)?;
        let details = Value::Object(patch.clone());
        audit::note(transaction, "tool.decided", Some(&server.id), &format!("{}/{}", server.name, row.name), details)?;
        server::sync::keep_capabilities(transaction, &server)?;
        Ok::<_, Problem>(row)
    })?;
    berth_sdk::cache::del(&format!("tools:{}", server.id));
    Ok(row)
}

/// `GET /api/mcp/capabilities`: each with the servers that have it and are used here.
pub fn capabilities(query: PageQuery) -> Result<Page<Value>> {
    let servers = usable_servers(None)?;
    let sql = "SELECT server_id, capability_path FROM mcp_server_capabilities WHERE organization_id = $1 OR organization_id IS NULL \
               ORDER BY capability_path, server_id LIMIT 10000";
    let mut known: std::collections::BTreeMap<String, Vec<Value>> = std::collections::BTreeMap::new();
    for row in database::query(sql, params![auth::organization_id()?])? {
        let server_id: String = row.get("server_id")?;
        let Some(server) = servers.iter().find(|server| server.id.as_str() == server_id) else { continue };
        let entry = json!({ "serverId": server.id, "name": server.name, "health": server.health });
        known.entry(row.get("capability_path")?).or_default().push(entry);
    }
    let (skip, take) = (usize::try_from(query.offset).unwrap_or(0), usize::try_from(query.limit).unwrap_or(0));
    let total = i64::try_from(known.len()).unwrap_or(i64::MAX);
    let shown = |(capability, servers): (String, Vec<Value>)| json!({ "capability": capability, "servers": servers });
    Ok(query.envelope(known.into_iter().skip(skip).take(take).map(shown).collect(), total))
}

#[cfg(test)]
mod tests {
    use berth_sdk::{serde_json, testing};

    use super::*;

    fn server() -> Stored<Server> {
        testing::sign_in("u1", "o1");
        let data = json!({"name": "files", "displayName": "Files", "endpoint": "https://a.example", "capabilities": ["files.*"]});
        let now = clock::now();
        Stored {
            id: Id::new(),
            organization_id: Some("o1".into()),
            created_by: None,
            created_at: now,
            updated_at: now,
            version: 1,
            data: serde_json::from_value(data).unwrap(),
        }
    }

    #[test]
    fn a_tool_is_read_with_what_it_says_of_itself() {
        let server = server();
        let value = json!({"name": "drop", "inputSchema": {"type": "object"}, "annotations": {"destructiveHint": true, "title": "Drop"}});
        let tool = parsed(&server, &value).unwrap();
        assert!(tool.is_destructive && !tool.is_repeatable() && tool.is_enabled);
        assert_eq!(tool.title.as_deref(), Some("Drop"));
        let other = json!({"name": "drop", "inputSchema": {"type": "object", "required": ["a"]}, "annotations": {"readOnlyHint": true, "destructiveHint": true}});
        let other = parsed(&server, &other).unwrap();
        assert!(!other.is_destructive && other.is_read_only() && other.schema_hash != tool.schema_hash);
        for value in
            [json!({"name": "x"}), json!({"name": "", "inputSchema": {}}), json!({"name": "x", "inputSchema": []})]
        {
            assert!(parsed(&server, &value).is_none(), "{value}");
        }
    }

    #[test]
    fn capabilities_are_paths() {
        let server = server();
        let mut tool = parsed(&server, &json!({"name": "x", "inputSchema": {}})).unwrap();
        assert!(
            can(&tool, &server, "files.read")
                && !can(&tool, &server, "filesystem.read")
                && !can(&tool, &server, "files")
        );
        tool.capabilities = vec!["notes.read".into()];
        assert!(can(&tool, &server, "notes.read") && !can(&tool, &server, "files.read"));
    }
}
