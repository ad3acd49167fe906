//! One outgoing request over `wasi:http`: its answer whole, or as it comes.

use std::time::{Duration, Instant};

use crate::{
    Fault,
    bindings::wasi::{
        clocks::monotonic_clock,
        http::{
            outgoing_handler,
            types::{
                ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody,
                OutgoingRequest, RequestOptions, Scheme, http_error_code,
            },
        },
        io::{
            poll,
            streams::{InputStream, StreamError},
        },
    },
    http_out::{BODY_BYTES_MAX, Call, Head, Part, Reply},
};

/// The most that `blocking-write-and-flush` takes at once.
const WRITE_BYTES_MAX: usize = 4096;
/// How much is read at once.
const READ_BYTES: u64 = 64 * 1024;

/// The body of an answer, as far as it has not been read. The fields are dropped in this order, which their parents ask for.
pub(crate) struct Incoming {
    stream: InputStream,
    _body: IncomingBody,
    _response: IncomingResponse,
    bytes_read: usize,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Incoming")
    }
}

impl Incoming {
    /// What is there by now, or comes within `patience`.
    pub(crate) fn read(&mut self, patience: Duration) -> Result<Part, Fault> {
        {
            let (ready, timer) = (self.subscribe(), monotonic_clock::subscribe_duration(nanos(patience)));
            poll::poll(&[&ready, &timer]);
        }
        self.take()
    }

    /// Is ready when there is something to take.
    pub(super) fn subscribe(&self) -> poll::Pollable {
        self.stream.subscribe()
    }

    /// What is there by now.
    pub(super) fn take(&mut self) -> Result<Part, Fault> {
        match self.stream.read(READ_BYTES) {
            Ok(chunk) if chunk.is_empty() => Ok(Part::Waiting),
            Ok(chunk) => {
                self.bytes_read = self.bytes_read.saturating_add(chunk.len());
                Ok(Part::Chunk(chunk))
            }
            Err(error) => ended(error, self.bytes_read),
        }
    }
}

/// Why there is nothing more to read: the end, or what the host says is in the way.
fn ended(error: StreamError, bytes_read: usize) -> Result<Part, Fault> {
    let error = match error {
        StreamError::Closed => return Ok(Part::End),
        StreamError::LastOperationFailed(error) => error,
    };
    Err(match http_error_code(&error) {
        Some(code) => fault(code),
        // Not every host says why a body broke off; one so near to the limit was cut off by it.
        None if bytes_read > BODY_BYTES_MAX - BODY_BYTES_MAX / 8 => too_large(BODY_BYTES_MAX),
        None => Fault::Unavailable,
    })
}

pub(super) fn too_large(bytes_max: usize) -> Fault {
    Fault::TooLarge(format!("an answer has at most {bytes_max} bytes"))
}

/// Sends a request and reads the whole answer within the call's time.
pub(crate) fn http_send(call: &Call) -> Result<Reply, Fault> {
    let begun = Instant::now();
    let (head, mut body) = http_open(call)?;
    let mut bytes = Vec::new();
    loop {
        match body.read(call.timeout.saturating_sub(begun.elapsed()))? {
            Part::Chunk(chunk) => bytes.extend_from_slice(&chunk),
            Part::End => return Ok(Reply { status: head.status, headers: head.headers, body: bytes }),
            Part::Waiting => {}
        }
        if bytes.len() > BODY_BYTES_MAX {
            return Err(too_large(BODY_BYTES_MAX));
        }
        if begun.elapsed() >= call.timeout {
            return Err(Fault::Timeout);
        }
    }
}

/// Sends a request and returns when the head of the answer is there.
pub(crate) fn http_open(call: &Call) -> Result<(Head, Incoming), Fault> {
    let begun = Instant::now();
    let future = begin(call)?;
    let patience = call.timeout.saturating_sub(begun.elapsed());
    {
        let (head, timer) = (future.subscribe(), monotonic_clock::subscribe_duration(nanos(patience)));
        poll::poll(&[&head, &timer]);
    }
    opened(ready(&future).ok_or(Fault::Timeout)??)
}

