//! Passes on the bodies of requests and answers, and counts their bytes.
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::gauge::Active;
use super::meter::Meter;
use super::phase::Phases;
use super::recorder::Intent;

/// When the rest of a body is discarded: the maximum pause between two reads, and the maximum total time.
const UNWANTED_PAUSE: Duration = Duration::from_secs(1);
const UNWANTED: Duration = Duration::from_secs(5);

type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request.
///
/// If the body is dropped before its end, the rest is read and discarded for a limited time. A connection that is
/// closed with unread bytes is reset, and the client could lose the answer.
#[derive(Debug)]
pub(super) struct RequestBody {
    inner: Option<Incoming>,
    phases: Phases,
    /// Counts the bytes of every frame.
    meter: Option<Arc<Meter>>,
    is_whole: Arc<AtomicBool>,
}

/// Whether the body of a request was read to its end.
#[derive(Debug, Clone)]
pub(super) struct Whole(Arc<AtomicBool>);

impl Whole {
    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The outcome was written, so the rest of the body must not be sent.
#[derive(Debug, thiserror::Error)]
#[error("the action has ended")]
struct Over;

impl RequestBody {
    /// Wraps the client's body `inner` as the body of the request to the origin.
    pub(super) fn new(inner: Incoming, phases: Phases) -> Self {
        let is_whole = inner.is_end_stream();
        Self {
            inner: Some(inner),
            phases,
            meter: None,
            is_whole: Arc::new(AtomicBool::new(is_whole)),
        }
    }

    /// Counts the body on `meter`.
    pub(super) fn counted(mut self, meter: Arc<Meter>) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Returns a flag that becomes true at the end of the body.
    pub(super) fn whole(&self) -> Whole {
        Whole(Arc::clone(&self.is_whole))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(inner) = this.inner.as_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *inner).poll_frame(context));
        if let (Some(Ok(frame)), Some(meter)) = (&frame, &this.meter)
            && !meter.moved(frame.data_ref().map_or(0, Bytes::len))
        {
            return Poll::Ready(Some(Err(Over.into())));
        }
        if frame.is_none() || inner.is_end_stream() {
            this.is_whole.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let inner = self.inner.take();
        if let Some(inner) = inner.filter(|inner| !inner.is_end_stream())
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(throw_away(inner, self.phases.clone()));
        }
    }
}

async fn throw_away(mut body: Incoming, phases: Phases) {
    let read = async { while let Ok(Some(Ok(_))) = timeout(UNWANTED_PAUSE, body.frame()).await {} };
    tokio::select! {
        // Dropping the rest closes the connection.
        _ = timeout(UNWANTED, read) => {}
        () = phases.cut() => {}
    }
}

/// The connection to an origin. Dropping this value closes the connection, even during an exchange.
#[derive(Debug)]
pub(super) struct OriginTask(Option<AbortHandle>);

impl OriginTask {
    /// Drives `connection` in the background.
    pub(super) fn spawn(connection: impl Future<Output: Send> + Send + 'static) -> Self {
        // The sender of a pending request also receives the connection's error.
        Self(Some(tokio::spawn(connection).abort_handle()))
    }

    /// Lets the connection's task finish instead of aborting it, because bytes that were counted may still be in its
    /// buffers.
    fn detach(mut self) {
        self.0 = None;
    }
}

impl Drop for OriginTask {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// The body of an answer to the client. The action ends with the body, so an upload that is not
/// complete by then is stopped.
pub(super) struct MeteredBody {
    inner: Incoming,
    meter: Arc<Meter>,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    left: Option<u64>,
    ending: Option<Ending>,
}

/// The resources of an action, which are released when the body of the answer ends.
pub(super) struct Ending {
    /// The intent, whose status is already set.
    pub(super) intent: Intent,
    /// Whether the body of the request was read to its end.
    pub(super) upload: Option<Whole>,
    /// The connection to the origin.
    pub(super) origin: Option<OriginTask>,
    /// Counts the action as active.
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
    /// Wraps `inner`. Cuts the body after `most` bytes, or when nothing arrives for `idle`.
    pub(super) fn new(inner: Incoming, idle: Duration, most: Option<u64>, ending: Ending) -> Self {
        Self {
            inner,
            meter: ending.intent.meter(),
            idle,
            timer: Box::pin(sleep(idle)),
            left: most,
            ending: Some(ending),
        }
    }

    fn end(&mut self, reason: &str) {
        if let Some(ending) = self.ending.take() {
            ending.intent.finish_as(reason);
            drop((ending.origin, ending.active));
        }
    }

    /// Ends an action whose answer is complete. If the request has not been sent completely, the connection to the
    /// origin is closed. If the upload continued, its remaining bytes would not be in the receipt of the outcome.
    fn complete(&mut self) {
        let upload = self
            .ending
            .as_ref()
            .and_then(|ending| ending.upload.as_ref());
        let is_sent = upload.is_none_or(Whole::get);
        if is_sent && let Some(origin) = self.ending.as_mut().and_then(|end| end.origin.take()) {
            origin.detach();
        }
        self.end(if is_sent { "complete" } else { "early_answer" });
    }

    fn fail(&mut self, reason: &'static str) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.end(reason);
        Poll::Ready(Some(Err(io::Error::other(reason))))
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let count = frame.data_ref().map_or(0, Bytes::len);
        // `moved` returns true here, because the outcome is written only at the end of this body.
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
        loop {
            return match Pin::new(&mut this.inner).poll_frame(context) {
                // Trailers are not passed on. The HTTP library does not poll again after them, so the loop continues to
                // the end.
                Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => continue,
                Poll::Ready(Some(Ok(frame))) => this.pass(frame),
                Poll::Ready(Some(Err(_))) => this.fail("response_read_error"),
                Poll::Ready(None) => {
                    this.complete();
                    Poll::Ready(None)
                }
                Poll::Pending => {
                    ready!(this.timer.as_mut().poll(context));
                    this.fail("idle_timeout")
                }
            };
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
        // A body of known length may be dropped after its last byte, without a further poll.
        if self.inner.is_end_stream() {
            self.complete();
        } else if let Some(ending) = self.ending.take() {
            ending.intent.break_off("client_closed");
        }
    }
}
