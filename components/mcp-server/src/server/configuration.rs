//! How a server is used: by everybody, an organization, a team, a project, an environment. The narrowest that says something
//! is the one that counts.

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Server, hold, read};
use crate::{access, audit};

/// How long a call takes at most where nobody says how long.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that can be said, in milliseconds.
pub const TIMEOUT_MS_MAX: i64 = 120_000;
/// Bytes of `config` or `permissionScope`.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024;

/// How far a configuration reaches.
#[choice(upper)]
pub enum Reach {
    /// Every organization.
    Global,
    /// One organization.
    Organization,
    /// A team of it.
    Team,
    /// A project of it.
    Project,
    /// An environment of a project.
    Environment,
}

/// A configuration.
#[entity(table = "mcp_server_configurations", name = "server configuration", global)]
pub struct Configuration {
    /// Of which server.
    #[field(filter)]
    pub server_id: Id,
    /// How far it reaches.
    #[field(filter)]
    pub scope: Reach,
    /// Of which team, project or environment.
    pub scope_id: Option<Id>,
    /// `authSecretId`, and what the organization notes for itself.
    #[field(default = json!({}), raw)]
    pub config: Value,
    /// How long a call may take.
    #[field(min = 100, max = 120_000)]
    pub timeout_ms: Option<i64>,
    /// `{"maxRetries": 2, "backoffMs": 500}`: only tools that say they may be repeated are.
    pub retry_policy: Option<Value>,
    /// Executions of a minute.
    #[field(min = 1, max = 100_000)]
    pub rate_limit: Option<i64>,
    /// What tools may be used and how: see [`crate::execution::sandbox`].
    #[field(default = json!({}), raw)]
    pub permission_scope: Value,
}

impl Rules for Configuration {
    fn check(&self, faults: &mut Faults) {
        match (self.scope, &self.scope_id) {
            (Reach::Global | Reach::Organization, Some(_)) => faults.add("scopeId", "is not known for this scope"),
            (Reach::Team | Reach::Project | Reach::Environment, None) => {
                faults.add("scopeId", "is required for this scope")
            }
            _ => {}
        }
        for (field, value) in [("config", &self.config), ("permissionScope", &self.permission_scope)] {
            if !value.is_object() {
                faults.add(field, "must be an object");
            } else if value.to_string().len() > DOCUMENT_BYTES_MAX {
                faults.add(field, format!("must have at most {DOCUMENT_BYTES_MAX} bytes"));
            }
        }
        crate::execution::sandbox::check(&self.permission_scope, faults);
        if let Some(policy) = &self.retry_policy {
            let number = |name: &str| policy.get(name).map_or(Some(0), Value::as_i64);
            if !number("maxRetries").is_some_and(|count| (0..=3).contains(&count)) {
                faults.add("retryPolicy.maxRetries", "must be a whole number from 0 to 3");
            }
            if !number("backoffMs").is_some_and(|millis| (0..=5_000).contains(&millis)) {
                faults.add("retryPolicy.backoffMs", "must be a whole number from 0 to 5000");
            }
        }
    }
}

/// What counts for one call.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    /// How long it may take, where somebody says so.
    pub timeout_ms: Option<i64>,
    /// See [`Configuration::retry_policy`].
    pub retry_policy: Option<Value>,
    /// Executions of a minute, the least of all that were said.
    pub rate_limit: Option<i64>,
    /// The permission scopes, the widest first: all of them hold.
    pub permission_scopes: Vec<Value>,
    /// The organization's own secret for a server of the catalogue.
    pub auth_secret_id: Option<Id>,
}

/// What the configurations of a server come to for a call within a project.
pub fn effective(database: &dyn Executor, server: &Stored<Server>, project_id: Option<&Id>) -> Result<Effective> {
    effective_for(database, server, &auth::teams(), project_id)
}

/// The same for somebody of these teams.
pub fn effective_for(
    database: &dyn Executor,
    server: &Stored<Server>,
    teams: &[String],
    project_id: Option<&Id>,
) -> Result<Effective> {
    let rows = Select::<Configuration>::new().equal("server_id", &server.id).limit(200).all(database)?;
    Ok(merged(rows.into_iter().map(|row| row.data).collect(), teams, project_id))
}

/// The narrowest that says something counts; permission scopes and limits all count.
fn merged(mut rows: Vec<Configuration>, teams: &[String], project_id: Option<&Id>) -> Effective {
    rows.retain(|row| match row.scope {
        Reach::Global | Reach::Organization => true,
        Reach::Team => row.scope_id.as_ref().is_some_and(|id| teams.iter().any(|team| team == id.as_str())),
        Reach::Project => row.scope_id.is_some() && row.scope_id.as_ref() == project_id,
        // Calls name no environment.
        Reach::Environment => false,
    });
    rows.sort_by_key(|row| row.scope as u8);
    let mut effective = Effective::default();
    for row in rows {
        effective.timeout_ms = row.timeout_ms.or(effective.timeout_ms);
        effective.retry_policy = row.retry_policy.or(effective.retry_policy);
        effective.rate_limit = [row.rate_limit, effective.rate_limit].into_iter().flatten().min();
        let secret = row.config.get("authSecretId").and_then(Value::as_str).map(Id::from);
        effective.auth_secret_id = secret.or(effective.auth_secret_id);
        if row.permission_scope.as_object().is_some_and(|members| !members.is_empty()) {
            effective.permission_scopes.push(row.permission_scope);
        }
    }
    effective
}

/// Which configuration.
#[data]
pub struct Which {
    /// How far it reaches; without it, all that there are.
    scope: Option<Reach>,
    /// Of what.
    scope_id: Option<Id>,
}

