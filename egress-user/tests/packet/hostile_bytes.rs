//! Parsers of bytes from the command or from the sender of a packet. No variant of valid bytes makes a parser panic.
//! Every text that a parser accepts has one meaning, and the next reader reads the same meaning.
#![allow(
    clippy::allow_attributes,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use std::fs;

use audit_packet::hint::Settings;
use audit_packet::stream::FileDigest;
use audit_packet::{EVIDENCE_FILE, FLOWS_FILE, PACKET_FILE, attest};
use egress::cli::verify::{self, VerifyArgs, status};
use egress::suggest::suggest;
use egress_http::client_hello;
use egress_policy::allowed::Allowed;
use egress_policy::host::Host as ListHost;
use egress_relay::authority;
use egress_relay::chunked::Chunked;
use egress_relay::http_head::{Framing, Scan, judge, scan};
use egress_relay::names::Names;
use egress_relay::{dns, query, sniff};
use egress_test_support::client_hello::hello;
use egress_test_support::mutate::Numbers;
use egress_workspace::apply::git_index;
use pipelock_receipts::capsule::Capsule;
use pipelock_receipts::{json, keys};

/// Returns every way in which a careless server could read a head: the lengths, whether the body is chunked, and the
/// hosts.
fn readings(head: &[u8]) -> (Vec<u64>, bool, Vec<Vec<u8>>) {
    let (mut lengths, mut chunked, mut hosts) = (Vec::new(), false, Vec::new());
    for line in head.split(|byte| b"\r\n".contains(byte)).skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let blank = |byte: &u8| *byte <= b' ' || *byte >= 0x7f;
        let name: Vec<u8> = line[..colon]
            .iter()
            .filter(|byte| !blank(byte))
            .copied()
            .collect();
        let value = line[colon + 1..].trim_ascii();
        match name.to_ascii_lowercase().as_slice() {
            b"content-length" => {
                for part in value.split(|byte| *byte == b',') {
                    let text = String::from_utf8_lossy(part.trim_ascii()).into_owned();
                    lengths.push(text.trim_start_matches('+').parse().unwrap_or(u64::MAX));
                }
            }
            b"transfer-encoding" => chunked = true,
            b"host" => hosts.push(value.to_ascii_lowercase()),
            _ => {}
        }
    }
    (lengths, chunked, hosts)
}

#[test]
fn an_accepted_head_has_one_meaning() {
    let sound: [&[u8]; 6] = [
        b"GET /a?b=c HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\n\r\n",
        b"POST http://a.test/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 12\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a.test:80\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Connection: keep-alive\r\n\r\n",
        b"GET /w HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HEAD / HTTP/1.0\r\nHost: a.test\r\nConnection: close\r\n\r\n",
    ];
    let words: [&[u8]; 16] = [
        b"Content-Length: 5\r\n",
        b"\r\nContent-Length : 7",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\nTransfer-Encoding:\tchunked",
        b"Host: b.test\r\n",
        b"\r\n Host: b.test",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\0",
        b", chunked",
        b"+",
        b"\x0b",
        b"http://b.test",
        b"@b.test",
        b"Connection: host, content-length\r\n",
    ];
    let mut numbers = Numbers::new(1);
    let mut taken = 0;
    for _ in 0..150_000 {
        let bytes = numbers.mutated(&sound, &words);
        sniff::sniff(&bytes);
        let whole = scan(&bytes, 0);
        // The result is the same wherever the bytes are cut: the end of the head, or the error.
        let cut = numbers.below(bytes.len() + 1);
        let resumed = match scan(&bytes[..cut], 0) {
            Ok(Scan::More(at)) => scan(&bytes, at),
            early => early,
        };
        assert_eq!(
            resumed,
            whole,
            "{:?} at {cut}",
            bytes.escape_ascii().to_string()
        );
        let Ok(Scan::End(end)) = whole else { continue };
        let Ok(framing) = judge(&bytes[..end]) else {
            continue;
        };
        taken += 1;
        let (lengths, chunked, hosts) = readings(&bytes[..end]);
        let shown = bytes.escape_ascii().to_string();
        match framing {
            Framing::Chunked => assert!(chunked && lengths.is_empty(), "{shown}"),
            Framing::Length(length) => {
                assert!(!chunked, "{shown}");
                assert!(lengths.iter().all(|other| *other == length), "{shown}");
                assert!(length == 0 || lengths.len() == 1, "{shown}");
            }
        }
        assert!(hosts.len() <= 1, "{shown}");
        assert!(
            hosts.len() == 1 || bytes.starts_with(b"CONNECT "),
            "{shown}"
        );
    }
    assert!(
        taken > 5000,
        "{taken} were taken: too few variants are valid, so the test proves nothing"
    );
}

