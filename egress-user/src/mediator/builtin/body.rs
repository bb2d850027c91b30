//! Bodies that are counted while they pass.
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::gauge::Active;
use super::meter::Meter;
use super::recorder::Intent;

/// A request body on its way to the origin; every frame is a movement.
#[derive(Debug)]
pub(super) struct UploadBody {
    inner: Incoming,
    meter: Arc<Meter>,
}

impl UploadBody {
    /// Counts `inner` on `meter`.
    pub(super) fn new(inner: Incoming, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.meter.moved(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body on its way to the client. Its end is the end of the action.
pub(super) struct MeteredBody {
    inner: Incoming,
    meter: Arc<Meter>,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    left: Option<u64>,
    ending: Option<Ending>,
}

/// What the end of a body settles.
pub(super) struct Ending {
    /// Status of the answer.
    pub(super) status: u16,
    /// The action.
    pub(super) intent: Intent,
    /// Keeps the action counted as under way.
    pub(super) active: Active,
}

impl std::fmt::Debug for MeteredBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MeteredBody")
            .finish_non_exhaustive()
    }
}

impl MeteredBody {
    /// Passes `inner` on; cuts it after `most` bytes or when nothing came for `idle`.
    pub(super) fn new(
        inner: Incoming,
        meter: Arc<Meter>,
        idle: Duration,
        most: Option<u64>,
        ending: Ending,
    ) -> Self {
        Self {
            inner,
            meter,
            idle,
            timer: Box::pin(sleep(idle)),
            left: most,
            ending: Some(ending),
        }
    }

    fn end(&mut self, reason: &str) {
        if let Some(Ending {
            status,
            intent,
            active,
        }) = self.ending.take()
        {
            intent.finish(status, self.meter.bytes(), reason);
            drop(active);
        }
    }

    fn fail(&mut self, reason: &'static str) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.end(reason);
        Poll::Ready(Some(Err(io::Error::other(reason))))
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let count = frame.data_ref().map_or(0, Bytes::len);
        self.meter.moved(count);
        let idle = self.idle;
        self.timer.as_mut().reset(Instant::now() + idle);
        if let Some(left) = self.left.as_mut() {
            match left.checked_sub(u64::try_from(count).unwrap_or(u64::MAX)) {
                Some(rest) => *left = rest,
                None => return self.fail("oversized"),
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => this.pass(frame),
            Poll::Ready(Some(Err(_))) => this.fail("response_read_error"),
            Poll::Ready(None) => {
                this.end("complete");
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(this.timer.as_mut().poll(context));
                this.fail("idle_timeout")
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for MeteredBody {
    fn drop(&mut self) {
        // A body of known length is let go once its last byte was taken, without being asked for
        // its end.
        if self.inner.is_end_stream() {
            self.end("complete");
        } else if let Some(Ending { status, intent, .. }) = self.ending.take() {
            intent.break_off(status, self.meter.bytes(), "client_closed");
        }
    }
}
