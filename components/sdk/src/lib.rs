//! The guest SDK of Berth: what a service is written with.
//!
//! A service is nouns (structs with [`entity`](macro@entity) or [`data`]), rules (plain functions), and a line of
//! routing each. The SDK makes the component of it: it must never hold a rule of any one service.
//!
//! ```
//! use berth_sdk::prelude::*;
//!
//! #[data]
//! struct Greeting {
//!     message: String,
//! }
//!
//! fn hello() -> Json<Greeting> {
//!     Json(Greeting { message: "hello".into() })
//! }
//!
//! fn service() -> Service {
//!     Service::new("hello", "1.0.0").routes(Router::new().get("/api/hello", hello).public())
//! }
//!
//! berth_sdk::plugin!(service());
//! # assert_eq!(service().handle(Request::new("GET", "/api/hello")).status, 200);
//! ```

extern crate self as berth_sdk;

pub mod assistant;
pub mod auth;
pub mod backoff;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
pub mod cache;
pub mod canonical;
pub mod clock;
pub mod config;
pub mod database;
pub mod entity;
pub mod events;
mod fault;
pub mod http;
pub mod http_out;
mod id;
pub mod logging;
pub mod mail;
pub mod migrations;
pub mod notice;
#[cfg(any(target_arch = "wasm32", test))]
mod packed;
pub mod page;
mod platform;
pub mod prelude;
pub mod problem;
pub mod redact;
pub mod router;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod runtime;
pub mod schema;
pub mod search;
pub mod secrets;
pub mod service;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod types;
pub mod validate;
pub mod vector;
pub mod webhook;

pub use berth_sdk_macros::{choice, data, entity};
pub use fault::Fault;
pub use id::Id;
pub use problem::Problem;
pub use schemars;
pub use serde;
pub use serde_json::{self, json};

/// Makes the crate a component: emits its exports on wasm and nothing natively. Takes an expression of type
/// [`service::Service`], which is evaluated once an instance.
///
/// ```
/// fn service() -> berth_sdk::service::Service { berth_sdk::service::Service::new("notes", "1.0.0") }
/// berth_sdk::plugin!(service());
/// ```
#[macro_export]
macro_rules! plugin {
    ($service:expr) => {
        // Keeps the service's code alive for native checks.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> $crate::service::Service = || $service;

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "the exports of a component are foreign functions")]
        mod __berth_component {
            #[allow(unused_imports, reason = "the expression may name anything")]
            use super::*;
            use $crate::bindings::exports::berth::platform as platform;

            struct Component;

            fn the_service() -> &'static $crate::service::Service {
                static SERVICE: ::std::sync::OnceLock<$crate::service::Service> = ::std::sync::OnceLock::new();
                SERVICE.get_or_init(|| $service)
            }

            impl platform::handler::Guest for Component {
                fn handle(request: platform::handler::Request) -> platform::handler::Response {
                    $crate::runtime::handle(the_service(), request)
                }
            }

            impl platform::packed_handler::Guest for Component {
                fn handle(request: ::std::vec::Vec<u8>) -> ::std::vec::Vec<u8> {
                    $crate::runtime::handle_packed(the_service(), request)
                }
            }

            impl platform::consumer::Guest for Component {
                fn consume(delivery: platform::consumer::Delivery) -> platform::consumer::Outcome {
                    $crate::runtime::consume(the_service(), delivery)
                }
            }

            impl platform::lifecycle::Guest for Component {
                fn describe() -> platform::lifecycle::Description {
                    $crate::runtime::describe(the_service())
                }
                fn ready() -> ::core::result::Result<(), ::std::string::String> {
                    $crate::runtime::ready(the_service())
                }
            }

            impl $crate::bindings::exports::wasi::http::incoming_handler::Guest for Component {
                fn handle(
                    request: $crate::bindings::wasi::http::types::IncomingRequest,
                    out: $crate::bindings::wasi::http::types::ResponseOutparam,
                ) {
                    $crate::runtime::serve(the_service(), request, out);
                }
            }

            $crate::bindings::export_service!(Component with_types_in $crate::bindings);
        }
    };
}
