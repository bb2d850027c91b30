//! Tests tunnels through the built-in mediator.
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::support::{MediatorWorld, PATIENCE, Setup, echo, origin, read_head};
use egress_test_support::client_hello::hello;

/// Claims: crate-mediator*
#[tokio::test]
async fn an_allowed_tunnel_carries_bytes_between_intent_and_outcome() {
    let world = MediatorWorld::new();
    let port = echo().await.port();
    let mut tunnel = world.tunnel(&format!("Allowed.TEST.:{port}")).await;
    let before = world.evidence().story();
    assert_eq!(before, ["allow intent"]);
    let hello = hello("allowed.test");
    tunnel.write_all(&hello).await.unwrap();
    let mut back = vec![0; hello.len()];
    tunnel.read_exact(&mut back).await.unwrap();
    assert_eq!(back, hello);
    drop(tunnel);
    world.outcome("complete").await;
    let policy_hash = world.policy_hash.clone();
    let evidence = world.stop().await;
    assert_eq!(
        evidence.story(),
        [
            "allow intent",
            "allow outcome outcome status=200 reason=complete"
        ]
    );
    let actions = evidence.actions();
    assert_eq!(actions[0].action_id, actions[1].action_id);
    assert_eq!(actions[1].bytes(), 2 * u64::try_from(hello.len()).unwrap());
    for action in &actions {
        assert_eq!(action.target, format!("https://allowed.test:{port}/"));
        assert_eq!(action.transport, "connect");
        assert_eq!(action.method, "CONNECT");
        assert_eq!(action.record["actor"], "ci-agent");
        assert_eq!(action.record["action_type"], "read");
        assert_eq!(action.record["policy_hash"], policy_hash.as_str());
        assert_eq!(action.record["request_id"], "req-1");
    }
    let control: Vec<&str> = evidence
        .receipts
        .iter()
        .filter(|receipt| receipt.transport == "receipt_session")
        .map(|receipt| receipt.target.as_str())
        .collect();
    assert_eq!(
        control,
        ["pipelock://session/open", "pipelock://session/close"]
    );
    assert_eq!(evidence.receipts[0].record["actor"], "pipelock");
}

