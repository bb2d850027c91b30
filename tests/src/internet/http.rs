//! The HTTP/1.1 server. Every name of the world has the same site:
//!
//! | path | answer |
//! |---|---|
//! | `/` | `hello from HOST` |
//! | `/bytes/N` | N bytes of a fixed pattern, see [`pattern_sha256`](super::response::pattern_sha256) |
//! | `/chunked/N` | the same bytes in chunks, without a stated length |
//! | `/echo` | the request as the server received it, with the length of its body, as JSON |
//! | `/upload` | length and SHA-256 of the body, as JSON |
//! | `/slow/MS` | an answer after MS milliseconds |
//! | `/status/N` | an answer with the status N |
//! | `/close` | an answer with `Connection: close` |
//! | `/files/…` | a file of the world's `files` directory |
//! | `/git/…` | a repository of the `files` directory, by Git's smart protocol |
//! | `/ws` | a WebSocket that returns every message |
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, LOCATION};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use super::git;
use super::journal::{Journal, Request};
use super::response::{Content, Length, json, status, text};
use super::websocket;

/// State that every HTTP and HTTPS server needs.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) journal: Arc<Journal>,
    pub(crate) files: PathBuf,
}

/// The local port and the TLS name of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) server: SocketAddr,
    pub(crate) sni: Option<String>,
}

/// Serves plain HTTP until the world ends.
pub(crate) async fn listen(listener: TcpListener, site: Site) {
    loop {
        // A client may abort its handshake.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let Ok(server) = stream.local_addr().map(unmapped) else {
            continue;
        };
        drop(stream.set_nodelay(true));
        tokio::spawn(connection(
            stream,
            site.clone(),
            Arrived { server, sni: None },
        ));
    }
}

/// Serves the requests of one connection.
pub(crate) async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    site: Site,
    arrived: Arrived,
) {
    let service = service_fn(|request| answer(request, site.clone(), arrived.clone()));
    let served = http1::Builder::new()
        .preserve_header_case(true)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // Some tests close connections in the middle of a request.
    drop(served.await);
}

/// "hello from a gzip", compressed.
const GZIP: [u8; 38] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57,
    0x48, 0x2b, 0xca, 0xcf, 0x55, 0x48, 0x54, 0x48, 0xaf, 0xca, 0x2c, 0xe0, 0x02, 0x00, 0xf6, 0x60,
    0xd3, 0x78, 0x12, 0x00, 0x00, 0x00,
];

async fn answer(
    request: hyper::Request<Incoming>,
    site: Site,
    arrived: Arrived,
) -> Result<Response<Content>, Infallible> {
    let seen = seen(&request, &arrived);
    site.journal.request(seen.clone());
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let first = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    let number = rest.parse::<u64>().unwrap_or(0);
    let count = |bytes| {
        site.journal
            .receive(seen.host.as_deref().unwrap_or_default(), bytes);
    };
    let response = match first {
        "" => text(format!(
            "hello from {}\n",
            seen.host.as_deref().unwrap_or("nobody")
        )),
        "bytes" => Response::new(Content::pattern(number, Length::Told)),
        "chunked" => Response::new(Content::pattern(number, Length::Chunked)),
        "echo" => {
            let body = drain(request.into_body(), count).await;
            json(&json!({
                "method": seen.method, "target": seen.target, "host": seen.host, "sni": seen.sni,
                "headers": seen.headers, "bytes": body.map(|(length, _)| length),
            }))
        }
        "upload" if matches!(*request.method(), Method::POST | Method::PUT) => {
            match drain(request.into_body(), count).await {
                Some((length, digest)) => json(&json!({ "bytes": length, "sha256": digest })),
                None => status(StatusCode::BAD_REQUEST),
            }
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            text("at last\n".to_owned())
        }
        "status" => status(
            u16::try_from(number)
                .ok()
                .and_then(|code| StatusCode::from_u16(code).ok())
                .unwrap_or(StatusCode::BAD_REQUEST),
        ),
        // The errors of Go's standard library have this form. Pipelock's denials have this form too.
        "go-error" => {
            let mut response = text("blocked\n".to_owned());
            *response.status_mut() = StatusCode::FORBIDDEN;
            for (name, value) in [
                ("content-type", "text/plain; charset=utf-8"),
                ("x-content-type-options", "nosniff"),
            ] {
                let value = http::HeaderValue::from_static(value);
                response.headers_mut().insert(name, value);
            }
            response
        }
        "close" => {
            let mut response = text("bye\n".to_owned());
            response
                .headers_mut()
                .insert(CONNECTION, http::HeaderValue::from_static("close"));
            response
        }
        "gzip" => {
            let mut response = Response::new(Content::bytes(Bytes::from_static(&GZIP)));
            response
                .headers_mut()
                .insert(CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
            response
        }
        "redirect" => {
            let mut response = status(StatusCode::FOUND);
            response
                .headers_mut()
                .insert(LOCATION, http::HeaderValue::from_static("/bytes/3"));
            response
        }
        "files" if !rest.split('/').any(|part| part == "..") => {
            // The answer for a directory is its index page.
            let is_page = rest.ends_with('/');
            let name = if is_page { "index.html" } else { "" };
            match std::fs::read(site.files.join(format!("{rest}{name}"))) {
                Ok(bytes) if is_page => {
                    let mut response = Response::new(Content::bytes(bytes.into()));
                    let html = http::HeaderValue::from_static("text/html");
                    response.headers_mut().insert(CONTENT_TYPE, html);
                    response
                }
                Ok(bytes) => Response::new(Content::bytes(bytes.into())),
                Err(_) => status(StatusCode::NOT_FOUND),
            }
        }
        "git" => git::answer(request, site.files.clone(), rest.to_owned()).await,
        "ws" => {
            let (journal, host) = (Arc::clone(&site.journal), seen.host.unwrap_or_default());
            websocket::upgrade(request, move |bytes| journal.receive(&host, bytes))
        }
        _ => status(StatusCode::NOT_FOUND),
    };
    Ok(response)
}

fn seen(request: &hyper::Request<Incoming>, arrived: &Arrived) -> Request {
    let lossy = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Request {
        server: arrived.server,
        sni: arrived.sni.clone(),
        method: request.method().to_string(),
        target: request.uri().to_string(),
        host: request.headers().get(HOST).map(lossy),
        headers: request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), lossy(value)))
            .collect(),
    }
}

/// Reads a body to its end, and returns its length and its digest, or `None` if the body ended early.
async fn drain(mut body: Incoming, count: impl Fn(usize)) -> Option<(u64, String)> {
    let mut length = 0;
    let mut digest = Sha256::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.ok()?.data_ref() {
            count(data.len());
            length += data.len() as u64;
            digest.update(data);
        }
    }
    Some((length, hex::encode(digest.finalize())))
}

/// Returns `::ffff:a.b.c.d` as `a.b.c.d`.
pub(super) fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
