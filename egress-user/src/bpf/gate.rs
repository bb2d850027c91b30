//! Writes the tables of the kernel programs that judge the mediator's own sockets.
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use egress_common::abi::{halves, trie_key};

use super::error::BpfError;

/// An address and a prefix length.
pub type Prefix = (IpAddr, u8);

/// All IPv4 addresses. In the tables, an IPv6 prefix does not cover IPv4 addresses.
const ALL_V4: Prefix = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The tables of the kernel programs that judge the mediator's own sockets.
pub struct MediatorGate {
    listed: LpmTrie<MapData, [u32; 4], u32>,
    own: LpmTrie<MapData, [u32; 4], u32>,
    name_servers: HashMap<MapData, [u64; 2], u32>,
    ports: Array<MapData, u32>,
    known: (BTreeSet<Prefix>, BTreeSet<IpAddr>),
}

impl std::fmt::Debug for MediatorGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MediatorGate")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

impl MediatorGate {
    /// Takes the tables by name from `table`, which returns one map.
    pub(super) fn of(
        table: impl Fn(&'static str) -> Result<Map, BpfError>,
    ) -> Result<Self, BpfError> {
        let failed = BpfError::map;
        let [listed, own, name_servers] =
            ["LISTED", "OWN", "NAME_SERVERS"].map(|name| (name, table(name)));
        let trie = |(name, map): (&'static str, Result<Map, BpfError>)| {
            let mut trie = LpmTrie::try_from(map?).map_err(failed(name))?;
            set(&mut trie, ALL_V4, false).map_err(failed(name))?;
            Ok(trie)
        };
        let (name, map) = name_servers;
        let ports = Array::try_from(table("PORTS")?).map_err(failed("PORTS"))?;
        Ok(Self {
            ports,
            listed: trie(listed)?,
            own: trie(own)?,
            name_servers: HashMap::try_from(map?).map_err(failed(name))?,
            known: Default::default(),
        })
    }

    /// Allows an address range that the policy lists.
    ///
    /// # Errors
    /// Fails if the table is full.
    pub fn open(&mut self, range: Prefix) -> io::Result<()> {
        set(&mut self.listed, range, true).map_err(io::Error::other)
    }

    /// Allows connections to a port at every address that the other tables do not exclude.
    ///
    /// # Errors
    /// Fails if the kernel rejects the change.
    pub fn open_port(&mut self, port: u16) -> io::Result<()> {
        self.ports.set(port.into(), 1, 0).map_err(io::Error::other)
    }

    /// Sets the addresses of the machine and of its name servers. Addresses from earlier calls are removed.
    ///
    /// # Errors
    /// Fails if a table is full.
    pub fn note(
        &mut self,
        own: BTreeSet<Prefix>,
        name_servers: BTreeSet<IpAddr>,
    ) -> io::Result<()> {
        let (known, known_servers) = &self.known;
        // Changes that deny more are made first, so that no intermediate state allows an address that the old or the
        // new state denies.
        for prefix in own.difference(known) {
            set(&mut self.own, *prefix, true).map_err(io::Error::other)?;
        }
        for server in known_servers.difference(&name_servers) {
            self.name_servers
                .remove(&address(*server))
                .map_err(io::Error::other)?;
        }
        for prefix in known.difference(&own) {
            set(&mut self.own, *prefix, false).map_err(io::Error::other)?;
        }
        for server in name_servers.difference(known_servers) {
            self.name_servers
                .insert(address(*server), 1, 0)
                .map_err(io::Error::other)?;
        }
        self.known = (own, name_servers);
        Ok(())
    }
}

/// Returns an address as a key of the tables.
fn address(address: IpAddr) -> [u64; 2] {
    halves(match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    })
}

fn set(
    trie: &mut LpmTrie<MapData, [u32; 4], u32>,
    (first, bits): Prefix,
    holds: bool,
) -> Result<(), MapError> {
    let bits = u32::from(bits) + if first.is_ipv4() { 96 } else { 0 };
    let key = Key::new(bits, trie_key(address(first)));
    if holds || (first, bits) == (ALL_V4.0, 96) {
        trie.insert(&key, u32::from(holds), 0)
    } else {
        trie.remove(&key)
    }
}
