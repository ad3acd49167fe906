//! Where a request may go by name: the grant's `outbound` list and, for `<plugin>.internal`, its `call` list.
//!
//! Names only; the addresses behind them are judged where the connection is made.

use http::Uri;
use http::uri::Scheme;

use super::backend::EgressError;
use crate::capability::grant::Grant;

/// The suffix of names that never leave the process.
const INTERNAL_SUFFIX: &str = ".internal";

/// Where an allowed request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Another plugin.
    Internal(String),
    External(External),
}

/// An allowed name in the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct External {
    /// `host:port`, in lower case: what failures are counted by.
    name: String,
    /// The scheme before it: `http` or `https`.
    scheme: &'static str,
}

impl External {
    /// Whether everybody on the way can read what is sent.
    pub(super) fn is_plain(&self) -> bool {
        self.scheme == "http"
    }

    /// As a secret's hosts are held against it: `host:port`, with `http://` before it where the request goes in the clear.
    pub(super) fn destination(&self) -> String {
        if self.is_plain() { format!("http://{}", self.name) } else { self.name.clone() }
    }

    /// The address to ask: the judged name, and path and query of the guest's URI.
    pub(super) fn url(&self, uri: &Uri) -> Result<reqwest::Url, EgressError> {
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        if !path.starts_with('/') {
            return Err(EgressError::Malformed);
        }
        reqwest::Url::parse(&format!("{}://{}{path}", self.scheme, self.name)).map_err(|_| EgressError::Malformed)
    }
}

impl Target {
    /// What failures are counted by.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Internal(plugin) => plugin,
            Self::External(external) => &external.name,
        }
    }
}

/// Judges a request's URI by the grant.
pub(super) fn target(grant: &Grant, uri: &Uri) -> Result<Target, EgressError> {
    let authority = uri.authority().ok_or(EgressError::Malformed)?;
    // `user:password@host` would become credentials on the way.
    if authority.as_str().contains('@') {
        return Err(EgressError::Malformed);
    }
    let port_given = match authority.port() {
        Some(port) => Some(port.as_str().parse::<u16>().map_err(|_| EgressError::Malformed)?),
        None if authority.as_str().ends_with(':') => return Err(EgressError::Malformed),
        None => None,
    };
    let lower = authority.host().to_ascii_lowercase();
    let host = lower.strip_suffix('.').unwrap_or(&lower);
    if !is_plain(host) {
        return Err(EgressError::Malformed);
    }
    let (scheme, port_of_scheme) = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => ("http", 80),
        Some(scheme) if *scheme == Scheme::HTTPS => ("https", 443),
        _ => return Err(EgressError::Malformed),
    };
    let port = port_given.unwrap_or(port_of_scheme);
    if host == "internal" || host.ends_with(INTERNAL_SUFFIX) {
        return internal(grant, host, scheme, port);
    }
    if grant.outbound.iter().any(|pattern| matches(pattern, host, port)) {
        return Ok(Target::External(External { name: format!("{host}:{port}"), scheme }));
    }
    Err(EgressError::Denied(format!("outbound requests to {host}:{port}")))
}

fn internal(grant: &Grant, host: &str, scheme: &str, port: u16) -> Result<Target, EgressError> {
    let plugin = host.strip_suffix(INTERNAL_SUFFIX).unwrap_or_default();
    if plugin.is_empty() || scheme != "http" || port != 80 {
        return Err(EgressError::Malformed);
    }
    if grant.call.iter().any(|allowed| allowed == "*" || allowed == plugin) {
        return Ok(Target::Internal(plugin.to_owned()));
    }
    Err(EgressError::Denied(format!("calls to the plugin {plugin}")))
}

/// Whether a host consists of what names and addresses are made of: nothing that another parser might read differently.
fn is_plain(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    }
}

/// Whether `host:port` matches a pattern: `*`, `name` or `*.suffix`, each with a port or for 80 and 443.
fn matches(pattern: &str, host: &str, port: u16) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let (name, allowed) = split_port(&pattern);
    let port_matches = match allowed {
        Some(allowed) => allowed.parse() == Ok(port),
        None => port == 80 || port == 443,
    };
    let name_matches = match name.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => suffix.starts_with('.') && host.strip_suffix(suffix).is_some_and(|label| !label.is_empty()),
        None => name == host,
    };
    port_matches && name_matches
}

