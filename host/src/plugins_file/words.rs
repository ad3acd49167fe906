//! What the words of the manifest may look like: names, paths, prefixes, patterns, hosts, schedules.
//!
//! Pure: each function answers whether a word is well formed, and none knows the document.

use std::net::IpAddr;
use std::str::FromStr;

use super::PublicRoute;

/// Characters of a plugin's name: it becomes part of queue, role and folder names.
const NAME_CHARACTERS_MAX: usize = 40;
/// Names a plugin cannot have: they mean something else in addresses and in the database.
const RESERVED_NAMES: [&str; 6] = ["host", "berth", "internal", "localhost", "system", "operator"];
/// Characters of a table prefix: PostgreSQL names end at 63.
const TABLE_PREFIX_CHARACTERS_MAX: usize = 30;
const PATTERN_CHARACTERS_MAX: usize = 200;
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT"];

/// Kebab case, as `execution-service`.
pub(super) fn is_kebab(word: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    word.len() <= NAME_CHARACTERS_MAX
        && word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.split('-').all(is_part)
}

pub(super) fn is_reserved_name(word: &str) -> bool {
    RESERVED_NAMES.contains(&word)
}

/// A path prefix of whole segments, as `/api/plans`: no empty segment, no dot segment, no wildcard.
pub(super) fn is_route(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain_segment))
}

fn is_plain_segment(segment: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
    !segment.is_empty() && segment != "." && segment != ".." && segment.chars().all(is_allowed)
}

/// Whether `path` is `prefix` or lies below it, by whole segments.
pub(super) fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `[METHOD ]/path`, with `:name` or `{name}` for one segment and `{*name}` at the end for the rest.
pub(super) fn public_route(word: &str) -> Option<PublicRoute> {
    let (method, path) = match word.split_once(' ') {
        Some((method, path)) => (Some(method.to_owned()), path.trim()),
        None => (None, word),
    };
    if method.as_deref().is_some_and(|method| !METHODS.contains(&method)) {
        return None;
    }
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let last = segments.len().checked_sub(1)?;
    let mut normal = String::new();
    for (position, segment) in segments.iter().enumerate() {
        let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        normal.push('/');
        match (segment.strip_prefix(':').or(inner), segment) {
            (Some(name), _) => {
                let plain = name.strip_prefix('*').unwrap_or(name);
                let is_word = !plain.is_empty() && plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                if !is_word || (name.starts_with('*') && position != last) {
                    return None;
                }
                normal.push_str(&format!("{{{name}}}"));
            }
            (None, plain) if is_plain_segment(plain) => normal.push_str(plain),
            (None, _) => return None,
        }
    }
    Some(PublicRoute { method, path: normal })
}

