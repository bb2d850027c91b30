use egress_policy::AllowList;

use super::*;

fn denied(destination: &str, port: u16, protocol: &str, reason: &str) -> Denied {
    Denied {
        destination: destination.into(),
        port,
        protocol: protocol.into(),
        reason: reason.into(),
        process: String::from("curl"),
    }
}

fn allowed() -> Allowed {
    let mut list = AllowList::default();
    list.insert("listed.test").unwrap();
    Allowed::strict(list)
}

fn words(denied: &Denied, allowed: &Allowed) -> String {
    let ports = [80, 443];
    Hint::of(
        denied,
        Settings {
            allowed,
            ports: &ports,
        },
    )
    .in_words()
}

#[test]
fn a_hint_depends_on_the_list_and_the_ports() {
    for (destination, port, protocol, reason, expected) in [
        (
            "a.test",
            443,
            "tls",
            "allowlist:not_in_allowlist",
            "allow it: api_allowlist: [\"a.test\"]",
        ),
        (
            "A.test.",
            443,
            "tls",
            "allowlist:parse_error",
            "allow it: api_allowlist: [\"a.test\"]",
        ),
        (
            "a.test",
            443,
            "connect",
            "mediator_403",
            "allow it: api_allowlist: [\"a.test\"]",
        ),
        (
            "a.test",
            80,
            "http",
            "answered_403: allowlist:x",
            "allow it: api_allowlist: [\"a.test\"]",
        ),
        (
            "a.test",
            80,
            "http",
            "answered_403",
            "allow it: api_allowlist: [\"a.test\"]",
        ),
        (
            "2001:db8::1",
            443,
            "tls",
            "mediator_403",
            "allow it: api_allowlist: [\"2001:db8::1\"]",
        ),
        ("listed.test", 443, "connect", "mediator_403", NO_REASON),
        (
            "listed.test",
            8443,
            "connect",
            "mediator_403",
            "allow it: --allow-port 8443",
        ),
        (
            "listed.test",
            443,
            "http",
            "answered_403: dlp:dlp_match",
            "",
        ),
        ("a.test", 443, "http", "dlp:dlp_match", ""),
        ("a.test", 443, "tls", "name_mismatch", ""),
        (
            "a.test",
            8443,
            "tls",
            "port_not_allowed",
            "allow it: api_allowlist: [\"a.test\"] and --allow-port 8443",
        ),
        (
            "listed.test",
            8443,
            "tls",
            "port_not_allowed",
            "allow it: --allow-port 8443",
        ),
        ("a\"\n.test", 443, "tls", "mediator_403", ""),
    ] {
        let denied = denied(destination, port, protocol, reason);
        assert_eq!(words(&denied, &allowed()), expected, "{denied:?}");
    }
    // Without a policy, only the reason is known.
    let list = denied("a.test", 443, "tls", "allowlist:parse_error");
    assert!(words(&list, &Allowed::default()).contains("a.test"));
    let other = denied("a.test", 443, "tls", "mediator_403");
    assert_eq!(words(&other, &Allowed::default()), "");
}

