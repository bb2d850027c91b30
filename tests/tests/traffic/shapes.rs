//! Shapes of traffic: many requests on one connection, many simultaneous connections, large bodies, both address
//! families, and the command's own servers.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use egress_tests::{INTERNET, Run, RunOutput, World, pattern_sha256};

/// The common start of most Python programs.
const PRELUDE: &str = r"
import os, socket, ssl, threading

def read_all(stream):
    parts = []
    while part := stream.recv(1 << 16):
        parts.append(part)
    return b''.join(parts)

def answer(stream):
    'One whole answer that tells its length: status and body.'
    head = b''
    while not head.endswith(b'\r\n\r\n'):
        part = stream.recv(1)
        if not part:
            return 'closed', head.decode()
        head += part
    fields = dict(line.lower().split(': ', 1) for line in head.decode().split('\r\n')[1:] if line)
    body = b''
    while len(body) < int(fields['content-length']):
        body += stream.recv(int(fields['content-length']) - len(body))
    return head.split()[1].decode(), body.decode().strip()
";

/// Returns a shell command that runs a Python program without proxy variables.
fn python(program: &str) -> String {
    format!(
        "unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy\n\
         python3 - <<'PROGRAM'\n{PRELUDE}{program}\nPROGRAM\n"
    )
}

/// Runs `program` without a boundary and with it.
#[track_caller]
fn both(world: &World, run: Run<'_>, program: &str) -> (String, RunOutput) {
    let control = world.shell(&python(program));
    assert!(control.success(), "without a boundary: {control}");
    let run = run.script(&python(program)).run();
    assert_eq!(run.status, Some(0), "with the boundary: {run}");
    (control.stdout, run)
}

#[test]
fn host_changes_on_a_kept_connection() {
    let world = World::new();
    let program = r"
stream = socket.create_connection(('allowed.test', 80), 10)
for host in ['allowed.test', 'allowed.test', 'denied.test']:
    stream.sendall(f'GET / HTTP/1.1\r\nHost: {host}\r\n\r\n'.encode())
    print(answer(stream)[0])
";
    // A request for another name is denied on this connection, even if the policy allows that name.
    for other in ["denied.test", "two.allowed.test"] {
        let program = program.replace("denied.test", other);
        let run = world.egress().allow(&["allowed.test", "two.allowed.test"]);
        let (control, run) = both(&world, run, &program);
        assert_eq!(control, "200\n200\n200\n");
        assert_eq!(run.stdout, "200\n200\n403\n", "{run}");
        run.assert_flow(&[("source", "relay"), ("reason", "name_mismatch")]);
    }
}

