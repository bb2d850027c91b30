//! Servers that accept all data. Data that arrives at these servers has left the runner.
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::journal::{Arrival, Journal};

/// TCP ports with a sink. Other ports answer with a reset, which the counter records as well.
pub(crate) const TCP: [u16; 11] = [21, 22, 25, 587, 853, 2375, 5432, 6379, 7000, 9418, 50000];
/// UDP ports with a sink.
pub(crate) const UDP: [u16; 8] = [123, 443, 514, 853, 3478, 5353, 7000, 51820];

/// The port on which the server sends first, as SSH servers do.
const SSH: u16 = 22;

/// Accepts connections until the world ends.
pub(super) async fn tcp(listener: TcpListener, journal: Arc<Journal>) {
    loop {
        // An aborted handshake concerns only the client.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, Arc::clone(&journal)));
        }
    }
}

async fn connection(mut stream: TcpStream, journal: Arc<Journal>) {
    let port = stream.local_addr().map_or(0, |address| address.port());
    if port == SSH && stream.write_all(b"SSH-2.0-world\r\n").await.is_err() {
        return;
    }
    let mut bytes = Vec::new();
    // Data that arrived before a reset counts as well.
    drop(stream.read_to_end(&mut bytes).await);
    journal.arrival(Arrival {
        transport: "tcp",
        port,
        bytes,
    });
}

/// Receives datagrams until the world ends, and sends each of them back.
pub(super) async fn udp(socket: UdpSocket, port: u16, journal: Arc<Journal>) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        // The error is an ICMP message about an earlier answer.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        drop(socket.send_to(bytes, peer).await);
        journal.arrival(Arrival {
            transport: "udp",
            port,
            bytes: bytes.to_vec(),
        });
    }
}

/// Receives the counter's own packets.
pub(super) async fn discard(socket: UdpSocket) {
    let mut buffer = [0; 64];
    loop {
        drop(socket.recv_from(&mut buffer).await);
    }
}
