//! Ways out of the boundary that are closed. Each attempt succeeds without the boundary.

use std::time::Duration;

use egress_tests::aftermath::until_ready;
use egress_tests::{RunOutput, Trace, World};

/// Time limit for anything that should happen at once, even on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// A DNS query for `allowed.test`, as Python code.
const QUESTION: &str =
    r"q = bytes.fromhex('abcd01000001000000000000') + b'\x07allowed\x04test\x00\x00\x01\x00\x01'";

/// Returns a shell command that runs a Python program as an attempt.
fn python(program: &str) -> String {
    format!("python3 - <<'EOF'\nimport socket, struct, sys\n{program}\nEOF")
}

/// Returns whether a row of the flow log has these fields.
fn has_flow(run: &RunOutput, fields: &[(&str, &str)]) -> bool {
    run.lines("flows.jsonl").iter().any(|row| {
        fields
            .iter()
            .all(|(name, value)| row[*name].as_str() == Some(*value))
    })
}

/// Claims: relay-only, tcp*, tcp-mediated
#[test]
fn http_by_address_of_either_family() {
    for address in [
        "198.51.100.20",
        "[2001:db8:1::20]",
        "[::ffff:198.51.100.20]",
    ] {
        let world = World::new();
        // With `-f`, curl fails on the 403 with which the relay answers a denied request.
        let run = world.assert_contained(
            Trace::OnTheWire,
            &format!("curl -sSfg --noproxy '*' http://{address}/"),
        );
        assert!(
            has_flow(&run, &[("source", "kernel"), ("verdict", "redirected")]),
            "{address}: {run}"
        );
    }
}

#[test]
fn servers_that_speak_first() {
    let world = World::new();
    world.assert_contained(
        Trace::OnTheWire,
        "exec 3<>/dev/tcp/198.51.100.20/22 && read -r -t 5 line <&3 && [[ $line == SSH-* ]]",
    );
}

#[test]
fn name_servers_by_udp_and_tcp() {
    for (address, family) in [("198.51.100.53", "AF_INET"), ("2001:db8:1::53", "AF_INET6")] {
        let world = World::new();
        let run = world.assert_contained(
            Trace::OnTheWire,
            &python(&format!(
                "{QUESTION}\ns = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.settimeout(3)\n\
                 s.sendto(q, ('{address}', 53)); sys.exit(len(s.recv(512)) <= len(q))"
            )),
        );
        assert!(
            has_flow(&run, &[("verdict", "denied"), ("protocol", "udp")]),
            "{run}"
        );
        World::new().assert_contained(
            Trace::OnTheWire,
            &python(&format!(
                "{QUESTION}\ns = socket.create_connection(('{address}', 53), 3)\n\
                 s.sendall(struct.pack('>H', len(q)) + q); sys.exit(len(s.recv(512)) <= len(q))"
            )),
        );
    }
}

/// Claims: relay-only, other-protocols, udp, events-before-decision*
#[test]
fn datagrams_connected_or_not() {
    let world = World::new();
    let run = world.assert_contained(
        Trace::OnTheWire,
        &python(
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('198.51.100.20', 7000))",
        ),
    );
    assert!(
        has_flow(
            &run,
            &[
                ("verdict", "denied"),
                ("protocol", "udp"),
                ("dst", "198.51.100.20"),
                ("process", "python3")
            ]
        ),
        "{run}"
    );
    World::new().assert_contained(
        Trace::OnTheWire,
        &python(
            "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.connect(('2001:db8:1::20', 443)); s.send(b'x')",
        ),
    );
    World::new().assert_contained(
        Trace::OnTheWire,
        &python(
            "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.sendto(b'x', ('::ffff:198.51.100.20', 7000))",
        ),
    );
}

/// Claims: other-ip
#[test]
fn raw_sockets() {
    let world = World::new();
    let run = world.assert_contained(
        Trace::OnTheWire,
        &python(
            "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)\n\
             s.sendto(bytes.fromhex('0800f7fd00010001'), ('198.51.100.20', 0))",
        ),
    );
    assert!(!run.stdout.contains("THROUGH"));
}

/// Claims: families
#[test]
fn packet_sockets() {
    let world = World::new();
    world.assert_contained(
        Trace::OnTheWire,
        &python(
            "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
             s.bind(('eth0', 0)); s.send(bytes.fromhex('020000000001' '020000000002' '0800') + bytes(46))",
        ),
    );
}

