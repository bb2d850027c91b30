use egress_test_support::client_hello::hello;

use super::*;

/// Claims: crate-support
#[test]
fn a_hello_within_the_hello_is_seen() {
    let plain = hello("a.test");
    assert!(!parse(&plain).unwrap().unwrap().is_encrypted);
    // The lengths of the record, the handshake message, and the extensions grow by the size of the
    // inserted extension.
    let inner = [0xfe, 0x0d, 0, 12, 0, 0, 1, 0, 1, 7, 0, 1, 9, 0, 1, 9];
    let mut bytes = plain.clone();
    let extensions = {
        let session = 5 + 4 + 34;
        let suites = session + 1 + usize::from(plain[session]);
        let methods =
            suites + 2 + usize::from(u16::from_be_bytes([plain[suites], plain[suites + 1]]));
        methods + 1 + usize::from(plain[methods])
    };
    for at in [3, 7, extensions] {
        let length = u16::from_be_bytes([bytes[at], bytes[at + 1]]) + 16;
        bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
    // The extension is inserted first, because a pre-shared key must stay the last extension.
    bytes.splice(extensions + 2..extensions + 2, inner);
    for kind in [[0xfe, 0x0d], [0xfe, 0x08], [0xfe, 0x0a], [0xff, 0xce]] {
        bytes[extensions + 2..extensions + 4].copy_from_slice(&kind);
        let hello = parse(&bytes).unwrap().unwrap();
        assert!(hello.is_encrypted, "{kind:?}");
    }
}

/// Claims: crate-http*
#[test]
fn a_hello_is_read_at_any_cut_and_from_many_records() {
    let whole = hello("a.test");
    for end in 0..whole.len() {
        assert_eq!(parse(&whole[..end]), Ok(None), "{end}");
    }
    let expected = parse(&whole).unwrap().unwrap();
    let mut split = Vec::new();
    for piece in whole[5..].chunks(50) {
        split.extend([22, 3, 1, 0, u8::try_from(piece.len()).unwrap()]);
        split.extend_from_slice(piece);
    }
    let of_many = Hello {
        length: split.len(),
        ..expected.clone()
    };
    assert_eq!(parse(&split), Ok(Some(of_many)));
    // Early data follows the hello.
    let mut early = whole;
    early.extend([23, 3, 3, 0, 3, 1, 2, 3]);
    assert_eq!(parse(&early), Ok(Some(expected)));
}

#[test]
fn what_is_no_hello_is_refused() {
    let good = hello("a.test");
    let mut server_hello = good.clone();
    server_hello[5] = 2;
    let mut alert = good.clone();
    alert[0] = 21;
    let mut empty_record = good.clone();
    empty_record[3..5].copy_from_slice(&[0, 0]);
    let mut long_record = good.clone();
    long_record[3..5].copy_from_slice(&[0x40, 1]);
    let mut two_hellos = [&good[..], &good[5..]].concat();
    let length = u16::try_from(two_hellos.len() - 5).unwrap();
    two_hellos[3..5].copy_from_slice(&length.to_be_bytes());
    let mut double_sni = good.clone();
    let at = good.windows(6).position(|w| w == b"a.test").unwrap();
    // The length of the list exceeds the extension.
    double_sni[at - 4] = 200;
    for bytes in [
        server_hello,
        alert,
        empty_record,
        long_record,
        two_hellos,
        double_sni,
    ] {
        assert_eq!(parse(&bytes), Err(NotAHello), "{:?}", &bytes[..8]);
    }
}
