//! Berth: one process that runs services as WebAssembly components.
//!
//! This file only hands over to the command line; what starts and stops, and in which order, is in `app.rs`.

mod accounts;
mod app;
mod bindings;
mod body;
mod capability;
mod cli;
mod database;
mod deploy;
mod engine;
mod gateway;
mod plugins_file;
mod principal;
mod schedule;
mod settings;
mod signature;
mod tasks;
mod telemetry;
mod trace;
mod worker;

fn main() -> std::process::ExitCode {
    cli::run()
}
