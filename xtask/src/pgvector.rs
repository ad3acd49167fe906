//! pgvector for the PostgreSQL of the tests: there, installed, or made from Debian's source where Debian has no package of it for
//! that version of PostgreSQL. Where it is not to be had, how it compares vectors is not seen.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// Debian's source package.
const SOURCE: &str = "pgvector";
/// Where the source is taken from: it fits every version of PostgreSQL, also one of an older Debian.
const SUITE: &str = "stable main";

/// Whether the server at `url` has it, which is seen to where that is possible and allowed.
pub(crate) fn find(url: &str, may_install: bool) -> bool {
    if is_offered(url) {
        return true;
    }
    if !may_install || !berth_test_servers::is_root() || !workspace::has_program("apt-get") {
        return false;
    }
    if let Err(error) = install(url) {
        println!("xtask: pgvector is not to be had: {error:#}");
    }
    is_offered(url)
}

fn is_offered(url: &str) -> bool {
    ask(url, "select count(*) from pg_available_extensions where name = 'vector'").as_deref() == Some("1")
}

fn ask(url: &str, question: &str) -> Option<String> {
    let psql = berth_test_servers::find_program("psql")?;
    let mut command = Command::new(psql);
    command.args([
        "--no-password",
        "--no-psqlrc",
        "--tuples-only",
        "--no-align",
        "--dbname",
        url,
        "--command",
        question,
    ]);
    workspace::output(&mut command).map(|answer| answer.trim().to_owned())
}

fn install(url: &str) -> Result<()> {
    let version = ask(url, "show server_version_num").context("the server does not say its version")?;
    let major = version.parse::<u32>().context("a version is a number")? / 10_000;
    println!("xtask: installing pgvector for PostgreSQL {major}");
    workspace::run(apt().args(["update", "--quiet"]))?;
    let package = format!("postgresql-{major}-{SOURCE}");
    let mut known = Command::new("apt-cache");
    if workspace::output(known.args(["show", &package])).is_some_and(|shown| shown.contains("Version:")) {
        return install_packages(&[&package]);
    }
    let folder = workspace::target().join(SOURCE);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    download(&folder).context("its source did not come")?;
    install_packages(&["build-essential", &format!("postgresql-server-dev-{major}")])?;
    let settings = format!("PG_CONFIG=/usr/lib/postgresql/{major}/bin/pg_config");
    for target in ["all", "install"] {
        let mut make = Command::new("make");
        // For any processor, and without what only speeds up starting.
        make.current_dir(folder.join(SOURCE)).args(["--silent", target, "OPTFLAGS=", "with_llvm=no", &settings]);
        workspace::run(&mut make)?;
    }
    Ok(())
}

/// The source, from where this machine has its packages.
fn download(folder: &Path) -> Result<()> {
    let mut places = apt();
    places.args(["indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]);
    let places = workspace::output(&mut places).unwrap_or_default();
    let place = places.lines().find_map(|line| line.strip_prefix("Debian ")).context("this is no Debian")?;
    let (sources, lists) = (folder.join("sources.list"), folder.join("lists"));
    std::fs::write(&sources, format!("deb-src {place} {SUITE}\n"))?;
    std::fs::create_dir_all(lists.join("partial"))?;
    let set = |name: &str, value: &str| format!("--option=Dir::{name}={value}");
    let settings = [
        set("Etc::sourcelist", &sources.to_string_lossy()),
        set("Etc::sourceparts", "/dev/null"),
        set("State::lists", &lists.to_string_lossy()),
    ];
    workspace::run(apt().args(&settings).args(["update", "--quiet"]))?;
    let mut source = apt();
    source.current_dir(folder).args(&settings).args(["source", "--quiet", "--download-only", SOURCE]);
    workspace::run(&mut source)?;
    let files = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let archive =
        files.into_iter().find(|path| path.to_string_lossy().contains(".orig.tar")).context("no source came")?;
    let unpacked = folder.join(SOURCE);
    std::fs::create_dir(&unpacked)?;
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(archive).arg("--directory").arg(&unpacked).arg("--strip-components=1");
    workspace::run(&mut tar)?;
    ensure!(unpacked.join("Makefile").is_file(), "the source has no Makefile");
    Ok(())
}

fn install_packages(packages: &[&str]) -> Result<()> {
    workspace::run(apt().args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}
