//! Tests the port of the explicit proxy.
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tls::{ACCESS_DENIED, UNRECOGNIZED_NAME};
use super::world::{RelayWorld, exchange, read_answer, read_to_end, short};
use egress_test_support::client_hello::hello;

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

async fn connect(world: &RelayWorld, authority: &str) -> tokio::net::TcpStream {
    let mut client = world.connect_proxy().await;
    let head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; ESTABLISHED.len()];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&answer),
        String::from_utf8_lossy(ESTABLISHED)
    );
    client
}

/// Claims: proxy-connect
#[tokio::test]
async fn a_tunnel_is_granted_and_asked_for_when_the_hello_fits() {
    let mut world = RelayWorld::new().await;
    let mut client = connect(&world, "A.test:443").await;
    assert_eq!(
        world.mediator.lines(),
        [""; 0],
        "the mediator received the request before the hello"
    );
    let hello = hello("a.test");
    client.write_all(&hello).await.unwrap();
    let mut echoed = vec![0; hello.len()];
    client.read_exact(&mut echoed).await.unwrap();
    assert_eq!(echoed, hello);
    drop(client);
    let flow = world.flow().await;
    assert_eq!(short(&flow), "connect a.test forwarded");
    assert_eq!((flow.cookie, flow.orig_dst), (100, None));
    assert_eq!(world.mediator.lines(), ["CONNECT a.test:443 HTTP/1.1"]);
}

#[tokio::test]
async fn data_in_a_granted_tunnel_is_judged() {
    let mut world = RelayWorld::new().await;
    for (authority, first, answer, expected) in [
        (
            "a.test:443",
            hello("b.test"),
            &UNRECOGNIZED_NAME[..],
            "connect a.test refused name_mismatch",
        ),
        (
            "blocked.test:443",
            hello("blocked.test"),
            &ACCESS_DENIED,
            "connect blocked.test blocked allowlist:parse_error",
        ),
        (
            "a.test:80",
            b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
            b"HTTP/1.1 403 ",
            "connect a.test refused not_tls",
        ),
        (
            "a.test:443",
            b"SSH-2.0-x\r\n".to_vec(),
            b"",
            "connect a.test refused not_tls",
        ),
        (
            "a.test:443",
            b"".to_vec(),
            b"",
            "connect a.test refused client_silent",
        ),
    ] {
        let mut client = connect(&world, authority).await;
        let read = exchange(&mut client, &first).await;
        assert!(read.starts_with(answer), "{expected}: {read:?}");
        assert_eq!(world.short().await, expected);
    }
    assert_eq!(
        world.mediator.lines(),
        ["CONNECT blocked.test:443 HTTP/1.1"]
    );
}

#[tokio::test]
async fn the_hello_in_one_segment_with_the_connect_is_not_lost() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect_proxy().await;
    let hello = hello("a.test");
    let both = [
        b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
        &hello[..],
    ]
    .concat();
    client.write_all(&both).await.unwrap();
    let mut read = vec![0; ESTABLISHED.len() + hello.len()];
    client.read_exact(&mut read).await.unwrap();
    assert_eq!(&read[ESTABLISHED.len()..], hello);
    drop(client);
    assert_eq!(world.short().await, "connect a.test forwarded");
}

#[tokio::test]
async fn an_old_client_needs_no_host_field_for_a_tunnel() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect_proxy().await;
    client
        .write_all(b"CONNECT a.test:443 HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let (answer, _) = read_answer(&mut client).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    let hello = hello("a.test");
    client.write_all(&hello).await.unwrap();
    client.read_exact(&mut vec![0; hello.len()]).await.unwrap();
    drop(client);
    assert_eq!(world.short().await, "connect a.test forwarded");
}

