//! What must hold before a change is taken: format, lints, the rules of the house, and every test.

use anyhow::Result;

use crate::workspace::{self, GUEST_PROFILE, GUEST_TARGET};
use crate::{build, test, tidy};

/// # Errors
/// At the first check that does not hold.
pub(crate) fn ci() -> Result<()> {
    workspace::run(workspace::cargo().args(["fmt", "--all", "--check"]))?;
    tidy::tidy()?;
    build::add_guest_target()?;
    lint()?;
    test::test(&[])
}

/// The lints, natively for everything and once more for what is only compiled in guests. In the profiles of the builds that
/// follow, so that macros, build scripts and what these compile are made once for both.
fn lint() -> Result<()> {
    let deny = ["--", "--deny", "warnings"];
    workspace::run(
        workspace::cargo().args(["clippy", "--release", "--workspace", "--all-targets", "--quiet"]).args(deny),
    )?;
    let mut guests = workspace::cargo();
    guests.args(["clippy", "--quiet", "--profile", GUEST_PROFILE, "--target", GUEST_TARGET, "--package", "berth-sdk"]);
    for folder in ["components", "tests/fixtures"] {
        for component in workspace::components(&workspace::root().join(folder))? {
            guests.args(["--package", &component.name]);
        }
    }
    workspace::run(guests.args(deny))
}
