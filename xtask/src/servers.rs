//! PostgreSQL, Redis and RabbitMQ for the tests: those that listen on their usual ports, else private ones.
//!
//! A private server lives in a folder of its own and ends with the tests. A server that was found keeps running; in
//! PostgreSQL the tests get a database of their own, which is dropped afterwards.

mod find;
mod start;

use std::path::PathBuf;
use std::process::{Child, Command};

use anyhow::{Result, bail};

use crate::workspace;

/// One kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Postgres,
    Redis,
    Rabbit,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Postgres, Self::Redis, Self::Rabbit];

    const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Rabbit => "RabbitMQ",
        }
    }

    /// The variable by which the rooms' conformance suites and the promises find it.
    const fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "BERTH_TEST_POSTGRES_URL",
            Self::Redis => "BERTH_TEST_REDIS_URL",
            Self::Rabbit => "BERTH_TEST_AMQP_URL",
        }
    }

    /// The program whose presence means that a private one can be started.
    const fn program(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis-server",
            Self::Rabbit => "rabbitmq-server",
        }
    }

    /// The Debian package.
    const fn package(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Redis => "redis-server",
            Self::Rabbit => "rabbitmq-server",
        }
    }
}

/// A server in use, and what has to be undone when the tests are over.
struct Server {
    kind: Kind,
    url: String,
    process: Option<Child>,
    folder: Option<PathBuf>,
    /// A command that removes what the tests were given in a server that stays.
    farewell: Option<Command>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(farewell) = &mut self.farewell {
            let _ = farewell.output();
        }
        if let Some(process) = &mut self.process {
            start::stop(process);
        }
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
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
            match obtain(kind) {
                Ok(server) => servers.push(server),
                Err(error) => missing.push(format!(
                    "{} is not to be had ({error:#}), so the tests of its backend cannot run",
                    kind.name()
                )),
            }
        }
        if !missing.is_empty() {
            bail!("{}; `cargo xtask test --embedded` leaves them out", missing.join("; "));
        }
        Ok(Self(servers))
    }

    /// Name and URL of each.
    pub(crate) fn urls(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|server| (server.kind.name(), server.url.as_str()))
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
        return Ok(Server { kind, url, process: None, folder: None, farewell: None });
    }
    if let Some(server) = find::find(kind) {
        return Ok(server);
    }
    if workspace::find_program(kind.program()).is_none() {
        install(kind)?;
        // A package may have started its server.
        if let Some(server) = find::find(kind) {
            return Ok(server);
        }
    }
    start::start(kind)
}

fn install(kind: Kind) -> Result<()> {
    if !start::is_root() || !workspace::has_program("apt-get") {
        bail!("it neither listens on its usual port nor is it installed, and only root can install it with apt-get");
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
