//! Who sees what: users their own usage, administrators the organization's, the platform everybody's.

use berth_sdk::{cache, http_out, prelude::*, serde_json::Value};
use std::time::Duration;

/// How long an organization's time zone is remembered.
const ZONE_TTL: Duration = Duration::from_secs(600);

/// Whether the caller administers the organization, or is the host or another service acting for it.
pub(crate) fn is_admin() -> bool {
    let principal = auth::principal();
    principal.is_super_admin || principal.is_platform || auth::has("usage.usage.manage")
}

/// 403 unless the caller administers the organization.
pub(crate) fn require_admin() -> Result<()> {
    if is_admin() { Ok(()) } else { Err(Problem::forbidden("It is for administrators of the organization.")) }
}

/// The user whose usage alone the caller sees; none: everybody's.
pub(crate) fn only_user() -> Option<String> {
    if is_admin() { None } else { Some(auth::principal().user_id.unwrap_or_default()) }
}

/// Whose usage a question is about: the own organization's, or for the platform's administrators that of the one they name.
/// To everybody else another organization does not exist.
pub(crate) fn organization(asked: Option<&Id>) -> Result<Id> {
    let own = auth::organization_id()?;
    match asked {
        Some(other) if *other != own && !auth::principal().is_platform => Err(Problem::missing("organization")),
        Some(other) => Ok(other.clone()),
        None => Ok(own),
    }
}

/// The time zone in which the own organization counts its periods: what it has set, or UTC.
pub(crate) fn zone() -> chrono_tz::Tz {
    auth::organization_id().map_or(chrono_tz::Tz::UTC, |organization_id| zone_of(&organization_id))
}

/// The same of any organization.
pub(crate) fn zone_of(organization_id: &Id) -> chrono_tz::Tz {
    let key = format!("zone:{organization_id}");
    if let Some(name) = cache::get::<String>(&key) {
        return crate::period::zone(&name);
    }
    let found = http_out::plugin("host").get(&format!("/api/organizations/{organization_id}")).fetch::<Value>();
    let name = match found {
        Ok(organization) => {
            let own = organization.get("timezone").or_else(|| organization.pointer("/settings/timezone"));
            own.and_then(Value::as_str).unwrap_or("UTC").to_string()
        }
        Err(problem) => {
            // Not remembered: it is asked again with the next request.
            logging::warn!("the organization's time zone is not known; UTC is used", problem = problem);
            return chrono_tz::Tz::UTC;
        }
    };
    cache::set_ttl(&key, &name, ZONE_TTL);
    crate::period::zone(&name)
}