/// The name and the port of a pattern; an address in brackets keeps its colons.
fn split_port(pattern: &str) -> (&str, Option<&str>) {
    match pattern.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') && (!name.contains(':') || name.ends_with(']')) => {
            (name, Some(port))
        }
        _ => (pattern, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(outbound: &[&str], call: &[&str]) -> Grant {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Grant { outbound: texts(outbound), call: texts(call), ..Grant::default() }
    }

    fn allowed(grant: &Grant, uri: &str) -> bool {
        matches!(target(grant, &uri.parse().unwrap()), Ok(Target::External(_)))
    }

    #[test]
    fn names_match_whole_or_by_suffix_and_port() {
        let grant = grant(&["api.example.com", "*.example.org:8443", "[::1]:9000", "10.0.0.1"], &[]);
        for uri in [
            "https://api.example.com/v1",
            "http://API.example.com:80/",
            "https://api.example.com./",
            "https://a.example.org:8443/",
            "https://a.b.example.org:8443/",
            "http://[::1]:9000/",
            "http://10.0.0.1/",
        ] {
            assert!(allowed(&grant, uri), "{uri}");
        }
        for uri in [
            "https://api.example.com:8443/",
            "https://xapi.example.com/",
            "https://api.example.com.evil.net/",
            "https://example.org:8443/",
            "https://.example.org:8443/",
            "https://evilexample.org:8443/",
            "https://a.example.org/",
            "http://[::1]/",
            "http://10.0.0.1:8080/",
            "http://10.0.0.10/",
        ] {
            assert!(!allowed(&grant, uri), "{uri}");
        }
    }

    #[test]
    fn a_destination_says_when_it_is_reached_in_the_clear() {
        let destination = |uri: &str| match target(&grant(&["*"], &[]), &uri.parse().unwrap()) {
            Ok(Target::External(external)) => external.destination(),
            other => panic!("{other:?}"),
        };
        assert_eq!(destination("https://API.example.com/v1"), "api.example.com:443");
        assert_eq!(destination("http://api.example.com:443/v1"), "http://api.example.com:443");
    }

    #[test]
    fn a_star_is_every_name_on_the_usual_ports() {
        let grant = grant(&["*"], &[]);
        assert!(allowed(&grant, "https://anything.example/"));
        assert!(!allowed(&grant, "https://anything.example:22/"));
        assert!(!allowed(&grant, "http://planning.internal/"), "an internal name is no public name");
    }

    #[test]
    fn nothing_is_allowed_that_is_not_listed() {
        for uri in ["https://example.com/", "http://planning.internal/", "http://127.0.0.1/"] {
            assert!(matches!(target(&Grant::default(), &uri.parse().unwrap()), Err(EgressError::Denied(_))), "{uri}");
        }
    }

    #[test]
    fn a_plugin_is_called_by_its_name_over_plain_http_only() {
        let grant = grant(&["*"], &["planning"]);
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        assert_eq!(target(&grant, &uri("http://planning.internal/x")).unwrap(), Target::Internal("planning".into()));
        assert!(target(&grant, &uri("http://PLANNING.internal.:80/x")).is_ok());
        for text in ["https://planning.internal/", "http://planning.internal:81/", "http://internal/"] {
            assert!(target(&grant, &uri(text)).is_err(), "{text}");
        }
        assert!(matches!(target(&grant, &uri("http://ai-service.internal/")), Err(EgressError::Denied(_))));
        assert!(matches!(target(&grant, &uri("http://x.planning.internal/")), Err(EgressError::Denied(_))));
    }

    #[test]
    fn addresses_that_mean_two_things_are_malformed() {
        let grant = grant(&["*"], &["*"]);
        for text in
            ["http://api.example.com@evil.net/", "http://user:pw@api.example.com/", "/path", "ftp://example.com/"]
        {
            let answer = target(&grant, &text.parse().unwrap());
            assert!(matches!(answer, Err(EgressError::Malformed)), "{text}: {answer:?}");
        }
    }
}