/// Claims: other-ip
#[test]
fn multipath_tcp() {
    let world = World::new();
    world.assert_contained(
        Trace::OnTheWire,
        &python(
            "s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262); s.settimeout(3)\n\
             s.connect(('198.51.100.20', 80))\n\
             s.sendall(b'GET / HTTP/1.1\\r\\nHost: denied.test\\r\\nConnection: close\\r\\n\\r\\n')\n\
             sys.exit(not s.recv(100).startswith(b'HTTP/1.1 200'))",
        ),
    );
}

/// Claims: families*
#[test]
fn families_that_no_cgroup_hook_sees() {
    // The first kind of socket leads to virtual machines. The second kind is of the netlink family that lists the
    // sockets of other processes.
    for socket in [
        "socket.AF_VSOCK, socket.SOCK_STREAM",
        "socket.AF_NETLINK, socket.SOCK_RAW, 4",
    ] {
        World::new().assert_contained(Trace::None, &python(&format!("socket.socket({socket})")));
    }
    // The command can open sockets of only the four address families that have rules.
    let families = python(
        "def opens(family):
    for kind in range(1, 7):
        try: return bool(socket.socket(family, kind))
        except OSError: pass
print(*filter(opens, range(64)))",
    );
    let run = World::new().egress().allow(&[]).script(&families).run();
    assert_eq!(run.stdout, "1 2 10 16\n", "{run}");
}

/// Claims: calls
#[test]
fn asynchronous_system_calls() {
    let world = World::new();
    world.assert_contained(
        Trace::None,
        &python(
            "import ctypes\n\
             libc = ctypes.CDLL(None, use_errno=True)\n\
             sys.exit(libc.syscall(425, 4, ctypes.byref(ctypes.create_string_buffer(256))) < 0)",
        ),
    );
}

/// Claims: relay-only*
#[test]
fn lost_kernel_programs_leave_no_way_out() {
    const ATTEMPTS: [(&str, &str); 4] = [
        (
            "by name",
            "curl -sSf --noproxy '*' -m 5 http://denied.test/",
        ),
        (
            "by address",
            "curl -sSf --noproxy '*' -m 5 http://198.51.100.20/",
        ),
        (
            "by IPv6 address",
            "curl -sSfg --noproxy '*' -m 5 http://[2001:db8:1::20]/",
        ),
        ("by datagram", "echo x > /dev/udp/198.51.100.20/7000"),
    ];
    let world = World::new();
    let mut script = "touch ready; until [ -e go ]; do sleep 0.02; done\n".to_owned();
    for (name, attempt) in ATTEMPTS {
        script = format!("{script}{{ {attempt}; }} && echo THROUGH {name}\n");
    }
    script.push_str("echo over\n");

    let start = world.wire().snapshot();
    let (running, _, workdir) = world
        .egress()
        .allow(&["allowed.test"])
        .script(&script)
        .start();
    until_ready(&workdir, LONG);
    let detached = running.detach_links();
    assert!(detached >= 8, "detached only {detached}");
    std::fs::write(workdir.join("go"), "").unwrap();
    let output = running.finish(Duration::from_mins(1));
    world.wire().assert_still(start);
    assert_eq!(output.stdout, "over\n", "{output}");
    // The run also reports that its record is incomplete.
    assert_eq!(output.status, Some(125), "{output}");
    assert!(output.stderr.contains("still attached"), "{output}");

    for (name, attempt) in ATTEMPTS {
        let start = world.wire().snapshot();
        let control = world.shell(attempt);
        assert!(control.success(), "{name}, without a boundary: {control}");
        world.wire().assert_moved(start);
    }
}

#[test]
fn credentials_of_the_cloud() {
    let world = World::new();
    world.assert_contained(
        Trace::OnTheWire,
        "curl -sSf --noproxy '*' http://169.254.169.254/",
    );
    // The attempt fails even if the policy allows a name that resolves to this address.
    let world = World::new();
    world.assert_contained_by(
        world.egress().allow(&["metadata.test"]),
        Trace::OnTheWire,
        "curl -sSf --noproxy '*' http://169.254.169.254/",
    );
}
