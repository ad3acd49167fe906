//! Servers that are already there, on their usual ports.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::Kind;
use crate::programs::{find_program, succeeds};

const PATIENCE: Duration = Duration::from_secs(2);

/// A server that runs and lets the tests in. It stays as it is, but for the database made in it, which goes again.
#[derive(Debug)]
pub struct Found {
    pub url: String,
    /// Removes what the tests were given.
    farewell: Option<Command>,
}

impl Drop for Found {
    fn drop(&mut self) {
        if let Some(farewell) = &mut self.farewell {
            let _ = farewell.output();
        }
    }
}

/// A server of that kind which listens on the usual port and lets the tests in.
#[must_use]
pub fn find(kind: Kind) -> Option<Found> {
    let found = |url: &str| Found { url: url.to_owned(), farewell: None };
    match kind {
        Kind::Postgres => postgres(),
        Kind::Redis => is_there(kind, 6379).then(|| found("redis://127.0.0.1:6379/15")),
        // Somebody's registry is no place for what tests push.
        Kind::Registry => None,
        Kind::Rabbit => is_there(kind, 5672).then(|| found("amqp://guest:guest@127.0.0.1:5672/%2f")),
    }
}

/// Whether a server of that kind answers on `port`.
pub(crate) fn is_there(kind: Kind, port: u16) -> bool {
    let (question, answer) = kind.greeting();
    answers(port, question, answer)
}

/// Whether a server answers on `port` that wants a password before it says anything else.
pub(crate) fn is_guarded(kind: Kind, port: u16) -> bool {
    let (question, answer) = kind.greeting();
    answers(port, question, if kind == Kind::Redis { b"-NOAUTH" } else { answer })
}

fn answers(port: u16, question: &[u8], answer: &[u8]) -> bool {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(question)?;
        let mut begin = vec![0; answer.len()];
        stream.read_exact(&mut begin)?;
        Ok(begin == answer)
    };
    ask().unwrap_or(false)
}

/// A database of the tests' own in the PostgreSQL on port 5432.
fn postgres() -> Option<Found> {
    let psql = find_program("psql")?;
    for login in ["postgres", "postgres:postgres"] {
        let url = |database: &str| format!("postgres://{login}@127.0.0.1:5432/{database}");
        let statement = |text: String| {
            let mut command = Command::new(&psql);
            command.args(["--no-password", "--quiet", "--no-psqlrc", "--dbname", &url("postgres"), "--command", &text]);
            command.env("PGCONNECT_TIMEOUT", "3");
            command
        };
        let database = format!("berth_test_{}", std::process::id());
        if succeeds(&mut statement(format!("create database {database}"))) {
            let farewell = Some(statement(format!("drop database if exists {database} with (force)")));
            return Some(Found { url: url(&database), farewell });
        }
    }
    None
}
