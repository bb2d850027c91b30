//! The mediator's own answers.
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use super::body::MeteredBody;
use super::target::TargetError;

/// Body of an answer.
#[derive(Debug)]
pub(super) enum Payload {
    /// A text of the mediator.
    Text(Full<Bytes>),
    /// The origin's bytes as they arrive.
    Stream(Box<MeteredBody>),
    /// No body, because the connection switches to another protocol.
    Switched,
}

impl Body for Payload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Text(text) => Pin::new(text)
                .poll_frame(context)
                .map_err(|never| match never {}),
            Self::Stream(stream) => Pin::new(stream.as_mut()).poll_frame(context),
            Self::Switched => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_end_stream(),
            Self::Stream(stream) => stream.is_end_stream(),
            Self::Switched => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => text.size_hint(),
            Self::Stream(stream) => stream.size_hint(),
            Self::Switched => SizeHint::with_exact(0),
        }
    }
}

/// A denial: the answer to the client and the content of the receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// HTTP status.
    pub(super) status: StatusCode,
    /// Group of rules that denied the request.
    pub(super) layer: &'static str,
    /// Stable reason word for a header field of the block page.
    pub(super) reason: &'static str,
    /// One line of text. The receipt contains the same text as its pattern.
    pub(super) text: String,
}

impl Refusal {
    /// Creates a denial by the policy, with status 403.
    pub(super) fn forbidden(layer: &'static str, reason: &'static str, text: String) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            layer,
            reason,
            text,
        }
    }

    /// Creates a denial that does not depend on the policy, with `status`.
    pub(super) fn unserved(
        status: StatusCode,
        layer: &'static str,
        reason: &'static str,
        text: String,
    ) -> Self {
        Self {
            status,
            layer,
            reason,
            text,
        }
    }

    /// Creates the denial of a malformed destination.
    pub(super) fn malformed(error: TargetError) -> Self {
        let text = error.to_string();
        Self::unserved(StatusCode::BAD_REQUEST, "target", "malformed_target", text)
    }

    /// Returns the answer to the client, with the reason and the layer in its headers.
    pub(super) fn page(&self) -> Response<Payload> {
        let mut response = text(self.status, &format!("blocked: {}\n", self.text));
        let headers = response.headers_mut();
        headers.insert(BLOCK_REASON, HeaderValue::from_static(self.reason));
        headers.insert(BLOCK_LAYER, HeaderValue::from_static(self.layer));
        response
    }
}

const BLOCK_REASON: HeaderName = HeaderName::from_static("x-pipelock-block-reason");
const BLOCK_LAYER: HeaderName = HeaderName::from_static("x-pipelock-block-reason-layer");

/// Returns the page for every request after a failure to write a receipt.
pub(super) fn emission_failed() -> Response<Payload> {
    Refusal::forbidden(
        "receipt_emission",
        "receipt_emission_failed",
        String::from("receipt_emission_failed"),
    )
    .page()
}

/// Returns a plain text answer.
pub(super) fn text(status: StatusCode, body: &str) -> Response<Payload> {
    with_type(status, "text/plain; charset=utf-8", body)
}

/// Returns a JSON answer.
pub(super) fn json(status: StatusCode, body: &str) -> Response<Payload> {
    with_type(status, "application/json", body)
}

/// Returns an answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Payload> {
    let mut response = Response::new(Payload::Text(Full::new(Bytes::new())));
    *response.status_mut() = status;
    response
}

fn with_type(status: StatusCode, kind: &'static str, body: &str) -> Response<Payload> {
    let mut response = Response::new(Payload::Text(Full::new(Bytes::from(body.to_owned()))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
