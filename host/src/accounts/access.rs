//! What a role allows: the four system roles in one place, custom roles by their codes.
//!
//! It must never widen: an unknown role name allows nothing.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};

use crate::database::{DatabaseError, Row, Rows};
use crate::principal::PermissionSet;

/// The system roles of every organization: name, description, whether it is the Super Admin's.
pub(super) const SYSTEM_ROLES: [(&str, &str, bool); 4] = [
    (SUPER_ADMIN, "Everything; alone manages roles and deletes the organization", true),
    (ADMIN, "As Member, plus delete, users, settings and audit", false),
    (MEMBER, "Reads, creates and updates", false),
    (VIEWER, "Reads", false),
];
pub(super) const SUPER_ADMIN: &str = "Super Admin";
pub(super) const ADMIN: &str = "Admin";
pub(super) const MEMBER: &str = "Member";
pub(super) const VIEWER: &str = "Viewer";

/// Actions a Viewer may do in every module.
const VIEWER_ACTIONS: &[&str] = &["read"];
/// Actions a Member may do in every module: work, but neither removal nor administration.
const MEMBER_ACTIONS: &[&str] = &["read", "create", "update", "execute", "approve", "publish"];
/// Actions an Admin may do in every module.
const ADMIN_ACTIONS: &[&str] =
    &["read", "create", "update", "execute", "approve", "publish", "delete", "manage", "lease", "send", "admin"];
/// Codes an Admin holds beside them: the modules that actions do not open.
const ADMIN_CODES: &[&str] = &["users.*", "settings.*", "audit.*", "prompts.prompt.*"];

/// A user's active membership with its role. Parameters: user, organization, true, now.
pub(super) const SELECT: &str = "SELECT m.id AS membership_id, m.organization_id, m.last_access_at, \
        r.id AS role_id, r.name AS role_name, r.version AS role_version, r.is_super_admin, r.is_system_role \
    FROM organization_memberships m \
    JOIN organizations o ON o.id = m.organization_id \
    JOIN roles r ON r.id = m.role_id \
    JOIN users u ON u.id = m.user_id \
    WHERE m.user_id = $1 AND m.organization_id = $2 AND m.status = 'active' AND m.deleted_at IS NULL \
        AND (m.expires_at IS NULL OR m.expires_at > $4) \
        AND o.is_active = $3 AND o.deleted_at IS NULL AND u.is_active = $3 AND u.deleted_at IS NULL";
/// A custom role's codes.
pub(super) const SELECT_CODES: &str = "SELECT p.code FROM role_permissions rp JOIN permissions p ON p.id = rp.permission_id \
    WHERE rp.role_id = $1 ORDER BY p.code";

/// A user's rights in one organization.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub organization_id: String,
    pub membership_id: String,
    pub role_id: String,
    pub role_name: String,
    pub is_super_admin: bool,
    pub last_access_at: Option<DateTime<Utc>>,
    pub permissions: Arc<PermissionSet>,
    /// What an API key allows of it; none for a session.
    pub scope: Option<Arc<PermissionSet>>,
}

impl Access {
    pub(super) fn of(row: &Row, role_id: String, permissions: Arc<PermissionSet>) -> Result<Self, DatabaseError> {
        Ok(Self {
            organization_id: row.text("organization_id")?,
            membership_id: row.text("membership_id")?,
            role_id,
            role_name: row.text("role_name")?,
            is_super_admin: row.boolean("is_super_admin")?,
            last_access_at: row.optional_timestamp("last_access_at")?,
            permissions,
            scope: None,
        })
    }

    /// Whether the role, within a key's scope, allows all that `permissions` allow.
    pub(super) fn covers(&self, permissions: &PermissionSet) -> bool {
        let holds = self.is_super_admin || self.permissions.covers(permissions);
        holds && self.scope.as_ref().is_none_or(|scope| scope.covers(permissions))
    }

    /// Whether the role allows a code.
    pub(super) fn allows(&self, code: &str) -> bool {
        let holds = self.is_super_admin || self.permissions.allows(code);
        holds && self.scope.as_ref().is_none_or(|scope| scope.allows(code))
    }
}

/// What a system role allows; none for a custom role, whose codes are in its rows.
pub(super) fn system_permissions(row: &Row) -> Result<Option<Arc<PermissionSet>>, DatabaseError> {
    Ok(if row.boolean("is_system_role")? { Some(permissions_of(&row.text("role_name")?)) } else { None })
}

/// What a custom role allows, by the rows of [`SELECT_CODES`].
pub(super) fn custom_permissions(codes: &Rows) -> Result<Arc<PermissionSet>, DatabaseError> {
    let codes = codes.iter().map(|row| row.text("code")).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(PermissionSet { codes, actions: Vec::new() }))
}

/// What the system role of this name allows.
pub(super) fn permissions_of(system_role: &str) -> Arc<PermissionSet> {
    type Lazy = LazyLock<Arc<PermissionSet>>;
    static SUPER_ADMIN_SET: Lazy = LazyLock::new(|| set(&[], &["*"]));
    static ADMIN_SET: Lazy = LazyLock::new(|| set(ADMIN_ACTIONS, ADMIN_CODES));
    static MEMBER_SET: Lazy = LazyLock::new(|| set(MEMBER_ACTIONS, &[]));
    static VIEWER_SET: Lazy = LazyLock::new(|| set(VIEWER_ACTIONS, &[]));
    static NOTHING: Lazy = LazyLock::new(|| set(&[], &[]));
    Arc::clone(match system_role {
        SUPER_ADMIN => &SUPER_ADMIN_SET,
        ADMIN => &ADMIN_SET,
        MEMBER => &MEMBER_SET,
        VIEWER => &VIEWER_SET,
        _ => &NOTHING,
    })
}

fn set(actions: &[&str], codes: &[&str]) -> Arc<PermissionSet> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Arc::new(PermissionSet { codes: owned(codes), actions: owned(actions) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_role_has_the_rights_of_the_matrix_and_no_more() {
        let allows = |role: &str, code: &str| permissions_of(role).allows(code);
        for (code, viewer, member, admin) in [
            ("planning.plans.read", true, true, true),
            ("planning.plans.create", false, true, true),
            ("planning.plans.update", false, true, true),
            ("planning.plans.delete", false, false, true),
            ("organizations.member.manage", false, false, true),
            ("organizations.settings.manage", false, false, true),
            ("executions.worker.lease", false, false, true),
            ("notifications.notification.send", false, false, true),
            ("audit.logs.read", false, false, true),
            ("roles.role.manage", false, false, true),
        ] {
            assert_eq!(allows(VIEWER, code), viewer, "viewer {code}");
            assert_eq!(allows(MEMBER, code), member, "member {code}");
            assert_eq!(allows(ADMIN, code), admin, "admin {code}");
            assert!(allows(SUPER_ADMIN, code), "super admin {code}");
            assert!(!allows("Root", code), "unknown {code}");
        }
    }
}
