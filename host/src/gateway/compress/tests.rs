//! What is compressed, what is not, and that a stream is never held back.

use compression_codecs::{BrotliDecoder, DecodeV2, GzipDecoder, ZstdDecoder};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;

use super::*;
use crate::body::Body;

const CODINGS: [(Coding, &str); 3] = [(Coding::Zstd, "zstd"), (Coding::Brotli, "br"), (Coding::Gzip, "gzip")];

fn asked(values: &[&str]) -> Option<Coding> {
    let values = values.iter().map(|value| (ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap()));
    wanted(&values.fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    }))
}

fn answer(kind: &str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
    response
}

fn text(bytes: usize) -> String {
    let mut text = String::new();
    for number in 0.. {
        text.push_str(&format!("line {number}, "));
        if text.len() >= bytes {
            break;
        }
    }
    text
}

/// What can be read so far of a compressed body.
fn decoded(coding: Coding, bytes: &[u8]) -> String {
    let mut decoder: Box<dyn DecodeV2> = match coding {
        Coding::Zstd => Box::new(ZstdDecoder::new()),
        Coding::Brotli => Box::new(BrotliDecoder::new()),
        Coding::Gzip => Box::new(GzipDecoder::new()),
    };
    let mut input = PartialBuffer::new(bytes);
    let mut output = Vec::new();
    loop {
        let mut pass = [0u8; PASS_BYTES];
        let mut buffer = WriteBuffer::new_initialized(&mut pass);
        let is_done = decoder.decode(&mut input, &mut buffer).unwrap();
        output.extend_from_slice(buffer.written());
        // A decoder that still had something to say would have filled the buffer.
        if is_done || (input.unwritten().is_empty() && !buffer.has_no_spare_space()) {
            return String::from_utf8(output).unwrap();
        }
    }
}

#[test]
fn the_client_chooses_and_a_tie_is_ours() {
    for (values, coding) in [
        (&[][..], None),
        (&["identity"], None),
        (&["gzip"], Some(Coding::Gzip)),
        (&["gzip, br"], Some(Coding::Brotli)),
        (&["gzip", "zstd"], Some(Coding::Zstd)),
        (&["gzip;q=1.0, br;q=0.5, zstd;q=0"], Some(Coding::Gzip)),
        (&["br; Q=0.9 ,gzip;q=0.8"], Some(Coding::Brotli)),
        (&["gzip;q=0, br;q=7, zstd;q=x"], None),
        (&["*"], Some(Coding::Gzip)),
        (&["compress, deflate"], None),
    ] {
        assert_eq!(asked(values), coding, "{values:?}");
    }
}

#[tokio::test]
async fn what_is_compressed_is_what_was_sent() {
    for bytes in [1024, 10_000, PIECE_BYTES_MAX * 5] {
        for (coding, name) in CODINGS {
            let plain = text(bytes);
            let mut response = answer("application/json; charset=utf-8", ResponseBody::full(plain.clone()));
            apply(Some(coding), &mut response);
            assert_eq!(response.headers().get(CONTENT_ENCODING).unwrap(), name);
            assert_eq!(response.headers().get(VARY).unwrap(), "accept-encoding");
            let sent = response.into_body().collect().await.unwrap().to_bytes();
            assert!(sent.len() < plain.len() / 2, "{name}: {} of {}", sent.len(), plain.len());
            assert!(decoded(coding, &sent) == plain, "{name} with {bytes} bytes");
        }
    }
}

#[test]
fn what_would_gain_nothing_or_must_not_stays_as_it_is() {
    let long = || ResponseBody::full(text(4096));
    let with = |name: http::HeaderName, value: &'static str| {
        let mut response = answer("application/json", long());
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response
    };
    let mut partial = answer("text/plain", long());
    *partial.status_mut() = StatusCode::PARTIAL_CONTENT;
    for mut response in [
        answer("application/json", ResponseBody::full(text(900))),
        answer("application/json", ResponseBody::Empty),
        answer("image/png", long()),
        answer("application/octet-stream", long()),
        answer("text/event-stream", long()),
        with(CONTENT_ENCODING, "br"),
        with(SET_COOKIE, "a=b"),
        with(CACHE_CONTROL, "public, no-transform"),
        partial,
    ] {
        apply(Some(Coding::Gzip), &mut response);
        assert!(!response.headers().contains_key(VARY), "{:?}", response.headers());
        assert!(!matches!(response.body(), ResponseBody::Encoded(_)));
    }
}

#[tokio::test]
async fn each_part_of_a_stream_goes_out_as_it_comes() {
    for (coding, name) in CODINGS {
        let (mut sender, channel) = Channel::<Bytes, BodyError>::new(4);
        let inner: Body = channel.boxed_unsync();
        let request_id = "request".into();
        let mut response = answer("text/plain", ResponseBody::stream(inner, &HeaderMap::new(), &request_id));
        apply(Some(coding), &mut response);
        let mut body = response.into_body();
        let mut sent = Vec::new();
        for (part, so_far) in [("first", "first"), (" second", "first second")] {
            sender.send_data(Bytes::from_static(part.as_bytes())).await.unwrap();
            sent.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
            assert_eq!(decoded(coding, &sent), so_far, "{name}");
        }
        drop(sender);
        while let Some(frame) = body.frame().await {
            sent.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        assert_eq!(decoded(coding, &sent), "first second", "{name}");
        assert!(body.is_end_stream());
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_stays_broken() {
    let (sender, channel) = Channel::<Bytes, BodyError>::new(1);
    sender.abort("gone".into());
    let request_id = "request".into();
    let mut response =
        answer("text/plain", ResponseBody::stream(channel.boxed_unsync(), &HeaderMap::new(), &request_id));
    apply(Some(Coding::Zstd), &mut response);
    assert!(response.into_body().collect().await.is_err());
}
