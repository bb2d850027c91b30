use super::*;

extern crate std;
use std::net::{IpAddr, SocketAddr};
use std::string::String;

fn config() -> Config {
    Config::new(3128, true)
}

fn attempt(dst: &str, sock_type: u32, protocol: u32) -> Attempt {
    let dst: SocketAddr = dst.parse().unwrap();
    let addr = match dst.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    Attempt {
        addr: halves(addr.into()),
        port: dst.port().into(),
        sock_type,
        protocol,
    }
}

fn tcp(dst: &str) -> String {
    show(connect(&attempt(dst, SOCK_STREAM, IPPROTO_TCP), &config()))
}

fn udp(dst: &str) -> String {
    show(connect(&attempt(dst, SOCK_DGRAM, IPPROTO_UDP), &config()))
}

fn show((verdict, reason): Decision) -> String {
    std::format!("{} {}", verdict.label(), reason.label())
        .trim_end()
        .into()
}

/// Claims: connect-decision*, crate-common*
#[test]
fn tcp_to_anywhere_but_loopback_goes_to_the_relay() {
    for dst in [
        "198.51.100.7:80",
        "10.0.0.1:22",
        "169.254.169.254:80",
        "198.18.0.1:443",
        "128.0.0.1:80",
        "126.255.255.255:80",
        "[2001:db8::1]:443",
        "[::ffff:198.51.100.7]:80",
        "[::2]:80",
        "[::ffff:0:0:1]:80",
        "255.255.255.255:80",
        "224.0.0.1:80",
    ] {
        assert_eq!(tcp(dst), "redirected", "{dst}");
    }
}

/// Claims: connect-decision
#[test]
fn loopback_in_every_spelling_stays_inside() {
    for dst in [
        "127.0.0.1:8080",
        "127.255.255.254:1",
        "0.0.0.0:80",
        "[::1]:80",
        "[::]:80",
        "[::ffff:127.0.0.1]:80",
        "[::ffff:0.0.0.0]:80",
        "192.0.2.1:80",
        "127.0.0.1:53",
        "[fd65:6772:6573:1::1]:80",
    ] {
        assert_eq!(tcp(dst), "local", "{dst}");
        assert_eq!(udp(dst), "local", "{dst}");
    }
}

#[test]
fn the_relays_own_port_cannot_be_asked_for_and_the_proxy_port_is_named() {
    assert_eq!(tcp("127.0.0.1:1001"), "denied control_port");
    assert_eq!(tcp("[::1]:1001"), "denied control_port");
    assert_eq!(tcp("127.0.0.1:3128"), "proxy");
    assert_eq!(tcp("198.51.100.7:3128"), "redirected");
}

#[test]
fn no_resolver_but_the_stub_is_reached() {
    for dst in [
        "198.51.100.53:53",
        "[2001:db8::53]:53",
        "198.18.0.9:853",
        "[::ffff:198.51.100.53]:53",
    ] {
        assert_eq!(tcp(dst), "denied dns_to_other_resolver", "{dst}");
        let udp_word = if dst.starts_with("198.18.") {
            "probe dns_to_other_resolver"
        } else {
            "denied dns_to_other_resolver"
        };
        assert_eq!(udp(dst), udp_word, "{dst}");
    }
}

#[test]
fn udp_is_denied_everywhere_and_resolver_noise_is_distinguished() {
    assert_eq!(udp("198.51.100.7:443"), "denied udp");
    assert_eq!(udp("198.18.3.4:443"), "probe udp");
    assert_eq!(udp("198.19.255.255:443"), "probe udp");
    assert_eq!(udp("198.20.0.0:443"), "denied udp");
    assert_eq!(udp("[fd65:6772:6573::9]:443"), "probe udp");
    let sent = attempt("198.18.3.4:443", SOCK_DGRAM, IPPROTO_UDP);
    assert_eq!(
        show(datagram(&sent)),
        "denied udp",
        "a datagram itself is an attempt"
    );
}

