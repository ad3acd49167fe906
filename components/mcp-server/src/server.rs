//! Servers: where they are, how they are spoken to, and whose they are.

pub mod auth;
pub mod catalog;
pub mod configuration;
pub mod health;
pub mod secret;
pub mod sync;
pub mod toggle;

use berth_sdk::{
    cache,
    prelude::*,
    serde_json::{Map, Value},
    types::{Health, Scope},
};

use crate::{
    access, audit, execution, settings,
    tool::{self, Tool},
};

/// Bytes of `env` or `transportConfig` as JSON.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024;
/// Entries of a list.
const ENTRIES_MAX: usize = 50;

/// Where a server comes from.
#[choice(upper)]
pub enum ServerType {
    /// The platform's catalogue.
    Default,
    /// An organization's own.
    Custom,
    /// Somebody else's.
    Community,
}

/// What has become of a server.
#[choice(upper)]
pub enum Status {
    /// In use.
    Active,
    /// In use, but not for long.
    Deprecated,
    /// Kept for the record.
    Archived,
    /// Turned off.
    Disabled,
}

/// Whether somebody has looked at it.
#[choice(upper)]
pub enum Verification {
    /// It was found sound.
    Verified,
    /// Nobody has.
    Unverified,
    /// Somebody does.
    Pending,
}

/// Where it runs.
#[choice(upper)]
pub enum Source {
    /// A program on the host, spoken to by its standard streams.
    LocalStdio,
    /// A program on the host, spoken to by HTTP.
    LocalHttp,
    /// Somewhere else.
    Remote,
}

/// How it is spoken to.
#[choice(upper)]
pub enum Transport {
    /// Since 2025-03-26.
    StreamableHttp,
    /// Until 2024-11-05: a stream, and a place for messages.
    HttpSse,
    /// Needs a socket, which guests lack.
    Websocket,
    /// Needs a process, which guests lack.
    Stdio,
}

/// How the caller proves who it is. The host puts the credential in.
#[choice(upper)]
pub enum AuthType {
    /// Not at all.
    None,
    /// `Authorization: Bearer`.
    Bearer,
    /// A header of its own.
    ApiKey,
    /// `Authorization: Bearer` with a token that the secret keeps fresh.
    Oauth2,
    /// `Authorization: Basic`.
    Basic,
}

/// A server.
#[entity(table = "mcp_servers", name = "server", sort = "name", global)]
pub struct Server {
    /// As in `name/tool`.
    #[field(min = 1, max = 100, plain, filter)]
    pub name: String,
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub display_name: String,
    /// What it is good for.
    #[field(max = 5_000)]
    pub description: Option<String>,
    /// Of the server, as its makers count.
    #[field(min = 1, max = 50, plain, default = "1.0.0".to_string())]
    pub version: String,
    /// Where it comes from.
    #[field(readonly, default = ServerType::Custom)]
    pub r#type: ServerType,
    /// What has become of it.
    #[field(default = Status::Active)]
    pub status: Status,
    /// Whether somebody has looked at it.
    #[field(readonly, default = Verification::Unverified)]
    pub verification: Verification,
    /// Where it runs.
    #[field(default = Source::Remote)]
    pub source: Source,
    /// How it is spoken to.
    #[field(default = Transport::StreamableHttp)]
    pub transport: Transport,
    /// Its address, for the transports of HTTP and WebSocket.
    #[field(max = 1_000)]
    pub endpoint: Option<String>,
    /// Its program, for `STDIO`.
    #[field(max = 1_000, raw)]
    pub command: Option<String>,
    /// The program's arguments.
    #[field(default, max = 50, raw)]
    pub args: Vec<String>,
    /// The program's variables.
    #[field(default = json!({}), raw)]
    pub env: Value,
    /// Further headers: `{"headers": {"X-Tenant": "a"}}`, where a value may be a reference to a secret.
    #[field(default = json!({}), raw)]
    pub transport_config: Value,
    /// How the caller proves who it is.
    #[field(default = AuthType::None)]
    pub auth_type: AuthType,
    /// The secret with the credential.
    pub auth_secret_id: Option<Id>,
    /// The header of an `API_KEY`; `X-API-Key` where none is named.
    #[field(max = 100, plain)]
    pub auth_header_name: Option<String>,
    /// The revision that was agreed on last.
    #[field(readonly)]
    pub protocol_version: Option<String>,
    /// The session that was begun last, for when the cache is lost.
    #[field(readonly, hidden)]
    pub session: Option<Value>,
    /// What its tools are good for, such as `files.read`; a tool without capabilities of its own has these.
    #[field(default, max = 50, plain)]
    pub capabilities: Vec<String>,
    /// How it did lately.
    #[field(readonly, filter, default = Health::Unknown)]
    pub health: Health,
    /// When its tools were read last.
    #[field(readonly)]
    pub last_synced_at: Option<Timestamp>,
    /// To find it by.
    #[field(default, max = 50, plain)]
    pub tags: Vec<String>,
    /// GLOBAL in the catalogue, otherwise ORGANIZATION.
    #[field(readonly, default = Scope::Organization)]
    pub scope: Scope,
}

