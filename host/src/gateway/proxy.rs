//! Who is behind a load balancer: its word counts only when the operator lists it.
//!
//! `Forwarded` and `X-Forwarded-For` of anybody else are worth nothing, and are kept from guests. Addresses are read from
//! the right, where the nearest proxy wrote, and what is left of the first stranger is never believed.

use std::net::{IpAddr, SocketAddr};

use http::HeaderName;
use http::header::{FORWARDED, HeaderMap};
use ipnet::IpNet;

use super::error::GatewayError;
use super::listener::Peer;

/// Proxies one behind another that are followed.
const HOPS_MAX: usize = 16;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The operator's proxies.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    trusted: Vec<IpNet>,
}

/// Whether a header is a proxy's word about where a request comes from.
pub(super) fn is_proxy_word(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.as_bytes().first() {
        Some(b'f') => name == "forwarded",
        Some(b'x') => name.starts_with("x-forwarded") || name == "x-real-ip",
        _ => false,
    }
}

impl Proxies {
    pub(super) fn new(trusted: Vec<IpNet>) -> Self {
        Self { trusted }
    }

    /// The peer as a trusted proxy describes it; none where the connection comes from nobody trusted.
    ///
    /// # Errors
    /// `Malformed` when two headers of the proxy tell different stories: one of them is the client's own.
    pub(super) fn behind(&self, peer: &Peer, headers: &HeaderMap) -> Result<Option<Peer>, GatewayError> {
        if self.trusted.is_empty() || !self.trusts(peer.ip) {
            return Ok(None);
        }
        let by_standard = self.client(headers, &FORWARDED, |hop| forwarded_part(hop, "for"));
        let by_custom = self.client(headers, &X_FORWARDED_FOR, Some);
        let ip = match (by_standard, by_custom) {
            (Some(standard), Some(custom)) if standard != custom => {
                return Err(GatewayError::Malformed("Forwarded and X-Forwarded-For name different clients"));
            }
            (standard, custom) => standard.or(custom).unwrap_or(peer.ip),
        };
        let scheme = last_hop(headers, &X_FORWARDED_PROTO)
            .or_else(|| last_hop(headers, &FORWARDED).and_then(|hop| forwarded_part(hop, "proto")));
        let is_tls = scheme.map_or(peer.is_tls, |scheme| scheme.eq_ignore_ascii_case("https"));
        Ok(Some(Peer { ip, door: peer.door.clone(), is_tls }))
    }

    fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&ip))
    }

    /// The nearest address that is no trusted proxy; the farthest proxy where all are.
    fn client<'h>(
        &self,
        headers: &'h HeaderMap,
        name: &HeaderName,
        part: impl Fn(&'h str) -> Option<&'h str>,
    ) -> Option<IpAddr> {
        let mut nearest = None;
        for hop in hops(headers, name).take(HOPS_MAX) {
            let Some(ip) = part(hop).and_then(address) else { return nearest };
            nearest = Some(ip);
            if !self.trusts(ip) {
                break;
            }
        }
        nearest
    }
}

/// The entries of a list header, the last one first.
fn hops<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    // The map can be read forwards only; the list is as long as the head of a request may be.
    let mut values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.reverse();
    values.into_iter().flat_map(|value| value.rsplit(',')).map(str::trim)
}

fn last_hop<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    hops(headers, name).next()
}

/// `192.0.2.1` of `for=192.0.2.1;proto=https`.
fn forwarded_part<'h>(hop: &'h str, wanted: &str) -> Option<&'h str> {
    hop.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
    })
}

/// An address with or without port and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::listener::Door;
    use super::*;

    fn behind(peer: &str, pairs: &[(&str, &str)]) -> Result<Option<String>, GatewayError> {
        let proxies = Proxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let peer = Peer { ip: peer.parse().unwrap(), door: Door::Gateway, is_tls: false };
        Ok(proxies.behind(&peer, &headers)?.map(|peer| format!("{}{}", peer.ip, if peer.is_tls { " tls" } else { "" })))
    }

    #[test]
    fn the_word_of_a_stranger_is_worth_nothing() {
        assert_eq!(behind("192.0.2.9", &[("x-forwarded-for", "10.0.0.1")]).unwrap(), None);
        let nobody = Proxies::default();
        let peer = Peer { ip: "10.0.0.1".parse().unwrap(), door: Door::Gateway, is_tls: false };
        assert_eq!(nobody.behind(&peer, &HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn the_nearest_stranger_is_the_client() {
        for (pairs, seen) in [
            (&[("x-forwarded-for", "192.0.2.1")][..], "192.0.2.1"),
            (&[("x-forwarded-for", "198.51.100.7, 192.0.2.1, 10.0.0.2")], "192.0.2.1"),
            (&[("x-forwarded-for", "198.51.100.7"), ("x-forwarded-for", "192.0.2.1")], "192.0.2.1"),
            (&[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            (&[("x-forwarded-for", "192.0.2.1, nonsense, 10.0.0.2")], "10.0.0.2"),
            (&[("x-forwarded-for", "nonsense")], "10.0.0.1"),
            (&[("forwarded", "for=\"[2001:db8::1]:4711\";proto=https")], "2001:db8::1 tls"),
            (&[("forwarded", "for=192.0.2.1:80;by=10.0.0.1, For=10.0.0.9")], "192.0.2.1"),
            (&[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "http, https")], "192.0.2.1 tls"),
            (&[("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")], "192.0.2.1"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(behind("10.0.0.1", pairs).unwrap().unwrap(), seen, "{pairs:?}");
        }
    }

    #[test]
    fn two_stories_about_one_client_are_refused() {
        let both = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.2")];
        assert!(matches!(behind("10.0.0.1", &both), Err(GatewayError::Malformed(_))));
    }

    #[test]
    fn a_proxys_word_is_known_by_its_name() {
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded_for", "x-real-ip"] {
            assert!(is_proxy_word(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["x-forward", "from", "x-request-id", "host"] {
            assert!(!is_proxy_word(&HeaderName::from_static(name)), "{name}");
        }
    }
}
