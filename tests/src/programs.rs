//! Programs of others that talk to a host: installed below `target/` where they are missing, each in the version whose behaviour is
//! known. That needs python3 and PyPI, or npm and its registry.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::guests;

/// The program of Node.js that runs what needs a newer one than the machine has.
pub const NODE: &str = "node@22.23.3";

/// The Python of an environment of its own with this package.
///
/// # Panics
/// When it cannot be installed.
#[must_use]
pub fn python(package: &str, version: &str) -> PathBuf {
    let environment = guests::root().join(format!("target/python-{package}-{version}"));
    install(&environment, version, || {
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
        run(Command::new(environment.join("bin/pip")).args(["install", "--quiet", &format!("{package}=={version}")]));
    });
    environment.join("bin/python")
}

/// The folder `target/<name>` with these packages of npm.
///
/// # Panics
/// When they cannot be installed.
#[must_use]
pub fn npm(name: &str, packages: &[&str]) -> PathBuf {
    let folder = guests::root().join("target").join(name);
    install(&folder, &packages.join("\n"), || {
        std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("no folder for the programs: {error}"));
        let written = std::fs::write(folder.join("package.json"), "{\"private\":true}");
        written.unwrap_or_else(|error| panic!("no package.json: {error}"));
        run(Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
            .args(packages)
            .current_dir(&folder));
    });
    folder
}

/// Node.js in the folder of [`npm`], which must have [`NODE`].
#[must_use]
pub fn node(npm: &Path) -> Command {
    let mut node = Command::new(npm.join("node_modules/node/bin/node"));
    node.current_dir(npm);
    node
}

/// A script of `tests/clients`.
#[must_use]
pub fn script(name: &str) -> PathBuf {
    guests::root().join("tests/clients").join(name)
}

/// A copy of a script beside the packages that it imports.
///
/// # Panics
/// When it cannot be copied.
#[must_use]
pub fn script_in(npm: &Path, name: &str) -> PathBuf {
    let copy = npm.join(name);
    std::fs::copy(script(name), &copy).unwrap_or_else(|error| panic!("{name} cannot be copied: {error}"));
    copy
}

/// Whether a program ended well, and everything that it said.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn said(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// Whether this machine has a program.
#[must_use]
pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Says that something is not tested on this machine, and why.
pub fn skipped(what: &str, why: &str) {
    #[expect(clippy::print_stderr, reason = "whoever reads the run must know what was not tested")]
    {
        eprintln!("SKIPPED: {what} is not tested here: {why}");
    }
}

/// Installs what the mark does not say is there. Several processes of a run may want it at once: one does it.
fn install(folder: &Path, wanted: &str, work: impl FnOnce()) {
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent).unwrap_or_else(|error| panic!("{}: {error}", parent.display()));
    }
    let lock = std::fs::File::create(format!("{}.lock", folder.display()));
    let lock = lock.and_then(|file| file.lock().map(|()| file));
    let _lock = lock.unwrap_or_else(|error| panic!("{} cannot be locked: {error}", folder.display()));
    let mark = folder.join("installed");
    if std::fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return;
    }
    work();
    std::fs::write(&mark, wanted).unwrap_or_else(|error| panic!("what is installed cannot be marked: {error}"));
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?} failed");
}
