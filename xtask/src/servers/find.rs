//! Servers that are already there, on their usual ports.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use super::{Kind, Server};
use crate::workspace;

const PATIENCE: Duration = Duration::from_secs(2);

/// A server of that kind which listens on the usual port and lets the tests in.
pub(super) fn find(kind: Kind) -> Option<Server> {
    match kind {
        Kind::Postgres => postgres(),
        Kind::Redis => answers(6379, b"PING\r\n", b"+PONG").then(|| found(kind, "redis://127.0.0.1:6379/15")),
        // The protocol header is answered by a method frame on channel 0.
        Kind::Rabbit => answers(5672, b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00")
            .then(|| found(kind, "amqp://guest:guest@127.0.0.1:5672/%2f")),
    }
}

/// Whether a server on `port` answers `question` with something that begins with `answer`.
pub(super) fn answers(port: u16, question: &[u8], answer: &[u8]) -> bool {
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
fn postgres() -> Option<Server> {
    let psql = workspace::find_program("psql")?;
    for login in ["postgres", "postgres:postgres"] {
        let url = |database: &str| format!("postgres://{login}@127.0.0.1:5432/{database}");
        let statement = |text: String| {
            let mut command = Command::new(&psql);
            command.args(["--no-password", "--quiet", "--no-psqlrc", "--dbname", &url("postgres"), "--command", &text]);
            command.env("PGCONNECT_TIMEOUT", "3");
            command
        };
        let database = format!("berth_test_{}", std::process::id());
        if statement(format!("create database {database}")).output().is_ok_and(|output| output.status.success()) {
            let mut server = found(Kind::Postgres, &url(&database));
            server.farewell = Some(statement(format!("drop database if exists {database} with (force)")));
            return Some(server);
        }
    }
    None
}

fn found(kind: Kind, url: &str) -> Server {
    Server { kind, url: url.to_owned(), process: None, folder: None, farewell: None }
}
