//! Path patterns: `/api/plans/{id}`, `/files/{*rest}`. For the manifest's `public` list and for described routes.

use std::fmt;

use super::prefix::is_plain_segment;

/// Segments a pattern may have.
const SEGMENTS_MAX: usize = 32;

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Segment {
    Literal(Box<str>),
    /// Exactly one segment.
    One,
    /// One or more segments: only at the end.
    Rest,
}

/// A parsed path pattern. Two patterns that differ only in the names of their parameters are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PathPattern(Vec<Segment>);

impl PathPattern {
    /// Reads a pattern. The error is a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(inner) = text.strip_prefix('/') else {
            return Err(format!("the path `{text}` does not begin with a slash"));
        };
        if inner.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let parts: Vec<&str> = inner.split('/').collect();
        if parts.len() > SEGMENTS_MAX {
            return Err(format!("the path `{text}` has more than {SEGMENTS_MAX} segments"));
        }
        let mut names = std::collections::HashSet::new();
        let mut segments = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let segment = match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                None if is_plain_segment(part) => Segment::Literal((*part).into()),
                None => {
                    return Err(format!(
                        "the path `{text}` has a segment `{part}` that is neither plain text nor `{{name}}`"
                    ));
                }
                Some(name) => {
                    let (name, is_rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
                    if !is_name(name) || !names.insert(name) {
                        return Err(format!("the path `{text}` has a parameter `{part}` without a name of its own"));
                    }
                    if is_rest && index + 1 != parts.len() {
                        return Err(format!("the path `{text}` has `{part}` before its end"));
                    }
                    if is_rest { Segment::Rest } else { Segment::One }
                }
            };
            segments.push(segment);
        }
        Ok(Self(segments))
    }

    /// Whether a request's path, as it was sent, matches. Literals are compared as written: an escape in one does not
    /// match, so a list of public routes is never widened by an encoding.
    pub(super) fn matches(&self, path: &str) -> bool {
        let Some(inner) = path.strip_prefix('/') else { return false };
        let mut parts = inner.split('/');
        if inner.is_empty() {
            parts.next();
        }
        for segment in &self.0 {
            let Some(part) = parts.next() else { return false };
            match segment {
                Segment::Literal(literal) if **literal != *part => return false,
                Segment::One | Segment::Rest if part.is_empty() || is_dot(part) => return false,
                Segment::Rest => return !parts.any(is_dot),
                Segment::Literal(_) | Segment::One => {}
            }
        }
        parts.next().is_none()
    }

    /// Whether every path that `other` matches is matched by this one too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let mut others = other.0.iter();
        for segment in &self.0 {
            match (segment, others.next()) {
                (Segment::Rest, Some(_)) => return true,
                (Segment::One, Some(Segment::Literal(_) | Segment::One)) => {}
                (Segment::Literal(own), Some(Segment::Literal(other))) if own == other => {}
                _ => return false,
            }
        }
        others.next().is_none()
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_dot(part: &str) -> bool {
    let plain = part.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

/// An entry of the manifest's `public`: `GET /api/invitations/{token}`, or a path alone for every method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicRoute {
    method: Option<Box<str>>,
    pattern: PathPattern,
}

impl PublicRoute {
    /// An entry with one method, or with none for every method. The error is a sentence.
    pub(crate) fn new(method: Option<&str>, path: &str) -> Result<Self, String> {
        Ok(Self { method: method.map(Into::into), pattern: PathPattern::parse(path)? })
    }

    /// Whether a request with this method and path needs no token.
    pub(crate) fn matches(&self, method: &str, path: &str) -> bool {
        self.allows_method(method) && self.pattern.matches(path)
    }

    /// Whether this entry lists the described route. HEAD is covered by GET.
    pub(super) fn lists(&self, method: &str, pattern: &PathPattern) -> bool {
        self.allows_method(method) && self.pattern == *pattern
    }

