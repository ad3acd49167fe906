//! Types that services share about people and organizations.

use crate::{data, id::Id};

/// A user, named.
///
/// ```
/// use berth_sdk::types::UserRef;
/// let user = UserRef { id: "u1".into(), name: Some("Ada".into()) };
/// assert_eq!(berth_sdk::json!(user)["name"], "Ada");
/// ```
#[data]
pub struct UserRef {
    /// The user's id.
    pub id: Id,
    /// The user's name, where it is known.
    pub name: Option<String>,
}

/// An organization.
#[data]
pub struct OrgRef {
    /// The organization's id.
    pub id: Id,
}

/// Who did something, for whom.
///
/// ```
/// use berth_sdk::{testing, types::Identity};
/// testing::sign_in("u1", "o1");
/// assert_eq!(Identity::current().organization_id.as_deref(), Some("o1"));
/// ```
#[data]
pub struct Identity {
    /// The user, or none for the host itself.
    pub user_id: Option<Id>,
    /// The organization, or none for a timer.
    pub organization_id: Option<Id>,
    /// The id of the request.
    pub request_id: String,
}

impl Identity {
    /// The caller's.
    pub fn current() -> Self {
        let principal = crate::auth::principal();
        Self {
            user_id: principal.user_id.map(Id::from),
            organization_id: principal.organization_id.map(Id::from),
            request_id: principal.request_id,
        }
    }
}

/// How far a thing reaches.
///
/// ```
/// assert_eq!(berth_sdk::types::Scope::Organization.as_str(), "ORGANIZATION");
/// ```
#[crate::choice(upper)]
pub enum Scope {
    /// Every organization.
    Global,
    /// One organization.
    Organization,
    /// One team.
    Team,
    /// One project.
    Project,
    /// One user.
    User,
}

/// How something does.
#[crate::choice(upper)]
pub enum Health {
    /// Fine.
    Healthy,
    /// Works, but not well.
    Degraded,
    /// Does not work.
    Unhealthy,
    /// Nobody has looked yet.
    Unknown,
}
