//! Speaking to another server, as its client: which revision, which session, one question at a time.

mod exchange;
mod failure;
mod handshake;
mod old;

use std::time::{Duration, Instant};

use berth_sdk::{
    cache,
    prelude::*,
    serde_json::{Map, Value},
};

pub use failure::Failure;

use crate::{
    protocol::{headers, message},
    server::{Server, Transport},
};

/// How long an agreement is remembered.
const LINK_TTL: Duration = Duration::from_secs(3600);

/// What was agreed on with a server.
#[data]
pub struct Link {
    /// No handshake, no session.
    pub is_modern: bool,
    /// The revision.
    pub protocol_version: String,
    /// The server's word for our session.
    #[field(raw)]
    pub session_id: Option<String>,
    /// What the server can do.
    #[field(raw)]
    pub capabilities: Value,
    /// With whose credential it was agreed on: a server ties a session to it.
    pub secret_id: Option<Id>,
}

/// What happens while an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// The server says how far it is, or something else.
    Notification(&'a Value),
    /// Nothing came for a while.
    Quiet,
}

/// Hears what happens meanwhile; `false` gives up waiting.
pub type Watch<'a> = dyn FnMut(Notice<'_>) -> bool + 'a;

/// A question to a server.
#[derive(Clone, Debug)]
pub struct Question {
    /// Told apart by this.
    pub id: Value,
    /// What is wanted.
    pub method: String,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// Headers that the tool's schema wants.
    pub headers: Vec<(String, String)>,
}

impl Question {
    fn new(method: &str, params: Map<String, Value>) -> Self {
        Self { id: json!(Id::new()), method: method.to_string(), params, headers: Vec::new() }
    }
}

/// A server to speak to.
#[derive(Clone, Debug)]
pub struct Peer<'a> {
    server: &'a Stored<Server>,
    secret_id: Option<&'a Id>,
    organization_id: Option<&'a Id>,
}

impl<'a> Peer<'a> {
    /// With the credential that is to be used.
    pub fn of(server: &'a Stored<Server>, secret_id: Option<&'a Id>) -> Self {
        Self { server, secret_id, organization_id: None }
    }

    /// For a call of the clock, which has no organization of its own.
    #[must_use]
    pub fn for_organization(self, organization_id: &'a Id) -> Self {
        Self { organization_id: Some(organization_id), ..self }
    }

    fn key(&self) -> String {
        format!("link:{}", self.server.id)
    }

    /// What was agreed on last with this credential, where that is known.
    pub fn link(&self) -> Option<Link> {
        let known: Option<Link> = cache::get(&self.key()).or_else(|| {
            let kept = self.server.session.clone()?;
            berth_sdk::serde_json::from_value(kept).ok()
        });
        known.filter(|link| link.secret_id.as_ref() == self.secret_id)
    }

    fn keep(&self, link: &Link) {
        cache::set_ttl(&self.key(), link, LINK_TTL);
        if self.server.organization_id.is_none() || self.server.session.as_ref() == Some(&json!(link)) {
            return;
        }
        // For when the cache is lost: it is no error when it cannot be kept.
        let sql = "UPDATE mcp_servers SET session = $2, protocol_version = $3 WHERE id = $1";
        if database::execute(sql, params![&self.server.id, json!(link), link.protocol_version.as_str()]).is_err() {
            logging::warn!("a session could not be kept", server = self.server.id);
        }
    }

    fn drop_link(&self) {
        cache::del(&self.key());
        let sql = "UPDATE mcp_servers SET session = NULL WHERE id = $1";
        if self.server.organization_id.is_some() && database::execute(sql, params![&self.server.id]).is_err() {
            logging::warn!("a session could not be dropped", server = self.server.id);
        }
    }

    /// Asks and waits for the result.
    ///
    /// # Errors
    /// What went wrong; see [`Failure`].
    pub fn ask(&self, method: &str, params: Map<String, Value>, timeout: Duration) -> Result<Value, Failure> {
        self.put(&Question::new(method, params), timeout, &mut |_| true)
    }

    /// Asks, and hears meanwhile what the server says and whether to go on. A session that the server does not know any
    /// more is begun anew, once.
    ///
    /// # Errors
    /// What went wrong; see [`Failure`].
    pub fn put(&self, question: &Question, timeout: Duration, watch: &mut Watch<'_>) -> Result<Value, Failure> {
        let begun = Instant::now();
        let left = || timeout.saturating_sub(begun.elapsed());
        if self.server.transport == Transport::HttpSse {
            return old::put(self, question, timeout, watch);
        }
        let known = self.link();
        let is_new = known.is_none();
        let link = match known {
            Some(link) => link,
            None => self.connect(left())?,
        };
        match self.put_once(&link, question, left(), watch) {
            Err(Failure::SessionLost) if !is_new => {
                self.drop_link();
                let link = self.connect(left())?;
                self.put_once(&link, question, left(), watch)
            }
            Err(Failure::SessionLost) => {
                self.drop_link();
                Err(Failure::Protocol("The server forgets its own session.".into()))
            }
            result => result,
        }
    }

