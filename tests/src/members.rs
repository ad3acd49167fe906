//! People of one organization.

use serde_json::{Value, json};

use crate::answer::text;
use crate::{Client, Host};

/// A host with the components that ship with Berth, and the owner of an organization on it.
///
/// # Panics
/// When the host does not start.
pub async fn host_with_ada() -> (Host, Client) {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

/// Registers somebody and brings them into the organization of `admin` with a role such as `Viewer`. They are signed in
/// there.
///
/// # Panics
/// When the host refuses.
pub async fn bring(host: &Host, admin: &Client, email: &str, role: &str) -> Client {
    let organization = text(&admin.account["organization"], "id");
    let stranger = host.client().register(email, "Elsewhere").await;
    let roles = admin.get(&format!("/api/organizations/{organization}/roles")).await.expect(200);
    let found = roles["items"].as_array().into_iter().flatten().find(|candidate| candidate["name"] == role).cloned();
    let body = json!({"userId": id(&stranger), "roleId": text(&found.unwrap_or(Value::Null), "id")});
    admin.post(&format!("/api/organizations/{organization}/memberships"), &body).await.done(201);
    let body = json!({ "organizationId": organization });
    let switched = stranger.post("/api/auth/switch-organization", &body).await.expect(200);
    stranger.with_token(&text(&switched, "token"))
}

/// The id of a client's user.
///
/// # Panics
/// For nobody.
#[must_use]
pub fn id(client: &Client) -> String {
    text(&client.account["user"], "id")
}