#[test]
fn ipv6_is_refused_where_the_relay_cannot_listen_on_it_but_mapped_ipv4_is_not() {
    let config = Config::new(3128, false);
    let v6 = attempt("[2001:db8::1]:443", SOCK_STREAM, IPPROTO_TCP);
    assert_eq!(show(connect(&v6, &config)), "denied ipv6_unavailable");
    let mapped = attempt("[::ffff:198.51.100.7]:443", SOCK_STREAM, IPPROTO_TCP);
    assert_eq!(show(connect(&mapped, &config)), "redirected");
}

/// Claims: address-rule*
#[test]
fn mediator_reaches_what_is_public_or_opened_and_never_the_platform() {
    let reach = |place, known: &str| {
        let known = Known {
            is_listed: known.contains("listed"),
            opens_private: known.contains("private"),
            is_own: known.contains("own"),
            opens_port: !known.contains("port"),
        };
        reach(place, known).label()
    };
    for (place, known, reason) in [
        (Place::Public, "", ""),
        (Place::Public, "port", "port_not_allowed"),
        (Place::Public, "port listed", ""),
        (Place::Private, "port", "not_public"),
        (Place::Private, "port private", "port_not_allowed"),
        (Place::Special, "port", "not_public"),
        (Place::Public, "port own", "own_address"),
        (Place::Public, "own", "own_address"),
        (Place::Public, "own private", "own_address"),
        (Place::Public, "own listed", ""),
        (Place::Private, "", "not_public"),
        (Place::Private, "private", ""),
        (Place::Private, "private own", "own_address"),
        (Place::Private, "listed", ""),
        (Place::Special, "", "not_public"),
        (Place::Special, "private", "not_public"),
        (Place::Special, "own", "own_address"),
        (Place::Special, "listed", ""),
        (Place::Platform, "listed private", "platform_address"),
        (Place::Platform, "own listed", "platform_address"),
    ] {
        assert_eq!(reach(place, known), reason, "{place:?} {known}");
    }
}

/// Claims: crate-common
#[test]
fn only_tcp_and_udp_sockets_exist() {
    assert_eq!(show(socket(SOCK_STREAM, IPPROTO_TCP)), "local");
    assert_eq!(show(socket(SOCK_DGRAM, IPPROTO_UDP)), "local");
    // These types and protocols are raw, ping, SCTP, MPTCP, UDP-Lite, and DCCP.
    for (sock_type, protocol) in [
        (3, 255),
        (2, 1),
        (1, 132),
        (1, 262),
        (2, 136),
        (6, 33),
        (5, 132),
    ] {
        assert_eq!(show(socket(sock_type, protocol)), "denied socket_type");
        let mut other = attempt("198.51.100.7:80", sock_type, protocol);
        assert_eq!(show(connect(&other, &config())), "denied protocol");
        other.addr = attempt("127.0.0.1:80", sock_type, protocol).addr;
        assert_eq!(show(connect(&other, &config())), "denied protocol");
    }
}

/// Claims: audit-mode
#[test]
fn audit_records_what_would_be_and_lets_everything_pass() {
    let enforcing = Config::new(3128, true);
    let audit = Config {
        audit: 1,
        ..enforcing
    };
    for (verdict, would) in [
        (Verdict::Deny, Verdict::WouldDeny),
        (Verdict::Probe, Verdict::WouldDeny),
        (Verdict::Redirect, Verdict::WouldRedirect),
        (Verdict::Local, Verdict::Local),
        (Verdict::Proxy, Verdict::Local),
    ] {
        let decision = (verdict, Reason::Udp);
        assert_eq!(enacted(decision, &enforcing), decision);
        assert_eq!(enacted(decision, &audit), (would, Reason::Udp));
        assert!(passes(would));
    }
    assert!(!passes(Verdict::Deny) && !passes(Verdict::Probe));
}
