//! The router over `wasi:http`: the body is read whole, the answer is written whole or piece by piece.

use std::time::{Duration, Instant};

use crate::{
    bindings::wasi::{
        clocks::monotonic_clock,
        http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam},
        io::{
            poll,
            streams::{OutputStream, StreamError},
        },
    },
    http::{Body, Next, Request, Response, Stream},
    platform,
    problem::Problem,
    service::Service,
};

/// The largest body that is read; the gateway's limit is stricter or the same.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How much is read at once.
const READ_BYTES: u64 = 64 * 1024;

/// Answers one request.
pub(super) fn serve(service: &Service, incoming: IncomingRequest, out: ResponseOutparam) {
    let request_id = platform::principal().request_id;
    let response = match read(incoming, request_id.clone()) {
        Ok(request) => service.handle(request),
        Err(problem) => Response::problem(&problem, &request_id),
    };
    write(response, out);
}

fn read(incoming: IncomingRequest, request_id: String) -> Result<Request, Problem> {
    let target = incoming.path_with_query().unwrap_or_else(|| "/".into());
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path.to_string(), Some(query.to_string())),
        None => (target, None),
    };
    let headers = incoming
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), String::from_utf8_lossy(&value).into_owned()))
        .collect();
    let method = match incoming.method() {
        Method::Get => "GET".into(),
        Method::Head => "HEAD".into(),
        Method::Post => "POST".into(),
        Method::Put => "PUT".into(),
        Method::Delete => "DELETE".into(),
        Method::Connect => "CONNECT".into(),
        Method::Options => "OPTIONS".into(),
        Method::Trace => "TRACE".into(),
        Method::Patch => "PATCH".into(),
        Method::Other(name) => name,
    };
    let cut = || Problem::bad_request("The body ended before it was whole.");
    let body = incoming.consume().map_err(|()| cut())?;
    let stream = body.stream().map_err(|()| cut())?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(_)) => return Err(cut()),
        }
        if bytes.len() > BODY_BYTES_MAX {
            return Err(Problem::too_large("The body is too large."));
        }
    }
    Ok(Request { method, path, query, headers, body: bytes, request_id, params: Vec::new() })
}

fn write(response: Response, out: ResponseOutparam) {
    let entries: Vec<(String, Vec<u8>)> =
        response.headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
    // A header that HTTP forbids is the handler's fault: answer without headers rather than not at all.
    let headers = Fields::from_list(&entries).unwrap_or_else(|_| Fields::new());
    let outgoing = OutgoingResponse::new(headers);
    // The router makes no status outside 100 to 999, so this cannot be refused.
    let _ = outgoing.set_status_code(response.status);
    let Ok(body) = outgoing.body() else { return };
    ResponseOutparam::set(out, Ok(outgoing));
    let Ok(stream) = body.write() else { return };
    match response.body {
        Body::Whole(bytes) => {
            // A client that left needs no answer.
            let _ = send(&stream, &bytes);
        }
        Body::Stream(pieces) => pump(&stream, pieces),
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn pump(stream: &OutputStream, mut pieces: Stream) {
    let begun = Instant::now();
    let mut last_sent = Instant::now();
    while begun.elapsed() < pieces.lasting {
        let sent = match pieces.pull() {
            Next::End => return,
            Next::Item(bytes) => send(stream, &bytes),
            Next::Wait(duration) => {
                rest(duration.min(crate::http::WAIT_MAX));
                match pieces.keep_alive {
                    Some(comment) if last_sent.elapsed() >= crate::http::KEEP_ALIVE => send(stream, comment),
                    // Asking for room shows that the client has left.
                    _ => match stream.check_write() {
                        Ok(_) => continue,
                        Err(error) => Err(error),
                    },
                }
            }
        };
        if sent.is_err() {
            return;
        }
        last_sent = Instant::now();
    }
}

fn rest(duration: Duration) {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    monotonic_clock::subscribe_duration(nanos).block();
}

/// Writes bytes and flushes them, waiting for room as often as needed.
fn send(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    let ready = stream.subscribe();
    while !bytes.is_empty() {
        poll::poll(&[&ready]);
        let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        if room == 0 {
            continue;
        }
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        stream.write(now)?;
        bytes = later;
    }
    stream.flush()?;
    poll::poll(&[&ready]);
    stream.check_write().map(|_| ())
}