    fn put_once(
        &self,
        link: &Link,
        question: &Question,
        timeout: Duration,
        watch: &mut Watch<'_>,
    ) -> Result<Value, Failure> {
        let mut params = question.params.clone();
        if link.is_modern {
            let described = params.entry("_meta").or_insert_with(|| json!({}));
            if let Some(members) = described.as_object_mut() {
                members.extend(handshake::described(&link.protocol_version));
            }
        }
        let body = message::request(&question.id, &question.method, &Value::Object(params));
        let (answer, _) = self.exchange(Some(link), question, &body, timeout, watch)?;
        failure::result(answer)
    }

    /// Agrees on a revision: without handshake where the server can, with one otherwise.
    fn connect(&self, timeout: Duration) -> Result<Link, Failure> {
        let link = Link { secret_id: self.secret_id.cloned(), ..handshake::agree(self, timeout)? };
        self.keep(&link);
        Ok(link)
    }

    /// Finds out whether the server answers: the handshake where there is none yet, otherwise a question that costs nothing.
    ///
    /// # Errors
    /// What went wrong; see [`Failure`].
    pub fn greet(&self, timeout: Duration) -> Result<(), Failure> {
        if self.server.transport == Transport::HttpSse {
            return self.ask("ping", Map::new(), timeout).map(|_| ());
        }
        let Some(link) = self.link() else { return self.connect(timeout).map(|_| ()) };
        let method = if link.is_modern { "server/discover" } else { "ping" };
        match self.ask(method, Map::new(), timeout) {
            // It answers, whatever it thinks of the question.
            Ok(_) | Err(Failure::Rpc { .. }) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Tells the server that nobody waits for an answer any more. A modern one knows by the stream that ended.
    pub fn cancel(&self, request_id: &Value, reason: &str) {
        let Some(link) =
            self.link().filter(|link| !link.is_modern && self.server.transport == Transport::StreamableHttp)
        else {
            return;
        };
        let params = json!({ "requestId": request_id, "reason": reason });
        let body = message::notification("notifications/cancelled", &params);
        if self.tell(&link, &body, Duration::from_secs(3)).is_err() {
            logging::warn!("a server could not be told of a cancellation", server = self.server.id);
        }
    }
}

/// 501 for what needs a process or a socket.
pub fn require_transport(server: &Server) -> Result<()> {
    if server.is_reachable() {
        return Ok(());
    }
    let detail = format!("Servers of the transport {} cannot be spoken to by this host.", server.transport);
    Err(Problem::not_implemented(detail).with_code("TRANSPORT_UNSUPPORTED"))
}

/// The headers of a modern request.
fn repeated(question: &Question) -> Vec<(String, String)> {
    let mut repeated = vec![("mcp-method".to_string(), question.method.clone())];
    let name = headers::name_parameter(&question.method).and_then(|name| question.params.get(name)?.as_str());
    repeated.extend(name.map(|name| ("mcp-name".to_string(), headers::encode(name))));
    repeated.extend(question.headers.iter().cloned());
    repeated
}

/// What this service calls itself.
pub fn own_name() -> Value {
    json!({ "name": "berth", "title": "Berth", "version": env!("CARGO_PKG_VERSION") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_of_the_credential_that_it_was_begun_with() {
        berth_sdk::testing::sign_in("u1", "o1");
        let now = clock::now();
        let data = json!({"name": "a", "displayName": "A", "endpoint": "https://a.example"});
        let server = Stored {
            id: "s1".into(),
            organization_id: Some("o1".into()),
            created_by: None,
            created_at: now,
            updated_at: now,
            version: 1,
            data: berth_sdk::serde_json::from_value(data).unwrap(),
        };
        let (one, other) = (Id::from("one"), Id::from("other"));
        let link = handshake::agreed(&json!({"protocolVersion": "2025-11-25"}), Some("session")).unwrap();
        Peer::of(&server, Some(&one)).keep(&Link { secret_id: Some(one.clone()), ..link });
        let known = |secret_id: Option<&Id>| Peer::of(&server, secret_id).link().and_then(|link| link.session_id);
        assert_eq!(known(Some(&one)).as_deref(), Some("session"));
        assert_eq!((known(Some(&other)), known(None)), (None, None));
    }
}
