//! `berth:platform/config`: the settings of the running plugin.

use wasmtime::component::{HasData, Linker};

use super::View;
use crate::bindings::imports::config;

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// Links the interface; `get` borrows the room's view from the store's state.
pub(crate) fn link<T: Send + 'static>(linker: &mut Linker<T>, get: fn(&mut T) -> View<'_>) -> wasmtime::Result<()> {
    config::add_to_linker::<T, HasView>(linker, get)
}

impl config::Host for View<'_> {
    async fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.setting(&key).map(str::to_owned))
    }

    async fn all(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.settings().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }
}
