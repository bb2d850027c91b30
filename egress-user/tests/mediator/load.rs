//! Many at a time, and the cost of a durable receipt.
use std::time::Instant;

use egress::mediator::builtin::Capacity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::support::{Setup, World, canned, echo, hello, read_head};

#[tokio::test]
async fn many_tunnels_at_a_time_are_all_on_record() {
    const TUNNELS: usize = 100;
    let world = World::new().await;
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
    let world = World::new().await;
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
    let world = World::with(Setup {
        capacity: Capacity {
            tunnels: 2,
            ..Capacity::default()
        },
        ..Setup::default()
    })
    .await;
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
