//! Login providers on loopback: one as it should be, npm's `oidc-provider`, and one that answers with faults. Both run
//! in Node.js; what they need is fetched once into the target folder.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use reqwest::Url;

use crate::browser::{Browser, Page};
use crate::guests;
use crate::process::free_port;
use crate::programs;

/// How a host is known to the providers.
pub const CLIENT_ID: &str = "berth";
pub const CLIENT_SECRET: &str = "a-secret-between-host-and-provider";

/// A running provider; ended when it is dropped.
pub struct LoginProvider {
    process: Child,
    pub issuer: String,
}

impl Drop for LoginProvider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether the providers can run here. Says so clearly where they cannot.
#[must_use]
pub fn is_there() -> bool {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(fetch) {
        Ok(_) => true,
        Err(reason) => {
            programs::skipped("sign-in by OpenID Connect", reason);
            false
        }
    }
}

impl LoginProvider {
    /// A sound one that sends browsers back to these addresses.
    #[must_use]
    pub fn sound(redirects: &[&str]) -> Self {
        Self::start("sound.mjs", &[&redirects.join(",")])
    }

    /// One that does as a code tells it.
    #[must_use]
    pub fn rogue() -> Self {
        Self::start("rogue.mjs", &[])
    }

    fn start(script: &str, more: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new("node");
        command.current_dir(folder()).arg(script).arg(port.to_string()).args([CLIENT_ID, CLIENT_SECRET]).args(more);
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut process = process.unwrap_or_else(|error| panic!("node: {error}"));
        let stdout = process.stdout.take().expect("its output");
        let mut provider = Self { process, issuer: format!("http://127.0.0.1:{port}") };
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        if !lines.any(|line| line == "listening") {
            let _ = provider.process.wait();
            panic!("the login provider {script} did not start");
        }
        // It says more later, and would end if nobody listened.
        std::thread::spawn(move || lines.for_each(drop));
        provider
    }
}

/// Signs in as `name` at the sound provider and agrees to everything. Returns where the browser is sent in the end.
///
/// # Panics
/// When the provider does something else.
pub async fn sign_in(browser: &mut Browser, start: Page, name: &str, callback: &str) -> Url {
    let mut page = start;
    // A form for the name, and one for the consent where it was not given before.
    for _ in 0..3 {
        let (stays, back) = browser.follow(page, callback).await;
        if let Some(back) = back {
            return back;
        }
        let form = match stays.answer.text().contains("name=\"login\"") {
            true => format!("prompt=login&login={name}&password=any"),
            false => "prompt=consent".to_owned(),
        };
        page = browser.submit(&stays.url, &form).await;
    }
    panic!("the provider never sent the browser back");
}

fn folder() -> PathBuf {
    guests::target().join("test-providers")
}

/// Copies the scripts and fetches what they import. Several test processes may want it at once: one does it.
fn fetch() -> Result<PathBuf, String> {
    for program in ["node", "npm"] {
        if !programs::has(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    let folder = folder();
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let lock = std::fs::File::create(folder.join(".lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let from = guests::root().join("tests/providers");
    for name in ["package.json", "sound.mjs", "rogue.mjs"] {
        let text = std::fs::read(from.join(name)).map_err(|error| format!("{name}: {error}"))?;
        let to = folder.join(name);
        if std::fs::read(&to).ok().as_ref() == Some(&text) {
            continue;
        }
        if name == "package.json" {
            let _ = std::fs::remove_file(folder.join(".fetched"));
        }
        std::fs::write(&to, text).map_err(|error| format!("{name}: {error}"))?;
    }
    if !folder.join(".fetched").exists() {
        let mut npm = Command::new("npm");
        npm.current_dir(&folder).args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]);
        let output = npm.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("npm cannot fetch it: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        std::fs::write(folder.join(".fetched"), "").map_err(|error| error.to_string())?;
    }
    Ok(folder)
}
