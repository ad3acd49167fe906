//! Who may do what, and for whom it is done.

use berth_sdk::prelude::*;

/// Sets up providers, models, rules and limits.
pub const MANAGE: &str = "ai.ai.manage";
/// Gives agents tasks.
pub const EXECUTE: &str = "ai.agent.execute";

/// Whether the caller administers the organization.
pub fn is_admin() -> bool {
    let principal = auth::principal();
    principal.is_super_admin || principal.is_platform || auth::has(MANAGE)
}

/// 403 unless the caller may set things up; and for what belongs to everybody, unless it is the platform.
pub fn require_manager(is_global: bool) -> Result<()> {
    auth::require(MANAGE)?;
    if is_global && !auth::principal().is_platform {
        return Err(Problem::forbidden("Only the platform's administrators change what belongs to everybody."));
    }
    Ok(())
}

/// Whether the organization wants questions and answers kept; no, when it cannot be found out.
pub fn stores_prompts() -> bool {
    let Ok(organization_id) = auth::organization_id() else { return false };
    let is_on = |name| people::organization::setting(&organization_id, name).is_ok_and(|set| set == true);
    ["store_prompts", "storePrompts"].into_iter().any(is_on)
}
