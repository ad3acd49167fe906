//! A host in a folder of its own, on a port of its own; ended by its id when the test is over.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::guests;
use crate::manifest::Manifest;
use crate::{Client, Space, Store, wait};

/// The operator's token of every test host.
pub const OPERATOR_TOKEN: &str = "operator-token-of-the-tests-0123456789";
/// The master key of every test host: one for all, so that they can share what was compiled.
const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// Compiling the services takes long on a small machine.
const START_PATIENCE: Duration = Duration::from_secs(300);
/// The drain deadline and a margin.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// Where a host listens when a test does not say.
const ANY_PORT: [&str; 2] = ["--listen", "127.0.0.1:0"];
const LOG_LINES_SHOWN: usize = 60;
/// More than any manifest of a few guests has.
const MANY_PLUGINS: usize = 10;
/// Lies in the store once a host with all services has left there what it compiled.
const ALL_COMPILED: &str = "all";

/// A running host.
pub struct Host {
    process: Child,
    log: Arc<Log>,
    setup: Setup,
    /// `http://127.0.0.1:<port>`.
    pub base: String,
}

/// What a host is started from, and what outlives it.
struct Setup {
    folder: TempDir,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    /// What a shell does before it becomes the host.
    shell: Option<String>,
    /// What it has of PostgreSQL, Redis and RabbitMQ; none: embedded stores.
    space: Option<Arc<Space>>,
}

/// A host that has ended; its data folder is still there.
pub struct Stopped {
    setup: Setup,
    pub status: ExitStatus,
    /// Everything it said.
    pub log: String,
}

/// How a host shall be.
#[derive(Default)]
pub struct Builder {
    manifest: Manifest,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    shell: Option<String>,
    stack: Stack,
}

/// What stands behind a host.
#[derive(Default)]
enum Stack {
    /// What this run of the tests is about.
    #[default]
    OfThisRun,
    Embedded,
    Servers(Arc<Space>),
}

impl Builder {
    /// Embedded stores whatever the run is about, for what is about those.
    #[must_use]
    pub fn embedded(mut self) -> Self {
        self.stack = Stack::Embedded;
        self
    }

    /// A part of the servers that other hosts may share.
    #[must_use]
    pub fn on(mut self, space: &Arc<Space>) -> Self {
        self.stack = Stack::Servers(Arc::clone(space));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a flag of `berth run`.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Starts it through a shell that first runs `commands`, for what a process inherits.
    #[must_use]
    pub fn through_a_shell(mut self, commands: &str) -> Self {
        self.shell = Some(commands.to_owned());
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(self) -> Host {
        self.setup().start().await
    }

    /// Starts it and waits only for its port: for one that something is missing for.
    ///
    /// # Panics
    /// When it does not open its port.
    pub async fn start_unready(self) -> Host {
        self.setup().open()
    }

    /// Starts what is expected to end by itself, and waits for its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run_to_end(self) -> Output {
        self.setup().command().output().unwrap_or_else(|error| panic!("the host cannot be started: {error}"))
    }

    fn setup(self) -> Setup {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        let space = match self.stack {
            Stack::OfThisRun => Space::of_this_run(),
            Stack::Embedded => None,
            Stack::Servers(space) => Some(space),
        };
        let mut environment = space.as_ref().map(|space| space.variables()).unwrap_or_default();
        environment.extend(self.environment);
        let setup = Setup { folder, environment, arguments: self.arguments, shell: self.shell, space };
        setup.write_manifest(&self.manifest);
        setup
    }
}

impl Host {
    /// The repository's own services, embedded stores.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start() -> Self {
        Self::with(Manifest::services()).start().await
    }

    /// A host with another manifest.
    #[must_use]
    pub fn with(manifest: Manifest) -> Builder {
        Builder { manifest, ..Builder::default() }
    }

