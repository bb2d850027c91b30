//! With `--mode audit`, all traffic passes, and the record states what `enforce` would have denied. Verification must
//! not accept the packet of an audit as proof of a boundary.

use std::fs;
use std::path::Path;

use egress_tests::{RunOutput, World, evidence};

/// Connects to two hosts, and to one of them also on another port. Sends a datagram, and resolves a name.
const AGENT: &str = r"
curl -sS -m 20 -o /dev/null http://allowed.test/ && echo http
curl -sS -m 20 -o /dev/null https://allowed.test/ && echo https
curl -sS -m 20 -o /dev/null http://denied.test/ && echo other
python3 - << 'EOF'
import socket
print(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('198.51.100.77', 4433)))
socket.create_connection(('198.51.100.78', 2222), 5)
socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
EOF
";

fn audit(world: &World, script: &str) -> RunOutput {
    world
        .egress()
        .arg("--mode")
        .arg("audit")
        .script(script)
        .run()
}

/// Claims: modes-and-mediators*, audit-mode*
#[test]
fn everything_passes_and_is_recorded() {
    let world = World::new();
    world.wait_for_quiet();
    let start = world.wire().snapshot();
    let run = audit(&world, AGENT);
    assert!(run.stdout.starts_with("http\nhttps\nother\n1\n"), "{run}");
    // The wire shows that each attempt left the runner.
    let address = |name: &str| name.parse().ok();
    for (protocol, to, port) in [
        (6, None, 80),
        (6, None, 443),
        (17, None, 53),
        (17, address("198.51.100.77"), 4433),
        (6, address("198.51.100.78"), 2222),
    ] {
        world.wire().assert_left(start, |packet| {
            packet.protocol == protocol
                && packet.port == Some(port)
                && to.is_none_or(|to| packet.destination == Some(to))
        });
    }
    for fields in [
        [
            ("verdict", "would_redirect"),
            ("name", "allowed.test"),
            ("port", "80"),
        ],
        [
            ("verdict", "would_redirect"),
            ("name", "allowed.test"),
            ("port", "443"),
        ],
        [
            ("verdict", "would_redirect"),
            ("name", "denied.test"),
            ("port", "80"),
        ],
        [
            ("verdict", "would_redirect"),
            ("dst", "198.51.100.78"),
            ("port", "2222"),
        ],
        [
            ("verdict", "would_deny"),
            ("dst", "198.51.100.77"),
            ("reason", "udp"),
        ],
        [
            ("verdict", "would_deny"),
            ("port", "53"),
            ("protocol", "udp"),
        ],
    ] {
        run.assert_flow(&fields);
    }
    run.assert_flow(&[("verdict", "dns_answer"), ("name", "allowed.test")]);
    assert_eq!(run.flows(&[("verdict", "denied")]).len(), 0, "{run}");
    assert_eq!(run.flows(&[("verdict", "redirected")]).len(), 0, "{run}");
    // DNS queries to the caller's own name server are not listed as denied. The datagram is listed.
    let denied = run.boundary("/denied").to_string();
    assert!(denied.contains("198.51.100.77"), "{denied}");
    assert!(!denied.contains("dns"), "{denied}");
    // The document and both pages list the connections, but not the queries.
    let connections = run.boundary("/allowed");
    let connections: Vec<_> = connections.as_array().unwrap().iter().collect();
    let places = [
        "allowed.test:80",
        "allowed.test:443",
        "denied.test:80",
        "198.51.100.78:2222",
    ];
    assert_eq!(connections.len(), places.len(), "{connections:?}");
    for page in ["summary.md", "report.html"] {
        let page = fs::read_to_string(run.packet.join(page)).unwrap();
        let (_, page) = page
            .split_once("Connections")
            .expect("a list of connections");
        for place in places {
            assert!(page.contains(place), "{place}: {page}");
        }
        assert!(page.contains("curl"), "{page}");
    }
    let page = fs::read_to_string(run.packet.join("report.html")).unwrap();
    assert!(!page.contains("203.0.113.1"), "{page}");
}

