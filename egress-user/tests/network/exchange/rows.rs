//! The target of a row is the same as the target of its receipt, and neither contains a query.
use tokio::io::AsyncWriteExt;

use super::origin::Run;
use crate::mediator::support::{Answer, MediatorWorld};
use crate::relay::world::{exchange, read_answer};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Requests `url` through the explicit proxy, with an upgrade if it is the URL of a WebSocket.
async fn ask(run: &Run, url: &str) {
    let mut stream = run.relay.connect_proxy().await;
    // A WebSocket is requested with an `http` URL or with the mediator's own path.
    let is_websocket = url.starts_with("ws") || url.starts_with("/ws");
    let url = url
        .strip_prefix("ws://")
        .map_or_else(|| url.to_owned(), |rest| format!("http://{rest}"));
    let host = url.strip_prefix("http://").unwrap_or("p");
    let host = host.split(['/', '?']).next().unwrap();
    let head = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n");
    if is_websocket {
        let head = format!("{head}{UPGRADE}");
        stream.write_all(head.as_bytes()).await.unwrap();
        read_answer(&mut stream).await;
    } else {
        let head = format!("{head}Connection: close\r\n\r\n");
        exchange(&mut stream, head.as_bytes()).await;
    }
}

#[tokio::test]
async fn row_and_receipt_name_the_same_target() {
    let run = Run::new().await;
    let port = run.port;
    let mut all = Vec::new();
    let secret = "0123456789abcdefghijABCDEFGHIJ012345";
    for (url, expected) in [
        (format!("http://allowed.test:{port}/x?secret=1"), ""),
        (format!("http://ALLOWED.test.:{port}"), ""),
        (
            format!("http://allowed.test:{port}/ghp_{secret}/x"),
            "/[redacted-value]/x",
        ),
        (
            format!("http://allowed.test:{port}/%67hp_{secret}/x"),
            "/[redacted-value]/x",
        ),
        (
            format!("http://allowed.test:{port}/{}?q=secret", "y".repeat(4_000)),
            "",
        ),
        (
            format!("http://allowed.test:{port}/{}?q=secret", "z".repeat(9_000)),
            "",
        ),
        (
            String::from("http://Denied.test:80/?secret"),
            "http://denied.test/?[query",
        ),
        (
            String::from("/fetch?url=https://denied.test:443?secret=2&max_length=3"),
            "GET https://denied.test/?[query",
        ),
        (
            String::from("/fetch?url=http://denied.test/a%23secret"),
            "GET http://denied.test/a",
        ),
        (
            format!("ws://allowed.test:{port}/no?secret"),
            "GET ws://allowed.test",
        ),
        (
            format!("/ws?url=ws://Allowed.test:{port}%23secret"),
            "GET ws://allowed.test",
        ),
        (
            format!("/ws?url=ws://allowed.test:{port}?secret"),
            "?[query 6 ",
        ),
        (
            String::from("/ws?url=wss://allowed.test:443/x%3Fsecret%3D1"),
            "GET wss://allowed.test/x?[query",
        ),
    ] {
        ask(&run, &url).await;
        all.push(expected);
    }
    let left = run.stop().await;
    let expected = all;
    assert_eq!(left.rows.len(), expected.len(), "{:?}", left.words());
    let mut signed: Vec<String> = Vec::new();
    for action in left.evidence.actions() {
        let target = action.target;
        assert!(
            !target.contains("secret") && !target.contains("ghp_"),
            "{target}"
        );
        // An intent and its outcome belong to one action.
        if action.phase != "outcome" {
            signed.push(target);
        }
    }
    for (row, expected) in left.rows.iter().zip(expected) {
        let target = row.target.clone().unwrap();
        assert!(
            !target.contains("secret") && !target.contains("ghp_"),
            "{target}"
        );
        assert!(target.contains(expected), "{target}");
        let url = target.split_once(' ').unwrap().1;
        let found = signed.iter().position(|target| target == url);
        signed.remove(found.unwrap_or_else(|| panic!("{url}: {signed:?}")));
    }
    assert_eq!(signed, [""; 0]);
}

#[tokio::test]
async fn relay_and_mediator_take_the_same_names() {
    let mediator = MediatorWorld::new();
    let names = [
        "allowed.test",
        "ALLOWED.Test",
        "allowed.test.",
        "a_b.test",
        "-a.test",
        "a-.test",
        "a.-b.test",
        "a--b.test",
        "xn--4ca.test",
        "-",
        "_",
        "a..test",
        ".test",
        "test",
        "1",
        "127.1",
        "0x7f.1",
        "010.0.0.1",
        "192.0.2.7",
        "192.0.2.7.",
        "1.2.3.4.5",
        "a.0x",
        "a.1",
        "[::1]",
        "[2001:DB8::1]",
        "[::ffff:192.0.2.7]",
        "[::1%25lo]",
        "[]",
        "a%2etest",
        "a*b.test",
        "*.test",
        "a~b",
        "a!b",
        "a,b",
        "a'b",
        "a=b",
        "a&b",
        "a+b",
        "a;b",
        "u@a.test",
    ];
    for name in names {
        let taken = egress_relay::authority::parse(name, Some(80)).is_some();
        let Answer { status, .. } = mediator.get(&format!("http://{name}/")).await;
        // A well-formed name may be denied because of the list or the address, but not as malformed.
        assert_eq!(status != 400, taken, "{name}: {status}");
    }
    for label in [63, 64] {
        let name = format!("{}.test", "a".repeat(label));
        let taken = egress_relay::authority::parse(&name, Some(80)).is_some();
        let status = mediator.get(&format!("http://{name}/")).await.status;
        assert_eq!((status != 400, taken), (label == 63, label == 63));
    }
    mediator.stop().await;
}
