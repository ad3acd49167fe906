//! The one place where the SDK touches the host. On wasm it calls the interfaces of `wit/`; natively, for unit tests,
//! it keeps a small state per thread and answers `Unavailable` where only a host can answer.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod wasm;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::*;
#[cfg(target_arch = "wasm32")]
pub(crate) use wasm::*;
