//! The kernel counts bytes on both sides of the mediator. These counts limit the bytes that the relay and the mediator
//! can claim.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test whose rows are not there has failed"
)]

mod name_servers;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use egress_tests::agents::NO_PROXY;
use egress_tests::{INTERNET, Judged, RunOutput, Running, World, wait_until};
use serde_json::Value;

/// Number of bytes of each upload.
const UPLOAD: u64 = 2 << 20;
/// Upper limit on the bytes of a request head in these tests, with the SYN and the FIN.
const HEAD: u64 = 1 << 10;
/// The port of the origin that counts received bytes.
const COUNTER: &str = "7100";
const SOON: Duration = Duration::from_secs(30);

/// Starts an origin that reads everything and answers nothing. When a connection ends, the origin appends the number of
/// received bytes to `counted`. When a connection has carried a whole upload, the origin appends a line to `progress`.
fn counting_origin(world: &World) -> Running {
    let origin = world.peer([
        "python3".to_owned(),
        "-c".to_owned(),
        format!(
            "
import socket, threading
server = socket.create_server(('::', {COUNTER}), family=socket.AF_INET6, dualstack_ipv6=True)
def note(name, text):
    with open(name, 'a') as file:
        file.write(f'{{text}}\\n')
def count(stream):
    total, told = 0, False
    try:
        while part := stream.recv(1 << 16):
            total += len(part)
            if total >= {UPLOAD} and not told:
                told = True
                note('progress', total)
    except OSError:
        pass
    note('counted', total)
note('listening', 1)
while True:
    stream, _ = server.accept()
    threading.Thread(target=count, args=[stream], daemon=True).start()
"
        ),
    ]);
    let listening = world.dir().join("listening");
    wait_until("the origin listens", SOON, || listening.exists());
    origin
}

/// Sends a whole upload to the counting origin. The Python code `end` then ends the connection `stream`.
fn upload(end: &str) -> String {
    format!(
        "{NO_PROXY}exec python3 - <<'PROGRAM'\n\
         import os, socket, struct, time\n\
         stream = socket.create_connection(('allowed.test', {COUNTER}))\n\
         head = 'POST / HTTP/1.1\\r\\nHost: allowed.test:{COUNTER}\\r\\nContent-Length: {UPLOAD}\\r\\n\\r\\n'\n\
         stream.sendall(head.encode() + bytes({UPLOAD}))\n\
         while not os.path.exists('arrived'): time.sleep(0.02)\n\
         {end}\n\
         PROGRAM\n"
    )
}

/// Returns the byte counts in a row of the kernel: sent, acknowledged, and received.
fn bytes(row: &Value) -> [u64; 3] {
    ["bytes_sent", "bytes_acked", "bytes_received"].map(|name| row[name].as_u64().unwrap())
}

/// Returns the kernel's row about the close of each connection of the command, with the row about the connect.
#[track_caller]
fn closes(run: &RunOutput) -> Vec<(Value, Value)> {
    let key = |row: &Value| (row["cookie"].as_u64(), row["connect_ns"].as_u64());
    let mut connects = BTreeMap::new();
    for verdict in ["redirected", "proxy"] {
        for row in run.flows(&[("source", "kernel"), ("verdict", verdict)]) {
            connects.insert(key(&row), row);
        }
    }
    let rows = run.flows(&[("source", "kernel_close")]);
    let closes: Vec<(Value, Value)> = rows
        .into_iter()
        .map(|close| {
            let connect = connects.remove(&key(&close));
            let connect =
                connect.unwrap_or_else(|| panic!("no connect, or two closes: {close:#}\n{run}"));
            (connect, close)
        })
        .collect();
    assert!(connects.is_empty(), "without a close: {connects:#?}\n{run}");
    assert_eq!(run.boundary("/counters/ring_full"), 0);
    closes
}

/// Returns the TCP connections that the mediator opened to this port.
fn of_mediator(run: &RunOutput, port: &str) -> Vec<Value> {
    run.flows(&[
        ("source", "kernel_mediator"),
        ("protocol", "tcp"),
        ("port", port),
    ])
}

