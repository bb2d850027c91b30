//! Exposes the handshake reader, only for `fuzz/`.
use super::authority::Host;
use super::copy::Watch;
use super::handshake::Handshake;

/// A piece of a conversation between a client and a server.
#[derive(Debug, Clone, Copy)]
pub enum Piece<'b> {
    /// Bytes that the client sends.
    Client(&'b [u8]),
    /// Bytes that the server sends.
    Server(&'b [u8]),
}

/// The result of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshaken {
    /// The bytes that the relay sends to the server.
    pub sent: Vec<u8>,
    /// Why the relay ends the tunnel, if it does.
    pub denied: Option<&'static str>,
}

/// Carries a conversation through a tunnel to `host`. The first `judged` bytes of the client are its first
/// `ClientHello`.
pub fn handshake(host: &Host, judged: usize, pieces: &[Piece<'_>]) -> Handshaken {
    let mut watch = Handshake::of(host, judged);
    let mut sent = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Client(bytes) => match watch.up(bytes) {
                Some(instead) => sent.extend(instead),
                None => sent.extend_from_slice(bytes),
            },
            Piece::Server(bytes) => watch.down(bytes),
        }
        if watch.is_over() {
            break;
        }
    }
    Handshaken {
        sent,
        denied: watch.refused().map(|(reason, _)| reason),
    }
}
