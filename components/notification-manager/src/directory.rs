//! Who the recipients are: asked of the main app, which alone knows. Nothing here keeps a copy.

use berth_sdk::{http_out, prelude::*};

/// A member of the organization.
#[data]
pub struct Member {
    /// The user.
    pub id: Id,
    /// Where mail goes.
    pub email: String,
    /// The name.
    pub name: Option<String>,
    /// `active` for who may be told something.
    pub membership_status: Option<String>,
    /// The role.
    pub role_id: Option<Id>,
    /// The role's name.
    pub role_name: Option<String>,
    /// False after a deactivation.
    pub is_active: Option<bool>,
}

impl Member {
    /// Whether anything may be sent.
    pub fn is_reachable(&self) -> bool {
        self.is_active != Some(false) && self.membership_status.as_deref().is_none_or(|status| status == "active")
    }
}

#[data]
struct Members {
    items: Vec<Member>,
    total: i64,
}

/// The most members that one message is for when it names a role.
const MEMBERS_MAX: usize = 200;
/// Pages of members that are read to find them.
const PAGES_MAX: i64 = 10;
const PAGE: i64 = 200;

fn host() -> http_out::Client {
    http_out::plugin("host")
}

/// A member; none when there is no such member any more. Another failure is one: it must be tried again.
pub fn member(user_id: &str) -> Result<Option<Member>> {
    match host().get(&format!("/api/users/{user_id}")).fetch::<Member>() {
        Ok(member) => Ok(Some(member)),
        Err(problem) if problem.status == 404 => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// 404 unless the organization has this member.
pub fn require_member(user_id: &str) -> Result<Member> {
    member(user_id)?.ok_or_else(|| Problem::missing("user"))
}

/// The reachable members whose role has one of these names or ids.
pub fn members_with_role(roles: &[&str]) -> Result<Vec<Member>> {
    let mut found = Vec::new();
    for page in 0..PAGES_MAX {
        let path = format!("/api/users?limit={PAGE}&offset={}", page * PAGE);
        let members: Members = host().get(&path).fetch()?;
        let holds = |member: &Member| {
            let names = [member.role_id.as_deref(), member.role_name.as_deref()];
            member.is_reachable() && names.into_iter().flatten().any(|name| roles.contains(&name))
        };
        let total = members.total;
        found.extend(members.items.into_iter().filter(holds));
        if (page + 1) * PAGE >= total || found.len() >= MEMBERS_MAX {
            break;
        }
    }
    found.truncate(MEMBERS_MAX);
    Ok(found)
}

/// Who looks after the organization.
pub fn administrators() -> Result<Vec<Member>> {
    members_with_role(&["Super Admin", "Admin"])
}

#[data]
struct Memberships {
    items: Vec<Membership>,
}

#[data]
struct Membership {
    organization_id: Id,
    status: Option<String>,
}

/// The organization of the user whom a message without an organization is about: the first active one.
pub fn home_organization() -> Result<Option<Id>> {
    let memberships: Memberships = match host().get("/api/users/me/organizations?limit=50").fetch() {
        Ok(memberships) => memberships,
        Err(problem) if matches!(problem.status, 401 | 403 | 404) => return Ok(None),
        Err(problem) => return Err(problem),
    };
    let active = |membership: &Membership| membership.status.as_deref().is_none_or(|status| status == "active");
    Ok(memberships.items.into_iter().find(active).map(|membership| membership.organization_id))
}
