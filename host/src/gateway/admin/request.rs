//! What the query and the headers of a deploy say: everything about it but the component.

use std::time::Duration;

use http::request::Parts;

use super::{GatewayError, is_set, query};
use crate::deploy::{CanaryPlan, DeployOptions, Rollout, parse_duration};
use crate::signature::SIGNATURE_CHARS_MAX;

/// Where the build came from, for the history.
const SOURCE_HEADER: &str = "x-berth-source";
/// Characters of it.
const SOURCE_CHARS_MAX: usize = 512;
/// A detached signature of the component, base64.
const SIGNATURE_HEADER: &str = "x-berth-signature";

/// `?wait&canary=5,25,100&every=2m`, `?shadow`, `?watch=30s`, `?grant`, `?force`.
///
/// # Errors
/// A sentence that names the parameter.
pub(super) fn deploy_options(parts: &Parts, actor: String) -> Result<DeployOptions, GatewayError> {
    Ok(DeployOptions {
        waits_for_drain: is_set(parts, "wait")?,
        rollout: rollout(parts)?,
        watch: watch(parts)?,
        source: source(parts)?,
        grants: is_set(parts, "grant")?,
        forces: is_set(parts, "force")?,
        signature: signature(parts)?,
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

pub(super) fn signature(parts: &Parts) -> Result<Option<String>, GatewayError> {
    let Some(value) = parts.headers.get(SIGNATURE_HEADER) else { return Ok(None) };
    match value.to_str() {
        Ok(text) if text.len() <= SIGNATURE_CHARS_MAX => Ok(Some(text.trim().to_owned())),
        _ => Err(GatewayError::BadParameter(format!(
            "the header {SIGNATURE_HEADER} must be base64 of at most {SIGNATURE_CHARS_MAX} characters"
        ))),
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

/// What the deployer says of the origin, as it will stand in the history: cut short, its digest would be worth nothing.
pub(super) fn source(parts: &Parts) -> Result<Option<String>, GatewayError> {
    let Some(value) = parts.headers.get(SOURCE_HEADER) else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| text.len() <= SOURCE_CHARS_MAX && !text.contains('\t'));
    text.map(|text| Some(text.to_owned())).ok_or_else(|| {
        GatewayError::BadParameter(format!("`{SOURCE_HEADER}` has at most {SOURCE_CHARS_MAX} visible ASCII characters"))
    })
}
