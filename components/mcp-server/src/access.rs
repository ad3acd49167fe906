//! Who may do what.

use std::time::Duration;

use berth_sdk::{auth::PrincipalKind, http_out, prelude::*, serde_json::Value};

/// Sets up servers for everybody: toggles, settings, levels of tools, what the endpoint offers.
pub const MANAGE: &str = "mcp.mcp.manage";
/// How long a question to another plugin may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Roles that administer an organization, as the host calls them.
const ADMINISTRATORS: [&str; 2] = ["Admin", "Super Admin"];

/// Whether the caller administers the organization.
pub fn is_admin() -> bool {
    let principal = auth::principal();
    principal.is_super_admin || principal.is_platform || auth::has(MANAGE)
}

/// Whether a message or the clock calls, and not a person.
pub fn is_system() -> bool {
    auth::principal().kind == PrincipalKind::System
}

/// Whether whoever is behind the call administers the organization. Behind a message stands whoever caused it: the host
/// that brings it may do everything, and its right must not become theirs.
pub fn is_admin_behind() -> bool {
    if !is_system() {
        return is_admin();
    }
    let Some(user_id) = auth::principal().user_id else { return true };
    let found = http_out::plugin("host").get(&format!("/api/users/{user_id}")).timeout(TIMEOUT).fetch::<Value>();
    let Ok(user) = found else { return false };
    let names = [user.pointer("/role/name"), user.get("roleName"), user.get("role")];
    user.get("isSuperAdmin") == Some(&Value::Bool(true))
        || names.into_iter().flatten().filter_map(Value::as_str).any(|name| ADMINISTRATORS.contains(&name))
}

/// 403 unless the caller administers the organization, or, for what belongs to everybody, the platform.
pub fn require_manager(is_global: bool) -> Result<()> {
    if is_global {
        return require_platform();
    }
    if is_admin() { Ok(()) } else { Err(denied("It needs an administrator.")) }
}

/// 403 unless the caller is the platform.
pub fn require_platform() -> Result<()> {
    if auth::principal().is_platform {
        return Ok(());
    }
    Err(Problem::forbidden("Only the platform's administrators change what belongs to everybody."))
}

/// The condition by which what is said for a project, in rows with `scope` and `scope_id`, is shown to those who see it;
/// none: everything is.
pub fn within_projects() -> Option<Condition> {
    let Condition { sql, values } = people::scope::among("\"scope_id\"", &people::project::seen()?);
    Some(Condition { sql: format!("\"scope\" <> 'PROJECT' OR {sql}"), values })
}

/// 403 in the words of this service.
pub fn denied(detail: impl Into<String>) -> Problem {
    Problem::forbidden(detail).with_code("PERMISSION_DENIED")
}

#[cfg(test)]
mod tests {
    use berth_sdk::{auth::Principal, testing};

    use super::*;

    #[test]
    fn what_is_said_for_projects_that_are_not_seen_is_not_shown() {
        testing::sign_in("u1", "o1");
        let Condition { sql, values } = within_projects().unwrap();
        assert_eq!((sql.as_str(), values.len()), ("\"scope\" <> 'PROJECT' OR 1 = 0", 0));
        testing::become_principal(Principal { is_super_admin: true, ..auth::principal() });
        assert!(within_projects().is_none());
    }
}
