//! A private server from installed programs: in a folder of its own, on a free port, ended and thrown away with its owner.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Kind;
use crate::find::{is_guarded, is_there};
use crate::programs::{find_program, installed, is_root, succeeds};

/// RabbitMQ needs long on a small machine.
const START_PATIENCE: Duration = Duration::from_secs(90);
const STOP_PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// Tells the servers of one process apart.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A server that belongs to whoever holds this. Start it on the thread that lives longest: it ends with it.
#[derive(Debug)]
pub struct Private {
    kind: Kind,
    folder: PathBuf,
    port: u16,
    /// RabbitMQ's own name server and the port between its nodes.
    side_ports: [u16; 2],
    is_guarded: bool,
    process: Option<Child>,
}

impl Private {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When its programs are not installed or it does not answer in time.
    pub fn start(kind: Kind) -> Result<Self> {
        Self::start_as(kind, false)
    }

    /// Starts one that lets nobody in, or do much, who has not the rights for it: PostgreSQL wants a password, and has none for
    /// `postgres`; Redis wants [`Private::PASSWORD`], and has users of the same password: `limited` may do nothing but
    /// `PING`, `reader` may read; in RabbitMQ `guest` may declare nothing.
    ///
    /// # Errors
    /// As [`Private::start`].
    pub fn start_guarded(kind: Kind) -> Result<Self> {
        Self::start_as(kind, true)
    }

    fn start_as(kind: Kind, is_guarded: bool) -> Result<Self> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("berth-test-{}-{}-{number}", kind.program(), std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)?;
        let [port, first, second] = free_ports()?;
        let mut server = Self { kind, folder, port, side_ports: [first, second], is_guarded, process: None };
        server.start_again()?;
        Ok(server)
    }

    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        let port = self.port;
        match self.kind {
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Kind::Redis => format!("redis://127.0.0.1:{port}/"),
            Kind::Rabbit => format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
            Kind::Registry => format!("oci://127.0.0.1:{port}"),
        }
    }

    /// What lets somebody into a guarded Redis.
    pub const PASSWORD: &str = "password-of-the-tests";

    /// Runs statements in PostgreSQL as its administrator, past every guard.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn administer(&self, database: &str, statements: &str) -> Result<()> {
        let mut command = Command::new(installed("psql")?);
        command.args(["--no-password", "--quiet", "--no-psqlrc", "--username", "postgres", "--set", "ON_ERROR_STOP=1"]);
        command.arg("--host").arg(&self.folder).args(["--port", &self.port.to_string(), "--dbname", database]);
        let output = command.args(["--command", statements]).output().context("psql cannot be started")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Starts it on the same data and port after it was stopped or killed, and waits until it answers.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn start_again(&mut self) -> Result<()> {
        let command = match self.kind {
            Kind::Postgres => self.postgres()?,
            Kind::Redis => self.redis()?,
            Kind::Rabbit => self.rabbit()?,
            Kind::Registry => self.registry()?,
        };
        self.process = Some(launch(command, &self.folder)?);
        let end = Instant::now() + START_PATIENCE;
        let answers = if self.is_guarded { is_guarded } else { is_there };
        while !answers(self.kind, self.port) {
            let has_ended = self.process.as_mut().is_some_and(|process| !matches!(process.try_wait(), Ok(None)));
            if has_ended || Instant::now() > end {
                let log = std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it said nothing").to_owned();
                bail!("a private {} does not start: {last}", self.kind.name());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Ends it as an administrator would, without waiting for its clients.
    pub fn stop(&mut self) {
        // PostgreSQL waits for its clients on TERM.
        let signal = if self.kind == Kind::Postgres { "INT" } else { "TERM" };
        self.end(signal);
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.end("KILL");
    }

    fn end(&mut self, signal: &str) {
        let Some(mut process) = self.process.take() else { return };
        signal_group(&process, signal);
        let end = Instant::now() + STOP_PATIENCE;
        while Instant::now() < end {
            if !matches!(process.try_wait(), Ok(None)) {
                // What a script left behind.
                signal_group(&process, "KILL");
                return;
            }
            std::thread::sleep(POLL);
        }
        signal_group(&process, "KILL");
        let _ = process.wait();
    }

    fn postgres(&self) -> Result<Command> {
        let data = self.folder.join("data");
        if !data.is_dir() {
            let mut initdb = self.unprivileged("initdb")?;
            initdb
                .args(["--username", "postgres", "--auth-local", "trust", "--encoding", "UTF8", "--no-sync"])
                .args(["--auth-host", if self.is_guarded { "scram-sha-256" } else { "trust" }, "--pgdata"])
                .arg(&data);
            initdb.current_dir(&self.folder);
            let output = initdb.output().context("initdb cannot be started")?;
            if !output.status.success() {
                bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default());
            }
        }
        let mut command = self.unprivileged("postgres")?;
        command.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-k"]).arg(&self.folder);
        command.args(["-c", "fsync=off", "-c", "max_connections=200"]);
        Ok(command)
    }

    /// PostgreSQL refuses to run as root, so root starts it as another user, who then owns the folder.
    fn unprivileged(&self, name: &str) -> Result<Command> {
        let program = installed(name)?;
        if !is_root() {
            return Ok(Command::new(program));
        }
        let has_user = |user: &str| succeeds(Command::new("id").args(["-u", user]));
        let user = if has_user("postgres") { "postgres" } else { "nobody" };
        if !succeeds(Command::new("chown").arg("-R").arg(user).arg(&self.folder)) {
            bail!("{} cannot be given to {user}", self.folder.display());
        }
        let mut command = Command::new(installed("setpriv")?);
        command.args(["--reuid", user, "--clear-groups", "--pdeathsig", "INT", "--"]).arg(program);
        Ok(command)
    }

    fn redis(&self) -> Result<Command> {
        let mut command = dying_with_its_owner("redis-server")?;
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""]);
        command.args(["--appendonly", "no", "--dir"]).arg(&self.folder);
        if self.is_guarded {
            let password = format!(">{}", Self::PASSWORD);
            command.args(["--requirepass", Self::PASSWORD]);
            command.args(["--user", "limited", "on", &password, "-@all", "+ping"]);
            command.args(["--user", "reader", "on", &password, "~*", "-@all", "+ping", "+info", "+@read"]);
        }
        Ok(command)
    }

    fn rabbit(&self) -> Result<Command> {
        // The script on PATH changes to another user, who may not write here; the one behind it does not.
        let plain = Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
        let mut command = if plain.is_file() {
            dying_with_its_owner(&plain.display().to_string())?
        } else {
            dying_with_its_owner("rabbitmq-server")?
        };
        let [names, nodes] = self.side_ports;
        let folder = &self.folder;
        if self.is_guarded {
            let nothing =
                ["configure", "read", "write"].map(|right| format!("default_permissions.{right} = ^$\n")).concat();
            std::fs::write(folder.join("rabbitmq.conf"), nothing)?;
        }
        command
            .env("HOME", folder)
            .env("ERL_EPMD_PORT", names.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("berth-test-{}@localhost", self.port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", nodes.to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"));
        Ok(command)
    }
}

