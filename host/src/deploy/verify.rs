//! Whether a component may take a slot: what it exports, and what it says of itself, against the manifest.
//!
//! All faults are found at once, each a sentence for the person who deploys. Imports are judged by the engine, which
//! links only what is granted.

mod background;
mod routes;

use super::SlotOptions;
use crate::bindings::lifecycle::Description;
use crate::engine::Exports;

/// Faults that are told; the rest is counted.
const FAULTS_TOLD_MAX: usize = 20;
/// Characters of a component's own name and version.
const LABEL_CHARS_MAX: usize = 128;

/// How much is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Everything: for a build that was never deployed.
    Whole,
    /// Everything but the JSON Schemas, which do not change: for a build that was judged before, under a manifest that
    /// may have changed since.
    AgainstManifest,
}

/// Judges a build. The error is one text of one sentence a fault.
pub(super) fn verify(
    options: &SlotOptions,
    exports: Exports,
    description: Option<&Description>,
    depth: Depth,
) -> Result<(), String> {
    let mut faults = Vec::new();
    judge_exports(exports, description, &mut faults);
    if let Some(description) = description {
        judge_labels(description, &mut faults);
        routes::judge(options, description, depth, &mut faults);
        background::judge(options, description, &mut faults);
    }
    if faults.is_empty() { Ok(()) } else { Err(tell(&faults)) }
}

fn judge_exports(exports: Exports, description: Option<&Description>, faults: &mut Vec<String>) {
    let answers_http = exports.handler || exports.http_02 || exports.http_03;
    if !answers_http && !exports.consumer {
        faults.push(
            "it exports none of berth:platform/handler, berth:platform/consumer, wasi:http/incoming-handler and wasi:http/handler"
                .into(),
        );
    }
    let Some(description) = description else { return };
    if !answers_http && !description.routes.is_empty() {
        faults.push("it describes routes but exports no interface that answers HTTP".into());
    }
    let works_alone = !description.bindings.is_empty() || !description.timers.is_empty();
    if works_alone && !exports.consumer {
        faults.push("it describes bindings or timers but does not export berth:platform/consumer".into());
    }
    let streams = description.routes.iter().find(|route| route.is_streaming);
    if let Some(route) = streams.filter(|_| !exports.http_02 && !exports.http_03) {
        faults.push(format!("{} {} streams, but it does not export wasi:http", route.method, route.path));
    }
}

fn judge_labels(description: &Description, faults: &mut Vec<String>) {
    for (what, text) in [("name", &description.name), ("version", &description.version)] {
        if text.is_empty() || text.len() > LABEL_CHARS_MAX || text.chars().any(char::is_control) {
            faults.push(format!(
                "its {what} is empty, longer than {LABEL_CHARS_MAX} characters or has control characters"
            ));
        }
    }
}

fn tell(faults: &[String]) -> String {
    let mut text = faults.iter().take(FAULTS_TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join("; ");
    if let Some(more) = faults.len().checked_sub(FAULTS_TOLD_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests;
