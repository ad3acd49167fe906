//! Who may do what: seeing and planning is for everybody with the permission, deciding on others for those who lead them.

use berth_sdk::{auth::PrincipalKind, prelude::*};

/// Seeing who can work how much.
pub const READ: &str = "capacity.capacity.read";
/// Planning, and writing what is one's own.
pub const UPDATE: &str = "capacity.capacity.update";
/// Deciding on everybody, the past and the organization's holidays.
pub const MANAGE: &str = "capacity.capacity.manage";

/// Whether the caller looks after the whole organization.
pub fn is_manager() -> bool {
    auth::has(MANAGE)
}

/// Whether this is the caller.
pub fn is_self(user_id: &Id) -> bool {
    let principal = auth::principal();
    principal.kind != PrincipalKind::System && principal.user_id.as_deref() == Some(user_id.as_str())
}

/// Whether the caller leads somebody: looks after the organization, or maintains a team they are in.
pub fn leads(user_id: &Id) -> Result<bool> {
    Ok(is_manager() || people::led()?.contains(user_id))
}

/// Whether what is personal to somebody concerns the caller: their own, or of somebody they lead.
pub fn is_concerned(user_id: &Id) -> Result<bool> {
    Ok(is_self(user_id) || leads(user_id)?)
}
