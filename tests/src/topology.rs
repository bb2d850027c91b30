//! The addresses of the world, and the wire between its two namespaces.
//!
//! All addresses are from the documentation ranges of RFC 5737 and RFC 3849, except the address at which cloud
//! providers serve credentials.
use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Stdio;

use crate::command::program;
use crate::namespaces::Namespaces;

/// The runner's IPv4 address. The gateway has the address before this one.
pub const RUNNER_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// The runner's IPv6 address. The gateway has the address before this one.
pub const RUNNER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);

const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);

/// The addresses of the names of the world.
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

/// Addresses of servers. The `internet` namespace owns the ranges 198.51.100.0/24, `2001:db8:1::/64`, and `NOT_PUBLIC`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Addresses {
    /// `allowed.test`. `two.allowed.test` has the next address.
    pub allowed: Ipv4Addr,
    /// `allowed.test` over IPv6.
    pub allowed_v6: Ipv6Addr,
    /// `denied.test`.
    pub denied: Ipv4Addr,
    /// `denied.test` over IPv6.
    pub denied_v6: Ipv6Addr,
    /// The name server.
    pub resolver: Ipv4Addr,
    /// The name server over IPv6.
    pub resolver_v6: Ipv6Addr,
    /// Destination of the counter's own packets.
    pub(crate) marker: Ipv4Addr,
    /// The service that provides credentials to virtual machines.
    pub metadata: Ipv4Addr,
}

/// Addresses to which no public name may resolve. Servers of the world answer at these addresses. The list has
/// addresses of cloud platforms, of private networks, and of IANA's protocols. The list also has addresses that a
/// translator or a tunnel maps to such an address.
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

/// The address families of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// IPv4 and IPv6.
    Both,
    /// Only IPv4, as on a machine with IPv6 disabled.
    V4,
}

/// Connects the two namespaces and assigns their addresses.
///
/// Neighbors are configured statically, and interfaces get no link-local address, so that only packets of programs
/// cross the wire.
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
            // Without this setting, an IPv6 socket can only be bound to an address of an interface, and not to an
            // address of a local route.
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

/// Runs one `ip` process for all `lines`.
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
