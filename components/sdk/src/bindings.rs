//! What wit-bindgen makes of `wit/`: nothing here is written by hand, and nothing outside the SDK names it.
#![allow(unsafe_code, clippy::all, clippy::pedantic, missing_docs, reason = "generated code")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "berth:platform/service",
    generate_all,
    pub_export_macro: true,
    export_macro_name: "export_service",
    default_bindings_module: "berth_sdk::bindings",
});
