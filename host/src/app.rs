//! The composition root: builds the rooms bottom-up, and stops them top-down.

use crate::plugins_file::Manifest;
use crate::settings::Settings;

/// Runs the host until it is told to stop.
///
/// # Errors
/// What kept it from starting.
pub(crate) fn run(settings: Settings, manifest: Manifest) -> anyhow::Result<()> {
    let _ = (settings, manifest);
    anyhow::bail!("the rooms are not connected yet")
}
