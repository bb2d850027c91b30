//! Sends the bodies of requests to the mediator, and counts their bytes.
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::report::Passed;

pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// State of an upload. The other half of the exchange can read it.
#[derive(Debug, Clone)]
pub(super) struct UploadState {
    passed: Arc<Passed>,
    stage: Arc<AtomicU8>,
}

/// Stage of an upload that is not complete.
const OPEN: u8 = 0;
/// Stage of an upload that was sent completely.
const WHOLE: u8 = 1;
/// Stage of an upload that the command cut, or in which the relay denied bytes.
const BROKEN: u8 = 2;

impl UploadState {
    /// Creates the state of an upload that counts its bytes in `passed`.
    pub(super) fn new(passed: Arc<Passed>) -> Self {
        Self {
            passed,
            stage: Arc::new(AtomicU8::new(OPEN)),
        }
    }

    /// Creates the state of a request without a body.
    pub(super) fn none() -> Self {
        let none = Self::new(Arc::default());
        none.set(WHOLE);
        none
    }

    /// Returns whether the whole body was sent.
    pub(super) fn is_whole(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == WHOLE
    }

    /// Returns whether the body was cut.
    pub(super) fn is_broken(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == BROKEN
    }

    fn set(&self, stage: u8) {
        self.stage.store(stage, Ordering::Relaxed);
    }
}

/// The body of a request to the mediator. Trailer fields are not passed on.
#[derive(Debug)]
pub(super) struct Upload {
    body: Option<(Incoming, UploadState)>,
}

/// The flow was reported, so the rest of its body must not be sent.
#[derive(Debug, thiserror::Error)]
#[error("the exchange has ended")]
struct Over;

impl Upload {
    /// Wraps `body` and counts its bytes in `state`.
    pub(super) fn new(body: Incoming, state: UploadState) -> Self {
        if body.is_end_stream() {
            state.set(WHOLE);
            return Self::none();
        }
        Self {
            body: Some((body, state)),
        }
    }

    /// Returns an empty body.
    pub(super) fn none() -> Self {
        Self { body: None }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some((body, state)) = &mut self.get_mut().body else {
            return Poll::Ready(None);
        };
        let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) => frame.into_data().ok(),
            Some(Err(error)) => {
                state.set(BROKEN);
                return Poll::Ready(Some(Err(error.into())));
            }
            None => None,
        };
        let Some(data) = frame else {
            state.set(WHOLE);
            return Poll::Ready(None);
        };
        if !state.passed.may_pass(data.len()) {
            return Poll::Ready(Some(Err(Over.into())));
        }
        if body.is_end_stream() {
            state.set(WHOLE);
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.body
            .as_ref()
            .is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}
