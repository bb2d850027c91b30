//! Passes the bodies of answers to the command, and counts their bytes.
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

/// The body of an answer to the command.
#[derive(Debug)]
pub(super) enum Download {
    /// A text that the relay wrote.
    Own(Option<Bytes>),
    /// The body of the mediator's answer.
    Mediator(Box<Exchange>),
}

/// One request and its answer through the mediator.
///
/// The exchange ends with the answer. If the upload is not complete by then, the relay stops the upload and closes both
/// connections. If the upload continued, its rest would pass after the flow was reported.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) relay: Arc<Relay>,
    pub(super) body: Incoming,
    /// The length at which the mediator truncates a body of unknown length. A body of exactly this
    /// length is treated as truncated, because Pipelock 2.x does not report that it truncated a
    /// body.
    pub(super) cut: Option<u64>,
    pub(super) link: Option<Link>,
    /// Whether the connection may serve another exchange.
    pub(super) is_kept: bool,
    pub(super) flow: Option<Flow>,
    pub(super) upload: UploadState,
    pub(super) refusal: Refusal,
    pub(super) passed: Arc<Passed>,
    pub(super) ended: AnswerEnd,
}

/// How the body of an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerEnd {
    /// The body has not ended yet.
    No,
    /// The body was passed on completely.
    Whole,
    /// The connection to the mediator failed before the end of the body.
    Broken,
    /// The mediator truncated the body.
    Cut,
}

/// The mediator truncated the answer. This error keeps the command from taking the truncated answer
/// for a complete one.
#[derive(Debug, thiserror::Error)]
#[error("the mediator truncated the answer")]
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
                // Trailers are not passed on. hyper does not poll again after them, so the loop continues to the end.
                Some(Ok(frame)) if frame.is_trailers() => continue,
                Some(Ok(frame)) => {
                    exchange.passed.down(frame.data_ref().map_or(0, Bytes::len));
                    Poll::Ready(Some(Ok(frame)))
                }
                Some(Err(error)) => {
                    exchange.ended = AnswerEnd::Broken;
                    Poll::Ready(Some(Err(error.into())))
                }
                None if exchange.cut == Some(exchange.passed.bytes().1) => {
                    exchange.ended = AnswerEnd::Cut;
                    Poll::Ready(Some(Err(CutAnswer.into())))
                }
                None => {
                    exchange.ended = AnswerEnd::Whole;
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
        if self.ended == AnswerEnd::No && self.body.is_end_stream() {
            self.ended = AnswerEnd::Whole;
        }
        let is_whole = self.ended == AnswerEnd::Whole && self.upload.is_whole();
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
            (AnswerEnd::Broken, _) => flow.cut("mediator_closed"),
            (AnswerEnd::Cut, _) => flow.cut("answer_cut"),
            (AnswerEnd::No, _) if self.relay.is_stopping() => flow.cut("stopped"),
            (AnswerEnd::No, _) => flow.cut("client_closed"),
            (AnswerEnd::Whole, _) if self.upload.is_broken() => flow.cut("client_closed"),
            (AnswerEnd::Whole, _) => flow.cut("early_answer"),
        }
    }
}
