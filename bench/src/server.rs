//! Starting servers on one core and finding out where they listen.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

const START_PATIENCE: Duration = Duration::from_secs(120);

/// A server that ends with its owner.
pub(crate) struct Server {
    process: Child,
    /// Address and port.
    pub address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // By its id and no other; it has nothing to lose.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Starts a program on `core` and waits until it says where it listens.
    pub(crate) fn start(core: Option<usize>, program: &Path, configure: impl FnOnce(&mut Command)) -> Result<Self> {
        let mut command = pinned(core, program);
        configure(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        let (sender, receiver) = mpsc::channel();
        if let Some(stdout) = process.stdout.take() {
            follow(stdout, sender.clone());
        }
        if let Some(stderr) = process.stderr.take() {
            follow(stderr, sender);
        }
        let mut server = Self { process, address: String::new() };
        let mut last = String::new();
        while let Ok(line) = receiver.recv_timeout(START_PATIENCE) {
            if let Some(address) = address_in(&line) {
                server.address = address;
                return Ok(server);
            }
            last = line;
        }
        bail!("{} does not start: {last}", program.display())
    }
}

/// Lines to the channel; when nobody listens any more they are still read, so that the server does not block.
fn follow(stream: impl std::io::Read + Send + 'static, sender: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
}

/// The first `http://address:port` of a line.
fn address_in(line: &str) -> Option<String> {
    let rest = line.split_once("http://")?.1;
    let end =
        rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '[' | ']'))).unwrap_or(rest.len());
    let address = rest.get(..end)?;
    address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()).then(|| address.to_owned())
}

/// The program, on one core where the system has `taskset`.
pub(crate) fn pinned(core: Option<usize>, program: &Path) -> Command {
    match core {
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", &core.to_string()]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Server core and load core: none where they cannot be kept apart.
pub(crate) fn cores() -> (Option<usize>, Option<usize>) {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let has_taskset = Command::new("taskset").arg("--version").output().is_ok_and(|output| output.status.success());
    if has_taskset && count >= 2 { (Some(0), Some(1)) } else { (None, None) }
}

#[cfg(test)]
mod tests {
    use super::address_in;

    #[test]
    fn the_address_is_found_in_a_line() {
        assert_eq!(address_in("http://127.0.0.1:3000").as_deref(), Some("127.0.0.1:3000"));
        assert_eq!(address_in("Serving HTTP on http://0.0.0.0:8080/").as_deref(), Some("0.0.0.0:8080"));
        assert_eq!(address_in("gateway \"http://127.0.0.1:5\", x").as_deref(), Some("127.0.0.1:5"));
        assert_eq!(address_in("https only"), None);
    }
}
