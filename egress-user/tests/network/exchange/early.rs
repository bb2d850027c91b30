//! Answers that arrive before the whole request was sent.
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::origin::{Run, SOME};
use crate::relay::world::{PATIENCE, pattern, read_answer, read_to_end};

/// More bytes than all buffers on the way can hold.
const HUGE: usize = 200 << 20;

/// Writes until the other side stops reading, at most `HUGE` bytes. Returns the number of bytes that were written.
async fn pour(stream: &mut (impl AsyncWriteExt + Unpin), is_chunked: bool) -> usize {
    let piece = pattern(1 << 16, 0);
    let mut sent = 0;
    while sent < HUGE {
        let written = async {
            if is_chunked {
                stream.write_all(b"10000\r\n").await?;
            }
            stream.write_all(&piece).await?;
            if is_chunked {
                stream.write_all(b"\r\n").await?;
            }
            std::io::Result::Ok(())
        };
        match timeout(PATIENCE, written).await {
            Ok(Ok(())) => sent += piece.len(),
            _ => break,
        }
    }
    sent
}

#[tokio::test]
async fn bytes_after_an_early_answer_are_stopped_and_counted() {
    for (is_chunked, is_proxy, is_second) in [
        (false, false, false),
        (true, false, false),
        (false, true, false),
        (false, false, true),
    ] {
        let mut run = Run::new().await;
        let at = run.authority();
        let (mut stream, target) = if is_proxy {
            (
                run.relay.connect_proxy().await,
                format!("http://{at}/early"),
            )
        } else {
            (run.connect().await, String::from("/early"))
        };
        if is_second {
            let get = format!("GET / HTTP/1.1\r\nHost: {at}\r\n\r\n");
            stream.write_all(get.as_bytes()).await.unwrap();
            read_answer(&mut stream).await;
            assert_eq!(run.relay.flow().await.verdict, "forwarded");
        }
        let framing = if is_chunked {
            String::from("Transfer-Encoding: chunked")
        } else {
            format!("Content-Length: {HUGE}")
        };
        let head = format!("POST {target} HTTP/1.1\r\nHost: {at}\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let pouring = tokio::spawn(async move { pour(&mut write, is_chunked).await });
        let mut answer = Vec::new();
        // The connection may end with a reset, because the client is still sending.
        drop(
            timeout(PATIENCE, read.read_to_end(&mut answer))
                .await
                .unwrap(),
        );
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("early"),
            "{answer}"
        );
        pouring.await.unwrap();
        let row = run.relay.flow().await;
        assert_eq!(
            (row.verdict.as_str(), row.reason.as_str(), row.status),
            ("unfinished", "early_answer", Some(200)),
            "{is_chunked} {is_proxy}"
        );
        sleep(Duration::from_millis(100)).await;
        let received = run.received();
        assert!(
            received >= SOME as u64 && received < HUGE as u64 / 2,
            "{received}"
        );
        assert!(row.bytes_up >= received, "{} of {received}", row.bytes_up);
        let left = run.stop().await;
        assert_eq!(left.delivered, received, "more came when both had ended");
        let outcome = left.outcomes().pop().unwrap();
        assert!(
            outcome.bytes() >= received,
            "{} of {received}",
            outcome.pattern
        );
        assert!(
            outcome.pattern.ends_with("reason=early_answer"),
            "{}",
            outcome.pattern
        );
    }
}

#[tokio::test]
async fn early_answers_reach_the_client_whole() {
    for (path, start, end, is_proxy) in [
        ("/413", "HTTP/1.1 413", "xxxx", false),
        ("/413", "HTTP/1.1 413", "xxxx", true),
        ("/401", "HTTP/1.1 401", "no", false),
        ("/303", "HTTP/1.1 303", "no", false),
    ] {
        for size in [100, 300_000, 8_000_000] {
            let run = Run::new().await;
            let at = run.authority();
            let (mut stream, target) = if is_proxy {
                (
                    run.relay.connect_proxy().await,
                    format!("http://{at}{path}"),
                )
            } else {
                (run.connect().await, path.to_owned())
            };
            let head = format!(
                "POST {target} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            // A simple client sends everything before it reads.
            stream.write_all(&pattern(size, 0)).await.unwrap();
            let answer = read_to_end(&mut stream).await;
            let text = String::from_utf8_lossy(&answer);
            assert!(
                text.starts_with(start) && text.ends_with(end),
                "{path} {size}: {}",
                answer.len()
            );
            if path == "/413" {
                assert!(answer.len() > 20_000, "{path} {size}: {}", answer.len());
            }
            let left = run.stop().await;
            left.nothing_is_missing();
            let word = left.words().pop().unwrap();
            assert!(
                word == "forwarded" || word == "unfinished early_answer",
                "{word}"
            );
        }
    }
}

#[tokio::test]
async fn a_refusal_of_a_large_upload_reaches_the_client_whole() {
    let run = Run::new().await;
    for is_proxy in [false, true] {
        let (mut stream, target): (TcpStream, _) = if is_proxy {
            (run.relay.connect_proxy().await, "http://denied.test/")
        } else {
            (run.relay.connect("denied.test", 80).await, "/")
        };
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: denied.test\r\nConnection: close\r\nContent-Length: 8000000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&pattern(8_000_000, 0)).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.starts_with("HTTP/1.1 403") && text.contains("not in allowlist"),
            "{text}"
        );
        assert!(
            text.contains("x-pipelock-block-reason: not_in_allowlist"),
            "{text}"
        );
        assert!(!text.contains("x-egress-mediator"), "{text}");
    }
    let left = run.stop().await;
    assert_eq!(left.words(), ["blocked allowlist:not_in_allowlist"; 2]);
    assert_eq!(left.evidence.story().len(), 2);
}
