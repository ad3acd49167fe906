//! Who may do what, and for whom it is done.

use std::time::Duration;

use berth_sdk::{cache, http_out, prelude::*, serde_json::Value};

/// Sets up providers, models, rules and limits.
pub const MANAGE: &str = "ai.ai.manage";
/// How long an organization's settings are remembered.
const SETTINGS_TTL: Duration = Duration::from_secs(60);

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
    let Some(organization_id) = auth::principal().organization_id else { return false };
    if let Some(known) = cache::get::<bool>("store_prompts") {
        return known;
    }
    let path = format!("/api/organizations/{organization_id}/settings");
    let found = http_out::plugin("host").get(&path).timeout(Duration::from_secs(3)).fetch::<Value>();
    let Ok(settings) = found else { return false };
    let wanted = ["store_prompts", "storePrompts"].iter().any(|name| settings.get(*name) == Some(&Value::Bool(true)));
    cache::set_ttl("store_prompts", &wanted, SETTINGS_TTL);
    wanted
}