/// Claims: crate-mediator
#[tokio::test]
async fn a_denied_tunnel_has_a_receipt_and_makes_no_connection() {
    let world = MediatorWorld::new();
    let port = echo().await.port();
    for host in [
        "denied.test",
        "notwild.test",
        "allowed.test.evil.test",
        "127.0.0.3",
        "localhost",
    ] {
        let answer = world
            .ask(&format!(
                "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert_eq!(answer.status, 403, "{host}");
        assert_eq!(
            answer.text(),
            format!("blocked: domain not in allowlist: {host}\n")
        );
        assert_eq!(
            answer.header("x-pipelock-block-reason"),
            Some("not_in_allowlist")
        );
        assert_eq!(
            answer.header("x-pipelock-block-reason-layer"),
            Some("allowlist")
        );
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        let last = world.evidence().actions().pop().unwrap();
        assert_eq!(
            last.line(),
            format!("block allowlist domain not in allowlist: {host}")
        );
        assert_eq!(last.target, format!("https://{host}:{port}/"));
    }
    world.stop().await;
}

/// Claims: addresses-judged*
#[tokio::test]
async fn addresses_of_the_runners_side_are_refused() {
    let world = MediatorWorld::new();
    for (host, layer) in [
        ("loop.test", "ssrf"),
        ("priv.test", "ssrf"),
        ("mapped.test", "ssrf"),
        ("mixed.test", "ssrf"),
        ("10.0.0.1", "ssrf"),
        ("meta.test", "ssrf_metadata"),
        ("169.254.169.254", "ssrf_metadata"),
        ("nowhere.test", "ssrf"),
    ] {
        let answer = world
            .ask(&format!(
                "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert_eq!(answer.status, 403, "{host}");
        assert_eq!(
            answer.header("x-pipelock-block-reason-layer"),
            Some(layer),
            "{host}"
        );
        let last = world.evidence().actions().pop().unwrap();
        assert_eq!(
            (last.verdict.as_str(), last.layer.as_str()),
            ("block", layer)
        );
        assert!(last.phase.is_empty());
    }
    world.stop().await;
}

#[tokio::test]
async fn the_exception_for_metadata_does_not_exist() {
    let world = MediatorWorld::with(Setup {
        policy: String::from(
            "ssrf: {ip_allowlist: ['0.0.0.0/0', '::/0']}\ntrusted_domains: ['*.test']\n",
        ),
        ..Setup::default()
    });
    for host in ["meta.test", "169.254.169.254", "[::ffff:169.254.169.254]"] {
        let answer = world
            .ask(&format!(
                "CONNECT {host}:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert_eq!(answer.status, 403, "{host}");
        assert_eq!(
            answer.header("x-pipelock-block-reason-layer"),
            Some("ssrf_metadata")
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn every_judged_address_is_tried() {
    let world = MediatorWorld::new();
    let port = echo().await.port();
    let mut tunnel = world.tunnel(&format!("both.test:{port}")).await;
    tunnel.write_all(&hello("both.test")).await.unwrap();
    assert_eq!(tunnel.read_u8().await.unwrap(), 0x16);
    drop(tunnel);
    world.stop().await;
}

#[tokio::test]
async fn a_tunnel_is_for_tls_to_its_own_host() {
    let world = MediatorWorld::new();
    let (contacted, mut contacts) = tokio::sync::mpsc::unbounded_channel();
    let port = origin(move |mut stream| {
        let contacted = contacted.clone();
        async move {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await?;
            contacted.send(bytes.len()).unwrap();
            Ok(())
        }
    })
    .await
    .port();
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("allowed.test", hello("denied.test"), "sni_mismatch"),
        ("allowed.test", hello("a.allowed.test"), "sni_mismatch"),
        ("a.wild.test", hello("wild.test"), "sni_mismatch"),
        ("allowed.test", hello("127.0.0.1"), "sni_mismatch"),
        ("127.0.0.1", hello("allowed.test"), "sni_mismatch"),
        (
            "allowed.test",
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            "not_tls",
        ),
        ("allowed.test", b"SSH-2.0-x\r\n".to_vec(), "not_tls"),
        (
            "allowed.test",
            vec![0x16, 3, 1, 0, 4, 2, 0, 0, 0],
            "not_tls",
        ),
        ("allowed.test", vec![0x16, 3, 1, 0xff, 0xff, 1], "not_tls"),
    ];
    for (host, first, reason) in cases {
        let mut tunnel = world.tunnel(&format!("{host}:{port}")).await;
        tunnel.write_all(&first).await.unwrap();
        let mut rest = Vec::new();
        // The tunnel may end with a reset or a close.
        drop(
            timeout(PATIENCE, tunnel.read_to_end(&mut rest))
                .await
                .unwrap(),
        );
        assert!(rest.is_empty(), "{host} {reason}");
        assert_eq!(contacts.recv().await, Some(0), "{host} {reason}");
        let last = world.evidence().actions().pop().unwrap();
        assert_eq!(
            last.line(),
            format!("allow outcome outcome status=200 reason={reason}"),
            "{host} {first:?}"
        );
        assert_eq!(last.bytes(), 0);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_silent_client_is_disconnected() {
    let world = MediatorWorld::new();
    let port = echo().await.port();
    let mut tunnel = world.tunnel(&format!("allowed.test:{port}")).await;
    let hello = hello("allowed.test");
    tunnel.write_all(&hello[..20]).await.unwrap();
    tunnel.shutdown().await.unwrap();
    world.outcome("client_silent").await;
    world.stop().await;
}

#[tokio::test]
async fn an_address_needs_no_server_name() {
    let world = MediatorWorld::new();
    let port = echo().await.port();
    let mut tunnel = world.tunnel(&format!("127.0.0.1:{port}")).await;
    tunnel.write_all(&hello("127.0.0.1")).await.unwrap();
    assert_eq!(tunnel.read_u8().await.unwrap(), 0x16);
    drop(tunnel);
    world.stop().await;
}

#[tokio::test]
async fn a_hello_may_come_with_the_head_or_byte_by_byte() {
    let world = MediatorWorld::new();
    let port = echo().await.port();
    let hello = hello("allowed.test");
    let mut stream = world.dial().await;
    let mut first = format!("CONNECT allowed.test:{port} HTTP/1.1\r\n\r\n").into_bytes();
    first.extend_from_slice(&hello);
    stream.write_all(&first).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    let mut back = vec![0; hello.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, hello);

    let mut slow = world.tunnel(&format!("allowed.test:{port}")).await;
    slow.set_nodelay(true).unwrap();
    for byte in &hello {
        slow.write_all(std::slice::from_ref(byte)).await.unwrap();
        tokio::task::yield_now().await;
    }
    slow.read_exact(&mut back).await.unwrap();
    assert_eq!(back, hello);
    drop((stream, slow));
    world.stop().await;
}

#[tokio::test]
async fn closing_one_half_leaves_the_other_open() {
    let world = MediatorWorld::new();
    let port = origin(|mut stream| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        stream
            .write_all(format!("got {}", all.len()).as_bytes())
            .await?;
        stream.shutdown().await
    })
    .await
    .port();
    let mut tunnel = world.tunnel(&format!("allowed.test:{port}")).await;
    let hello = hello("allowed.test");
    tunnel.write_all(&hello).await.unwrap();
    tunnel.write_all(&[7; 100_000]).await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, tunnel.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, format!("got {}", hello.len() + 100_000));
    world.outcome("complete").await;
    world.stop().await;
}

#[tokio::test]
async fn big_streams_are_byte_exact_both_ways() {
    let world = MediatorWorld::new();
    let port = echo().await.port();
    let tunnel = world.tunnel(&format!("allowed.test:{port}")).await;
    let hello = hello("allowed.test");
    let mut sent = hello.clone();
    sent.extend(
        (0..16_000_000_u32)
            .map(|index| u8::try_from(index.wrapping_mul(2_654_435_761) >> 24).unwrap()),
    );
    let (mut read, mut write) = tunnel.into_split();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut back = Vec::with_capacity(expected.len());
    timeout(PATIENCE, read.read_to_end(&mut back))
        .await
        .unwrap()
        .unwrap();
    writer.await.unwrap();
    assert!(back == expected);
    let outcome = world.outcome("complete").await;
    assert_eq!(outcome.bytes(), 2 * u64::try_from(expected.len()).unwrap());
    world.stop().await;
}

#[tokio::test]
async fn a_failed_connection_is_recorded() {
    let world = MediatorWorld::new();
    let answer = world
        .ask("CONNECT closed.test:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(answer.status, 502);
    assert_eq!(
        world.stop().await.story(),
        [
            "allow intent",
            "allow outcome outcome status=502 reason=dial_failed"
        ]
    );
}

#[tokio::test]
async fn malformed_authorities_give_no_request() {
    let world = MediatorWorld::new();
    for target in [
        "allowed.test:0",
        "allowed.test:99999",
        "allowed.test:",
        "user@allowed.test:443",
        "allowed%2etest:443",
        "/x",
        "http://allowed.test/",
        "127.1:443",
        "0x7f000001:443",
        "2130706433:443",
        "allowed..test:443",
        "*:443",
        ":443",
    ] {
        let answer = world
            .ask(&format!(
                "CONNECT {target} HTTP/1.1\r\nHost: allowed.test\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert_eq!(answer.status, 400, "{target}");
    }
    let with_body = "CONNECT allowed.test:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    assert_eq!(world.ask(with_body).await.status, 400);
    // Every request that names a destination has a receipt.
    let evidence = world.stop().await;
    let refused = |line: &str| {
        evidence
            .story()
            .iter()
            .filter(|told| told.starts_with(line))
            .count()
    };
    assert_eq!(refused("block target"), evidence.actions().len());
    assert_eq!(evidence.actions().len(), 12, "{:?}", evidence.story());
    let shown = |text: &str| {
        evidence
            .actions()
            .iter()
            .any(|action| action.target == text)
    };
    assert!(shown("https://allowed.test:443/") && !shown("https://user@allowed.test:443/"));
}

#[tokio::test]
async fn idle_and_total_limits_end_a_tunnel() {
    for (policy, reason) in [
        (
            "forward_proxy: {enabled: true, idle_timeout_seconds: 1}\n",
            "idle_timeout",
        ),
        (
            "forward_proxy: {enabled: true, idle_timeout_seconds: 60, max_tunnel_seconds: 1}\n",
            "max_duration",
        ),
    ] {
        let world = MediatorWorld::with(Setup {
            policy: policy.to_owned(),
            ..Setup::default()
        });
        let port = echo().await.port();
        let mut tunnel = world.tunnel(&format!("allowed.test:{port}")).await;
        tunnel.write_all(&hello("allowed.test")).await.unwrap();
        let started = std::time::Instant::now();
        let mut rest = Vec::new();
        drop(
            timeout(PATIENCE, tunnel.read_to_end(&mut rest))
                .await
                .unwrap(),
        );
        assert!(started.elapsed() >= Duration::from_millis(900), "{reason}");
        world.outcome(reason).await;
        world.stop().await;
    }
}
