//! Tests how the relay distinguishes the mediator's answers from an origin's answers.
use tokio::io::AsyncWriteExt;

use super::origin::Run;
use crate::mediator::support::{MARK, read_head};
use crate::relay::world::{exchange, pattern, read_answer};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Claims: answer-mark*
#[tokio::test]
async fn an_origin_cannot_imitate_the_mediator() {
    const SIZE: usize = 3_000_000;
    for path in ["/403", "/503", "/502"] {
        let mut run = Run::new().await;
        let at = run.authority();
        let mut stream = run.connect().await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: {at}\r\nContent-Length: {SIZE}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&pattern(SIZE, 0)).await.unwrap();
        let (head, body) = read_answer(&mut stream).await;
        assert_eq!(body, b"blocked\n");
        // The relay removes the header fields with which the origin imitates the mediator, even if their mark is
        // correct.
        let lower = head.to_ascii_lowercase();
        assert!(
            !lower.contains("pipelock") && !lower.contains(MARK),
            "{head}"
        );
        let row = run.relay.flow().await;
        let status = path.trim_start_matches('/').parse().unwrap();
        assert_eq!(
            (row.verdict.as_str(), row.reason.as_str(), row.status),
            ("forwarded", "", Some(status))
        );
        assert_eq!((row.bytes_up, row.bytes_down), (SIZE as u64, 8));
        // The relay does the same to an answer to a WebSocket handshake.
        let head = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n{UPGRADE}");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (head, _) = read_answer(&mut stream).await;
        assert!(!head.to_ascii_lowercase().contains("pipelock"), "{head}");
        let row = run.relay.flow().await;
        assert_eq!(
            (row.protocol.as_str(), row.verdict.as_str()),
            ("websocket", "forwarded")
        );
        let left = run.stop().await;
        assert_eq!(left.outcomes()[0].bytes(), SIZE as u64 + 8);
    }
}

#[tokio::test]
async fn the_mediators_own_answers_are_no_origins() {
    let run = Run::with("websocket_proxy: {enabled: true, max_concurrent_connections: 1}\n").await;
    let at = run.authority();
    let get = |url: &str| {
        format!(
            "GET {url} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            host(url)
        )
    };
    // Nothing listens on port 1, which the relay of this test allows.
    for url in [
        format!("http://{at}/ok"),
        String::from("http://closed.test:8080/"),
        String::from("http://denied.test/"),
        format!("/fetch?url=http://{at}/"),
        String::from("/fetch?url=http://denied.test/"),
        // This host name is malformed, so the relay does not forward the request.
        String::from("http://-x.denied.test/"),
    ] {
        let mut stream = run.relay.connect_proxy().await;
        exchange(&mut stream, get(&url).as_bytes()).await;
    }
    let upgrade = format!("GET /chat HTTP/1.1\r\nHost: {at}\r\n{UPGRADE}");
    let mut first = run.connect().await;
    first.write_all(upgrade.as_bytes()).await.unwrap();
    assert!(read_head(&mut first).await.starts_with("HTTP/1.1 101"));
    let mut second = run.connect().await;
    second.write_all(upgrade.as_bytes()).await.unwrap();
    let (head, _) = read_answer(&mut second).await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    let left = run.stop().await;
    assert_eq!(
        left.words(),
        [
            "forwarded",
            "failed upstream_failed",
            "blocked allowlist:not_in_allowlist",
            "blocked unsupported:fetch_not_supported",
            "blocked unsupported:fetch_not_supported",
            "refused malformed_target",
            "blocked capacity:too_many_websockets",
            "unfinished stopped",
        ]
    );
    // Each forwarded request is exactly one action, so the receipts and the flow log agree.
    let asked = left
        .rows
        .iter()
        .filter(|row| row.transport.is_some())
        .count();
    let mut actions: Vec<String> = left
        .evidence
        .actions()
        .iter()
        .map(|action| action.action_id.clone())
        .collect();
    actions.sort();
    actions.dedup();
    assert_eq!(actions.len(), asked);
}

fn host(url: &str) -> &str {
    let rest = url.strip_prefix("http://").unwrap_or("p");
    rest.split('/').next().unwrap_or_default()
}
