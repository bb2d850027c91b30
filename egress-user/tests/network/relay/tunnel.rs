//! Tests how tunnels end.
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::{RelayWorld, pattern, read_to_end, short};
use egress_test_support::client_hello::{hello, records};

#[tokio::test]
async fn a_server_that_closed_its_half_still_receives_data() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect("source.1000.test", 443).await;
    client.write_all(&hello("source.1000.test")).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, pattern(1000, 0));
    client.write_all(&records(b"still here")).await.unwrap();
    drop(client);
    let flow = world.flow().await;
    assert_eq!(short(&flow), "tls source.1000.test forwarded");
    assert!(world.mediator.tunnelled().await.ends_with(b"still here"));
}

#[tokio::test]
async fn an_idle_tunnel_ends_and_a_busy_one_does_not() {
    let mut world =
        RelayWorld::with(|config| config.limits.idle = Duration::from_millis(200)).await;
    let mut client = world.connect("a.test", 443).await;
    let hello = hello("a.test");
    client.write_all(&hello).await.unwrap();
    client.read_exact(&mut vec![0; hello.len()]).await.unwrap();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        client.write_all(&records(b"x")).await.unwrap();
        client.read_exact(&mut [0; 6]).await.unwrap();
    }
    assert_eq!(read_to_end(&mut client).await, b"");
    assert_eq!(world.short().await, "tls a.test unfinished idle");
}

/// Claims: collect-relay*
#[tokio::test]
async fn the_stop_ends_what_is_open_and_reports_it() {
    let world = RelayWorld::new().await;
    let mut tunnel = world.connect("a.test", 443).await;
    let hello = hello("a.test");
    tunnel.write_all(&hello).await.unwrap();
    tunnel.read_exact(&mut vec![0; hello.len()]).await.unwrap();
    let mut silent = world.connect("a.test", 443).await;
    silent.write_all(&hello[..50]).await.unwrap();
    let started = std::time::Instant::now();
    let (_, flows) = world.stop().await;
    assert!(started.elapsed() < Duration::from_secs(5));
    let mut rows: Vec<String> = flows.iter().map(short).collect();
    rows.sort();
    assert_eq!(
        rows,
        [
            "tls a.test refused client_hello_timeout",
            "tls a.test unfinished stopped"
        ]
    );
    assert_eq!(read_to_end(&mut tunnel).await, b"");
}

#[tokio::test]
async fn connections_that_wait_at_the_stop_are_reported_too() {
    let world = RelayWorld::with(|config| config.limits.connections = 1).await;
    let mut tunnel = world.connect("a.test", 443).await;
    let hello = hello("a.test");
    tunnel.write_all(&hello).await.unwrap();
    tunnel.read_exact(&mut vec![0; hello.len()]).await.unwrap();
    // The relay has no place left for another connection. The kernel accepts these connections, each with a request,
    // but the relay never does.
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let mut client = world.connect("b.test", 443).await;
        client.write_all(&hello).await.unwrap();
        waiting.push(client);
    }
    let (_, flows) = world.stop().await;
    let mut rows: Vec<String> = flows.iter().map(short).collect();
    rows.sort();
    let mut wanted = vec!["raw b.test failed stopped"; 5];
    wanted.push("tls a.test unfinished stopped");
    assert_eq!(rows, wanted);
    let cookies: std::collections::BTreeSet<u64> = flows.iter().map(|flow| flow.cookie).collect();
    assert_eq!(cookies.len(), 6);
}

#[tokio::test]
async fn an_abrupt_end_of_the_agent_ends_the_tunnel() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect("a.test", 443).await;
    let hello = hello("a.test");
    client.write_all(&hello).await.unwrap();
    client.read_exact(&mut vec![0; hello.len()]).await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(world.short().await, "tls a.test unfinished client_closed");
}
