//! Compressing answers for clients that ask for it: zstd, brotli and gzip.
//!
//! It must never hold back a stream: each part goes out as it comes. Events, small bodies, what is encoded or dense
//! already, and answers that set cookies (a secret beside what a client can choose would leak by its length) stay as they
//! are. A client that does not ask costs one look at the headers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use compression_codecs::brotli::params::EncoderParams;
use compression_codecs::core::Level;
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::flate::params::FlateEncoderParams;
use compression_codecs::zstd::params::CParameter;
use compression_codecs::{BrotliEncoder, EncodeV2, GzipEncoder, ZstdEncoder};
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap,
    SET_COOKIE, VARY,
};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};

use super::respond::ResponseBody;
use crate::body::BodyError;

/// A smaller body gains nothing.
const BYTES_MIN: u64 = 1024;
/// A body up to here is compressed at once and keeps a length; a larger one piece by piece, so that no request waits
/// long for another's body.
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// Codings looked at in one header.
const CODINGS_MAX: usize = 16;
/// What each pass of a coder may write.
const PASS_BYTES: usize = 8 * 1024;

/// How the client wants the body, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

/// The coding of ours that the client likes best; none when it asks for none.
pub(super) fn wanted(headers: &HeaderMap) -> Option<Coding> {
    let mut best: Option<(u16, Coding)> = None;
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for item in values.flat_map(|value| value.split(',')).take(CODINGS_MAX) {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let coding = match name.trim() {
            name if name.eq_ignore_ascii_case("zstd") => Coding::Zstd,
            name if name.eq_ignore_ascii_case("br") => Coding::Brotli,
            name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") || name == "*" => {
                Coding::Gzip
            }
            _ => continue,
        };
        let weight = weight(parameters);
        let is_better = best.is_none_or(|(other, than)| (weight, than) > (other, coding));
        if weight > 0 && is_better {
            best = Some((weight, coding));
        }
    }
    best.map(|(_, coding)| coding)
}

/// Compresses an answer where that is worth it and allowed.
pub(super) fn apply(wanted: Option<Coding>, response: &mut Response<ResponseBody>) {
    if !is_worth_it(response) {
        return;
    }
    response.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
    let Some(coding) = wanted else { return };
    let body = std::mem::replace(response.body_mut(), ResponseBody::Empty);
    let encoded = match body {
        ResponseBody::Full(Some(bytes)) if bytes.len() <= PIECE_BYTES_MAX => match whole(coding, &bytes) {
            Some(smaller) => ResponseBody::full(smaller),
            None => {
                *response.body_mut() = ResponseBody::Full(Some(bytes));
                return;
            }
        },
        body => ResponseBody::Encoded(Box::new(Encoded::new(coding, body))),
    };
    *response.body_mut() = encoded;
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_ENCODING, coding.name());
}

fn is_worth_it(response: &Response<ResponseBody>) -> bool {
    // The cheapest question first: most answers are small.
    let is_small = match response.body() {
        ResponseBody::Empty => true,
        body => body.size_hint().upper().is_some_and(|bytes| bytes < BYTES_MIN),
    };
    if is_small || response.status() == StatusCode::PARTIAL_CONTENT {
        return false;
    }
    let headers = response.headers();
    let says = |name, word: &str| {
        headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).is_some_and(|text| text.contains(word))
    };
    !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(CONTENT_RANGE)
        && !headers.contains_key(SET_COOKIE)
        && !says(CACHE_CONTROL, "no-transform")
        && headers.get(CONTENT_TYPE).is_some_and(|kind| is_loose(kind.as_bytes()))
}

/// Whether bodies of this type become smaller. Events are text too, but each must go out alone.
fn is_loose(media_type: &[u8]) -> bool {
    let kind = media_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let Ok(kind) = std::str::from_utf8(&kind) else { return false };
    match kind {
        "text/event-stream" => false,
        "application/json"
        | "application/javascript"
        | "application/xml"
        | "application/wasm"
        | "application/x-ndjson"
        | "application/yaml"
        | "image/svg+xml" => true,
        _ => kind.starts_with("text/") || kind.ends_with("+json") || kind.ends_with("+xml"),
    }
}