/// Claims: collect-record*, mediator-connections
#[test]
fn uploads_are_counted_on_both_sides_of_the_mediator() {
    let world = World::new();
    let upload = |way: &str| {
        format!("curl -sS {way} --data-binary @upload -H Expect: http://allowed.test/upload\n")
    };
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .script(&format!(
            "head -c {UPLOAD} /dev/zero > upload\n{}unset http_proxy HTTP_PROXY ALL_PROXY all_proxy\n{}{}",
            upload("-x http://127.0.0.1:3128"),
            upload("-4"),
            upload("-6"),
        ))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    let counted: Vec<Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(counted.len(), 3, "{run}");
    assert!(counted.iter().all(|row| row["bytes"] == UPLOAD), "{run}");

    let closes = closes(&run);
    let mut ways: Vec<(&str, u64)> = closes
        .iter()
        .map(|(connect, _)| {
            (
                connect["verdict"].as_str().unwrap(),
                connect["family"].as_u64().unwrap(),
            )
        })
        .collect();
    ways.sort_unstable();
    assert_eq!(ways, [("proxy", 2), ("redirected", 2), ("redirected", 10)]);
    for (connect, close) in &closes {
        let [sent, acked, received] = bytes(close);
        assert!(
            (UPLOAD..UPLOAD + HEAD).contains(&sent),
            "{connect:#}{close:#}"
        );
        assert_eq!(sent, acked, "{close:#}");
        assert!((100..HEAD).contains(&received), "{close:#}");
    }
    // On the mediator's side, every connection has a row with its address. The sum of the bytes in these rows is
    // checked.
    let upstream = of_mediator(&run, "80");
    let mut total = 0;
    for row in &upstream {
        let to = row["dst"].as_str().unwrap();
        let own = [
            INTERNET.allowed.to_string(),
            INTERNET.allowed_v6.to_string(),
        ];
        assert!(own.iter().any(|address| address == to), "{row:#}");
        assert_eq!(
            (&row["established"], &row["closed"]),
            (&true.into(), &true.into()),
            "{row:#}"
        );
        let [sent, acked, _] = bytes(row);
        assert_eq!(sent, acked, "{row:#}");
        total += sent;
    }
    assert!(
        (3 * UPLOAD..3 * (UPLOAD + HEAD)).contains(&total),
        "{upstream:#?}"
    );
    // Connections that the mediator's listener accepted come from the relay and have no rows here.
    let all = run.flows(&[("source", "kernel_mediator"), ("protocol", "tcp")]);
    assert_eq!(all.len(), upstream.len(), "{all:#?}");

    // Each of the mediator's queries to the name server has a row. There are no other rows about datagrams.
    let datagrams = run.flows(&[("source", "kernel_mediator"), ("protocol", "udp")]);
    let asked = world.queries();
    assert!(!asked.is_empty());
    assert_eq!(
        datagrams.len(),
        asked.iter().filter(|query| !query.tcp).count(),
        "{datagrams:#?}"
    );
    for row in &datagrams {
        assert_eq!(row["dst"], INTERNET.resolver.to_string(), "{row:#}");
        assert_eq!(
            (&row["port"], &row["closed"]),
            (&53.into(), &true.into()),
            "{row:#}"
        );
        // A query consists of a header, name, type, and class, and possibly an EDNS record.
        assert!((30..80).contains(&bytes(row)[0]), "{row:#}");
    }
    // No row follows the row `last`.
    let last = run.lines("flows.jsonl").pop().unwrap();
    assert_eq!(last["event"], "end");
}

