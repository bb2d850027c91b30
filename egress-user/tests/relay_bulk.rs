//! Large transfers through the relay are exact and need a bounded amount of memory. This file has only one test, so
//! that no other test uses memory of this process.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "test support panics where a test fails"
)]
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

#[path = "network/relay/mediator.rs"]
#[expect(dead_code, reason = "shared with the other tests")]
mod mediator;
#[path = "network/relay/world.rs"]
#[expect(dead_code, reason = "shared with the other tests")]
mod world;

use egress_test_support::client_hello::hello;
use world::{PATIENCE, RelayWorld, pattern};

const SIZE: usize = 256 << 20;

/// Limit on the growth of the process while it transfers a quarter of a gigabyte. The process grows because the client,
/// the mediator, the relay, hyper, and the allocator have buffers.
const GROWTH_KIB: usize = 24 * 1024;

#[tokio::test]
async fn large_transfers_are_exact_and_memory_stays_bounded() {
    let mut world = RelayWorld::new().await;
    let before = resident_kib();

    let mut client = download_tunnel(&world).await;
    read_pattern(&mut client).await;
    drop(client);
    assert_eq!(world.flow().await.bytes_down, SIZE as u64);

    let mut client = download_http(&world).await;
    read_pattern(&mut client).await;
    assert_eq!(world.flow().await.bytes_down, SIZE as u64);

    // The same connection then uploads.
    let head = format!("PUT /upload HTTP/1.1\r\nHost: a.test\r\nContent-Length: {SIZE}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    write_pattern(&mut client).await;
    let (_, body) = world::read_answer(&mut client).await;
    assert!(body.ends_with(format!("\ntaken {SIZE}").as_bytes()));
    assert_eq!(world.flow().await.bytes_up, SIZE as u64);

    let mut client = world.connect("sink.test", 443).await;
    let hello = hello("sink.test");
    client.write_all(&hello).await.unwrap();
    // The sink has received the `ClientHello` in its own segment, so the sink can distinguish it from the following
    // bytes.
    let mut answer = mediator::SERVER_HELLO;
    client.read_exact(&mut answer).await.unwrap();
    write_pattern(&mut client).await;
    client.shutdown().await.unwrap();
    assert_eq!(
        world::read_to_end(&mut client).await,
        format!("taken {SIZE}").as_bytes()
    );
    assert_eq!(world.flow().await.bytes_up, (SIZE + hello.len()) as u64);

    // Clients that do not read make their senders wait.
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(download_tunnel(&world).await);
        slow.push(download_http(&world).await);
    }
    sleep(Duration::from_secs(1)).await;
    let waiting = resident_kib();
    sleep(Duration::from_secs(1)).await;
    assert!(
        resident_kib() < waiting + 1024,
        "memory grows while the clients do not read"
    );
    let bound = before + GROWTH_KIB + 40 * 1024;
    assert!(
        waiting < bound,
        "{before} KiB before, {waiting} KiB with 40 slow readers"
    );
    drop(slow);
}

async fn download_tunnel(world: &RelayWorld) -> TcpStream {
    let name = format!("source.{SIZE}.test");
    let mut client = world.connect(&name, 443).await;
    client.write_all(&hello(&name)).await.unwrap();
    client
}

async fn download_http(world: &RelayWorld) -> TcpStream {
    let mut client = world.connect("a.test", 80).await;
    let head = format!("GET /bytes/{SIZE} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    client
}

async fn read_pattern(client: &mut TcpStream) {
    let mut room = vec![0; 1 << 20];
    let mut at = 0;
    while at < SIZE {
        let read = timeout(PATIENCE, client.read(&mut room))
            .await
            .expect("stuck")
            .unwrap();
        assert_ne!(read, 0, "ended at {at}");
        assert_eq!(room[..read], pattern(read, at), "at {at}");
        at += read;
    }
}

async fn write_pattern(client: &mut TcpStream) {
    for start in (0..SIZE).step_by(1 << 20) {
        let piece = pattern(1 << 20, start);
        timeout(PATIENCE, client.write_all(&piece))
            .await
            .expect("stuck")
            .unwrap();
    }
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