#[test]
fn hosts_take_turns_on_a_connection_to_the_proxy() {
    let world = World::new();
    let control = world.shell("curl -sSf http://denied.test/");
    assert!(control.success(), "{control}");
    let program = r"
stream = socket.create_connection(('127.0.0.1', int(os.environ['EXPLICIT'])), 10)
for host in ['allowed.test', 'two.allowed.test', 'denied.test', 'two.allowed.test', 'allowed.test']:
    stream.sendall(f'GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n'.encode())
    status, body = answer(stream)
    print(status, body if status == '200' else '')
";
    let run = world
        .egress()
        .allow(&["allowed.test", "two.allowed.test"])
        .script(&format!(
            "export EXPLICIT=${{HTTP_PROXY##*:}}\n{}",
            python(program)
        ))
        .run();
    assert_eq!(
        run.stdout,
        "200 hello from allowed.test\n200 hello from two.allowed.test\n403 \n\
         200 hello from two.allowed.test\n200 hello from allowed.test\n",
        "{run}"
    );
    let hosts: Vec<_> = run
        .flows(&[("source", "relay"), ("protocol", "http")])
        .iter()
        .map(|row| row["host"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        hosts,
        [
            "allowed.test",
            "two.allowed.test",
            "denied.test",
            "two.allowed.test",
            "allowed.test"
        ]
    );
    run.assert_receipt("block", "denied.test");
}

const GIBIBYTE: u64 = 1 << 30;

#[test]
fn gibibyte_down_and_up() {
    let world = World::new();
    let expected = thread::spawn(|| pattern_sha256(GIBIBYTE));
    let script = format!(
        "unset HTTP_PROXY http_proxy ALL_PROXY all_proxy
         set -o pipefail
         curl -sSf http://allowed.test/bytes/{GIBIBYTE} | sha256sum | cut -c-64
         echo \"down: $SECONDS s\" >&2; SECONDS=0
         openssl enc -aes-128-ctr -nosalt -K 00 -iv 00 -in /dev/zero 2> /dev/null | head -c {GIBIBYTE} |
             tee >(sha256sum | cut -c-64 > sum) | curl -sSf -T - http://allowed.test/upload > answer
         echo \"up: $SECONDS s\" >&2
         cat answer sum",
    );
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .limit(Duration::from_mins(4))
        .script(&script)
        .run();
    println!("{}", run.stderr);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{run}");
    assert_eq!(lines[0], expected.join().unwrap(), "{run}");
    assert_eq!(
        lines[1],
        format!("{{\"bytes\":{GIBIBYTE},\"sha256\":\"{}\"}}", lines[2]),
        "{run}"
    );
    // The flow log contains both transfers with the number of their bytes.
    let flows = run.flows(&[("source", "relay"), ("verdict", "forwarded")]);
    for field in ["bytes_down", "bytes_up"] {
        assert!(
            flows
                .iter()
                .any(|row| row[field].as_u64().is_some_and(|bytes| bytes >= GIBIBYTE)),
            "{field}: {flows:#?}"
        );
    }
}

#[test]
fn body_by_tls_is_byte_exact() {
    const BYTES: u64 = 200_000_001;
    let world = World::new();
    let expected = thread::spawn(|| pattern_sha256(BYTES));
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .file("authority.pem", fs::read(world.authority()).unwrap())
        .script(&format!(
            "unset HTTPS_PROXY https_proxy ALL_PROXY all_proxy
             curl -sSf --cacert authority.pem https://allowed.test/bytes/{BYTES} | sha256sum | cut -c-64"
        ))
        .run();
    assert_eq!(run.stdout.trim_end(), expected.join().unwrap(), "{run}");
    let rows = run.flows(&[("protocol", "tls"), ("host", "allowed.test")]);
    assert_eq!(rows.len(), 1, "{run}");
    // The run may end before the relay has read the end of curl's data.
    let [verdict, reason] = ["verdict", "reason"].map(|name| rows[0][name].as_str().unwrap());
    let ended = [("forwarded", ""), ("unfinished", "stopped")];
    assert!(ended.contains(&(verdict, reason)), "{run}");
    assert!(rows[0]["bytes_down"].as_u64() >= Some(BYTES), "{run}");
}

#[test]
fn five_hundred_connections_at_once() {
    const CONNECTIONS: usize = 500;
    let world = World::new();
    // All connections are open and have sent half a request before the first one sends the rest.
    let program = format!(
        r"
streams = [socket.create_connection(('allowed.test', 80), 30) for _ in range({CONNECTIONS})]
for number, stream in enumerate(streams):
    stream.sendall(f'GET /bytes/{{number + 1}} HTTP/1.1\r\nHost: allo'.encode())
for stream in streams:
    stream.sendall(b'wed.test\r\nConnection: close\r\n\r\n')
lengths = [len(read_all(stream).split(b'\r\n\r\n', 1)[1]) for stream in streams]
assert lengths == list(range(1, {CONNECTIONS} + 1)), lengths
"
    );
    let (_, run) = both(&world, world.egress().allow(&["allowed.test"]), &program);
    let flows = run.flows(&[
        ("source", "relay"),
        ("verdict", "forwarded"),
        ("host", "allowed.test"),
    ]);
    let sockets: BTreeSet<_> = flows.iter().map(|row| row["cookie"].as_u64()).collect();
    assert_eq!(sockets.len(), CONNECTIONS);
    assert_eq!(
        run.boundary("/flows/by_relay_verdict"),
        serde_json::json!({ "forwarded": CONNECTIONS })
    );
}

/// Claims: name-by-address*
#[test]
fn names_and_addresses_of_either_family() {
    let world = World::new();
    let run = world.egress().allow(&[
        "allowed.test",
        "v4.test",
        "v6.test",
        "198.51.100.10",
        "2001:db8:1::10",
    ]);
    let program = r"
def ask(address, host, family, flags=0):
    target = socket.getaddrinfo(address, 80, family, socket.SOCK_STREAM, 0, flags)[0][4]
    stream = socket.socket(family)
    stream.settimeout(10)
    stream.connect(target)
    assert stream.getpeername()[0] == target[0], stream.getpeername()
    stream.sendall(f'GET / HTTP/1.1\r\nHost: {host}\r\n\r\n'.encode())
    assert answer(stream) == ('200', f'hello from {host}'), host

ask('allowed.test', 'allowed.test', socket.AF_INET)
ask('allowed.test', 'allowed.test', socket.AF_INET6)
ask('v4.test', 'v4.test', socket.AF_INET)
ask('v6.test', 'v6.test', socket.AF_INET6)
mapped = socket.getaddrinfo('v4.test', 80, socket.AF_INET)[0][4][0]
ask('::ffff:' + mapped, 'v4.test', socket.AF_INET6)
ask('198.51.100.10', '198.51.100.10', socket.AF_INET)
ask('::ffff:198.51.100.10', '198.51.100.10', socket.AF_INET6)
ask('2001:db8:1::10', '[2001:db8:1::10]', socket.AF_INET6)
";
    let before = world.requests().len();
    let (_, run) = both(&world, run, program);
    let servers: Vec<IpAddr> = world.requests()[before..]
        .iter()
        .map(|request| request.server.ip())
        .collect();
    let (outside, inside) = servers.split_at(8);
    // A connection to an address, or to a name that has only one address, reaches exactly that address.
    assert_eq!(inside[2..], outside[2..], "{run}");
    // Each connection has one row. The address in mapped form comes from an IPv6 socket.
    for (hook, dst) in [
        ("connect4", "198.51.100.10"),
        ("connect6", "198.51.100.10"),
        ("connect6", "2001:db8:1::10"),
    ] {
        let connects = run.flows(&[("hook", hook), ("dst", dst), ("verdict", "redirected")]);
        assert_eq!(connects.len(), 1, "{hook} {dst}: {run}");
        let cookie = connects[0]["cookie"].to_string();
        run.assert_flow(&[
            ("source", "relay"),
            ("cookie", &cookie),
            ("host", dst),
            ("verdict", "forwarded"),
        ]);
    }
    assert_eq!(inside[7], IpAddr::from(INTERNET.allowed_v6));
}

#[test]
fn client_that_closes_its_half() {
    let world = World::new();
    let program = r"
stream = socket.create_connection(('allowed.test', 80), 10)
stream.sendall(b'GET /bytes/5000000 HTTP/1.1\r\nHost: allowed.test\r\nConnection: close\r\n\r\n')
stream.shutdown(socket.SHUT_WR)
print(len(read_all(stream).split(b'\r\n\r\n', 1)[1]))

# TLS by hand: a socket of the library's would read its end as the end of all.
stream = socket.create_connection(('allowed.test', 443), 10)
context = ssl.create_default_context(cafile='authority.pem')
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_hostname='allowed.test')

def until_done(call):
    while True:
        try:
            return call()
        except ssl.SSLWantReadError:
            pending = outgoing.read()
            if pending:
                stream.sendall(pending)
            data = stream.recv(1 << 16)
            incoming.write(data) if data else incoming.write_eof()

until_done(tls.do_handshake)
tls.write(b'GET /bytes/5000000 HTTP/1.1\r\nHost: allowed.test\r\nConnection: close\r\n\r\n')
try:
    tls.unwrap()
except ssl.SSLError:
    pass
stream.sendall(outgoing.read())
stream.shutdown(socket.SHUT_WR)
body = read_all(stream)
print(len(body) > 5000000)
";
    let authority = fs::read(world.authority()).unwrap();
    fs::write(world.dir().join("authority.pem"), &authority).unwrap();
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .file("authority.pem", authority);
    let (control, run) = both(&world, run, program);
    assert_eq!(control, "5000000\nTrue\n");
    assert_eq!(run.stdout, control, "{run}");
}

