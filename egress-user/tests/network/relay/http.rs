//! Tests redirected HTTP/1.1.
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::mediator::MARK;
use super::world::{PATIENCE, RelayWorld, exchange, pattern, read_answer, read_to_end, short};

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Claims: request-sent*, crate-relay*
#[tokio::test]
async fn a_request_goes_on_in_absolute_form_and_is_reported() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect("a.test", 80).await;
    let request = "GET /x?y=1 HTTP/1.1\r\nHost: A.test\r\nAccept-Encoding: gzip\r\nCookie: c\r\n\
        Proxy-Connection: keep-alive\r\nX-Pipelock-Agent: z\r\nConnection: keep-alive\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let (head, body) = read_answer(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(body, b"GET http://a.test/x?y=1 HTTP/1.1\n");
    let flow = world.flow().await;
    assert_eq!(short(&flow), "http a.test forwarded");
    let shown =
        egress_policy::redact::target("http://a.test/x?y=1", &egress_policy::redact::Key::new("k"));
    assert_eq!(flow.target, Some(format!("GET {shown}")));
    assert!(!shown.contains("y=1"), "{shown}");
    assert_eq!(flow.target_bytes, "GET http://a.test/x?y=1".len() as u64);
    assert_eq!(flow.transport.as_deref(), Some("forward"));
    assert_eq!((flow.status, flow.port), (Some(200), Some(80)));
    assert_eq!((flow.cookie, flow.connect_ns), (100, 1));
    assert_eq!(
        flow.orig_dst.map(|to| to.to_string()).as_deref(),
        Some("198.18.0.1:80")
    );
    assert_eq!(flow.bytes_down, body.len() as u64);
    let mut lines: Vec<String> = world.mediator.heads()[0]
        .lines()
        .map(str::to_ascii_lowercase)
        .collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "",
            "accept-encoding: identity",
            "cookie: c",
            "get http://a.test/x?y=1 http/1.1",
            "host: a.test"
        ]
    );
}

/// Claims: request-judged*
#[tokio::test]
async fn every_request_of_a_connection_is_judged_by_itself() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect("a.test", 80).await;
    // Three pipelined requests name the connection's host, another host, and the connection's host again. A denial does
    // not close the connection.
    let requests = [
        get("a.test", "/1"),
        get("b.test", "/2"),
        get("a.test", "/403"),
        get("a.test:80", "/3"),
        get("a.test:443", "/4"),
    ];
    client
        .write_all(requests.concat().as_bytes())
        .await
        .unwrap();
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(
            read_answer(&mut client)
                .await
                .0
                .split(' ')
                .nth(1)
                .unwrap()
                .to_owned(),
        );
    }
    assert_eq!(statuses, ["200", "403", "403", "200", "403"]);
    let mut flows = Vec::new();
    for _ in 0..5 {
        flows.push(world.short().await);
    }
    assert_eq!(
        flows,
        [
            "http a.test forwarded",
            "http a.test refused name_mismatch",
            "http a.test forwarded",
            "http a.test forwarded",
            "http a.test refused name_mismatch"
        ]
    );
    assert_eq!(world.mediator.lines().len(), 3);
}

#[tokio::test]
async fn a_block_page_reaches_the_client_whole() {
    // The built-in mediator marks its denials. An answer without a mark may come from an origin.
    for (mark, expected, claimed) in [
        (Some(MARK), "blocked allowlist:parse_error", None),
        (None, "answered answered_403", Some("allowlist:parse_error")),
        (Some("another"), "forwarded", None),
    ] {
        let mut world = RelayWorld::with(|config| config.mark = mark.map(str::to_owned)).await;
        let mut client = world.connect("blocked.test", 80).await;
        client
            .write_all(get("blocked.test", "/").as_bytes())
            .await
            .unwrap();
        let (head, body) = read_answer(&mut client).await;
        assert!(
            head.starts_with("HTTP/1.1 403")
                && head.contains("x-pipelock-block-reason-layer: allowlist")
        );
        assert!(!head.contains("x-egress-mediator"), "{head}");
        assert_eq!(body, b"blocked\n");
        let flow = world.flow().await;
        assert_eq!(short(&flow), format!("http blocked.test {expected}"));
        assert_eq!(flow.claimed.as_deref(), claimed);
        assert_eq!((flow.status, flow.bytes_down), (Some(403), 8));
    }
}

