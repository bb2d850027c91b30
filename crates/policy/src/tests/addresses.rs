//! Tests of the rule on resolved addresses.
use std::net::IpAddr;

use egress_common::verdict::Reason;

use super::super::Host;
use super::super::ssrf::{Cidr, SsrfGuard};

#[test]
fn internal_addresses_are_refused_in_every_wrapping() {
    let host = Host::parse("a.test").unwrap();
    let check = |text: &str| SsrfGuard::default().check(&host, text.parse().unwrap(), |_| false);
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.1.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::1",
        "2002:a00:1::",
        "2001:0:1:2:3:4:80ff:fffe",
        "2001:0:1:2:3:4:f7f7:f7f7",
        "192.0.0.8",
        "64:ff9b:a00:1::",
        "64:ff9b:1:a00:0:100::",
        "64:ff9b:1:0a:0:1::",
        "64:ff9b:1:0:0a:0:100::",
        "2606:4700::5efe:10.0.0.1",
    ] {
        assert_eq!(check(address), Err(Reason::NotPublic), "{address}");
    }
    for address in [
        "169.254.169.254",
        "168.63.129.16",
        "192.0.0.192",
        "64:ff9b:1:a83f:81:1000::",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::1",
    ] {
        assert_eq!(check(address), Err(Reason::PlatformAddress), "{address}");
    }
    for address in [
        "1.1.1.1",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.17.0.1",
        "198.20.0.1",
        "223.255.255.255",
        "2001:db8::1",
        "2606:4700::1",
        "64:ff9b::808:808",
    ] {
        assert_eq!(check(address), Ok(()), "{address}");
    }
}

#[test]
fn own_addresses_are_refused_in_every_wrapping_unless_listed() {
    let own: IpAddr = "203.0.113.2".parse().unwrap();
    let host = Host::parse("a.corp.test").unwrap();
    let mut guard = SsrfGuard::default();
    guard.trusted_domains.insert("*.corp.test").unwrap();
    let check = |guard: &SsrfGuard, text: &str| {
        guard.check(&host, text.parse().unwrap(), |address| address == own)
    };
    let all = [
        "203.0.113.2",
        "::ffff:203.0.113.2",
        "64:ff9b::203.0.113.2",
        "64:ff9b:1:cb00:71:200::",
        "2002:cb00:7102::1",
        "2606:4700::5efe:203.0.113.2",
    ];
    for address in all {
        assert_eq!(check(&guard, address), Err(Reason::OwnAddress), "{address}");
    }
    assert_eq!(check(&guard, "203.0.113.3"), Ok(()));
    // Exactly the listed addresses may be dialed.
    guard.ip_allowlist = vec![
        Cidr::parse("203.0.113.2/32").unwrap(),
        Cidr::parse("64:ff9b::/96").unwrap(),
    ];
    for (number, address) in all.into_iter().enumerate() {
        let expected = if number < 3 {
            Ok(())
        } else {
            Err(Reason::OwnAddress)
        };
        assert_eq!(check(&guard, address), expected, "{address}");
    }
}

#[test]
fn exceptions_open_all_but_the_platform() {
    let mut guard = SsrfGuard {
        ip_allowlist: vec![
            Cidr::parse("127.0.0.0/8").unwrap(),
            Cidr::parse("169.254.0.0/16").unwrap(),
            Cidr::parse("::1/128").unwrap(),
        ],
        ..SsrfGuard::default()
    };
    guard.trusted_domains.insert("*.corp.test").unwrap();
    let name = Host::parse("a.test").unwrap();
    let trusted = Host::parse("a.corp.test").unwrap();
    let check = |host: &Host, text: &str| guard.check(host, text.parse().unwrap(), |_| false);
    assert_eq!(check(&name, "127.9.9.9"), Ok(()));
    assert_eq!(check(&name, "::ffff:127.0.0.1"), Ok(()));
    assert_eq!(check(&name, "::1"), Ok(()));
    assert_eq!(check(&name, "10.0.0.1"), Err(Reason::NotPublic));
    assert_eq!(check(&trusted, "10.0.0.1"), Ok(()));
    // A trusted domain opens private networks, but no other range that is not public.
    assert_eq!(check(&trusted, "fd00::1"), Ok(()));
    assert_eq!(check(&trusted, "192.0.0.8"), Err(Reason::NotPublic));
    for platform in ["169.254.169.254", "fd00:ec2::254"] {
        assert_eq!(check(&name, platform), Err(Reason::PlatformAddress));
        assert_eq!(check(&trusted, platform), Err(Reason::PlatformAddress));
    }
    assert_eq!(
        Cidr::parse("0.0.0.0/0").map(|all| all.contains("9.9.9.9".parse().unwrap())),
        Some(true)
    );
    for text in [
        "10.0.0.1",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "::/129",
        "x/8",
    ] {
        assert_eq!(Cidr::parse(text), None, "{text}");
    }
}
