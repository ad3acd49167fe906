//! `wasi:http/outgoing-handler` (0.2) and `wasi:http/client` (0.3): what a guest sends goes through the room.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::backend::{EgressError, Refusal, Timeouts};
use super::note::{FUNCTION, Note, PlayedAnswer, Tee};
use super::{Egress, REQUEST_BYTES_MAX};
use crate::body::{self, BodyError};
use crate::capability::Guest;
use crate::capability::tape::{Asked, Tape};

/// Hands a guest's requests to the room; part of the store's state, one for each instance.
pub(crate) struct EgressHooks {
    egress: Arc<Egress>,
    tape: Arc<Tape>,
    /// Whose call it is; none until the call comes here.
    guest: Option<Guest>,
}

type Transmission = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Box<dyn Future<Output = Result<(http::Response<WasiBody>, Transmission), Error>> + Send>;

impl EgressHooks {
    /// The hooks of an instance that has no call yet.
    pub(crate) fn new(egress: Arc<Egress>, tape: Arc<Tape>) -> Self {
        Self { egress, tape, guest: None }
    }

    /// What is sent from now on is sent for `guest`, until [`EgressHooks::end`].
    pub(crate) fn begin(&mut self, guest: &Guest) {
        // Most calls never come here: only those that do pay for it. A call that acts for a user from now on sends for them.
        let is_the_same = |known: &Guest| Arc::ptr_eq(&known.call.principal, &guest.call.principal);
        if !self.guest.as_ref().is_some_and(is_the_same) {
            self.guest = Some(guest.clone());
        }
    }

    /// The call is over.
    pub(crate) fn end(&mut self) {
        self.guest = None;
    }
}

impl WasiHttpHooks for EgressHooks {
    /// The room writes the header itself, from the address it has judged.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        // How the guest fared with the response; nobody here needs to know.
        _processed: Transmission,
    ) -> Sent {
        if self.tape.is_played() {
            return Box::new(play(Arc::clone(&self.tape), request));
        }
        let Some(guest) = self.guest.clone() else {
            return Box::new(std::future::ready(Err(Error::InternalError(None))));
        };
        // Before a credential is put in.
        let note = Note::begin(&self.tape, &request);
        let egress = self.egress.clone();
        let options = options.unwrap_or_default();
        let timeouts = Timeouts {
            connect: options.connect_timeout,
            first_byte: options.first_byte_timeout,
            between_bytes: options.between_bytes_timeout,
        };
        let request = request.map(|body| body.map_err(BodyError::from).boxed_unsync());
        let Some(note) = note else {
            return Box::new(async move {
                let response = egress.send(&guest, request, timeouts).await.map_err(|error| code(&error))?;
                Ok(answered(response.map(|body| body.map_err(body_code).boxed_unsync())))
            });
        };
        let mut request = request.map(|body| Tee::request(body, &note).boxed_unsync());
        // An answer may repeat a credential that is put in.
        request.extensions_mut().insert(note.clone());
        Box::new(async move {
            match egress.send(&guest, request, timeouts).await {
                Ok(response) => {
                    note.answered(&response);
                    let response = response.map(|body| Tee::response(body, &note));
                    Ok(answered(response.map(|body| body.map_err(body_code).boxed_unsync())))
                }
                Err(error) => {
                    let error = code(&error);
                    note.failed(format!("{error:?}"));
                    Err(error)
                }
            }
        })
    }
}

fn answered(response: http::Response<WasiBody>) -> (http::Response<WasiBody>, Transmission) {
    (response, Box::new(async { Ok(()) }) as Transmission)
}

/// Answers a request from a capsule, once it is there whole.
async fn play(
    tape: Arc<Tape>,
    request: http::Request<WasiBody>,
) -> Result<(http::Response<WasiBody>, Transmission), Error> {
    let (head, body) = request.into_parts();
    let bytes_max = usize::try_from(REQUEST_BYTES_MAX).unwrap_or(usize::MAX);
    let body = body::collect(body, bytes_max).await.map_err(|_| Error::HttpRequestBodySize(Some(REQUEST_BYTES_MAX)))?;
    let note = Note::whole(&head, body);
    match tape.ask(FUNCTION, 0, || Box::new(note)) {
        Asked::Answered(answer) => match PlayedAnswer::read(&answer) {
            Some(PlayedAnswer::Response(response, true)) => {
                Ok(answered(response.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync())))
            }
            Some(PlayedAnswer::Response(response, false)) => {
                Ok(answered(response.map(|body| Unfinished { body: Some(body), tape }.boxed_unsync())))
            }
            Some(PlayedAnswer::Failed(name)) => Err(named(name)),
            None => Err(Error::InternalError(None)),
        },
        Asked::Ended | Asked::Live(_) => Err(Error::InternalError(None)),
    }
}

/// A body of which only the beginning was kept: who reads on knows more than the capsule.
struct Unfinished {
    body: Option<Bytes>,
    tape: Arc<Tape>,
}

