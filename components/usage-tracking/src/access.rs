//! Who sees what: users their own usage, administrators the organization's, the platform everybody's.

use berth_sdk::prelude::*;

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

/// The same of any organization; UTC also while the main app does not say.
pub(crate) fn zone_of(organization_id: &Id) -> chrono_tz::Tz {
    match people::organization::setting(organization_id, "timezone") {
        Ok(name) => name.as_str().map_or(chrono_tz::Tz::UTC, crate::period::zone),
        Err(problem) => {
            logging::warn!("the organization's time zone is not known; UTC is used", problem = problem);
            chrono_tz::Tz::UTC
        }
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::cache;

    use super::*;

    #[test]
    fn an_organization_counts_in_utc_until_it_has_set_a_zone_that_is_one() {
        berth_sdk::testing::sign_in("u1", "o1");
        assert_eq!(zone(), chrono_tz::Tz::UTC, "natively nobody answers");
        let ttl = std::time::Duration::from_secs(60);
        for (set, expected) in [
            (json!("Europe/Berlin"), chrono_tz::Tz::Europe__Berlin),
            (json!("Nowhere/Else"), chrono_tz::Tz::UTC),
            (json!(null), chrono_tz::Tz::UTC),
            (json!(["Europe/Berlin"]), chrono_tz::Tz::UTC),
        ] {
            cache::set_ttl("settings:o1", &json!({ "timezone": set }), ttl);
            assert_eq!(zone(), expected, "{set}");
        }
    }
}
