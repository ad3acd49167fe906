//! What a guest sends out and gets back, as it is noted on its tape: heads at once, bodies as they pass by.
//!
//! It sees a request as the guest made it: credentials are put in later. They are known here only to be hidden, should an
//! answer repeat them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::capability::credentials::KEEPER;
use crate::capability::tape::hide::{HIDDEN, Hider, read_bytes};
use crate::capability::tape::{Asked, Kept, Place, Tape};

/// The name under which requests stand on a tape.
pub(super) const FUNCTION: &str = "http.send";
/// About how much room a head takes besides its headers.
const HEAD_BYTES: usize = 256;

/// One request and its answer on a tape. Cheap to clone.
#[derive(Clone)]
pub(super) struct Note {
    exchange: Arc<Mutex<Exchange>>,
    tape: Arc<Tape>,
    place: Option<Place>,
}

#[derive(Default)]
struct Exchange {
    method: String,
    uri: String,
    headers: Vec<(String, String)>,
    request: Heard,
    /// None: no answer yet.
    answer: Option<Head>,
    response: Heard,
    /// What the host put into the request.
    credentials: Vec<Zeroizing<String>>,
}

/// A body as far as it has passed.
#[derive(Default)]
struct Heard {
    bytes: Vec<u8>,
    /// Whether it has ended.
    is_whole: bool,
    /// Whether there was no room for more.
    is_cut: bool,
}

enum Head {
    Response { status: u16, headers: Vec<(String, String)> },
    Failed(String),
}

/// The two ends of an exchange on a tape.
pub(super) struct Sent(Arc<Mutex<Exchange>>);
struct Answered(Arc<Mutex<Exchange>>);

/// What a capsule answers to a request.
pub(super) enum PlayedAnswer<'a> {
    /// A response, and whether its body is whole.
    Response(http::Response<Bytes>, bool),
    /// The name of an error.
    Failed(&'a str),
}

impl Note {
    /// Notes a request that goes out now; none where nothing is kept.
    pub(super) fn begin<B: Body>(tape: &Arc<Tape>, request: &http::Request<B>) -> Option<Self> {
        let mut exchange = Exchange {
            method: request.method().to_string(),
            uri: request.uri().to_string(),
            headers: texts(request.headers()),
            ..Exchange::default()
        };
        exchange.request.is_whole = request.body().is_end_stream();
        let bytes = HEAD_BYTES + exchange.method.len() + exchange.uri.len() + size(request.headers());
        let exchange = Arc::new(Mutex::new(exchange));
        let place = match tape.ask(FUNCTION, bytes, || Box::new(Sent(Arc::clone(&exchange)))) {
            Asked::Live(Some(place)) => place,
            _ => return None,
        };
        Some(Self { exchange, tape: Arc::clone(tape), place: Some(place) })
    }

    /// A request that is there whole, for a replay to look it up.
    pub(super) fn whole(head: &http::request::Parts, body: Bytes) -> Sent {
        let exchange = Exchange {
            method: head.method.to_string(),
            uri: head.uri.to_string(),
            headers: texts(&head.headers),
            request: Heard { bytes: body.into(), is_whole: true, is_cut: false },
            ..Exchange::default()
        };
        Sent(Arc::new(Mutex::new(exchange)))
    }

    /// These credentials go out with the request: wherever one stands, it is hidden.
    pub(super) fn hides(&self, credentials: Vec<Zeroizing<String>>) {
        self.exchange.lock().credentials.extend(credentials);
    }

    /// The head of the answer is there.
    pub(super) fn answered<B: Body>(&self, response: &http::Response<B>) {
        let head = Head::Response { status: response.status().as_u16(), headers: texts(response.headers()) };
        self.exchange.lock().response.is_whole = response.body().is_end_stream();
        self.end(head, HEAD_BYTES + size(response.headers()));
    }

    /// There is none.
    pub(super) fn failed(&self, name: String) {
        self.end(Head::Failed(name), HEAD_BYTES);
    }

    fn end(&self, head: Head, bytes: usize) {
        self.exchange.lock().answer = Some(head);
        self.tape.answered(self.place, bytes, || Box::new(Answered(Arc::clone(&self.exchange))));
    }
}

