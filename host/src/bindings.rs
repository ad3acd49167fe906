//! What `bindgen!` makes of `wit/`: the contract as Rust types. Nothing here is written by hand.
//!
//! Only this file, `engine` and each room's `host.rs` may name wasmtime.

/// The imports of a component: one module an interface, with a `Host` trait the room's `host.rs` implements.
pub(crate) mod imports {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "berth:platform/capabilities",
        imports: { default: async | trappable },
        with: {
            "berth:platform/database.transaction": crate::capability::database::TransactionHandle,
        },
        require_store_data_send: true,
    });
    pub(crate) use berth::platform::{acting, auth, cache, config, database, logging, mail, queue, secrets, types};
}

/// The export `berth:platform/handler`.
pub(crate) mod handler {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "berth:platform/request-handler",
        exports: { default: async },
        with: { "berth:platform/types": crate::bindings::imports::berth::platform::types },
        require_store_data_send: true,
    });
    pub(crate) use exports::berth::platform::handler::*;
}

/// The export `berth:platform/packed-handler`.
pub(crate) mod packed_handler {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "berth:platform/packed-request-handler",
        exports: { default: async },
        require_store_data_send: true,
    });
}

/// The export `berth:platform/consumer`.
pub(crate) mod consumer {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "berth:platform/message-consumer",
        exports: { default: async },
        require_store_data_send: true,
    });
    pub(crate) use exports::berth::platform::consumer::*;
}

/// The export `berth:platform/lifecycle`.
pub(crate) mod lifecycle {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "berth:platform/self-describing",
        exports: { default: async },
        require_store_data_send: true,
    });
    pub(crate) use exports::berth::platform::lifecycle::*;
}

/// Standard interfaces that are served by Berth's own rooms.
pub(crate) mod shims {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package berth:shims;
            world shims {
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                import wasi:keyvalue/batch@0.2.0-draft;
                import wasi:config/store@0.2.0-rc.1;
                import wasi:logging/logging@0.1.0-draft;
            }
        ",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": crate::capability::shims::Bucket },
        require_store_data_send: true,
    });
    pub(crate) use wasi::{config::store as config, keyvalue, logging::logging};
}