/// Returns the position of the end of a body, from a simple reading of RFC 9112, section 7.1, without extensions and
/// trailers.
fn end(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = body[at..].windows(2).position(|two| two == b"\r\n")?;
        let digits = std::str::from_utf8(&body[at..at + line]).ok()?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(digits, 16).ok()?;
        at = at.checked_add(line + 2)?.checked_add(size)?;
        if body.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
        if size == 0 {
            return Some(at);
        }
    }
}

#[test]
fn a_chunked_body_ends_in_one_place_however_it_is_cut() {
    let sound: [&[u8]; 4] = [
        b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
        b"A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n",
        b"0\r\n\r\n",
        b"00f\r\n0\r\n\r\n0\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n",
    ];
    let words: [&[u8]; 8] = [
        b"\r\n",
        b"0\r\n\r\n",
        b";a=b",
        b"\n",
        b" ",
        b"+1",
        b"0x",
        b"fffffffffffffff",
    ];
    let mut numbers = Numbers::new(2);
    let mut ended = 0;
    for _ in 0..60_000 {
        let bytes = numbers.mutated(&sound, &words);
        let mut whole = Chunked::default();
        let taken = whole.take(&bytes);
        let mut pieces = Chunked::default();
        let cut = numbers.below(bytes.len() + 1);
        let resumed = pieces.take(&bytes[..cut]).and_then(|first| {
            let rest = if pieces.is_done() {
                0
            } else {
                pieces.take(&bytes[cut..])?
            };
            Ok(first + rest)
        });
        assert_eq!(resumed, taken, "{} at {cut}", bytes.escape_ascii());
        if let (Ok(taken), true) = (taken, whole.is_done()) {
            assert_eq!(end(&bytes), Some(taken), "{}", bytes.escape_ascii());
            ended += 1;
        }
    }
    assert!(ended > 2000, "{ended}");
}

#[test]
fn a_hello_is_read_as_the_server_reads_it() {
    let sound = [
        hello("a.test"),
        hello("192.0.2.7"),
        hello("a-longer.name.test"),
    ];
    let sound: Vec<&[u8]> = sound.iter().map(Vec::as_slice).collect();
    let words: [&[u8]; 6] = [
        b"\0\0\0\x0b\0\x09\0\0\x06b.test",
        b"\xfe\x0d\0\0",
        b"b.test",
        b"\x16\x03\x01\0\x05",
        b"\0\0",
        b"\xff\xff",
    ];
    let mut numbers = Numbers::new(3);
    let mut taken = 0;
    for _ in 0..10_000 {
        let bytes = numbers.mutated(&sound, &words);
        let read = client_hello::parse(&bytes);
        let cut = numbers.below(bytes.len() + 1);
        // The bytes after a complete hello do not change the result.
        if let Ok(Some(hello)) = client_hello::parse(&bytes[..cut]) {
            assert_eq!(read, Ok(Some(hello)));
        }
        let Ok(Some(hello)) = &read else { continue };
        let mut acceptor = rustls::server::Acceptor::default();
        let mut rest = bytes.as_slice();
        let accepted = loop {
            acceptor.read_tls(&mut rest).unwrap();
            if let Some(accepted) = acceptor.accept().map_err(|(error, _)| error).unwrap() {
                break accepted;
            }
        };
        taken += 1;
        let served = accepted.client_hello().server_name().map(str::to_owned);
        for name in ["a.test", "b.test", "a-longer.name.test"] {
            if hello.sni.as_deref() == Some(name.as_bytes()) {
                assert_eq!(served.as_deref(), Some(name));
            }
        }
        if hello.sni.is_none() {
            assert_eq!(served, None);
        }
    }
    assert!(taken > 300, "{taken}");
}

