//! The host that `dev` works with: the one that answers, or else one of its own that ends with it.

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use tokio::process::{Child, Command};

use super::super::client::{http_client, reason};
use super::super::source::is_loopback;
use super::super::{CommandError, output};

/// Compiling the services takes long on a small machine.
const START_PATIENCE: Duration = Duration::from_secs(300);
/// The longest drain, and a margin.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// A host that this process has started.
pub(super) struct OwnHost(Child);

/// Starts one unless one answers at the URL.
///
/// # Errors
/// When nobody answers and the place is not this machine's, or when the host does not start.
pub(super) async fn start_unless_there(url: &str) -> Result<Option<OwnHost>, CommandError> {
    let http = http_client(Policy::none())?;
    let place: reqwest::Url = url
        .parse()
        .map_err(|_| CommandError::usage(format!("\"{url}\" is not the URL of a host, as http://127.0.0.1:3000")))?;
    let Err(error) = http.get(place.clone()).send().await else { return Ok(None) };
    let host = place.host_str().filter(|host| place.scheme() == "http" && is_loopback(host));
    let Some(host) = host.filter(|_| error.is_connect()) else {
        return Err(CommandError::Unreachable { url: url.to_owned(), reason: reason(&error) });
    };
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    let listen = format!("{host}:{}", place.port_or_known_default().unwrap_or(80));
    output::say(&format!("no host answers at {url}: starting one"));
    let program = std::env::current_exe()
        .map_err(|error| CommandError::failed(format!("this program cannot be found again: {error}")))?;
    // A group of its own: a Ctrl-C at the terminal reaches this process only, which then asks the host once.
    let child = Command::new(program)
        .args(["run", "--listen", &listen])
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| CommandError::failed(format!("a host cannot be started: {error}")))?;
    let mut host = OwnHost(child);
    let ready = place.join("/ready").unwrap_or(place);
    let begin = Instant::now();
    while begin.elapsed() < START_PATIENCE {
        if let Ok(Some(status)) = host.0.try_wait() {
            return Err(has_ended(status));
        }
        if http.get(ready.clone()).send().await.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(Some(host));
        }
        tokio::time::sleep(POLL).await;
    }
    host.stop().await;
    Err(CommandError::failed(format!("the host that was started is not ready after {} s", START_PATIENCE.as_secs())))
}

impl OwnHost {
    /// Waits for its end, which nobody asked for.
    pub(super) async fn ended(&mut self) -> CommandError {
        match self.0.wait().await {
            Ok(status) => has_ended(status),
            Err(error) => CommandError::failed(format!("the host that was started is lost: {error}")),
        }
    }

    /// Asks it to end and waits for that.
    pub(super) async fn stop(mut self) {
        let id = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let _ = tokio::time::timeout(STOP_PATIENCE, self.0.wait()).await;
    }
}

fn has_ended(status: ExitStatus) -> CommandError {
    CommandError::failed(format!("the host that was started has ended ({status})"))
}