impl Server {
    /// Whether this service can speak to it.
    pub fn is_reachable(&self) -> bool {
        matches!(self.transport, Transport::StreamableHttp | Transport::HttpSse)
    }

    /// Whether its calls carry a credential.
    fn has_credential(&self) -> bool {
        let headers = self.transport_config.get("headers").and_then(Value::as_object);
        self.auth_secret_id.is_some() || headers.into_iter().flatten().any(|(_, value)| !value.is_string())
    }

    /// 403 for who does not administer the organization and lets a credential go to another place, or another credential:
    /// whoever runs the server is told it.
    fn require_right_to_send(&self, old: Option<&Self>) -> Result<()> {
        let sent = |server: &Self| {
            json!([
                server.endpoint,
                server.transport,
                server.auth_type,
                server.auth_secret_id,
                server.auth_header_name,
                server.transport_config,
            ])
        };
        if self.has_credential() && old.is_none_or(|old| sent(old) != sent(self)) {
            access::require_manager(false)?;
        }
        Ok(())
    }

    fn forget(id: &str) {
        for kind in ["link", "tools", "health"] {
            cache::del(&format!("{kind}:{id}"));
        }
    }
}

impl Rules for Server {
    fn check(&self, faults: &mut Faults) {
        if !self.name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter)) {
            faults.add("name", "must have letters, digits, `-`, `_` and `.` only");
        }
        match (self.transport, &self.endpoint, &self.command) {
            (Transport::Stdio, _, None) => faults.add("command", "is required for this transport"),
            (Transport::Stdio, ..) => {}
            (_, None, _) => faults.add("endpoint", "is required for this transport"),
            (transport, Some(endpoint), _) => check_endpoint(endpoint, transport, self.auth_type, faults),
        }
        if (self.source == Source::LocalStdio) != (self.transport == Transport::Stdio) {
            faults.add("source", "LOCAL_STDIO and STDIO belong together");
        }
        check_document("env", &self.env, faults);
        secret::check_config(&self.transport_config, faults);
        check_document("transportConfig", &self.transport_config, faults);
        for (field, list) in [("args", &self.args), ("capabilities", &self.capabilities), ("tags", &self.tags)] {
            if list.len() > ENTRIES_MAX {
                faults.add(field, format!("must have at most {ENTRIES_MAX} entries"));
            }
            if list.iter().any(|entry| entry.is_empty() || entry.chars().count() > 200) {
                faults.add(field, "entries must have 1 to 200 characters");
            }
        }
        if let Some(name) = &self.auth_header_name {
            secret::check_header_name("authHeaderName", name, faults);
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.require_right_to_send(None)?;
        if self.scope != Scope::Global {
            // Two at once would pass the limit: they wait for each other at the organization's settings, and where it has set
            // nothing, and may have many, at its first server.
            let most = settings::hold(transaction)?.max_custom_servers;
            let organization_id = berth_sdk::auth::organization_id()?;
            let sql = "SELECT id FROM mcp_servers WHERE organization_id = $1 ORDER BY id LIMIT 1 FOR UPDATE";
            transaction.query_one(sql, params![&organization_id])?;
            let sql = "SELECT COUNT(*) AS total FROM mcp_servers WHERE organization_id = $1";
            let row = transaction.query_one(sql, params![&organization_id])?;
            if row.map_or(Ok(0), |row| row.get::<i64>("total"))? >= most {
                let detail = format!("There are at most {most} servers of the organization's own.");
                return Err(Problem::conflict(detail).with_code("SERVER_LIMIT_REACHED"));
            }
        }
        require_name(transaction, &self.name, self.scope, None)
    }

    fn after_create(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        catalog::keep_version(transaction, row, None)?;
        note(transaction, "server.created", row)?;
        transaction.publish("mcp.server.registered", &event(row)).map(|_| ())
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if old.organization_id.is_none() {
            access::require_platform()?;
        }
        self.require_right_to_send(Some(&old.data))?;
        if self.status != old.status {
            access::require_manager(old.organization_id.is_none())?;
        }
        if self.endpoint != old.endpoint || self.transport != old.transport {
            require_right_to_move(old)?;
            // Whatever was agreed on was with somebody else, and so was what the tools promised.
            (self.session, self.protocol_version, self.health) = (None, None, Health::Unknown);
        }
        if self.name == old.name { Ok(()) } else { require_name(transaction, &self.name, self.scope, Some(&old.id)) }
    }

    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if old.data.version != new.data.version {
            catalog::keep_version(transaction, new, None)?;
        }
        note(transaction, "server.updated", new)
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if row.organization_id.is_none() {
            access::require_platform()?;
        }
        hold(transaction, &row.id)?;
        let open = [execution::Status::Pending, execution::Status::Running];
        let sql = "SELECT id FROM mcp_executions WHERE server_id = $1 AND (status = $2 OR status = $3) LIMIT 1";
        if transaction.query_one(sql, params![&row.id, open[0], open[1]])?.is_some() {
            return Err(Problem::conflict("Executions of it are under way.").with_code("SERVER_BUSY"));
        }
        for table in [
            "mcp_tools",
            "mcp_server_capabilities",
            "mcp_server_configurations",
            "mcp_server_toggles",
            "mcp_server_versions",
            "mcp_server_metrics",
            "mcp_health_checks",
        ] {
            transaction.execute(&format!("DELETE FROM {table} WHERE server_id = $1"), params![&row.id])?;
        }
        note(transaction, "server.deleted", row)?;
        transaction.publish("mcp.server.deregistered", &event(row)).map(|_| ())
    }

    fn committed(row: &Stored<Self>) {
        Self::forget(&row.id);
    }
}

