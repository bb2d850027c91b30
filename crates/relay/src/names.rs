//! Assigns synthetic addresses to names, and returns the name of an address. Performs no I/O.
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use egress_common::names::{SYNTHETIC_V4, SYNTHETIC_V6};

use super::authority::Host;

/// Maximum number of names that get an address in one run. The range 198.18.0.0/15 has twice as many addresses.
pub const MAX_NAMES: usize = 65_536;

/// Maximum number of names without an address that are remembered, so that each name is reported
/// once.
const MAX_NOTED: usize = 4_096;

/// The names of one run and their addresses.
#[derive(Debug)]
pub struct Names {
    numbers: HashMap<Arc<str>, u32>,
    in_order: Vec<Arc<str>>,
    limit: usize,
    noted: HashSet<Box<str>>,
}

/// The two addresses of a name, which have the same offset in their ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Address in 198.18.0.0/15.
    pub v4: Ipv4Addr,
    /// Address in the ULA /64.
    pub v6: Ipv6Addr,
}

/// Result of [`Names::assign`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assigned {
    /// The name already had these addresses.
    Known(Pair),
    /// The addresses were assigned now.
    New(Pair),
    /// No address is left.
    Exhausted,
}

/// A synthetic address that is not assigned to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownSynthetic;

impl Names {
    /// Creates an empty table for at most `limit` names.
    pub fn new(limit: usize) -> Self {
        Self {
            numbers: HashMap::new(),
            in_order: Vec::new(),
            limit: limit.min(MAX_NAMES),
            noted: HashSet::new(),
        }
    }

    /// Returns the addresses of `name`. The name must be valid and in lower case. The addresses
    /// stay the same for the whole run.
    pub fn assign(&mut self, name: &str) -> Assigned {
        if let Some(&number) = self.numbers.get(name) {
            return Assigned::Known(pair(number));
        }
        let number = match u32::try_from(self.in_order.len()) {
            Ok(number) if self.in_order.len() < self.limit => number,
            _ => return Assigned::Exhausted,
        };
        let name: Arc<str> = name.into();
        self.in_order.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        Assigned::New(pair(number))
    }

    /// Replaces a synthetic address with its name. Returns any other host unchanged.
    ///
    /// # Errors
    /// Fails if the address is synthetic and not assigned.
    pub fn resolve(&self, host: Host) -> Result<Host, UnknownSynthetic> {
        let Host::Ip(ip) = &host else {
            return Ok(host);
        };
        match offset_of(*ip) {
            None => Ok(host),
            Some(offset) => offset
                .checked_sub(1)
                .and_then(|number| usize::try_from(number).ok())
                .and_then(|number| self.in_order.get(number))
                .map(|name| Host::Name(name.to_string()))
                .ok_or(UnknownSynthetic),
        }
    }

    /// Returns the name to report for `name`, a name that gets no address. Each name is reported once. After 4,096
    /// names, one last report has the name `*`.
    pub fn note(&mut self, name: &str) -> Option<String> {
        if self.noted.contains(name) || self.noted.len() > MAX_NOTED {
            return None;
        }
        let name = if self.noted.len() == MAX_NOTED {
            "*"
        } else {
            name
        };
        self.noted.insert(name.into());
        Some(name.to_owned())
    }
}

fn pair(number: u32) -> Pair {
    // The first address of the range is not used, because it looks like a network address.
    let host = number + 1;
    let (v4, _) = SYNTHETIC_V4;
    let (v6, _) = SYNTHETIC_V6;
    Pair {
        v4: Ipv4Addr::from_bits(u32::from_be_bytes(v4) + host),
        v6: Ipv6Addr::from_bits(u128::from_be_bytes(v6) + u128::from(host)),
    }
}

/// Returns the offset of a synthetic address in its range.
fn offset_of(ip: IpAddr) -> Option<u128> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let (first, prefix) = SYNTHETIC_V4;
            let offset = ip.to_bits().checked_sub(u32::from_be_bytes(first))?;
            (offset >> (32 - prefix) == 0).then_some(u128::from(offset))
        }
        IpAddr::V6(ip) => {
            let (first, prefix) = SYNTHETIC_V6;
            let offset = ip.to_bits().checked_sub(u128::from_be_bytes(first))?;
            (offset >> (128 - prefix) == 0).then_some(offset)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(ip: &str) -> Host {
        Host::Ip(ip.parse().unwrap())
    }

    /// Claims: synthetic-address
    #[test]
    fn a_name_keeps_its_addresses() {
        let mut names = Names::new(MAX_NAMES);
        let first = Pair {
            v4: Ipv4Addr::new(198, 18, 0, 1),
            v6: "fd65:6772:6573::1".parse().unwrap(),
        };
        assert_eq!(names.assign("a.test"), Assigned::New(first));
        assert_ne!(names.assign("b.test"), Assigned::New(first));
        assert_eq!(names.assign("a.test"), Assigned::Known(first));
        let a = Host::Name("a.test".into());
        for ip in ["198.18.0.1", "::ffff:198.18.0.1", "fd65:6772:6573::1"] {
            assert_eq!(names.resolve(literal(ip)), Ok(a.clone()), "{ip}");
        }
    }

    #[test]
    fn addresses_outside_the_ranges_stay() {
        let names = Names::new(MAX_NAMES);
        for ip in [
            "198.17.255.255",
            "198.20.0.0",
            "0.0.0.0",
            "fd65:6772:6573:1::1",
            "::1",
        ] {
            assert_eq!(names.resolve(literal(ip)), Ok(literal(ip)), "{ip}");
        }
        for ip in [
            "198.18.0.0",
            "198.18.0.1",
            "198.19.255.255",
            "fd65:6772:6573::",
            "fd65:6772:6573::ffff:ffff:ffff:ffff",
        ] {
            assert_eq!(names.resolve(literal(ip)), Err(UnknownSynthetic), "{ip}");
        }
    }

    /// Claims: name-by-address
    #[test]
    fn every_name_has_an_address_of_its_own_until_there_is_none() {
        let mut names = Names::new(usize::MAX);
        let mut seen = HashSet::new();
        for number in 0..MAX_NAMES {
            match names.assign(&format!("n{number}.test")) {
                Assigned::New(pair) => assert!(seen.insert(pair.v4)),
                other @ (Assigned::Known(_) | Assigned::Exhausted) => panic!("{other:?}"),
            }
        }
        assert_eq!(names.assign("one-more.test"), Assigned::Exhausted);
        assert!(matches!(names.assign("n9.test"), Assigned::Known(_)));
        assert!(
            seen.iter()
                .all(|ip| ip.octets()[0] == 198 && (18..20).contains(&ip.octets()[1]))
        );
    }

    #[test]
    fn a_name_without_address_is_noted_once_and_the_list_is_bounded() {
        let mut names = Names::new(0);
        assert_eq!(names.note("x"), Some("x".to_owned()));
        assert_eq!(names.note("x"), None);
        let noted = (0..10_000)
            .filter_map(|n| names.note(&n.to_string()))
            .count();
        assert_eq!(noted, MAX_NOTED);
        assert!(names.noted.contains("*"));
    }
}
