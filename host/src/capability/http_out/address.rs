//! Which addresses a connection may be made to: public ones, and those the operator lists.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Whether a URL's host is this machine: `localhost` or a loopback address, in brackets or not.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The operator's list of addresses and ranges that are otherwise refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct AddressPolicy {
    listed: Vec<IpNet>,
}

impl AddressPolicy {
    /// Reads a list of addresses and CIDR ranges. What is neither was refused with the manifest; here it allows nothing.
    pub(super) fn new(listed: &[String]) -> Self {
        Self { listed: listed.iter().filter_map(|text| parse(text)).collect() }
    }

    /// Whether a connection to this address may be made.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        is_public(address) || self.listed.iter().any(|range| range.contains(&address))
    }
}

fn parse(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Everything but the ranges the IANA registry marks as not globally reachable, and two metadata services outside them.
fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127, ..]
            | [100, 64..=127, ..]
            | [168, 63, 129, 16]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            | [224..=255, ..]
    )
}

/// Only global unicast (2000::/3), without its special ranges; and never an IPv4 address in disguise.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // The well-known translation prefix reaches whatever IPv4 address stands in its last 32 bits.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        // 6to4 carries an IPv4 address; Teredo, ORCHID and the like lie in 2001::/23; the rest is documentation.
        [0x2002, ..] | [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first >> 13 == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(listed: &[&str], address: &str) -> bool {
        let listed: Vec<String> = listed.iter().map(|text| (*text).to_owned()).collect();
        AddressPolicy::new(&listed).allows(address.parse().unwrap())
    }

    #[test]
    fn only_public_addresses_are_allowed() {
        for address in
            ["1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "64:ff9b::808:808"]
        {
            assert!(allows(&[], address), "{address}");
        }
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "127.0.0.1",
            "127.255.255.254",
            "100.64.0.1",
            "100.100.100.200",
            "169.254.169.254",
            "168.63.129.16",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
        ] {
            assert!(!allows(&[], address), "{address}");
        }
    }

    #[test]
    fn the_operator_may_list_addresses_and_ranges() {
        assert!(allows(&["127.0.0.1"], "127.0.0.1"));
        assert!(!allows(&["127.0.0.1"], "127.0.0.2"));
        assert!(allows(&["10.1.0.0/16"], "10.1.255.255"));
        assert!(!allows(&["10.1.0.0/16"], "10.2.0.0"));
        assert!(allows(&["fd00::/8"], "fd12::1"));
        assert!(!allows(&["fd00::/8"], "fe80::1"));
        assert!(allows(&["0.0.0.0/0"], "127.0.0.1"));
        assert!(!allows(&["0.0.0.0/0"], "::1"));
        assert!(!allows(&["127.0.0.1"], "::ffff:127.0.0.1"));
        for text in ["127.0.0.1/33", "localhost", "10.0.0.0/-1", "10.0.0/8", "", "::/129"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
