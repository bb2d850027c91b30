//! The answers of the HTTP server and their bodies.
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Response, StatusCode};
use sha2::{Digest as _, Sha256};

pub(super) fn text(body: String) -> Response<Content> {
    Response::new(Content::bytes(body.into()))
}

pub(super) fn json(value: &serde_json::Value) -> Response<Content> {
    let mut response = text(format!("{value}\n"));
    response.headers_mut().insert(
        CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

pub(super) fn status(code: StatusCode) -> Response<Content> {
    let mut response = text(format!("{code}\n"));
    *response.status_mut() = code;
    response
}

/// Whether the answer states its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Told,
    Chunked,
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Content {
    pieces: Pattern,
    whole: Option<Bytes>,
    length: Length,
}

impl Content {
    pub(super) fn bytes(bytes: Bytes) -> Self {
        Self {
            pieces: Pattern::new(0),
            whole: Some(bytes),
            length: Length::Told,
        }
    }

    pub(super) fn pattern(bytes: u64, length: Length) -> Self {
        Self {
            pieces: Pattern::new(bytes),
            whole: None,
            length,
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let piece = this.whole.take().or_else(|| this.pieces.next());
        Poll::Ready(piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.whole.is_none() && self.pieces.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Length::Told => {
                let whole = self.whole.as_ref().map_or(0, Bytes::len) as u64;
                SizeHint::with_exact(whole + self.pieces.left)
            }
            Length::Chunked => SizeHint::default(),
        }
    }
}

/// Generates bytes in which any lost, repeated, or moved byte can be detected. Each block of 64 KiB begins with its
/// number. The noise after the number is the same in all blocks.
#[derive(Debug)]
struct Pattern {
    left: u64,
    number: u64,
    noise: Bytes,
    noise_is_next: bool,
}

const NUMBER_BYTES: usize = 8;
const NOISE_BYTES: usize = (64 << 10) - NUMBER_BYTES;

impl Pattern {
    fn new(bytes: u64) -> Self {
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            // These are the constants of the generator in Numerical Recipes. The quality of the noise does not matter.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        Self {
            left: bytes,
            number: 0,
            noise: if bytes == 0 {
                Bytes::new()
            } else {
                noise.take(NOISE_BYTES).collect()
            },
            noise_is_next: false,
        }
    }
}

impl Iterator for Pattern {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let mut piece = if self.noise_is_next {
            self.number += 1;
            self.noise.clone()
        } else {
            Bytes::copy_from_slice(&self.number.to_be_bytes())
        };
        self.noise_is_next = !self.noise_is_next;
        if let Ok(left) = usize::try_from(self.left) {
            piece.truncate(left);
        }
        self.left -= piece.len() as u64;
        Some(piece)
    }
}

/// Returns the SHA-256 of the body of `/bytes/N`, lowercase hex.
pub fn pattern_sha256(bytes: u64) -> String {
    let mut digest = Sha256::new();
    for piece in Pattern::new(bytes) {
        digest.update(&piece);
    }
    hex::encode(digest.finalize())
}
