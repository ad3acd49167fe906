//! The auth room: tells a guest who calls. It needs no grant and no backend, only the present call.
//!
//! It must never take an identity from a header or from the guest: everything stands in the call's principal.

mod host;

pub(crate) use host::link;

use super::Guest;

/// What the room sees of the running call.
pub(crate) struct View<'a> {
    pub guest: &'a Guest,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bindings::imports::auth::Host as _;
    use crate::capability::testing;
    use crate::principal::{PermissionSet, Principal, PrincipalKind};

    #[tokio::test]
    async fn a_guest_sees_the_verified_principal_of_the_call() {
        let mut guest = testing::guest("planning", Some("org-1"));
        guest.call.principal = Arc::new(Principal {
            kind: PrincipalKind::User,
            user_id: Some("user-1".into()),
            organization_id: Some("org-1".into()),
            permissions: Arc::new(PermissionSet { codes: vec!["ai.*".into()], actions: vec!["read".into()] }),
            ..Principal::anonymous()
        });
        guest.call.source_service = Some("workflow".into());
        let mut view = View { guest: &guest };
        let caller = view.caller().await.unwrap();
        assert_eq!(caller.user_id.as_deref(), Some("user-1"));
        assert_eq!(caller.organization_id.as_deref(), Some("org-1"));
        assert_eq!(caller.source_service.as_deref(), Some("workflow"));
        assert_eq!(caller.request_id, guest.call.request_id.as_ref());
        assert!(!caller.is_super_admin);
        assert!(view.has_permission("ai.models.delete".into()).await.unwrap());
        assert!(view.has_permission("planning.plans.read".into()).await.unwrap());
        assert!(!view.has_permission("planning.plans.delete".into()).await.unwrap());
        assert_eq!(view.permissions().await.unwrap(), ["*.*.read", "ai.*"]);
    }

    #[tokio::test]
    async fn nobody_has_no_permission() {
        let mut guest = testing::guest("planning", None);
        guest.call.principal = Arc::new(Principal::anonymous());
        let mut view = View { guest: &guest };
        assert!(!view.has_permission("planning.plans.read".into()).await.unwrap());
        assert!(view.permissions().await.unwrap().is_empty());
    }
}
