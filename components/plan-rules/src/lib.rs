//! The rules of plans that planning and execution-service share, as pure functions. They must never touch a database,
//! the clock or the network.

pub mod checks;
pub mod graph;
pub mod hash;
pub mod params;
mod step;
pub mod writes;

pub use step::{NewStep, OnFailure, Reference, Rollback, RollbackType, Step, StepType, resolve};

/// The most steps of a plan.
pub const STEPS_MAX: usize = 500;
