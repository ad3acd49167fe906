//! `berth:platform/acting`: a call goes on as a user.

use wasmtime::component::{HasData, Linker};

use super::{Refusal, View};
use crate::bindings::imports::acting;
use crate::bindings::imports::types::Fault;
use crate::capability::tape::Taped;

struct HasView;

impl HasData for HasView {
    type Data<'a> = Taped<'a, View<'a>>;
}

/// Links the interface; `get` borrows the room's view from the store's state.
pub(crate) fn link<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> Taped<'_, View<'_>>,
) -> wasmtime::Result<()> {
    acting::add_to_linker::<T, HasView>(linker, get)
}

impl acting::Host for View<'_> {
    async fn act_for(&mut self, user_id: String) -> wasmtime::Result<Result<(), Fault>> {
        Ok(View::act_for(self, &user_id).await.map_err(Fault::from))
    }

    async fn act_for_member(
        &mut self,
        organization_id: String,
        user_id: String,
    ) -> wasmtime::Result<Result<(), Fault>> {
        Ok(View::act_for_member(self, &organization_id, &user_id).await.map_err(Fault::from))
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(reason) => Self::Denied(reason.to_owned()),
            Refusal::NoMember(user_id) => {
                Self::Denied(format!("the user {user_id} is gone, suspended or no member of the organization"))
            }
            Refusal::Malformed => Self::Invalid("an id must have 1 to 64 characters".to_owned()),
            Refusal::Unavailable => Self::Unavailable,
        }
    }
}
