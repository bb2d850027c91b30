//! Tests requests in absolute form, and all other requests that are not tunnels.
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::support::{MediatorWorld, PATIENCE, Setup, canned, origin, read_head, shown};

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Origin: yes\r\nKeep-Alive: 5\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\nhello";

#[tokio::test]
async fn a_request_is_forwarded_without_hop_by_hop_fields() {
    let world = MediatorWorld::new();
    let (at, mut heads) = canned(HELLO).await;
    let url = format!("http://Allowed.test:{}/a/b?c=%20d", at.port());
    let answer = world
        .ask(&format!(
            "GET {url} HTTP/1.1\r\nHost: denied.test\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nProxy-Foo: 1\r\nX-Pipelock-Agent: root\r\nVia: 1.1 me\r\nTE: trailers\r\nX-Mine: 1\r\nConnection: close, X-Mine\r\nX-KeepCase: v\r\nCookie: a=b\r\nAccept-Encoding: identity\r\n\r\n"
        ))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.header("x-origin"), Some("yes"));
    assert_eq!(answer.header("x-hop"), None);
    assert_eq!(answer.header("keep-alive"), None);
    let mut lines: Vec<String> = heads
        .recv()
        .await
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(lines.remove(0), "GET /a/b?c=%20d HTTP/1.1");
    lines.retain(|line| !line.is_empty());
    lines.sort();
    let host = format!("Host: Allowed.test:{}", at.port());
    assert_eq!(
        lines,
        [
            "Accept-Encoding: identity",
            "Cookie: a=b",
            host.as_str(),
            "X-KeepCase: v"
        ]
    );
    let evidence = world.stop().await;
    assert_eq!(
        evidence.story(),
        [
            "allow intent",
            "allow outcome outcome status=200 reason=complete"
        ]
    );
    let actions = evidence.actions();
    assert_eq!(actions[0].target, shown(&url));
    assert!(!actions[0].target.contains("%20d"), "{}", actions[0].target);
    assert_eq!(actions[0].transport, "forward");
    assert_eq!(actions[0].method, "GET");
    assert_eq!(actions[1].bytes(), 5);
}

