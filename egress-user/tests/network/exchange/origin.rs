//! An origin that counts the bytes that it receives, and the relay and mediator in front of it.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use egress_mediator::Capacity;
use egress_relay::plan::FlowReport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::mediator::support::{self, Evidence, KEY, MARK, Receipt, Setup, origin, read_head};
use crate::relay::world::{PATIENCE, RelayWorld};

/// Number of bytes of a request that the origin reads before it sends an early answer.
pub(crate) const SOME: usize = 64 << 10;

/// The relay, the built-in mediator, and an origin, connected in this order.
pub(crate) struct Run {
    pub(crate) relay: RelayWorld,
    mediator: support::MediatorWorld,
    /// Port of the origin.
    pub(crate) port: u16,
    received: Arc<AtomicU64>,
}

/// The records of a run: its rows, its receipts, and the number of bytes that the origin received.
pub(crate) struct Left {
    pub(crate) rows: Vec<FlowReport>,
    pub(crate) evidence: Evidence,
    /// Bytes of bodies, tunnels, and `WebSocket`s that the origin received.
    pub(crate) delivered: u64,
}

impl Run {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// Starts the origin, the mediator, and the relay. The lines of `policy` are added to the policy.
    pub(crate) async fn with(policy: &str) -> Self {
        let mediator = support::MediatorWorld::with(Setup {
            policy: policy.to_owned(),
            capacity: Capacity {
                drain: Duration::from_millis(200),
                ..Capacity::default()
            },
            ..Setup::default()
        });
        let received = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&received);
        let port = origin(move |stream| serve(stream, Arc::clone(&counted)))
            .await
            .port();
        let address = mediator.address;
        let relay = RelayWorld::with(|config| {
            config.mediator = address;
            config.allowed_ports.push(port);
            config.mark = Some(MARK.to_owned());
            config.redaction_key = egress_policy::redact::Key::new(KEY);
        })
        .await;
        Self {
            relay,
            mediator,
            port,
            received,
        }
    }

    pub(crate) fn authority(&self) -> String {
        format!("allowed.test:{}", self.port)
    }

    /// Opens a redirected connection to the origin.
    pub(crate) async fn connect(&self) -> TcpStream {
        self.relay.connect("allowed.test", self.port).await
    }

    /// Opens a tunnel through the explicit proxy.
    pub(crate) async fn tunnel(&self) -> TcpStream {
        let mut stream = self.relay.connect_proxy().await;
        let at = self.authority();
        let head = format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        stream
    }

    /// Waits until the origin has received `bytes`.
    pub(crate) async fn delivered(&self, bytes: u64) {
        let all = async {
            while self.received.load(Ordering::Relaxed) < bytes {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, all).await.unwrap_or_else(|_| {
            panic!("{} of {bytes}", self.received.load(Ordering::Relaxed));
        });
    }

    /// Returns the bytes that the origin has received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Stops the relay and then the mediator, in the order of a run.
    pub(crate) async fn stop(self) -> Left {
        let (_, rows) = self.relay.stop().await;
        let evidence = self.mediator.stop().await;
        // Gives bytes in flight time to arrive.
        sleep(Duration::from_millis(50)).await;
        Left {
            rows,
            evidence,
            delivered: self.received.load(Ordering::Relaxed),
        }
    }
}

impl Left {
    /// Fails if bytes that were delivered are missing in the rows or in the receipts.
    pub(crate) fn nothing_is_missing(&self) {
        let up: u64 = self.rows.iter().map(|row| row.bytes_up).sum();
        let signed: u64 = self.outcomes().iter().map(Receipt::bytes).sum();
        assert!(
            up >= self.delivered,
            "rows {up}, delivered {}",
            self.delivered
        );
        assert!(
            signed >= self.delivered,
            "receipts {signed}, delivered {}",
            self.delivered
        );
    }

    pub(crate) fn outcomes(&self) -> Vec<Receipt> {
        let mut outcomes = self.evidence.actions();
        outcomes.retain(|receipt| receipt.phase == "outcome");
        outcomes
    }

    /// Returns `verdict reason` of each row.
    pub(crate) fn words(&self) -> Vec<String> {
        let word = |row: &FlowReport| format!("{} {}", row.verdict, row.reason);
        self.rows
            .iter()
            .map(|row| word(row).trim_end().to_owned())
            .collect()
    }
}