#[tokio::test]
async fn smuggled_heads_are_denied_and_never_forwarded() {
    let cases: [(&str, &str); 11] = [
        ("GET / HTTP/1.1\nHost: a.test\n\n", "bare_lf"),
        (
            "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
            "two_hosts",
        ),
        ("GET / HTTP/1.1\r\n\r\n", "no_host"),
        (
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            "two_lengths",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "length_and_transfer_encoding",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\r\n b\r\n\r\n",
            "obs_fold",
        ),
        ("GET / HTTP/1.1\r\nHost : a.test\r\n\r\n", "malformed_head"),
        (
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: \0\r\n\r\n",
            "control_byte",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "not_tls_or_http"),
        (
            "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n",
            "connect_not_to_proxy",
        ),
        (
            "GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "name_mismatch",
        ),
    ];
    for (request, reason) in cases {
        let mut world = RelayWorld::new().await;
        let mut client = world.connect("a.test", 80).await;
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let answer = String::from_utf8(read_to_end(&mut client).await).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 4") && answer.contains(reason),
            "{request:?}: {answer}"
        );
        let flow = world.flow().await;
        assert_eq!(
            (flow.verdict.as_str(), flow.reason.as_str()),
            ("refused", reason),
            "{request:?}"
        );
        assert_eq!(flow.host.as_deref(), Some("a.test"));
        assert_eq!(world.mediator.lines(), [""; 0], "{request:?}");
        let (_, rest) = world.stop().await;
        assert_eq!(rest, []);
    }
}

/// Claims: http2-offers*
#[tokio::test]
async fn an_offer_of_http2_is_ignored() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect("a.test", 80).await;
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n";
    let request = format!("POST / HTTP/1.1\r\nHost: a.test\r\n{offer}Content-Length: 3\r\n\r\nabc");
    // The connection can still be used.
    for _ in 0..2 {
        client.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = read_answer(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, b"POST http://a.test/ HTTP/1.1\nabc");
        assert_eq!(world.short().await, "http a.test forwarded");
    }
}

#[tokio::test]
async fn a_bad_request_behind_a_good_one_gets_its_own_answer() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect("a.test", 80).await;
    let both = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\nHost: b.test\n\n";
    let answer = String::from_utf8(exchange(&mut client, both.as_bytes()).await).unwrap();
    assert!(
        answer.contains("POST http://a.test/ HTTP/1.1\nabc"),
        "{answer}"
    );
    assert!(
        answer.contains("HTTP/1.1 400") && answer.contains("bare_lf"),
        "{answer}"
    );
    assert_eq!(world.short().await, "http a.test forwarded");
    assert_eq!(world.short().await, "http a.test refused bare_lf");
    assert_eq!(world.mediator.lines(), ["POST http://a.test/ HTTP/1.1"]);
}

#[tokio::test]
async fn a_bad_chunk_ends_the_request() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect("a.test", 80).await;
    let request = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let answer = String::from_utf8(exchange(&mut client, request.as_bytes()).await).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("trailer_fields"),
        "{answer}"
    );
    assert_eq!(world.short().await, "http a.test failed trailer_fields");
    let (_, rest) = world.stop().await;
    assert_eq!(rest, []);
}

