//! The API browser that the host serves at `/docs`: fetched as a package, pinned by version and checksum, never kept in
//! the repository.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::workspace;

/// The package and its version.
const PACKAGE: &str = "swagger-ui-dist";
const VERSION: &str = "5.35.0";
/// SHA-512 of the package as it is published.
const CHECKSUM: &str = "534eaba4cb56f55dd73c638179a993512af4674f63317e0826e00da44fc465b0\
                        21c341bc0a0c2bcd4e18997927fe1d3008336c5dd19aad334d1c2dec53cc9551";
/// What is taken of it.
const FILES: [&str; 4] = ["swagger-ui-bundle.js", "swagger-ui.css", "LICENSE", "NOTICE"];

/// Where the host's build looks for it.
fn folder() -> PathBuf {
    workspace::root().join("target/api-browser")
}

/// Fetches the browser where it is missing. A machine without npm or without a network builds a host whose `/docs` says
/// that it has none.
///
/// # Errors
/// When something else came than what is pinned.
pub(crate) fn fetch() -> Result<()> {
    let folder = folder();
    let stamp = folder.join("version");
    if std::fs::read_to_string(&stamp).is_ok_and(|version| version == VERSION) {
        return Ok(());
    }
    if !["npm", "tar", "sha512sum"].iter().all(|program| workspace::has_program(program)) {
        println!("xtask: no npm: the host is built without the API browser, and /docs answers 501");
        return Ok(());
    }
    let fetched = folder.join("fetched");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&fetched)?;
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", &format!("{PACKAGE}@{VERSION}"), "--pack-destination"]).arg(&fetched);
    let archive = fetched.join(format!("{PACKAGE}-{VERSION}.tgz"));
    if workspace::output(&mut npm).is_none() || !archive.is_file() {
        println!("xtask: {PACKAGE} could not be fetched: /docs of this build answers 501");
        return Ok(());
    }
    let checksum = workspace::output(Command::new("sha512sum").arg(&archive)).unwrap_or_default();
    if checksum.split(' ').next() != Some(CHECKSUM) {
        let _ = std::fs::remove_dir_all(&folder);
        bail!("{PACKAGE} {VERSION} is not what was pinned: its checksum differs");
    }
    workspace::run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&fetched))?;
    for file in FILES {
        std::fs::copy(fetched.join("package").join(file), folder.join(file))?;
    }
    std::fs::remove_dir_all(&fetched)?;
    // Last: only a whole one counts.
    std::fs::write(stamp, VERSION)?;
    Ok(())
}
