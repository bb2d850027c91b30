use audit_packet::flows::FlowChain;
use egress_policy::AllowList;
use egress_policy::allowed::Allowed;
use egress_policy::parse::parse;
use serde_json::{Value, json};

use super::*;

/// The settings of a packet without a policy.
const NO_POLICY: Settings<'static> = Settings {
    allowed: &Allowed::UNKNOWN,
    ports: &[80, 443],
};

fn log(rows: &[Value]) -> Vec<u8> {
    let mut chain = FlowChain::new();
    rows.iter()
        .flat_map(|row| chain.line(row.as_object().unwrap()))
        .collect()
}

fn suggested(rows: &[Value]) -> Suggestion {
    suggest(log(rows).as_slice(), NO_POLICY, false).unwrap()
}

fn answer(name: &str, addresses: &[&str], trusted: bool) -> Value {
    json!({"source": "kernel", "verdict": "dns_answer", "server": "198.51.100.53",
           "trusted": trusted, "name": name, "addresses": addresses})
}

fn connect(dst: &str, port: u16, process: &str) -> Value {
    json!({"source": "kernel", "verdict": "would_redirect", "reason": "", "protocol": "tcp",
           "dst": dst, "port": port, "process": process, "count": 1})
}

fn repeats(mut row: Value, count: u64) -> Value {
    row["source"] = "kernel_repeats".into();
    row["count"] = count.into();
    row
}

fn deny(dst: &str, port: u16, protocol: &str, reason: &str) -> Value {
    json!({"source": "kernel", "verdict": "would_deny", "reason": reason, "protocol": protocol,
           "dst": dst, "port": port, "process": "agent", "count": 1})
}

fn relay(host: &str, port: u16, protocol: &str, verdict: &str, reason: &str) -> Value {
    json!({"source": "relay", "host": host, "port": port, "protocol": protocol,
           "verdict": verdict, "reason": reason, "process": "curl"})
}

/// Checks that the list has exactly these hosts, and that the parser of policies allows each of them.
#[track_caller]
fn allowed(suggestion: &Suggestion, names: &[&str]) {
    let text = suggestion.as_yaml();
    let policy = parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let hosts: Vec<&str> = suggestion
        .rows
        .iter()
        .map(|row| row.host.as_str())
        .collect();
    assert_eq!(hosts, names, "{text}");
    assert_eq!(policy.allow.is_empty(), names.is_empty());
    for name in names {
        assert!(policy.allow.allows(&Host::parse(name).unwrap()), "{text}");
    }
    let (list, trusted) = text.split_once("\ntrusted_domains:").unwrap_or((&text, ""));
    assert_eq!(list.matches("\n  - ").count(), names.len(), "{text}");
    let count = suggestion.rows.iter().filter(|row| row.trusted).count();
    assert_eq!(trusted.matches("\n  - ").count(), count, "{text}");
    assert_eq!(
        policy.guard.trusted_domains.entries().len(),
        count,
        "{text}"
    );
}

/// Claims: crate-user
#[test]
fn audit_becomes_a_list_of_names_and_processes() {
    let found = suggested(&[
        deny("198.51.100.53", 53, "udp", "dns_to_other_resolver"),
        answer("Two.test.", &["198.51.100.11"], true),
        answer("one.test", &["198.51.100.10", "2001:db8::10"], true),
        answer("never-reached.test", &["198.51.100.12"], true),
        connect("198.51.100.10", 443, "curl"),
        connect("2001:db8::10", 443, "curl"),
        connect("198.51.100.10", 80, "git"),
        connect("198.51.100.11", 8080, "curl"),
        repeats(connect("198.51.100.10", 443, "curl"), 5),
    ]);
    allowed(&found, &["one.test", "two.test"]);
    assert_eq!(
        found.as_yaml(),
        "# Allows everything that this run did, even what it should not have done. Read it before you use it.\n\
         # Options that egress run needs in addition:\n\
         #   --allow-port 8080 # TLS or HTTP: two.test\n\
         version: 1\n\
         mode: strict\n\
         api_allowlist:\n  \
         - \"one.test\" # curl (6), git (1)\n  \
         - \"two.test\" # curl (1)\n"
    );
}

