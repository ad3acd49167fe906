//! Starting a real host for a test, and talking to it as its users do.
//!
//! A test here sees what a user sees: the binary, its files, its HTTP API. It knows nothing of the host's inside.
#![expect(clippy::panic, clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

pub mod answer;
pub mod client;
pub mod guests;
pub mod host;
pub mod load;
pub mod manifest;
pub mod plans;
pub mod process;
pub mod wait;
pub mod wire;

pub use answer::Answer;
pub use client::Client;
pub use host::{Host, Stopped};
pub use load::Load;
pub use manifest::{Manifest, Slot};
pub use wait::eventually;
pub use wire::Wire;
