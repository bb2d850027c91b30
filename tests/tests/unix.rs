//! Unix sockets: what the witnesses of the kernel record of them, and what is opened on request.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a test whose files cannot be made has failed"
)]

use egress_tests::World;
use serde_json::Value;

/// Uses an address as `kind` says; what comes of it is no matter.
const CLIENT: &str = r"
import socket, sys
for word in sys.argv[1:]:
    kind, address = word.split('=', 1)
    address = address.replace('@', '\0')
    try:
        if kind == 'stream':
            socket.socket(socket.AF_UNIX).connect(address)
        elif kind == 'datagram':
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).connect(address)
        else:
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', address)
    except OSError:
        pass
";

#[test]
fn every_use_of_an_address_is_in_the_record() {
    let world = World::new();
    let run = world
        .egress()
        .allow(&[])
        .file("client.py", CLIENT)
        .script(
            "python3 - << 'EOF'
import socket
for address in ['/tmp/own', 'relative', '\\0own']:
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
import subprocess
subprocess.run(['python3', 'client.py', 'stream=/tmp/own', 'stream=relative', 'stream=@own',
                'stream=/run/docker.sock', 'stream=/var/run/../run/docker.sock',
                'datagram=/run/systemd/journal/socket', 'send=/dev/log', 'send=/dev/log', 'send=/dev/log',
                'stream=/tmp/a\\n\\udcff\"'], check=True)
EOF",
        )
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    for (hook, path, verdict) in [
        ("connect_unix", "/tmp/own", "local"),
        ("connect_unix", "relative", "local"),
        ("connect_unix", "@own", "local"),
        ("connect_unix", "/run/docker.sock", "unreachable"),
        ("connect_unix", "/var/run/../run/docker.sock", "unreachable"),
        ("connect_unix", "/run/systemd/journal/socket", "unreachable"),
        ("connect_unix", "/tmp/a\\n\\xff\\\"", "unreachable"),
        ("sendmsg_unix", "/dev/log", "unreachable"),
    ] {
        let fields = [
            ("hook", hook),
            ("path", path),
            ("verdict", verdict),
            ("protocol", "unix"),
            ("process", "python3"),
        ];
        run.assert_flow(&fields);
    }
    // What repeats is one row and a count.
    assert_eq!(
        run.flows(&[("source", "kernel"), ("path", "/dev/log")])
            .len(),
        1
    );
    run.assert_flow(&[
        ("source", "kernel_repeats"),
        ("path", "/dev/log"),
        ("count", "3"),
    ]);
    // Attempts to reach the host are among the refused ones, uses of one's own sockets are not.
    let denied = run.boundary("/denied").to_string();
    assert!(denied.contains("/run/docker.sock"), "{denied}");
    assert!(!denied.contains("own"), "{denied}");
    assert!(
        run.stderr.contains("3 x /dev/log by python3 (unix"),
        "{run}"
    );
}

#[test]
fn the_record_names_the_witnesses() {
    let world = World::new();
    let run = world.egress().allow(&[]).script("true").run();
    let attached = run.boundary("/programs/attached");
    let names: Vec<&str> = attached
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|program| program.get("name").and_then(Value::as_str))
        .collect();
    let unavailable = run.boundary("/programs/unavailable");
    // Which of the two it is depends on the kernel, and nothing else.
    let release = kernel_release();
    for name in ["agent_unix_connect", "agent_unix_sendmsg"] {
        assert_eq!(names.contains(&name), release >= (6, 7), "{names:?}");
        assert_eq!(
            unavailable.to_string().contains(name),
            release < (6, 7),
            "{unavailable}"
        );
    }
}

/// Version of the running kernel.
fn kernel_release() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = text.split('.').map_while(|part| part.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}
