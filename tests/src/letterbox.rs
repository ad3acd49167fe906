//! A mail server on loopback: it speaks SMTP with whoever connects and keeps what it was given.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::wait::eventually;

/// Bytes of one conversation.
const BYTES_MAX: u64 = 1 << 20;

/// Everything that has arrived.
pub struct Letterbox {
    /// `smtp://127.0.0.1:<port>`.
    pub url: String,
    letters: Arc<Mutex<Vec<Letter>>>,
}

/// One mail.
#[derive(Clone, Debug)]
pub struct Letter {
    pub to: Vec<String>,
    /// Header and body as they came, with soft line breaks undone.
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
    /// Opens one.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for mail");
        let url = format!("smtp://{}", listener.local_addr().expect("its address"));
        let letters = Arc::new(Mutex::new(Vec::new()));
        let inbox = Arc::clone(&letters);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inbox = Arc::clone(&inbox);
                tokio::spawn(async move { converse(stream, &inbox).await });
            }
        });
        Self { url, letters }
    }

    /// Waits for the newest mail to an address whose subject contains `subject`, when there are `count` of them.
    pub async fn letter(&self, to: &str, subject: &str, count: usize) -> Letter {
        let heading = format!("Subject: {subject}");
        eventually(&format!("mail {count} about {subject:?} to {to}"), async || {
            let letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = |letter: &&Letter| letter.to.iter().any(|own| own == to) && letter.text.contains(&heading);
            let found: Vec<&Letter> = letters.iter().filter(fits).collect();
            (found.len() >= count).then(|| found.last().map(|letter| (*letter).clone())).flatten()
        })
        .await
    }

    /// How many mails have come for an address.
    #[must_use]
    pub fn count(&self, to: &str) -> usize {
        let letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.iter().filter(|letter| letter.to.iter().any(|own| own == to)).count()
    }
}

async fn converse(stream: TcpStream, inbox: &Mutex<Vec<Letter>>) -> Option<()> {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut lines = BufReader::new(reader.take(BYTES_MAX)).lines();
    let (mut to, mut text, mut in_data) = (Vec::new(), String::new(), false);
    writer.write_all(b"220 letterbox\r\n").await.ok()?;
    while let Ok(Some(line)) = lines.next_line().await {
        if in_data && line != "." {
            // A dot at the beginning was doubled on the way; "=" at the end is a soft line break.
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
            text.push('\n');
            continue;
        }
        let command: String = line.chars().take(4).collect::<String>().to_ascii_uppercase();
        let reply = match command.as_str() {
            _ if in_data => {
                in_data = false;
                let text = std::mem::take(&mut text).replace("=\n", "").replace("=3D", "=");
                let letter = Letter { to: std::mem::take(&mut to), text };
                inbox.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
                "250 kept\r\n"
            }
            "RCPT" => {
                to.extend(line.split(['<', '>']).nth(1).map(str::to_owned));
                "250 ok\r\n"
            }
            "DATA" => {
                in_data = true;
                "354 go on\r\n"
            }
            "QUIT" => {
                writer.write_all(b"221 bye\r\n").await.ok()?;
                return None;
            }
            _ => "250 ok\r\n",
        };
        writer.write_all(reply.as_bytes()).await.ok()?;
    }
    None
}
