//! HashiCorp Vault, the key-value engine in its version 2, over its HTTP API.

use berth_sdk::{
    http_out::{Call, Client, Reply},
    prelude::*,
    serde_json::Value,
};
use zeroize::Zeroizing;

use super::Health;
use crate::secret::api::VAULT_TIMEOUT;

/// How a vault is reached.
#[data]
pub(crate) struct Connection {
    /// `https://vault.example.com:8200`.
    #[field(max = 500)]
    pub address: String,
    #[field(max = 4096, raw)]
    pub token: String,
    /// Where the engine is mounted.
    #[field(max = 200, default = "secret".to_string())]
    pub mount: String,
    #[field(max = 200)]
    pub namespace: Option<String>,
}

/// What is remembered of a value that lies there.
#[data]
pub(crate) struct Kept {
    pub reference: String,
    pub version: i64,
}

impl Connection {
    /// 400 when it cannot be one.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        faults.check("config.address", validate::url(&self.address));
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_graphic());
        if !is_plain(&self.token) {
            faults.add("config.token", "must be a token");
        }
        let is_path =
            |text: &str| is_plain(text) && !text.contains(['?', '#', '%']) && !text.split('/').any(|part| part == "..");
        if !is_path(&self.mount) {
            faults.add("config.mount", "must be a path");
        }
        if self.namespace.as_deref().is_some_and(|namespace| !is_path(namespace)) {
            faults.add("config.namespace", "must be a path");
        }
        faults.finish()
    }

    fn call(&self, method: &str, path: &str) -> Call {
        let call = Client::new(&self.address)
            .request(method, path)
            .header("x-vault-token", self.token.clone())
            .header("x-vault-request", "true")
            .timeout(VAULT_TIMEOUT);
        match &self.namespace {
            Some(namespace) => call.header("x-vault-namespace", namespace.clone()),
            None => call,
        }
    }

    fn path(&self, kind: &str, reference: &str) -> String {
        format!("/v1/{}/{kind}/{reference}", self.mount.trim_matches('/'))
    }
}

/// Where a secret of an organization lies.
pub(crate) fn reference(organization_id: &str, secret_id: &str) -> String {
    format!("berth/{organization_id}/{secret_id}")
}

/// Writes a value as the next version.
pub(crate) fn write(connection: &Connection, reference: &str, value: &[u8]) -> Result<Kept> {
    let value: Value = berth_sdk::serde_json::from_slice(value).map_err(|_| Problem::internal())?;
    let call = connection.call("POST", &connection.path("data", reference)).json(&json!({"data": {"value": value}}));
    let answer: Value = accepted(&call)?.json().map_err(|_| failed("it answers with something else than expected"))?;
    let version = answer.pointer("/data/version").and_then(Value::as_i64);
    let version = version.ok_or_else(|| failed("it answers without a version"))?;
    Ok(Kept { reference: reference.into(), version })
}

/// Reads the version that was kept.
pub(crate) fn read(connection: &Connection, kept: &Kept) -> Result<Zeroizing<Vec<u8>>> {
    let path = format!("{}?version={}", connection.path("data", &kept.reference), kept.version);
    let answer: Value = accepted(&connection.call("GET", &path))?.json().map_err(|_| failed("it answers wrongly"))?;
    let value = answer.pointer("/data/data/value").ok_or_else(|| failed("the value is no longer there"))?;
    Ok(Zeroizing::new(value.to_string().into_bytes()))
}

/// Removes every version.
pub(crate) fn destroy(connection: &Connection, reference: &str) -> Result<()> {
    accepted(&connection.call("DELETE", &connection.path("metadata", reference))).map(|_| ())
}

/// How it is; a standby serves, a sealed one does not.
pub(crate) fn health(connection: &Connection) -> Health {
    match connection.call("GET", "/v1/sys/health").send() {
        Ok(reply) => match reply.status {
            200 => Health::Healthy,
            429 | 472 | 473 => Health::Degraded,
            _ => Health::Unhealthy,
        },
        Err(_) => Health::Unhealthy,
    }
}

fn accepted(call: &Call) -> Result<Reply> {
    let reply = call.send().map_err(|fault| match fault {
        Fault::Denied(_) => failed("the operator's list does not allow its address"),
        _ => failed("it does not answer"),
    })?;
    match reply.status {
        200..300 => Ok(reply),
        403 => Err(failed("it refuses the token")),
        404 => Err(failed("there is nothing at that place")),
        _ => Err(failed("it refuses the request")),
    }
}

fn failed(why: &str) -> Problem {
    Problem::new(
        502,
        "VAULT_CONNECTION_FAILED",
        "The vault failed",
        format!("The external vault cannot be used: {why}."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_an_address_a_token_and_a_path() {
        let connection = |address: &str, token: &str, mount: &str| Connection {
            address: address.into(),
            token: token.into(),
            mount: mount.into(),
            namespace: None,
        };
        assert!(connection("https://vault.example.com:8200", "hvs.x", "secret").check().is_ok());
        let faults = connection("ftp://x", "a b", "../x").check().unwrap_err().errors;
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["config.address", "config.token", "config.mount"]);
    }
}
