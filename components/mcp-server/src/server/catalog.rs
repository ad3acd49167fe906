//! The platform's catalogue: servers that every organization is offered, and the releases of a server.

use berth_sdk::{
    http::Answer,
    prelude::*,
    serde_json::{Map, Value},
    types::Scope,
};

use super::{Server, ServerType, Status, Verification, definition, read};
use crate::access;

/// A release of a server, as it was.
#[entity(table = "mcp_server_versions", name = "server version", sort = "-createdAt", global)]
pub struct ServerVersion {
    /// Which.
    #[field(filter)]
    pub server_id: Id,
    /// As its makers count.
    #[field(min = 1, max = 50, plain)]
    pub version: String,
    /// What the server was.
    pub definition: Value,
    /// What is new.
    #[field(max = 5_000)]
    pub change_notes: Option<String>,
    /// GLOBAL in the catalogue.
    #[field(default = Scope::Organization)]
    pub scope: Scope,
}

impl Rules for ServerVersion {}

/// Keeps what a server is in this release; a release that is kept already becomes what it is now.
pub fn keep_version(
    transaction: &Transaction,
    row: &Stored<Server>,
    notes: Option<&str>,
) -> Result<Stored<ServerVersion>> {
    let version = ServerVersion {
        server_id: row.id.clone(),
        version: row.data.version.clone(),
        definition: definition(row),
        change_notes: notes.map(ToString::to_string),
        scope: row.scope,
    };
    let known = Select::<ServerVersion>::new().equal("server_id", &row.id).equal("version", version.version.as_str());
    match known.first(transaction)? {
        Some(mut known) => {
            known.data =
                ServerVersion { change_notes: version.change_notes.clone().or(known.data.change_notes), ..version };
            entity::save(transaction, &mut known)?;
            Ok(known)
        }
        None => entity::create(transaction, version),
    }
}

/// `GET /api/mcp/catalog`.
pub fn list(query: PageQuery) -> Result<impl Answer> {
    let archived = query.filter("status").is_none();
    let mut select = Select::<Server>::new().condition("\"organization_id\" IS NULL", [] as [&str; 0]);
    if archived {
        select = select.condition("\"status\" <> ?", [Status::Archived.as_str()]);
    }
    select.page(&Pool, &query)
}

/// `POST /api/mcp/catalog/servers`.
pub fn add(Json(body): Json<Value>) -> Result<Created<Stored<Server>>> {
    access::require_platform()?;
    let fields: Map<String, Value> = body.as_object().cloned().unwrap_or_default();
    let mut server: Server = berth_sdk::http::read_value(Value::Object(fields))?;
    (server.scope, server.r#type) = (Scope::Global, ServerType::Default);
    server.verification = Verification::Verified;
    (server.session, server.protocol_version, server.last_synced_at) = (None, None, None);
    server.health = berth_sdk::types::Health::Unknown;
    let row = database::transaction(|transaction| entity::create(transaction, server))?;
    Ok(Created(row))
}

/// `POST /api/mcp/catalog/servers/{id}/deprecate`.
pub fn deprecate(Params(id): Params<Id>) -> Result<Stored<Server>> {
    become_status(&id, Status::Deprecated, &[Status::Active, Status::Disabled])
}

/// `POST /api/mcp/catalog/servers/{id}/archive`.
pub fn archive(Params(id): Params<Id>) -> Result<Stored<Server>> {
    become_status(&id, Status::Archived, &[Status::Active, Status::Disabled, Status::Deprecated])
}

fn become_status(id: &Id, status: Status, from: &[Status]) -> Result<Stored<Server>> {
    access::require_platform()?;
    let row = database::transaction(|transaction| {
        let row = catalogued(transaction, id)?;
        if row.status == status {
            return Ok(row);
        }
        if !from.contains(&row.status) {
            return Err(Problem::conflict(format!("It is {} by now.", row.status)));
        }
        let mut patch = Map::new();
        patch.insert("status".into(), json!(status));
        entity::update::<Server>(transaction, id, &patch, IfMatch(None))
    })?;
    Server::committed(&row);
    Ok(row)
}

fn catalogued(database: &dyn Executor, id: &Id) -> Result<Stored<Server>> {
    let row = read(database, id)?;
    if row.organization_id.is_none() { Ok(row) } else { Err(super::missing()) }
}

/// A release.
#[data]
pub struct NewVersion {
    /// As its makers count.
    #[field(min = 1, max = 50, plain)]
    version: String,
    /// What is new.
    #[field(max = 5_000)]
    change_notes: Option<String>,
    /// What changes with it: fields of the server.
    definition: Option<Value>,
}

/// `POST /api/mcp/catalog/servers/{id}/versions`.
pub fn add_version(Params(id): Params<Id>, Json(input): Json<NewVersion>) -> Result<Created<Stored<ServerVersion>>> {
    access::require_platform()?;
    let mut patch: Map<String, Value> = match input.definition {
        None => Map::new(),
        Some(Value::Object(patch)) => patch,
        Some(_) => return Err(Problem::field("definition", "must be an object")),
    };
    patch.insert("version".into(), json!(input.version));
    let (server, version) = database::transaction(|transaction| {
        let old = catalogued(transaction, &id)?;
        let known = Select::<ServerVersion>::new().equal("server_id", &id).equal("version", input.version.as_str());
        if known.count(transaction)? > 0 && old.data.version == input.version {
            return Err(Problem::conflict("There is such a release already.").with_code("DUPLICATE_VERSION"));
        }
        let server = entity::update::<Server>(transaction, &id, &patch, IfMatch(None))?;
        let version = keep_version(transaction, &server, input.change_notes.as_deref())?;
        Ok::<_, Problem>((server, version))
    })?;
    Server::committed(&server);
    Ok(Created(version))
}

/// `GET /api/mcp/servers/{id}/versions`.
pub fn versions(Params(id): Params<Id>, query: PageQuery) -> Result<impl Answer> {
    read(&Pool, &id)?;
    Select::<ServerVersion>::new().equal("server_id", &id).page(&Pool, &query)
}
