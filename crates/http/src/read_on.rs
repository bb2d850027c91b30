//! Reads the rest of a connection that takes no more bytes.
//!
//! A server may answer before it has read a request's body, and close: 413, 401 and redirects come like that. The
//! write that fails then would end an HTTP library's connection before the answer has been read. Behind
//! [`ReadOn`] such a write waits instead, and the end of what can be read ends the connection.
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose failed writes wait.
#[derive(Debug)]
pub struct ReadOn<T> {
    io: T,
    /// A write has failed. Reading ends with the connection, so nobody waits forever.
    is_deaf: bool,
}

impl<T> ReadOn<T> {
    /// Wraps `io`.
    pub fn new(io: T) -> Self {
        Self { io, is_deaf: false }
    }

    /// The connection itself.
    pub fn into_inner(self) -> T {
        self.io
    }

    fn patient(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(_)) => {
                self.is_deaf = true;
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
        if this.is_deaf {
            return Poll::Pending;
        }
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.patient(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_deaf {
            return Poll::Pending;
        }
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.patient(written)
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