#[tokio::test]
async fn absolute_form_and_the_two_paths_are_served() {
    let mut world = RelayWorld::new().await;
    let ip = world.resolve("a.test").await;
    let cases = [
        (
            "GET http://A.test/x HTTP/1.1\r\nHost: a.test".to_owned(),
            "GET http://a.test/x HTTP/1.1",
        ),
        (
            "GET http://a.test:80/x HTTP/1.1\r\nHost: a.test".to_owned(),
            "GET http://a.test/x HTTP/1.1",
        ),
        (
            "GET http://a.test:8080 HTTP/1.1\r\nHost: a.test:8080".to_owned(),
            "GET http://a.test:8080/ HTTP/1.1",
        ),
        (
            format!("GET http://{ip}/s HTTP/1.1\r\nHost: {ip}"),
            "GET http://a.test/s HTTP/1.1",
        ),
        (
            "GET /fetch?agent=x&url=https://a.test/y HTTP/1.1\r\nHost: p".to_owned(),
            "GET /fetch?url=https%3A%2F%2Fa.test%2Fy HTTP/1.1",
        ),
        (
            "GET /fetch?url=http://a.test%23y HTTP/1.1\r\nHost: p".to_owned(),
            "GET /fetch?url=http%3A%2F%2Fa.test%2F HTTP/1.1",
        ),
        (
            format!("GET /fetch?url=http://{ip}/y HTTP/1.1\r\nHost: p"),
            "GET /fetch?url=http%3A%2F%2Fa.test%2Fy HTTP/1.1",
        ),
    ];
    let mut client = world.connect_proxy().await;
    for (head, line) in cases {
        client
            .write_all(format!("{head}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let (answer, _) = read_answer(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{head}: {answer}");
        assert_eq!(
            world.mediator.lines().last().map(String::as_str),
            Some(line)
        );
        let flow = world.flow().await;
        assert_eq!(short(&flow), "http a.test forwarded");
        assert_eq!(flow.cookie, 100);
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn everything_else_is_refused() {
    let mut world = RelayWorld::new().await;
    world.resolve("a.test").await;
    let cases = [
        (
            "CONNECT a.test HTTP/1.1\r\nHost: a.test",
            "400",
            "malformed_target",
        ),
        (
            "CONNECT a.test:0 HTTP/1.1\r\nHost: a.test",
            "400",
            "malformed_target",
        ),
        (
            "CONNECT u@a.test:443 HTTP/1.1\r\nHost: a.test",
            "400",
            "malformed_target",
        ),
        (
            "CONNECT a.test..:443 HTTP/1.1\r\nHost: a.test",
            "400",
            "malformed_target",
        ),
        (
            "CONNECT 0x7f.1:443 HTTP/1.1\r\nHost: a.test",
            "400",
            "malformed_target",
        ),
        (
            "CONNECT /health HTTP/1.1\r\nHost: a.test:443",
            "400",
            "malformed_target",
        ),
        (
            "CONNECT http://a.test:443/ HTTP/1.1\r\nHost: a.test:443",
            "400",
            "malformed_target",
        ),
        (
            "CONNECT a.test:22 HTTP/1.1\r\nHost: a.test:22",
            "403",
            "port_not_allowed",
        ),
        (
            "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443",
            "403",
            "loopback",
        ),
        (
            "CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: a",
            "403",
            "loopback",
        ),
        (
            "CONNECT [::ffff:127.0.0.1]:443 HTTP/1.1\r\nHost: a",
            "403",
            "loopback",
        ),
        (
            "CONNECT 198.18.9.9:443 HTTP/1.1\r\nHost: a",
            "403",
            "unknown_synthetic",
        ),
        (
            "CONNECT [::ffff:198.18.9.9]:443 HTTP/1.1\r\nHost: a",
            "403",
            "unknown_synthetic",
        ),
        (
            "CONNECT [fd65:6772:6573::99]:443 HTTP/1.1\r\nHost: a",
            "403",
            "unknown_synthetic",
        ),
        (
            "GET http://198.18.9.9/ HTTP/1.1\r\nHost: 198.18.9.9",
            "403",
            "unknown_synthetic",
        ),
        (
            "GET http:///health HTTP/1.1\r\nHost: a.test",
            "400",
            "malformed_target",
        ),
        (
            "GET http:/health HTTP/1.1\r\nHost: a.test",
            "400",
            "malformed_target",
        ),
        (
            "GET http://u@a.test/ HTTP/1.1\r\nHost: a.test",
            "400",
            "malformed_target",
        ),
        (
            "GET http://a.test/ HTTP/1.1\r\nHost: b.test",
            "403",
            "name_mismatch",
        ),
        (
            "GET http://a.test/ HTTP/1.1\r\nHost: a.test:8080",
            "403",
            "name_mismatch",
        ),
        (
            "GET http://a.test:22/ HTTP/1.1\r\nHost: a.test:22",
            "403",
            "port_not_allowed",
        ),
        (
            "GET https://a.test/ HTTP/1.1\r\nHost: a.test",
            "403",
            "scheme",
        ),
        ("GET ws://a.test/ HTTP/1.1\r\nHost: a.test", "403", "scheme"),
        (
            "GET ftp://a.test/ HTTP/1.1\r\nHost: a.test",
            "403",
            "scheme",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a.test",
            "403",
            "not_a_proxy_request",
        ),
        (
            "GET /health HTTP/1.1\r\nHost: a.test",
            "403",
            "not_a_proxy_request",
        ),
        (
            "GET /metrics?x=1 HTTP/1.1\r\nHost: a.test",
            "403",
            "not_a_proxy_request",
        ),
        (
            "GET /%66etch?url=http://a.test HTTP/1.1\r\nHost: p",
            "403",
            "not_a_proxy_request",
        ),
        (
            "GET //fetch?url=http://a.test HTTP/1.1\r\nHost: p",
            "403",
            "not_a_proxy_request",
        ),
        (
            "GET /./fetch?url=http://a.test HTTP/1.1\r\nHost: p",
            "403",
            "not_a_proxy_request",
        ),
        (
            "GET /fetch/?url=http://a.test HTTP/1.1\r\nHost: p",
            "403",
            "not_a_proxy_request",
        ),
        (
            "GET /fetch HTTP/1.1\r\nHost: p",
            "403",
            "not_a_proxy_request",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: a.test",
            "403",
            "not_a_proxy_request",
        ),
        (
            "POST /fetch?url=http://a.test HTTP/1.1\r\nHost: p",
            "405",
            "method",
        ),
        (
            "GET /fetch?url=file:///etc/passwd HTTP/1.1\r\nHost: p",
            "400",
            "malformed_url",
        ),
        (
            "GET /fetch?url=http:///health HTTP/1.1\r\nHost: p",
            "400",
            "malformed_url",
        ),
        (
            "GET /fetch?url=http://a.test&url=http://b.test HTTP/1.1\r\nHost: p",
            "400",
            "malformed_query",
        ),
        (
            "GET /fetch?url=http://198.18.9.9/ HTTP/1.1\r\nHost: p",
            "403",
            "unknown_synthetic",
        ),
        (
            "GET /fetch?url=http://localhost:80/ HTTP/1.1\r\nHost: p",
            "403",
            "loopback",
        ),
        (
            "GET /fetch?url=http://a.test:22/ HTTP/1.1\r\nHost: p",
            "403",
            "port_not_allowed",
        ),
        (
            "GET /ws?url=ws://a.test/ HTTP/1.1\r\nHost: p",
            "400",
            "malformed_upgrade",
        ),
    ];
    for (head, status, reason) in cases {
        let mut client = world.connect_proxy().await;
        client
            .write_all(format!("{head}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let (answer, body) = read_answer(&mut client).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{head}: {answer}");
        assert!(
            String::from_utf8_lossy(&body).contains(reason),
            "{head}: {body:?}"
        );
        drop(client);
        let flow = world.flow().await;
        assert_eq!(
            (flow.verdict.as_str(), flow.reason.as_str()),
            ("refused", reason),
            "{head}"
        );
    }
    assert_eq!(world.mediator.lines(), [""; 0]);
}

#[tokio::test]
async fn requests_that_are_not_http_are_denied() {
    let mut world = RelayWorld::new().await;
    for (first, answer, expected) in [
        (
            hello("a.test"),
            &ACCESS_DENIED[..],
            "tls - refused not_a_proxy_request",
        ),
        (
            b"\x05\x01\x00".to_vec(),
            b"",
            "socks - refused not_a_proxy_request",
        ),
    ] {
        let mut client = world.connect_proxy().await;
        assert_eq!(exchange(&mut client, &first).await, answer);
        assert_eq!(world.short().await, expected);
    }
    let mut client = world.connect_proxy().await;
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
    assert_eq!(world.short().await, "empty - failed client_closed");
}
