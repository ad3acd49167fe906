//! Running one command: a clean environment, a folder of its own, a deadline, and a bound on what it may say.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::step::{Invocation, Programs, Step};
use super::{Stop, folder};

/// Bytes of standard output and of standard error, each: together at most a mebibyte. What is over is read and dropped.
const STREAM_BYTES_MAX: usize = 512 * 1024;
/// After the command has ended, for what its own children still write.
const TAIL_PATIENCE: Duration = Duration::from_millis(500);

/// What came of a step.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The command ran to its end.
    Ended { exit_code: Option<i32>, stdout: Captured, stderr: Captured, duration: Duration },
    /// It was ended: by the deadline or because the worker stops.
    Cut { reason: &'static str, stdout: Captured, stderr: Captured, duration: Duration },
    /// It was not started; a sentence.
    Refused(String),
}

/// The beginning of a stream.
#[derive(Debug, Default)]
pub(super) struct Captured {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Outcome {
    /// `completed` or `failed`, as the host wants it.
    pub(super) fn word(&self) -> &'static str {
        if matches!(self, Self::Ended { exit_code: Some(0), .. }) { "completed" } else { "failed" }
    }

    /// The step's output.
    pub(super) fn output(&self) -> Value {
        match self {
            Self::Ended { exit_code, stdout, stderr, duration } => json!({
                "exitCode": exit_code,
                "stdout": stdout.text(),
                "stderr": stderr.text(),
                "truncated": stdout.is_cut || stderr.is_cut,
                "durationMs": milliseconds(*duration),
            }),
            Self::Cut { reason, stdout, stderr, duration } => json!({
                "error": reason,
                "stdout": stdout.text(),
                "stderr": stderr.text(),
                "truncated": stdout.is_cut || stderr.is_cut,
                "durationMs": milliseconds(*duration),
            }),
            Self::Refused(sentence) => json!({ "error": sentence }),
        }
    }

    /// For the person at the terminal.
    pub(super) fn described(&self) -> String {
        match self {
            Self::Ended { exit_code: Some(0), .. } => "completed".to_owned(),
            Self::Ended { exit_code: Some(code), .. } => format!("failed with exit status {code}"),
            Self::Ended { exit_code: None, .. } => "ended by a signal".to_owned(),
            Self::Cut { reason, .. } => (*reason).to_owned(),
            Self::Refused(sentence) => sentence.clone(),
        }
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Runs a step to its end, its deadline or the worker's.
pub(super) async fn execute(step: &Step, programs: &Programs, root: &Path, stop: watch::Receiver<Stop>) -> Outcome {
    let prepared = step.invocation(programs).and_then(|invocation| {
        let folder = folder::for_step(root, &step.execution_id, invocation.working_directory.as_deref())?;
        let child = start(&invocation, &folder)?;
        Ok((invocation, child))
    });
    match prepared {
        Ok((invocation, child)) => watch_over(child, invocation.timeout, stop).await,
        Err(sentence) => Outcome::Refused(sentence),
    }
}

fn start(invocation: &Invocation, folder: &Path) -> Result<Child, String> {
    let mut command = Command::new(&invocation.program);
    command.args(&invocation.arguments).current_dir(folder).env_clear();
    // Enough for programs to find each other; nothing of this worker's own, such as its token.
    for name in ["PATH", "LANG", "LC_ALL", "TZ"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("HOME", folder).envs(&invocation.environment);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that its children end with it and a Ctrl-C at the terminal reaches only the worker.
    command.process_group(0).kill_on_drop(true);
    command.spawn().map_err(|error| format!("the command cannot be started: {error}"))
}

async fn watch_over(mut child: Child, timeout: Duration, mut stop: watch::Receiver<Stop>) -> Outcome {
    let begin = Instant::now();
    let (mut stdout, mut stderr) = (Captured::default(), Captured::default());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let group = child.id();
    let mut reading = Box::pin(async { tokio::join!(capture(out, &mut stdout), capture(err, &mut stderr)) });
    let mut is_read = false;
    let ended: Result<std::io::Result<ExitStatus>, &'static str> = {
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                status = child.wait() => break Ok(status),
                _ = &mut reading, if !is_read => is_read = true,
                () = &mut deadline => break Err("the command took longer than its timeout"),
                _ = stop.wait_for(|stop| *stop == Stop::Now) => break Err("the worker was stopped"),
            }
        }
    };
    // Also after a regular end: what the command left running must not outlive its step.
    end_group(group);
    if ended.is_err() {
        let _ = child.wait().await;
    }
    if !is_read {
        let _ = tokio::time::timeout(TAIL_PATIENCE, &mut reading).await;
    }
    drop(reading);
    let duration = begin.elapsed();
    match ended {
        Ok(Ok(status)) => Outcome::Ended { exit_code: status.code(), stdout, stderr, duration },
        Ok(Err(_)) => Outcome::Cut { reason: "the command's end could not be observed", stdout, stderr, duration },
        Err(reason) => Outcome::Cut { reason, stdout, stderr, duration },
    }
}