/// 403 unless the caller has registered the server or administers the organization: whoever calls its tools sends what they hold
/// to where it is.
fn require_right_to_move(old: &Stored<Server>) -> Result<()> {
    let is_own = old.created_by.is_some() && old.created_by == berth_sdk::auth::principal().user_id;
    if is_own { Ok(()) } else { access::require_manager(false) }
}

fn note(transaction: &Transaction, action: &str, row: &Stored<Server>) -> Result<()> {
    let details = json!({ "version": row.data.version, "status": row.status, "endpoint": row.endpoint });
    audit::note(transaction, action, Some(&row.id), &row.name, details)
}

/// What its events carry.
pub fn event(row: &Stored<Server>) -> Value {
    json!({
        "id": row.id, "serverId": row.id, "name": row.name, "version": row.data.version, "type": row.r#type,
        "transport": row.transport, "status": row.status, "createdBy": row.created_by,
    })
}

/// 409 when another server that the organization sees has this name.
fn require_name(transaction: &Transaction, name: &str, scope: Scope, own: Option<&Id>) -> Result<()> {
    let organization_id = match scope {
        Scope::Global => None,
        _ => Some(berth_sdk::auth::organization_id()?),
    };
    let sql = "SELECT id FROM mcp_servers WHERE COALESCE(organization_id, '') = $1 AND name = $2";
    let organization_id = organization_id.map(Id::into_string).unwrap_or_default();
    let taken = transaction.query(sql, params![organization_id, name])?;
    let ids = taken.into_iter().map(|row| row.get::<Id>("id")).collect::<Result<Vec<_>, _>>()?;
    if ids.iter().any(|id| Some(id) != own) {
        return Err(Problem::conflict("There is a server of this name already.").with_code("DUPLICATE_NAME"));
    }
    Ok(())
}

