//! Reads the answer of a peer that no longer reads from the connection.
//!
//! A server may answer and close the connection before it has read the body of a request (as with 413, 401, and
//! redirects). A write to that server then fails, and the HTTP library would end the connection before it has read the
//! answer. [`ReadOn`] makes the failed write wait instead. The connection ends when its input ends.
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection on which a failed write waits.
#[derive(Debug)]
pub struct ReadOn<T> {
    io: T,
    /// Whether a write has failed. Later writes wait until the input ends, which ends the connection.
    has_failed: bool,
}

impl<T> ReadOn<T> {
    /// Wraps `io`, on which no write has failed yet.
    pub fn new(io: T) -> Self {
        Self {
            io,
            has_failed: false,
        }
    }

    /// Returns the wrapped connection.
    pub fn into_inner(self) -> T {
        self.io
    }

    fn wait_on_error(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(_)) => {
                self.has_failed = true;
                Poll::Pending
            }
            Poll::Ready(Ok(_)) | Poll::Pending => written,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ReadOn<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, out)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ReadOn<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.has_failed {
            return Poll::Pending;
        }
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.wait_on_error(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.has_failed {
            return Poll::Pending;
        }
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.wait_on_error(written)
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
