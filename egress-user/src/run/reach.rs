//! Tells the gates on the mediator's own sockets what they go by: the ports that the run opens, the ranges that the policy
//! lists, the machine's own addresses, and its name servers. The last two may change during a run.
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use egress_policy::opened::Opened;
use egress_sys::routes::Routes;

use super::error::{RunError, system};
use crate::bpf::Gates;
use crate::bpf::gate::MediatorGate;

/// How often addresses and name servers are read again.
const READ_EVERY: Duration = Duration::from_secs(1);
/// Name servers that are read; resolvers heed three.
const MOST_SERVERS: usize = 16;
/// What a resolver asks when no name server is configured.
const DEFAULT_SERVERS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// What the gates go by.
#[derive(Debug)]
pub(super) struct Reach {
    gate: MediatorGate,
    due: Instant,
}

impl Reach {
    /// # Order
    /// Before the mediator starts.
    ///
    /// # Errors
    /// When something cannot be read, or is too much for the gates' tables.
    pub(super) fn set(gates: &Gates, opened: &Opened, ports: &[u16]) -> Result<Self, RunError> {
        let mut gate = gates.mediator_gate()?;
        for range in &opened.listed {
            system("open what the policy lists", gate.open(range.prefix()))?;
        }
        for port in ports {
            system("open a port to the mediator", gate.open_port(*port))?;
        }
        let due = Instant::now();
        let mut reach = Self { gate, due };
        system("note the machine's own addresses", reach.look())?;
        Ok(reach)
    }

    /// Reads addresses and name servers again when it is time.
    ///
    /// # Errors
    /// Those of [`Self::set`].
    pub(super) fn look(&mut self) -> io::Result<()> {
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

/// The machine's name servers (resolv.conf(5)); none where it names none.
///
/// # Errors
/// When the file is there and cannot be read.
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
        // A link-local address may name its interface.
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
