//! Which request paths are let in at all, before anything is matched against them.
//!
//! A path that two readers could understand differently (dot segments, empty segments, backslashes, NUL, encoded or not)
//! must never reach routing, a permission check or a guest.

use super::error::GatewayError;

/// Bytes of a path; a longer one is 414.
pub(crate) const PATH_BYTES_MAX: usize = 4096;
/// Bytes of a query; a longer one is 414.
pub(crate) const QUERY_BYTES_MAX: usize = 16 * 1024;

/// Refuses a path or query that is ambiguous or too long.
pub(crate) fn check(path: &str, query: Option<&str>) -> Result<(), GatewayError> {
    if path.len() > PATH_BYTES_MAX || query.is_some_and(|query| query.len() > QUERY_BYTES_MAX) {
        return Err(GatewayError::UriTooLong);
    }
    if !path.starts_with('/') {
        return Err(GatewayError::Malformed("the path must begin with a slash"));
    }
    let mut is_plain = true;
    let mut previous = 0u8;
    for byte in path.bytes() {
        match byte {
            b'%' => is_plain = false,
            b'\\' => return Err(GatewayError::Malformed("the path holds a backslash")),
            b'/' if previous == b'/' => return Err(GatewayError::Malformed("the path holds an empty segment")),
            0..=0x1f | 0x7f => return Err(GatewayError::Malformed("the path holds a control character")),
            _ => {}
        }
        previous = byte;
    }
    if is_plain { check_segments(path.as_bytes()) } else { check_encoded(path) }
}

/// Decodes percent-encoding. None when an escape is broken or the result is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push((high * 16 + low) as u8);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

/// Decodes everything but encoded slashes, so that the segments stay what they are. None as [`decode`].
pub(super) fn decode_segments(path: &str) -> Option<String> {
    let segments: Option<Vec<String>> =
        path.split('/').map(|segment| decode(segment).map(|decoded| decoded.replace('/', "%2F"))).collect();
    segments.map(|segments| segments.join("/"))
}

/// The same questions once more, asked of what the path decodes to. An encoded slash stays inside its segment for
/// routing, but a segment hidden behind it is judged as if it were one.
fn check_encoded(path: &str) -> Result<(), GatewayError> {
    let Some(decoded) = decode(path) else {
        return Err(GatewayError::Malformed("the path holds a broken percent-escape"));
    };
    if decoded.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(GatewayError::Malformed("the path holds a control character"));
    }
    if decoded.contains('\\') {
        return Err(GatewayError::Malformed("the path holds a backslash"));
    }
    if decoded.contains("//") {
        return Err(GatewayError::Malformed("the path holds an empty segment"));
    }
    check_segments(decoded.as_bytes())
}

fn check_segments(path: &[u8]) -> Result<(), GatewayError> {
    if path.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b"..") {
        return Err(GatewayError::Malformed("the path holds a dot segment"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_pass() {
        for path in
            ["/", "/api/plans", "/api/plans/", "/api/a.b/..c/.well-known", "/api/caf%C3%A9/a%20b", "/api/models/a%2Fb"]
        {
            assert!(check(path, Some("a=/../b")).is_ok(), "{path}");
        }
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for path in [
            "",
            "*",
            "api",
            "//",
            "/api//plans",
            "/api/plans//",
            "/api/../admin",
            "/api/..",
            "/api/./plans",
            "/api/%2e%2e/admin",
            "/api/.%2E/admin",
            "/api/..%2fadmin",
            "/api/a%2f..%2fb",
            "/api/%2f%2fx",
            "/api/a%5c..",
            "/api/a\\b",
            "/api/a%00b",
            "/api/a%0ab",
            "/api/a%",
            "/api/a%zz",
            "/api/a%ff",
        ] {
            assert!(matches!(check(path, None), Err(GatewayError::Malformed(_))), "{path}");
        }
    }

    #[test]
    fn an_overlong_path_or_query_is_refused() {
        assert!(matches!(check(&format!("/{}", "a".repeat(PATH_BYTES_MAX)), None), Err(GatewayError::UriTooLong)));
        assert!(matches!(check("/", Some(&"a".repeat(QUERY_BYTES_MAX + 1))), Err(GatewayError::UriTooLong)));
    }

    #[test]
    fn no_accepted_path_decodes_to_a_dot_segment() {
        let pieces = ["a", ".", "/", "%2e", "%2F", "%5c", "\\", "%"];
        let mut paths = vec!["/".to_owned()];
        for _ in 0..5 {
            paths = paths.iter().flat_map(|path| pieces.map(|piece| format!("{path}{piece}"))).collect();
            for path in paths.iter().filter(|path| check(path, None).is_ok()) {
                let decoded = decode(path).unwrap();
                assert!(decoded.split('/').all(|segment| segment != ".." && segment != "."), "{path}");
                assert!(!decoded.contains("//") && !decoded.contains('\\'), "{path}");
            }
        }
    }
}
