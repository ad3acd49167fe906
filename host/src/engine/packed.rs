//! Whole requests and answers in one piece, as `wit/handler.wit` lays them out for `packed-handler`.
//!
//! A request is packed once, on its way out of the gateway, and unpacked only for a component that wants a record. What
//! an answer says comes from a guest: no length in it is believed.

use std::ops::Range;

use bytes::Bytes;

use crate::bindings::handler;

/// Bytes of a number, and of the length at the end.
const NUMBER_BYTES: usize = 4;
/// What method, numbers and the request's id take, about.
const HEAD_BYTES: usize = 128;
/// Headers that room is made for at once.
const HEADERS_AT_ONCE: usize = 64;

/// A whole request.
#[derive(Clone, Debug)]
pub(crate) struct PackedRequest(Vec<u8>);

/// A whole request in the making.
pub(crate) struct Packer {
    head: Vec<u8>,
    count_at: usize,
    count: u32,
}

/// What a guest answered: nothing in it has been judged.
#[derive(Debug)]
pub(crate) enum Answer {
    Record(handler::Response),
    Packed(Bytes),
}

/// A packed answer as it is read.
pub(crate) struct PackedAnswer {
    pub status: u16,
    packed: Bytes,
    /// Headers that are still to be read.
    count: usize,
    /// Where the body ends and the head begins.
    begin: usize,
    /// How far the head has been read.
    at: usize,
}

impl Packer {
    /// Begins a request whose headers take about `header_bytes`.
    pub(crate) fn new(method: &str, path: &str, query: Option<&str>, request_id: &str, header_bytes: usize) -> Self {
        let bytes = HEAD_BYTES + path.len() + query.map_or(0, str::len) + header_bytes;
        let mut head = Vec::with_capacity(bytes);
        put_text(&mut head, method.as_bytes());
        put_text(&mut head, path.as_bytes());
        put_text(&mut head, request_id.as_bytes());
        put_number(&mut head, usize::from(query.is_some()));
        if let Some(query) = query {
            put_text(&mut head, query.as_bytes());
        }
        let count_at = head.len();
        put_number(&mut head, 0);
        Self { head, count_at, count: 0 }
    }

    /// Adds a header. Bytes that are no UTF-8 are replaced.
    pub(crate) fn header(&mut self, name: &str, value: &[u8]) {
        put_text(&mut self.head, name.as_bytes());
        if value.is_ascii() {
            put_text(&mut self.head, value);
        } else {
            put_text(&mut self.head, String::from_utf8_lossy(value).as_bytes());
        }
        self.count += 1;
    }

    /// Ends it with its body.
    pub(crate) fn finish(mut self, body: Bytes) -> PackedRequest {
        let length = self.head.len();
        if let Some(count) = self.head.get_mut(self.count_at..).and_then(<[u8]>::first_chunk_mut::<NUMBER_BYTES>) {
            *count = self.count.to_le_bytes();
        }
        put_number(&mut self.head, length);
        if body.is_empty() {
            return PackedRequest(self.head);
        }
        // Whoever read the body has let go of it: then this costs no copy.
        let mut packed = Vec::from(body);
        packed.extend_from_slice(&self.head);
        PackedRequest(packed)
    }
}

impl PackedRequest {
    /// As it is handed to a guest.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same with an empty body.
    pub(super) fn without_body(&self) -> Self {
        Self(split(&self.0).and_then(|(begin, _)| self.0.get(begin..)).unwrap_or_default().to_vec())
    }

    /// A record as it would have been packed.
    pub(crate) fn of(request: handler::Request) -> Self {
        let handler::Request { method, path, query, headers, body, request_id } = request;
        let mut packer = Packer::new(&method, &path, query.as_deref(), &request_id, 0);
        for (name, value) in &headers {
            packer.header(name, value.as_bytes());
        }
        packer.finish(body.into())
    }

    /// As a record. None only for what no [`Packer`] made.
    pub(crate) fn unpack(mut self) -> Option<handler::Request> {
        let (begin, mut head) = split(&self.0)?;
        let method = text(&mut head)?;
        let path = text(&mut head)?;
        let request_id = text(&mut head)?;
        let query = match number(&mut head)? {
            0 => None,
            _ => Some(text(&mut head)?),
        };
        let count = number(&mut head)?;
        let mut headers = Vec::with_capacity(count.min(HEADERS_AT_ONCE));
        for _ in 0..count {
            headers.push((text(&mut head)?, text(&mut head)?));
        }
        self.0.truncate(begin);
        Some(handler::Request { method, path, query, headers, body: self.0, request_id })
    }
}

