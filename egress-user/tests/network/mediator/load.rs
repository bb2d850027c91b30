//! Tests many simultaneous requests, and measures the cost of a durable receipt.
use std::time::{Duration, Instant};

use egress_mediator::Capacity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::support::{MediatorWorld, Setup, canned, echo, read_head};
use egress_test_support::client_hello::hello;

#[tokio::test]
async fn many_tunnels_at_a_time_are_all_on_record() {
    const TUNNELS: usize = 100;
    let world = MediatorWorld::new();
    let port = echo().await.port();
    let mut clients = JoinSet::new();
    let started = Instant::now();
    for _ in 0..TUNNELS {
        let address = world.address;
        clients.spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let mut request =
                format!("CONNECT allowed.test:{port} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
            let hello = hello("allowed.test");
            request.extend_from_slice(&hello);
            stream.write_all(&request).await.unwrap();
            assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
            let mut back = vec![0; hello.len()];
            stream.read_exact(&mut back).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut back).await.unwrap(), 0);
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    println!("{TUNNELS} tunnels at a time: {:?}", started.elapsed());
    let evidence = world.stop().await;
    let intents = evidence
        .actions()
        .iter()
        .filter(|action| action.phase == "intent")
        .count();
    assert_eq!(intents, TUNNELS);
    assert_eq!(evidence.actions().len(), 2 * TUNNELS);
}

#[tokio::test]
async fn sequential_requests_are_not_slow() {
    const REQUESTS: u32 = 50;
    let world = MediatorWorld::new();
    let (at, _heads) = canned("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let url = format!("http://allowed.test:{}/", at.port());
    let started = Instant::now();
    for _ in 0..REQUESTS {
        assert_eq!(world.get(&url).await.status, 200);
    }
    let each = started.elapsed() / REQUESTS;
    println!("{REQUESTS} requests one after another: {each:?} each");
    assert!(each.as_millis() < 50, "{each:?}");
    let started = Instant::now();
    for _ in 0..REQUESTS {
        assert_eq!(world.get("http://denied.test/").await.status, 403);
    }
    println!(
        "{REQUESTS} refusals: {:?} each",
        started.elapsed() / REQUESTS
    );
    world.stop().await;
}

#[tokio::test]
async fn one_tunnel_too_many_is_answered_503() {
    let world = MediatorWorld::with(Setup {
        capacity: Capacity {
            tunnels: 2,
            ..Capacity::default()
        },
        ..Setup::default()
    });
    let port = echo().await.port();
    let first = world.tunnel(&format!("allowed.test:{port}")).await;
    let second = world.tunnel(&format!("allowed.test:{port}")).await;
    let request =
        format!("CONNECT allowed.test:{port} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = world.ask(&request).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (503, "too many active tunnels\n")
    );
    drop(first);
    world.outcome("client_silent").await;
    let third = world.tunnel(&format!("allowed.test:{port}")).await;
    drop((second, third));
    world.stop().await;
}

#[tokio::test]
async fn one_connection_too_many_waits_its_turn() {
    let world = MediatorWorld::with(Setup {
        capacity: Capacity {
            connections: 1,
            ..Capacity::default()
        },
        ..Setup::default()
    });
    let mut first = world.dial().await;
    let health = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    first.write_all(health).await.unwrap();
    assert!(read_head(&mut first).await.starts_with("HTTP/1.1 200"));
    let mut second = world.dial().await;
    second.write_all(health).await.unwrap();
    let early = timeout(Duration::from_millis(100), second.read_u8()).await;
    assert!(early.is_err());
    drop(first);
    assert!(read_head(&mut second).await.starts_with("HTTP/1.1 200"));
    world.stop().await;
}

/// Sends `first` and then `total` bytes, and reads the `total` bytes back.
async fn bounce(stream: tokio::net::TcpStream, first: Vec<u8>, total: usize) {
    let (mut read, mut write) = stream.into_split();
    let expected = first.len() + total;
    let writer = tokio::spawn(async move {
        write.write_all(&first).await.unwrap();
        let block = vec![7; 1 << 16];
        for _ in 0..total / block.len() {
            write.write_all(&block).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let mut buffer = vec![0; 1 << 18];
    let mut got = 0;
    loop {
        let count = read.read(&mut buffer).await.unwrap();
        if count == 0 {
            break;
        }
        got += count;
    }
    writer.await.unwrap();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn a_busy_tunnel_keeps_up() {
    const TOTAL: usize = 64 << 20;
    let world = MediatorWorld::new();
    let at = echo().await;
    let started = Instant::now();
    let direct = tokio::net::TcpStream::connect(at).await.unwrap();
    bounce(direct, hello("allowed.test"), TOTAL).await;
    let direct = started.elapsed();
    let tunnel = world.tunnel(&format!("allowed.test:{}", at.port())).await;
    let started = Instant::now();
    bounce(tunnel, hello("allowed.test"), TOTAL).await;
    let through = started.elapsed();
    println!("64 MiB there and back: {direct:?} directly, {through:?} through");
    // In this test, the client, the mediator, and the origin share one thread, so twice as many copies take twice the
    // time.
    assert!(through < direct * 8, "{through:?} against {direct:?}");
    world.stop().await;
}