/// Makes an upload, ends its connection with `end` after the upload has arrived, and returns the run.
fn ended_by(world: &World, end: &str) -> (RunOutput, u64) {
    let origin = counting_origin(world);
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .arg("--allow-port")
        .arg(COUNTER)
        .script(&upload(end));
    let (running, packet, workdir) = run.start();
    let progress = world.dir().join("progress");
    wait_until("the upload has arrived", SOON, || progress.exists());
    fs::write(workdir.join("arrived"), "").unwrap();
    let output = running.finish(SOON);
    let counted = world.dir().join("counted");
    wait_until("the origin has counted", SOON, || {
        fs::read_to_string(&counted).is_ok_and(|text| text.ends_with('\n'))
    });
    let counted = fs::read_to_string(&counted).unwrap();
    drop(origin);
    (
        RunOutput::of(output, packet, workdir),
        counted.trim().parse().unwrap(),
    )
}

/// Claims: close-reported*
#[test]
fn bytes_of_a_connection_that_is_reset_or_killed_are_counted() {
    for end in [
        "stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); stream.close()",
        "os.kill(os.getpid(), 9)",
        "os._exit(0)",
    ] {
        let world = World::new();
        let (run, counted) = ended_by(&world, end);
        assert!(counted >= UPLOAD, "{end}: {counted}");
        let closes = closes(&run);
        assert_eq!(closes.len(), 1, "{end}: {closes:#?}");
        let [sent, acked, _] = bytes(&closes[0].1);
        assert!(
            sent >= UPLOAD && sent >= acked && sent < UPLOAD + HEAD,
            "{end}: {closes:#?}"
        );
        let upstream = of_mediator(&run, COUNTER);
        assert_eq!(upstream.len(), 1, "{end}: {upstream:#?}");
        let [sent, ..] = bytes(&upstream[0]);
        assert!(
            (counted..counted + HEAD).contains(&sent),
            "{end}: {counted} {upstream:#?}"
        );
    }
}

/// Claims: collect-record, late-closes
#[test]
fn connection_that_outlives_the_mediator_is_written_as_open() {
    let world = World::new();
    // This origin accepts connections and reads nothing, so that the kernel cannot deliver the mediator's bytes.
    let origin = world.peer([
        "python3".to_owned(),
        "-c".to_owned(),
        format!(
            "
import socket, time
server = socket.create_server(('::', {COUNTER}), family=socket.AF_INET6, dualstack_ipv6=True)
open('listening', 'w').close()
held = []
while True:
    held.append(server.accept())
"
        ),
    ]);
    wait_until("the origin listens", SOON, || {
        world.dir().join("listening").exists()
    });
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .arg("--allow-port")
        .arg(COUNTER)
        .script(&format!(
            "{NO_PROXY}head -c 30000000 /dev/zero | curl -sS -m 3 -T - http://allowed.test:{COUNTER}/\n\
             curl -sS -m 3 http://allowed.test:7101/ -o /dev/null\ntrue\n"
        ))
        .arg("--allow-port")
        .arg("7101")
        .run();
    drop(origin);
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(closes(&run).len(), 2, "{run}");
    let open = of_mediator(&run, COUNTER);
    assert_eq!(open.len(), 1, "{open:#?}");
    let (is_established, is_closed) = (&open[0]["established"], &open[0]["closed"]);
    assert_eq!((is_established, is_closed), (&true.into(), &false.into()));
    assert!(bytes(&open[0])[0] > HEAD, "{open:#?}");
    // Nothing listens on this port. Each address that the mediator tried has a row.
    let refused = of_mediator(&run, "7101");
    assert!(!refused.is_empty(), "{run}");
    for row in &refused {
        assert_eq!(
            (&row["established"], &row["closed"]),
            (&false.into(), &true.into()),
            "{row:#}"
        );
        assert_eq!(bytes(row), [1, 0, 0], "{row:#}");
    }
}

/// Attempts of a command to prevent the report about the close of a connection, or to cause a second one.
const EVASION: &str = r"
import errno, socket, struct
TCP_BPF_SOCK_OPS_CB_FLAGS = 1008
UNSPEC = b'\0' * 16

def unspec(stream):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.connect(stream.fileno(), ctypes.create_string_buffer(UNSPEC, 16), 16) == 0, ctypes.get_errno()

