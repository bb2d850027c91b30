use egress_http::client_hello::parse;
use egress_test_support::client_hello::hello;

use super::*;

/// Returns a `ClientHello` whose SNI holds the bytes of `raw`.
fn hello_with(raw: &str) -> Vec<u8> {
    let plain: String = raw
        .chars()
        .map(|c| if c == '.' { '0' } else { 'x' })
        .collect();
    let mut bytes = hello(&plain);
    let at = bytes
        .windows(plain.len())
        .position(|w| w == plain.as_bytes())
        .unwrap();
    bytes[at..at + raw.len()].copy_from_slice(raw.as_bytes());
    bytes
}

fn judged(bytes: &[u8], name: &str) -> &'static str {
    let (host, _) = crate::authority::parse(name, Some(443)).unwrap();
    let hello = parse(bytes).unwrap().unwrap();
    judge(&hello, &host).map_or("", |(reason, _)| reason)
}

fn is_for(bytes: &[u8], name: &str) -> bool {
    let judged = judged(bytes, name);
    assert!(matches!(judged, "" | "name_mismatch"), "{judged}");
    judged.is_empty()
}

/// Claims: request-judged
#[test]
fn the_sni_is_the_name_or_it_is_a_mismatch() {
    assert!(is_for(&hello("a.test"), "a.test"));
    assert!(is_for(&hello_with("A.Test"), "a.test"));
    for (sni, name) in [
        ("b.test", "a.test"),
        ("x.a.test", "a.test"),
        ("a.test", "x.a.test"),
        ("a.test.", "a.test"),
        ("a.test", "192.0.2.7"),
    ] {
        assert!(!is_for(&hello_with(sni), name), "{sni} for {name}");
    }
    assert!(
        is_for(&hello("192.0.2.7"), "192.0.2.7"),
        "no SNI for an address"
    );
    assert!(!is_for(&hello("192.0.2.7"), "a.test"), "no SNI for a name");
}

#[test]
fn an_address_in_the_sni_is_no_way_around() {
    // rustls parses this hello as one without SNI.
    let bytes = hello_with("192.0.2.7");
    assert!(!is_for(&bytes, "192.0.2.7"));
    assert!(!is_for(&bytes, "192.0.2.8"));
}

#[test]
fn a_hello_within_the_hello_is_refused_whatever_the_outer_name() {
    let (host, _) = crate::authority::parse("a.test", Some(443)).unwrap();
    for sni in [b"a.test", b"b.test"] {
        let hello = Hello {
            sni: Some(sni.to_vec()),
            is_encrypted: true,
            length: 0,
        };
        let refused = Some(("encrypted_client_hello", Alert::AccessDenied));
        assert_eq!(judge(&hello, &host), refused);
    }
}
