//! Allowed and denied requests, and their receipts.
use std::net::IpAddr;

use egress_tests::{INTERNET, World, wait_until};

use crate::support::{
    NO_PROXY, SOON, allow, assert_verified, facts, has_sessions, reasons, receipts, targets, with,
};

#[test]
fn allowed_names_are_reached_and_others_are_not() {
    let world = World::new();
    let agent = format!(
        "{NO_PROXY}\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' http://allowed.test/\n\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' https://allowed.test/\n\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' http://denied.test/\n\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' https://denied.test/ || true\n"
    );
    let start = world.wire().snapshot();
    let run = with(&world, &allow(&["allowed.test"])).script(&agent).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(run.stdout, "200\n200\n403\n000\n", "{run}");
    assert_eq!(reasons(&run), "[]", "{run}");
    let denied = [INTERNET.denied.into(), INTERNET.denied_v6.into()];
    for packet in world.wire().since(start) {
        let to = packet.destination;
        assert!(!to.is_some_and(|to| denied.contains(&to)), "{packet}");
    }
    let allowed = targets(&run, "allow");
    assert_eq!(allowed.len(), 2, "{allowed:?}");
    assert_eq!(allowed.first().unwrap(), "http://allowed.test/");
    assert!(
        allowed.last().unwrap().starts_with("https://allowed.test"),
        "{allowed:?}"
    );
    let blocked = targets(&run, "block");
    assert_eq!(blocked.len(), 2, "{blocked:?}");
    assert_verified(&world, &run);

    // The control: without the boundary, all four hosts answer.
    let control = world.shell(&agent);
    assert_eq!(control.stdout, "200\n200\n200\n200\n", "{control}");
    world.wire().assert_left(start, |packet| {
        packet.destination.is_some_and(|to| denied.contains(&to))
    });
}

#[test]
fn name_on_the_blocklist_is_refused_though_it_is_allowed() {
    let world = World::new();
    let yaml = format!(
        "{}fetch_proxy: {{monitoring: {{blocklist: [two.allowed.test]}}}}\n",
        allow(&["*.allowed.test"])
    );
    let agent = format!(
        "{NO_PROXY}\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' http://allowed.test/\n\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' http://two.allowed.test/\n"
    );
    let run = with(&world, &yaml).script(&agent).run();
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (Some(0), "200\n403\n"),
        "{run}"
    );
    assert_eq!(targets(&run, "block"), ["http://two.allowed.test/"]);
    assert_verified(&world, &run);
    let control = world.shell(&agent);
    assert_eq!(control.stdout, "200\n200\n", "{control}");
}

#[test]
fn allowed_name_of_an_internal_address_is_refused() {
    let world = World::new();
    let names = ["loopback.test", "metadata.test"];
    let agent = format!(
        "{NO_PROXY}\
         curl -sS -m 20 -o /dev/null -w '%{{http_code}}\\n' http://loopback.test/\n\
         curl -sS -m 20 -o /dev/null -w '%{{http_code}}\\n' http://metadata.test/\n\
         curl -sS -m 20 -o /dev/null https://metadata.test/ || echo refused\n"
    );
    let start = world.wire().snapshot();
    let run = with(&world, &allow(&names)).script(&agent).run();
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (Some(0), "403\n403\nrefused\n"),
        "{run}"
    );
    let metadata =
        |packet: &egress_tests::Packet| packet.destination == Some(INTERNET.metadata.into());
    assert!(!world.wire().since(start).iter().any(metadata), "{run}");
    let blocked = receipts(&run);
    let layers: Vec<_> = blocked
        .iter()
        .filter(|receipt| receipt.get("verdict").unwrap() == "block")
        .map(|receipt| receipt.get("layer").unwrap().as_str().unwrap())
        .collect();
    assert_eq!(layers.len(), 3, "{layers:?}");
    assert!(
        layers.iter().all(|layer| layer.starts_with("ssrf")),
        "{layers:?}"
    );
    assert_verified(&world, &run);
    // The control: without the boundary, the metadata address answers.
    let control =
        world.shell("curl -sS -m 20 -o /dev/null -w '%{http_code}' http://metadata.test/");
    assert_eq!(control.stdout, "200", "{control}");
    world.wire().assert_left(start, metadata);
}

