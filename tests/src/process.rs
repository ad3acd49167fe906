//! What the system knows of a host's process, and what it can do to it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::Host;

/// A port of this machine that nobody listens on at the moment.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    address.unwrap_or_else(|error| panic!("no free port: {error}")).port()
}

/// Takes the one right to write, says so, and gives it back at the end of its input.
const LOCK_SCRIPT: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
database.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.read()
database.execute('ROLLBACK')
";

/// Somebody else's hold on a host's database; let go when it is dropped.
pub struct DatabaseLock(Child);

/// The same command in a terminal of its own, given by `script` of util-linux. What it says, on either output, is then on
/// the standard output.
#[must_use]
pub fn in_a_terminal(command: &Command) -> Command {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => terminal.env(name, value),
            None => terminal.env_remove(name),
        };
    }
    terminal
}

impl Drop for DatabaseLock {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Host {
    /// Memory that is resident, in bytes.
    ///
    /// # Panics
    /// Where the system does not tell.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.expect("VmRSS in /proc") * 1024
    }

    /// How many descriptors it has open, and how many threads.
    ///
    /// # Panics
    /// Where the system does not tell.
    #[must_use]
    pub fn descriptors_and_threads(&self) -> (usize, usize) {
        let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", self.id())).expect("/proc").count();
        (count("fd"), count("task"))
    }

    /// The limits of a process that this host has started to compile something, as `/proc` shows them; none where there is
    /// no such process now.
    #[must_use]
    pub fn limits_of_a_compilation(&self) -> Option<String> {
        let is_ours = |folder: &std::path::Path| {
            let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            let arguments = std::fs::read(folder.join("cmdline")).unwrap_or_default();
            parent.is_some_and(|parent| parent.trim() == self.id().to_string())
                && arguments.split(|byte| *byte == 0).any(|argument| argument == b"compile")
        };
        let processes = std::fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
        let found = processes.into_iter().find(|folder| is_ours(folder))?;
        std::fs::read_to_string(found.join("limits")).ok()
    }

    /// Keeps everybody from writing to its SQLite database.
    ///
    /// # Panics
    /// Where `python3` is missing, which has SQLite with it.
    #[must_use]
    pub fn lock_database(&self) -> DatabaseLock {
        let mut command = Command::new("python3");
        command.args(["-c", LOCK_SCRIPT]).arg(self.data().join("berth.db"));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("python3 is needed to lock the database: {error}"));
        let mut line = String::new();
        let said = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        assert!(matches!(said, Some(Ok(_))) && line.trim() == "held", "the database could not be locked");
        DatabaseLock(child)
    }

    /// Limits the size of every file it writes, as a full disk would; none lifts the limit again.
    ///
    /// # Panics
    /// Where `prlimit` is missing.
    pub fn limit_file_bytes(&self, bytes_max: Option<u64>) {
        let limit = bytes_max.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        // The soft limit only: the hard one could not be raised again.
        let status =
            Command::new("prlimit").arg("--pid").arg(self.id().to_string()).arg(format!("--fsize={limit}:")).status();
        assert!(status.is_ok_and(|status| status.success()), "prlimit failed");
    }
}