fn end_group(group: Option<u32>) {
    let group = group.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // It may be gone already.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

async fn capture(stream: Option<impl AsyncRead + Unpin>, captured: &mut Captured) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        let room = STREAM_BYTES_MAX - captured.bytes.len();
        captured.is_cut |= count > room;
        captured.bytes.extend_from_slice(buffer.get(..count.min(room)).unwrap_or_default());
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(allow: &[&str], params: Value, stop: watch::Receiver<Stop>) -> (Outcome, tempfile::TempDir) {
        let allow: Vec<String> = allow.iter().map(|name| (*name).to_owned()).collect();
        let programs = Programs::find(&allow).expect("programs");
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder::make_root(folder.path()).expect("a root");
        let lease = json!({"executionId": "e", "stepId": "s", "leaseToken": "t", "params": params});
        let step = Step::read(&lease).expect("a step");
        (execute(&step, &programs, &root, stop).await, folder)
    }

    #[tokio::test]
    async fn a_command_gets_its_arguments_unchanged_and_a_clean_environment() {
        let (_sender, stop) = watch::channel(Stop::No);
        let (outcome, _folder) =
            run(&["echo"], json!({"command": "echo", "args": ["$HOME", "a  b"]}), stop.clone()).await;
        assert_eq!(outcome.word(), "completed");
        assert_eq!(outcome.output()["stdout"], "$HOME a  b\n");
        let (outcome, folder) = run(&["env"], json!({"command": "env", "environment": {"GREETING": "hi"}}), stop).await;
        let text = outcome.output()["stdout"].as_str().expect("text").to_owned();
        assert!(text.contains("GREETING=hi") && !text.contains("CARGO"), "{text}");
        let home = folder.path().canonicalize().expect("real").join("e");
        assert!(text.contains(&format!("HOME={}", home.display())), "{text}");
    }

    #[tokio::test]
    async fn a_command_that_fails_says_how() {
        let (_sender, stop) = watch::channel(Stop::No);
        let (outcome, _folder) = run(&["ls"], json!({"command": "ls", "args": ["nowhere-at-all"]}), stop.clone()).await;
        assert_eq!(outcome.word(), "failed");
        assert!(outcome.output()["exitCode"].as_i64().is_some_and(|code| code != 0));
        assert!(outcome.output()["stderr"].as_str().is_some_and(|text| text.contains("nowhere-at-all")));
        let (outcome, _folder) = run(&["ls"], json!({"command": "cat"}), stop).await;
        assert!(matches!(outcome, Outcome::Refused(_)));
    }

    #[tokio::test]
    async fn a_command_ends_at_its_deadline() {
        let (_sender, stop) = watch::channel(Stop::No);
        let (outcome, _folder) =
            run(&["sleep"], json!({"command": "sleep", "args": ["600"], "timeoutMs": 50}), stop).await;
        assert!(
            matches!(outcome, Outcome::Cut { reason: "the command took longer than its timeout", .. }),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn a_worker_that_must_stop_now_ends_the_command() {
        let (sender, stop) = watch::channel(Stop::Now);
        let (outcome, _folder) = run(&["sleep"], json!({"command": "sleep", "args": ["600"]}), stop).await;
        assert!(matches!(outcome, Outcome::Cut { reason: "the worker was stopped", .. }), "{outcome:?}");
        drop(sender);
    }

    #[tokio::test]
    async fn output_is_bounded() {
        let (_sender, stop) = watch::channel(Stop::No);
        let params = json!({"command": "head", "args": ["-c", "3000000", "/dev/zero"]});
        let (outcome, _folder) = run(&["head"], params, stop).await;
        let output = outcome.output();
        assert_eq!((output["truncated"].as_bool(), outcome.word()), (Some(true), "completed"));
        assert_eq!(output["stdout"].as_str().map(str::len), Some(STREAM_BYTES_MAX));
    }
}
