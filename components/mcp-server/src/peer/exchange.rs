//! One request over streamable HTTP: the answer is one JSON object, or a stream whose last message is the answer. A stream
//! that breaks off is taken up again where the server says where it was.

use std::time::{Duration, Instant};

use berth_sdk::{
    http_out::{Call, Client, Head, Incoming, Part},
    prelude::*,
    serde_json::{self, Value},
};

use super::{Failure, Link, Notice, Peer, Question, Watch, repeated};
use crate::{
    protocol::{code, events, message},
    server::secret,
};

/// How long one look at a stream waits.
const PATIENCE: Duration = Duration::from_millis(250);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// How often a broken stream is taken up again.
const RESUMES_MAX: usize = 5;
/// How long to wait before that, where the server does not say.
const RETRY: Duration = Duration::from_millis(500);
/// The longest wait before that.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How long a message that wants no answer may take.
const TELL_TIMEOUT: Duration = Duration::from_secs(10);

impl Peer<'_> {
    /// A call of the server's endpoint, with its credential.
    pub(super) fn call(&self, method: &str, target: Option<&str>) -> Result<Call, Failure> {
        let endpoint = target.or(self.server.endpoint.as_deref()).unwrap_or_default();
        let (base, path) = parts(endpoint).ok_or_else(|| Failure::Protocol("The endpoint is no address.".into()))?;
        let call = Client::new(base).request(method, path);
        let call = match self.organization_id {
            Some(organization_id) => call.secrets_of(organization_id.as_str()),
            None => call,
        };
        Ok(secret::apply(call, self.server, self.secret_id))
    }

    fn headed(&self, call: Call, link: Option<&Link>) -> Call {
        let Some(link) = link else { return call };
        let call = call.header("mcp-protocol-version", link.protocol_version.as_str());
        link.session_id.iter().fold(call, |call, id| call.header("mcp-session-id", id.as_str()))
    }

    /// Sends a request and reads to its answer.
    pub(super) fn exchange(
        &self,
        link: Option<&Link>,
        question: &Question,
        body: &Value,
        timeout: Duration,
        watch: &mut Watch<'_>,
    ) -> Result<(Value, Head), Failure> {
        let deadline = Instant::now() + timeout;
        if timeout.is_zero() {
            return Err(Failure::Timeout);
        }
        let mut call = self.call("POST", None)?.header("accept", "application/json, text/event-stream").json(body);
        call = self.headed(call, link);
        if link.is_some_and(|link| link.is_modern) {
            call = repeated(question).into_iter().fold(call, |call, (name, value)| call.header(&name, value));
        }
        let incoming = call.timeout(timeout).open().map_err(|fault| Failure::of_fault(&fault))?;
        let head = incoming.head.clone();
        judge(&head, link)?;
        if is_stream(&head) && (200..300).contains(&head.status) {
            let answer = self.follow(link, incoming, &question.id, deadline, watch)?;
            return Ok((answer, head));
        }
        let bytes = read_whole(incoming, deadline)?;
        answered(&head, &bytes, &question.id).map(|answer| (answer, head))
    }

    /// Reads a stream to the answer, answering what the server asks meanwhile.
    fn follow(
        &self,
        link: Option<&Link>,
        mut incoming: Incoming,
        id: &Value,
        deadline: Instant,
        watch: &mut Watch<'_>,
    ) -> Result<Value, Failure> {
        let mut reader = events::Reader::default();
        for resume in 0..=RESUMES_MAX {
            loop {
                let patience = PATIENCE.min(deadline.saturating_duration_since(Instant::now()));
                if patience.is_zero() {
                    return Err(Failure::Timeout);
                }
                let bytes = match incoming.read(patience) {
                    Ok(Part::Chunk(bytes)) => bytes,
                    Ok(Part::Waiting) if watch(Notice::Quiet) => continue,
                    Ok(Part::Waiting) => return Err(Failure::Cancelled),
                    Ok(Part::End) => break,
                    Err(fault @ (berth_sdk::Fault::TooLarge(_) | berth_sdk::Fault::Timeout)) => {
                        return Err(Failure::of_fault(&fault));
                    }
                    Err(_) => break,
                };
                let too_large = |_| Failure::Protocol("The server sends an event without end.".into());
                for event in reader.push(&bytes).map_err(too_large)? {
                    if let Some(answer) = self.heard(link, &event, id, watch)? {
                        return Ok(answer);
                    }
                }
            }
            let broken = || Failure::Transport("The server broke off in the middle of its answer.".into());
            // A modern stream is not taken up again.
            let link = link.filter(|link| !link.is_modern && resume < RESUMES_MAX).ok_or_else(broken)?;
            let last_id = reader.last_id.clone().ok_or_else(broken)?;
            let wait = reader.retry_ms.map_or(RETRY, Duration::from_millis).min(RETRY_MAX);
            if Instant::now() + wait >= deadline {
                return Err(Failure::Timeout);
            }
            clock::sleep(wait);
            let call = self.call("GET", None)?.header("accept", "text/event-stream").header("last-event-id", last_id);
            let call = self.headed(call, Some(link)).timeout(deadline.saturating_duration_since(Instant::now()));
            incoming = call.open().map_err(|fault| Failure::of_fault(&fault))?;
            judge(&incoming.head, Some(link))?;
            if !is_stream(&incoming.head) || incoming.head.status != 200 {
                return Err(broken());
            }
            reader = reader.again();
        }
        Err(Failure::Transport("The server breaks off again and again.".into()))
    }

    /// What an event of a stream says; the answer, when it is that.
    pub(super) fn heard(
        &self,
        link: Option<&Link>,
        event: &events::Event,
        id: &Value,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Value>, Failure> {
        if event.data.is_empty() || !matches!(event.name.as_str(), "" | "message") {
            return Ok(None);
        }
        let value: Value = serde_json::from_str(&event.data)
            .map_err(|_| Failure::Protocol("The server sends something else than JSON.".into()))?;
        let messages = match value {
            Value::Array(messages) => messages,
            message => vec![message],
        };
        for message in messages {
            let (method, own_id) = (message.get("method").and_then(Value::as_str), message.get("id"));
            match (method, own_id) {
                (Some(method), Some(request_id)) => {
                    let answer = reply(method, request_id);
                    if let Some(link) = link.filter(|link| !link.is_modern) {
                        self.tell(link, &answer, TELL_TIMEOUT)?;
                    }
                }
                (Some(_), None) if !watch(Notice::Notification(&message)) => return Err(Failure::Cancelled),
                (None, Some(answered)) if answered == id => return Ok(Some(message)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Sends what wants no answer.
    pub(super) fn tell(&self, link: &Link, body: &Value, timeout: Duration) -> Result<(), Failure> {
        let call = self.call("POST", None)?.header("accept", "application/json, text/event-stream").json(body);
        let call = self.headed(call, Some(link)).timeout(timeout.clamp(Duration::from_millis(1), TELL_TIMEOUT));
        let reply = call.send().map_err(|fault| Failure::of_fault(&fault))?;
        judge(&Head { status: reply.status, headers: reply.headers.clone() }, Some(link))?;
        if reply.is_success() { Ok(()) } else { Err(status(reply.status)) }
    }
}

/// What a client without capabilities answers to a server's request.
pub(super) fn reply(method: &str, request_id: &Value) -> Value {
    if method == "ping" {
        return message::result(request_id, &json!({}));
    }
    message::RpcError::new(code::METHOD_NOT_FOUND, "This client cannot do that.").answer(Some(request_id))
}

/// Scheme with authority, and the rest.
pub(super) fn parts(address: &str) -> Option<(&str, &str)> {
    let after = address.find("://")? + 3;
    let end = address.get(after..)?.find(['/', '?']).map_or(address.len(), |index| after + index);
    let (base, path) = address.split_at(end);
    Some((base, if path.is_empty() { "/" } else { path }))
}

pub(super) fn is_stream(head: &Head) -> bool {
    let kind = head.header("content-type").unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
}

fn status(status: u16) -> Failure {
    Failure::Transport(format!("The server answers with the status {status}."))
}

/// What the status says, before the body.
pub(super) fn judge(head: &Head, link: Option<&Link>) -> Result<(), Failure> {
    match head.status {
        401 => Err(Failure::Denied("The server does not accept the credential, or wants one.".into())),
        403 => Err(Failure::Denied("The server refuses the call.".into())),
        404 if link.is_some_and(|link| link.session_id.is_some()) => Err(Failure::SessionLost),
        300..=399 => Err(Failure::Transport("The server sends elsewhere, which is not followed.".into())),
        500.. => Err(status(head.status)),
        _ => Ok(()),
    }
}

pub(super) fn read_whole(mut incoming: Incoming, deadline: Instant) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Timeout);
        }
        match incoming.read(left) {
            Ok(Part::Chunk(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(Part::Waiting) => {}
            Ok(Part::End) => return Ok(bytes),
            Err(fault) => return Err(Failure::of_fault(&fault)),
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(Failure::Protocol("The answer is too large.".into()));
        }
    }
}

/// The answer in a body that is no stream.
fn answered(head: &Head, bytes: &[u8], id: &Value) -> Result<Value, Failure> {
    let is_success = (200..300).contains(&head.status);
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(_) if is_success => {
            return Err(Failure::Protocol("The server answers with something else than JSON.".into()));
        }
        // A server that is none of the protocol's, or refuses without a word: whoever asks decides what that means.
        Err(_) => return Err(Failure::Rpc { code: 0, message: format!("status {}", head.status), data: None }),
    };
    let of_batch = |entries: Vec<Value>| entries.into_iter().find(|entry| entry.get("id") == Some(id));
    let answer = match value {
        Value::Array(entries) => of_batch(entries).unwrap_or_default(),
        answer => answer,
    };
    let has_answer = answer.get("result").is_some() || answer.get("error").is_some_and(Value::is_object);
    if !has_answer && !is_success {
        return Err(Failure::Rpc { code: 0, message: format!("status {}", head.status), data: None });
    }
    // An error that comes before the id was read has none.
    if !has_answer || (answer.get("id").is_some_and(|other| other != id && !other.is_null())) {
        return Err(Failure::Protocol("The server answers another question.".into()));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16) -> Head {
        Head { status, headers: vec![("content-type".into(), "Text/Event-Stream; charset=utf-8".into())] }
    }

    #[test]
    fn an_address_falls_into_its_parts() {
        assert_eq!(parts("https://a.example/mcp/?x=1"), Some(("https://a.example", "/mcp/?x=1")));
        assert_eq!(parts("http://a:1"), Some(("http://a:1", "/")));
        assert_eq!(parts("https://a?x"), Some(("https://a", "?x")));
        assert_eq!(parts("a"), None);
        assert!(is_stream(&head(200)));
    }

    #[test]
    fn an_answer_fits_its_question() {
        let id = json!("q");
        let read = |status: u16, text: &str| answered(&head(status), text.as_bytes(), &id);
        assert!(read(200, r#"{"jsonrpc":"2.0","id":"q","result":{}}"#).is_ok());
        assert!(read(200, r#"[{"id":"x","result":{}},{"id":"q","result":{}}]"#).is_ok());
        assert!(read(400, r#"{"id":null,"error":{"code":-1,"message":"m"}}"#).is_ok());
        assert!(matches!(read(200, r#"{"id":"x","result":{}}"#), Err(Failure::Protocol(_))));
        assert!(matches!(read(200, "<html>"), Err(Failure::Protocol(_))));
        assert!(matches!(read(404, "<html>"), Err(Failure::Rpc { code: 0, .. })));
    }

    #[test]
    fn a_session_is_lost_only_where_there_was_one() {
        let link = |session: Option<&str>| Link {
            is_modern: false,
            protocol_version: String::new(),
            session_id: session.map(Into::into),
            capabilities: json!({}),
            secret_id: None,
        };
        assert_eq!(judge(&head(404), Some(&link(Some("s")))), Err(Failure::SessionLost));
        assert_eq!(judge(&head(404), Some(&link(None))), Ok(()));
        assert!(matches!(judge(&head(302), None), Err(Failure::Transport(_))));
        assert!(matches!(judge(&head(401), None), Err(Failure::Denied(_))));
    }

    #[test]
    fn a_servers_question_is_answered_or_declined() {
        assert_eq!(reply("ping", &json!(1))["result"], json!({}));
        assert_eq!(reply("sampling/createMessage", &json!(1))["error"]["code"], code::METHOD_NOT_FOUND);
    }
}
