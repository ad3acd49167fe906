//! `berth:platform/auth`: the call's principal as the guest sees it.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker};

use super::View;
use crate::bindings::imports::auth;
use crate::principal::PrincipalKind;

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// Links the interface; `get` borrows the room's view from the store's state.
pub(crate) fn link<T: Send + 'static>(linker: &mut Linker<T>, get: fn(&mut T) -> View<'_>) -> wasmtime::Result<()> {
    auth::add_to_linker::<T, HasView>(linker, get)
}

impl auth::Host for View<'_> {
    async fn caller(&mut self) -> wasmtime::Result<auth::Principal> {
        let call = &self.guest.call;
        let principal = &call.principal;
        let text = |value: &Option<Arc<str>>| value.as_deref().map(str::to_owned);
        Ok(auth::Principal {
            kind: match principal.kind {
                PrincipalKind::Anonymous => auth::PrincipalKind::Anonymous,
                // A case of its own would be a new contract; `api-key-id` tells a key from a session.
                PrincipalKind::User | PrincipalKind::ApiKey => auth::PrincipalKind::User,
                PrincipalKind::System => auth::PrincipalKind::System,
                PrincipalKind::Operator => auth::PrincipalKind::Operator,
            },
            user_id: text(&principal.user_id),
            organization_id: text(&principal.organization_id),
            role_id: text(&principal.role_id),
            session_id: text(&principal.session_id),
            email: text(&principal.email),
            name: text(&principal.name),
            is_super_admin: principal.is_super_admin,
            is_platform: principal.is_platform,
            source_service: text(&call.source_service),
            request_id: call.request_id.as_ref().to_owned(),
        })
    }

    async fn has_permission(&mut self, code: String) -> wasmtime::Result<bool> {
        Ok(self.guest.call.principal.has_permission(&code))
    }

    async fn teams(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.guest.call.principal.teams.to_vec())
    }

    async fn api_key_id(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.guest.call.principal.api_key_id.as_deref().map(str::to_owned))
    }

    async fn permissions(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.guest.call.principal.held_permissions())
    }
}