/// An address outside, over TLS wherever a credential goes. It must not lead to another plugin: that would be called with
/// the caller's rights. Which networks it may lead to is the host's to judge.
fn check_endpoint(endpoint: &str, transport: Transport, auth_type: AuthType, faults: &mut Faults) {
    let schemes: &[&str] = if transport == Transport::Websocket { &["wss", "ws"] } else { &["https", "http"] };
    let Some((scheme, rest)) = endpoint.split_once("://").filter(|(scheme, _)| schemes.contains(scheme)) else {
        return faults.add("endpoint", format!("must begin with {}://", schemes.join(":// or ")));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default().to_lowercase();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host),
    };
    let host = host.trim_end_matches('.');
    let is_odd =
        |letter: char| letter.is_whitespace() || letter.is_control() || matches!(letter, '\\' | '<' | '>' | '"');
    // What a parser of addresses makes another letter of would be another host to it.
    let is_plain = authority.is_ascii() && !authority.contains(['@', '%']);
    if host.is_empty() || !is_plain || rest.contains('#') || rest.contains(is_odd) {
        return faults.add("endpoint", "must be a plain address, without user and fragment");
    }
    if host == "internal" || host.ends_with(".internal") {
        return faults.add("endpoint", "must not be a plugin of this host");
    }
    let is_near = matches!(host, "localhost" | "127.0.0.1" | "::1");
    if auth_type != AuthType::None && matches!(scheme, "http" | "ws") && !is_near {
        faults.add("endpoint", "must begin with https:// where a credential is sent");
    }
}

fn check_document(field: &str, value: &Value, faults: &mut Faults) {
    if !value.is_object() {
        faults.add(field, "must be an object");
    } else if value.to_string().len() > DOCUMENT_BYTES_MAX {
        faults.add(field, format!("must have at most {DOCUMENT_BYTES_MAX} bytes"));
    }
}

/// 404 in the words of this service.
pub fn missing() -> Problem {
    Problem::missing("server").with_code("MCP_SERVER_NOT_FOUND")
}

/// A server by its id, 404 otherwise.
pub fn read(database: &dyn Executor, id: &str) -> Result<Stored<Server>> {
    entity::find::<Server>(database, id)?.ok_or_else(missing)
}

/// The same, held until the end of the transaction: who configures a server or deletes it waits for whoever does so already.
pub fn hold(transaction: &Transaction, id: &str) -> Result<Stored<Server>> {
    transaction.query_one("SELECT id FROM mcp_servers WHERE id = $1 FOR UPDATE", params![id])?;
    read(transaction, id)
}

/// A server by its id or its name: an organization's own before the catalogue's.
pub fn named(id_or_name: &str) -> Result<Stored<Server>> {
    if let Some(row) = entity::find::<Server>(&Pool, id_or_name)? {
        return Ok(row);
    }
    let rows = Select::<Server>::new().equal("name", id_or_name).all(&Pool)?;
    rows.into_iter().max_by_key(|row| row.organization_id.is_some()).ok_or_else(missing)
}

/// `GET /api/mcp/servers`: `?tag&search` besides the filters of fields.
pub fn list(query: PageQuery) -> Result<impl berth_sdk::http::Answer> {
    let mut select = Select::<Server>::new();
    if let Some(search) = query.filter("search") {
        let columns = ["\"name\"", "\"display_name\"", "COALESCE(\"description\", '')"];
        select = select.meets(database::like::in_one_of(&columns, &search));
    }
    select.page(&Pool, &query)
}

/// How a copy shall be called.
#[data]
pub struct Copy {
    /// Another name; the old one with `-copy` otherwise.
    #[field(min = 1, max = 100, plain)]
    name: Option<String>,
    /// Another name for people.
    #[field(min = 1, max = 200, plain)]
    display_name: Option<String>,
}

