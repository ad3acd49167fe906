//! Path prefixes on whole segments, and the one reading of a request's path that they are compared with.
//!
//! A path is only read here, never rewritten: the component gets it as it was sent.

use std::borrow::{Borrow, Cow};
use std::fmt;

/// Segments a prefix may have: bounds the look-ups of one request.
pub(super) const SEGMENTS_MAX: usize = 8;
/// Characters a prefix may have.
const CHARS_MAX: usize = 256;

/// A path prefix of the manifest, as in `/api/plans`: whole segments, no slash at the end, `/` for everything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Prefix(Box<str>);

impl Prefix {
    /// Reads a prefix; a slash at its end is dropped. The error is a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > CHARS_MAX {
            return Err(format!("a route prefix has at most {CHARS_MAX} characters"));
        }
        let Some(inner) = text.strip_prefix('/') else {
            return Err(format!("the route prefix `{text}` does not begin with a slash"));
        };
        if inner.is_empty() {
            return Ok(Self("/".into()));
        }
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        if inner.split('/').count() > SEGMENTS_MAX {
            return Err(format!("the route prefix `{text}` has more than {SEGMENTS_MAX} segments"));
        }
        if let Some(segment) = inner.split('/').find(|segment| !is_plain_segment(segment)) {
            return Err(format!("the route prefix `{text}` has a segment `{segment}` that is not plain text"));
        }
        Ok(Self(format!("/{inner}").into()))
    }

    /// The prefix as text, beginning with a slash.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `path` (or another prefix) lies at or under this prefix, by whole segments. The path is taken as written.
    pub(crate) fn covers(&self, path: &str) -> bool {
        let own = self.as_str();
        own == "/" || path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// How many segments it has; none for `/`.
    pub(super) fn segments(&self) -> usize {
        self.as_str().split('/').filter(|segment| !segment.is_empty()).count()
    }
}

impl Borrow<str> for Prefix {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether a segment of a prefix or pattern is written in characters that need no encoding, and is no dot segment.
pub(super) fn is_plain_segment(segment: &str) -> bool {
    !segment.is_empty()
        && segment != "."
        && segment != ".."
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=@".contains(&byte))
}

/// The path with encoded plain characters decoded (`/api/pl%61ns` is `/api/plans`), for comparing with prefixes.
///
/// None for a path nobody should answer: not absolute, with a dot segment (plain or encoded), or with a malformed
/// escape. An encoded slash stays encoded: it never makes a segment.
pub(crate) fn canonical(path: &str) -> Option<Cow<'_, str>> {
    if !path.starts_with('/') {
        return None;
    }
    // Almost every path is plain, and every request's comes through here.
    if is_plain(path.as_bytes()) {
        return Some(Cow::Borrowed(path));
    }
    let mut canonical = String::with_capacity(path.len());
    for segment in path.split('/').skip(1) {
        let segment = decode(segment)?;
        if segment == "." || segment == ".." {
            return None;
        }
        canonical.push('/');
        canonical.push_str(&segment);
    }
    Some(Cow::Owned(canonical))
}

/// Without an escape and without a segment that begins with a dot.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|byte| {
        let is_plain = *byte != b'%' && (*byte != b'.' || before != b'/');
        before = *byte;
        is_plain
    })
}

/// Decodes the escapes of characters that need none; the others stay, in upper case.
fn decode(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut decoded = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let digits = after.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            decoded.push(char::from(byte));
        } else {
            decoded.push('%');
            decoded.push_str(&digits.to_ascii_uppercase());
        }
        rest = after.get(2..)?;
    }
    decoded.push_str(rest);
    Some(Cow::Owned(decoded))
}

/// The ends of the path's first segments, longest first: where a prefix of at most `segments_max` segments may end.
pub(super) fn ends(path: &str, segments_max: usize) -> impl Iterator<Item = usize> {
    let mut ends = [0_usize; SEGMENTS_MAX];
    let mut count = 0;
    let boundaries = path.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'/').map(|(at, _)| at);
    for (slot, end) in ends.iter_mut().take(segments_max).zip(boundaries.chain(std::iter::once(path.len()))) {
        *slot = end;
        count += 1;
    }
    ends.into_iter().take(count).rev()
}

#[cfg(test)]
mod tests {
    use super::{Prefix, canonical};

    #[test]
    fn a_prefix_is_whole_segments_of_plain_text() {
        assert_eq!(Prefix::parse("/api/plans/").unwrap().as_str(), "/api/plans");
        assert_eq!(Prefix::parse("/").unwrap().as_str(), "/");
        for wrong in
            ["", "api", "//", "/api//x", "/api/../x", "/api/{id}", "/api/a b", "/api/%61", "/a/b/c/d/e/f/g/h/i"]
        {
            assert!(Prefix::parse(wrong).is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn an_escape_of_a_plain_character_is_that_character() {
        assert_eq!(canonical("/api/pl%61ns/%7Ex").as_deref(), Some("/api/plans/~x"));
        assert_eq!(canonical("/api/plans%2fx").as_deref(), Some("/api/plans%2Fx"));
        assert_eq!(canonical("/.well-known/x").as_deref(), Some("/.well-known/x"));
    }

    #[test]
    fn dot_segments_and_malformed_escapes_have_no_reading() {
        for path in
            ["api", "*", "/api/../admin", "/api/%2e%2E/admin", "/./x", "/api/%", "/api/%6", "/api/%zz", "/api/%+1"]
        {
            assert_eq!(canonical(path), None, "{path}");
        }
    }
}
