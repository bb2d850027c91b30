//! Fills the tables of the kernel programs on the mediator's own sockets: the ports that the run opens, the ranges that
//! the policy lists, the addresses of the machine, and its name servers. The addresses and the name servers can change
//! during a run.
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use egress_policy::opened::Opened;
use egress_sys::routes::Routes;

use super::error::{RunError, system};
use crate::bpf::Gates;
use crate::bpf::gate::MediatorGate;

/// Interval between two reads of addresses and name servers.
const READ_EVERY: Duration = Duration::from_secs(1);
/// Maximum number of name servers that are read. Resolvers use three.
const MOST_SERVERS: usize = 16;
/// Name servers that a resolver uses if none is configured.
const DEFAULT_SERVERS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// The tables of the kernel programs on the mediator's own sockets, and the time of the last update.
#[derive(Debug)]
pub(super) struct MediatorTables {
    gate: MediatorGate,
    due: Instant,
}

impl MediatorTables {
    /// Fills the tables.
    ///
    /// # Order
    /// Call this before the mediator starts.
    ///
    /// # Errors
    /// Fails if an address or a name server cannot be read, or a table is full.
    pub(super) fn set(gates: &Gates, opened: &Opened, ports: &[u16]) -> Result<Self, RunError> {
        let mut gate = gates.mediator_gate()?;
        for range in &opened.listed {
            system("allow a range of the policy", gate.open(range.prefix()))?;
        }
        for port in ports {
            system("allow a port", gate.open_port(*port))?;
        }
        let due = Instant::now();
        let mut tables = Self { gate, due };
        system(
            "update the machine's addresses in the kernel programs",
            tables.update(),
        )?;
        Ok(tables)
    }

    /// Reads addresses and name servers again if a second has passed.
    ///
    /// # Errors
    /// Fails if an address or a name server cannot be read, or a table is full.
    pub(super) fn update(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if now < self.due {
            return Ok(());
        }
        self.due = now + READ_EVERY;
        let own = Routes::open()?.own()?.into_iter().collect();
        let mut servers: BTreeSet<_> = name_servers()?.into_iter().take(MOST_SERVERS).collect();
        if servers.is_empty() {
            servers.extend(DEFAULT_SERVERS);
        }
        self.gate.note(own, servers)
    }
}

/// Returns the machine's name servers (resolv.conf(5)). The list is empty if no name server is configured.
///
/// # Errors
/// Fails if the file exists and cannot be read.
pub(super) fn name_servers() -> io::Result<Vec<IpAddr>> {
    let text = match std::fs::read_to_string("/etc/resolv.conf") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    Ok(servers_of(&text))
}

fn servers_of(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        // A link-local address may be followed by its interface.
        let address = words.next().filter(|_| is_server)?.split('%').next()?;
        address.parse().ok()
    });
    servers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_the_addresses_of_their_lines() {
        let text = "# nameserver 192.0.2.9\nnameserver 127.0.0.53\nsearch nameserver 192.0.2.8\n\
                    nameserver fe80::1%eth0\nnameserver\nnameserver x\n nameserver\t10.0.0.2 # x\n";
        let servers = servers_of(text)
            .into_iter()
            .map(|server| server.to_string());
        let expected = ["127.0.0.53", "fe80::1", "10.0.0.2"];
        assert_eq!(servers.collect::<Vec<_>>(), expected);
    }
}
