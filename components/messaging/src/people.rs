//! Who belongs to the organization, and who looks after it.

pub use ::people::{members, require_members};
use berth_sdk::{http_out, prelude::*};

/// Administrators that an escalation reaches.
const ADMINISTRATORS_MAX: usize = 20;
/// Pages of users that are read to find them.
const PAGES_MAX: i64 = 5;
const PAGE: i64 = 200;

#[data]
struct User {
    id: Id,
    membership_status: Option<String>,
    role_name: Option<String>,
    is_active: Option<bool>,
}

impl User {
    fn is_here(&self) -> bool {
        ::people::is_here(self.membership_status.as_deref(), self.is_active)
    }
}

#[data]
struct Users {
    items: Vec<User>,
    total: i64,
}

/// Who looks after the organization.
pub fn administrators() -> Result<Vec<Id>> {
    let mut found = Vec::new();
    for page in 0..PAGES_MAX {
        let path = format!("/api/users?limit={PAGE}&offset={}", page * PAGE);
        let users: Users = http_out::plugin("host").get(&path).fetch()?;
        let total = users.total;
        let administers =
            |user: &User| user.is_here() && matches!(user.role_name.as_deref(), Some("Admin" | "Super Admin"));
        found.extend(users.items.into_iter().filter(administers).map(|user| user.id));
        if (page + 1) * PAGE >= total || found.len() >= ADMINISTRATORS_MAX {
            break;
        }
    }
    found.truncate(ADMINISTRATORS_MAX);
    Ok(found)
}
