//! Passes only approved bytes from the socket to hyper.
//!
//! hyper receives the head of a request after [`http_head`](super::http_head) has approved all of
//! it, and the body up to its end. At the first byte that is not approved, hyper's input ends.
//! hyper then answers the requests that it has received, and stops. The reason is kept for the
//! relay's answer and report.
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::chunked::Chunked;
use super::http_head::{Framing, HeadError, Scan, judge, scan};

/// State that the guard shares with the code that answers requests: why bytes were denied, if any were denied, and
/// whether hyper's input was ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusal(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    error: OnceLock<HeadError>,
    is_closed: AtomicBool,
}

impl Refusal {
    /// Returns the reason of the first denial, or `None` if no byte was denied.
    pub(super) fn get(&self) -> Option<HeadError> {
        self.0.error.get().copied()
    }

    /// Ends hyper's input. Called when an answer comes before the end of its request's body.
    pub(super) fn close(&self) {
        self.0.is_closed.store(true, Ordering::Relaxed);
    }

    /// Returns whether [`Self::close`] was called.
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Relaxed)
    }

    fn set(&self, error: HeadError) {
        // Only the first reason is kept, because the guard does not read on after a denied byte.
        self.0.error.get_or_init(|| error);
    }
}

/// The adapter between the socket and hyper.
#[derive(Debug)]
pub(super) struct Guard {
    io: TcpStream,
    /// Bytes that were read from the socket and not passed to hyper.
    buffered: BytesMut,
    /// Number of bytes in `buffered` that are approved.
    approved: usize,
    state: GuardState,
    refusal: Refusal,
    /// Number of approved heads.
    heads: u64,
}

/// The part of a request to which the next bytes of the connection belong.
#[derive(Debug)]
enum GuardState {
    /// A head, of which `scanned` bytes were already scanned.
    Head { scanned: usize },
    /// A body of which `left` bytes remain.
    Length { left: u64 },
    /// A chunked body.
    Chunked(Chunked),
}

impl Guard {
    /// Wraps `io`, from which `first` was already read.
    pub(super) fn new(io: TcpStream, first: &[u8]) -> Self {
        Self {
            io,
            buffered: BytesMut::from(first),
            approved: 0,
            state: GuardState::Head { scanned: 0 },
            refusal: Refusal::default(),
            heads: 0,
        }
    }

    /// Returns the state in which the guard records why it denied bytes.
    pub(super) fn refusal(&self) -> Refusal {
        self.refusal.clone()
    }

    /// Returns the number of approved heads.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Returns whether the client has sent a part of a head that is not approved yet.
    pub(super) fn has_partial_head(&self) -> bool {
        matches!(self.state, GuardState::Head { .. }) && !self.buffered.is_empty()
    }

    /// Returns the socket and the bytes that were not passed to hyper.
    pub(super) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.io, self.buffered.to_vec())
    }

    /// Approves bytes in `buffered`. Returns false if more bytes are needed first.
    fn advance(&mut self) -> Result<bool, HeadError> {
        match &mut self.state {
            GuardState::Head { scanned } => match scan(&self.buffered, *scanned)? {
                Scan::More(at) => {
                    *scanned = at;
                    Ok(false)
                }
                Scan::End(end) => {
                    let head = self.buffered.get(..end).unwrap_or_default();
                    self.state = match judge(head)? {
                        Framing::Length(0) => GuardState::Head { scanned: 0 },
                        Framing::Length(left) => GuardState::Length { left },
                        Framing::Chunked => GuardState::Chunked(Chunked::default()),
                    };
                    self.heads += 1;
                    self.approved = end;
                    Ok(true)
                }
            },
            GuardState::Length { .. } | GuardState::Chunked(_) => {
                let (taken, error) = self.state.take_body(&self.buffered);
                self.approved = taken;
                match error {
                    Some(error) if taken == 0 => Err(error),
                    _ => Ok(taken > 0),
                }
            }
        }
    }
}

impl GuardState {
    /// Returns how many of `bytes` belong to the body, and the error if the bytes are not a valid body. At the end of
    /// the body, the state becomes `Head`.
    fn take_body(&mut self, bytes: &[u8]) -> (usize, Option<HeadError>) {
        let (taken, done) = match self {
            Self::Head { .. } => return (0, None),
            Self::Length { left } => {
                let taken =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                (taken, *left == 0)
            }
            Self::Chunked(body) => match body.take(bytes) {
                Ok(taken) => (taken, body.is_done()),
                Err(error) => return (0, Some(error)),
            },
        };
        if done {
            *self = Self::Head { scanned: 0 };
        }
        (taken, None)
    }
}

impl AsyncRead for Guard {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.refusal.get().is_some() || this.refusal.is_closed() {
                return Poll::Ready(Ok(()));
            }
            if this.approved > 0 {
                let step = this.approved.min(out.remaining());
                out.put_slice(this.buffered.get(..step).unwrap_or_default());
                this.buffered.advance(step);
                this.approved -= step;
                return Poll::Ready(Ok(()));
            }
            if !this.buffered.is_empty() {
                match this.advance() {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => {
                        this.refusal.set(error);
                        continue;
                    }
                }
            }
            if matches!(this.state, GuardState::Head { .. }) {
                if !ready!(this.poll_fill(cx))? {
                    if !this.buffered.is_empty() {
                        this.refusal.set(HeadError::Incomplete);
                    }
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            // A body is read directly into hyper's buffer. Bytes after the end of the body are
            // taken back.
            let start = out.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, out))?;
            let fresh = out.filled().get(start..).unwrap_or_default();
            if fresh.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let (taken, error) = this.state.take_body(fresh);
            if let Some(error) = error {
                this.refusal.set(error);
            } else {
                this.buffered
                    .extend_from_slice(fresh.get(taken..).unwrap_or_default());
            }
            out.set_filled(start + taken);
            return Poll::Ready(Ok(()));
        }
    }
}

impl Guard {
    /// Reads more bytes of a head. Returns false at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut room = [0; 4096];
        let mut fresh = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut fresh))?;
        self.buffered.extend_from_slice(fresh.filled());
        Poll::Ready(Ok(!fresh.filled().is_empty()))
    }
}

impl AsyncWrite for Guard {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
