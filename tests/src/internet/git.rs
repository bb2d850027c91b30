//! Git's smart protocol over HTTP. `git http-backend` serves the repositories of the world's `files` directory.
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Stdio;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};

use super::response::{Content, status};
use crate::command::program;

/// Answers a request for `path`, which is relative to `files`.
pub(super) async fn answer(
    request: Request<Incoming>,
    files: PathBuf,
    path: String,
) -> Response<Content> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return status(StatusCode::BAD_REQUEST);
    };
    let body = body.to_bytes();
    let header = |name: &str| {
        let value = head.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    };
    let mut command = program("git");
    command
        // A clone that falls back to plain files fails.
        .args(["-c", "http.getanyfile=false", "http-backend"])
        .env("GIT_PROJECT_ROOT", files)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("/{path}"))
        .env("REQUEST_METHOD", head.method.as_str())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header(CONTENT_TYPE.as_str()))
        .env("HTTP_CONTENT_ENCODING", header(CONTENT_ENCODING.as_str()))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let output = tokio::task::spawn_blocking(move || -> io::Result<Vec<u8>> {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&body)?;
        }
        Ok(child.wait_with_output()?.stdout)
    });
    let output = output.await.ok().and_then(Result::ok);
    output
        .and_then(|output| parse(&output))
        .unwrap_or_else(|| status(StatusCode::INTERNAL_SERVER_ERROR))
}

/// Parses the answer from a CGI program (RFC 3875, section 6).
fn parse(output: &[u8]) -> Option<Response<Content>> {
    const END: &[u8] = b"\r\n\r\n";
    let end = output.windows(END.len()).position(|bytes| bytes == END)?;
    let head = std::str::from_utf8(output.get(..end)?).ok()?;
    let body = Bytes::copy_from_slice(output.get(end + END.len()..)?);
    let mut response = Response::builder();
    for line in head.lines() {
        let (name, value) = line.split_once(": ")?;
        response = if name == "Status" {
            response.status(value.split(' ').next()?)
        } else {
            response.header(name, value)
        };
    }
    response.body(Content::bytes(body)).ok()
}
