//! Who sees what of the audit log: members what they did themselves, administrators all of the organization.

use berth_sdk::{auth::PrincipalKind, prelude::*};

/// The permission to see everybody's activity and to set up the audit log.
pub(crate) const MANAGE: &str = "audit-logs.audit-log.manage";

/// Whether the caller administers the audit log, or is the host itself.
pub(crate) fn is_admin() -> bool {
    let principal = auth::principal();
    principal.is_super_admin
        || matches!(principal.kind, PrincipalKind::System | PrincipalKind::Operator)
        || auth::has(MANAGE)
}

/// 403 unless the caller administers the audit log.
pub(crate) fn require_admin() -> Result<()> {
    if is_admin() { Ok(()) } else { Err(Problem::forbidden("It is for administrators of the organization.")) }
}

/// The user whose activity alone the caller sees; none: everybody's.
pub(crate) fn only_user() -> Option<String> {
    if is_admin() { None } else { Some(auth::principal().user_id.unwrap_or_default()) }
}