#[tokio::test]
async fn big_bodies_are_byte_exact_both_ways() {
    let world = MediatorWorld::new();
    // The origin sends the request's chunked body back unchanged.
    let at = origin(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(
            head.to_lowercase().contains("transfer-encoding: chunked"),
            "{head}"
        );
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await?;
        let (mut read, mut write) = stream.split();
        // The body is copied chunk by chunk until the last one, because chunks have the same form in both directions.
        let mut tail = Vec::new();
        let mut buffer = vec![0; 65_536];
        while !tail.ends_with(b"\r\n0\r\n\r\n") {
            let count = read.read(&mut buffer).await?;
            write.write_all(&buffer[..count]).await?;
            tail.extend_from_slice(&buffer[..count]);
            tail.drain(..tail.len().saturating_sub(16));
        }
        Ok(())
    })
    .await;
    let body: Vec<u8> = (0..8_000_000_u32)
        .map(|index| u8::try_from(index.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    let stream = world.dial().await;
    let (mut read, mut write) = stream.into_split();
    let sent = body.clone();
    let writer = tokio::spawn(async move {
        let head = format!(
            "POST http://allowed.test:{}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            at.port()
        );
        write.write_all(head.as_bytes()).await.unwrap();
        for chunk in sent.chunks(50_000) {
            write
                .write_all(format!("{:x}\r\n", chunk.len()).as_bytes())
                .await
                .unwrap();
            write.write_all(chunk).await.unwrap();
            write.write_all(b"\r\n").await.unwrap();
        }
        write.write_all(b"0\r\n\r\n").await.unwrap();
        write
    });
    let mut answer = Vec::new();
    timeout(PATIENCE, read.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    writer.await.unwrap();
    let start = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert!(unchunk(&answer[start..]) == body);
    let evidence = world.stop().await;
    let outcome = evidence.actions().pop().unwrap();
    assert_eq!(
        outcome.line(),
        "allow outcome outcome status=200 reason=complete"
    );
    assert_eq!(outcome.bytes(), 16_000_000);
    assert_eq!(outcome.record["action_type"], "write");
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

#[tokio::test]
async fn answers_without_a_body_end_the_action() {
    let world = MediatorWorld::new();
    for (method, answer, status) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", 200),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
            304,
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        // The mediator does not follow redirects.
        (
            "GET",
            "HTTP/1.1 302 Found\r\nLocation: http://denied.test/\r\nContent-Length: 0\r\n\r\n",
            302,
        ),
        ("GET", "HTTP/1.0 200 OK\r\n\r\nuntil the end", 200),
        (
            "GET",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
        ),
    ] {
        let (at, _heads) = canned(answer).await;
        let got = world
            .ask(&format!(
                "{method} http://allowed.test:{}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                at.port()
            ))
            .await;
        assert_eq!(got.status, status, "{answer}");
        let last = world.evidence().actions().pop().unwrap();
        assert_eq!(
            last.line(),
            format!("allow outcome outcome status={status} reason=complete"),
            "{answer}"
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn several_hosts_on_one_connection_are_judged_each() {
    let world = MediatorWorld::new();
    let (at, _heads) = canned(HELLO).await;
    let port = at.port();
    let answer = world
        .ask(&format!(
            "GET http://allowed.test:{port}/1 HTTP/1.1\r\nHost: a\r\n\r\nGET http://denied.test:{port}/2 HTTP/1.1\r\nHost: a\r\n\r\nGET http://allowed.test:{port}/3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ))
        .await;
    let all = format!("{}{}", answer.head, answer.text());
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 2);
    assert_eq!(all.matches("HTTP/1.1 403 Forbidden").count(), 1);
    assert_eq!(
        world.stop().await.story(),
        [
            "allow intent",
            "allow outcome outcome status=200 reason=complete",
            "block allowlist domain not in allowlist: denied.test",
            "allow intent",
            "allow outcome outcome status=200 reason=complete",
        ]
    );
}

#[tokio::test]
async fn other_schemes_and_internal_addresses_are_refused() {
    let world = MediatorWorld::new();
    for (url, layer) in [
        ("https://allowed.test/", "scheme"),
        ("ftp://allowed.test/x", "scheme"),
        ("ws://allowed.test/x", "scheme"),
        ("http://denied.test/", "allowlist"),
        ("http://priv.test/", "ssrf"),
        ("http://meta.test/latest/meta-data/", "ssrf_metadata"),
        ("http://nowhere.test/", "ssrf"),
        ("http://[::1]:1/", ""),
    ] {
        let answer = world.get(url).await;
        let last = world.evidence().actions().pop().unwrap();
        if layer.is_empty() {
            assert_eq!(answer.status, 502, "{url}");
            continue;
        }
        assert_eq!(answer.status, 403, "{url}");
        assert_eq!(
            answer.header("x-pipelock-block-reason-layer"),
            Some(layer),
            "{url}"
        );
        assert_eq!(
            (last.verdict.as_str(), last.layer.as_str()),
            ("block", layer),
            "{url}"
        );
        assert_eq!(last.target, url);
        assert_eq!(answer.text().lines().count(), 1);
    }
    world.stop().await;
}

#[tokio::test]
async fn control_paths_are_taken_literally() {
    let world = MediatorWorld::new();
    let health = world.get("/health").await;
    assert_eq!(health.status, 200);
    let json: serde_json::Value = serde_json::from_str(&health.text()).unwrap();
    assert_eq!(json["status"], "healthy");
    assert_eq!(json["mode"], "strict");
    assert_eq!(json["forward_proxy_enabled"], true);
    assert_eq!(json["kill_switch_active"], false);
    for target in [
        "http:///health",
        "http:/health",
        "https:/health",
        "//health",
        "/%68ealth",
        "/./health",
        "/health/",
        "/metrics",
        "/stats",
        "/api/v1/killswitch",
        "/fetch?url=http://allowed.test/",
        "*",
        "allowed.test",
        "/ws",
        "http://user@allowed.test/",
        "http://:80/",
        "http://127.1/",
        "http://allowed.test:0/",
    ] {
        let answer = world.get(target).await;
        assert!(
            [400, 404].contains(&answer.status),
            "{target}: {}",
            answer.head
        );
        assert!(!answer.text().contains("healthy"), "{target}");
    }
    let evidence = world.stop().await;
    assert!(
        evidence
            .actions()
            .iter()
            .all(|action| action.verdict == "block"),
        "{:?}",
        evidence.story()
    );
}

#[tokio::test]
async fn ambiguous_framing_is_refused() {
    let world = MediatorWorld::new();
    let (at, mut heads) = canned(HELLO).await;
    let port = at.port();
    for headers in [
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        "Host: a\r\nContent-Length: +1\r\n",
        "Host: a\r\nTransfer-Encoding: gzip\r\n",
    ] {
        let answer = world
            .ask(&format!("POST http://allowed.test:{port}/ HTTP/1.1\r\n{headers}Connection: close\r\n\r\n0\r\n\r\n"))
            .await;
        assert_eq!(answer.status, 400, "{headers}");
    }
    assert!(heads.try_recv().is_err());
    assert!(world.stop().await.actions().is_empty());
}

#[tokio::test]
async fn a_url_beyond_the_limit_is_refused_and_its_receipt_short() {
    let world = MediatorWorld::new();
    let answer = world
        .get(&format!("http://allowed.test/{}", "a".repeat(9000)))
        .await;
    assert_eq!(answer.status, 414);
    let evidence = world.stop().await;
    let target = &evidence.actions()[0].target;
    assert!(target.len() < 2_200 && target.ends_with(']'), "{target}");
    assert_eq!(evidence.actions()[0].layer, "length");
}

#[tokio::test]
async fn too_large_a_head_is_refused() {
    let world = MediatorWorld::new();
    let mut stream = world.dial().await;
    let head = format!(
        "GET /health HTTP/1.1\r\nHost: a\r\nX: {}\r\n",
        "a".repeat(140_000)
    );
    // The mediator may close the connection before it has read everything.
    drop(stream.write_all(head.as_bytes()).await);
    let mut answer = Vec::new();
    drop(
        timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap(),
    );
    let text = String::from_utf8_lossy(&answer);
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 431"),
        "{text}"
    );
    world.stop().await;
}

#[tokio::test]
async fn origins_that_fail_are_on_record() {
    let world = MediatorWorld::with(Setup {
        policy: String::from("fetch_proxy: {timeout_seconds: 1, max_response_mb: 1}\n"),
        ..Setup::default()
    });
    let silent = origin(|mut stream| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        Ok(())
    })
    .await;
    let (closing, _) = canned("").await;
    let (short, _) = canned("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345").await;
    let (garbage, _) = canned("SSH-2.0-OpenSSH\r\n").await;
    let (switching, _) =
        canned("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
            .await;
    let (large, _) = canned("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n").await;
    let endless = origin(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        loop {
            stream.write_all(&[b'x'; 65_536]).await?;
        }
    })
    .await;
    for (at, status, line) in [
        (silent, 502, "status=502 reason=timeout"),
        (closing, 502, "status=502 reason=fetch_failed"),
        (switching, 502, "status=502 reason=fetch_failed"),
        (garbage, 502, "status=502 reason=fetch_failed"),
        (large, 502, "status=502 reason=oversized"),
        (short, 200, "status=200 reason=response_read_error"),
        (endless, 200, "status=200 reason=oversized"),
    ] {
        let answer = world
            .get(&format!("http://allowed.test:{}/", at.port()))
            .await;
        assert_eq!(answer.status, status, "{line}");
        let last = world.evidence().actions().pop().unwrap();
        assert_eq!(last.line(), format!("allow outcome outcome {line}"));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_recorded() {
    let world = MediatorWorld::new();
    let at = origin(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        loop {
            stream.write_all(&[b'x'; 65_536]).await?;
        }
    })
    .await;
    let mut stream = world.dial().await;
    let request = format!(
        "GET http://allowed.test:{}/ HTTP/1.1\r\nHost: a\r\n\r\n",
        at.port()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    read_head(&mut stream).await;
    drop(stream);
    world.outcome("client_closed").await;
    world.stop().await;
}
