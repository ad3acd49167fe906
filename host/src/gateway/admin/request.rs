//! What the query and the headers of a deploy say: everything about it but the component.

use std::time::Duration;

use http::request::Parts;

use super::{GatewayError, is_set, query};
use crate::deploy::{CanaryPlan, DeployOptions, Rollout, parse_duration};

/// Where the build came from, for the history.
const SOURCE_HEADER: &str = "x-berth-source";

/// `?wait&canary=5,25,100&every=2m`, `?shadow`, `?watch=30s`.
///
/// # Errors
/// A sentence that names the parameter.
pub(super) fn deploy_options(parts: &Parts, actor: String) -> Result<DeployOptions, GatewayError> {
    Ok(DeployOptions {
        waits_for_drain: is_set(parts, "wait")?,
        rollout: rollout(parts)?,
        watch: watch(parts)?,
        source: header(parts, SOURCE_HEADER),
        ..DeployOptions::by(actor)
    })
}

/// `watch=30s`, or `watch=off`.
pub(super) fn watch(parts: &Parts) -> Result<Option<Duration>, GatewayError> {
    match query(parts, "watch") {
        None => Ok(None),
        Some("off" | "0") => Ok(Some(Duration::ZERO)),
        Some(text) => parse_duration("watch", text).map(Some).map_err(GatewayError::BadParameter),
    }
}

fn rollout(parts: &Parts) -> Result<Rollout, GatewayError> {
    let is_shadow = is_set(parts, "shadow")?;
    // The percent sign is itself escaped in a query, and may be left out.
    let shares = query(parts, "canary").map(|text| text.replace("%25", "%").replace("%2C", ","));
    match (shares, is_shadow) {
        (None, false) => Ok(Rollout::Whole),
        (None, true) => Ok(Rollout::Shadow),
        (Some(shares), false) => {
            CanaryPlan::parse(&shares, query(parts, "every")).map(Rollout::Canary).map_err(GatewayError::BadParameter)
        }
        (Some(_), true) => Err(GatewayError::Malformed("a build is a canary or a shadow, not both at once")),
    }
}

fn header(parts: &Parts, name: &str) -> Option<String> {
    parts.headers.get(name)?.to_str().ok().map(str::to_owned)
}
