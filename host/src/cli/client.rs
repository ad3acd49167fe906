//! Talking to a running host: its URL, the operator's token, and how refusals become sentences.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode, header};
use serde_json::Value;

use super::CommandError;
use super::event_stream::EventStream;
use super::source::Component;

/// A deploy compiles and warms before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A host that sends events is never silent for so long.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Bytes of an answer of the admin API.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a component.
const BYTES_MAX: usize = 1 << 30;
/// Characters that say where a component came from; the host takes no more.
const SOURCE_CHARS_MAX: usize = 512;
/// Bytes of a token file.
const TOKEN_BYTES_MAX: u64 = 16 * 1024;

/// Which host, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Target {
    /// The host
    #[arg(long, env = "BERTH_URL", default_value = "http://127.0.0.1:3000", hide_env_values = true)]
    pub url: String,
    /// A file with the operator's token [or BERTH_OPERATOR_TOKEN; default: operator.token in the data folder]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// A connection to a host with a bearer token.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// An answer: its status, and its body where there was one.
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

impl Client {
    /// For the admin API, as the operator.
    pub(super) fn operator(target: &Target) -> Result<Self, CommandError> {
        Self::new(&target.url, operator_token(target.token_file.as_deref())?)
    }

    /// With any bearer token.
    pub(super) fn new(url: &str, token: String) -> Result<Self, CommandError> {
        let url = url.trim_end_matches('/');
        let is_web = url.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
        });
        if !is_web {
            return Err(CommandError::usage(format!("\"{url}\" is not the URL of a host, as http://127.0.0.1:3000")));
        }
        Ok(Self { http: http_client(Policy::none())?, url: url.to_owned(), token })
    }

    /// Takes another token, after the old one has expired.
    pub(super) fn set_token(&mut self, token: String) {
        self.token = token;
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, CommandError> {
        self.succeed(self.request(Method::GET, path)).await
    }

    /// Bytes that are no JSON; none where there are none.
    pub(super) async fn get_bytes(&self, path: &str) -> Result<Option<Vec<u8>>, CommandError> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => self.whole(response, BYTES_MAX).await.map(Some),
            _ => Err(self.read(response).await?.refusal()),
        }
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, CommandError> {
        self.succeed(self.request(Method::POST, path).json(body)).await
    }

    /// Sends a component with its signature and where it came from, for the history.
    pub(super) async fn post_component(&self, path: &str, component: Component) -> Result<Value, CommandError> {
        let Component { bytes, source, signature } = component;
        self.post_origin(path, "application/wasm", bytes, &source, signature.as_deref()).await
    }

    /// Sends what a component is part of; `source` and `signature` are the component's.
    pub(super) async fn post_origin(
        &self,
        path: &str,
        media_type: &str,
        bytes: Vec<u8>,
        source: &str,
        signature: Option<&str>,
    ) -> Result<Value, CommandError> {
        let mut request = self.request(Method::POST, path).header(header::CONTENT_TYPE, media_type);
        let plain: Vec<char> = source.chars().filter(char::is_ascii_graphic).collect();
        // The end says more than the beginning: a file's name, or the digest.
        let end = plain.get(plain.len().saturating_sub(SOURCE_CHARS_MAX)..).unwrap_or_default();
        if !end.is_empty() {
            request = request.header("x-berth-source", end.iter().collect::<String>());
        }
        if let Some(signature) = signature {
            request = request.header("x-berth-signature", signature);
        }
        self.succeed(request.body(bytes)).await
    }

    /// Sends text of any media type.
    pub(super) async fn send_text(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        text: String,
    ) -> Result<Value, CommandError> {
        self.succeed(self.request(method, path).header(header::CONTENT_TYPE, media_type).body(text)).await
    }

    /// Sends a request and takes any status for an answer.
    ///
    /// # Errors
    /// When no answer comes.
    pub(super) async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, CommandError> {
        let request = self.request(method, path);
        self.send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// Opens a stream of events, behind the one with the id `last`. A refusal is an answer too.
    ///
    /// # Errors
    /// When no answer comes.
    pub(super) async fn stream(
        &self,
        path: &str,
        last: Option<&str>,
    ) -> Result<Result<EventStream, Answer>, CommandError> {
        let http = built(client_builder(Policy::none()).read_timeout(SILENCE_MAX))?;
        let mut request = http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        request = request.header(header::ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(Ok(EventStream::of(response)));
        }
        Ok(Err(self.read(response).await?))
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .header(header::ACCEPT, "application/json")
    }

    async fn succeed(&self, request: reqwest::RequestBuilder) -> Result<Value, CommandError> {
        let answer = self.send(request).await?;
        if answer.status.is_success() { Ok(answer.body) } else { Err(answer.refusal()) }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, CommandError> {
        self.read(request.send().await.map_err(|error| self.unreachable(&error))?).await
    }

    fn unreachable(&self, error: &reqwest::Error) -> CommandError {
        CommandError::Unreachable { url: self.url.clone(), reason: reason(error) }
    }

    async fn whole(&self, mut response: reqwest::Response, bytes_max: usize) -> Result<Vec<u8>, CommandError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if bytes.len() + chunk.len() > bytes_max {
                return Err(CommandError::failed(format!("the host's answer is larger than {bytes_max} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    async fn read(&self, response: reqwest::Response) -> Result<Answer, CommandError> {
        let status = response.status();
        let bytes = self.whole(response, ANSWER_BYTES_MAX).await?;
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap_or(Value::Null) };
        if status.is_success() && !bytes.is_empty() && body.is_null() {
            return Err(CommandError::failed(format!("{} does not answer like a host of Berth", self.url)));
        }
        Ok(Answer { status, body })
    }
}

impl Answer {
    /// The refusal as a sentence: the problem's detail and fields, and the ids to look it up by.
    pub(super) fn refusal(&self) -> CommandError {
        let text = |member: &str| self.body.get(member).and_then(Value::as_str).map(str::to_owned);
        let mut sentence = text("detail")
            .or_else(|| text("title"))
            .unwrap_or_else(|| self.status.canonical_reason().unwrap_or("refused").to_owned());
        for error in self.body.get("errors").and_then(Value::as_array).into_iter().flatten() {
            let part = |member: &str| error.get(member).and_then(Value::as_str).unwrap_or_default();
            sentence.push_str(&format!("; {}: {}", part("field"), part("message")));
        }
        let code = text("code").map(|code| format!(" {code}")).unwrap_or_default();
        let request = text("requestId").map(|id| format!(", request {id}")).unwrap_or_default();
        let plain: String = sentence.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        let next = match self.status {
            StatusCode::UNAUTHORIZED => "; give a token that is valid there with --token-file",
            StatusCode::FORBIDDEN => "; give the token of somebody who may with --token-file",
            _ => "",
        };
        CommandError::failed(format!("{}{next} ({}{code}{request})", plain.trim_end_matches('.'), self.status.as_u16()))
    }
}

/// Names the one provider of ciphers, before anything is asked over TLS.
pub(super) fn install_tls() {
    // A second installation is refused and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client for any URL: the deploy command fetches components with it too.
pub(super) fn http_client(redirects: Policy) -> Result<reqwest::Client, CommandError> {
    built(client_builder(redirects).timeout(ANSWER_TIMEOUT))
}

fn client_builder(redirects: Policy) -> reqwest::ClientBuilder {
    install_tls();
    reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(redirects)
}

fn built(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, CommandError> {
    builder.build().map_err(|error| CommandError::failed(format!("the HTTP client cannot be made: {}", reason(&error))))
}

/// The innermost cause: the outer ones only say that a request failed.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The operator's token: the file named, the environment, or the data folder's file.
fn operator_token(file: Option<&Path>) -> Result<String, CommandError> {
    if let Some(file) = file {
        return read_token(file).map_err(|error| {
            CommandError::usage(format!("the token file {} cannot be read: {error}", file.display()))
        });
    }
    if let Some(token) = std::env::var("BERTH_OPERATOR_TOKEN").ok().filter(|token| !token.trim().is_empty()) {
        return Ok(token.trim().to_owned());
    }
    let data = std::env::var_os("BERTH_DATA").map_or_else(|| PathBuf::from("./data"), PathBuf::from);
    let file = data.join("operator.token");
    read_token(&file).map_err(|error| {
        let place = file.display();
        CommandError::usage(format!("no operator token: give --token-file or BERTH_OPERATOR_TOKEN ({place}: {error})"))
    })
}

/// A token from a file, trimmed.
pub(super) fn read_token(file: &Path) -> std::io::Result<String> {
    let other = |text: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, text);
    if std::fs::metadata(file)?.len() > TOKEN_BYTES_MAX {
        return Err(other("it is too large for a token"));
    }
    let token = std::fs::read_to_string(file)?.trim().to_owned();
    if token.is_empty() { Err(other("it is empty")) } else { Ok(token) }
}

/// A path segment with everything escaped that could leave it.
pub(super) fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_is_one_sentence() {
        let body = json!({"detail": "the component is refused.\nreally", "code": "UNPROCESSABLE", "requestId": "r1",
            "errors": [{"field": "body", "message": "is empty"}]});
        let answer = Answer { status: StatusCode::UNPROCESSABLE_ENTITY, body };
        let text = answer.refusal().to_string();
        assert_eq!(text, "the component is refused. really; body: is empty (422 UNPROCESSABLE, request r1)");
        let plain = Answer { status: StatusCode::BAD_GATEWAY, body: Value::Null }.refusal().to_string();
        assert_eq!(plain, "Bad Gateway (502)");
        let unproved = Answer { status: StatusCode::UNAUTHORIZED, body: Value::Null }.refusal().to_string();
        assert_eq!(unproved, "Unauthorized; give a token that is valid there with --token-file (401)");
    }

    #[test]
    fn a_name_cannot_leave_its_segment() {
        assert_eq!(segment("planning"), "planning");
        assert_eq!(segment("../a?b"), "..%2Fa%3Fb");
    }
}