/// Serves a connection with the answer that the path selects.
async fn serve(mut stream: TcpStream, received: Arc<AtomicU64>) -> io::Result<()> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(());
    }
    if first == [0x16] {
        // This is a tunnel that never returns data.
        return count(&mut stream, &received, u64::MAX).await.map(drop);
    }
    loop {
        if stream.peek(&mut first).await? == 0 {
            return Ok(());
        }
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let is_chunked = head.contains("transfer-encoding: chunked");
        let path = path.split('?').next().unwrap_or_default();
        match path {
            "/early" => {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
                if is_chunked {
                    chunks(&mut stream, &received, SOME as u64).await?;
                    stream.write_all(answer).await?;
                    return chunks(&mut stream, &received, u64::MAX).await;
                }
                count(&mut stream, &received, SOME as u64).await?;
                stream.write_all(answer).await?;
                return count(&mut stream, &received, u64::MAX).await.map(drop);
            }
            "/413" => {
                // Like many servers, this one closes the connection with unread bytes, so the kernel resets it.
                let body = "x".repeat(20_000);
                let answer = format!(
                    "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                return stream.write_all(answer.as_bytes()).await;
            }
            "/401" | "/303" => {
                let status = path.trim_start_matches('/');
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nLocation: /login\r\nContent-Length: 2\r\n\r\nno"
                );
                stream.write_all(answer.as_bytes()).await?;
                return count(&mut stream, &received, u64::MAX).await.map(drop);
            }
            "/chat" => {
                let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\nX-Pipelock-Block-Reason: x\r\n\r\n";
                stream.write_all(answer.as_bytes()).await?;
                return frames(&mut stream, &received).await;
            }
            _ => {}
        }
        if is_chunked {
            chunks(&mut stream, &received, u64::MAX).await?;
        } else if let Some(length) = length {
            count(&mut stream, &received, length).await?;
        }
        let answer = match path {
            "/hang" => {
                // The request is complete, but it gets no answer.
                return count(&mut stream, &received, u64::MAX).await.map(drop);
            }
            "/cut" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this".to_owned(),
            "/403" | "/503" | "/502" => format!(
                "HTTP/1.1 {} X\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\
                 X-Pipelock-Block-Reason: not_in_allowlist\r\nX-Pipelock-Block-Reason-Layer: allowlist\r\n\
                 X-Egress-Mediator: {MARK}\r\nContent-Length: 8\r\n\r\nblocked\n",
                path.trim_start_matches('/')
            ),
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        };
        stream.write_all(answer.as_bytes()).await?;
        if path == "/cut" {
            return Ok(());
        }
    }
}

/// Reads and counts up to `most` bytes of the stream.
async fn count(stream: &mut TcpStream, received: &AtomicU64, most: u64) -> io::Result<u64> {
    let mut room = vec![0; 64 << 10];
    let mut left = most;
    while left > 0 {
        let wanted = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match stream.read(&mut room[..wanted]).await? {
            0 => break,
            read => {
                received.fetch_add(read as u64, Ordering::Relaxed);
                left -= read as u64;
            }
        }
    }
    Ok(most - left)
}

/// Reads a chunked body until its end or until at least `most` bytes of data, and counts the data.
async fn chunks(stream: &mut TcpStream, received: &AtomicU64, most: u64) -> io::Result<()> {
    let mut taken = 0;
    while taken < most {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&line);
        let size = u64::from_str_radix(text.trim(), 16).map_err(io::Error::other)?;
        taken += count(stream, received, size).await?;
        stream.read_exact(&mut [0; 2]).await?;
        if size == 0 {
            break;
        }
    }
    Ok(())
}

/// Reads masked frames, and counts the payload bytes of messages. The relay may send a message in more fragments than
/// the command did.
async fn frames(stream: &mut TcpStream, received: &AtomicU64) -> io::Result<()> {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).await?;
        let length = match head[1] & 0x7f {
            126 => u64::from(stream.read_u16().await?),
            127 => stream.read_u64().await?,
            short => u64::from(short),
        };
        stream.read_exact(&mut [0; 4]).await?;
        let is_message = head[0] & 0x0f < 8;
        let unseen = AtomicU64::new(0);
        count(stream, if is_message { received } else { &unseen }, length).await?;
    }
}
