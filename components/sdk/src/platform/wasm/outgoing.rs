//! One outgoing request over `wasi:http`, whole.

use crate::{
    Fault,
    bindings::wasi::{
        http::{
            outgoing_handler,
            types::{ErrorCode, Fields, IncomingBody, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme},
        },
        io::streams::StreamError,
    },
    http_out::{BODY_BYTES_MAX, Call, Reply},
};

/// The most that `blocking-write-and-flush` takes at once.
const WRITE_BYTES_MAX: usize = 4096;
/// How much is read at once.
const READ_BYTES: u64 = 64 * 1024;

/// Sends a request and reads the whole answer.
pub(crate) fn http_send(call: &Call) -> Result<Reply, Fault> {
    let request = OutgoingRequest::new(fields(call)?);
    let refused = |what: &str| Fault::Invalid(format!("the {what} is not valid"));
    let (scheme, authority, path) = call.parts().ok_or_else(|| refused("address"))?;
    request.set_method(&method(&call.method)).map_err(|()| refused("method"))?;
    request.set_scheme(Some(&scheme_of(scheme))).map_err(|()| refused("scheme"))?;
    request.set_authority(Some(authority)).map_err(|()| refused("authority"))?;
    request.set_path_with_query(Some(path)).map_err(|()| refused("path"))?;

    let options = RequestOptions::new();
    let nanos = u64::try_from(call.timeout.as_nanos()).unwrap_or(u64::MAX);
    // A host that does not know a timeout of its own ignores them; the call's deadline holds anyway.
    let _ = options.set_connect_timeout(Some(nanos));
    let _ = options.set_first_byte_timeout(Some(nanos));
    let _ = options.set_between_bytes_timeout(Some(nanos));

    let body = request.body().map_err(|()| refused("body"))?;
    let future = outgoing_handler::handle(request, Some(options)).map_err(fault)?;
    write(body, &call.body)?;
    future.subscribe().block();
    let response = match future.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(error))) => return Err(fault(error)),
        _ => return Err(Fault::Unavailable),
    };
    let status = response.status();
    let headers = response
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), String::from_utf8_lossy(&value).into_owned()))
        .collect();
    let body = read(&response.consume().map_err(|()| Fault::Unavailable)?)?;
    Ok(Reply { status, headers, body })
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
                // The other side answered without reading all: its answer says why.
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(_)) => return Err(Fault::Unavailable),
            }
        }
        drop(stream);
    }
    OutgoingBody::finish(body, None).map_err(fault)
}

fn read(body: &IncomingBody) -> Result<Vec<u8>, Fault> {
    let stream = body.stream().map_err(|()| Fault::Unavailable)?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(_)) => return Err(Fault::Unavailable),
        }
        if bytes.len() > BODY_BYTES_MAX {
            return Err(Fault::TooLarge(format!("an answer has at most {BODY_BYTES_MAX} bytes")));
        }
    }
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
        ErrorCode::ConnectionLimitReached => Fault::Busy,
        ErrorCode::HttpRequestBodySize(_) => Fault::TooLarge("the body of the request".into()),
        ErrorCode::HttpResponseBodySize(_) => Fault::TooLarge("the body of the answer".into()),
        ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestMethodInvalid | ErrorCode::HttpRequestUriTooLong => {
            Fault::Invalid("the request is not valid".into())
        }
        _ => Fault::Unavailable,
    }
}