#[test]
fn allowed_name_of_the_machine_or_its_platform_is_not_reached() {
    const NAMES: [&str; 6] = [
        "runner.test:6099",
        "2001-db8-2--2.at.test:6099",
        "168-63-129-16.at.test",
        "192-0-0-192.at.test",
        "64-ff9b--a9fe-a9fe.at.test",
        "2002-a4d-1--1.at.test",
    ];
    let world = World::new();
    let _service = world.background([
        "python3",
        "-c",
        "import http.server, socket\n\
         class S(http.server.ThreadingHTTPServer): address_family = socket.AF_INET6\n\
         S(('::', 6099), http.server.SimpleHTTPRequestHandler).serve_forever()",
    ]);
    wait_until("the service listens", SOON, || {
        !world.shell("ss -Hltn sport = 6099").stdout.is_empty()
    });
    let call = |name: &str| {
        format!("curl -sS -m 20 -o /dev/null -w '%{{http_code}}\\n' http://{name}/ || echo none\n")
    };
    let calls: String = NAMES.iter().map(|name| call(name)).collect();
    let control = world.shell(&calls);
    assert_eq!(control.stdout, "200\n".repeat(NAMES.len()), "{control}");
    let yaml = allow(&["*.test"]);
    let run = with(&world, &yaml).arg("--allow-port").arg("6099");
    let tunnelled = NAMES.iter().take(2).map(|name| {
        let host = name.trim_end_matches(":6099");
        format!("openssl s_client -connect {name} -servername {host} < /dev/null > /dev/null 2>&1 && echo THROUGH\n")
    });
    let tunnelled: String = tunnelled.collect();
    let run = run
        .script(&format!("{NO_PROXY}{calls}{tunnelled}true\n"))
        .run();
    assert_eq!(run.stdout.lines().count(), NAMES.len(), "{run}");
    for status in run.stdout.lines() {
        assert!(matches!(status, "403" | "502"), "{run}");
    }
    let denied = run.flows(&[("source", "kernel_mediator_denied"), ("verdict", "denied")]);
    for (reason, dst) in [
        ("own_address", "203.0.113.2"),
        ("own_address", "2001:db8:2::2"),
        ("platform_address", "168.63.129.16"),
        ("platform_address", "192.0.0.192"),
        ("platform_address", "64:ff9b::a9fe:a9fe"),
        ("not_public", "2002:a4d:1::1"),
    ] {
        let is_there = denied
            .iter()
            .any(|row| row.get("reason").unwrap() == reason && row.get("dst").unwrap() == dst);
        assert!(is_there, "{reason} {dst}: {denied:#?}");
    }
    assert_eq!(reasons(&run), "[]", "{run}");
    // Pipelock 2.x does not sign a receipt for a connection that failed.
    if has_sessions(&run) {
        assert_verified(&world, &run);
    }
}

#[test]
fn run_without_traffic_is_valid_where_there_are_sessions_and_no_evidence_elsewhere() {
    let world = World::new();
    let run = with(&world, &allow(&["allowed.test"])).script("true").run();
    if has_sessions(&run) {
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(facts(&run).get("posture").unwrap(), "bound");
        assert_verified(&world, &run);
    } else {
        assert_eq!(run.status, Some(123), "{run}");
        assert_eq!(facts(&run).get("posture").unwrap(), "not_known");
        assert_eq!(receipts(&run).len(), 0);
    }
    assert_eq!(reasons(&run), "[]", "{run}");
}

#[test]
fn names_are_looked_up_as_they_are_whatever_the_search_domains() {
    // Every name below `more.test` exists, so a search finds another machine.
    let world = World::builder()
        .resolv_conf(&format!(
            "nameserver {}\nsearch more.test\noptions ndots:5\n",
            INTERNET.resolver
        ))
        .build();
    let agent = format!(
        "{NO_PROXY}curl -sS http://allowed.test/\n\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' http://missing.test/\n"
    );
    let is_allowed = |server: IpAddr| server == INTERNET.allowed || server == INTERNET.allowed_v6;
    let control = world.shell(&agent);
    assert_eq!(
        control.stdout, "hello from allowed.test\n200\n",
        "{control}"
    );
    let requests = world.requests();
    assert!(
        requests
            .iter()
            .all(|request| !is_allowed(request.server.ip()))
    );

    let (before, queries) = (requests.len(), world.queries().len());
    let run = with(&world, &allow(&["allowed.test", "missing.test"]));
    let run = run.script(&agent).run();
    assert!(run.stdout.starts_with("hello from allowed.test\n"), "{run}");
    assert!(!run.stdout.ends_with("200\n"), "{run}");
    let requests = world.requests();
    let servers = requests.iter().skip(before);
    assert_eq!(
        servers
            .filter(|request| is_allowed(request.server.ip()))
            .count(),
        1,
        "{run}"
    );
    assert_eq!(requests.len(), before + 1, "{run}");
    for query in world.queries().iter().skip(queries) {
        assert!(
            ["allowed.test", "missing.test"].contains(&query.name.as_str()),
            "{query:?}"
        );
    }
}
