//! Tests redirected TLS.
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::{RelayWorld, exchange, read_to_end, short};
use egress_test_support::client_hello::{hello, records};

/// Fatal TLS alerts, as whole records.
pub(crate) const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];
pub(crate) const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];
pub(crate) const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
pub(crate) const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Claims: request-sent
#[tokio::test]
async fn a_tunnel_carries_the_hello_and_all_that_follows() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect("a.test", 443).await;
    let hello = hello("a.test");
    // The client sends its first flight in two pieces. The second piece also contains early data.
    let (start, rest) = hello.split_at(100);
    client.write_all(start).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    client.write_all(rest).await.unwrap();
    let early = [&[23, 3, 3, 0, 4][..], b"data"].concat();
    client.write_all(&early).await.unwrap();
    let mut echoed = vec![0; hello.len() + early.len()];
    client.read_exact(&mut echoed).await.unwrap();
    assert_eq!(echoed, [hello.clone(), early].concat());
    // The relay forwards a half-close, and the answer still arrives.
    client.write_all(&records(b"last")).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut client).await, records(b"last"));
    let flow = world.flow().await;
    assert_eq!(short(&flow), "tls a.test forwarded");
    assert_eq!(flow.transport.as_deref(), Some("connect"));
    assert_eq!(flow.target.as_deref(), Some("CONNECT a.test:443"));
    assert_eq!(flow.status, Some(200));
    let total = hello.len() as u64 + 9 + 9;
    assert_eq!((flow.bytes_up, flow.bytes_down), (total, total));
    assert_eq!(
        world.mediator.heads(),
        ["CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"]
    );
}

/// Claims: request-judged
#[tokio::test]
async fn denials_are_alerts_and_the_mediator_receives_only_matching_requests() {
    let mut world = RelayWorld::new().await;
    let mut bad = hello("a.test");
    bad[5] = 2;
    for (name, port, first, alert, expected) in [
        (
            "a.test",
            443,
            hello("b.test"),
            UNRECOGNIZED_NAME,
            "tls a.test refused name_mismatch",
        ),
        (
            "a.test",
            443,
            hello("192.0.2.7"),
            UNRECOGNIZED_NAME,
            "tls a.test refused name_mismatch",
        ),
        (
            "a.test",
            443,
            bad,
            DECODE_ERROR,
            "tls a.test refused client_hello",
        ),
        (
            "a.test",
            443,
            hello("a.test")[..60].to_vec(),
            DECODE_ERROR,
            "tls a.test refused client_hello_timeout",
        ),
        (
            "a.test",
            444,
            hello("a.test"),
            ACCESS_DENIED,
            "tls a.test refused port_not_allowed",
        ),
        (
            "blocked.test",
            443,
            hello("blocked.test"),
            ACCESS_DENIED,
            "tls blocked.test blocked allowlist:parse_error",
        ),
        (
            "down.test",
            443,
            hello("down.test"),
            INTERNAL_ERROR,
            "tls down.test failed mediator_502",
        ),
    ] {
        let mut client = world.connect(name, port).await;
        assert_eq!(exchange(&mut client, &first).await, alert, "{expected}");
        let flow = world.flow().await;
        assert_eq!(short(&flow), expected);
    }
    assert_eq!(
        world.mediator.lines(),
        [
            "CONNECT blocked.test:443 HTTP/1.1",
            "CONNECT down.test:443 HTTP/1.1"
        ]
    );
}

#[tokio::test]
async fn ipv6_and_literal_destinations_have_their_tunnels() {
    let mut world = RelayWorld::new().await;
    world.resolve("a.test").await;
    for (to, sni, expected) in [
        (
            "[fd65:6772:6573::1]:443",
            "a.test",
            "CONNECT a.test:443 HTTP/1.1",
        ),
        (
            "[2001:db8::7]:443",
            "2001:db8::7",
            "CONNECT [2001:db8::7]:443 HTTP/1.1",
        ),
        (
            "192.0.2.7:8080",
            "192.0.2.7",
            "CONNECT 192.0.2.7:8080 HTTP/1.1",
        ),
    ] {
        let mut client = world.connect_to(to.parse().unwrap()).await;
        let hello = hello(sni);
        client.write_all(&hello).await.unwrap();
        let mut echoed = vec![0; hello.len()];
        client.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, hello);
        assert_eq!(
            world.mediator.lines().last().map(String::as_str),
            Some(expected)
        );
        drop(client);
        assert!(world.short().await.ends_with("forwarded"));
    }
}

#[tokio::test]
async fn without_a_mediator_there_is_an_alert_and_a_reason() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut world = RelayWorld::with(|config| config.mediator = closed).await;
    let mut client = world.connect("a.test", 443).await;
    assert_eq!(
        exchange(&mut client, &hello("a.test")).await,
        INTERNAL_ERROR
    );
    assert_eq!(
        world.short().await,
        "tls a.test failed mediator_unreachable"
    );
    let mut client = world.connect("a.test", 80).await;
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    assert!(
        exchange(&mut client, request)
            .await
            .starts_with(b"HTTP/1.1 502 ")
    );
    assert_eq!(
        world.short().await,
        "http a.test failed mediator_unreachable"
    );
}
