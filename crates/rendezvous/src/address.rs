//! Limits by address: how many connections one may have, and how fast it may open them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::rate::{Rate, RateLimit};
use crate::time::Now;

/// Addresses remembered at most. Beyond that, strangers are refused until others leave: an attacker with that many
/// addresses has already more than these limits can hold.
const MAX_ADDRESSES: usize = 200_000;

/// What one customer's line is taken for: an IPv4 address, or the first 64 bits of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(u128);

impl Line {
    /// The line of an address.
    #[must_use]
    pub fn of(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits() & !u128::from(u64::MAX)),
        }
    }

    /// An address of it.
    #[must_use]
    pub fn addr(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(self.0)).to_canonical()
    }
}

/// What one line may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressLimits {
    /// Connections at once; none is no limit.
    pub connections: Option<u32>,
    /// How fast it may open them; none is no limit.
    pub opening: Option<Rate>,
}

#[derive(Debug)]
struct Entry {
    open: u32,
    opening: Option<RateLimit>,
}

/// Counts connections by line.
#[derive(Debug)]
pub struct Addresses {
    limits: AddressLimits,
    entries: BTreeMap<Line, Entry>,
}

impl Addresses {
    /// A count of none, with these limits.
    #[must_use]
    pub const fn new(limits: AddressLimits) -> Self {
        Self { limits, entries: BTreeMap::new() }
    }

    /// Whether one more connection is within the limits; counts it if so. Then [`Self::close`] must follow.
    pub fn open(&mut self, now: Now, line: Line) -> bool {
        if self.entries.len() >= MAX_ADDRESSES && !self.entries.contains_key(&line) {
            self.forget_idle(now);
            if self.entries.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let AddressLimits { connections, opening } = self.limits;
        let entry = self
            .entries
            .entry(line)
            .or_insert_with(|| Entry { open: 0, opening: opening.map(|rate| RateLimit::new(now, rate)) });
        let allowed = connections.is_none_or(|most| entry.open < most)
            && entry.opening.as_mut().is_none_or(|opening| opening.allow(now));
        entry.open += u32::from(allowed);
        allowed
    }

    /// One connection less.
    pub fn close(&mut self, now: Now, line: Line) {
        let Some(entry) = self.entries.get_mut(&line) else { return };
        entry.open = entry.open.saturating_sub(1);
        if entry.is_idle(now) {
            self.entries.remove(&line);
        }
    }

    fn forget_idle(&mut self, now: Now) {
        self.entries.retain(|_, entry| !entry.is_idle(now));
    }
}

impl Entry {
    /// Whether nothing is lost by forgetting it.
    fn is_idle(&mut self, now: Now) -> bool {
        self.open == 0 && self.opening.as_mut().is_none_or(|opening| opening.is_full(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    fn line(text: &str) -> Line {
        Line::of(text.parse().unwrap())
    }

    #[test]
    fn a_line_is_an_address_or_a_customers_ipv6_network() {
        assert_eq!(line("192.0.2.1"), line("::ffff:192.0.2.1"));
        assert_ne!(line("192.0.2.1"), line("192.0.2.2"));
        assert_eq!(line("2001:db8:1:2::1"), line("2001:db8:1:2:ffff::9"));
        assert_ne!(line("2001:db8:1:2::1"), line("2001:db8:1:3::1"));
        assert_eq!(line("192.0.2.1").addr().to_string(), "192.0.2.1");
    }

    #[test]
    fn each_line_has_its_own_count_and_gets_places_back() {
        let limits = AddressLimits { connections: Some(2), opening: None };
        let mut addresses = Addresses::new(limits);
        let (a, b) = (line("192.0.2.1"), line("192.0.2.2"));
        assert!(addresses.open(Now(0), a) && addresses.open(Now(0), a) && !addresses.open(Now(0), a));
        assert!(addresses.open(Now(0), b));
        addresses.close(Now(0), a);
        assert!(addresses.open(Now(0), a));
        for line in [a, a, b, b] {
            addresses.close(Now(0), line);
        }
        assert!(addresses.entries.is_empty());
    }

    #[test]
    fn opening_is_slowed_down_and_forgotten_in_time() {
        let limits = AddressLimits { connections: None, opening: Some(Rate { burst: 3, per_second: 1 }) };
        let mut addresses = Addresses::new(limits);
        let a = line("192.0.2.1");
        assert_eq!((0..10).filter(|_| addresses.open(Now(0), a)).count(), 3);
        for _ in 0..3 {
            addresses.close(Now(0), a);
        }
        assert!(!addresses.open(Now(0), a));
        let later = Now(0).plus(Duration::from_secs(1));
        assert!(addresses.open(later, a) && !addresses.open(later, a));
        addresses.close(later, a);
        addresses.forget_idle(Now(0).plus(Duration::from_secs(9)));
        assert!(addresses.entries.is_empty());
    }
}