def request(stream):
    stream.sendall(b'GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n')
    assert stream.recv(1 << 16).startswith(b'HTTP/1.1 200')

there = socket.getaddrinfo('allowed.test', 80, socket.AF_INET)[0][4]
# The flags are out of reach.
one = socket.create_connection(there)
try:
    one.setsockopt(socket.IPPROTO_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, 0)
    print('flags changed')
except OSError as error:
    print('flags', errno.errorcode[error.errno])
request(one)
one.close()
# One socket connects three times, listens, takes a connection, and ends.
two = socket.socket()
for _ in range(3):
    two.connect(there)
    request(two)
    unspec(two)
two.bind(('127.0.0.1', 4567))
two.listen()
near = socket.create_connection(('127.0.0.1', 4567))
child, _ = two.accept()
child.close(), near.close(), two.close()
# The connect is put off until the first bytes; without any there is no connection.
late = socket.socket()
late.setsockopt(socket.IPPROTO_TCP, 30, 1)
late.connect(there)
request(late)
late.close()
# The server does not answer any other loopback address.
other = socket.socket()
other.bind(('127.0.0.2', 0))
other.connect(there)
try:
    print('from 127.0.0.2', other.recv(1))
except OSError as error:
    print('from 127.0.0.2', errno.errorcode[error.errno])
other.close()
print('done')
";

/// Claims: slot-at-syn, close-reported, close-flags, closes-counted
#[test]
fn each_connect_has_one_close_whatever_the_command_does_with_the_socket() {
    let world = World::new();
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .script(&format!(
            "{NO_PROXY}python3 - <<'PROGRAM'\n{EVASION}\nPROGRAM\n"
        ))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.contains("flags ENOPROTOOPT\n"), "{run}");
    assert!(run.stdout.ends_with("done\n"), "{run}");
    let closes = closes(&run);
    assert_eq!(closes.len(), 6, "{closes:#?}");
    for (connect, close) in &closes {
        let is_served = connect["port"] == 80 && bytes(close)[2] > 2;
        let [sent, acked, _] = bytes(close);
        assert!(sent >= acked && sent >= 1, "{close:#}");
        // The bytes are the head of the request, the SYN, and possibly the FIN.
        assert!(!is_served || sent >= 39, "{close:#}");
    }
    assert_eq!(
        run.boundary("/counters/closes_expected"),
        run.boundary("/counters/closes_seen")
    );
}

/// Claims: closes-counted*
#[test]
fn close_that_no_program_counts_leaves_the_record_incomplete() {
    const HOLD: &str = "exec python3 - <<'PROGRAM'
import os, socket, time
stream = socket.create_connection(('allowed.test', 80))
stream.sendall(b'GET / HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n')
assert stream.recv(1 << 16).startswith(b'HTTP/1.1 200')
open('ready', 'w').close()
while not os.path.exists('go'): time.sleep(0.02)
PROGRAM
";
    let world = World::new();
    let run = |is_counted: bool| {
        let (running, packet, workdir) = world
            .egress()
            .allow(&["allowed.test"])
            .arg("--workspace")
            .arg("direct")
            .script(&format!("{NO_PROXY}{HOLD}"))
            .start();
        wait_until("the connection is open", SOON, || {
            workdir.join("ready").exists()
        });
        if !is_counted {
            assert!(running.detach_links() >= 8);
        }
        fs::write(workdir.join("go"), "").unwrap();
        let output = running.finish(Duration::from_mins(1));
        let run = RunOutput::of(output, packet, workdir);
        // The kernel also counts the connections of the probes.
        let [expected, seen] = ["closes_expected", "closes_seen"]
            .map(|name| run.boundary(&format!("/counters/{name}")).as_u64().unwrap());
        let incomplete = run.boundary("/incomplete").to_string();
        let is_told = incomplete.contains("1 connections of the command were still open");
        (run.status, expected - seen, is_told)
    };
    assert_eq!(run(true), (Some(0), 0, false));
    assert_eq!(run(false), (Some(125), 1, true));
}
