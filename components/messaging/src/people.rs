//! Who belongs to the organization, who looks after it, and who of them sees what belongs to a project.

use std::{collections::BTreeSet, time::Duration};

pub use ::people::{members, require_members};
use berth_sdk::{http_out, prelude::*};

/// Administrators that an escalation reaches.
const ADMINISTRATORS_MAX: usize = 20;
/// Pages of users that are read to find them.
const PAGES_MAX: i64 = 5;
const PAGE: i64 = 200;
/// How long planning may take.
const ASKED: Duration = Duration::from_secs(5);
/// People on a project's list that are looked at.
const LISTED_MAX: &str = "200";

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

    /// Administrators of everything see every project, others those that they are let into.
    fn administers(&self, is_everybodys: bool) -> bool {
        match self.role_name.as_deref() {
            Some("Super Admin") => true,
            Some("Admin") => is_everybodys,
            _ => false,
        }
    }
}

#[data]
struct Users {
    items: Vec<User>,
    total: i64,
}

/// Who looks after the organization and sees what belongs to this project, or to none.
pub fn administrators(project_id: Option<&Id>) -> Result<Vec<Id>> {
    let is_everybodys = is_everybodys(project_id);
    let mut found = Vec::new();
    for page in 0..PAGES_MAX {
        let path = format!("/api/users?limit={PAGE}&offset={}", page * PAGE);
        let users: Users = http_out::plugin("host").get(&path).fetch()?;
        let total = users.total;
        let is_one = |user: &User| user.is_here() && user.administers(is_everybodys);
        found.extend(users.items.into_iter().filter(is_one).map(|user| user.id));
        if (page + 1) * PAGE >= total || found.len() >= ADMINISTRATORS_MAX {
            break;
        }
    }
    found.truncate(ADMINISTRATORS_MAX);
    Ok(found)
}

/// Whether everybody sees what belongs to this project, or to none. While planning does not say, not everybody does.
pub fn is_everybodys(project_id: Option<&Id>) -> bool {
    #[data]
    struct Project {
        visibility: String,
    }
    let Some(id) = project_id else { return true };
    let call = http_out::plugin("planning").get(&format!("/api/projects/{id}")).timeout(ASKED);
    call.fetch::<Project>().is_ok_and(|project| project.visibility == "organization")
}

/// Who of these belongs to the organization and is known to see what belongs to this project, or to none: where not everybody
/// does, those whom the project's list names.
pub fn who_sees(project_id: Option<&Id>, ids: &[Id]) -> Result<BTreeSet<Id>> {
    #[data]
    struct Line {
        user_id: Option<Id>,
    }
    #[data]
    struct Lines {
        items: Vec<Line>,
    }
    let Some(id) = project_id.filter(|_| !ids.is_empty() && !is_everybodys(project_id)) else { return members(ids) };
    let call = http_out::plugin("planning").get(&format!("/api/projects/{id}/access")).query("limit", LISTED_MAX);
    // Who sees it by taking part alone is not told who else does.
    let Ok(lines) = call.timeout(ASKED).fetch::<Lines>() else { return Ok(BTreeSet::new()) };
    let listed: BTreeSet<Id> = lines.items.into_iter().filter_map(|line| line.user_id).collect();
    members(&ids.iter().filter(|id| listed.contains(*id)).cloned().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_let_into_no_project_administers_what_is_everybodys() {
        let user = |role: &str| User {
            id: "u1".into(),
            membership_status: None,
            role_name: Some(role.into()),
            is_active: None,
        };
        assert!(user("Super Admin").administers(false) && user("Admin").administers(true));
        assert!(!user("Admin").administers(false) && !user("Member").administers(true));
    }

    #[test]
    fn what_planning_does_not_vouch_for_is_not_everybodys() {
        berth_sdk::testing::sign_in("u1", "o1");
        assert!(is_everybodys(None) && !is_everybodys(Some(&"p1".into())), "natively nobody answers");
        assert_eq!(who_sees(Some(&"p1".into()), &["u1".into()]).unwrap(), BTreeSet::new());
        assert_eq!(who_sees(None, &["u1".into()]).unwrap(), BTreeSet::from(["u1".into()]));
    }
}
