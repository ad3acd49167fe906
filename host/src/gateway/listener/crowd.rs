//! How many connections one address may have open at once, so that a single client cannot take every place.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use ipnet::IpNet;

/// Connections of one address, where nothing else is said: a quarter of all.
pub(crate) const PER_ADDRESS_MAX: usize = super::CONNECTIONS_MAX / 4;

/// Counts connections by address. It holds no more addresses than there are connections.
#[derive(Debug)]
pub(crate) struct Crowd {
    max: usize,
    /// Load balancers: what comes from them comes from many.
    exempt: Vec<IpNet>,
    open: DashMap<IpAddr, usize>,
}

/// A connection's place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    address: Option<IpAddr>,
}

impl Crowd {
    pub(crate) fn new(max: usize, exempt: Vec<IpNet>) -> Arc<Self> {
        Arc::new(Self { max, exempt, open: DashMap::new() })
    }

    /// A place for one more connection of `address`; none when it has enough.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        if self.exempt.iter().any(|network| network.contains(&address)) {
            return Some(Seat { crowd: Arc::clone(self), address: None });
        }
        let address = network_of(address);
        let mut count = self.open.entry(address).or_insert(0);
        if *count >= self.max {
            return None;
        }
        *count += 1;
        drop(count);
        Some(Seat { crowd: Arc::clone(self), address: Some(address) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        if let Entry::Occupied(mut entry) = self.crowd.open.entry(address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// A provider hands out whole /64 networks: an address of its own for each connection must not help.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_and_no_more() {
        let crowd = Crowd::new(2, vec!["10.0.0.0/8".parse().unwrap()]);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let seats: Vec<_> = (0..2).filter_map(|_| crowd.enter(address("192.0.2.1"))).collect();
        assert_eq!(seats.len(), 2);
        assert!(crowd.enter(address("192.0.2.1")).is_none());
        assert!(crowd.enter(address("192.0.2.2")).is_some(), "another address has its own share");
        assert!((0..5).all(|_| crowd.enter(address("10.0.0.1")).map(std::mem::forget).is_some()));
        drop(seats);
        assert!(crowd.enter(address("192.0.2.1")).is_some());
        assert!(crowd.open.is_empty(), "what is closed is forgotten");
        let _one = (crowd.enter(address("2001:db8::1")), crowd.enter(address("2001:db8::2")));
        assert!(crowd.enter(address("2001:db8::3")).is_none(), "a network counts as one");
    }
}