impl http_body::Body for Unfinished {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Error>>> {
        std::task::Poll::Ready(Some(match self.body.take() {
            Some(body) => Ok(http_body::Frame::data(body)),
            None => {
                self.tape.reads_too_far(FUNCTION);
                Err(Error::HttpResponseIncomplete)
            }
        }))
    }
}

/// The error that a capsule names; what nobody here answers is an inner one.
fn named(name: &str) -> Error {
    let known = [
        Error::HttpRequestDenied,
        Error::DestinationIpProhibited,
        Error::HttpRequestUriInvalid,
        Error::HttpRequestMethodInvalid,
        Error::DnsError { rcode: None, info_code: None },
        Error::ConnectionRefused,
        Error::ConnectionTerminated,
        Error::ConnectionTimeout,
        Error::HttpResponseTimeout,
        Error::HttpRequestBodySize(Some(REQUEST_BYTES_MAX)),
        Error::HttpResponseBodySize(Some(super::RESPONSE_BYTES_MAX)),
        Error::HttpProtocolError,
        Error::DestinationNotFound,
        Error::DestinationUnavailable,
        Error::LoopDetected,
        Error::ConfigurationError,
        Error::ConnectionLimitReached,
    ];
    known.into_iter().find(|error| format!("{error:?}") == name).unwrap_or(Error::InternalError(None))
}

fn body_code(error: BodyError) -> Error {
    match error.downcast_ref::<EgressError>() {
        Some(error) => code(error),
        None => Error::HttpResponseIncomplete,
    }
}

/// The standard's code for each error: what a guest may know, and no more.
fn code(error: &EgressError) -> Error {
    match error {
        EgressError::Denied(_) => Error::HttpRequestDenied,
        EgressError::AddressDenied => Error::DestinationIpProhibited,
        EgressError::Malformed => Error::HttpRequestUriInvalid,
        EgressError::Method => Error::HttpRequestMethodInvalid,
        EgressError::Resolve(_) => Error::DnsError { rcode: None, info_code: None },
        EgressError::Connect(_) => Error::ConnectionRefused,
        EgressError::Lost(_) => Error::ConnectionTerminated,
        EgressError::ConnectTimeout => Error::ConnectionTimeout,
        EgressError::Timeout => Error::HttpResponseTimeout,
        EgressError::RequestTooLarge(bytes) => Error::HttpRequestBodySize(Some(*bytes)),
        EgressError::ResponseTooLarge(bytes) => Error::HttpResponseBodySize(Some(*bytes)),
        EgressError::Broken(_) => Error::HttpProtocolError,
        EgressError::NotFound => Error::DestinationNotFound,
        EgressError::Unavailable(_) | EgressError::Refused(Refusal::CircuitOpen) => Error::DestinationUnavailable,
        EgressError::Refused(Refusal::TooDeep) => Error::LoopDetected,
        // The standard has no code for it, and nothing else here uses this one.
        EgressError::SecretUnavailable => Error::ConfigurationError,
        EgressError::Full => Error::ConnectionLimitReached,
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{OK, Server};
    use super::*;
    use crate::capability::grant::Grant;
    use crate::capability::tape::Tapes;
    use crate::principal::{Principal, PrincipalKind};

    #[test]
    fn what_a_call_sends_after_it_acts_for_a_user_is_the_users() {
        let mut hooks = EgressHooks::new(Arc::default(), Tapes::Off.tape());
        let mut guest = crate::capability::testing::guest("workflow", Some("org-1"));
        hooks.begin(&guest);
        let user = Principal { kind: PrincipalKind::User, user_id: Some("u1".into()), ..Principal::anonymous() };
        guest.call.principal = Arc::new(user);
        hooks.begin(&guest);
        let sender = hooks.guest.as_ref().unwrap().call.principal.user_id.as_deref();
        assert_eq!(sender, Some("u1"));
    }

    #[tokio::test]
    async fn a_guest_gets_the_standards_code_for_each_refusal() {
        let server = Server::start(&[OK]).await;
        let mut hooks = EgressHooks::new(Arc::default(), Tapes::Off.tape());
        hooks.begin(&server.guest(Grant::default()));
        let mut send = |uri: &str| {
            let empty = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
            let request = http::Request::builder().uri(uri).body(empty).unwrap();
            Box::into_pin(hooks.send_request(request, None, Box::new(async { Ok(()) })))
        };
        let (denied, inside) = (send("http://example.com/"), send(&server.uri("/")));
        assert!(matches!(denied.await, Err(Error::HttpRequestDenied)));
        assert!(matches!(inside.await, Err(Error::DestinationIpProhibited)));
        hooks.end();
        hooks.begin(&server.friend());
        let empty = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = http::Request::builder().uri(server.uri("/")).body(empty).unwrap();
        let sent = Box::into_pin(hooks.send_request(request, None, Box::new(async { Ok(()) })));
        let (response, _) = sent.await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    }
}
