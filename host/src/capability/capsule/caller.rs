//! On whose behalf a call ran, as a capsule tells it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::capability::tape::Shape;
use crate::capability::tape::hide::Hider;
use crate::principal::{Call, PermissionSet, Principal, PrincipalKind};

/// About how much room one takes on a tape.
const BYTES: usize = 1024;

/// On whose behalf the call ran.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Caller {
    kind: String,
    user_id: Option<String>,
    organization_id: Option<String>,
    role_id: Option<String>,
    session_id: Option<String>,
    api_key_id: Option<String>,
    email: Option<String>,
    name: Option<String>,
    is_super_admin: bool,
    is_platform: bool,
    permissions: Permissions,
    scope: Option<Permissions>,
    teams: Vec<String>,
    pub(super) source_service: Option<String>,
    pub(super) causation_id: Option<String>,
    pub(super) correlation_id: Option<String>,
    pub(super) depth: u8,
    pub(super) is_shadow: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Permissions {
    codes: Vec<String>,
    actions: Vec<String>,
}

/// Kinds of callers by the words for them.
const KINDS: [(&str, PrincipalKind); 5] = [
    ("anonymous", PrincipalKind::Anonymous),
    ("user", PrincipalKind::User),
    ("system", PrincipalKind::System),
    ("operator", PrincipalKind::Operator),
    ("api-key", PrincipalKind::ApiKey),
];

impl Caller {
    pub(super) fn of(call: &Call) -> Self {
        let text = |value: &Option<Arc<str>>| value.as_deref().map(str::to_owned);
        Self {
            source_service: text(&call.source_service),
            causation_id: text(&call.causation_id),
            correlation_id: text(&call.correlation_id),
            depth: call.depth,
            is_shadow: call.is_shadow,
            ..Self::alone(&call.principal)
        }
    }

    /// Without the call.
    fn alone(principal: &Principal) -> Self {
        let text = |value: &Option<Arc<str>>| value.as_deref().map(str::to_owned);
        let permissions = |set: &PermissionSet| Permissions { codes: set.codes.clone(), actions: set.actions.clone() };
        let kind = KINDS.iter().find(|(_, kind)| *kind == principal.kind).map_or("anonymous", |(name, _)| *name);
        Self {
            kind: kind.to_owned(),
            user_id: text(&principal.user_id),
            organization_id: text(&principal.organization_id),
            role_id: text(&principal.role_id),
            session_id: text(&principal.session_id),
            api_key_id: text(&principal.api_key_id),
            email: text(&principal.email),
            name: text(&principal.name),
            is_super_admin: principal.is_super_admin,
            is_platform: principal.is_platform,
            permissions: permissions(&principal.permissions),
            scope: principal.scope.as_deref().map(permissions),
            teams: principal.teams.to_vec(),
            ..Self::default()
        }
    }

    pub(super) fn principal(&self) -> Principal {
        let text = |value: &Option<String>| value.as_deref().map(Arc::from);
        let set =
            |kept: &Permissions| Arc::new(PermissionSet { codes: kept.codes.clone(), actions: kept.actions.clone() });
        let kind = KINDS.iter().find(|(name, _)| *name == self.kind);
        Principal {
            kind: kind.map_or(PrincipalKind::Anonymous, |(_, kind)| *kind),
            user_id: text(&self.user_id),
            organization_id: text(&self.organization_id),
            role_id: text(&self.role_id),
            session_id: text(&self.session_id),
            api_key_id: text(&self.api_key_id),
            email: text(&self.email),
            name: text(&self.name),
            is_super_admin: self.is_super_admin,
            is_platform: self.is_platform,
            permissions: set(&self.permissions),
            scope: self.scope.as_ref().map(set),
            teams: self.teams.clone().into(),
        }
    }
}

/// For whom a call goes on.
impl Shape for Arc<Principal> {
    fn bytes(&self) -> usize {
        let words = self.permissions.codes.iter().chain(self.teams.iter());
        BYTES + words.map(String::len).sum::<usize>()
    }

    fn show(&self, _: &Hider) -> Value {
        serde_json::to_value(Caller::alone(self)).unwrap_or_default()
    }

    fn read(value: &Value) -> Option<Self> {
        let caller: Caller = serde_json::from_value(value.clone()).ok()?;
        Some(Self::new(caller.principal()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_whom_a_call_goes_on_is_read_as_it_was_shown() {
        let permissions = PermissionSet { codes: vec!["tasks.task.create".into()], actions: vec!["read".into()] };
        let principal = Arc::new(Principal {
            kind: PrincipalKind::User,
            user_id: Some("user-1".into()),
            organization_id: Some("org-1".into()),
            permissions: Arc::new(permissions),
            teams: Arc::new(["team-1".to_owned()]),
            ..Principal::anonymous()
        });
        let shown = Shape::show(&principal, &Hider::default());
        let read = <Arc<Principal> as Shape>::read(&shown).unwrap();
        assert!(read.kind == PrincipalKind::User && read.user_id == principal.user_id);
        assert_eq!((&read.permissions, &read.teams), (&principal.permissions, &principal.teams));
        assert!(<Arc<Principal> as Shape>::read(&Value::from("nobody")).is_none());
    }
}
