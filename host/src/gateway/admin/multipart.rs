//! A form with files (RFC 7578) that is in memory whole: cut into its parts without a copy.
//!
//! Strict and small: no preamble, no nested parts, no transfer encodings, a handful of parts.

use bytes::Bytes;

/// Characters of a boundary (RFC 2046).
const BOUNDARY_CHARS_MAX: usize = 70;
/// Bytes of a part's headers.
const HEAD_BYTES_MAX: usize = 4 * 1024;
/// Parts of a form.
const PARTS_MAX: usize = 8;
const BROKEN: &str = "the form is not multipart/form-data as RFC 7578 has it";

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The field's name.
    pub name: String,
    pub bytes: Bytes,
}

/// The boundary that a `Content-Type` names; none when it is no form.
pub(super) fn boundary(content_type: &str) -> Option<&str> {
    let mut pieces = content_type.split(';');
    if !pieces.next()?.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = pieces.find_map(|piece| parameter(piece, "boundary"))?;
    let is_good =
        (1..=BOUNDARY_CHARS_MAX).contains(&boundary.len()) && boundary.bytes().all(|byte| byte.is_ascii_graphic());
    is_good.then_some(boundary)
}

/// The parts of a form, in their order.
///
/// # Errors
/// A sentence when it is malformed or has too many parts.
pub(super) fn read(form: &Bytes, boundary: &str) -> Result<Vec<Part>, &'static str> {
    let delimiter = format!("\r\n--{boundary}");
    let opening = delimiter.as_bytes().get(2..).unwrap_or_default();
    let mut rest = after(form, opening).ok_or(BROKEN)?;
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        if parts.len() == PARTS_MAX {
            return Err("the form has too many parts");
        }
        if !rest.starts_with(b"\r\n") {
            return Err(BROKEN);
        }
        // The line break of the delimiter belongs to it, so that a part without headers begins with an empty line too.
        let begin = rest.slice(..rest.len().min(HEAD_BYTES_MAX));
        let head = find(&begin, b"\r\n\r\n").ok_or(BROKEN)?;
        let name = name(begin.get(..head).unwrap_or_default()).ok_or(BROKEN)?;
        let body = rest.slice(head + 4..);
        let end = find(&body, delimiter.as_bytes()).ok_or(BROKEN)?;
        parts.push(Part { name, bytes: body.slice(..end) });
        rest = body.slice(end + delimiter.len()..);
    }
    Ok(parts)
}

/// What follows `beginning`.
fn after(bytes: &Bytes, beginning: &[u8]) -> Option<Bytes> {
    bytes.starts_with(beginning).then(|| bytes.slice(beginning.len()..))
}

/// The field's name in the headers of a part.
fn name(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.split("\r\n").find_map(|line| {
        let (header, value) = line.split_once(':')?;
        header.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let mut pieces = disposition.split(';');
    let is_field = pieces.next()?.trim().eq_ignore_ascii_case("form-data");
    pieces.find_map(|piece| parameter(piece, "name")).filter(|_| is_field).map(str::to_owned)
}

/// The value of `name=value` or `name="value"`.
fn parameter<'a>(piece: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = piece.split_once('=')?;
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    key.trim().eq_ignore_ascii_case(name).then_some(value)
}

/// Where `needle` begins. Only where its first byte stands is the rest of it compared.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut from = 0;
    loop {
        let rest = bytes.get(from..)?;
        let at = from + rest.iter().position(|byte| byte == first)?;
        if bytes.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "--x\r\nContent-Disposition: form-data; name=\"entry\"; filename=\"e.toml\"\r\nContent-Type: a/b\r\n\r\n\
                        routes = []\r\n--x\r\ncontent-disposition: form-data; name=component\r\n\r\n\0\r\n--y\r\n\r\n--x--\r\n";

    #[test]
    fn a_form_is_cut_into_its_parts() {
        let parts = read(&Bytes::from_static(FORM.as_bytes()), "x").unwrap();
        let found: Vec<_> = parts.iter().map(|part| (part.name.as_str(), &part.bytes[..])).collect();
        assert_eq!(found, [("entry", &b"routes = []"[..]), ("component", b"\0\r\n--y\r\n")]);
    }

    #[test]
    fn what_is_no_form_is_refused_wherever_it_ends() {
        for end in 0..FORM.len() - "--\r\n".len() {
            let cut = Bytes::from_static(FORM.as_bytes()).slice(..end);
            assert!(read(&cut, "x").is_err(), "{end}");
        }
        for broken in ["", "x", "--x\r\n\r\n\r\n--x--", "--x\r\nname: entry\r\n\r\n\r\n--x--"] {
            assert_eq!(read(&Bytes::from_static(broken.as_bytes()), "x"), Err(BROKEN), "{broken:?}");
        }
        let many = "--x\r\ncontent-disposition: form-data; name=a\r\n\r\n\r\n".repeat(9) + "--x--";
        assert_eq!(read(&Bytes::from(many), "x"), Err("the form has too many parts"));
    }

    #[test]
    fn a_boundary_is_read_quoted_or_not() {
        assert_eq!(boundary("multipart/form-data; boundary=abc"), Some("abc"));
        assert_eq!(boundary("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\""), None);
        assert_eq!(boundary("multipart/form-data; boundary=\"a:b\""), Some("a:b"));
        for wrong in ["multipart/form-data", "multipart/form-data; boundary=", "application/wasm; boundary=x", ""] {
            assert_eq!(boundary(wrong), None, "{wrong}");
        }
    }
}
