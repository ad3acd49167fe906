//! The servers of one run of the tests: those that listen on their usual ports, else private ones, else installed ones.
//!
//! A private server lives in a folder of its own and ends with the tests. A server that was found keeps running; in
//! PostgreSQL the tests get a database of their own, which is dropped afterwards.

use std::process::Command;

use anyhow::{Context, Result, bail};
use berth_test_servers::{Found, Kind, Private, find, find_program, is_root};

use crate::{pgvector, workspace};

/// A server in use; dropped, it is put back as it was.
struct Server {
    kind: Kind,
    url: String,
    held: Held,
}

/// What has to be undone when the tests are over.
enum Held {
    /// The caller named it.
    Nothing,
    Found(#[expect(dead_code, reason = "held for its end")] Found),
    Private(#[expect(dead_code, reason = "held for its end")] Private),
}

/// The servers of one run of the tests; dropped, they are put back as they were.
pub(crate) struct Servers(Vec<Server>);

impl Servers {
    /// For `--embedded`.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Finds, starts or installs all three.
    ///
    /// # Errors
    /// When one is not to be had; the message says which tests cannot run.
    pub(crate) fn find() -> Result<Self> {
        let mut servers = Vec::new();
        let mut missing = Vec::new();
        for kind in Kind::ALL {
            match obtain(kind).and_then(|server| with_program(kind).map(|()| server)) {
                Ok(server) => servers.push(server),
                Err(error) => missing.push(format!("{} is not to be had ({error:#})", kind.name())),
            }
        }
        if !missing.is_empty() {
            bail!(
                "{}. Without it these cannot run: the conformance suites of its backend, the promises on the server \
                 stack, and all of {}. `cargo xtask test --embedded` leaves them out",
                missing.join("; "),
                crate::test::ON_SERVERS_ONLY.join(", ")
            );
        }
        Ok(Self(servers))
    }

    /// Name and URL of each.
    pub(crate) fn urls(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|server| (server.kind.name(), server.url.as_str()))
    }

    /// Whether PostgreSQL is among them and has pgvector, which is installed where that is possible. Nothing but what tells of
    /// vectors needs it.
    pub(crate) fn has_pgvector(&self) -> bool {
        let postgres = self.0.iter().find(|server| server.kind == Kind::Postgres);
        // On a server that somebody has named nothing is installed: it may be another machine's.
        postgres.is_some_and(|server| pgvector::find(&server.url, !matches!(server.held, Held::Nothing)))
    }

    /// Tells a command where they are.
    pub(crate) fn give_to(&self, command: &mut Command) {
        for server in &self.0 {
            command.env(server.kind.variable(), &server.url);
        }
    }
}

fn obtain(kind: Kind) -> Result<Server> {
    // The caller's own choice wins.
    if let Ok(url) = std::env::var(kind.variable()) {
        return Ok(Server { kind, url, held: Held::Nothing });
    }
    if let Some(found) = find(kind) {
        return Ok(Server { kind, url: found.url.clone(), held: Held::Found(found) });
    }
    if find_program(kind.program()).is_none() {
        install(kind)?;
        // A package may have started its server.
        if let Some(found) = find(kind) {
            return Ok(Server { kind, url: found.url.clone(), held: Held::Found(found) });
        }
    }
    let server = Private::start(kind)?;
    Ok(Server { kind, url: server.url(), held: Held::Private(server) })
}

/// Some promises stop and kill a server of their own, so its program is needed even where one runs.
fn with_program(kind: Kind) -> Result<()> {
    match find_program(kind.program()) {
        Some(_) => Ok(()),
        None => install(kind),
    }
}

/// Whether promises about registries can run: their program is there, or could be installed.
///
/// # Errors
/// When it may be installed and cannot be.
pub(crate) fn has_registry(may_install: bool) -> Result<bool> {
    let is_there = find_program(Kind::Registry.program()).is_some();
    if is_there || !may_install {
        return Ok(is_there);
    }
    let hint = "without a registry its promises cannot run; `cargo xtask test --embedded` leaves them out";
    install(Kind::Registry).context(hint).map(|()| true)
}

fn install(kind: Kind) -> Result<()> {
    if !is_root() || !workspace::has_program("apt-get") {
        bail!("the program {} is missing, and only root can install it with apt-get", kind.program());
    }
    println!("xtask: installing {}", kind.name());
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
        command
    };
    workspace::run(apt().args(["update", "--quiet"]))?;
    workspace::run(apt().args(["install", "--yes", "--quiet", "--no-install-recommends", kind.package()]))
}