#[test]
fn status_is_the_commands_and_the_other_layers_stay() {
    let world = World::new();
    let run = audit(
        &world,
        "id -u; grep -E '^(NoNewPrivs|CapEff):' /proc/self/status
         env | grep -i _proxy; ls /run; readlink /proc/self/ns/net; exit 7",
    );
    assert_eq!(run.status, Some(7), "{run}");
    let control = world.shell("readlink /proc/self/ns/net");
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(lines.contains(&"CapEff:\t0000000000000000"), "{run}");
    assert!(lines.contains(&"NoNewPrivs:\t1"), "{run}");
    assert!(!lines.contains(&"0"), "{run}");
    assert!(!run.stdout.contains("127.0.0.1"), "{run}");
    assert_eq!(lines.last().copied(), Some(control.stdout.trim()), "{run}");
}

/// Claims: grade-none
#[test]
fn packet_proves_nothing_and_states_it_everywhere() {
    let world = World::new();
    let key = world.key("signing.key");
    let run = world
        .egress()
        .signed_with(&key)
        .arg("--mode")
        .arg("audit")
        .script("curl -sS -o /dev/null http://allowed.test/")
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stderr.contains("AUDIT MODE"), "{run}");
    // An audit does not fail because it has no receipts, and the output names the next step.
    let verdict = "egress: verdict   none: an audit has no receipts\n";
    assert!(run.stderr.contains(verdict), "{run}");
    let packet = run.packet.display();
    let next = format!("egress: next      egress policy suggest {packet} prints a policy");
    assert!(run.stderr.contains(&next), "{run}");
    let suggested = world.tool(["policy", "suggest", &packet.to_string()]);
    assert!(suggested.stdout.contains("allowed.test"), "{suggested}");
    let page = fs::read_to_string(run.packet.join("report.html")).unwrap();
    assert!(page.contains("error (an audit has no receipts)"), "{page}");
    let summary = fs::read_to_string(run.packet.join("summary.md")).unwrap();
    assert!(summary.contains("AUDIT MODE"), "{summary}");
    // `egress verify` rejects this packet, so no page names a command that checks it.
    let sentence = "Audit only, nothing was enforced: no attempt that every policy denies, ";
    for page in [&page, &summary] {
        assert!(
            page.contains(sentence) && !page.contains("Check it"),
            "{page}"
        );
    }
    assert_eq!(run.boundary("/mode"), "audit");
    let packet = run.json("packet.json");
    let at = |pointer: &str| packet.pointer(pointer).cloned().unwrap();
    assert_eq!(at("/verifier/verdict"), "error");
    assert_eq!(at("/verifier/trusted"), false);
    assert_eq!(at("/posture/enforcement_mode"), "none_audit");
    assert_eq!(at("/summary/receipt_count"), 0);
    assert!(
        summary.contains("with --mode audit, so nothing was enforced"),
        "{summary}"
    );

    // This packet is rejected under its own key. A valid packet is rejected too if its mode is changed to an audit.
    let mut public = key.clone().into_os_string();
    public.push(".pub");
    let verify = |dir: &Path| evidence::verify(&[dir.as_os_str(), "--key".as_ref(), &public]);
    let verdict = verify(&run.packet);
    assert_ne!(verdict.status, Some(0), "{verdict}");
    assert!(
        verdict.to_string().contains("packet.audit_mode"),
        "{verdict}"
    );
    let enforced = world
        .egress()
        .allow(&["allowed.test"])
        .signed_with(&key)
        .script("curl -sS -o /dev/null http://allowed.test/")
        .run();
    let verdict = verify(&enforced.packet);
    assert_eq!(verdict.status, Some(0), "{verdict}");
    let file = enforced.packet.join("packet.json");
    let text = fs::read_to_string(&file).unwrap();
    let mode = enforced.json("packet.json");
    let mode = mode
        .pointer("/posture/enforcement_mode")
        .unwrap()
        .to_string();
    fs::write(&file, text.replace(&mode, "\"none_audit\"")).unwrap();
    let verdict = verify(&enforced.packet);
    assert_eq!(verdict.status, Some(1), "{verdict}");
}

#[test]
fn what_an_audit_cannot_give_is_refused() {
    let world = World::new();
    for option in ["--require-trusted", "--mediator=pipelock"] {
        let run = world
            .egress()
            .arg("--mode")
            .arg("audit")
            .arg(option)
            .script("echo ran")
            .run();
        assert_eq!((run.status, run.stdout.as_str()), (Some(64), ""), "{run}");
        assert!(run.stderr.contains("--mode audit"), "{run}");
    }
}
