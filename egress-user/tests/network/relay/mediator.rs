//! A minimal mediator that allows all hosts except those that begin with `blocked.` or `down.`.
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::world::{PATIENCE, pattern};

pub(crate) struct MockMediator {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    tunnelled: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// The mark that the mediator adds to its own answers.
pub(crate) const MARK: &str = "0123456789abcdef0123456789abcdef";

pub(crate) const BLOCK: &str = "HTTP/1.1 403 Forbidden\r\nX-Egress-Mediator: 0123456789abcdef0123456789abcdef\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    X-Content-Type-Options: nosniff\r\nX-Pipelock-Block-Reason: parse_error\r\n\
    X-Pipelock-Block-Reason-Layer: allowlist\r\nContent-Length: 8\r\n\r\nblocked\n";

impl MockMediator {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tunnelled = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn({
            let (seen, tunnelled) = (Arc::clone(&seen), Arc::clone(&tunnelled));
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(serve(stream, Arc::clone(&seen), Arc::clone(&tunnelled)));
                }
            }
        });
        Self {
            address,
            seen,
            tunnelled,
        }
    }

    /// Returns the request lines that have arrived so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .map(|head| head.lines().next().unwrap_or_default().to_owned())
            .collect()
    }

    /// Returns the whole heads that have arrived so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until the first tunnel has ended, and returns the bytes that it carried to the mediator.
    pub(crate) async fn tunnelled(&self) -> Vec<u8> {
        let ended = async {
            loop {
                let first = self.tunnelled.lock().unwrap().first().cloned();
                match first {
                    Some(through) => return through,
                    None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, ended)
            .await
            .expect("no tunnel has ended")
    }
}

struct Wire {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Wire {
    async fn fill(&mut self) -> bool {
        let mut room = vec![0; 64 * 1024];
        match self.stream.read(&mut room).await {
            Ok(read) if read > 0 => {
                self.held.extend_from_slice(&room[..read]);
                true
            }
            _ => false,
        }
    }

    async fn until(&mut self, mark: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.held.windows(mark.len()).position(|w| w == mark) {
                let rest = self.held.split_off(at + mark.len());
                return String::from_utf8(std::mem::replace(&mut self.held, rest)).ok();
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.held.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        let rest = self.held.split_off(length);
        Some(std::mem::replace(&mut self.held, rest))
    }
}

async fn serve(
    stream: TcpStream,
    seen: Arc<Mutex<Vec<String>>>,
    tunnelled: Arc<Mutex<Vec<Vec<u8>>>>,
) -> Option<()> {
    stream.set_nodelay(true).unwrap();
    let mut wire = Wire {
        stream,
        held: Vec::new(),
    };
    loop {
        let head = wire.until(b"\r\n\r\n").await?;
        seen.lock().unwrap().push(head.clone());
        let mut words = head.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let host = target.strip_prefix("http://").unwrap_or(target);
        if host.starts_with("blocked.") || target.contains("blocked.") {
            wire.stream.write_all(BLOCK.as_bytes()).await.ok()?;
            continue;
        }
        if host.starts_with("down.") {
            let answer = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";
            wire.stream.write_all(answer.as_bytes()).await.ok()?;
            continue;
        }
        if method == "CONNECT" {
            // The answer and the first bytes of the tunnel arrive in one segment.
            wire.stream
                .write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n")
                .await
                .ok()?;
            let through = tunnel(&mut wire, host).await;
            tunnelled.lock().unwrap().push(through);
            return Some(());
        }
        if target.starts_with("/ws?") {
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nhello";
            wire.stream.write_all(answer.as_bytes()).await.ok()?;
            let through = tunnel(&mut wire, host).await;
            tunnelled.lock().unwrap().push(through);
            return Some(());
        }
        answer(&mut wire, &head, method, host).await?;
    }
}

/// The start of a `ServerHello`. After the `ServerHello`, a tunnel carries any bytes.
pub(crate) const SERVER_HELLO: [u8; 43] = {
    let mut hello = [0; 43];
    [hello[0], hello[1], hello[2], hello[4]] = [22, 3, 3, 38];
    [hello[5], hello[8], hello[9], hello[10]] = [2, 34, 3, 3];
    hello
};

/// Serves a tunnel. A host `source.SIZE.…` sends SIZE bytes, a host `sink.…` discards all bytes, and any other host
/// echoes them. Returns the received bytes.
async fn tunnel(wire: &mut Wire, host: &str) -> Vec<u8> {
    let mut through = std::mem::take(&mut wire.held);
    let (mut reader, mut writer) = wire.stream.split();
    if let Some(size) = host.strip_prefix("source.") {
        let size: usize = size.split('.').next().unwrap().parse().unwrap();
        for start in (0..size).step_by(1 << 17) {
            let piece = pattern((1 << 17).min(size - start), start);
            if writer.write_all(&piece).await.is_err() {
                return through;
            }
        }
        drop(writer.shutdown().await);
    } else if !host.starts_with("sink.") {
        drop(writer.write_all(&through).await);
    }
    let mut room = vec![0; 64 * 1024];
    // A sink checks only the bytes after the `ClientHello`.
    let mut taken = 0;
    while let Ok(read) = reader.read(&mut room).await {
        if read == 0 {
            break;
        }
        if host.starts_with("sink.") && through.len() >= 5 {
            let hello = 5 + usize::from(u16::from_be_bytes([through[3], through[4]]));
            if through.len() >= hello {
                assert_eq!(room[..read], pattern(read, taken), "at {taken}");
                taken += read;
                continue;
            }
        }
        if through.len() < 1 << 20 {
            through.extend_from_slice(&room[..read]);
        }
        if host.starts_with("sink.") {
            drop(writer.write_all(&SERVER_HELLO).await);
        }
        if !host.starts_with("sink.") && !host.starts_with("source.") {
            drop(writer.write_all(&room[..read]).await);
        }
    }
    if host.starts_with("sink.") {
        drop(writer.write_all(format!("taken {taken}").as_bytes()).await);
    }
    drop(writer.shutdown().await);
    through
}

async fn answer(wire: &mut Wire, head: &str, method: &str, host: &str) -> Option<()> {
    let lower = head.to_ascii_lowercase();
    let length = lower
        .lines()
        .find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
    let mut body = Vec::new();
    if host.ends_with("/upload") {
        // The bytes are checked as they arrive, and not stored.
        let mut taken = 0;
        while taken < length? {
            if wire.held.is_empty() && !wire.fill().await {
                return None;
            }
            let piece = std::mem::take(&mut wire.held);
            assert_eq!(piece, pattern(piece.len(), taken), "at {taken}");
            taken += piece.len();
        }
        body = format!("taken {taken}").into_bytes();
    } else if lower.contains("transfer-encoding: chunked") {
        loop {
            let size = wire.until(b"\r\n").await?;
            let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
            let chunk = wire.exactly(size + 2).await?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    } else if let Some(length) = length {
        body = wire.exactly(length).await?;
    }
    let path = host.find('/').and_then(|at| host.get(at..)).unwrap_or("/");
    if let Some(size) = path.strip_prefix("/bytes/") {
        let size: usize = size.parse().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        wire.stream.write_all(head.as_bytes()).await.ok()?;
        for start in (0..size).step_by(1 << 17) {
            wire.stream
                .write_all(&pattern((1 << 17).min(size - start), start))
                .await
                .ok()?;
        }
        return Some(());
    }
    if path == "/chunked" {
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        return wire.stream.write_all(text.as_bytes()).await.ok();
    }
    if path == "/until-close" {
        let text = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello";
        wire.stream.write_all(text.as_bytes()).await.ok()?;
        return None;
    }
    // The answer repeats the request: its first line, then its body.
    let line = head.lines().next()?;
    let mut text = format!("{line}\n").into_bytes();
    text.extend_from_slice(&body);
    let status = if path == "/403" {
        "403 Forbidden"
    } else {
        "200 OK"
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    wire.stream.write_all(head.as_bytes()).await.ok()?;
    if method != "HEAD" {
        wire.stream.write_all(&text).await.ok()?;
    }
    Some(())
}
