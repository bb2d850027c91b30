//! Tests the WebSocket endpoint `/ws`.
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{MediatorWorld, canned, origin, read_head, shown};

fn request(url: &str) -> String {
    format!(
        "GET /ws?url={url} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\nCookie: a=b\r\nX-Pipelock-Agent: x\r\n\r\n"
    )
}

#[tokio::test]
async fn a_handshake_and_its_frames_go_through() {
    let world = MediatorWorld::new();
    let at = origin(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{head}");
        for line in ["Sec-WebSocket-Protocol: chat", "Cookie: a=b", "Upgrade: websocket"] {
            assert!(head.contains(line), "{head}");
        }
        assert!(!head.to_lowercase().contains("pipelock"), "{head}");
        // The first frame arrives together with the head.
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n\x81\x02hi")
            .await?;
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await?;
        write.shutdown().await
    })
    .await;
    let mut stream = world.dial().await;
    let url = format!("ws%3A%2F%2Fallowed.test%3A{}%2Fchat%3Froom%3D1", at.port());
    stream.write_all(request(&url).as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(
        head.to_lowercase()
            .contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    assert!(
        head.to_lowercase().contains("sec-websocket-protocol: chat"),
        "{head}"
    );
    stream.write_all(b"\x81\x85abcdefghi").await.unwrap();
    let mut frames = [0; 15];
    stream.read_exact(&mut frames).await.unwrap();
    assert_eq!(&frames, b"\x81\x02hi\x81\x85abcdefghi");
    drop(stream);
    world.outcome("complete").await;
    let evidence = world.stop().await;
    assert_eq!(
        evidence.story(),
        [
            "allow intent",
            "allow outcome outcome status=101 reason=complete"
        ]
    );
    let action = &evidence.actions()[1];
    assert_eq!(action.transport, "websocket");
    assert_eq!(action.method, "WS");
    assert_eq!(
        action.target,
        shown(&format!("ws://allowed.test:{}/chat?room=1", at.port()))
    );
    assert_eq!(action.bytes(), 4 + 11 + 11);
}

#[tokio::test]
async fn the_129th_websocket_is_denied_until_another_one_ends() {
    /// The default of `websocket_proxy.max_concurrent_connections`.
    const MOST: usize = 128;
    let world = MediatorWorld::new();
    let at = origin(|mut stream| async move {
        read_head(&mut stream).await;
        let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        stream.write_all(switched.as_bytes()).await?;
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await?;
        write.shutdown().await
    })
    .await;
    let url = format!("ws%3A%2F%2Fallowed.test%3A{}%2F", at.port());
    let open = async || {
        let mut stream = world.dial().await;
        stream.write_all(request(&url).as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        (head, stream)
    };
    let mut streams = Vec::new();
    for number in 1..=MOST {
        let (head, stream) = open().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{number}: {head}");
        streams.push(stream);
    }
    // The control: the last one that was admitted carries frames, while all are open.
    let last = streams.last_mut().unwrap();
    last.write_all(b"\x81\x85abcdefghi").await.unwrap();
    let mut frame = [0; 11];
    last.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame, b"\x81\x85abcdefghi");
    let (head, _) = open().await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("too_many_websockets"), "{head}");

    // The end of one makes room for another one.
    drop(streams.pop());
    world.outcome("complete").await;
    let (head, _stream) = open().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let story = world.stop().await.story();
    let denied: Vec<&String> = story
        .iter()
        .filter(|line| line.starts_with("block"))
        .collect();
    assert_eq!(
        denied,
        ["block capacity too many active websocket connections"]
    );
    let admitted = story.iter().filter(|line| *line == "allow intent").count();
    assert_eq!(admitted, MOST + 1);
}

