//! Properties of the whole API: schemathesis sends what the served document allows and what it forbids, and judges every
//! answer by it.
//!
//! It is a Python program; it is installed below `target/` where it is missing.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{build, workspace};

/// The version whose findings are known.
const VERSION: &str = "4.32.5";
/// How long it may go on where nothing is said.
const SECONDS_DEFAULT: &str = "300";
/// How long the host may take to start: it compiles every component.
const START_TIME_MAX: Duration = Duration::from_secs(120);
/// Whoever is tested keeps these: without them nobody would be left to test with.
const ENDS_THE_TEST: &str = "/logout|change-password|deactivate|revoke-all-others|/me/sessions/|switch-organization";
/// What a host without a mail server and without a login provider answers with 503.
const NOT_CONFIGURED: &str = "forgot-password|resend-verification|google|oidc|link-|/invitations";

/// What takes a token that was mailed, or a password that somebody would choose.
const NEEDS_A_SECRET: &str = "register|reset-password|verify-email|unlink";
/// The person and the organization who are tested must stay, and so must the builds.
const KEEPS_THE_HOUSE: &str = r"^/api/(users|organizations)/\{id\}$|^/api/admin/";

/// A host of its own, ended when this goes.
struct Host {
    process: Child,
    data: PathBuf,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// `fuzz [seconds]`.
///
/// # Errors
/// When something does not compile, the host does not start, or an answer does not keep what the document promises.
pub(crate) fn fuzz(arguments: &[String]) -> Result<()> {
    let seconds = arguments.first().map_or(SECONDS_DEFAULT, String::as_str);
    if arguments.len() > 1 || !seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0) {
        bail!("fuzz takes one number: how many seconds it may go on");
    }
    let program = install()?;
    build::build_guests()?;
    build::build_host()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let base = format!("http://127.0.0.1:{port}");
    let _host = start(port, &base)?;
    let token = register(&base)?;
    let mut schemathesis = Command::new(program);
    schemathesis
        .args(["run", &format!("{base}/openapi.json"), "--checks", "all", "--max-time", seconds, "--workers", "1"])
        .args(["--phases", "examples,coverage,fuzzing", "--request-timeout", "60"])
        .args(["--exclude-path-regex", &format!("{ENDS_THE_TEST}|{NOT_CONFIGURED}|{NEEDS_A_SECRET}|{KEEPS_THE_HOUSE}")])
        // It wants 2xx for whatever fits its schema; that a task begins as to_do, or that another task is meant, no
        // schema can say.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .current_dir(workspace::target());
    workspace::run(&mut schemathesis)
}

/// The program, installed into an environment of its own.
fn install() -> Result<PathBuf> {
    let environment = workspace::target().join(format!("schemathesis-{VERSION}"));
    let program = environment.join("bin/st");
    if program.is_file() {
        return Ok(program);
    }
    if !workspace::has_program("python3") {
        bail!("python3 is missing: schemathesis is a Python program");
    }
    workspace::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let mut pip = Command::new(environment.join("bin/pip"));
    workspace::run(pip.args(["install", "--quiet", &format!("schemathesis=={VERSION}")]))?;
    Ok(program)
}

fn start(port: u16, base: &str) -> Result<Host> {
    let data = workspace::target().join(format!("fuzz-{}", std::process::id()));
    let process = Command::new(workspace::host_binary())
        .args(["run", "--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(&data)
        .current_dir(workspace::root())
        .env("BERTH_RATE_LIMIT_PER_MINUTE", "0")
        .env("BERTH_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("the host cannot be started")?;
    let host = Host { process, data };
    let began = Instant::now();
    while workspace::output(Command::new("curl").args(["-sf", &format!("{base}/ready")])).is_none() {
        if began.elapsed() > START_TIME_MAX {
            bail!("the host did not become ready");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(host)
}

/// Somebody with every right.
fn register(base: &str) -> Result<String> {
    let body =
        r#"{"email":"ada@example.com","password":"a long enough riddle 42","name":"Ada","organizationName":"Works"}"#;
    let mut curl = Command::new("curl");
    curl.args(["-sf", &format!("{base}/api/auth/register"), "-H", "content-type: application/json", "-d", body]);
    let answer = workspace::output(&mut curl).context("nobody could be registered")?;
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    Ok(answer.get("token").and_then(serde_json::Value::as_str).context("there is no token")?.to_owned())
}
