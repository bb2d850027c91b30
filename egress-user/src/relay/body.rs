//! Bodies on their way through, counted.
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;

use super::guard::Refusal;
use super::report::{Flow, Verdict};
use super::serve::Relay;

/// What the other half of an exchange may know of its upload.
#[derive(Debug, Clone, Default)]
pub(super) struct UploadState(Arc<UploadInner>);

#[derive(Debug, Default)]
struct UploadInner {
    bytes: AtomicU64,
    broken: AtomicBool,
}

impl UploadState {
    /// Bytes of the body taken so far.
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Whether the agent stopped in the middle of the body.
    pub(super) fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Relaxed)
    }
}

/// The body of a request to the mediator. Trailer fields never pass.
#[derive(Debug)]
pub(super) struct Upload {
    body: Option<Incoming>,
    state: UploadState,
}

impl Upload {
    /// Passes `body` on and counts in `state`.
    pub(super) fn new(body: Incoming, state: UploadState) -> Self {
        Self {
            body: Some(body).filter(|body| !body.is_end_stream()),
            state,
        }
    }

    /// No body.
    pub(super) fn none() -> Self {
        Self {
            body: None,
            state: UploadState::default(),
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    this.state
                        .0
                        .bytes
                        .fetch_add(data.len() as u64, Ordering::Relaxed);
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                Err(_) => Poll::Ready(None),
            },
            Some(Err(error)) => {
                this.state.0.broken.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(error)))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The body of an answer to the agent.
#[derive(Debug)]
pub(super) enum Download {
    /// The relay's own words.
    Own(Option<Bytes>),
    /// The mediator's.
    Mediator(Box<Exchange>),
}

/// One request and answer through the mediator; reports when its answer has ended.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) relay: Arc<Relay>,
    pub(super) body: Incoming,
    /// Length of a body of unknown length that was cut.
    pub(super) cut: Option<u64>,
    pub(super) sender: Option<SendRequest<Upload>>,
    pub(super) flow: Option<Flow>,
    pub(super) upload: UploadState,
    pub(super) refusal: Refusal,
    pub(super) down: u64,
    pub(super) ended: Ended,
}

/// How far an answer's body got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    No,
    Whole,
    Broken,
    Cut,
}

/// The mediator's answer ends where it cuts one: the agent must not take it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut by the mediator")]
struct CutAnswer;

impl Body for Download {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let exchange = match self.get_mut() {
            Self::Own(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Mediator(exchange) => exchange,
        };
        match ready!(Pin::new(&mut exchange.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                exchange.down += frame.data_ref().map_or(0, |data| data.len() as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                exchange.ended = Ended::Broken;
                Poll::Ready(Some(Err(error.into())))
            }
            None if exchange.cut == Some(exchange.down) => {
                exchange.ended = Ended::Cut;
                Poll::Ready(Some(Err(CutAnswer.into())))
            }
            None => {
                exchange.ended = Ended::Whole;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Mediator(exchange) => exchange.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Mediator(exchange) => exchange.body.size_hint(),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.ended == Ended::No && self.body.is_end_stream() {
            self.ended = Ended::Whole;
        }
        if self.ended == Ended::Whole
            && let Some(sender) = self.sender.take()
        {
            self.relay.pool.put(sender);
        }
        let Some(mut flow) = self.flow.take() else {
            return;
        };
        flow.bytes(self.upload.bytes(), self.down);
        match self.refusal.get().filter(|error| error.is_in_body()) {
            Some(error) => flow.verdict(Verdict::Refused, &error.to_string()),
            None => match self.ended {
                Ended::Whole => {}
                Ended::Broken => flow.verdict(Verdict::Failed, "mediator_closed"),
                Ended::Cut => flow.verdict(Verdict::Failed, "answer_cut"),
                Ended::No => flow.verdict(Verdict::Failed, "client_closed"),
            },
        }
    }
}
