//! Exchanges that end early: the command closes its connection, the run ends, or the origin does not answer.
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::origin::{Left, Run};
use crate::mediator::support::read_head;
use crate::relay::world::{pattern, read_answer};
use egress_test_support::client_hello::{hello, records};

const SIZE: usize = 2 << 20;

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Returns a request head that announces `SIZE` bytes.
fn post(host: &str, target: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {SIZE}\r\n\r\n")
}

async fn send(stream: &mut TcpStream, head: &str, body: &[u8]) {
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(60_000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Returns one WebSocket message, masked with zeros.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82, 0xff];
    frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn all(left: &Left, expected: &str) {
    left.nothing_is_missing();
    for (row, word) in left.rows.iter().zip(left.words()) {
        assert_eq!(word, expected, "{row:?}");
        assert!(row.transport.is_some(), "{row:?}");
    }
}

#[tokio::test]
async fn complete_uploads_without_an_answer_are_counted() {
    let run = Run::new().await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut stream = run.connect().await;
        send(
            &mut stream,
            &post(&run.authority(), "/hang"),
            &pattern(SIZE, 0),
        )
        .await;
        held.push(stream);
    }
    run.delivered(5 * SIZE as u64).await;
    // The command ends, so its sockets are closed while the relay still waits.
    drop(held);
    let left = run.stop().await;
    assert_eq!((left.rows.len(), left.delivered), (5, 5 * SIZE as u64));
    for row in &left.rows {
        assert_eq!(row.bytes_up, SIZE as u64);
    }
    all(&left, "unfinished stopped");
    assert_eq!(left.outcomes().len(), 5);
    for outcome in left.outcomes() {
        assert_eq!(outcome.bytes(), SIZE as u64);
    }
}

#[tokio::test]
async fn every_way_of_sending_is_counted_without_an_answer() {
    let body = pattern(SIZE, 0);
    for way in [
        "chunked",
        "keep-alive",
        "proxy",
        "tls",
        "connect",
        "websocket",
    ] {
        let run = Run::new().await;
        let at = run.authority();
        let hello = hello("allowed.test");
        let mut stream = match way {
            "proxy" => run.relay.connect_proxy().await,
            "connect" => run.tunnel().await,
            _ => run.connect().await,
        };
        let mut sent = SIZE;
        let mut answered = 0;
        match way {
            "chunked" => {
                let head = format!(
                    "POST /hang HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n"
                );
                send(&mut stream, &head, &chunked(&body)).await;
            }
            "keep-alive" => {
                send(&mut stream, &post(&at, "/"), &body).await;
                read_answer(&mut stream).await;
                send(&mut stream, &post(&at, "/hang"), &body).await;
                sent += SIZE;
                answered = 1;
            }
            "proxy" => send(&mut stream, &post(&at, &format!("http://{at}/hang")), &body).await,
            "tls" | "connect" => {
                let records = records(&body);
                sent = hello.len() + records.len();
                stream.write_all(&hello).await.unwrap();
                stream.write_all(&records).await.unwrap();
            }
            _ => {
                let head = format!("GET /chat HTTP/1.1\r\nHost: {at}\r\n{UPGRADE}");
                stream.write_all(head.as_bytes()).await.unwrap();
                let head = read_head(&mut stream).await;
                assert!(head.starts_with("HTTP/1.1 101"), "{head}");
                assert!(!head.to_lowercase().contains("pipelock"), "{head}");
                stream.write_all(&frame(&body)).await.unwrap();
            }
        }
        run.delivered(sent as u64).await;
        let mut left = run.stop().await;
        left.nothing_is_missing();
        assert_eq!(left.rows.len(), 1 + answered, "{way}: {:?}", left.words());
        for row in left.rows.drain(..answered) {
            assert_eq!(
                (row.verdict.as_str(), row.bytes_up),
                ("forwarded", SIZE as u64)
            );
        }
        assert_eq!(left.words(), ["unfinished stopped"], "{way}");
        drop(stream);
    }
}

#[tokio::test]
async fn a_client_that_leaves_early_is_recorded_with_its_bytes() {
    for is_reset in [false, true] {
        let run = Run::new().await;
        let mut stream = run.connect().await;
        let at = run.authority();
        send(&mut stream, &post(&at, "/hang"), &pattern(SIZE / 2, 0)).await;
        run.delivered(SIZE as u64 / 2).await;
        if is_reset {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
        let mut run = run;
        let row = run.relay.flow().await;
        assert_eq!(
            (row.verdict.as_str(), row.reason.as_str(), row.bytes_up),
            ("unfinished", "client_closed", SIZE as u64 / 2)
        );
        let left = run.stop().await;
        assert!(left.outcomes()[0].bytes() >= left.delivered);
    }
}

#[tokio::test]
async fn a_tunnel_without_an_answer_is_cut_and_not_refused() {
    let mut run = Run::new().await;
    let hello = hello("allowed.test");
    let mut stream = run.connect().await;
    stream.write_all(&hello).await.unwrap();
    let records = records(&pattern(3_000_000, 0));
    stream.write_all(&records).await.unwrap();
    let sent = (records.len() + hello.len()) as u64;
    run.delivered(sent).await;
    stream.shutdown().await.unwrap();
    // The origin reads to the end and closes the connection without an answer.
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    let row = run.relay.flow().await;
    assert_eq!(
        (row.verdict.as_str(), row.reason.as_str(), row.bytes_up),
        ("unfinished", "no_answer", sent)
    );
    let left = run.stop().await;
    assert_eq!(left.outcomes()[0].bytes(), sent);
}

#[tokio::test]
async fn a_body_that_turns_bad_has_failed_with_its_bytes() {
    for (bad, reason) in [
        ("zz\r\n", "malformed_chunk"),
        ("0\r\nX: y\r\n\r\n", "trailer_fields"),
    ] {
        for is_proxy in [false, true] {
            let mut run = Run::new().await;
            let at = run.authority();
            let (mut stream, target) = if is_proxy {
                (run.relay.connect_proxy().await, format!("http://{at}/late"))
            } else {
                (run.connect().await, String::from("/late"))
            };
            let head = format!(
                "POST {target} HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n"
            );
            let mut body = chunked(&pattern(SIZE, 0));
            body.truncate(body.len() - 5);
            send(&mut stream, &head, &body).await;
            run.delivered(SIZE as u64).await;
            stream.write_all(bad.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 400 ") && answer.contains(reason),
                "{answer}"
            );
            let row = run.relay.flow().await;
            assert_eq!(
                (row.verdict.as_str(), row.reason.as_str(), row.bytes_up),
                ("failed", reason, SIZE as u64)
            );
            let left = run.stop().await;
            assert_eq!(left.rows.len(), 0);
            assert!(left.outcomes()[0].bytes() >= left.delivered);
        }
    }
}
