//! The user's token: given as it is, or as the answer of a login that can be refreshed.
//!
//! A refresh token works once. The file is rewritten before the new token is used, so that a worker that is killed
//! afterwards can still sign in.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::super::CommandError;
use super::super::client::{Answer, Client, read_token};
use super::super::inspect::text;

/// A signed-in client that renews its token when it expires.
pub(super) struct Session {
    state: Mutex<State>,
    file: Option<PathBuf>,
}

struct State {
    client: Client,
    token: String,
    refresh_token: Option<String>,
}

/// What stands in a token file.
struct Credentials {
    token: String,
    refresh_token: Option<String>,
}

impl Session {
    /// # Errors
    /// When there is no token.
    pub(super) fn open(url: &str, file: Option<PathBuf>) -> Result<Self, CommandError> {
        let credentials = match &file {
            Some(file) => read(file)?,
            None => Credentials { token: from_environment()?, refresh_token: None },
        };
        let client = Client::new(url, credentials.token.clone())?;
        let state = State { client, token: credentials.token, refresh_token: credentials.refresh_token };
        Ok(Self { state: Mutex::new(state), file })
    }

    /// Sends a request; when the token has expired, renews it and sends the request once more.
    pub(super) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, CommandError> {
        let (client, token) = {
            let state = self.state.lock().await;
            (state.client.clone(), state.token.clone())
        };
        let answer = client.exchange(method.clone(), path, body).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match self.renew(&token).await? {
            Some(client) => client.exchange(method, path, body).await,
            None => Ok(answer),
        }
    }

    /// A client with a newer token than `expired`, when there is one to be had.
    async fn renew(&self, expired: &str) -> Result<Option<Client>, CommandError> {
        let mut state = self.state.lock().await;
        if state.token != expired {
            // Somebody else renewed it meanwhile.
            return Ok(Some(state.client.clone()));
        }
        let Some(file) = &self.file else { return Ok(None) };
        let fresh = match state.refresh_token.clone() {
            Some(refresh_token) => {
                let body = json!({ "refreshToken": refresh_token });
                let answer = state.client.exchange(Method::POST, "/api/auth/refresh", Some(&body)).await?;
                if !answer.status.is_success() {
                    return Ok(None);
                }
                let fresh =
                    credentials_of(&answer.body).ok_or_else(|| CommandError::failed("the host gave no new token"))?;
                write(file, &answer.body)?;
                fresh
            }
            // Whoever started the worker may have put a new token there.
            None => read(file)?,
        };
        if fresh.token == expired {
            return Ok(None);
        }
        state.token.clone_from(&fresh.token);
        state.refresh_token = fresh.refresh_token;
        state.client.set_token(fresh.token);
        Ok(Some(state.client.clone()))
    }
}

fn from_environment() -> Result<String, CommandError> {
    std::env::var("BERTH_TOKEN")
        .ok()
        .map(|token| token.trim().to_owned())
        .filter(|token| !token.is_empty())
        .ok_or_else(|| CommandError::usage("no token: give --token-file or BERTH_TOKEN"))
}

fn read(file: &Path) -> Result<Credentials, CommandError> {
    let content = read_token(file)
        .map_err(|error| CommandError::usage(format!("the token file {} cannot be read: {error}", file.display())))?;
    if !content.starts_with('{') {
        return Ok(Credentials { token: content, refresh_token: None });
    }
    serde_json::from_str(&content)
        .ok()
        .and_then(|document| credentials_of(&document))
        .ok_or_else(|| CommandError::usage(format!("the token file {} holds no token", file.display())))
}

fn credentials_of(document: &Value) -> Option<Credentials> {
    let token = text(document, "token")?.to_owned();
    Some(Credentials { token, refresh_token: text(document, "refreshToken").map(str::to_owned) })
}

/// Replaces the file by way of a rename; readable by its owner only.
fn write(file: &Path, login: &Value) -> Result<(), CommandError> {
    let document = json!({ "token": login.get("token"), "refreshToken": login.get("refreshToken") });
    let temporary = file.with_extension("new");
    let replace = || -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut handle = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        handle.write_all(document.to_string().as_bytes())?;
        handle.sync_all()?;
        std::fs::rename(&temporary, file)
    };
    replace()
        .map_err(|error| CommandError::failed(format!("the token file {} cannot be written: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_is_a_token_or_a_login() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, " abc\n").expect("written");
        assert_eq!(read(&file).expect("a token").token, "abc");
        write(&file, &json!({"token": "t", "refreshToken": "r", "user": {"id": "u"}})).expect("written");
        let credentials = read(&file).expect("a login");
        assert_eq!((credentials.token.as_str(), credentials.refresh_token.as_deref()), ("t", Some("r")));
        std::fs::write(&file, "{}").expect("written");
        assert!(read(&file).is_err());
    }
}