/// `POST /api/mcp/servers/{id}/duplicate`: the organization's own copy, with its tools, without its credential when it comes
/// from the catalogue or somebody copies it who does not administer the organization.
pub fn duplicate(Params(id): Params<Id>, input: Option<Json<Copy>>) -> Result<Created<Stored<Server>>> {
    let input = input.map(|Json(input)| input);
    let row = database::transaction(|transaction| {
        let old = read(transaction, &id)?;
        let mut data = old.data.clone();
        let named = input.as_ref().and_then(|input| input.name.clone());
        data.name = named.unwrap_or_else(|| format!("{}-copy", data.name).chars().take(100).collect());
        if let Some(display_name) = input.as_ref().and_then(|input| input.display_name.clone()) {
            data.display_name = display_name;
        }
        (data.r#type, data.scope, data.status) = (ServerType::Custom, Scope::Organization, Status::Active);
        (data.session, data.health, data.verification) = (None, Health::Unknown, Verification::Unverified);
        if old.organization_id.is_none() || !access::is_admin() {
            data.auth_secret_id = None;
        }
        let new = entity::create(transaction, data)?;
        for row in Select::<Tool>::new().equal("server_id", &id).limit(tool::TOOLS_MAX).all(transaction)? {
            entity::create(transaction, Tool { server_id: new.id.clone(), scope: new.scope, ..row.data })?;
        }
        sync::keep_capabilities(transaction, &new)?;
        Ok::<_, Problem>(new)
    })?;
    Ok(Created(row))
}

/// A server as it is kept of a release: what it is, without what happened to it.
pub fn definition(row: &Stored<Server>) -> Value {
    let mut shown = row.shown();
    for name in ["id", "organizationId", "createdBy", "createdAt", "updatedAt", "health", "lastSyncedAt", "session"] {
        shown.remove(name);
    }
    Value::Object(shown.into_iter().collect::<Map<String, Value>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(fields: Value) -> Vec<String> {
        let server: Server = berth_sdk::serde_json::from_value(fields).unwrap();
        let mut faults = Faults::default();
        server.check(&mut faults);
        faults.errors().iter().map(|error| error.field.clone()).collect()
    }

    fn at(endpoint: &str, auth_type: &str) -> Vec<String> {
        faults(json!({"name": "files", "displayName": "Files", "endpoint": endpoint, "authType": auth_type}))
    }

    #[test]
    fn an_endpoint_leads_outside_and_keeps_credentials_to_itself() {
        assert!(at("https://mcp.example.com/mcp?x=1", "BEARER").is_empty());
        assert!(at("http://mcp.example.com/mcp", "NONE").is_empty());
        assert!(at("http://127.0.0.1:9/mcp", "BEARER").is_empty());
        for endpoint in [
            "http://mcp.example.com/",
            "https://planning.internal/",
            "https://a.Internal.:80/",
            "https://planning\u{3002}internal/",
            "https://planning.%69nternal/",
            "https://u@example.com/",
            "https:///x",
            "ftp://example.com",
            "https://example.com/\r\nx: y",
        ] {
            assert_eq!(at(endpoint, "BEARER"), ["endpoint"], "{endpoint}");
        }
    }

    #[test]
    fn only_administrators_say_where_a_credential_goes() {
        berth_sdk::testing::sign_in("u1", "o1");
        let server = |more: Value| -> Server {
            let mut fields = json!({"name": "a", "displayName": "A", "endpoint": "https://a.example"});
            for (name, value) in more.as_object().into_iter().flatten() {
                fields[name] = value.clone();
            }
            berth_sdk::serde_json::from_value(fields).unwrap()
        };
        let bare = server(json!({"transportConfig": {"headers": {"X-Tenant": "a"}}}));
        let keyed = server(json!({"authType": "BEARER", "authSecretId": "s1"}));
        let headed = json!({"transportConfig": {"headers": {"X-Key": {"type": "SECRET_REF", "secretId": "s1"}}}});
        let moved = server(json!({"authType": "BEARER", "authSecretId": "s1", "endpoint": "https://b.example"}));
        let renamed = server(json!({"authType": "BEARER", "authSecretId": "s1", "displayName": "B"}));
        assert!(bare.require_right_to_send(None).is_ok() && bare.require_right_to_send(Some(&keyed)).is_ok());
        assert!(renamed.require_right_to_send(Some(&keyed)).is_ok(), "nothing that is sent changes");
        for (new, old) in [(&keyed, None), (&keyed, Some(&bare)), (&server(headed), None), (&moved, Some(&keyed))] {
            assert_eq!(new.require_right_to_send(old).unwrap_err().code, "PERMISSION_DENIED");
        }
        berth_sdk::testing::permit(access::MANAGE);
        assert!(moved.require_right_to_send(Some(&keyed)).is_ok());
    }

    #[test]
    fn a_transport_needs_what_it_needs() {
        let stdio =
            json!({"name": "a", "displayName": "A", "transport": "STDIO", "source": "LOCAL_STDIO", "command": "x"});
        assert!(faults(stdio).is_empty());
        let found = faults(
            json!({"name": "a b", "displayName": "A", "transport": "STDIO", "env": [], "transportConfig": {"headers": {"a b": 7}}}),
        );
        assert_eq!(
            found,
            ["name", "command", "source", "env", "transportConfig.headers.a b", "transportConfig.headers.a b"]
        );
    }
}