    /// Somebody without a token.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::anonymous(&self.base)
    }

    /// The operator.
    #[must_use]
    pub fn operator(&self) -> Client {
        self.client().with_token(OPERATOR_TOKEN)
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.setup.data()
    }

    /// Its database.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::of(&self.setup.data(), self.setup.space.as_ref())
    }

    /// Address and port, for a connection by hand.
    #[must_use]
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// What it has of the servers; none for one with embedded stores.
    #[must_use]
    pub fn space(&self) -> Option<&Arc<Space>> {
        self.setup.space.as_ref()
    }

    /// The id of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Replaces the manifest; the host takes it on SIGHUP or at its next start.
    pub fn write_manifest(&self, manifest: &Manifest) {
        self.setup.write_manifest(manifest);
    }

    /// A command of the host's own binary that talks to this host.
    #[must_use]
    pub fn berth(&self, arguments: &[&str]) -> Command {
        let mut command = clean_command(&guests::host_binary());
        command.args(arguments).env("BERTH_URL", &self.base).env("BERTH_OPERATOR_TOKEN", OPERATOR_TOKEN);
        command.current_dir(self.setup.folder.path());
        command
    }

    /// Sends a signal by the process's id.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "SIG{name} could not be sent");
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn stop(self) -> Stopped {
        self.signal("TERM");
        self.ended().await
    }

    /// Ends it in the middle of whatever it does.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn kill(self) -> Stopped {
        self.signal("KILL");
        self.ended().await
    }

    /// Stops it and starts it again on the same data.
    ///
    /// # Panics
    /// When it does not stop or does not become ready.
    pub async fn restart(self) -> Self {
        self.stop().await.start().await
    }

    /// Waits for its end, whoever causes it.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(mut self) -> Stopped {
        let begin = Instant::now();
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => {
                    let log = self.log.text_at_end();
                    // Only the process is dropped with the host; the folder goes on.
                    let setup = std::mem::replace(&mut self.setup, Setup::empty());
                    return Stopped { setup, status, log };
                }
                Ok(None) if begin.elapsed() < STOP_PATIENCE => tokio::time::sleep(Duration::from_millis(20)).await,
                other => panic!("the host does not end ({other:?}):\n{}", self.log.tail()),
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let is_running = matches!(self.process.try_wait(), Ok(None));
        if is_running {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        if std::thread::panicking() {
            // The runner shows it together with the failed test.
            #[expect(clippy::print_stderr, reason = "for whoever reads why the test failed")]
            {
                eprintln!("--- the host said:\n{}", self.log.tail());
            }
        }
    }
}

impl Stopped {
    /// Starts it again on the same data.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(self) -> Host {
        self.setup.start().await
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.setup.data()
    }

    /// Its database.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::of(&self.setup.data(), self.setup.space.as_ref())
    }

    /// Replaces the manifest for the next start.
    pub fn write_manifest(&self, manifest: &Manifest) {
        self.setup.write_manifest(manifest);
    }
}

impl Setup {
    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        Self { folder, environment: Vec::new(), arguments: Vec::new(), shell: None, space: None }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn write_manifest(&self, manifest: &Manifest) {
        std::fs::write(self.folder.path().join("plugins.toml"), manifest.text())
            .unwrap_or_else(|error| panic!("{error}"));
    }

