//! Addresses of the world, and the wire between its halves.
//!
//! All addresses come from the ranges that RFC 5737 and RFC 3849 keep for documentation, but for the
//! one that cloud providers serve credentials from.
use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Stdio;

use crate::command::program;
use crate::namespaces::Namespaces;

/// The runner's IPv4 address; its gateway is the address before it.
pub const RUNNER_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// The runner's IPv6 address; its gateway is the address before it.
pub const RUNNER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);

const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);

/// Where the names of the world lead.
pub const INTERNET: Addresses = Addresses {
    allowed: Ipv4Addr::new(198, 51, 100, 10),
    allowed_v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10),
    denied: Ipv4Addr::new(198, 51, 100, 20),
    denied_v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x20),
    resolver: Ipv4Addr::new(198, 51, 100, 53),
    resolver_v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x53),
    marker: Ipv4Addr::new(198, 51, 100, 254),
    metadata: Ipv4Addr::new(169, 254, 169, 254),
};

/// Addresses that `internet` owns: all of 198.51.100.0/24, `2001:db8:1::/64`, and `NOT_PUBLIC`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Addresses {
    /// `allowed.test`; `two.allowed.test` is the next one.
    pub allowed: Ipv4Addr,
    /// `allowed.test` by IPv6.
    pub allowed_v6: Ipv6Addr,
    /// `denied.test`.
    pub denied: Ipv4Addr,
    /// `denied.test` by IPv6.
    pub denied_v6: Ipv6Addr,
    /// The name server.
    pub resolver: Ipv4Addr,
    /// The name server by IPv6.
    pub resolver_v6: Ipv6Addr,
    /// Where the counter sends its own packets.
    pub(crate) marker: Ipv4Addr,
    /// The service that hands credentials to virtual machines.
    pub metadata: Ipv4Addr,
}

/// Addresses that no public name may lead to, and that answer all the same: of cloud platforms, of private networks, of
/// IANA's protocols, and what a translator or a tunnel would take for one of these.
const NOT_PUBLIC: [&str; 10] = [
    "169.254.169.254/32",
    "168.63.129.16/32",
    "192.0.0.0/24",
    "10.77.0.0/16",
    "64:ff9b::/32",
    "2001:2::/48",
    "2002::/16",
    "2400::/16",
    "fd00:ec2::254/128",
    "fd77::/16",
];

/// Whether the world speaks IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// IPv4 and IPv6.
    Both,
    /// IPv4 alone, as on a machine booted with IPv6 disabled.
    V4,
}

/// Joins the two and gives them their addresses.
///
/// Neighbours are entered by hand and interfaces get no link-local address, so nothing crosses the wire but what a
/// program sent.
pub(crate) fn join(
    runner: &Namespaces,
    internet: &Namespaces,
    families: Families,
) -> io::Result<()> {
    const RUNNER_MAC: &str = "02:00:00:00:00:02";
    const GATEWAY_MAC: &str = "02:00:00:00:00:01";

    let ends = [
        (runner, IpAddr::from(RUNNER_V4), IpAddr::from(RUNNER_V6)),
        (internet, IpAddr::from(GATEWAY_V4), IpAddr::from(GATEWAY_V6)),
    ];
    runner.inside(|| {
        ip(&[format!(
            "link add eth0 address {RUNNER_MAC} type veth peer name eth0 address {GATEWAY_MAC} netns {}",
            internet.net_path()
        )])
    })?;
    for (namespace, v4, v6) in ends {
        let mut lines = vec![
            "link set lo up".to_owned(),
            "link set eth0 addrgenmode none".to_owned(),
            format!("addr add {v4}/24 dev eth0"),
            "link set eth0 up".to_owned(),
        ];
        if families == Families::Both {
            lines.push(format!("addr add {v6}/64 dev eth0 nodad"));
        }
        let (peers, mac): ([IpAddr; 2], _) = if v4 == RUNNER_V4 {
            ([GATEWAY_V4.into(), GATEWAY_V6.into()], GATEWAY_MAC)
        } else {
            ([RUNNER_V4.into(), RUNNER_V6.into()], RUNNER_MAC)
        };
        for peer in peers {
            if families == Families::V4 && peer.is_ipv6() {
                continue;
            }
            lines.push(format!(
                "neigh add {peer} lladdr {mac} dev eth0 nud permanent"
            ));
            if v4 == RUNNER_V4 {
                lines.push(format!("route add default via {peer}"));
            }
        }
        if v4 == GATEWAY_V4 {
            lines.push("route add local 198.51.100.0/24 dev lo".to_owned());
            let is_spoken = |range: &&&str| families == Families::Both || !range.contains("::");
            let ranges = NOT_PUBLIC.iter().filter(is_spoken);
            lines.extend(ranges.map(|range| format!("route add local {range} dev lo")));
            if families == Families::Both {
                lines.push("route add local 2001:db8:1::/64 dev lo".to_owned());
            }
        }
        namespace.inside(|| {
            // A socket of IPv6 may otherwise only be bound to an address of an interface, not to one that a
            // local route covers.
            fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1")?;
            if families == Families::V4 {
                fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?;
                fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
            }
            ip(&lines)
        })?;
    }
    Ok(())
}

/// One `ip` process for all `lines`.
fn ip(lines: &[String]) -> io::Result<()> {
    let mut child = program("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.join("\n").as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "ip: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            lines.join("\n")
        )))
    }
}