/// Lower case with a final underscore, as `plan_`.
pub(super) fn is_table_prefix(word: &str) -> bool {
    word.len() <= TABLE_PREFIX_CHARACTERS_MAX
        && word.len() >= 2
        && word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.ends_with('_')
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// A topic pattern: segments in lower case, `*` for one and `#` for any number.
pub(super) fn is_topic_pattern(word: &str) -> bool {
    let is_segment = |segment: &str| {
        matches!(segment, "*" | "#")
            || (!segment.is_empty()
                && segment.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-')))
    };
    word.len() <= PATTERN_CHARACTERS_MAX && word.split('.').all(is_segment)
}

/// A permission, as `calendar.calendar.read`: no wildcard, so that what is listed is all there is.
pub(super) fn is_permission(word: &str) -> bool {
    word.split('.').count() == 3 && is_topic_pattern(word) && !word.contains(['*', '#'])
}

/// `name[:port]`, `*.name[:port]`, an address with or without a port, or `*`.
pub(super) fn is_outbound(word: &str) -> bool {
    if word == "*" || IpAddr::from_str(word).is_ok() || std::net::SocketAddr::from_str(word).is_ok() {
        return true;
    }
    let (name, port) = match word.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (word, None),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    is_port && name.len() <= 253 && name.strip_prefix("*.").unwrap_or(name).split('.').all(is_label)
}

/// An address or a range, as `10.0.0.0/8`.
pub(super) fn is_address_range(word: &str) -> bool {
    match word.split_once('/') {
        None => IpAddr::from_str(word).is_ok(),
        Some((address, bits)) => {
            let max = match IpAddr::from_str(address) {
                Ok(IpAddr::V4(_)) => 32,
                Ok(IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            bits.parse::<u8>().is_ok_and(|bits| bits <= max)
        }
    }
}

/// An interval (`30s`, `15m`, `1h`, `1d`), `hourly`, `daily`, `weekly`, or a cron expression.
pub(super) fn is_schedule(word: &str) -> bool {
    crate::schedule::Schedule::parse(word).is_ok()
}

/// A key of `[plugin.config]`.
pub(super) fn is_config_key(word: &str) -> bool {
    (1..=128).contains(&word.len()) && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case() {
        for (word, expected) in [
            ("planning", true),
            ("execution-service", true),
            ("a1", true),
            ("", false),
            ("Planning", false),
            ("a--b", false),
            ("-a", false),
            ("a-", false),
            ("1a", false),
            ("a_b", false),
            (&"a".repeat(41), false),
        ] {
            assert_eq!(is_kebab(word), expected, "{word}");
        }
    }

    #[test]
    fn routes_are_whole_plain_segments() {
        for (word, expected) in [
            ("/api/plans", true),
            ("/hello", true),
            ("/", false),
            ("api/plans", false),
            ("/api/plans/", false),
            ("/api//x", false),
            ("/api/../x", false),
            ("/api/{id}", false),
            ("/api/pl ans", false),
            ("/api/%41", false),
        ] {
            assert_eq!(is_route(word), expected, "{word}");
        }
        assert!(is_below("/api/plans/x", "/api/plans") && is_below("/api/plans", "/api/plans"));
        assert!(!is_below("/api/planning", "/api/plan"));
    }

    #[test]
    fn public_routes_take_methods_and_wildcards() {
        let route = public_route("GET /api/invitations/:token").expect("a route");
        assert_eq!((route.method.as_deref(), route.path.as_str()), (Some("GET"), "/api/invitations/{token}"));
        assert_eq!(public_route("/api/files/{*rest}").expect("a route").path, "/api/files/{*rest}");
        assert!(public_route("PROPFIND /api/x").is_some());
        for word in ["FETCH /api/x", "MKCOL /api/x", "/api/{*rest}/x", "api/x", "/api/{}", "/api//x", ""] {
            assert_eq!(public_route(word), None, "{word}");
        }
    }

    #[test]
    fn schedules_are_intervals_or_cron() {
        for (word, expected) in [
            ("30s", true),
            ("15m", true),
            ("1h", true),
            ("7d", true),
            ("0 3 * * *", true),
            ("@daily", true),
            ("0s", false),
            ("15", false),
            ("m", false),
            ("1w", false),
            ("-5m", false),
            ("61 * * * *", false),
            ("400d", false),
            ("99999999999999999999s", false),
            ("", false),
        ] {
            assert_eq!(is_schedule(word), expected, "{word}");
        }
    }

    #[test]
    fn outbound_names_and_ranges_are_judged() {
        for (word, expected) in [
            ("api.example.com", true),
            ("*.example.com:8443", true),
            ("*", true),
            ("10.0.0.5:80", true),
            ("::1", true),
            ("http://x", false),
            ("a..b", false),
            ("x:0", false),
            ("x:99999", false),
            ("*x.com", false),
            ("a.*.b", false),
        ] {
            assert_eq!(is_outbound(word), expected, "{word}");
        }
        assert!(is_address_range("10.0.0.0/8") && is_address_range("::1") && is_address_range("fd00::/8"));
        assert!(!is_address_range("10.0.0.0/33") && !is_address_range("example.com") && !is_address_range("/8"));
    }

    #[test]
    fn permissions_have_three_words_and_no_wildcard() {
        for (word, expected) in [
            ("calendar.calendar.read", true),
            ("calendar.calendar.*", false),
            ("calendar.#.read", false),
            ("calendar.read", false),
            ("*", false),
            ("a..b", false),
            ("", false),
        ] {
            assert_eq!(is_permission(word), expected, "{word}");
        }
    }

    #[test]
    fn topic_patterns_are_dotted_lower_case() {
        for (word, expected) in [
            ("planning.#", true),
            ("#", true),
            ("ai.agent.*", true),
            ("a..b", false),
            ("A.b", false),
            ("a.b#", false),
            ("", false),
        ] {
            assert_eq!(is_topic_pattern(word), expected, "{word}");
        }
    }
}
