//! Bodies of answers on their way to the agent, counted.
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::guard::Refusal;
use super::pool::Link;
use super::report::{Flow, Passed};
use super::state::Relay;
use super::upload::{BodyError, UploadState};

/// The body of an answer to the agent.
#[derive(Debug)]
pub(super) enum Download {
    /// The relay's own words.
    Own(Option<Bytes>),
    /// The mediator's.
    Mediator(Box<Exchange>),
}

/// One request and answer through the mediator.
///
/// It ends with its answer. An upload that goes on then is stopped, and both connections are closed: a body that
/// is sent behind an answer would otherwise pass when its flow has been reported.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) relay: Arc<Relay>,
    pub(super) body: Incoming,
    /// The length at which the mediator cuts a body of unknown length. A body that is exactly this long counts as cut,
    /// because Pipelock 2.x cuts without a notice.
    pub(super) cut: Option<u64>,
    pub(super) link: Option<Link>,
    /// Whether the connection may serve another exchange.
    pub(super) is_kept: bool,
    pub(super) flow: Option<Flow>,
    pub(super) upload: UploadState,
    pub(super) refusal: Refusal,
    pub(super) passed: Arc<Passed>,
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
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let exchange = match self.get_mut() {
            Self::Own(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Mediator(exchange) => exchange,
        };
        loop {
            return match ready!(Pin::new(&mut exchange.body).poll_frame(cx)) {
                // Not passed on. hyper asks for nothing behind them, so the end is looked for here.
                Some(Ok(frame)) if frame.is_trailers() => continue,
                Some(Ok(frame)) => {
                    exchange.passed.down(frame.data_ref().map_or(0, Bytes::len));
                    Poll::Ready(Some(Ok(frame)))
                }
                Some(Err(error)) => {
                    exchange.ended = Ended::Broken;
                    Poll::Ready(Some(Err(error.into())))
                }
                None if exchange.cut == Some(exchange.passed.bytes().1) => {
                    exchange.ended = Ended::Cut;
                    Poll::Ready(Some(Err(CutAnswer.into())))
                }
                None => {
                    exchange.ended = Ended::Whole;
                    Poll::Ready(None)
                }
            };
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
        let is_whole = self.ended == Ended::Whole && self.upload.is_whole();
        // Dropping the link closes its connection.
        if let Some(link) = self.link.take()
            && is_whole
        {
            if self.is_kept {
                self.relay.pool.put(link);
            } else {
                link.detach();
            }
        }
        if !self.upload.is_whole() {
            self.refusal.close();
        }
        let Some(mut flow) = self.flow.take() else {
            return;
        };
        let in_body = self.refusal.get().filter(|error| error.is_in_body());
        match (self.ended, in_body) {
            _ if is_whole => {}
            (_, Some(error)) if !self.upload.is_whole() => flow.broke(&error.to_string()),
            (Ended::Broken, _) => flow.cut("mediator_closed"),
            (Ended::Cut, _) => flow.cut("answer_cut"),
            (Ended::No, _) if self.relay.is_stopping() => flow.cut("stopped"),
            (Ended::No, _) => flow.cut("client_closed"),
            (Ended::Whole, _) if self.upload.is_broken() => flow.cut("client_closed"),
            (Ended::Whole, _) => flow.cut("early_answer"),
        }
    }
}
