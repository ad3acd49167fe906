//! Credentials of servers: named, put in by the host, never seen. What a secret's end means for the servers that name it.

use berth_sdk::{
    http_out::{self, Call},
    prelude::*,
    serde_json::Value,
};

use super::{AuthType, Server, configuration};
use crate::audit;

/// Headers that are the protocol's or the host's own.
const RESERVED: [&str; 10] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "content-type",
    "accept",
    "mcp-session-id",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
];
/// The header of an `API_KEY` where none is named.
const KEY_HEADER: &str = "X-API-Key";
/// Further headers of one server.
const HEADERS_MAX: usize = 20;

/// A name that a header can have, and that is not spoken for.
pub fn check_header_name(field: &str, name: &str, faults: &mut Faults) {
    let plain = name.to_ascii_lowercase();
    let is_token = |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter);
    if name.is_empty() || !name.chars().all(is_token) {
        faults.add(field, "is no name of a header");
    } else if RESERVED.contains(&plain.as_str()) || plain.starts_with("berth-") {
        faults.add(field, "is spoken for");
    }
}

/// What `transportConfig` may hold.
pub fn check_config(config: &Value, faults: &mut Faults) {
    let Some(headers) = config.get("headers") else { return };
    let Some(headers) = headers.as_object() else { return faults.add("transportConfig.headers", "must be an object") };
    if headers.len() > HEADERS_MAX {
        faults.add("transportConfig.headers", format!("must have at most {HEADERS_MAX} members"));
    }
    for (name, value) in headers {
        let field = format!("transportConfig.headers.{name}");
        check_header_name(&field, name, faults);
        let is_text = value.as_str().is_some_and(|text| text.len() <= 2_000 && !text.contains(char::is_control));
        if !is_text && !http_out::has_secret(value) {
            faults.add(field, "must be a text of one line or a reference to a secret");
        }
    }
}

/// The secret that a server's calls need in this organization.
pub fn of(server: &Stored<Server>, config: &configuration::Effective) -> Option<Id> {
    config.auth_secret_id.clone().or_else(|| server.auth_secret_id.clone())
}

/// 409 when a credential is needed and none is named.
pub fn require(server: &Stored<Server>, config: &configuration::Effective) -> Result<()> {
    if server.auth_type == AuthType::None || of(server, config).is_some() {
        return Ok(());
    }
    Err(unusable())
}

/// The credential cannot be used.
pub fn unusable() -> Problem {
    Problem::conflict("The server's credential is missing or cannot be used here.").with_code("AUTH_SECRET_NOT_FOUND")
}

/// Lets the host put in the credential, and adds the server's own headers.
pub fn apply(mut call: Call, server: &Server, secret_id: Option<&Id>) -> Call {
    let headers = server.transport_config.get("headers").and_then(Value::as_object);
    for (name, value) in headers.into_iter().flatten() {
        call = match (value.as_str(), value.get("secretId").and_then(Value::as_str)) {
            (Some(text), _) => call.header(name, text),
            (None, Some(secret_id)) => call.secret_header(name, secret_id),
            (None, None) => call,
        };
    }
    match (server.auth_type, secret_id) {
        (AuthType::None, _) | (_, None) => call,
        (AuthType::ApiKey, Some(id)) => {
            call.secret_header(server.auth_header_name.as_deref().unwrap_or(KEY_HEADER), id)
        }
        (_, Some(id)) => call.auth_secret_id(id.as_str()),
    }
}

#[data]
struct Gone {
    secret_id: Option<Id>,
    id: Option<Id>,
}

/// `secret.rotated`: whoever was told of the old value begins anew.
pub fn rotated(envelope: &Envelope) -> Result<()> {
    cut_off(envelope, "server.credential_rotated", "health = 'UNKNOWN'")
}

/// `secret.deleted`: servers that named it are without credential, and say so when they are used.
pub fn deleted(envelope: &Envelope) -> Result<()> {
    cut_off(envelope, "server.credential_lost", "auth_secret_id = NULL")
}

/// Ends the session of every server that signs in with the secret, and changes it as `change` says.
fn cut_off(envelope: &Envelope, action: &str, change: &'static str) -> Result<()> {
    let gone: Gone = envelope.data()?;
    let Some(secret_id) = gone.secret_id.or(gone.id) else { return Ok(()) };
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        for row in Select::<Server>::new().equal("auth_secret_id", &secret_id).all(transaction)? {
            if row.organization_id.is_none() {
                continue;
            }
            let sql = format!(
                "UPDATE mcp_servers SET session = NULL, {change}, updated_at = $2, lock_version = lock_version + 1 \
                 WHERE id = $1 AND auth_secret_id = $3"
            );
            // It may have been given another one since it was read.
            if transaction.execute(&sql, params![&row.id, clock::now(), &secret_id])? == 0 {
                continue;
            }
            transaction.forget(format!("link:{}", row.id));
            audit::note(transaction, action, Some(&row.id), &row.name, json!({"secretId": secret_id}))?;
        }
        Ok(())
    })
}
