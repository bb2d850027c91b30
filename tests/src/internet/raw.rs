//! A server that writes its answers without an HTTP library. The server handles one request on each connection:
//!
//! | path | answer |
//! |---|---|
//! | `/hints` | status 103, and then `hello` |
//! | `/until-close` | `hello` without a length; the end of the connection ends the body |
//! | `/early/N` | `hello` after N bytes of the body; the rest is read as well |
//! | `/late/MS` | `hello` MS milliseconds after the whole body |
//! | `/cut/N` | N bytes of an answer that states a length of ten times N |
//! | `/reset` | no answer; the server resets the connection |
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::journal::Journal;

/// Port of the server.
pub(crate) const PORT: u16 = 8081;

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
const UNTIL_CLOSE: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nhello\n";

/// Serves until the world ends.
pub(super) async fn listen(listener: TcpListener, journal: Arc<Journal>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let journal = Arc::clone(&journal);
            // Some tests cause errors on purpose.
            tokio::spawn(async move { drop(serve(stream, &journal).await) });
        }
    }
}

/// The body of one request, as it arrives.
struct Upload<'j> {
    journal: &'j Journal,
    host: String,
    /// Number of bytes that have not arrived. `None` for a body in chunks, which is read to its last chunk.
    left: Option<usize>,
    read: usize,
    tail: Vec<u8>,
}

impl Upload<'_> {
    /// Counts received bytes. The framing of chunks is counted as well. The framing is small enough to ignore.
    fn take(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.read += bytes.len();
        self.left = self.left.map(|left| left.saturating_sub(bytes.len()));
        if self.left.is_some() {
            self.journal.receive(&self.host, bytes.len());
        }
        self.tail.extend(bytes);
        let surplus = self.tail.len().saturating_sub(5);
        self.tail.drain(..surplus);
    }

    fn is_over(&self) -> bool {
        self.left
            .map_or_else(|| self.tail == b"0\r\n\r\n", |left| left == 0)
    }

    /// Reads until `enough` bytes have arrived or the body ends.
    async fn read_until(&mut self, stream: &mut TcpStream, enough: usize) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        while !self.is_over() && self.read < enough {
            match stream.read(&mut buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => self.take(buffer.get(..length).unwrap_or_default()),
            }
        }
        Ok(())
    }
}

async fn serve(mut stream: TcpStream, journal: &Journal) -> io::Result<()> {
    let mut data = Vec::new();
    let end = loop {
        if let Some(at) = data.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut data).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(data.get(..end).unwrap_or_default()).into_owned();
    let field = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let path = head.split(' ').nth(1).unwrap_or_default();
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (kind, number) = (parts.next().unwrap_or_default(), parts.next());
    let number: usize = number.and_then(|text| text.parse().ok()).unwrap_or(0);
    let length = field("content-length").and_then(|text| text.parse().ok());
    let mut upload = Upload {
        journal,
        host: field("host").unwrap_or_default(),
        left: match field("transfer-encoding") {
            Some(_) => None,
            None => Some(length.unwrap_or(0)),
        },
        read: 0,
        tail: Vec::new(),
    };
    upload.take(data.get(end..).unwrap_or_default());
    match kind {
        "hints" => {
            stream.write_all(HINTS.as_bytes()).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.write_all(HELLO.as_bytes()).await?;
        }
        "until-close" => stream.write_all(UNTIL_CLOSE.as_bytes()).await?,
        "early" => {
            upload.read_until(&mut stream, number).await?;
            stream.write_all(HELLO.as_bytes()).await?;
            upload.read_until(&mut stream, usize::MAX).await?;
        }
        "late" => {
            upload.read_until(&mut stream, usize::MAX).await?;
            let time = u64::try_from(number).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(time)).await;
            stream.write_all(HELLO.as_bytes()).await?;
        }
        "cut" => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", number * 10);
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&vec![b'x'; number]).await?;
        }
        "reset" => return stream.set_zero_linger(),
        _ => {
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                .await?;
        }
    }
    stream.shutdown().await
}
