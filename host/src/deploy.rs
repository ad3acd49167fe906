//! Which build of which plugin answers which path, and how one build takes another's place without dropping a request.
//!
//! A build gets traffic only after it was verified, warmed and recorded; whatever goes wrong before that leaves the old
//! one serving. Nothing here runs a guest's request: the gateway and the worker take the current revision from a
//! [`Slot`] by one atomic load and keep it until their last byte.

mod artifacts;
mod build;
mod cluster;
mod consent;
mod deployer;
mod drain;
mod error;
mod foundry;
mod grants;
mod history;
mod pattern;
mod prefix;
mod registry;
mod report;
mod rollout;
mod shadow;
mod slot;
mod standing;
mod status;
mod trial;
mod verify;
mod watch;

#[cfg(test)]
mod fake;

pub(crate) use build::{Build, Foundry};
pub(crate) use cluster::HostIdentity;
pub(crate) use deployer::{DeployHooks, DeployOptions, Deployer, DeployerOptions, EntryChange, Switched};
pub(crate) use error::DeployError;
pub(crate) use grants::PluginGrants;
pub(crate) use pattern::PublicRoute;
pub(crate) use prefix::{Prefix, canonical};
pub(crate) use registry::Registry;
pub(crate) use report::{DeployReport, HistoryEntry, MigrationPlan, PlanReport, PluginStatus, RouteEntry};
pub(crate) use rollout::{CanaryPlan, Rollout, parse_duration};
pub(crate) use shadow::{Answered, Comparison};
pub(crate) use slot::{Slot, SlotOptions, SlotState};
pub(crate) use standing::Standing;
pub(crate) use status::BuildStatus;
pub(crate) use trial::{Trial, TrialMode};