#[test]
fn a_query_gets_one_matching_answer_or_none() {
    let sound: [&[u8]; 4] = [
        b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01",
        b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\x01\x01a\x04test\0\0\x1c\0\x01\0\0\x29\x10\0\0\0\0\0\0\0",
        b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x011\x010\x0218\x03198\x07in-addr\x04arpa\0\0\x0c\0\x01",
        b"\xab\xcd\x01\0\0\x02\0\0\0\0\0\0\x01a\x04test\0\0\xff\0\x01\xc0\x0c\0\x01\0\x01",
    ];
    let words: [&[u8]; 6] = [
        b"\xc0\x0c",
        b"\xc0\xff",
        b"\x3f",
        b"\x01a",
        b"\0\xfc\0\x01",
        b"\0\0\x29\xff\xff",
    ];
    let mut numbers = Numbers::new(4);
    let mut names = Names::new(50);
    let mut answered = 0;
    for _ in 0..30_000 {
        let bytes = numbers.mutated(&sound, &words);
        let Some(answer) = dns::answer(&mut names, &bytes, true) else {
            continue;
        };
        answered += 1;
        assert_eq!(answer.bytes[..2], bytes[..2]);
        assert_ne!(answer.bytes[2] & 0x80, 0, "an answer is one");
        // A short query cannot produce a long answer.
        assert!(
            answer.bytes.len() <= bytes.len() + 300,
            "{}",
            bytes.escape_ascii()
        );
        if let Some(report) = answer.report {
            assert!(report.name.is_ascii(), "{report:?}");
        }
    }
    assert!(answered > 10_000, "{answered}");
}

#[test]
fn a_host_has_one_spelling_for_relay_and_list() {
    let sound: [&[u8]; 7] = [
        b"allowed.test:443",
        b"Allowed.TEST.:80",
        b"192.0.2.7:80",
        b"[2001:db8::1]:443",
        b"[::ffff:192.0.2.7]:1",
        b"a_b-c.x1.test:65535",
        b"xn--e1afmkfd.test:443",
    ];
    let words: [&[u8]; 12] = [
        b".",
        b"..",
        b"@",
        b"%2e",
        b"0x7f",
        b"127.1",
        b"[",
        b"]",
        b":",
        "\u{ff0e}".as_bytes(),
        b"-",
        b"\0",
    ];
    let mut numbers = Numbers::new(5);
    let mut taken = 0;
    for _ in 0..100_000 {
        let bytes = numbers.mutated(&sound, &words);
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(host) = ListHost::parse(&text) {
            let again = host.to_string();
            assert!(again.is_ascii(), "{text}");
            assert_eq!(ListHost::parse(&again).as_ref(), Ok(&host), "{text}");
        }
        let Some((host, port)) = authority::parse(&text, Some(80)) else {
            continue;
        };
        taken += 1;
        let again = host.to_string();
        assert!(again.is_ascii(), "{text}");
        assert_eq!(
            authority::parse(&again, Some(port)),
            Some((host.clone(), port)),
            "{text}"
        );
        // The allow-list parses every text that the relay forwards as the same host.
        assert_eq!(ListHost::parse(&again), Ok(host), "{text}");
    }
    assert!(taken > 10_000, "{taken}");
}