/// `GET /api/mcp/servers/{id}/configuration`.
pub fn read_all(Params(id): Params<Id>, Query(which): Query<Which>) -> Result<Json<Value>> {
    let server = read(&Pool, &id)?;
    let mut select = Select::<Configuration>::new().equal("server_id", &id);
    if let Some(scope) = which.scope {
        select = select.equal("scope", scope);
    }
    if let Some(scope_id) = &which.scope_id {
        select = select.equal("scope_id", scope_id);
    }
    if let Some(Condition { sql, values }) = access::within_projects() {
        select = select.condition(&sql, values);
    }
    let items = select.limit(200).all(&Pool)?;
    let effective = effective(&Pool, &server, None)?;
    Ok(Json(json!({
        "items": items, "total": items.len(), "limit": 200, "offset": 0,
        "effective": { "timeoutMs": effective.timeout_ms.unwrap_or(30_000), "rateLimit": effective.rate_limit,
            "retryPolicy": effective.retry_policy, "permissionScopes": effective.permission_scopes },
    })))
}

/// A configuration, or what changes in it.
#[data]
pub struct Change {
    /// ORGANIZATION where nothing is said.
    scope: Option<Reach>,
    /// Of which team, project or environment.
    scope_id: Option<Id>,
    /// See [`Configuration`].
    config: Option<Value>,
    /// See [`Configuration`].
    timeout_ms: Option<i64>,
    /// See [`Configuration`].
    retry_policy: Option<Value>,
    /// See [`Configuration`].
    rate_limit: Option<i64>,
    /// See [`Configuration`].
    permission_scope: Option<Value>,
}

/// `PUT /api/mcp/servers/{id}/configuration`: by scope, what is not named stays.
pub fn change(Params(id): Params<Id>, if_match: IfMatch, Json(change): Json<Change>) -> Result<Stored<Configuration>> {
    let scope = change.scope.unwrap_or(Reach::Organization);
    access::require_manager(scope == Reach::Global)?;
    if scope == Reach::Project
        && let Some(project_id) = &change.scope_id
    {
        people::project::require(project_id)?;
    }
    let body = json!(change);
    let mut patch: Map<String, Value> = body
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    patch.insert("scope".into(), json!(scope));
    patch.insert("serverId".into(), json!(id));
    database::transaction(|transaction| {
        let server = hold(transaction, &id)?;
        let row = put(transaction, &server, scope, change.scope_id.as_ref(), patch, if_match)?;
        let details = json!({ "scope": scope, "scopeId": change.scope_id });
        audit::note(transaction, "server.configured", Some(&id), &server.name, details)?;
        Ok(row)
    })
}

fn put(
    transaction: &Transaction,
    server: &Stored<Server>,
    scope: Reach,
    scope_id: Option<&Id>,
    mut patch: Map<String, Value>,
    if_match: IfMatch,
) -> Result<Stored<Configuration>> {
    let known = Select::<Configuration>::new()
        .equal("server_id", &server.id)
        .equal("scope", scope)
        .condition("COALESCE(\"scope_id\", '') = ?", [scope_id.map(Id::as_str).unwrap_or_default()]);
    let is_own = |row: &Stored<Configuration>| (row.organization_id.is_none()) == (scope == Reach::Global);
    match known.all(transaction)?.into_iter().find(is_own) {
        Some(row) => entity::update::<Configuration>(transaction, &row.id, &patch, if_match),
        None => {
            if_match.check(0)?;
            patch.entry("config").or_insert_with(|| json!({}));
            patch.entry("permissionScope").or_insert_with(|| json!({}));
            entity::create_from::<Configuration>(transaction, patch)
        }
    }
}

/// Notes the organization's own secret for a server of the catalogue, which must be held: what else the configuration says is
/// written as it was read.
pub fn set_secret(transaction: &Transaction, server: &Stored<Server>, secret_id: Option<&Id>) -> Result<()> {
    let known = Select::<Configuration>::new().equal("server_id", &server.id).equal("scope", Reach::Organization);
    let mut config = known.first(transaction)?.map(|row| row.data.config).unwrap_or_else(|| json!({}));
    if let Some(members) = config.as_object_mut() {
        members.insert("authSecretId".into(), json!(secret_id));
    }
    let mut patch = Map::new();
    patch.insert("serverId".into(), json!(server.id));
    patch.insert("scope".into(), json!(Reach::Organization));
    patch.insert("config".into(), config);
    put(transaction, server, Reach::Organization, None, patch, IfMatch(None)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scope: Reach, scope_id: Option<&str>, timeout_ms: Option<i64>, rate_limit: Option<i64>) -> Configuration {
        let (config, permission_scope) = (json!({}), json!({"scope": scope}));
        let (server_id, scope_id) = (Id::from("s"), scope_id.map(Id::from));
        Configuration {
            server_id,
            scope,
            scope_id,
            config,
            timeout_ms,
            retry_policy: None,
            rate_limit,
            permission_scope,
        }
    }

    #[test]
    fn the_narrowest_says_how_and_everybody_says_how_much() {
        let rows = || {
            vec![
                row(Reach::Project, Some("p1"), Some(300), Some(50)),
                row(Reach::Global, None, Some(100), Some(20)),
                row(Reach::Team, Some("t1"), None, None),
                row(Reach::Organization, None, Some(200), Some(30)),
            ]
        };
        let of = |teams: &[String], project: Option<&str>| {
            let effective = merged(rows(), teams, project.map(Id::from).as_ref());
            (effective.timeout_ms, effective.rate_limit, effective.permission_scopes.len())
        };
        assert_eq!(of(&[], None), (Some(200), Some(20), 2));
        assert_eq!(of(&["t1".into()], Some("p1")), (Some(300), Some(20), 4));
        assert_eq!(of(&["t2".into()], Some("p2")), (Some(200), Some(20), 2));
    }
}
