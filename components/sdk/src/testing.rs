//! Set-up for native unit tests of a service: who calls, which settings it has, and what it has published. Each test
//! thread has its own.

use crate::{
    auth::{Principal, PrincipalKind},
    events::Message,
    platform::bench,
    service::Service,
};

/// Lets a user of an organization call from here on, without permissions.
///
/// ```
/// berth_sdk::testing::sign_in("u1", "o1");
/// assert_eq!(berth_sdk::auth::user_id().unwrap().as_str(), "u1");
/// ```
pub fn sign_in(user_id: &str, organization_id: &str) {
    become_principal(Principal {
        kind: PrincipalKind::User,
        user_id: Some(user_id.into()),
        organization_id: Some(organization_id.into()),
        request_id: "r1".into(),
        ..Principal::anonymous()
    });
}

/// Lets the host call from here on, as it does to hand a message of an organization over: with every right.
///
/// ```
/// berth_sdk::testing::handle_message("o1");
/// assert!(berth_sdk::auth::has("plans.plan.delete"));
/// ```
pub fn handle_message(organization_id: &str) {
    become_principal(Principal {
        kind: PrincipalKind::System,
        organization_id: Some(organization_id.into()),
        is_super_admin: true,
        request_id: "r1".into(),
        ..Principal::anonymous()
    });
}

/// Somebody whom [`crate::auth::act_for`] and [`crate::auth::act_for_member`] find, with these permissions.
///
/// ```
/// use berth_sdk::{auth, testing};
/// testing::handle_message("o1");
/// testing::add_member("u1", &["plans.plan.read"]);
/// auth::act_for("u1").unwrap();
/// assert!(!auth::has("plans.plan.delete"));
/// ```
pub fn add_member(user_id: &str, permissions: &[&str]) {
    let permissions = permissions.iter().map(|permission| (*permission).to_string()).collect();
    bench(|bench| bench.members.insert(user_id.into(), permissions));
}

/// Lets anybody call from here on.
///
/// ```
/// use berth_sdk::{auth::{self, Principal}, testing};
/// testing::become_principal(Principal { is_super_admin: true, ..Principal::anonymous() });
/// assert!(auth::has("plans.plan.delete"));
/// ```
pub fn become_principal(principal: Principal) {
    bench(|bench| bench.principal = principal);
}

/// Gives the caller a permission.
///
/// ```
/// berth_sdk::testing::permit("plans.plan.read");
/// assert!(berth_sdk::auth::has("plans.plan.read"));
/// ```
pub fn permit(permission: &str) {
    bench(|bench| bench.permissions.push(permission.into()));
}

/// Puts the caller into a team.
///
/// ```
/// berth_sdk::testing::join_team("t1");
/// assert_eq!(berth_sdk::auth::teams(), ["t1"]);
/// ```
pub fn join_team(team_id: &str) {
    bench(|bench| bench.teams.push(team_id.into()));
}

/// The routes that a service should have and has not. `wanted` is `METHOD path` separated by `|`, each path below `prefix`; an empty
/// path is the prefix itself.
///
/// # Panics
/// When the service's routes contradict each other.
///
/// ```
/// use berth_sdk::{prelude::*, testing::missing_routes};
/// let service = Service::new("notes", "1.0.0").routes(Router::new().get("/api/notes/{id}", || "a note".to_string()));
/// assert_eq!(missing_routes(&service, "/api/notes", "GET /{id}|POST "), ["POST /api/notes"]);
/// ```
#[must_use]
pub fn missing_routes(service: &Service, prefix: &str, wanted: &str) -> Vec<String> {
    #[expect(clippy::unwrap_used, reason = "a service that contradicts itself fails its test")]
    let routes = service.router().unwrap().routes();
    let known: Vec<String> = routes.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    let full = |route: &str| {
        let (method, path) = route.trim().split_once(' ').unwrap_or((route.trim(), ""));
        format!("{method} {prefix}{path}")
    };
    wanted.split('|').map(full).filter(|route| !known.contains(route)).collect()
}

/// Sets a setting.
pub fn set_config(key: &str, value: &str) {
    bench(|bench| bench.config.insert(key.into(), value.into()));
}

/// What has been published so far.
pub fn published() -> Vec<Message> {
    bench(|bench| bench.published.clone())
}

/// What has been put into the plugin's own queue so far.
pub fn enqueued() -> Vec<Message> {
    bench(|bench| bench.enqueued.clone())
}
