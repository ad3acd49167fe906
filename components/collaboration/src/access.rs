//! Who may do more than everybody: administrators.

use berth_sdk::{auth::PrincipalKind, prelude::*};

/// What somebody needs who only looks on at sessions.
pub const PAIRING_READ: &str = "pairing.pairing.read";
/// What somebody needs who takes part in ideas.
pub const INNOVATION_UPDATE: &str = "innovation.innovation.update";
/// What only administrators hold.
const PAIRING_DELETE: &str = "pairing.pairing.delete";
const INNOVATION_DELETE: &str = "innovation.innovation.delete";

fn administers(permission: &str) -> bool {
    let principal = auth::principal();
    principal.is_super_admin
        || principal.is_platform
        || principal.kind == PrincipalKind::System
        || auth::has(permission)
}

/// Whether the caller looks after every session.
pub fn administers_sessions() -> bool {
    administers(PAIRING_DELETE)
}

/// Whether the caller looks after every idea.
pub fn administers_ideas() -> bool {
    administers(INNOVATION_DELETE)
}

/// Whether this is the caller.
pub fn is_caller(user_id: &str) -> bool {
    auth::principal().user_id.as_deref() == Some(user_id)
}