#[test]
fn audit_names_all_that_an_address_may_stand_for() {
    let found = suggested(&[
        answer("a.test", &["198.51.100.10"], true),
        connect("198.51.100.10", 443, "curl"),
        answer("b.test", &["198.51.100.10", "10.0.0.1"], true),
        connect("10.0.0.1", 443, "curl"),
    ]);
    allowed(&found, &["a.test", "b.test"]);
    assert!(found.rows.iter().all(|row| row.shares_address));
    let internal: Vec<bool> = found.rows.iter().map(|row| row.internal_address).collect();
    assert_eq!(internal, [false, true]);
}

#[test]
fn attempts_that_no_list_allows_are_comments_and_not_rows() {
    let found = suggested(&[
        // Only answers from the caller's own name servers count.
        answer("liar.test", &["198.51.100.20"], false),
        connect("198.51.100.20", 2222, "agent"),
        deny("198.51.100.77", 4433, "udp", "udp"),
        deny("198.51.100.54", 53, "udp", "dns_to_other_resolver"),
        deny("0.0.0.0", 0, "icmp", "socket_type"),
        json!({"source": "kernel", "verdict": "unreachable", "reason": "not_in_the_boundary",
               "protocol": "unix", "path": "/var/run/docker.sock", "process": "docker", "count": 1}),
        json!({"source": "kernel", "verdict": "unreachable", "reason": "not_in_the_boundary",
               "protocol": "unix", "path": "/run/db.sock", "process": "psql", "count": 1}),
        deny("127.0.0.1", 1, "tcp", "new\nreason"),
    ]);
    allowed(&found, &[]);
    assert_eq!(found.allow_ports.len(), 0);
    let text = found.as_yaml();
    for line in [
        "#   tcp to 198.51.100.20 port 2222, agent (1): has no known name",
        "#   udp to 198.51.100.77 port 4433, agent (1): UDP does not leave",
        "#   udp to 198.51.100.54 port 53, agent (1): the boundary has its own",
        "#   icmp, agent (1): only TCP leaves",
        "#   unix to /var/run/docker.sock, docker (1): if the host has this socket, its service may give the command control",
        "#   unix to /run/db.sock, psql (1): allow it: --allow-unix /run/db.sock, if the host has this socket",
        "#   tcp to 127.0.0.1 port 1, agent (1): not decided by the allow-list: \"new\\u{a}reason\"",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn normal_run_is_what_went_through_and_what_the_list_refused() {
    let found = suggested(&[
        relay("through.test", 443, "tls", "forwarded", ""),
        relay("through.test", 443, "tls", "forwarded", ""),
        relay("198.51.100.7", 80, "http", "forwarded", ""),
        relay(
            "listed.test",
            443,
            "tls",
            "blocked",
            "allowlist:not_in_allowlist",
        ),
        relay(
            "pipelock.test",
            443,
            "tls",
            "blocked",
            "allowlist:parse_error",
        ),
        relay("port.test", 8443, "tls", "refused", "port_not_allowed"),
        relay("ssh.test", 22, "ssh", "refused", "port_not_allowed"),
        relay(
            "198.51.100.8",
            80,
            "http",
            "blocked",
            "allowlist:not_in_allowlist",
        ),
        relay("mismatch.test", 443, "tls", "refused", "name_mismatch"),
        relay(
            "internal.test",
            443,
            "tls",
            "blocked",
            "ssrf:ssrf_internal_address",
        ),
        json!({"source": "relay", "protocol": "http", "host": "cut.test", "port": 80,
               "verdict": "unfinished", "reason": "stopped", "bytes_up": 7, "bytes_down": 0}),
        json!({"source": "relay", "protocol": "http", "host": "claimed.test", "port": 80,
               "verdict": "answered", "reason": "answered_403", "claimed": "allowlist:not_in_allowlist"}),
        relay("down.test", 443, "tls", "failed", "mediator_502"),
        // The kernel's own rows about the same connections do not add hosts.
        json!({"source": "kernel", "verdict": "redirected", "dst": "198.18.0.1", "port": 443,
               "name": "other.test", "process": "curl", "count": 1}),
        json!({"source": "resolver", "name": "asked.test", "reason": ""}),
    ]);
    allowed(
        &found,
        &[
            "198.51.100.7",
            "claimed.test",
            "cut.test",
            "internal.test",
            "listed.test",
            "pipelock.test",
            "port.test",
            "through.test",
        ],
    );
    assert_eq!(found.allow_ports, BTreeSet::from([8443]));
    assert_eq!(found.rows.last().unwrap().uses.count, 2);
    let left: Vec<(&str, &str)> = found
        .left_out
        .iter()
        .map(|left| (left.attempt.target.as_str(), left.attempt.reason.as_str()))
        .collect();
    assert_eq!(
        left,
        [
            ("198.51.100.8", "address_without_name"),
            ("down.test", "mediator_502"),
            ("mismatch.test", "name_mismatch"),
            ("ssh.test", "port_not_allowed"),
        ]
    );
    let section = "\ntrusted_domains:\n  - \"internal.test\" # if the name resolves to a private network; any other";
    assert!(found.as_yaml().contains(section), "{}", found.as_yaml());
}

#[test]
fn a_real_pipelock_names_no_list_so_the_list_is_asked() {
    let mut list = AllowList::default();
    list.insert("listed.test").unwrap();
    let policy = Allowed::strict(list);
    let settings = Settings {
        allowed: &policy,
        ports: &[80, 443],
    };
    let rows = [
        relay("h10.test", 443, "connect", "refused", "mediator_403"),
        relay("h2.test", 8443, "tls", "refused", "port_not_allowed"),
        relay("listed.test", 443, "connect", "refused", "mediator_403"),
        relay("db.test", 5432, "postgresql", "refused", "port_not_allowed"),
        relay("pipe.test", 443, "tls", "blocked", "ssrf:ssrf_private_ip"),
        relay(
            "mirror.test",
            80,
            "http",
            "blocked",
            "ssrf:ssrf_internal_address",
        ),
        relay("gone.test", 443, "tls", "blocked", "ssrf:name_not_resolved"),
    ];
    let found = suggest(log(&rows).as_slice(), settings, false).unwrap();
    allowed(&found, &["h2.test", "h10.test", "mirror.test"]);
    assert_eq!(found.allow_ports, BTreeSet::from([8443]));
    let text = found.as_yaml();
    for line in [
        "#   connect to listed.test port 443, curl (1): Pipelock reports no reason, and the allow-list contains",
        "#   postgresql to db.test port 5432, curl (1): only TLS and HTTP leave the boundary; --allow-unix",
        "\ntrusted_domains:\n  - \"mirror.test\" # if the name resolves",
        "#   tls to pipe.test port 443, curl (1): the name does not resolve, or resolves to a private",
        "#   tls to gone.test port 443, curl (1): the name does not resolve on this machine",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn loopback_of_the_host_is_out_of_reach() {
    let local = |port: u16, reason: &str| {
        json!({"source": "kernel", "verdict": "local", "reason": reason, "protocol": "tcp",
               "dst": "127.0.0.1", "port": port, "process": "psql", "count": 1})
    };
    let rows = log(&[
        local(5432, "nothing_listens"),
        local(3000, "nothing_listens"),
        local(3000, ""),
    ]);
    let hint = "psql (1): the command has its own loopback; --allow-unix opens";
    // An enforced run leaves out the port on which nothing ever listened. An audit leaves out the port on which a
    // service of the host listened.
    for (is_audit, port) in [(false, 5432), (true, 3000)] {
        let found = suggest(rows.as_slice(), NO_POLICY, is_audit).unwrap();
        let left: Vec<u16> = found
            .left_out
            .iter()
            .map(|left| left.attempt.port)
            .collect();
        assert_eq!(left, [port]);
        assert!(found.as_yaml().contains(hint), "{}", found.as_yaml());
    }
}

#[test]
fn hostile_names_add_no_rows_and_stay_in_their_comments() {
    let long = "x".repeat(70_000);
    let hostile = [
        "a.test\"\napi_allowlist: [evil.test]\n#",
        "a.test\napi_allowlist:\n  - \"evil.test",
        "*.test",
        "*",
        "a.test # b",
        "a.test: b",
        "- evil.test",
        "a\u{85}api_allowlist: [evil.test]",
        "a\u{2028}api_allowlist: [evil.test]",
        "a\rapi_allowlist: [evil.test]",
        "\u{202e}tset.live",
        "\u{1b}]0;title\u{7}a.test",
        "&anchor",
        "!!binary a",
        "##[set-output name=x]y",
        "::set-output name=x::y",
        "ä.test",
        "a..test",
        "0x7f.1",
        "",
        long.as_str(),
    ];
    for text in hostile {
        let mut process = connect("198.51.100.10", 443, text);
        process["exe"] = text.into();
        let mut kernel = deny(text, 1, text, text);
        kernel["path"] = text.into();
        let found = suggested(&[
            answer("good.test", &["198.51.100.10"], true),
            answer(text, &["198.51.100.10"], true),
            process,
            kernel,
            relay(text, 443, text, "forwarded", text),
            relay(text, 443, "tls", "blocked", "allowlist:not_in_allowlist"),
            relay("good.test", 443, "tls", text, text),
        ]);
        allowed(&found, &["good.test"]);
        let yaml = found.as_yaml();
        assert!(
            yaml.bytes()
                .all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)),
            "{yaml:?}"
        );
        assert!(yaml.len() < 4000, "{yaml}");
        assert!(!yaml.contains("##["), "{yaml}");
        for line in yaml.lines().filter(|line| !line.starts_with("# ")) {
            let known = ["version: 1", "mode: strict", "api_allowlist:"];
            assert!(
                known.contains(&line) || line.starts_with("  - \"good.test\" # "),
                "{line:?}"
            );
        }
    }
}

#[test]
fn order_of_the_log_does_not_matter() {
    let mut rows = vec![
        answer("b.test", &["198.51.100.10"], true),
        answer("a.test", &["198.51.100.11"], true),
        connect("198.51.100.11", 443, "git"),
        connect("198.51.100.10", 443, "curl"),
        deny("198.51.100.77", 1, "udp", "udp"),
        connect("198.51.100.99", 443, "curl"),
    ];
    let one = suggested(&rows);
    rows.reverse();
    assert_eq!(suggested(&rows), one);
}

#[test]
fn broken_log_suggests_nothing() {
    let whole = log(&[
        answer("a.test", &["198.51.100.10"], true),
        connect("198.51.100.10", 443, "curl"),
    ]);
    assert_eq!(
        suggest(whole.as_slice(), NO_POLICY, false)
            .unwrap()
            .rows
            .len(),
        1
    );
    let torn = whole.get(..whole.len() - 1).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    for broken in [torn, text.replace("a.test", "b.test").as_bytes()] {
        assert!(matches!(
            suggest(broken, NO_POLICY, false),
            Err(SuggestError::Broken(_))
        ));
    }
}

#[test]
fn everything_is_bounded() {
    let many = |count: usize, row: &dyn Fn(usize) -> Value| -> Vec<Value> {
        (0..count).map(row).collect()
    };
    let hosts = many(MAX_HOSTS + 1, &|number| {
        relay(&format!("h{number}.test"), 443, "tls", "forwarded", "")
    });
    assert!(suggest(log(&hosts[1..]).as_slice(), NO_POLICY, false).is_ok());
    let refused = suggest(log(&hosts).as_slice(), NO_POLICY, false).unwrap_err();
    assert!(matches!(
        refused,
        SuggestError::TooMany { what: "hosts", .. }
    ));

    let mut names = many(MAX_HOSTS + 1, &|number| {
        answer(&format!("h{number}.test"), &["198.51.100.10"], true)
    });
    names.push(connect("198.51.100.10", 443, "curl"));
    let refused = suggest(log(&names).as_slice(), NO_POLICY, false).unwrap_err();
    assert!(matches!(
        refused,
        SuggestError::TooMany { what: "hosts", .. }
    ));

    let mut ports = many(MAX_PORTS + 1, &|number| {
        connect(
            "198.51.100.10",
            1000 + u16::try_from(number).unwrap(),
            "scan",
        )
    });
    ports.push(answer("a.test", &["198.51.100.10"], true));
    let refused = suggest(log(&ports).as_slice(), NO_POLICY, false).unwrap_err();
    assert!(matches!(
        refused,
        SuggestError::TooMany { what: "ports", .. }
    ));

    let attempts = many(1000, &|number| {
        let mut row = deny(
            "198.51.100.10",
            u16::try_from(number).unwrap(),
            "udp",
            "udp",
        );
        row["process"] = format!("p{}", number % 100).into();
        row
    });
    let found = suggested(&attempts);
    assert_eq!(found.left_out.len(), MAX_LEFT_OUT);
    assert_eq!(found.more_left_out, 1000 - 256);
    let text = found.as_yaml();
    assert!(
        text.contains("#   and 744 attempts of other kinds\n"),
        "{text}"
    );

    let users = many(100, &|number| {
        let mut row = deny("198.51.100.10", 9, "udp", "udp");
        row["process"] = format!("p{number:02}").into();
        row
    });
    let text = suggested(&users).as_yaml();
    assert!(text.contains("p15 (1), others (84): UDP"), "{text}");
}
