//! promtool, which knows what Prometheus expects of metrics: found, or taken out of Debian's package without installing
//! it, so that no server starts.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::workspace;

/// Tells the promises where it is.
pub(crate) const VARIABLE: &str = "BERTH_TEST_PROMTOOL";
const PROGRAM: &str = "promtool";
/// The package that has it.
const PACKAGE: &str = "prometheus";

/// The program; none where it is missing and may or can not be fetched, which is said.
pub(crate) fn find(may_fetch: bool) -> Option<PathBuf> {
    let found =
        berth_test_servers::find_program(PROGRAM).or_else(|| Some(fetched()).filter(|program| program.is_file()));
    if found.is_some() || !may_fetch {
        return found;
    }
    match fetch() {
        Ok(program) => Some(program),
        Err(error) => {
            println!("xtask: {PROGRAM} could not be fetched: {error:#}");
            None
        }
    }
}

fn folder() -> PathBuf {
    workspace::target().join(PROGRAM)
}

fn fetched() -> PathBuf {
    folder().join("usr/bin").join(PROGRAM)
}

fn fetch() -> Result<PathBuf> {
    let folder = folder();
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(&folder).args(arguments).stdin(Stdio::null());
        workspace::run(&mut command)
    };
    if berth_test_servers::is_root() {
        apt(&["update", "--quiet"])?;
    }
    apt(&["download", "--quiet", PACKAGE])?;
    let entries = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
    let package = entries.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let package = package.context("no package came")?;
    workspace::run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&folder))?;
    std::fs::remove_file(package)?;
    Some(fetched()).filter(|program| program.is_file()).context("the package has no promtool")
}
