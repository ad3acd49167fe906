//! Starting a real host for a test, and talking to it as its users do.
//!
//! A test here sees what a user sees: the binary, its files, its HTTP API. It knows nothing of the host's inside. Hosts stand
//! on the embedded stores, or, where `BERTH_TEST_STACK=servers`, on PostgreSQL, Redis and RabbitMQ.
#![expect(clippy::panic, clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

pub mod answer;
pub mod assistants;
pub mod balancer;
pub mod browser;
pub mod client;
pub mod collector;
pub mod days;
pub mod document;
pub mod entries;
pub mod event_stream;
pub mod guests;
pub mod host;
pub mod letterbox;
pub mod listener;
pub mod listeners;
pub mod load;
pub mod login_provider;
pub mod manifest;
pub mod mcp;
pub mod members;
pub mod model_provider;
pub mod old_servers;
pub mod plans;
pub mod process;
pub mod programs;
pub mod secrets;
pub mod space;
pub mod store;
pub mod vectors;
pub mod wait;
pub mod wire;
pub mod workflows;
pub mod workshop;
pub mod writers;

pub use answer::Answer;
pub use balancer::Balancer;
pub use browser::Browser;
pub use client::Client;
pub use event_stream::EventStream;
pub use host::{Host, Stopped};
pub use letterbox::Letterbox;
pub use load::Load;
pub use login_provider::LoginProvider;
pub use manifest::{Manifest, Slot};
pub use model_provider::ModelProvider;
pub use space::{Space, Urls};
pub use store::Store;
pub use wait::eventually;
pub use wire::Wire;
pub use workshop::Workshop;
pub use writers::{Writers, Written};
