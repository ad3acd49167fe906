//! Who calls, and the call they make: verified once at the edge, carried unchanged to every room.
//!
//! It must never be built from a header: only `accounts`, the worker and tests make one.

use std::sync::Arc;
use std::time::Instant;

use crate::trace::Trace;

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
    /// A program with a key that a user made: never more than that user may do, within the key's own scope.
    ApiKey,
}

/// The verified identity behind a call. Cheap to clone behind its `Arc`.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub kind: PrincipalKind,
    pub user_id: Option<Arc<str>>,
    pub organization_id: Option<Arc<str>>,
    pub role_id: Option<Arc<str>>,
    pub session_id: Option<Arc<str>>,
    /// The key that proves the caller, for [`PrincipalKind::ApiKey`].
    pub api_key_id: Option<Arc<str>>,
    pub email: Option<Arc<str>>,
    pub name: Option<Arc<str>>,
    /// Super Admin of the organization: every permission in it.
    pub is_super_admin: bool,
    /// Super Admin of the operator organization, or the operator's token.
    pub is_platform: bool,
    /// What the role allows.
    pub permissions: Arc<PermissionSet>,
    /// What an API key allows of it; none where nothing narrows the role.
    pub scope: Option<Arc<PermissionSet>>,
    /// The teams of the organization that the user is in.
    pub teams: Arc<[String]>,
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
            api_key_id: None,
            email: None,
            name: None,
            is_super_admin: false,
            is_platform: false,
            permissions: Arc::new(PermissionSet::default()),
            scope: None,
            teams: Arc::new([]),
        }
    }

    /// The host itself, for a message or timer; with every right inside `organization_id`, and none outside it.
    pub(crate) fn system(organization_id: Option<Arc<str>>, user_id: Option<Arc<str>>) -> Self {
        Self { kind: PrincipalKind::System, organization_id, user_id, is_super_admin: true, ..Self::anonymous() }
    }

    /// Whether the caller holds `code` (`module.resource.action`).
    pub(crate) fn has_permission(&self, code: &str) -> bool {
        let holds = self.is_super_admin || self.is_platform || self.permissions.allows(code);
        holds && self.scope.as_ref().is_none_or(|scope| scope.allows(code))
    }

    /// Every permission the caller holds, as codes and wildcards; an action allowed in every module is `*.*.<action>`.
    /// Where a scope and a role only overlap, the overlap is left out rather than overstated.
    pub(crate) fn held_permissions(&self) -> Vec<String> {
        let is_all = self.is_super_admin || self.is_platform || self.permissions.allows("*");
        let held = || self.permissions.shown();
        let mut codes = match &self.scope {
            None if is_all => vec!["*".to_owned()],
            None => held(),
            Some(scope) if is_all => scope.shown(),
            Some(scope) if scope.allows("*") => held(),
            Some(scope) => {
                let own = scope.codes.iter().filter(|code| self.permissions.allows(code));
                own.chain(self.permissions.codes.iter().filter(|code| scope.allows(code))).cloned().collect()
            }
        };
        codes.sort_unstable();
        codes.dedup();
        codes
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

    /// Whether all that `other` allows is allowed here too, as far as single codes need not be put together.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.codes.iter().any(|code| code == "*")
            || (other.actions.iter().all(|action| self.actions.contains(action))
                && other.codes.iter().all(|code| self.allows(code)))
    }

    /// Codes and wildcards as the API writes them.
    pub(crate) fn shown(&self) -> Vec<String> {
        let actions = self.actions.iter().map(|action| format!("*.*.{action}"));
        actions.chain(self.codes.iter().cloned()).collect()
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
    /// Where it stands in its trace.
    pub trace: Trace,
    /// A copy of a request, sent to a build that is only looked at: it reads as usual, and nothing it does has an effect.
    /// Every room that changes anything heeds it; internal calls inherit it.
    pub is_shadow: bool,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{PermissionSet, Principal};

    fn set(codes: &[&str], actions: &[&str]) -> Arc<PermissionSet> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Arc::new(PermissionSet { codes: owned(codes), actions: owned(actions) })
    }

    #[test]
    fn a_scope_narrows_a_role_and_never_widens_it() {
        let member = set(&[], &["read", "create"]);
        let scoped = |permissions: &Arc<PermissionSet>, scope: Arc<PermissionSet>| Principal {
            permissions: Arc::clone(permissions),
            scope: Some(scope),
            ..Principal::anonymous()
        };
        let narrow = scoped(&member, set(&["planning.*", "ai.models.read"], &[]));
        assert!(narrow.has_permission("planning.plans.create") && narrow.has_permission("ai.models.read"));
        assert!(!narrow.has_permission("planning.plans.delete"), "the role does not allow it");
        assert!(!narrow.has_permission("ai.models.create"), "the scope does not allow it");
        assert_eq!(narrow.held_permissions(), ["ai.models.read"]);
        let reading = scoped(&set(&["*"], &[]), set(&[], &["read"]));
        assert!(reading.has_permission("planning.plans.read") && !reading.has_permission("planning.plans.create"));
        assert_eq!(reading.held_permissions(), ["*.*.read"]);
        let all = scoped(&member, set(&["*"], &[]));
        assert_eq!(all.held_permissions(), ["*.*.create", "*.*.read"]);
    }

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
    fn a_set_covers_only_what_it_allows_whole() {
        let admin = set(&["users.*"], &["read", "create"]);
        for covered in [set(&[], &["read"]), set(&["planning.plans.read", "users.user.*"], &[]), set(&[], &[])] {
            assert!(admin.covers(&covered), "{covered:?}");
        }
        for code in ["planning.*", "*", "audit.logs.read", "planning.plans.delete"] {
            assert!(!admin.covers(&set(&[code], &[])), "{code}");
        }
        assert!(!admin.covers(&set(&[], &["delete"])));
        assert!(set(&["*"], &[]).covers(&admin));
        assert!(!set(&["planning.plans.read"], &[]).covers(&set(&[], &["read"])));
    }

    #[test]
    fn an_action_holds_in_every_module() {
        let set = PermissionSet { codes: vec![], actions: vec!["read".into()] };
        assert!(set.allows("planning.plans.read"));
        assert!(!set.allows("planning.plans.update"));
        assert!(!set.allows("audit.logs.read"));
    }
}
