//! Stands between the socket and hyper, and lets only approved bytes through.
//!
//! hyper sees the head of a request when [`http_head`](super::http_head) has approved all of it, and
//! the body up to its end, never a byte further. At the first byte that is not approved the stream
//! ends for hyper, which then answers what it has and stops; the reason is kept for the connection's
//! own answer and report.
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

/// Why a connection's bytes were refused; empty as long as they were not.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusal(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    error: OnceLock<HeadError>,
    is_closed: AtomicBool,
}

impl Refusal {
    /// The first reason.
    pub(super) fn get(&self) -> Option<HeadError> {
        self.0.error.get().copied()
    }

    /// Ends what hyper reads: an answer came before the end of its request's body.
    pub(super) fn close(&self) {
        self.0.is_closed.store(true, Ordering::Relaxed);
    }

    /// Whether nothing more is to be read.
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Relaxed)
    }

    fn set(&self, error: HeadError) {
        // The first reason stays: what follows it was never read.
        self.0.error.get_or_init(|| error);
    }
}

/// The checking adapter.
#[derive(Debug)]
pub(super) struct Guard {
    io: TcpStream,
    /// Bytes read from the socket that hyper has not got.
    held: BytesMut,
    /// How many of them are approved.
    approved: usize,
    state: State,
    refusal: Refusal,
    /// Heads approved so far.
    heads: u64,
}

#[derive(Debug)]
enum State {
    /// A head comes next; so many held bytes were scanned.
    Head {
        scanned: usize,
    },
    Length {
        left: u64,
    },
    Chunked(Chunked),
}

impl Guard {
    /// Guards `io`, from which `first` was read already.
    pub(super) fn new(io: TcpStream, first: &[u8]) -> Self {
        Self {
            io,
            held: BytesMut::from(first),
            approved: 0,
            state: State::Head { scanned: 0 },
            refusal: Refusal::default(),
            heads: 0,
        }
    }

    /// Where the reason will be when bytes are refused.
    pub(super) fn refusal(&self) -> Refusal {
        self.refusal.clone()
    }

    /// How many heads were approved.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the client has begun a head that was not approved.
    pub(super) fn has_partial_head(&self) -> bool {
        matches!(self.state, State::Head { .. }) && !self.held.is_empty()
    }

    /// The socket, and what was read from it behind the last approved byte.
    pub(super) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.io, self.held.to_vec())
    }

    /// Approves held bytes. `false`: more are needed first.
    fn advance(&mut self) -> Result<bool, HeadError> {
        match &mut self.state {
            State::Head { scanned } => match scan(&self.held, *scanned)? {
                Scan::More(at) => {
                    *scanned = at;
                    Ok(false)
                }
                Scan::End(end) => {
                    let head = self.held.get(..end).unwrap_or_default();
                    self.state = match judge(head)? {
                        Framing::Length(0) => State::Head { scanned: 0 },
                        Framing::Length(left) => State::Length { left },
                        Framing::Chunked => State::Chunked(Chunked::default()),
                    };
                    self.heads += 1;
                    self.approved = end;
                    Ok(true)
                }
            },
            State::Length { .. } | State::Chunked(_) => {
                let (taken, error) = self.state.take_body(&self.held);
                self.approved = taken;
                match error {
                    Some(error) if taken == 0 => Err(error),
                    // What came before the bad byte goes through; the next call meets it again.
                    _ => Ok(taken > 0),
                }
            }
        }
    }
}

impl State {
    /// How many of `bytes` belong to the body; at its end a head comes next.
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
                out.put_slice(this.held.get(..step).unwrap_or_default());
                this.held.advance(step);
                this.approved -= step;
                return Poll::Ready(Ok(()));
            }
            if !this.held.is_empty() {
                match this.advance() {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => {
                        this.refusal.set(error);
                        continue;
                    }
                }
            }
            if matches!(this.state, State::Head { .. }) {
                if !ready!(this.poll_fill(cx))? {
                    if !this.held.is_empty() {
                        this.refusal.set(HeadError::Incomplete);
                    }
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            // In a body hyper's own buffer is filled, and what lies behind the end taken back.
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
                this.held
                    .extend_from_slice(fresh.get(taken..).unwrap_or_default());
            }
            out.set_filled(start + taken);
            return Poll::Ready(Ok(()));
        }
    }
}

impl Guard {
    /// Reads more bytes of a head; `false` at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut room = [0; 4096];
        let mut fresh = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut fresh))?;
        self.held.extend_from_slice(fresh.filled());
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