/// Whom a private registry lets in, with a password of its own.
const REGISTRY_LOGIN: (&str, &str) = ("berth", "password-of-the-tests");
/// The password as the registry knows it (bcrypt, 16 rounds: it is no secret).
const REGISTRY_HASH: &str = "$2b$04$m3zJVMSxa8JXOuDXXST0quS5g7.EMkx68vdJIIqqFyyWLoROPmahy";

impl Private {
    /// Name and password of a registry's only user.
    #[must_use]
    pub const fn registry_login() -> (&'static str, &'static str) {
        REGISTRY_LOGIN
    }

    fn registry(&self) -> Result<Command> {
        let show = |name: &str| self.folder.join(name).display().to_string();
        let (config, users) = (show("config.yml"), show("users"));
        std::fs::write(&users, format!("{}:{REGISTRY_HASH}\n", REGISTRY_LOGIN.0))?;
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {:?}\n\
             http:\n  addr: 127.0.0.1:{}\nauth:\n  htpasswd:\n    realm: tests\n    path: {users:?}\n",
            show("images"),
            self.port
        );
        std::fs::write(&config, text)?;
        let mut command = dying_with_its_owner("docker-registry")?;
        command.arg("serve").arg(config);
        // Settings of its own have variables too.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REGISTRY_")) {
            command.env_remove(name);
        }
        Ok(command)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.stop();
        if self.kind == Kind::Rabbit
            && let Some(epmd) = find_program("epmd")
        {
            // Erlang leaves its name server behind; this one is on a port of ours.
            let _ = Command::new(epmd).args(["-port", &self.side_ports[0].to_string(), "-kill"]).output();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A command that gets TERM when the thread that starts it ends, where the system can do that.
fn dying_with_its_owner(program: &str) -> Result<Command> {
    let program = installed(program)?;
    let Some(setpriv) = find_program("setpriv") else { return Ok(Command::new(program)) };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    Ok(command)
}

fn launch(mut command: Command, folder: &Path) -> Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("server.log"))?;
    // A group of its own, so that a script ends together with what it started.
    command.process_group(0).current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("it cannot be started")
}

fn signal_group(process: &Child, signal: &str) {
    let _ = Command::new("kill").args(["-s", signal, "--", &format!("-{}", process.id())]).output();
}

/// Ports that nobody listens on now.
///
/// # Errors
/// When there are not so many.
pub fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    // All are held until the last one is found, so that they differ.
    let mut listeners = Vec::new();
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}
