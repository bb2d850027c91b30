//! Limits of the mediator that the relay respects: the number of tunnels, answers that it truncates, and plain HTTP
//! that it does not scan.
use std::time::Duration;

use egress_relay::plan::PlainHttp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::{RelayWorld, exchange, read_answer, read_to_end, short};
use egress_test_support::client_hello::hello;

/// Claims: thousand-tunnels*
#[tokio::test]
async fn tunnels_wait_in_order_for_a_place_and_give_it_back() {
    let mut world = RelayWorld::with(|config| config.limits.tunnels = 1).await;
    let mut clients = Vec::new();
    for name in ["a.test", "b.test", "c.test", "d.test"] {
        let mut client = world.connect(name, 443).await;
        client.write_all(&hello(name)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        clients.push(client);
    }
    let asked = |world: &RelayWorld| world.mediator.lines().len();
    assert_eq!(asked(&world), 1, "{:?}", world.mediator.lines());
    let last = clients.pop().unwrap();
    // If a client stops waiting, the relay reports this and frees the client's place.
    drop(clients.remove(1));
    assert_eq!(world.short().await, "tls b.test failed client_closed");
    for name in ["a.test", "c.test"] {
        let mut first = clients.remove(0);
        first
            .read_exact(&mut vec![0; hello(name).len()])
            .await
            .unwrap();
        drop(first);
        assert_eq!(world.short().await, format!("tls {name} forwarded"));
    }
    drop(last);
    assert!(world.short().await.starts_with("tls d.test"));
    let lines = world.mediator.lines().join("\n");
    assert!(!lines.contains("b.test"), "{lines}");
}

/// Claims: cut-answers*
#[tokio::test]
async fn answer_that_ends_where_the_mediator_cuts_is_broken_for_the_client() {
    // The body is "hello world", in chunks.
    for (cut, whole, expected) in [
        (11, false, "http a.test unfinished answer_cut"),
        (12, true, "http a.test forwarded"),
    ] {
        let mut world = RelayWorld::with(|config| config.answer_cut = Some(cut)).await;
        let mut client = world.connect("a.test", 80).await;
        let get = "GET /chunked HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        let answer = exchange(&mut client, get.as_bytes()).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("hello"), "{answer}");
        assert_eq!(answer.ends_with("\r\n0\r\n\r\n"), whole, "{answer}");
        assert_eq!(world.short().await, expected);
    }
    // If an answer states its length, the client can detect that it was truncated.
    let mut world = RelayWorld::with(|config| config.answer_cut = Some(11)).await;
    let mut client = world.connect("a.test", 80).await;
    let get = "GET /bytes/11 HTTP/1.1\r\nHost: a.test\r\n\r\n";
    client.write_all(get.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut client).await.1.len(), 11);
    assert_eq!(world.short().await, "http a.test forwarded");
}

#[tokio::test]
async fn plain_http_gets_a_tunnel_for_each_request() {
    let world = RelayWorld::with(|config| config.plain_http = PlainHttp::Tunnel).await;
    let mut client = world.connect("A.test", 80).await;
    let get =
        "GET /x?y HTTP/1.1\r\nHost: A.test\r\nProxy-Connection: z\r\nAccept-Encoding: br\r\n\r\n";
    client.write_all(get.as_bytes()).await.unwrap();
    // The fake mediator echoes the request. The echo is not a valid answer, but the connection can still be used.
    let (answer, _) = read_answer(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let other = "GET / HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n";
    let answer = exchange(&mut client, other.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 403 "), "another host");
    let mut blocked = world.connect("blocked.test", 8080).await;
    let get = "GET / HTTP/1.1\r\nHost: blocked.test:8080\r\nConnection: close\r\n\r\n";
    blocked.write_all(get.as_bytes()).await.unwrap();
    let page = String::from_utf8(read_to_end(&mut blocked).await).unwrap();
    assert!(page.starts_with("HTTP/1.1 403 "), "{page}");
    assert!(page.contains("allowlist:parse_error"), "{page}");
    assert_eq!(
        world.mediator.lines(),
        [
            "CONNECT a.test:80 HTTP/1.1",
            "CONNECT blocked.test:8080 HTTP/1.1"
        ]
    );
    let (mediator, flows) = world.stop().await;
    let through = String::from_utf8(mediator.tunnelled().await).unwrap();
    assert_eq!(
        through.to_ascii_lowercase(),
        "get /x?y http/1.1\r\nhost: a.test\r\naccept-encoding: br\r\n\r\n"
    );
    let rows: Vec<String> = flows.iter().map(short).collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(
        flows
            .iter()
            .any(|flow| flow.target.as_deref() == Some("CONNECT a.test:80"))
    );
}
