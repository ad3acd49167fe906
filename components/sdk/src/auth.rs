//! Who calls. The host has verified it; nothing here trusts a header.

use crate::{
    Fault,
    id::Id,
    platform,
    problem::{Problem, Result},
};

/// What kind of caller it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// Nobody: only on public routes.
    Anonymous,
    /// A signed-in user, or a program with an API key of one: see [`api_key_id`].
    User,
    /// The host on behalf of a message or a timer.
    System,
    /// The operator of the host.
    Operator,
}

/// The verified caller of the present call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// What kind of caller.
    pub kind: PrincipalKind,
    /// The user, or who caused the message.
    pub user_id: Option<String>,
    /// None for anonymous calls and timers.
    pub organization_id: Option<String>,
    /// The user's role in the organization.
    pub role_id: Option<String>,
    /// The session the token belongs to.
    pub session_id: Option<String>,
    /// The user's address.
    pub email: Option<String>,
    /// The user's name.
    pub name: Option<String>,
    /// Has every permission in the organization.
    pub is_super_admin: bool,
    /// May write rows with scope GLOBAL.
    pub is_platform: bool,
    /// The plugin that calls, when the call comes from one.
    pub source_service: Option<String>,
    /// The same through every internal call.
    pub request_id: String,
}

impl Principal {
    /// Nobody.
    ///
    /// ```
    /// assert!(berth_sdk::auth::Principal::anonymous().user_id.is_none());
    /// ```
    pub fn anonymous() -> Self {
        Self {
            kind: PrincipalKind::Anonymous,
            user_id: None,
            organization_id: None,
            role_id: None,
            session_id: None,
            email: None,
            name: None,
            is_super_admin: false,
            is_platform: false,
            source_service: None,
            request_id: String::new(),
        }
    }
}

/// The caller of the present call.
///
/// ```
/// use berth_sdk::{auth, testing};
/// testing::sign_in("u1", "o1");
/// assert_eq!(auth::principal().user_id.as_deref(), Some("u1"));
/// ```
pub fn principal() -> Principal {
    platform::principal()
}

/// The caller's organization; 400 `ORGANIZATION_REQUIRED` when there is none.
///
/// ```
/// use berth_sdk::{auth, testing};
/// assert_eq!(auth::organization_id().unwrap_err().code, "ORGANIZATION_REQUIRED");
/// testing::sign_in("u1", "o1");
/// assert_eq!(auth::organization_id().unwrap().as_str(), "o1");
/// ```
pub fn organization_id() -> Result<Id> {
    principal()
        .organization_id
        .map(Id::from)
        .ok_or_else(|| Problem::bad_request("Choose an organization first.").with_code("ORGANIZATION_REQUIRED"))
}

/// The caller's user id; 401 when nobody is signed in.
///
/// ```
/// assert_eq!(berth_sdk::auth::user_id().unwrap_err().status, 401);
/// ```
pub fn user_id() -> Result<Id> {
    principal().user_id.map(Id::from).ok_or_else(|| Problem::unauthorized("Sign in first."))
}

/// Whether the caller holds a permission such as `plans.plan.update`.
///
/// ```
/// assert!(!berth_sdk::auth::has("plans.plan.update"));
/// ```
pub fn has(permission: &str) -> bool {
    platform::has_permission(permission)
}

/// 403 unless the caller holds the permission. Described routes are checked by the host already.
///
/// ```
/// assert_eq!(berth_sdk::auth::require("plans.plan.approve").unwrap_err().status, 403);
/// ```
pub fn require(permission: &str) -> Result<()> {
    if has(permission) { Ok(()) } else { Err(Problem::forbidden(format!("It needs the permission {permission}."))) }
}

/// Every permission code or wildcard the caller holds.
///
/// ```
/// assert!(berth_sdk::auth::permissions().is_empty());
/// ```
pub fn permissions() -> Vec<String> {
    platform::permissions()
}

/// Goes on as this user of the organization: to the end of the call everything is done with the user's present rights, and
/// whatever is called, published or enqueued is theirs. For handlers of messages whose work belongs to somebody; it needs
/// `act_for_users = true` in the grant. A call acts for one user, and never back.
///
/// 403 `ACTING_DENIED` with the reason for a user who is gone, suspended or no member, and where the call may not act at
/// all; 503 when it cannot be found out now. Nothing has changed then.
///
/// ```
/// use berth_sdk::{auth, testing};
/// testing::handle_message("o1");
/// testing::add_member("u1", &["tasks.task.create"]);
/// assert_eq!(auth::act_for("u2").unwrap_err().code, "ACTING_DENIED");
/// auth::act_for("u1").unwrap();
/// assert!(auth::has("tasks.task.create") && !auth::has("tasks.task.delete"));
/// assert_eq!(auth::user_id().unwrap().as_str(), "u1");
/// ```
pub fn act_for(user_id: &str) -> Result<()> {
    platform::act_for(user_id).map_err(not_for_them)
}

/// Goes on as this member of an organization, with those of their present permissions alone that the grant's
/// `serve_as_members` names: for requests that are let in by a secret which the member has given away, and not by who sends
/// them. The answers are as those of [`act_for`], and so is how long it lasts.
///
/// ```
/// use berth_sdk::{auth, testing};
/// testing::add_member("u1", &["tasks.task.read"]);
/// assert_eq!(auth::act_for_member("o1", "u2").unwrap_err().code, "ACTING_DENIED");
/// auth::act_for_member("o1", "u1").unwrap();
/// assert_eq!((auth::user_id().unwrap().as_str(), auth::organization_id().unwrap().as_str()), ("u1", "o1"));
/// assert!(auth::has("tasks.task.read"));
/// ```
pub fn act_for_member(organization_id: &str, user_id: &str) -> Result<()> {
    platform::act_for_member(organization_id, user_id).map_err(not_for_them)
}

fn not_for_them(fault: Fault) -> Problem {
    match fault {
        Fault::Denied(reason) => {
            Problem::forbidden(format!("It cannot be done for this user: {reason}.")).with_code("ACTING_DENIED")
        }
        fault => fault.into(),
    }
}

/// Ids of the teams of the organization that the caller is in, at most 200.
///
/// ```
/// use berth_sdk::{auth, testing};
/// testing::sign_in("u1", "o1");
/// testing::join_team("t1");
/// assert_eq!(auth::teams(), ["t1"]);
/// ```
pub fn teams() -> Vec<String> {
    platform::teams()
}

/// The API key that the caller used; none for a session, a message or the operator.
///
/// ```
/// assert!(berth_sdk::auth::api_key_id().is_none());
/// ```
pub fn api_key_id() -> Option<String> {
    platform::api_key_id()
}