    fn command(&self) -> Command {
        let mut command = match &self.shell {
            None => clean_command(&guests::host_binary()),
            Some(commands) => {
                let mut shell = clean_command(Path::new("sh"));
                shell.args(["-c", &format!("{commands}; exec \"$0\" \"$@\"")]).arg(guests::host_binary());
                shell
            }
        };
        command
            .current_dir(self.folder.path())
            .args(["run", "--config", "plugins.toml", "--data", "data"])
            .args(if self.arguments.iter().any(|word| word == "--listen") { [].as_slice() } else { &ANY_PORT })
            .args(&self.arguments)
            .env("BERTH_OPERATOR_TOKEN", OPERATOR_TOKEN)
            .env("BERTH_MASTER_KEY", MASTER_KEY)
            .env("BERTH_RATE_LIMIT_PER_MINUTE", "0")
            .env("BERTH_LOG_FORMAT", "text")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    async fn start(self) -> Host {
        let turn = self.turn_to_compile();
        let host = self.open();
        let client = host.client();
        wait::eventually("the host's readiness", async || {
            let answer = client.try_send(client.request(reqwest::Method::GET, "/ready")).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        if host.setup.shares_compiled() {
            keep_compiled(&host.data());
        }
        if turn.is_some() {
            let _ = std::fs::write(compiled_store().join(ALL_COMPILED), []);
        }
        host
    }

    /// The first host with all services compiles them alone. Whoever comes meanwhile waits for what it made: several that compile
    /// the same at once are so slow that none of them starts in time.
    fn turn_to_compile(&self) -> Option<File> {
        let store = compiled_store();
        let is_warm = || store.join(ALL_COMPILED).exists();
        let text = std::fs::read_to_string(self.folder.path().join("plugins.toml")).unwrap_or_default();
        if !self.shares_compiled() || text.matches("[[plugin]]").count() < MANY_PLUGINS || is_warm() {
            return None;
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&store).ok()?;
        let turn = File::create(store.join("turn")).ok()?;
        turn.lock().ok()?;
        (!is_warm()).then_some(turn)
    }

    fn shares_compiled(&self) -> bool {
        // What was compiled is signed with the master key.
        !self.environment.iter().any(|(name, _)| name == "BERTH_MASTER_KEY")
    }

    /// Starts it and waits until it says where it listens.
    fn open(self) -> Host {
        if self.shares_compiled() {
            lend_compiled(&self.data());
        }
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("the host cannot be started: {error}"));
        let log = Arc::new(Log::default());
        if let Some(stream) = process.stdout.take() {
            log.follow(stream);
        }
        if let Some(stream) = process.stderr.take() {
            log.follow(stream);
        }
        let mut host = Host { process, log, setup: self, base: String::new() };
        let begin = Instant::now();
        while host.base.is_empty() {
            let has_ended = !matches!(host.process.try_wait(), Ok(None));
            let is_late = begin.elapsed() > START_PATIENCE;
            assert!(!has_ended && !is_late, "the host does not start:\n{}", host.log.tail());
            host.base = host.log.find(address_in, Duration::from_millis(50)).unwrap_or_default();
        }
        host
    }
}

/// A command without the variables of whoever runs the tests.
fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BERTH_")) {
        command.env_remove(name);
    }
    command
}

/// What earlier hosts compiled, so that not each of them compiles the same.
fn compiled_store() -> PathBuf {
    // Beside the built guests, for every test process; files are named by digest, and `cargo xtask test` empties it.
    guests::target().join("test-compiled")
}

fn lend_compiled(data: &Path) {
    let folder = data.join("compiled");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    if made.is_ok() {
        copy_missing(&compiled_store(), &folder);
    }
}

fn keep_compiled(data: &Path) {
    if std::fs::DirBuilder::new().recursive(true).mode(0o700).create(compiled_store()).is_ok() {
        copy_missing(&data.join("compiled"), &compiled_store());
    }
}

/// By way of a rename: another test may look at the same moment.
fn copy_missing(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (target, temporary) = (to.join(&name), to.join(format!(".{name}.{:?}", std::thread::current().id())));
        let is_whole = name.ends_with(".cwasm") || name.ends_with(".mac");
        if is_whole && !target.exists() && std::fs::copy(entry.path(), &temporary).is_ok() {
            let _ = std::fs::rename(temporary, target);
        }
    }
}

/// The lines of a process, as they come.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    has_more: Condvar,
}

impl Log {
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                log.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                log.has_more.notify_all();
            }
        });
    }

    /// Something in a line that is there or comes within `patience`.
    fn find<T>(&self, look: impl Fn(&str) -> Option<T>, patience: Duration) -> Option<T> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let found = lines.iter().find_map(|line| look(line));
        if found.is_some() {
            return found;
        }
        let (lines, _) = self.has_more.wait_timeout(lines, patience).unwrap_or_else(PoisonError::into_inner);
        lines.iter().find_map(|line| look(line))
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// After the end of the process: what is still in the pipes comes at once.
    fn text_at_end(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, _) =
            self.has_more.wait_timeout(lines, Duration::from_millis(200)).unwrap_or_else(PoisonError::into_inner);
        lines.join("\n")
    }

    fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default().join("\n")
    }
}

/// The gateway's address in a line: the first `http://127.0.0.1:<port>` that is not the metrics'.
fn address_in(line: &str) -> Option<String> {
    if line.contains("metrics") || line.contains("3090") {
        return None;
    }
    let at = line.find("http://127.0.0.1:")?;
    let rest = line.get(at + "http://127.0.0.1:".len()..)?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    port.parse::<u16>().ok().filter(|port| *port > 0).map(|port| format!("http://127.0.0.1:{port}"))
}
