//! Properties of the whole API: schemathesis sends what the served document allows and what it forbids, and judges every
//! answer by it.
//!
//! It is a Python program; it is installed below `target/` where it is missing. What it is told is in
//! `xtask/schemathesis.toml`: every check is on, and whatever is left out of one stands there with its reason.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use berth_test_servers::{AIOSMTPD, free_ports};
use serde_json::{Value, json};

use crate::{build, workspace};

/// The version whose findings are known.
const VERSION: &str = "4.32.5";
/// How long it may go on, and how many random cases a route gets, where nothing is said.
const SECONDS_DEFAULT: u32 = 840;
const EXAMPLES_DEFAULT: u32 = 8;
/// How long the host may take to start: it compiles every component.
const START_TIME_MAX: Duration = Duration::from_secs(300);
const OWNER: &str =
    r#"{"email":"ada@example.com","password":"a long enough riddle 42","name":"Ada","organizationName":"Works"}"#;

/// A program that is ended when this goes.
struct Running(Child);

impl Running {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// A host of its own and its mail server; ended, it leaves nothing behind.
struct Host {
    process: Running,
    /// It throws away what it is given.
    _mail: Running,
    data: PathBuf,
}

impl Drop for Host {
    fn drop(&mut self) {
        // It writes until it has ended.
        self.process.end();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
struct Wishes {
    seconds: u32,
    examples: u32,
    /// Only paths that match.
    paths: Option<String>,
    /// The host and the components are those of the last build.
    is_built: bool,
    /// Further arguments of schemathesis.
    more: Vec<String>,
}

impl Wishes {
    fn read(arguments: &[String]) -> Result<Self> {
        let mut wishes = Self {
            seconds: SECONDS_DEFAULT,
            examples: EXAMPLES_DEFAULT,
            paths: None,
            is_built: false,
            more: Vec::new(),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--seconds" => wishes.seconds = number(value()?)?,
                "--examples" => wishes.examples = number(value()?)?,
                "--paths" => wishes.paths = Some(value()?.clone()),
                "--built" => wishes.is_built = true,
                "--" => wishes.more = rest.by_ref().cloned().collect(),
                other => {
                    bail!("fuzz takes --seconds, --examples, --paths, --built, and what comes behind --; not {other}")
                }
            }
        }
        Ok(wishes)
    }
}

fn number(text: &str) -> Result<u32> {
    text.parse().ok().filter(|number| *number > 0).with_context(|| format!("{text} is no number above 0"))
}

/// `fuzz [--seconds n] [--examples n] [--paths regex] [--built] [-- schemathesis arguments]`.
///
/// # Errors
/// When something does not compile, the host does not start, or an answer does not keep what the document promises.
pub(crate) fn fuzz(arguments: &[String]) -> Result<()> {
    let wishes = Wishes::read(arguments)?;
    let environment = install()?;
    let program = environment.join("bin/st");
    if !wishes.is_built {
        build::build_guests()?;
        build::build_host()?;
    }
    let [port, mail_port] = free_ports()?;
    let base = format!("http://127.0.0.1:{port}");
    let _host = start(port, &base, mail_port, &environment)?;
    let token = register(&base)?;
    furnish(&base, &token)?;
    // U+0000 apart: no schema says that a text has none, so of those requests nothing is promised but that nothing breaks.
    let runs = [("false", None), ("true", Some("positive_data_acceptance"))];
    let mut failed = Vec::new();
    for ((with_nul, left_out), seconds) in runs.into_iter().zip([wishes.seconds, (wishes.seconds / 7).max(30)]) {
        let mut running = Vec::new();
        for (name, part) in PARTS {
            let mut schemathesis = command(&program, &base, &token, &wishes, seconds);
            schemathesis.args(["--generation-allow-x00", with_nul]);
            match left_out {
                Some(check) => schemathesis.args(["--phases", "fuzzing", "--exclude-checks", check]),
                None => schemathesis.args(["--phases", "examples,coverage,fuzzing"]),
            };
            // Alone it finds the paths that were asked for; otherwise each takes its part.
            let is_whole = wishes.paths.is_some();
            schemathesis.args(["--include-path-regex", wishes.paths.as_deref().unwrap_or(part)]);
            let log = workspace::target().join(format!("fuzz-{name}-{with_nul}.log"));
            let file = std::fs::File::create(&log)?;
            schemathesis.stdout(file.try_clone()?).stderr(file).stdin(Stdio::null());
            running.push((log, schemathesis.spawn().context("schemathesis cannot be started")?));
            if is_whole {
                break;
            }
        }
        for (log, mut process) in running {
            let status = process.wait()?;
            print!("{}", String::from_utf8_lossy(&std::fs::read(&log)?));
            if !status.success() {
                failed.push(log.display().to_string());
            }
        }
    }
    if !failed.is_empty() {
        bail!("answers do not keep what the document promises: {}", failed.join(", "));
    }
    Ok(())
}

/// The document in two halves, which are tried side by side.
const PARTS: [(&str, &str); 2] = [("first", "^/api/[a-l]"), ("second", "^/(api/[m-z]|[^a]|$)")];

/// What all runs have in common.
fn command(program: &Path, base: &str, token: &str, wishes: &Wishes, seconds: u32) -> Command {
    let told = workspace::root().join("xtask");
    let mut schemathesis = Command::new(program);
    schemathesis
        .arg("--config-file")
        .arg(told.join("schemathesis.toml"))
        // Every check is on by itself; one that is named here could not be left out by the settings.
        .args(["run", &format!("{base}/openapi.json")])
        .args(["--max-time", &seconds.to_string(), "--max-examples", &wishes.examples.to_string()])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(&wishes.more)
        // Its formats are a module beside its settings.
        .env("PYTHONPATH", told)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(workspace::target());
    schemathesis
}

/// An environment of Python's with both programs.
fn install() -> Result<PathBuf> {
    let environment = workspace::target().join(format!("schemathesis-{VERSION}-aiosmtpd-{AIOSMTPD}"));
    if environment.join("bin/st").is_file() && environment.join("bin/aiosmtpd").is_file() {
        return Ok(environment);
    }
    if !workspace::has_program("python3") {
        bail!("python3 is missing: schemathesis is a Python program");
    }
    workspace::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--quiet"]);
    pip.args([format!("schemathesis=={VERSION}"), format!("aiosmtpd=={AIOSMTPD}")]);
    workspace::run(&mut pip)?;
    Ok(environment)
}

fn start(port: u16, base: &str, mail_port: u16, environment: &Path) -> Result<Host> {
    let mail_address = format!("127.0.0.1:{mail_port}");
    let mail = Command::new(environment.join("bin/aiosmtpd"))
        .args(["--nosetuid", "--listen", &mail_address, "--class", "aiosmtpd.handlers.Sink"])
        .stdin(Stdio::null())
        .spawn()
        .context("the mail server cannot be started")?;
    let mail = Running(mail);
    let data = workspace::target().join(format!("fuzz-{}", std::process::id()));
    let process = Command::new(workspace::host_binary())
        .args(["run", "--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(&data)
        .current_dir(workspace::root())
        .env("BERTH_RATE_LIMIT_PER_MINUTE", "0")
        .env("BERTH_LOG", "warn")
        .env("BERTH_PUBLIC_URL", base)
        .env("BERTH_SMTP_URL", format!("smtp://{mail_address}"))
        .env("BERTH_MAIL_FROM", "berth@example.com")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("the host cannot be started")?;
    let host = Host { process: Running(process), _mail: mail, data };
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
    let answer = post(base, None, "/api/auth/register", OWNER)?;
    Ok(answer.get("token").and_then(Value::as_str).with_context(|| format!("there is no token: {answer}"))?.to_owned())
}

/// Something of what most routes are about, so that there are ids to find: the tool takes them from answers.
fn furnish(base: &str, token: &str) -> Result<()> {
    let make = |path: &str, body: Value| {
        let answer = post(base, Some(token), path, &body.to_string())?;
        let id = answer.get("id").and_then(Value::as_str);
        Ok::<_, anyhow::Error>(id.with_context(|| format!("POST {path} made nothing: {answer}"))?.to_owned())
    };
    let project = make("/api/projects", json!({ "name": "Pier" }))?;
    make("/api/tasks", json!({ "projectId": project, "title": "Drive the first pile" }))?;
    make("/api/teams", json!({ "name": "Divers" }))?;
    make("/api/knowledge", json!({ "title": "Tides", "content": "High water comes twice a day." }))?;
    make("/api/prompts", json!({ "name": "greeting", "content": "Hello {{name}}" }))?;
    make("/api/secrets", json!({ "name": "tide-table", "type": "API_KEY", "value": "12:07" }))?;
    Ok(())
}

/// The answer, whatever its status.
fn post(base: &str, token: Option<&str>, path: &str, body: &str) -> Result<Value> {
    let mut curl = Command::new("curl");
    curl.args(["-s", &format!("{base}{path}"), "-H", "content-type: application/json", "-d", body]);
    if let Some(token) = token {
        curl.args(["-H", &format!("authorization: Bearer {token}")]);
    }
    let answer = workspace::output(&mut curl).with_context(|| format!("POST {path} was not answered"))?;
    serde_json::from_str(&answer).with_context(|| format!("POST {path} was answered by {answer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Wishes> {
        Wishes::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_line_is_read_whole() {
        let wishes = read("--seconds 60 --paths ^/api/plans --built -- --seed 7").unwrap();
        assert_eq!((wishes.seconds, wishes.examples, wishes.is_built), (60, EXAMPLES_DEFAULT, true));
        assert_eq!(
            (wishes.paths.as_deref(), wishes.more.as_slice()),
            (Some("^/api/plans"), &["--seed".to_owned(), "7".to_owned()][..])
        );
        for bad in ["--seconds", "--seconds 0", "--examples many", "300"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