#[test]
fn a_rewritten_query_is_not_changed_again() {
    const SCHEMES: [(&str, u16); 2] = [("http", 80), ("https", 443)];
    let round = |text: &str| {
        let parsed = query::parse(text)?;
        let (host, port, rest) = query::split_url(&parsed.url, &SCHEMES)?;
        let target = authority::Target { host, port };
        Some((parsed.rewritten(&target, rest).query, target))
    };
    let sound: [&[u8]; 3] = [
        b"url=http%3A%2F%2Fa.test%2Fx%3Fy%3D1&max_length=10",
        b"url=https://A.test:443/?a=b",
        b"agent=x&url=http://[2001:db8::1]:8080/",
    ];
    let words: [&[u8]; 10] = [
        b"&url=http://b.test",
        b"%",
        b"%25",
        b"%00",
        b"@b.test",
        b";",
        b"#",
        b"\\",
        b"&agent=y",
        b"+",
    ];
    let mut numbers = Numbers::new(6);
    let mut taken = 0;
    for _ in 0..60_000 {
        let bytes = numbers.mutated(&sound, &words);
        let text = String::from_utf8_lossy(&bytes);
        let Some((written, target)) = round(&text) else {
            continue;
        };
        taken += 1;
        assert!(
            !written
                .split('&')
                .any(|member| member.starts_with("agent=")),
            "{text}"
        );
        assert_eq!(round(&written), Some((written.clone(), target)), "{text}");
    }
    assert!(taken > 5000, "{taken}");
}

#[test]
fn json_that_is_taken_means_the_same_to_others() {
    let sound: [&[u8]; 3] = [
        br#"{"a":[1,-2.5e3,true,null,"x\u00e9\n"],"b":{"c":"d"}}"#,
        br#" [ {"seq":0,"hash":"00ff"} , {} , [] ] "#,
        r#"{"ключ":"\ud83d\ude00","A":"/"}"#.as_bytes(),
    ];
    let words: [&[u8]; 12] = [
        b"\"a\":1,",
        b"\\u0000",
        b"\\ud800",
        b"1e400",
        b"01",
        b"[[[[",
        b"\xef\xbb\xbf",
        b"//",
        b"'",
        b",",
        b"9007199254740993",
        b"\"B\":2,",
    ];
    let mut numbers = Numbers::new(7);
    let mut taken = 0;
    for _ in 0..100_000 {
        let bytes = numbers.mutated(&sound, &words);
        let Ok(node) = json::parse_bytes(&bytes, 32) else {
            continue;
        };
        taken += 1;
        let other: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_same(&node, &other);
    }
    assert!(taken > 5000, "{taken}");
}