#[tokio::test]
async fn bodies_arrive_whole_however_they_are_framed() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect("a.test", 80).await;
    let chunked = "POST /c HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
    for piece in chunked.as_bytes().chunks(7) {
        client.write_all(piece).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(
        read_answer(&mut client).await.1,
        b"POST http://a.test/c HTTP/1.1\nabcdefg"
    );
    let expecting =
        "PUT /e HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(expecting.as_bytes()).await.unwrap();
    let (head, _) = read_answer(&mut client).await;
    assert_eq!(head, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"wxyz").await.unwrap();
    assert_eq!(
        read_answer(&mut client).await.1,
        b"PUT http://a.test/e HTTP/1.1\nwxyz"
    );
    client
        .write_all(b"HEAD /h HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    let mut head = [0; 15];
    client.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    for _ in 0..3 {
        assert_eq!(world.short().await, "http a.test forwarded");
    }
    let mut client = world.connect("a.test", 80).await;
    let answer = exchange(
        &mut client,
        b"GET /chunked HTTP/1.0\r\nHost: a.test\r\n\r\n",
    )
    .await;
    assert!(
        answer.ends_with(b"\r\n\r\nhello world"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let mut client = world.connect("a.test", 80).await;
    let request = "GET /until-close HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let answer = exchange(&mut client, request.as_bytes()).await;
    assert!(
        answer.ends_with(b"5\r\nhello\r\n0\r\n\r\n"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn a_client_that_closed_its_half_still_gets_its_answer() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect("a.test", 80).await;
    client
        .write_all(get("a.test", "/bytes/3000000").as_bytes())
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    let answer = read_to_end(&mut client).await;
    assert!(answer.ends_with(&pattern(3_000_000, 0)));
    assert_eq!(world.flow().await.bytes_down, 3_000_000);
}

#[tokio::test]
async fn a_large_download_is_exact() {
    const SIZE: usize = 64 << 20;
    let mut world = RelayWorld::new().await;
    let mut client = world.connect("a.test", 80).await;
    client
        .write_all(get("a.test", &format!("/bytes/{SIZE}")).as_bytes())
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let mut room = vec![0; 1 << 20];
    let mut at = 0;
    while at < SIZE {
        let read = timeout(PATIENCE, client.read(&mut room))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(room[..read], pattern(read, at), "at {at}");
        at += read;
    }
    assert_eq!(world.flow().await.bytes_down, SIZE as u64);
}

#[tokio::test]
async fn ports_and_unknown_addresses_are_denied_before_the_mediator() {
    let mut world = RelayWorld::new().await;
    let mut client = world.connect("a.test", 81).await;
    let answer = exchange(&mut client, get("a.test:81", "/").as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 403 "));
    assert_eq!(world.short().await, "http a.test refused port_not_allowed");
    let mut client = world.connect_to("198.19.7.7:80".parse().unwrap()).await;
    let answer = exchange(&mut client, get("a.test", "/").as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 403 "));
    assert_eq!(world.short().await, "http - refused unknown_synthetic");
    for (first, expected) in [
        (&b"SSH-2.0-x\r\n"[..], "ssh a.test refused port_not_allowed"),
        (b"", "client_silent a.test refused port_not_allowed"),
    ] {
        let mut client = world.connect("a.test", 22).await;
        assert_eq!(exchange(&mut client, first).await, b"");
        assert_eq!(world.short().await, expected);
    }
    assert_eq!(world.mediator.lines(), [""; 0]);
}

#[tokio::test]
async fn other_protocols_are_denied_by_their_label() {
    let mut world = RelayWorld::new().await;
    for (first, expected) in [
        (
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            "ssh a.test refused not_tls_or_http",
        ),
        (b"EHLO me\r\n", "smtp a.test refused not_tls_or_http"),
        (b"\x00\x01\x02", "raw a.test refused not_tls_or_http"),
        (b"", "client_silent a.test refused client_silent"),
        (b"GE", "client_silent a.test refused client_silent"),
    ] {
        let mut client = world.connect("a.test", 80).await;
        assert_eq!(exchange(&mut client, first).await, b"");
        assert_eq!(world.short().await, expected);
    }
    drop(world.connect("a.test", 80).await);
    assert_eq!(world.short().await, "empty a.test failed client_closed");
    assert_eq!(world.mediator.lines(), [""; 0]);
}

#[tokio::test]
async fn literal_destinations_are_judged_as_literals() {
    let mut world = RelayWorld::new().await;
    for (to, host, expected) in [
        ("192.0.2.7:80", "192.0.2.7", "http 192.0.2.7 forwarded"),
        (
            "192.0.2.7:80",
            "a.test",
            "http 192.0.2.7 refused name_mismatch",
        ),
        (
            "[2001:db8::7]:8080",
            "[2001:DB8::7]:8080",
            "http 2001:db8::7 forwarded",
        ),
    ] {
        let mut client = world.connect_to(to.parse().unwrap()).await;
        client.write_all(get(host, "/").as_bytes()).await.unwrap();
        read_answer(&mut client).await;
        assert_eq!(world.short().await, expected);
    }
    assert_eq!(
        world.mediator.lines(),
        [
            "GET http://192.0.2.7/ HTTP/1.1",
            "GET http://[2001:db8::7]:8080/ HTTP/1.1"
        ]
    );
    // A synthetic address in place of a host name stands for the host name.
    let ip = world.resolve("a.test").await;
    let mut client = world.connect_to(SocketAddr::new(ip, 80)).await;
    client
        .write_all(get(&ip.to_string(), "/s").as_bytes())
        .await
        .unwrap();
    assert_eq!(
        read_answer(&mut client).await.1,
        b"GET http://a.test/s HTTP/1.1\n"
    );
}

/// Claims: slot-once, slot-required*
#[tokio::test]
async fn a_slot_serves_one_connection() {
    let mut world = RelayWorld::new().await;
    let ip = world.resolve("a.test").await;
    let slot = world.slot(SocketAddr::new(ip, 80), egress_common::abi::SLOT_REDIRECTED);
    let mut first = world.dial(world.transparent_v4, slot).await;
    first
        .write_all(get("a.test", "/").as_bytes())
        .await
        .unwrap();
    read_answer(&mut first).await;
    assert_eq!(world.short().await, "http a.test forwarded");
    for (listener, kind) in [
        (world.transparent_v4, egress_common::abi::SLOT_LOCAL),
        (world.transparent_v4, egress_common::abi::SLOT_PROXY),
        (world.proxy, egress_common::abi::SLOT_LOCAL),
        (world.proxy, egress_common::abi::SLOT_REDIRECTED),
    ] {
        let mut slot = slot;
        slot.kind = kind;
        let mut client = world.dial(listener, slot).await;
        assert_eq!(read_to_end(&mut client).await, b"");
        assert_eq!(world.short().await, "raw - refused no_slot");
    }
}

#[tokio::test]
async fn a_connection_reset_before_it_is_served_is_reported_and_consumes_nothing() {
    let mut world = RelayWorld::new().await;
    let to = "198.18.0.1:80".parse().unwrap();
    let slot = world.slot(to, egress_common::abi::SLOT_REDIRECTED);
    // These calls block the thread, so the relay does not run before the reset.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    world.slots.set(egress_relay::SlotTable::V4, port, slot);
    socket.connect(&world.transparent_v4.into()).unwrap();
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
    let flow = world.flow().await;
    assert_eq!(short(&flow), "raw - failed reset");
    assert_eq!(flow.cookie, slot.cookie);
}

#[tokio::test]
async fn five_hundred_connections_are_served_at_once() {
    let mut world = RelayWorld::with(|config| config.limits.first_bytes = PATIENCE).await;
    let mut clients = Vec::new();
    for _ in 0..500 {
        clients.push(world.connect("a.test", 80).await);
    }
    for client in &mut clients {
        client
            .write_all(get("a.test", "/").as_bytes())
            .await
            .unwrap();
    }
    let reports = tokio::spawn(async move {
        for _ in 0..500 {
            assert_eq!(world.short().await, "http a.test forwarded");
        }
        world
    });
    for client in &mut clients {
        assert!(read_answer(client).await.0.starts_with("HTTP/1.1 200"));
    }
    let world = reports.await.unwrap();
    // When the relay stops, idle keep-alive connections end without a report.
    let (_, rest) = world.stop().await;
    assert_eq!(rest, []);
}

#[tokio::test]
async fn beyond_the_limit_connections_wait() {
    let world = RelayWorld::with(|config| config.limits.connections = 6).await;
    // Each of the 4 listening sockets takes one of the places while it waits, so 2 places are left.
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = world.connect("a.test", 80).await;
        client
            .write_all(get("a.test", "/").as_bytes())
            .await
            .unwrap();
        clients.push(client);
    }
    let mut world = world;
    for _ in 0..3 {
        assert_eq!(world.short().await, "http a.test forwarded");
    }
    let mut last = clients.pop().unwrap();
    assert!(
        timeout(Duration::from_millis(200), last.read_u8())
            .await
            .is_err(),
        "served at once"
    );
    clients.clear();
    assert!(read_answer(&mut last).await.0.starts_with("HTTP/1.1 200"));
}