    fn allows_method(&self, method: &str) -> bool {
        self.method.as_deref().is_none_or(|own| own == method || (own == "GET" && method == "HEAD"))
    }
}

/// `GET /api/plans/*`; `**` stands for any number of segments.
impl fmt::Display for PublicRoute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(formatter, "{method} ")?;
        }
        for segment in &self.pattern.0 {
            match segment {
                Segment::Literal(literal) => write!(formatter, "/{literal}")?,
                Segment::One => formatter.write_str("/*")?,
                Segment::Rest => formatter.write_str("/**")?,
            }
        }
        if self.pattern.0.is_empty() { formatter.write_str("/") } else { Ok(()) }
    }
}

/// The methods a component may describe: those of HTTP, and of WebDAV those that only read. Preflights of browsers stay the
/// gateway's, also where OPTIONS is described.
pub(super) const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT"];

#[cfg(test)]
mod tests {
    use super::{PathPattern, PublicRoute};

    #[test]
    fn a_pattern_matches_whole_segments() {
        let pattern = PathPattern::parse("/api/notifications/webhooks/in/{id}").unwrap();
        assert!(pattern.matches("/api/notifications/webhooks/in/a%2Fb"));
        for path in
            ["/api/notifications/webhooks/in", "/api/notifications/webhooks/in/", "/api/notifications/webhooks/in/a/b"]
        {
            assert!(!pattern.matches(path), "{path}");
        }
        let rest = PathPattern::parse("/files/{*path}").unwrap();
        assert!(
            rest.matches("/files/a/b")
                && rest.matches("/files/a")
                && !rest.matches("/files/")
                && !rest.matches("/files")
        );
    }

    #[test]
    fn a_pattern_covers_what_it_matches_wholly() {
        let covers = |wider: &str, narrower: &str| {
            PathPattern::parse(wider).unwrap().covers(&PathPattern::parse(narrower).unwrap())
        };
        for (wider, narrower, expected) in [
            ("/a/{id}", "/a/{plan}", true),
            ("/a/{id}", "/a/b", true),
            ("/a/b", "/a/{id}", false),
            ("/a/{*rest}", "/a/{id}/b", true),
            ("/a/{*rest}", "/a/{*other}", true),
            ("/a/{*rest}", "/a", false),
            ("/a/{id}", "/a/{*rest}", false),
            ("/a/{id}", "/a/{id}/b", false),
            ("/a/{id}/b", "/a/{id}", false),
            ("/", "/", true),
        ] {
            assert_eq!(covers(wider, narrower), expected, "{wider} over {narrower}");
        }
    }

    #[test]
    fn a_public_route_is_not_widened_by_encodings_or_dots() {
        let public = PublicRoute::new(Some("GET"), "/api/public/{*rest}").unwrap();
        assert!(public.matches("GET", "/api/public/a") && public.matches("HEAD", "/api/public/a"));
        assert!(!public.matches("POST", "/api/public/a"));
        for path in ["/api/%70ublic/a", "/api/public/../private", "/api/public/a/%2E%2e/b", "/api/public/.."] {
            assert!(!public.matches("GET", path), "{path}");
        }
    }

    #[test]
    fn patterns_are_refused_with_a_sentence() {
        for wrong in ["x", "/a//b", "/a/", "/{}", "/{a}/{a}", "/{*a}/b", "/a{b}", "/../x", "/{a-b}"] {
            assert!(PathPattern::parse(wrong).is_err(), "{wrong} was accepted");
        }
        assert!(PublicRoute::new(None, "/a").unwrap().matches("DELETE", "/a"));
        let shown = |method, path| PublicRoute::new(method, path).unwrap().to_string();
        assert_eq!((shown(Some("GET"), "/a/{id}/{*rest}"), shown(None, "/")), ("GET /a/*/**".into(), "/".into()));
        assert_eq!(PathPattern::parse("/a/{x}").unwrap(), PathPattern::parse("/a/{y}").unwrap());
    }
}
