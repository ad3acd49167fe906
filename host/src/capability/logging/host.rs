//! `berth:platform/logging`: hands a guest's line to the room.

use wasmtime::component::{HasData, Linker};

use super::{Level, View};
use crate::bindings::imports::logging;

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// Links the interface; `get` borrows the room's view from the store's state.
pub(crate) fn link<T: Send + 'static>(linker: &mut Linker<T>, get: fn(&mut T) -> View<'_>) -> wasmtime::Result<()> {
    logging::add_to_linker::<T, HasView>(linker, get)
}

impl logging::Host for View<'_> {
    async fn log(
        &mut self,
        level: logging::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            logging::Level::Debug => Level::Debug,
            logging::Level::Info => Level::Info,
            logging::Level::Warn => Level::Warn,
            logging::Level::Error => Level::Error,
        };
        self.room.write(self.guest, level, message, fields);
        Ok(())
    }
}
