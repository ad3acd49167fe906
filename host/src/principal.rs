//! Who calls, and the call they make: verified once at the edge, carried unchanged to every room.
//!
//! It must never be built from a header: only `accounts`, the worker and tests make one.

use std::sync::Arc;
use std::time::Instant;

/// What kind of caller it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrincipalKind {
    /// Nobody: only on public routes.
    Anonymous,
    /// A signed-in user.
    User,
    /// The host on behalf of a message or a timer.
    System,
    /// The operator of this host.
    Operator,
}

/// The verified identity behind a call. Cheap to clone behind its `Arc`.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub kind: PrincipalKind,
    pub user_id: Option<Arc<str>>,
    pub organization_id: Option<Arc<str>>,
    pub role_id: Option<Arc<str>>,
    pub session_id: Option<Arc<str>>,
    pub email: Option<Arc<str>>,
    pub name: Option<Arc<str>>,
    /// Super Admin of the organization: every permission in it.
    pub is_super_admin: bool,
    /// Super Admin of the operator organization, or the operator's token.
    pub is_platform: bool,
    /// What the role allows.
    pub permissions: Arc<PermissionSet>,
}

impl Principal {
    /// Nobody.
    pub(crate) fn anonymous() -> Self {
        Self {
            kind: PrincipalKind::Anonymous,
            user_id: None,
            organization_id: None,
            role_id: None,
            session_id: None,
            email: None,
            name: None,
            is_super_admin: false,
            is_platform: false,
            permissions: Arc::new(PermissionSet::default()),
        }
    }

    /// The host itself, for a message or timer; with every right inside `organization_id`, and none outside it.
    pub(crate) fn system(organization_id: Option<Arc<str>>, user_id: Option<Arc<str>>) -> Self {
        Self { kind: PrincipalKind::System, organization_id, user_id, is_super_admin: true, ..Self::anonymous() }
    }

    /// Whether the caller holds `code` (`module.resource.action`).
    pub(crate) fn has_permission(&self, code: &str) -> bool {
        self.is_super_admin || self.is_platform || self.permissions.allows(code)
    }
}

/// Permission codes and wildcards: `*`, `module.*`, `module.resource.*`, or an exact code; and, for the system roles,
/// whole actions (`read`, `create`, `update`, `delete`, …) in every module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PermissionSet {
    /// Exact codes and wildcards.
    pub codes: Vec<String>,
    /// Actions allowed in every module of a plugin: the last segment of a code.
    pub actions: Vec<String>,
}

/// Modules that no action opens, only a code: reading the audit log is not reading like any other.
const CODES_ONLY: [&str; 1] = ["audit"];

impl PermissionSet {
    /// Whether `code` is allowed by an exact code, a wildcard or an action.
    pub(crate) fn allows(&self, code: &str) -> bool {
        let action = code.rsplit('.').next().unwrap_or(code);
        let module = code.split('.').next().unwrap_or(code);
        (!CODES_ONLY.contains(&module) && self.actions.iter().any(|allowed| allowed == action))
            || self.codes.iter().any(|allowed| match allowed.strip_suffix('*') {
                Some(prefix) => prefix.is_empty() || (prefix.ends_with('.') && code.starts_with(prefix)),
                None => allowed == code,
            })
    }
}

/// One guest invocation: whose it is, which request caused it, and how long it may take.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub principal: Arc<Principal>,
    /// The same through every internal call.
    pub request_id: Arc<str>,
    /// The plugin that calls, for an internal call.
    pub source_service: Option<Arc<str>>,
    /// The id of the message that caused it, for a delivery.
    pub causation_id: Option<Arc<str>>,
    /// Carried from message to message; the request id where none is given.
    pub correlation_id: Option<Arc<str>>,
    /// How many internal calls deep: 0 at the edge, at most 8.
    pub depth: u8,
    /// The wall deadline of the whole call. None for a stream.
    pub deadline: Option<Instant>,
}

#[cfg(test)]
mod tests {
    use super::PermissionSet;

    #[test]
    fn wildcards_match_whole_segments_only() {
        let set = PermissionSet {
            codes: vec!["planning.plans.*".into(), "ai.*".into(), "usage.events.read".into()],
            actions: vec![],
        };
        assert!(set.allows("planning.plans.delete"));
        assert!(set.allows("ai.models.read"));
        assert!(set.allows("usage.events.read"));
        assert!(!set.allows("planning.plansx.read"));
        assert!(!set.allows("planning.tasks.read"));
        assert!(!set.allows("aix.models.read"));
        assert!(!set.allows("usage.events.readx"));
    }

    #[test]
    fn an_action_holds_in_every_module() {
        let set = PermissionSet { codes: vec![], actions: vec!["read".into()] };
        assert!(set.allows("planning.plans.read"));
        assert!(!set.allows("planning.plans.update"));
        assert!(!set.allows("audit.logs.read"));
    }
}
