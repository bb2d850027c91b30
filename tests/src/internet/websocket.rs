//! The WebSocket server, which returns every message.
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::response::{Content, status};

/// Answers the handshake and then serves frames. Calls `count` with the length of each message.
pub(super) fn upgrade(
    request: hyper::Request<Incoming>,
    count: impl Fn(usize) + Send + 'static,
) -> Response<Content> {
    let accept = request
        .headers()
        .get(SEC_WEBSOCKET_KEY)
        .map(|key| derive_accept_key(key.as_bytes()))
        .and_then(|accept| HeaderValue::from_str(&accept).ok());
    let Some(accept) = accept else {
        return status(StatusCode::UPGRADE_REQUIRED);
    };
    tokio::spawn(async move {
        // The client may have closed the connection before the switch.
        let Ok(upgraded) = hyper::upgrade::on(request).await else {
            return;
        };
        let stream = TokioIo::new(upgraded);
        let stream = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        echo(stream, count).await;
    });
    let mut response = Response::new(Content::bytes(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    response
}

async fn echo(
    mut stream: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    count: impl Fn(usize),
) {
    while let Some(Ok(message)) = stream.next().await {
        // Only messages are returned. A mediator sends its own Close.
        if message.is_text() || message.is_binary() {
            count(message.len());
            if stream.send(message).await.is_err() {
                return;
            }
        }
    }
}