impl Answer {
    /// Its status; none for what is no answer.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Record(record) => Some(record.status),
            Self::Packed(packed) => {
                let (_, mut head) = split(packed)?;
                u16::try_from(number(&mut head)?).ok()
            }
        }
    }

    /// Its body.
    pub(crate) fn body(&self) -> &[u8] {
        match self {
            Self::Record(record) => &record.body,
            Self::Packed(packed) => split(packed).and_then(|(begin, _)| packed.get(..begin)).unwrap_or_default(),
        }
    }
}

impl PackedAnswer {
    /// Reads the beginning of an answer; none when it is none.
    pub(crate) fn read(packed: Bytes) -> Option<Self> {
        let (begin, mut head) = split(&packed)?;
        let status = u16::try_from(number(&mut head)?).ok()?;
        let count = number(&mut head)?;
        let at = begin + 2 * NUMBER_BYTES;
        Some(Self { status, packed, count, begin, at })
    }

    /// How many headers are still to be read.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Name and value of the next header; none when it breaks off.
    pub(crate) fn header(&mut self) -> Option<(&[u8], Bytes)> {
        let (name, value) = (self.part()?, self.part()?);
        self.count = self.count.saturating_sub(1);
        Some((self.packed.get(name)?, self.packed.slice(value)))
    }

    /// The body; it shares the guest's answer with the headers.
    pub(crate) fn body(mut self) -> Bytes {
        self.packed.truncate(self.begin);
        self.packed
    }

    fn part(&mut self) -> Option<Range<usize>> {
        let end = self.packed.len().checked_sub(NUMBER_BYTES)?;
        let mut rest = self.packed.get(self.at..end)?;
        let bytes = number(&mut rest)?;
        rest.get(..bytes)?;
        let begin = self.at + NUMBER_BYTES;
        self.at = begin + bytes;
        Some(begin..self.at)
    }
}

/// Where the head begins, and the head.
fn split(packed: &[u8]) -> Option<(usize, &[u8])> {
    let (before, length) = packed.split_last_chunk::<NUMBER_BYTES>()?;
    let begin = before.len().checked_sub(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    Some((begin, before.get(begin..)?))
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let (digits, after) = rest.split_first_chunk::<NUMBER_BYTES>()?;
    *rest = after;
    usize::try_from(u32::from_le_bytes(*digits)).ok()
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = number(rest)?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

fn put_number(packed: &mut Vec<u8>, number: usize) {
    // The gateway's limits are far below.
    packed.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_text(packed: &mut Vec<u8>, text: &[u8]) {
    put_number(packed, text.len());
    packed.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(query: Option<&str>, body: &'static [u8]) -> PackedRequest {
        let mut packer = Packer::new("GET", "/api/notes", query, "r1", 16);
        packer.header("host", b"h");
        packer.header("x-old", b"caf\xe9");
        packer.finish(Bytes::from_static(body))
    }

    #[test]
    fn a_request_comes_out_as_it_was_packed() {
        for (query, body) in [(None, &b""[..]), (Some("a=b"), b"body")] {
            let record = request(query, body).unpack().unwrap();
            assert_eq!((record.method.as_str(), record.path.as_str()), ("GET", "/api/notes"));
            assert_eq!((record.query.as_deref(), record.request_id.as_str()), (query, "r1"));
            assert_eq!(record.headers, [("host".into(), "h".into()), ("x-old".into(), "caf\u{fffd}".into())]);
            assert_eq!(record.body, body);
            let bare = request(query, body).without_body().unpack().unwrap();
            assert_eq!((bare.headers.len(), bare.body.len()), (2, 0));
            assert_eq!(PackedRequest::of(record).as_bytes(), request(query, body).as_bytes());
        }
    }

    #[test]
    fn an_answer_is_read_without_a_copy() {
        let packed = b"{}\xc9\0\0\0\x01\0\0\0\x04\0\0\0etag\x01\0\0\x001\x15\0\0\0";
        let whole = Answer::Packed(Bytes::from_static(packed));
        assert_eq!((whole.status(), whole.body()), (Some(201), &b"{}"[..]));
        let mut answer = PackedAnswer::read(Bytes::from_static(packed)).unwrap();
        assert_eq!((answer.status, answer.count()), (201, 1));
        assert_eq!(answer.header().unwrap(), (&b"etag"[..], Bytes::from("1")));
        assert!(answer.count() == 0 && answer.header().is_none());
        assert_eq!(answer.body(), "{}");
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_guest_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64), tail in 0_u8..64) {
            for end in [bytes.clone(), [bytes, vec![tail, 0, 0, 0]].concat()] {
                let whole = Answer::Packed(Bytes::from(end.clone()));
                let _ = (whole.status(), whole.body());
                if let Some(mut answer) = PackedAnswer::read(Bytes::from(end)) {
                    while answer.header().is_some() {}
                    let _ = answer.body();
                }
            }
        }
    }
}