fn assert_same(node: &json::Node<'_>, other: &serde_json::Value) {
    match (&node.value, other) {
        (json::Value::Array(items), serde_json::Value::Array(others)) => {
            assert_eq!(items.len(), others.len());
            for (item, other) in items.iter().zip(others) {
                assert_same(item, other);
            }
        }
        (json::Value::Object(members), serde_json::Value::Object(others)) => {
            assert_eq!(members.len(), others.len(), "no name twice");
            for (name, member) in members {
                assert_same(member, &others[name.as_ref()]);
            }
        }
        (json::Value::String(text), serde_json::Value::String(other)) => assert_eq!(text, other),
        (json::Value::Bool(value), serde_json::Value::Bool(other)) => assert_eq!(value, other),
        (json::Value::Number, serde_json::Value::Number(_))
        | (json::Value::Null, serde_json::Value::Null) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn evidence_that_was_changed_is_never_valid_and_no_packet_stops_its_reader() {
    let directory = tempfile::tempdir().unwrap();
    let chain = super::support::chain(2, 1);
    super::support::write_packet(directory.path(), &chain);
    let args = VerifyArgs {
        path: directory.path().to_owned(),
        keys: vec![chain.key_hex()],
        allow_prefix: true,
        ..VerifyArgs::default()
    };
    let verdict = || verify::verify(&args).map_or(u8::MAX, |outcome| status(&outcome, &args));
    assert_eq!(verdict(), 0);
    let mut numbers = Numbers::new(8);
    let words: [&[u8]; 6] = [
        b"\n",
        b"\"verdict\":\"allow\",",
        b"[[[[",
        b"../../etc/passwd",
        b"1e99",
        b"\0",
    ];
    for name in [EVIDENCE_FILE, PACKET_FILE, FLOWS_FILE] {
        let path = directory.path().join(name);
        let sound = fs::read(&path).unwrap();
        // The changes are inside lines, because a prefix of whole lines is valid evidence without a proven end.
        for _ in 0..120 {
            let mut bytes = sound.clone();
            let at = numbers.below(bytes.len());
            bytes[at] ^= 1 << numbers.below(8);
            fs::write(&path, &bytes).unwrap();
            let told = verify::verify(&args);
            // The name of an empty member that the hash does not cover may change, and the check reports that.
            let valid =
                told.is_ok_and(|told| status(&told, &args) == 0 && told.findings.is_empty());
            if name == EVIDENCE_FILE {
                let there = sound[..at].escape_ascii().to_string();
                assert!(
                    !valid,
                    "byte {at} of {name} {}: {there}",
                    bytes[at].escape_ascii()
                );
            }
            fs::write(&path, numbers.mutated(&[&sound], &words)).unwrap();
            verdict();
        }
        fs::write(&path, &sound).unwrap();
    }
    assert_eq!(verdict(), 0);
}

#[test]
fn no_variant_of_an_attestation_fits_other_files() {
    let key = keys::generate().unwrap();
    let files = |digest: &str| {
        vec![FileDigest {
            name: String::from("packet.json"),
            sha256: digest.repeat(32),
            size: Some(9),
        }]
    };
    let sound = attest::sign(&files("00"), attest::Predicate::default(), &key).unwrap();
    let keys = [key.verifying_key()];
    assert!(attest::check(&sound, &files("00"), &keys).holds);
    let words: [&[u8]; 4] = [b"\"signatures\":[],", b"==", b"{}", b"AAAA"];
    let mut numbers = Numbers::new(9);
    for _ in 0..3000 {
        let bytes = numbers.mutated(&[&sound], &words);
        assert!(!attest::check(&bytes, &files("01"), &keys).holds);
    }
}

#[test]
fn other_readers_take_any_bytes() {
    let index = [
        b"DIRC\0\0\0\x02\0\0\0\x01".as_slice(),
        &[7; 60],
        b"\0\x03a/b\0\0\0\0\0\0\0TREE\0\0\0\x02xx",
        &[9; 20],
    ]
    .concat();
    assert!(git_index::is_plain(&index, 20));
    let flows = b"{\"event\":\"start\",\"hash\":\"00\",\"prev_hash\":\"genesis\",\"seq\":0}\n";
    let capsule = b"{\"schema\":\"x\",\"posture\":{},\"signature\":\"00\"}";
    let words: [&[u8]; 8] = [
        b".git/x",
        b"IEOT\0\0\0\x04\0\0\0\x01",
        b"EOIE",
        b"\xff\xff\xff\xff",
        b"{",
        b"\"seq\":1,",
        b"\n",
        b"\0",
    ];
    let settings = Settings {
        allowed: &Allowed::UNKNOWN,
        ports: &[],
    };
    let mut numbers = Numbers::new(10);
    for _ in 0..20_000 {
        let bytes = numbers.mutated(&[&index], &words);
        let names_git = bytes.windows(6).any(|part| part == b".git/x");
        for hash in [20, 32] {
            assert!(!(git_index::is_plain(&bytes, hash) && names_git && bytes.len() < 110));
        }
        let log = numbers.mutated(&[flows], &words);
        drop(suggest(log.as_slice(), settings, false));
        drop(Capsule::parse(&numbers.mutated(&[capsule], &words)));
    }
}