impl Exchange {
    /// What is said to the keeper of secrets, and what it says, is its own business.
    fn is_confidential(&self) -> bool {
        let uri = self.uri.parse::<http::Uri>().ok();
        let is_keeper = |host: &str| host.split('.').next().is_some_and(|name| name.eq_ignore_ascii_case(KEEPER));
        uri.is_some_and(|uri| uri.host().is_some_and(is_keeper))
    }

    fn shown(&self, heard: &Heard, headers: &[(String, String)], hider: &Hider) -> Value {
        if self.is_confidential() {
            hider.note_document(&heard.bytes);
            return json!({ "redacted": HIDDEN.len() });
        }
        let is_whole = heard.is_whole && !heard.is_cut;
        if !is_whole && matches!(heard.bytes.trim_ascii_start(), [b'{' | b'[', ..]) {
            // In half a document nobody finds its members.
            return json!({ "redacted": HIDDEN.len() });
        }
        hider.body(headers, &heard.bytes)
    }
}

impl Kept for Sent {
    fn show(&self, hider: &Hider) -> Value {
        let exchange = self.0.lock();
        let (path, query) =
            exchange.uri.split_once('?').map_or((&*exchange.uri, None), |(path, query)| (path, Some(query)));
        let uri = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{}", hider.pairs(query)));
        let body = exchange.shown(&exchange.request, &exchange.headers, hider);
        json!([exchange.method, uri, headers(&exchange.headers, hider), body])
    }
}

impl Kept for Answered {
    fn show(&self, hider: &Hider) -> Value {
        let exchange = self.0.lock();
        for credential in &exchange.credentials {
            // As it stands in a header: by itself, or behind its scheme.
            hider.header("authorization", credential);
        }
        match &exchange.answer {
            Some(Head::Response { status, headers: pairs }) => json!({
                "status": status,
                "headers": headers(pairs, hider),
                "body": exchange.shown(&exchange.response, pairs, hider),
                "isWhole": exchange.response.is_whole && !exchange.response.is_cut,
            }),
            Some(Head::Failed(name)) => json!({ "error": name }),
            None => Value::Null,
        }
    }
}

impl<'a> PlayedAnswer<'a> {
    /// Reads what stands in a capsule.
    pub(super) fn read(value: &'a Value) -> Option<Self> {
        if let Some(name) = value.get("error").and_then(Value::as_str) {
            return Some(Self::Failed(name));
        }
        let status = value.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok())?;
        let mut response = http::Response::builder().status(status);
        for pair in value.get("headers")?.as_array()? {
            let part = |at: usize| pair.get(at).and_then(Value::as_str);
            response = response.header(part(0)?, part(1)?);
        }
        let is_whole = value.get("isWhole").and_then(Value::as_bool).unwrap_or(false);
        let body = Bytes::from(read_bytes(value.get("body")?)?);
        Some(Self::Response(response.body(body).ok()?, is_whole))
    }
}

fn headers(pairs: &[(String, String)], hider: &Hider) -> Value {
    let pairs = pairs.iter().map(|(name, value)| json!([name, hider.header(name, value)]));
    Value::Array(pairs.collect())
}

fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// A body on its way, and what has passed of it on the tape.
pub(super) struct Tee<B> {
    inner: B,
    note: Note,
    is_request: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Tee<B> {
    pub(super) fn request(inner: B, note: &Note) -> Self {
        Self { inner, note: note.clone(), is_request: true }
    }

    pub(super) fn response(inner: B, note: &Note) -> Self {
        Self { inner, note: note.clone(), is_request: false }
    }

    fn hear(&self, data: Option<&Bytes>, has_ended: bool) {
        let mut exchange = self.note.exchange.lock();
        let heard = if self.is_request { &mut exchange.request } else { &mut exchange.response };
        if let Some(data) = data {
            heard.is_cut |= !self.note.tape.takes(data.len());
            if !heard.is_cut {
                heard.bytes.extend_from_slice(data);
            }
        }
        heard.is_whole |= has_ended;
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tee<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => self.hear(frame.data_ref(), self.inner.is_end_stream()),
            Some(Err(_)) => {}
            None => self.hear(None, true),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::capability::tape::testing;

    async fn exchange(uri: &str, answer: &'static str) -> Value {
        let tape = Arc::new(testing::running());
        let request =
            http::Request::post(uri).header("authorization", "Bearer abcdefgh").body(Full::new(Bytes::from("{}")));
        let request = request.unwrap();
        let note = Note::begin(&tape, &request).unwrap();
        Tee::request(request.into_body(), &note).collect().await.unwrap();
        let response =
            http::Response::builder().status(201).header("set-cookie", "a=b").body(Full::new(Bytes::from(answer)));
        let response = response.unwrap();
        note.answered(&response);
        Tee::response(response.into_body(), &note).collect().await.unwrap();
        let (calls, _) = tape.end().show(&Hider::default());
        serde_json::to_value(calls).unwrap()
    }

    #[tokio::test]
    async fn an_exchange_is_noted_without_its_credentials_and_comes_back() {
        let shown = exchange("http://planning.internal/api/plans?token=abc&page=2", "{\"ok\":1}").await;
        let arguments = json!(["POST", "http://planning.internal/api/plans?token=[redacted]&page=2",
            [["authorization", "[redacted]"]], {"utf8": "{}"}]);
        assert_eq!(shown[0]["arguments"], arguments);
        let Some(PlayedAnswer::Response(response, true)) = PlayedAnswer::read(&shown[0]["answer"]) else {
            panic!("no answer in {shown}");
        };
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (201, &b"{\"ok\":1}"[..]));
        assert_eq!(response.headers()["set-cookie"], "[redacted]");
    }

    #[tokio::test]
    async fn what_the_keeper_of_secrets_says_is_not_noted() {
        for keeper in ["secret-management", "Secret-Management"] {
            let uri = format!("http://{keeper}.internal/api/secrets/1/reveal");
            let shown = exchange(&uri, "{\"value\":\"s3cr3t\"}").await;
            assert!(!shown.to_string().contains("s3cr3t"), "{shown}");
        }
    }

    #[test]
    fn forms_and_half_documents_are_shown_without_their_secrets() {
        let heard = |text: &str, is_whole| Heard { bytes: text.into(), is_whole, is_cut: false };
        let shown = |heard: &Heard, kind: &str| {
            Exchange::default().shown(heard, &[("Content-Type".into(), kind.into())], &Hider::default())
        };
        let form = heard("grant_type=password&client_secret=abc&password=def", true);
        let hidden = "grant_type=password&client_secret=[redacted]&password=[redacted]";
        for kind in ["application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded; charset=utf-8"] {
            assert_eq!(shown(&form, kind), json!({ "utf8": hidden }), "{kind}");
        }
        for half in [r#"{"token":"abc"#, r#" [{"token":"abc"},"#] {
            assert_eq!(shown(&heard(half, false), "application/json"), json!({ "redacted": HIDDEN.len() }), "{half}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_repeats_a_credential_does_not_give_it_away() {
        let tape = Arc::new(testing::running());
        let request = http::Request::get("http://api.example.com/").body(Full::new(Bytes::new())).unwrap();
        let note = Note::begin(&tape, &request).unwrap();
        note.hides(["Bearer sk-live-0001", "v%20a%20l%20u%20e"].map(|text| Zeroizing::new(text.to_owned())).into());
        let response = http::Response::builder()
            .header("location", "http://api.example.com/?k=v%20a%20l%20u%20e")
            .body(Full::new(Bytes::from("no such key: sk-live-0001")))
            .unwrap();
        note.answered(&response);
        Tee::response(response.into_body(), &note).collect().await.unwrap();
        let hider = Hider::default();
        let (calls, _) = tape.end().show(&hider);
        let mut shown = serde_json::to_value(calls).unwrap();
        hider.scrub(&mut shown).unwrap();
        assert!(!shown.to_string().contains("sk-live") && !shown.to_string().contains("v%20a"), "{shown}");
        assert_eq!(shown[0]["answer"]["body"], json!({ "utf8": "no such key: [redacted]" }));
    }

    #[test]
    fn a_head_without_room_is_not_noted() {
        let tape = Arc::new(testing::running());
        let method = http::Method::from_bytes(&vec![b'A'; crate::capability::tape::BYTES_MAX]).unwrap();
        let mut request = http::Request::get("http://planning.internal/").body(Full::new(Bytes::new())).unwrap();
        *request.method_mut() = method;
        assert!(Note::begin(&tape, &request).is_none());
    }

    #[tokio::test]
    async fn a_body_without_room_is_not_whole() {
        let large: &'static str = "x".repeat(crate::capability::tape::BYTES_MAX).leak();
        let shown = exchange("http://planning.internal/", large).await;
        assert_eq!(shown[0]["answer"]["isWhole"], false);
    }
}
