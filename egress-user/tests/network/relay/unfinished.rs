//! Exchanges that one side ends early.
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::world::{RelayWorld, exchange, pattern, read_answer, short};
use egress_test_support::client_hello::hello;

/// Starts a mediator that reads `takes` bytes, sends `answer`, and closes the connection. With `is_reset`, the mediator
/// resets the connection instead.
async fn curt(takes: usize, answer: &'static [u8], is_reset: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut taken = vec![0; takes];
                if stream.read_exact(&mut taken).await.is_ok() {
                    stream.write_all(answer).await.unwrap();
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                if is_reset {
                    stream.set_zero_linger().unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_mediator_that_closes_without_an_answer() {
    const BODY: usize = 300_000;
    let mediator = curt(100_000, b"", false).await;
    let mut world = RelayWorld::with(|config| config.mediator = mediator).await;
    let mut client = world.connect("a.test", 80).await;
    let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {BODY}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&pattern(BODY, 0)).await.unwrap();
    let (head, _) = read_answer(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    let flow = world.flow().await;
    assert_eq!(short(&flow), "http a.test unfinished mediator_closed");
    assert!(flow.bytes_up >= 100_000 - 200, "{}", flow.bytes_up);
    // The mediator may have received the head of a request without a body.
    let mediator = curt(10, b"", false).await;
    let mut world = RelayWorld::with(|config| config.mediator = mediator).await;
    let mut client = world.connect("a.test", 80).await;
    let get = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    exchange(&mut client, get).await;
    let flow = world.flow().await;
    assert_eq!(short(&flow), "http a.test unfinished mediator_closed");
    assert_eq!((flow.bytes_up, flow.bytes_down), (0, 0));
}

/// Claims: cut-answers
#[tokio::test]
async fn an_answer_that_ends_too_early_has_its_bytes() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this";
    let mediator = curt(40, answer, false).await;
    let mut world = RelayWorld::with(|config| config.mediator = mediator).await;
    let mut client = world.connect("a.test", 80).await;
    let get = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let answer = exchange(&mut client, get).await;
    assert!(answer.ends_with(b"only this"));
    let flow = world.flow().await;
    assert_eq!(short(&flow), "http a.test unfinished mediator_closed");
    assert_eq!((flow.status, flow.bytes_down), (Some(200), 9));
}

#[tokio::test]
async fn a_client_that_stops_reading_and_one_that_the_stop_cuts() {
    for is_stop in [false, true] {
        let mut world = RelayWorld::new().await;
        let mut client = world.connect("a.test", 80).await;
        let get = b"GET /bytes/100000000 HTTP/1.1\r\nHost: a.test\r\n\r\n";
        client.write_all(get).await.unwrap();
        client.read_exact(&mut vec![0; 500_000]).await.unwrap();
        let flow = if is_stop {
            let (_, mut flows) = world.stop().await;
            flows.pop().unwrap()
        } else {
            drop(client);
            world.flow().await
        };
        let reason = if is_stop { "stopped" } else { "client_closed" };
        assert_eq!(short(&flow), format!("http a.test unfinished {reason}"));
        assert!(flow.bytes_down >= 499_000, "{}", flow.bytes_down);
    }
}

#[tokio::test]
async fn a_tunnel_that_the_mediator_resets_is_cut() {
    let hello = hello("a.test");
    let agreed = b"HTTP/1.1 200 OK\r\n\r\nwords of the origin";
    let mediator = curt(40, agreed, true).await;
    let mut world = RelayWorld::with(|config| config.mediator = mediator).await;
    let mut client = world.connect("a.test", 443).await;
    client.write_all(&hello).await.unwrap();
    client.read_exact(&mut [0; 19]).await.unwrap();
    let flow = world.flow().await;
    assert_eq!(short(&flow), "tls a.test unfinished mediator_closed");
    assert_eq!((flow.bytes_up, flow.bytes_down), (hello.len() as u64, 19));
}
