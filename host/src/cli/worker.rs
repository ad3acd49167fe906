//! `worker`: leases `command` steps from a host and runs them on this machine.
//!
//! It runs only programs that `--allow` names, never through a shell, and only in folders below its own. The host decides
//! what is to be done; this machine's owner decides what may be done.

mod credentials;
mod execute;
mod folder;
mod step;

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::CommandError;
use super::client::segment;
use super::inspect::text;
use super::output;
use credentials::Session;
use execute::Outcome;
use step::{Programs, Step};

/// The lease lasts 60 seconds: two heartbeats may be lost.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Between two questions for work, when there was none.
const IDLE: Duration = Duration::from_secs(1);
/// After the host could not be reached: doubled each time up to this.
const TROUBLE_MAX: Duration = Duration::from_secs(30);
/// Attempts to post a result before it is given up; the lease is over by then.
const RESULT_ATTEMPTS: u32 = 8;

#[derive(Debug, clap::Args)]
pub(super) struct WorkerArguments {
    /// Programs that steps may run, by name
    #[arg(long, value_name = "CMD", required = true, num_args = 1.., value_delimiter = ',')]
    allow: Vec<String>,
    /// The folder below which steps run
    #[arg(long, value_name = "DIR", default_value = "./worker")]
    dir: PathBuf,
    /// What the host shows for this worker [default: the machine's name]
    #[arg(long)]
    name: Option<String>,
    /// The host
    #[arg(long, env = "BERTH_URL", default_value = "http://127.0.0.1:3000", hide_env_values = true)]
    url: String,
    /// A file with the user's token, or with the JSON that a login answered, which is then kept fresh [or BERTH_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// How far the wish to stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Stop {
    No,
    /// Finish the step, take no other.
    AfterStep,
    /// End the step as well.
    Now,
}

pub(super) async fn work(arguments: WorkerArguments) -> Result<(), CommandError> {
    let programs = Programs::find(&arguments.allow)?;
    let root = folder::make_root(&arguments.dir)?;
    let session = Session::open(&arguments.url, arguments.token_file.clone())?;
    let stop = watch_signals()?;
    let name = arguments.name.unwrap_or_else(machine_name);
    let labels = json!({ "commands": programs.names().collect::<Vec<_>>().join(" ") });
    let registration = json!({ "name": name, "kinds": ["command"], "labels": labels });
    let answer = session.send(Method::POST, "/api/executions/workers", Some(&registration)).await?;
    if !answer.status.is_success() {
        return Err(answer.refusal());
    }
    let id = text(&answer.body, "id").ok_or_else(|| CommandError::failed("the host gave the worker no id"))?.to_owned();
    output::say(&format!("worker {name} ({id}) waits for: {}", programs.names().collect::<Vec<_>>().join(", ")));
    let worker = Worker { session, path: format!("/api/executions/workers/{}", segment(&id)), programs, root, stop };
    let ended = worker.run().await;
    // A worker that cannot say goodbye is forgotten by the host after its last heartbeat.
    let _ = worker.session.send(Method::DELETE, &worker.path, None).await;
    ended
}

struct Worker {
    session: Session,
    /// The worker's own path.
    path: String,
    programs: Programs,
    root: PathBuf,
    stop: watch::Receiver<Stop>,
}

impl Worker {
    /// Leases and heartbeats side by side, until a signal or a refusal that waiting does not heal.
    async fn run(&self) -> Result<(), CommandError> {
        tokio::select! {
            ended = self.lease_steps() => ended,
            error = self.keep_alive() => Err(error),
        }
    }

    /// Only ends with a refusal: a host that cannot be reached may come back.
    async fn keep_alive(&self) -> CommandError {
        let path = format!("{}/heartbeat", self.path);
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            match self.session.send(Method::PUT, &path, Some(&json!({}))).await {
                Ok(answer) if is_final(answer.status) => return answer.refusal(),
                Ok(_) | Err(CommandError::Unreachable { .. }) => {}
                Err(error) => return error,
            }
        }
    }

    async fn lease_steps(&self) -> Result<(), CommandError> {
        let path = format!("{}/lease", self.path);
        let mut trouble = IDLE;
        while *self.stop.borrow() == Stop::No {
            match self.session.send(Method::POST, &path, Some(&json!({}))).await {
                Ok(answer) if answer.status == StatusCode::OK => {
                    trouble = IDLE;
                    self.handle(&answer.body).await;
                    continue;
                }
                Ok(answer) if answer.status == StatusCode::NO_CONTENT => {
                    trouble = IDLE;
                    self.pause(IDLE).await;
                }
                Ok(answer) if is_final(answer.status) => return Err(answer.refusal()),
                Ok(_) | Err(CommandError::Unreachable { .. }) => {
                    self.pause(trouble).await;
                    trouble = (trouble * 2).min(TROUBLE_MAX);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Runs one leased step and posts its result.
    async fn handle(&self, lease: &Value) {
        let Some(step) = Step::read(lease) else {
            output::complain("the host leased a step that cannot be read; its lease will expire");
            return;
        };
        output::say(&format!("step {} of {}: {}", step.id, step.execution_id, step.described()));
        let outcome = execute::execute(&step, &self.programs, &self.root, self.stop.clone()).await;
        output::say(&format!("step {} of {}: {}", step.id, step.execution_id, outcome.described()));
        self.post(&step, &outcome).await;
    }

    async fn post(&self, step: &Step, outcome: &Outcome) {
        let path = format!("/api/executions/{}/steps/{}/complete", segment(&step.execution_id), segment(&step.id));
        let body = json!({ "leaseToken": step.lease_token, "outcome": outcome.word(), "output": outcome.output() });
        let mut wait = IDLE;
        for _ in 0..RESULT_ATTEMPTS {
            match self.session.send(Method::POST, &path, Some(&body)).await {
                Ok(answer) if answer.status.is_success() => return,
                Ok(answer) if answer.status.is_client_error() && answer.status != StatusCode::TOO_MANY_REQUESTS => {
                    output::complain(&format!("the result of step {} was not taken: {}", step.id, answer.refusal()));
                    return;
                }
                Ok(_) | Err(_) => tokio::time::sleep(wait).await,
            }
            wait = (wait * 2).min(TROUBLE_MAX);
        }
        output::complain(&format!("the result of step {} could not be posted", step.id));
    }

    /// Waits, or less when a signal comes.
    async fn pause(&self, duration: Duration) {
        let mut stop = self.stop.clone();
        let _ = tokio::time::timeout(duration, stop.wait_for(|stop| *stop != Stop::No)).await;
    }
}

/// Whether asking again is of no use: not signed in, not allowed, or forgotten by the host.
fn is_final(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST)
}

/// The first signal asks to stop after the step, the second one at once.
fn watch_signals() -> Result<watch::Receiver<Stop>, CommandError> {
    let failed = |error: std::io::Error| CommandError::failed(format!("signals cannot be watched: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let (sender, receiver) = watch::channel(Stop::No);
    tokio::spawn(async move {
        for wish in [Stop::AfterStep, Stop::Now] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if sender.send(wish).is_err() {
                return;
            }
        }
        // Kept, so that the receivers do not see the channel close.
        std::future::pending::<()>().await;
    });
    Ok(receiver)
}

fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain: String =
        name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')).take(64).collect();
    if plain.is_empty() { "worker".to_owned() } else { plain }
}