#[test]
fn no_hint_is_impossible() {
    for (destination, port, protocol, reason, expected) in [
        (
            "a.test",
            5432,
            "postgresql",
            "port_not_allowed",
            ONLY_SOCKETS,
        ),
        ("a.test", 22, "ssh", "port_not_allowed", ONLY_TLS_AND_HTTP),
        ("a.test", 6379, "redis", "not_tls_or_http", ONLY_SOCKETS),
        (
            "a.test",
            25,
            "tcp",
            "port_not_allowed",
            "allow it: --allow-port 25",
        ),
        (
            "a.test",
            443,
            "tls",
            NOT_RESOLVED,
            "the name does not resolve on this machine",
        ),
        (
            "192.0.2.1",
            9,
            "udp",
            "udp",
            "UDP does not leave the boundary",
        ),
        ("", 0, "icmp", "socket_type", "only TCP leaves the boundary"),
        ("", 0, "http", "malformed_target", NO_HOST),
        ("a.test", 80, "http", "malformed_target", ""),
        (
            "10.0.0.1",
            443,
            "tcp",
            "not_public",
            "allow it: ssrf: {ip_allowlist: [\"10.0.0.1/32\"]}",
        ),
        (
            "fd00::1",
            443,
            "tcp",
            "own_address",
            "allow it: ssrf: {ip_allowlist: [\"fd00::1/128\"]}",
        ),
        (
            "169.254.169.254",
            80,
            "tcp",
            "platform_address",
            "services of the cloud platform are never reachable",
        ),
        (
            "m.test",
            80,
            "http",
            "ssrf_metadata:ssrf_metadata",
            "services of the cloud platform are never reachable",
        ),
        (
            "/run/x.sock",
            0,
            "unix",
            "not_in_the_boundary",
            "allow it: --allow-unix /run/x.sock, if the host has this socket",
        ),
        (
            "/var/run/postgresql/.s.PGSQL.5432",
            0,
            "unix",
            "not_in_the_boundary",
            "allow it: --allow-unix /run/postgresql/.s.PGSQL.5432, if the host has this socket",
        ),
        (
            "@abstract",
            0,
            "unix",
            "not_in_the_boundary",
            "the command cannot reach a socket with this path",
        ),
        (
            "/run/x;rm -rf",
            0,
            "unix",
            "not_in_the_boundary",
            "the command cannot reach a socket with this path",
        ),
    ] {
        let denied = denied(destination, port, protocol, reason);
        assert_eq!(words(&denied, &allowed()), expected, "{denied:?}");
    }
    let private = denied("mirror.test", 8080, "http", "ssrf:ssrf_internal_address");
    let said = words(&private, &allowed());
    let expected = "allow it: api_allowlist: [\"mirror.test\"] and trusted_domains: [\"mirror.test\"] and --allow-port 8080, if the name";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn a_socket_with_a_probe_needs_an_accepted_risk_and_is_not_in_the_block() {
    let services = SERVICES
        .iter()
        .flat_map(|(probe, paths)| paths.iter().map(move |path| (*path, *path, *probe)));
    let others = [
        ("/var/run/docker.sock", "/run/docker.sock", "docker_socket"),
        (
            "/var/run/../run//docker.sock",
            "/run/docker.sock",
            "docker_socket",
        ),
        ("/tmp/ssh-Zx1/agent.7", "PATH", "ssh_agent_socket"),
        (
            "/run/user/1000/gnupg/S.gpg-agent",
            "PATH",
            "gpg_agent_socket",
        ),
    ];
    for (path, shown, probe) in services.chain(others) {
        let denied = denied(path, 0, "unix", "not_in_the_boundary");
        let allowed = allowed();
        let settings = Settings {
            allowed: &allowed,
            ports: &[],
        };
        let hint = Hint::of(&denied, settings);
        assert_eq!(hint.settings(), None, "{path}");
        let options = format!("needs --allow-unix {shown} --accept-risk {probe}");
        assert!(hint.in_words().ends_with(&options), "{}", hint.in_words());
        assert!(crate::required::PROBES.contains(&probe), "{probe}");
    }
}

#[test]
fn many_hints_are_one_block_in_natural_order() {
    let hint = |host: &str, port| Hint {
        host: Some(host.to_owned()),
        port,
        ..Hint::default()
    };
    let one = hint("h1.test", None);
    assert_eq!(Block::of([&one, &one], 0), None);
    let range = Hint {
        range: Some(String::from("10.0.0.1/32")),
        ..Hint::default()
    };
    let hints = [
        hint("h10.test", Some(8443)),
        hint("h2.test", None),
        one,
        range,
    ];
    let block = Block::of(&hints, 0).unwrap();
    assert_eq!(
        block.policy,
        "api_allowlist:\n  - \"h1.test\"\n  - \"h2.test\"\n  - \"h10.test\"\nssrf:\n  ip_allowlist:\n    - \"10.0.0.1/32\"\n"
    );
    assert_eq!(block.options, "--allow-port 8443");
    let many: Vec<Hint> = (0..500)
        .map(|n| hint(&format!("h{n}.test"), None))
        .collect();
    let block = Block::of(&many, 0).unwrap();
    assert_eq!(block.policy.lines().count(), MAX_LINES + 2);
    assert!(
        block
            .policy
            .ends_with("  # and 400 more: egress policy suggest\n")
    );
    // The packet lists only the first destinations.
    let block = Block::of(&many, 1001).unwrap();
    let last = "  # and up to 1401 more: egress policy suggest\n";
    assert!(block.policy.ends_with(last), "{}", block.policy);
    let block = Block::of(&hints, 7).unwrap();
    assert_eq!(block.policy.matches("# and ").count(), 1);
    let last = "  - \"h10.test\"\n  # and up to 7 more: egress policy suggest\nssrf:\n";
    assert!(block.policy.contains(last), "{}", block.policy);
}
