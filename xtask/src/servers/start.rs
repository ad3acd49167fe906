//! Private servers from installed programs, each in a folder of its own on a free port.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Kind, Server, find};
use crate::workspace;

/// RabbitMQ needs long on a small machine.
const START_PATIENCE: Duration = Duration::from_secs(90);
const STOP_PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);

/// Starts a private server and waits until it answers.
pub(super) fn start(kind: Kind) -> Result<Server> {
    let folder = std::env::temp_dir().join(format!("berth-test-{}-{}", kind.program(), std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let port = free_port()?;
    let (command, url, question, answer): (Command, String, &[u8], &[u8]) = match kind {
        Kind::Postgres => {
            let command = postgres(&folder, port)?;
            (command, format!("postgres://postgres@127.0.0.1:{port}/postgres"), SSL_REQUEST, b"N")
        }
        Kind::Redis => (redis(&folder, port)?, format!("redis://127.0.0.1:{port}/"), b"PING\r\n", b"+PONG"),
        Kind::Rabbit => {
            let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
            (rabbit(&folder, port)?, url, b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00")
        }
    };
    let process = launch(command, &folder)?;
    let mut server = Server { kind, url, process: Some(process), folder: Some(folder.clone()), farewell: None };
    let end = Instant::now() + START_PATIENCE;
    while !find::answers(port, question, answer) {
        let has_ended = server.process.as_mut().is_some_and(|process| !matches!(process.try_wait(), Ok(None)));
        if has_ended || Instant::now() > end {
            let log = std::fs::read_to_string(folder.join("server.log")).unwrap_or_default();
            let last = log.lines().last().unwrap_or("it said nothing").to_owned();
            bail!("a private one does not start: {last}");
        }
        std::thread::sleep(POLL);
    }
    Ok(server)
}

/// PostgreSQL's request for TLS: a server without it answers `N`.
const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

/// Ends a process by its id: first asked, then made to.
pub(super) fn stop(process: &mut Child) {
    let _ = Command::new("kill").arg(process.id().to_string()).status();
    let end = Instant::now() + STOP_PATIENCE;
    while Instant::now() < end {
        if !matches!(process.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(POLL);
    }
    let _ = process.kill();
    let _ = process.wait();
}

/// Whether this process belongs to root.
pub(super) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn launch(mut command: Command, folder: &Path) -> Result<Child> {
    let log = std::fs::File::create(folder.join("server.log"))?;
    command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("it cannot be started")
}

fn postgres(folder: &Path, port: u16) -> Result<Command> {
    let data = folder.join("data");
    let mut initdb = unprivileged("initdb", folder)?;
    initdb
        .args(["--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--no-sync", "--pgdata"])
        .arg(&data);
    initdb.current_dir(folder);
    let output = initdb.output().context("initdb cannot be started")?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default());
    }
    let mut command = unprivileged("postgres", folder)?;
    command.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"]).arg(folder);
    command.args(["-c", "fsync=off", "-c", "max_connections=200"]);
    Ok(command)
}

/// PostgreSQL refuses to run as root, so root starts it as another user, who then owns the folder.
fn unprivileged(name: &str, folder: &Path) -> Result<Command> {
    let program = installed(name)?;
    if !is_root() {
        return Ok(Command::new(program));
    }
    let has_user = |user: &str| workspace::output(Command::new("id").args(["-u", user])).is_some();
    let user = if has_user("postgres") { "postgres" } else { "nobody" };
    workspace::run(Command::new("chown").arg("-R").arg(user).arg(folder))?;
    let mut command = Command::new(installed("setpriv")?);
    command.args(["--reuid", user, "--clear-groups", "--pdeathsig", "TERM", "--"]).arg(program);
    Ok(command)
}

fn redis(folder: &Path, port: u16) -> Result<Command> {
    let mut command = Command::new(installed("redis-server")?);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"]);
    command.arg(folder);
    Ok(command)
}

fn rabbit(folder: &Path, port: u16) -> Result<Command> {
    // The script on PATH changes to another user, who may not write here; the one behind it does not.
    let plain = Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
    let program = if plain.is_file() { plain.to_path_buf() } else { installed("rabbitmq-server")? };
    let mut command = Command::new(program);
    command
        .env("HOME", folder)
        .env("RABBITMQ_NODENAME", format!("berth-test-{}@localhost", std::process::id()))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", free_port()?.to_string())
        .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", folder.join("log"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
        .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"));
    Ok(command)
}

fn installed(name: &str) -> Result<PathBuf> {
    workspace::find_program(name).with_context(|| format!("there is no program {name}"))
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    drop(listener);
    Ok(port)
}
