//! Requests and answers in one piece, as `wit/handler.wit` lays them out. It must never trust a length.

use crate::http::Request;

/// Headers of a request that are looked at; the host lets fewer in.
const HEADERS_MAX: usize = 4096;

/// Bytes of the length at the end.
const LENGTH_BYTES: usize = 4;

/// The request that the host packed; none when it is none.
pub(crate) fn unpack(mut packed: Vec<u8>) -> Option<Request> {
    let (before, length) = packed.split_last_chunk::<LENGTH_BYTES>()?;
    let begin = before.len().checked_sub(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let mut rest = before.get(begin..)?;
    let method = text(&mut rest)?;
    let path = text(&mut rest)?;
    let request_id = text(&mut rest)?;
    let query = match number(&mut rest)? {
        0 => None,
        _ => Some(text(&mut rest)?),
    };
    let count = number(&mut rest)?;
    if count > HEADERS_MAX {
        return None;
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        headers.push((text(&mut rest)?, text(&mut rest)?));
    }
    packed.truncate(begin);
    Some(Request { method, path, query, headers, body: packed, request_id, params: Vec::new() })
}

/// The answer, packed: its body with the head behind it.
pub(crate) fn pack(status: u16, headers: &[(String, String)], body: Vec<u8>) -> Vec<u8> {
    let texts: usize = headers.iter().map(|(name, value)| 8 + name.len() + value.len()).sum();
    let mut packed = body;
    packed.reserve_exact(8 + texts + LENGTH_BYTES);
    put_number(&mut packed, usize::from(status));
    put_number(&mut packed, headers.len());
    for (name, value) in headers {
        put_text(&mut packed, name);
        put_text(&mut packed, value);
    }
    put_number(&mut packed, 8 + texts);
    packed
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let (digits, after) = rest.split_first_chunk::<4>()?;
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
    // What is longer than four gigabytes does not fit into a guest.
    packed.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_text(packed: &mut Vec<u8>, text: &str) {
    put_number(packed, text.len());
    packed.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(query: Option<&str>, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut packed = body.to_vec();
        for part in ["GET", "/api/notes", "r1"] {
            put_text(&mut packed, part);
        }
        put_number(&mut packed, usize::from(query.is_some()));
        query.iter().for_each(|query| put_text(&mut packed, query));
        put_number(&mut packed, headers.len());
        for (name, value) in headers {
            put_text(&mut packed, name);
            put_text(&mut packed, value);
        }
        let length = packed.len() - body.len();
        put_number(&mut packed, length);
        packed
    }

    #[test]
    fn a_request_comes_out_as_it_was_packed() {
        let request = unpack(packed(Some("a=b"), &[("host", "h"), ("accept", "")], b"body")).unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/api/notes"));
        assert_eq!((request.query.as_deref(), request.request_id.as_str()), (Some("a=b"), "r1"));
        assert_eq!(request.headers, [("host".into(), "h".into()), ("accept".into(), String::new())]);
        assert_eq!(request.body, b"body");
        let plain = unpack(packed(None, &[], b"")).unwrap();
        assert_eq!((plain.query, plain.headers.len(), plain.body.len()), (None, 0, 0));
    }

    #[test]
    fn what_breaks_off_is_no_request() {
        let whole = packed(Some("q"), &[("host", "h")], b"");
        for length in 0..whole.len() {
            let mut broken = whole[whole.len() - length..].to_vec();
            assert!(unpack(broken.clone()).is_none(), "the last {length} bytes");
            let end = length.saturating_sub(LENGTH_BYTES);
            broken.truncate(end);
            put_number(&mut broken, end);
            assert!(unpack(broken).is_none(), "the last {end} bytes as a head");
        }
        let mut endless = packed(None, &[], b"");
        let end = endless.len() - LENGTH_BYTES;
        endless[end - 4..end].fill(0xff);
        assert!(unpack(endless).is_none());
    }

    #[test]
    fn an_answer_is_body_head_and_length() {
        let answer = pack(201, &[("etag".into(), "1".into())], b"{}".to_vec());
        assert_eq!(answer, b"{}\xc9\0\0\0\x01\0\0\0\x04\0\0\0etag\x01\0\0\x001\x15\0\0\0");
    }
}
