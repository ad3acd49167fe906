//! Benchmarks: built here, measured by the crate `berth-bench`.

use anyhow::{Result, bail};

use crate::{build, workspace};

/// `bench <name>`.
///
/// # Errors
/// When there is no such benchmark, or it fails.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let [name, rest @ ..] = arguments else { bail!("bench needs a name: hello") };
    if name != "hello" {
        bail!("there is no benchmark {name}; there is hello");
    }
    build::build_guests()?;
    build::build_host()?;
    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "--release", "--package", "berth-bench", "--", name]).args(rest);
    command.env("BERTH_TEST_HOST", workspace::host_binary());
    command.env("BERTH_TEST_PLUGINS", workspace::target().join("plugins"));
    command.env("BERTH_TEST_FIXTURES", workspace::target().join("fixtures"));
    workspace::run(&mut command)
}
