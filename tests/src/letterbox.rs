//! A mail server on loopback, `aiosmtpd` from PyPI, and the mails that it was given. It is a Python program, installed below
//! `target/` where it is missing.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use berth_test_servers::AIOSMTPD;
use mailparse::{MailHeaderMap as _, ParsedMail, parse_mail};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::process::free_port;
use crate::programs;
use crate::wait::eventually;

/// A running mail server; ended when it is dropped.
pub struct Letterbox {
    /// `smtp://127.0.0.1:<port>`.
    pub url: String,
    /// Where it keeps mails, as a Maildir.
    folder: TempDir,
    process: Child,
}

impl Drop for Letterbox {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One mail.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Whom the envelope names.
    pub to: Vec<String>,
    pub subject: String,
    /// Its texts, as whoever reads it sees them, with line ends of one character.
    pub text: String,
}

impl Letter {
    /// What follows `token=` in the mail's link.
    ///
    /// # Panics
    /// When there is no link.
    #[must_use]
    pub fn token(&self) -> String {
        let (_, rest) = self.text.split_once("token=").unwrap_or_else(|| panic!("no link in {}", self.text));
        rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')).collect()
    }
}

impl Letterbox {
    /// Opens one. None where there is no Python, which it says.
    ///
    /// # Panics
    /// When it cannot be installed or does not start.
    pub async fn open() -> Option<Self> {
        if !programs::has("python3") {
            programs::skipped("what is mailed", "python3 is not installed");
            return None;
        }
        let installed = tokio::task::spawn_blocking(|| programs::python("aiosmtpd", AIOSMTPD)).await;
        let python = installed.unwrap_or_else(|error| panic!("aiosmtpd: {error}"));
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder for mails: {error}"));
        let port = free_port();
        let mut command = Command::new(python);
        command
            .args(["-m", "aiosmtpd", "--nosetuid", "--listen", &format!("127.0.0.1:{port}")])
            .args(["--class", "aiosmtpd.handlers.Mailbox"])
            .arg(maildir(folder.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let process = command.spawn().unwrap_or_else(|error| panic!("aiosmtpd: {error}"));
        let letterbox = Self { url: format!("smtp://127.0.0.1:{port}"), folder, process };
        eventually("the mail server listening", async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok())
            .await;
        Some(letterbox)
    }

    /// Waits for the newest mail to an address whose subject contains `subject`, when there are `count` of them.
    pub async fn letter(&self, to: &str, subject: &str, count: usize) -> Letter {
        eventually(&format!("mail {count} about {subject:?} to {to}"), async || {
            let fits = |letter: &Letter| letter.to.iter().any(|own| own == to) && letter.subject.contains(subject);
            let mut found: Vec<Letter> = self.letters().into_iter().filter(fits).collect();
            (found.len() >= count).then(|| found.pop()).flatten()
        })
        .await
    }

    /// How many mails have come for an address.
    #[must_use]
    pub fn count(&self, to: &str) -> usize {
        self.letters().iter().filter(|letter| letter.to.iter().any(|own| own == to)).count()
    }

    /// Every mail so far, the oldest first.
    #[must_use]
    pub fn letters(&self) -> Vec<Letter> {
        // A mail is moved in whole, and stays.
        let Ok(entries) = std::fs::read_dir(maildir(self.folder.path()).join("new")) else { return Vec::new() };
        let mut files: Vec<_> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                Some((path.metadata().ok()?.modified().ok()?, path))
            })
            .collect();
        files.sort();
        files.iter().map(|(_, path)| letter(path)).collect()
    }
}

fn maildir(folder: &Path) -> PathBuf {
    folder.join("mails")
}

fn letter(path: &Path) -> Letter {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mail = parse_mail(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let header = |name: &str| mail.headers.get_first_value(name).unwrap_or_default();
    let is_text = |part: &&ParsedMail<'_>| part.ctype.mimetype.starts_with("text/");
    let texts: Vec<String> = mail.parts().filter(is_text).filter_map(|part| part.get_body().ok()).collect();
    Letter {
        // The server writes it down; the mail itself may name others.
        to: header("X-RcptTo").split(", ").map(str::to_owned).collect(),
        subject: header("Subject"),
        text: texts.join("\n").replace("\r\n", "\n"),
    }
}