#[tokio::test]
async fn every_request_to_an_origin_has_a_target() {
    let world = MediatorWorld::new();
    let at = origin(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let line = head.lines().next().unwrap();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}",
            line.len()
        );
        stream.write_all(answer.as_bytes()).await
    })
    .await;
    for (rest, line) in [
        ("", "GET / HTTP/1.1"),
        ("#x", "GET / HTTP/1.1"),
        ("/#x", "GET / HTTP/1.1"),
        ("?q", "GET /?q HTTP/1.1"),
        ("?q#x", "GET /?q HTTP/1.1"),
        ("?", "GET /? HTTP/1.1"),
    ] {
        let escaped = rest.replace('#', "%23").replace('?', "%3F");
        let url = format!("ws%3A%2F%2Fallowed.test%3A{}{escaped}", at.port());
        let mut asked = request(&url);
        asked = asked.replace("keep-alive, Upgrade", "close, Upgrade");
        let answer = world.ask(&asked).await;
        assert_eq!(answer.text(), line, "{rest}");
        let answer = world
            .get(&format!("http://allowed.test:{}{rest}", at.port()))
            .await;
        assert_eq!(answer.text(), line, "{rest}");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_answer_of_an_origin_that_does_not_switch_is_forwarded() {
    let world = MediatorWorld::new();
    let (at, _heads) = canned("HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nnope").await;
    let request = request(&format!("ws://allowed.test:{}/", at.port()))
        .replace("keep-alive, Upgrade", "close, Upgrade");
    let answer = world.ask(&request).await;
    assert_eq!((answer.status, answer.text().as_str()), (401, "nope"));
    assert_eq!(
        world.stop().await.story(),
        [
            "allow intent",
            "allow outcome outcome status=401 reason=complete"
        ]
    );
}

#[tokio::test]
async fn denials_and_faults_are_distinguished() {
    let world = MediatorWorld::new();
    let close = |text: String| text.replace("keep-alive, Upgrade", "close, Upgrade");
    for (url, layer) in [
        ("ws://denied.test/x", "allowlist"),
        ("ws://priv.test/x", "ssrf"),
        ("wss://allowed.test/x", "scheme"),
    ] {
        let answer = world.ask(&close(request(url))).await;
        assert_eq!(answer.status, 403, "{url}");
        let last = world.evidence().actions().pop().unwrap();
        assert_eq!((last.layer.as_str(), last.target.as_str()), (layer, url));
    }
    for url in [
        "",
        "http://allowed.test/",
        "/x",
        "ws://",
        "ws://u@allowed.test/",
        "ws://allowed.test/&url=ws://denied.test/",
    ] {
        let answer = world.ask(&close(request(url))).await;
        assert_eq!(answer.status, 400, "{url}");
    }
    let plain = "GET /ws?url=ws://allowed.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(world.ask(plain).await.status, 400);
    let failed = world.ask(&close(request("ws://closed.test:1/"))).await;
    assert_eq!(failed.status, 502);
    let evidence = world.stop().await;
    // A malformed destination has a receipt as well.
    assert_eq!(evidence.actions().len(), 3 + 1 + 2);
    assert_eq!(
        evidence.story().pop().unwrap(),
        "allow outcome outcome status=502 reason=upstream_dial_failed"
    );
}

#[tokio::test]
async fn a_url_without_a_path_is_asked_for_as_the_root() {
    let world = MediatorWorld::new();
    for (rest, line) in [
        ("", "GET / HTTP/1.1"),
        ("%23part", "GET / HTTP/1.1"),
        ("%3Fa%3Db", "GET /?a=b HTTP/1.1"),
    ] {
        let (at, mut heads) = canned("HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n").await;
        let request = request(&format!("ws://allowed.test:{}{rest}", at.port()))
            .replace("keep-alive, Upgrade", "close, Upgrade");
        assert_eq!(world.ask(&request).await.status, 401, "{rest}");
        let head = heads.recv().await.unwrap();
        assert_eq!(head.lines().next(), Some(line), "{rest}");
    }
    let (at, mut heads) = canned("HTTP/1.1 204 X\r\n\r\n").await;
    world
        .get(&format!("http://allowed.test:{}?a=b", at.port()))
        .await;
    let head = heads.recv().await.unwrap();
    assert_eq!(head.lines().next(), Some("GET /?a=b HTTP/1.1"));
    world.stop().await;
}