/// A quality of 0 to 1000; what is no number counts as nothing.
fn weight(parameters: &str) -> u16 {
    let named = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let Some(value) = named else { return 1000 };
    value.parse::<f32>().ok().filter(|value| (0.0..=1.0).contains(value)).map_or(0, |value| (value * 1000.0) as u16)
}

impl Coding {
    fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        })
    }

    /// A coder for bodies of at most `window` bits, and beyond that for any: it bounds what a coder holds in memory.
    fn coder(self, window: u8) -> Box<dyn EncodeV2 + Send> {
        match self {
            Self::Zstd => Box::new(ZstdEncoder::new_with_params(3, &[CParameter::window_log(u32::from(window))])),
            Self::Brotli => {
                let parameters = EncoderParams::default().quality(Level::Precise(4)).window_size(i32::from(window));
                Box::new(BrotliEncoder::new(parameters))
            }
            Self::Gzip => Box::new(GzipEncoder::new(FlateEncoderParams::from(Level::Precise(5)))),
        }
    }
}

/// A whole small body; none when it would not become smaller.
fn whole(coding: Coding, bytes: &Bytes) -> Option<Vec<u8>> {
    let mut coder = coding.coder(16);
    let mut output = Vec::with_capacity(bytes.len() / 3);
    encode(&mut *coder, bytes, &mut output).ok()?;
    drain(&mut output, |buffer| coder.finish(buffer)).ok()?;
    (output.len() < bytes.len()).then_some(output)
}

fn encode(coder: &mut dyn EncodeV2, bytes: &[u8], output: &mut Vec<u8>) -> std::io::Result<()> {
    let mut input = PartialBuffer::new(bytes);
    drain(output, |buffer| {
        coder.encode(&mut input, buffer)?;
        Ok(input.unwritten().is_empty())
    })
}

/// Turns the crank until it says that it is done.
fn drain(
    output: &mut Vec<u8>,
    mut step: impl FnMut(&mut WriteBuffer<'_>) -> std::io::Result<bool>,
) -> std::io::Result<()> {
    let mut pass = [0u8; PASS_BYTES];
    loop {
        let mut buffer = WriteBuffer::new_initialized(&mut pass);
        let is_done = step(&mut buffer)?;
        output.extend_from_slice(buffer.written());
        if is_done {
            return Ok(());
        }
    }
}

/// A body that is compressed while it goes out.
pub(crate) struct Encoded {
    inner: ResponseBody,
    coder: Box<dyn EncodeV2 + Send>,
    /// What is still to be compressed of the last part.
    part: Bytes,
    /// Whether the parts come when they come, so that each must go out at once.
    is_live: bool,
    has_ended: bool,
}

impl Encoded {
    fn new(coding: Coding, inner: ResponseBody) -> Self {
        let is_live = !matches!(inner, ResponseBody::Full(_));
        Self { inner, coder: coding.coder(18), part: Bytes::new(), is_live, has_ended: false }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.has_ended {
                return Poll::Ready(None);
            }
            if !self.part.is_empty() {
                let output = self.next_piece()?;
                if !output.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(output))));
                }
                // A large body must not keep this thread from other requests.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                // Trailers would tell of a body that is not the one sent.
                Some(Ok(frame)) => self.part = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    self.has_ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.has_ended = true;
                    let mut output = Vec::new();
                    let coder = &mut self.coder;
                    drain(&mut output, |buffer| coder.finish(buffer))?;
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from(output)))));
                }
            }
        }
    }

    fn next_piece(&mut self) -> std::io::Result<Bytes> {
        let piece = self.part.split_to(self.part.len().min(PIECE_BYTES_MAX));
        let mut output = Vec::new();
        encode(&mut *self.coder, &piece, &mut output)?;
        if self.is_live && self.part.is_empty() {
            let coder = &mut self.coder;
            drain(&mut output, |buffer| coder.flush(buffer))?;
        }
        Ok(Bytes::from(output))
    }
}

#[cfg(test)]
mod tests;