#[test]
fn servers_of_the_agents_own() {
    let world = World::new();
    let program = r"
def serve(family, kind, address):
    server = socket.socket(family, kind)
    server.bind(address)
    def echo():
        if kind == socket.SOCK_DGRAM:
            data, peer = server.recvfrom(100)
            server.sendto(data, peer)
        else:
            peer, _ = server.accept()
            peer.sendall(peer.recv(100))
            peer.close()
    if kind == socket.SOCK_STREAM:
        server.listen()
    threading.Thread(target=echo, daemon=True).start()
    return server.getsockname()

for name, family, kind, address in [
    ('tcp4', socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', 0)),
    ('tcp6', socket.AF_INET6, socket.SOCK_STREAM, ('::1', 0)),
    ('udp4', socket.AF_INET, socket.SOCK_DGRAM, ('127.0.0.1', 0)),
    ('udp6', socket.AF_INET6, socket.SOCK_DGRAM, ('::1', 0)),
    ('unix', socket.AF_UNIX, socket.SOCK_STREAM, '/tmp/own.socket'),
    ('abstract', socket.AF_UNIX, socket.SOCK_STREAM, '\0egress-test-own'),
]:
    target = serve(family, kind, address)
    client = socket.socket(family, kind)
    client.settimeout(10)
    client.connect(target)
    client.sendall(name.encode())
    print(client.recv(100).decode())
left, right = socket.socketpair()
left.sendall(b'pair')
print(right.recv(100).decode())
os.mkfifo('/tmp/own.fifo')
writer = threading.Thread(target=lambda: open('/tmp/own.fifo', 'w').write('fifo'))
writer.start()
print(open('/tmp/own.fifo').read())
writer.join()
";
    let start = world.wire().snapshot();
    // The control's socket and FIFO are in the world's directory.
    let control = program.replace("/tmp", &world.dir().display().to_string());
    let control = world.shell(&python(&control));
    let expected = "tcp4\ntcp6\nudp4\nudp6\nunix\nabstract\npair\nfifo\n";
    assert_eq!(control.stdout, expected, "{control}");
    let run = world.egress().allow(&[]).script(&python(program)).run();
    assert_eq!(run.stdout, expected, "{run}");
    world.wire().assert_still(start);
    for dst in ["127.0.0.1", "::1"] {
        run.assert_flow(&[("verdict", "local"), ("protocol", "tcp"), ("dst", dst)]);
    }
    assert_eq!(run.receipts("allow").len() + run.receipts("block").len(), 0);
}

#[test]
fn development_server_and_its_clients() {
    let world = World::new();
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .file("page.txt", "from the server next door\n")
        .script(
            r#"
node -e "require('http').createServer((_, r) => r.end('from node\n')).listen(8001)" &
python3 -m http.server 8000 > /dev/null 2>&1 &
for port in 8000 8001; do
    until (exec 3<>/dev/tcp/127.0.0.1/$port) 2> /dev/null; do sleep 0.05; done
done
# With the variables that point to the proxy, and without.
for round in with without; do
    for host in localhost 127.0.0.1; do
        curl -sSf "http://$host:8000/page.txt"
    done
    curl -sSf http://localhost:8001/ && curl -sSfg 'http://[::1]:8001/'
    node -e "fetch('http://localhost:8001/').then(r => r.text()).then(t => process.stdout.write(t))"
    unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy
done
curl -sSf http://web.localhost:8000/page.txt
curl -sSf http://allowed.test/
"#,
        )
        .run();
    let round = "from the server next door\n".repeat(2) + &"from node\n".repeat(3);
    assert_eq!(
        run.stdout,
        round.repeat(2) + "from the server next door\nhello from allowed.test\n",
        "{run}"
    );
    run.assert_flow(&[("verdict", "local"), ("port", "8001")]);
}

/// Claims: channel-host, channel-other-name, channel-time
#[test]
fn what_went_through_an_allowed_host_is_measured() {
    const SCRIPT: &str = "
curl -sS --noproxy '*' -o /dev/null --data-binary @<(head -c 4000 /dev/zero) http://allowed.test/
curl -sS --noproxy '*' -o /dev/null http://allowed.test/bytes/70000
curl -sS --noproxy '*' -o /dev/null http://denied.test/
";
    let world = World::new();
    let run = world.egress().allow(&["allowed.test"]).script(SCRIPT).run();
    assert_eq!(run.status, Some(0), "{run}");
    let number = |pointer: &str| run.boundary(pointer).as_u64().unwrap();
    let host = "/residual_channels/allowed_hosts/allowed.test:80";
    assert_eq!(number(&format!("{host}/requests")), 2, "{run}");
    assert_eq!(number(&format!("{host}/bytes_up")), 4000, "{run}");
    assert!(number(&format!("{host}/bytes_down")) >= 70_000, "{run}");
    let targets = "POST http://allowed.test/GET http://allowed.test/bytes/70000".len();
    assert_eq!(
        number(&format!("{host}/target_bytes")),
        targets as u64,
        "{run}"
    );
    assert!(
        number(&format!("{host}/head_bytes")) > targets as u64,
        "{run}"
    );
    assert_eq!(number("/residual_channels/blocked/requests"), 1, "{run}");
    assert_eq!(number("/residual_channels/names"), 2, "{run}");
    let names = "allowed.test".len() + "denied.test".len();
    assert_eq!(
        number("/residual_channels/name_bytes"),
        names as u64,
        "{run}"
    );
    let queries = world.queries();
    assert!(queries.iter().any(|query| query.name == "allowed.test"));
    assert!(
        queries.iter().all(|query| query.name != "denied.test"),
        "{queries:?}"
    );
    // Both records contain the time of each request.
    let requests = run.flows(&[("source", "relay"), ("verdict", "forwarded")]);
    assert_eq!(requests.len(), 2, "{requests:#?}");
    assert!(
        requests.iter().all(|row| row["ts"].is_string()),
        "{requests:#?}"
    );
    let receipts = run.lines("evidence.jsonl");
    let times = receipts.iter().filter_map(|line| {
        let record = line.pointer("/detail/action_record")?;
        (record["verdict"] == "allow").then(|| record["timestamp"].is_string())
    });
    let times: Vec<bool> = times.collect();
    assert!(times.len() >= 4 && times.iter().all(|is_there| *is_there));
}

/// Claims: channel-wildcard
#[test]
fn each_name_below_an_allowed_wildcard_is_measured() {
    let world = World::new();
    let run = world
        .egress()
        .allow(&["*.allowed.test"])
        .script("for name in allowed.test two.allowed.test two.allowed.test; do curl -sS --noproxy '*' -o /dev/null http://$name/; done")
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    for (name, requests) in [("allowed.test", 1), ("two.allowed.test", 2)] {
        let row = format!("/residual_channels/allowed_hosts/{name}:80/requests");
        assert_eq!(run.boundary(&row), requests, "{name}: {run}");
        let queries = world.queries();
        assert!(
            queries.iter().any(|query| query.name == name),
            "{name}: {queries:?}"
        );
    }
}
