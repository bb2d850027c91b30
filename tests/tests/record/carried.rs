//! However an upload ends, what its origin received is never above what each of the three recorders states.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose evidence cannot be read has failed"
)]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use egress_tests::agents::NO_PROXY;
use egress_tests::{Judged, World, wait_until};

/// Counts the payload of each request (each byte of it is an `x`), and treats it as the path says. A line of `received` has the path
/// and the bytes so far.
const ORIGIN: &str = r"
import socket, threading
def serve(stream):
    data = b''
    while b'\r\n\r\n' not in data and (part := stream.recv(65536)): data += part
    head, _, body = data.partition(b'\r\n\r\n')
    name, count = head.split(b' ')[1].decode().strip('/'), body.count(b'x')
    wanted = {'early': 200 << 20, 'forged': 3 << 20}.get(name, 1 << 40)
    answer = {'early': b'200 OK', 'forged': b'403 Forbidden\r\nX-Pipelock-Block-Reason: dlp'}.get(name)
    whole = answer and b'HTTP/1.1 ' + answer + b'\r\nContent-Length: 2\r\n\r\nok'
    if name == 'early': stream.sendall(whole)
    try:
        while count < wanted and (part := stream.recv(1 << 20)): count += part.count(b'x')
        if name == 'forged': stream.sendall(whole)
    except OSError: pass
    with open('received', 'a') as file: file.write(f'{name} {count}\n')
server = socket.create_server(('::', 8100), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
open('listening', 'w').close()
while True: threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
";

/// Sends a body: whole, cut by the end of the command before its answer, or with a chunk that is none.
const CLIENT: &str = r"
import socket, sys
name, size = sys.argv[1], int(sys.argv[2])
stream = socket.create_connection(('allowed.test', 8100), 20)
framing = 'Transfer-Encoding: chunked' if name == 'bad' else f'Content-Length: {size}'
stream.sendall(f'POST /{name} HTTP/1.1\r\nHost: allowed.test:8100\r\n{framing}\r\n\r\n'.encode())
piece = b'x' * (1 << 20)
for _ in range(size >> 20):
    try:
        stream.sendall(b'100000\r\n' + piece + b'\r\n' if name == 'bad' else piece)
    except OSError:
        break
if name == 'bad': stream.sendall(b'no chunk\r\n')
stream.settimeout(20 if name != 'late' else 2)
try:
    print(name, stream.recv(4096).split(b' ')[1].decode())
except (OSError, IndexError):
    print(name, 'none')
";

/// The cases: name of the path, and bytes of the body.
const CASES: [(&str, u64); 4] = [
    ("late", 2 << 20),
    ("early", 200 << 20),
    ("forged", 3 << 20),
    ("bad", 2 << 20),
];

/// What the origin received by now, by path.
fn received(world: &World) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(world.dir().join("received")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
        .collect()
}

#[test]
fn no_origin_received_more_than_the_relay_the_residual_and_the_kernel_state() {
    let world = World::new();
    let _origin = world.peer(["python3", "-c", ORIGIN]);
    wait_until("the origin listens", Duration::from_secs(20), || {
        world.dir().join("listening").exists()
    });
    let asks: Vec<String> = CASES
        .iter()
        .map(|(name, size)| format!("python3 client.py {name} {size}\n"))
        .collect();
    let [key, boundary] = ["receipts", "boundary"].map(|name| world.key(name));
    let run = world.egress().allow(&["allowed.test"]).signed_with(&key);
    let run = run.arg("--boundary-key").arg(&boundary);
    let run = run
        .arg("--allow-port")
        .arg("8100")
        .file("client.py", CLIENT)
        .limit(Duration::from_mins(2))
        .script(&format!("{NO_PROXY}{}", asks.concat()))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    wait_until("the origin has counted", Duration::from_secs(20), || {
        received(&world).len() == CASES.len()
    });
    let received = received(&world);
    for (name, count) in &received {
        // An answer that ends before the upload ends both.
        let least = if name == "early" { 1 } else { 1 << 20 };
        assert!(*count >= least, "{received:?}");
    }

    let boundary_document = run.json("boundary.json");
    let residual = "/residual_channels/allowed_hosts/allowed.test:8100/bytes_up";
    let residual = boundary_document
        .pointer(residual)
        .unwrap()
        .as_u64()
        .unwrap();
    assert!(
        residual >= received.values().sum(),
        "{residual}: {received:?}"
    );
    let closes = run.flows(&[("source", "kernel_close")]);
    for (name, count) in &received {
        let target = format!("POST http://allowed.test:8100/{name}");
        let rows = run.flows(&[("source", "relay"), ("target", &target)]);
        let [row] = rows.as_slice() else {
            panic!("{name}: {rows:?}");
        };
        let verdict = row["verdict"].as_str().unwrap();
        assert!(!matches!(verdict, "blocked" | "refused"), "{row}");
        assert!(
            row["bytes_up"].as_u64().unwrap() >= *count,
            "{count}: {row}"
        );
        let close = closes.iter().find(|one| one["cookie"] == row["cookie"]);
        let sent = close.unwrap()["bytes_sent"].as_u64().unwrap();
        assert!(sent >= *count, "{name}: {sent} of {count}");
    }
    let judged = Judged::new(&run.packet, &key, &boundary);
    assert_eq!(judged.grade(), "kernel_enforced", "{judged}");
}
