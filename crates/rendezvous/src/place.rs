//! Where peers are, as far as the shell knows, and how far apart two of them are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::address::Line;

/// A country by its ISO code of two letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Country(pub [u8; 2]);

/// A group of an ALTO network map, by the hash of its name, which stays the same when the map changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pid(pub u64);

/// Where a peer is. Whatever is not known is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// Its public address.
    pub addr: Option<IpAddr>,
    /// The number of its network operator's autonomous system.
    pub asn: Option<u32>,
    /// Its country.
    pub country: Option<Country>,
    /// Its group in the carrier's map.
    pub pid: Option<Pid>,
}

/// How far two peers are from each other; less is nearer. Without any knowledge all are as far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Distance(u32);

impl Distance {
    const SAME_LINE: Self = Self(0);
    const SAME_SUBNET: Self = Self(1);
    const SAME_AS: Self = Self(2);
    const SAME_COUNTRY: Self = Self(3);
    /// A carrier's costs lie between those in the same subnet and those of whom nothing is known.
    const LEAST_COST: u32 = 2;
    const MOST_COST: u32 = 1_000_002;
    const FAR: Self = Self(u32::MAX);

    /// Whether a link of this distance keeps far parts of a swarm together, for one whose near links are within `near`. A
    /// carrier's cost is far only beside what is cheaper: among equal costs lies one group.
    pub(crate) const fn is_far_beside(self, near: Self) -> bool {
        self.0 == Self::FAR.0 || (self.0 > Self::SAME_COUNTRY.0 && self.0 > near.0)
    }
}

/// What a carrier says about the costs between its groups (RFC 7285).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CostMap {
    costs: BTreeMap<(Pid, Pid), u32>,
}

impl CostMap {
    /// From costs between groups, in whatever unit: only their proportions count. Those that are no finite number of zero or
    /// more are left out.
    #[must_use]
    pub fn new(costs: impl IntoIterator<Item = (Pid, Pid, f64)>) -> Self {
        let costs: Vec<_> = costs.into_iter().filter(|(_, _, cost)| cost.is_finite() && *cost >= 0.0).collect();
        let most = costs.iter().map(|(_, _, cost)| *cost).fold(f64::MIN_POSITIVE, f64::max);
        let scale = f64::from(Distance::MOST_COST - Distance::LEAST_COST);
        let scaled = |cost: f64| (cost / most * scale) as u32 + Distance::LEAST_COST;
        Self { costs: costs.into_iter().map(|(from, to, cost)| ((from, to), scaled(cost))).collect() }
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.costs.is_empty()
    }

    /// How far apart two places are. Bytes go both ways, so the dearer direction counts.
    pub(crate) fn distance(&self, a: &Place, b: &Place) -> Distance {
        if let (Some(first), Some(second)) = (a.addr, b.addr) {
            if Line::of(first) == Line::of(second) {
                return Distance::SAME_LINE;
            }
            if subnet(first) == subnet(second) {
                return Distance::SAME_SUBNET;
            }
        }
        if let (Some(first), Some(second)) = (a.pid, b.pid)
            && let Some(cost) = self.costs.get(&(first, second)).max(self.costs.get(&(second, first)))
        {
            return Distance(*cost);
        }
        if a.asn.is_some() && a.asn == b.asn {
            return Distance::SAME_AS;
        }
        if a.country.is_some() && a.country == b.country {
            return Distance::SAME_COUNTRY;
        }
        Distance::FAR
    }
}

/// A /24 of IPv4, a /48 of IPv6: what one site or one small town has.
fn subnet(addr: IpAddr) -> (bool, u128) {
    match addr.to_canonical() {
        IpAddr::V4(v4) => (true, u128::from(v4.to_bits() >> 8)),
        IpAddr::V6(v6) => (false, v6.to_bits() >> 80),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(addr: &str, asn: u32, country: &[u8; 2], pid: u64) -> Place {
        Place { addr: addr.parse().ok(), asn: Some(asn), country: Some(Country(*country)), pid: Some(Pid(pid)) }
    }

    #[test]
    fn what_is_shared_decides_the_nearest_first() {
        let none = CostMap::default();
        let home = place("192.0.2.1", 1, b"DE", 0);
        let ordered = [
            place("192.0.2.1", 9, b"FR", 0),
            place("192.0.2.200", 9, b"FR", 0),
            place("198.51.100.1", 1, b"FR", 0),
            place("198.51.100.1", 9, b"DE", 0),
            place("198.51.100.1", 9, b"FR", 0),
        ];
        let distances: Vec<Distance> = ordered.iter().map(|other| none.distance(&home, other)).collect();
        assert!(distances.is_sorted() && distances.windows(2).all(|pair| pair[0] != pair[1]), "{distances:?}");
        assert_eq!(distances.iter().filter(|distance| distance.is_far_beside(Distance::SAME_LINE)).count(), 1);
        assert_eq!(none.distance(&Place::default(), &Place::default()), Distance::FAR);
        let (a, b) = (place("2001:db8:1:2::1", 1, b"DE", 0), place("2001:db8:1:3::1", 2, b"FR", 0));
        assert_eq!(none.distance(&a, &b), Distance::SAME_SUBNET);
    }

    #[test]
    fn the_costs_of_a_carrier_come_before_databases_but_after_the_same_subnet() {
        // The example of RFC 7285, section 11.2.3.6.
        let map = CostMap::new(
            [
                (1, 1, 1.0),
                (1, 2, 5.0),
                (1, 3, 10.0),
                (2, 1, 5.0),
                (2, 2, 1.0),
                (2, 3, 15.0),
                (3, 1, 20.0),
                (3, 2, 15.0),
            ]
            .map(|(from, to, cost)| (Pid(from), Pid(to), cost)),
        );
        let at = |addr: &str, pid| place(addr, 7, b"US", pid);
        let home = at("192.0.2.1", 1);
        let to = |addr: &str, pid| map.distance(&home, &at(addr, pid));
        let subnet = to("192.0.2.9", 3);
        let (own, near, dear) = (to("198.51.100.1", 1), to("198.51.100.200", 2), to("203.0.113.1", 3));
        assert!(subnet < own && own < near && near < dear && dear < Distance::FAR);
        assert!(near.is_far_beside(own) && !near.is_far_beside(near) && !near.is_far_beside(dear));
        // One direction is enough to know, the dearer one counts.
        assert_eq!(dear, map.distance(&at("203.0.113.1", 3), &home));
        // Outside of the map, the databases are asked.
        assert_eq!(to("203.0.113.1", 9), Distance::SAME_AS);
        assert!(CostMap::new([(Pid(1), Pid(1), f64::NAN), (Pid(1), Pid(1), -1.0)]).is_empty());
        assert!(!CostMap::new([(Pid(1), Pid(1), 0.0)]).is_empty());
    }
}
