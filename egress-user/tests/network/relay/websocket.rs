//! Tests WebSocket upgrades through the mediator's own path.
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::mediator::MARK;
use super::world::{RelayWorld, read_answer, short};

const UPGRADE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn an_upgrade_becomes_the_mediators_ws_path_and_frames_pass() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect("a.test", 8080).await;
    let head = format!("GET /chat?x=1&y HTTP/1.1\r\nHost: a.test:8080\r\n{UPGRADE}");
    client.write_all(head.as_bytes()).await.unwrap();
    let (answer, _) = read_answer(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("sec-websocket-accept: x"), "{answer}");
    let mut hello = [0; 5];
    client.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
    let frame = b"\x81\x83\x00\x00\x00\x00abc";
    client.write_all(frame).await.unwrap();
    let mut echo = [0; 9];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, frame);
    // The command closes its connection without a Close frame, but the mediator still receives one.
    drop(client);
    let flow = world.flow().await;
    assert_eq!(short(&flow), "websocket a.test forwarded");
    assert_eq!(flow.transport.as_deref(), Some("websocket"));
    assert_eq!(flow.status, Some(101));
    let line = "GET /ws?url=ws%3A%2F%2Fa.test%3A8080%2Fchat%3Fx%3D1%26y HTTP/1.1";
    assert_eq!(world.mediator.lines(), [line]);
    let heads = world.mediator.heads()[0].to_ascii_lowercase();
    assert!(
        heads.contains("sec-websocket-key: dghlihnhbxbszsbub25jzq=="),
        "{heads}"
    );
    assert!(
        heads.contains(&format!("host: {}\r\n", world.mediator.address)),
        "{heads}"
    );
    let through = [&frame[..], b"\x88\x82\x00\x00\x00\x00\x03\xe9"].concat();
    let (mediator, _) = world.stop().await;
    assert_eq!(mediator.tunnelled().await, through);
}

#[tokio::test]
async fn the_stop_closes_a_websocket_with_a_frame() {
    let world = RelayWorld::new().await;
    let mut client = world.connect_proxy().await;
    let head = format!("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n{UPGRADE}");
    client.write_all(head.as_bytes()).await.unwrap();
    let (answer, _) = read_answer(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let (mediator, flows) = world.stop().await;
    assert_eq!(
        flows.iter().map(short).collect::<Vec<_>>(),
        ["websocket a.test unfinished stopped"]
    );
    assert_eq!(
        mediator.tunnelled().await,
        b"\x88\x82\x00\x00\x00\x00\x03\xe9"
    );
}

#[tokio::test]
async fn a_denied_websocket_is_a_plain_answer_and_the_connection_stays_open() {
    let mut world = RelayWorld::with(|config| config.mark = Some(MARK.to_owned())).await;
    let mut client = world.connect("blocked.test", 80).await;
    let head = format!("GET / HTTP/1.1\r\nHost: blocked.test\r\n{UPGRADE}");
    for _ in 0..2 {
        client.write_all(head.as_bytes()).await.unwrap();
        let (answer, body) = read_answer(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert_eq!(body, b"blocked\n");
        assert_eq!(
            world.short().await,
            "websocket blocked.test blocked allowlist:parse_error"
        );
    }
}

#[tokio::test]
async fn the_explicit_ws_path_is_rewritten() {
    let world = RelayWorld::new().await;
    let mut client = world.connect_proxy().await;
    let head = format!("GET /ws?url=wss://A.test/x&agent=z HTTP/1.1\r\nHost: p\r\n{UPGRADE}");
    client.write_all(head.as_bytes()).await.unwrap();
    assert!(
        read_answer(&mut client)
            .await
            .0
            .starts_with("HTTP/1.1 101 ")
    );
    assert_eq!(
        world.mediator.lines(),
        ["GET /ws?url=wss%3A%2F%2Fa.test%2Fx HTTP/1.1"]
    );
    drop(client);
    drop(world);
}
