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
    let body = json!({"userId": id(&stranger), "roleId": role_id(admin, role).await});
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

/// The first item of a page of which `name` is `value`.
async fn found(admin: &Client, below: &str, name: &str, value: &str) -> Value {
    let organization = text(&admin.account["organization"], "id");
    let page = admin.get(&format!("/api/organizations/{organization}/{below}?limit=200")).await.expect(200);
    let item = page["items"].as_array().into_iter().flatten().find(|item| item[name] == value).cloned();
    item.unwrap_or(Value::Null)
}

async fn role_id(admin: &Client, role: &str) -> String {
    text(&found(admin, "roles", "name", role).await, "id")
}

/// The path of somebody's membership in the organization of `admin`.
async fn membership(admin: &Client, member: &Client) -> String {
    let organization = text(&admin.account["organization"], "id");
    let membership = text(&found(admin, "memberships", "userId", &id(member)).await, "id");
    format!("/api/organizations/{organization}/memberships/{membership}")
}

/// Gives a member another role.
///
/// # Panics
/// When the host refuses.
pub async fn give_role(admin: &Client, member: &Client, role: &str) {
    let body = json!({ "roleId": role_id(admin, role).await });
    admin.put(&membership(admin, member).await, &body).await.done(200);
}

/// Makes a membership `active`, `suspended` or `deactivated`.
///
/// # Panics
/// When the host refuses.
pub async fn set_status(admin: &Client, member: &Client, status: &str) {
    admin.put(&membership(admin, member).await, &json!({ "status": status })).await.done(200);
}

/// Takes a member out of the organization.
///
/// # Panics
/// When the host refuses.
pub async fn remove(admin: &Client, member: &Client) {
    admin.delete(&membership(admin, member).await).await.done(204);
}