/// Sends a request, whose answer is still to come.
pub(super) fn begin(call: &Call) -> Result<FutureIncomingResponse, Fault> {
    let request = OutgoingRequest::new(fields(call)?);
    let refused = |what: &str| Fault::Invalid(format!("the {what} is not valid"));
    let (scheme, authority, path) = call.parts().ok_or_else(|| refused("address"))?;
    request.set_method(&method(&call.method)).map_err(|()| refused("method"))?;
    request.set_scheme(Some(&scheme_of(scheme))).map_err(|()| refused("scheme"))?;
    request.set_authority(Some(authority)).map_err(|()| refused("authority"))?;
    request.set_path_with_query(Some(path)).map_err(|()| refused("path"))?;

    let options = RequestOptions::new();
    // A host that does not know a timeout of its own ignores them; the call's deadline holds anyway. How long the pieces of
    // the body may take is the reader's business.
    let _ = options.set_connect_timeout(Some(nanos(call.timeout)));
    let _ = options.set_first_byte_timeout(Some(nanos(call.timeout)));

    let body = request.body().map_err(|()| refused("body"))?;
    let future = outgoing_handler::handle(request, Some(options)).map_err(fault)?;
    write(body, &call.body)?;
    Ok(future)
}

/// The head of an answer, and its body as far as it is still to be read.
pub(super) fn opened(response: IncomingResponse) -> Result<(Head, Incoming), Fault> {
    let status = response.status();
    let headers = response
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), String::from_utf8_lossy(&value).into_owned()))
        .collect();
    let body = response.consume().map_err(|()| Fault::Unavailable)?;
    let stream = body.stream().map_err(|()| Fault::Unavailable)?;
    Ok((Head { status, headers }, Incoming { stream, _body: body, _response: response, bytes_read: 0 }))
}

/// The head of the answer, when it is there.
pub(super) fn ready(future: &FutureIncomingResponse) -> Option<Result<IncomingResponse, Fault>> {
    Some(match future.get()? {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(fault(error)),
        Err(()) => Err(Fault::Unavailable),
    })
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The headers, with the length of the body: not every server takes a body of unknown length.
fn fields(call: &Call) -> Result<Fields, Fault> {
    let mut entries: Vec<(String, Vec<u8>)> = call
        .headers
        .iter()
        .filter(|(name, _)| name != "content-length")
        .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
        .collect();
    if !call.body.is_empty() || matches!(call.method.as_str(), "POST" | "PUT" | "PATCH") {
        entries.push(("content-length".into(), call.body.len().to_string().into_bytes()));
    }
    Fields::from_list(&entries).map_err(|_| Fault::Invalid("a header is not valid".into()))
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), Fault> {
    if !bytes.is_empty() {
        let stream = body.write().map_err(|()| Fault::Unavailable)?;
        for chunk in bytes.chunks(WRITE_BYTES_MAX) {
            match stream.blocking_write_and_flush(chunk) {
                Ok(()) => {}
                // The other side answered without reading all: its answer says why, and not that the body is shorter than was said.
                Err(StreamError::Closed) => return Ok(()),
                Err(StreamError::LastOperationFailed(_)) => return Err(Fault::Unavailable),
            }
        }
        drop(stream);
    }
    OutgoingBody::finish(body, None).map_err(fault)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch,
        "OPTIONS" => Method::Options,
        other => Method::Other(other.to_string()),
    }
}

fn scheme_of(name: &str) -> Scheme {
    if name == "http" { Scheme::Http } else { Scheme::Https }
}

fn fault(error: ErrorCode) -> Fault {
    match error {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => {
            Fault::Denied("this destination is not allowed for the plugin".into())
        }
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => Fault::Timeout,
        ErrorCode::ConfigurationError => Fault::SecretUnavailable,
        ErrorCode::ConnectionLimitReached => Fault::Busy,
        ErrorCode::HttpRequestBodySize(_) => Fault::TooLarge("the body of the request".into()),
        ErrorCode::HttpResponseBodySize(_) => Fault::TooLarge("the body of the answer".into()),
        ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestMethodInvalid | ErrorCode::HttpRequestUriTooLong => {
            Fault::Invalid("the request is not valid".into())
        }
        _ => Fault::Unavailable,
    }
}
