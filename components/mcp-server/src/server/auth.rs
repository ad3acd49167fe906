//! `PUT` and `DELETE /api/mcp/servers/{id}/auth`.

use berth_sdk::{cache, prelude::*, serde_json::Map};

use super::{AuthType, Server, configuration, hold, secret};
use crate::{access, audit};

/// How the organization proves who it is.
#[data]
pub struct NewAuth {
    /// The kind of credential.
    auth_type: AuthType,
    /// The secret that holds it.
    secret_id: Option<Id>,
    /// The same under its other name.
    auth_secret_id: Option<Id>,
    /// The header of an `API_KEY`.
    #[field(max = 100, plain)]
    header_name: Option<String>,
}

/// `PUT /api/mcp/servers/{id}/auth`. For a server of the catalogue it is the organization's own secret.
pub fn set(Params(id): Params<Id>, if_match: IfMatch, Json(input): Json<NewAuth>) -> Result<Stored<Server>> {
    let secret_id = input.secret_id.or(input.auth_secret_id);
    if secret_id.is_none() && input.auth_type != AuthType::None {
        return Err(Problem::field("secretId", "is required for this type"));
    }
    let row = database::transaction(|transaction| {
        let row = hold(transaction, &id)?;
        if row.organization_id.is_none() && !auth::principal().is_platform {
            if_match.check(row.version)?;
            access::require_manager(false)?;
            if row.auth_type != input.auth_type {
                return Err(Problem::field("authType", format!("must be {}, as the catalogue says", row.auth_type)));
            }
            configuration::set_secret(transaction, &row, secret_id.as_ref())?;
            note(transaction, &row, "server.auth_set")?;
            return Ok(row);
        }
        let mut patch = Map::new();
        patch.insert("authType".into(), json!(input.auth_type));
        patch.insert("authSecretId".into(), json!(secret_id));
        if input.header_name.is_some() {
            patch.insert("authHeaderName".into(), json!(input.header_name));
        }
        let row = entity::update::<Server>(transaction, &id, &patch, if_match)?;
        note(transaction, &row, "server.auth_set")?;
        Ok::<_, Problem>(row)
    })?;
    Server::committed(&row);
    Ok(row)
}

/// `DELETE /api/mcp/servers/{id}/auth`.
pub fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    database::transaction(|transaction| {
        let row = hold(transaction, &id)?;
        if row.organization_id.is_none() && !auth::principal().is_platform {
            if_match.check(row.version)?;
            access::require_manager(false)?;
            configuration::set_secret(transaction, &row, None)?;
        } else {
            let mut patch = Map::new();
            patch.insert("authType".into(), json!(AuthType::None));
            patch.insert("authSecretId".into(), berth_sdk::serde_json::Value::Null);
            patch.insert("authHeaderName".into(), berth_sdk::serde_json::Value::Null);
            entity::update::<Server>(transaction, &id, &patch, if_match)?;
        }
        note(transaction, &row, "server.auth_removed")
    })?;
    cache::del(&format!("link:{id}"));
    Ok(NoContent)
}

fn note(transaction: &Transaction, row: &Stored<Server>, action: &str) -> Result<()> {
    audit::note(transaction, action, Some(&row.id), &row.name, json!({ "authType": row.auth_type }))
}

/// What is missing to call a server, before it is called.
pub fn require(server: &Stored<Server>) -> Result<Option<Id>> {
    let effective = configuration::effective(&Pool, server, None)?;
    secret::require(server, &effective)?;
    Ok(secret::of(server, &effective))
}
