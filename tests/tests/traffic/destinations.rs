//! The relay determines the right destination of every connection, even if another connection used the same local port
//! before, or uses it at another address at the same time.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test whose rows are not there has failed"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use egress_tests::{INTERNET, Run, RunOutput, World, installed};
use serde_json::Value;

/// The common start of the programs. This text defines a function that sends one request and returns the status of the
/// answer.
const PRELUDE: &str = r"
import socket, struct, threading

def ask(stream, host):
    stream.settimeout(20)
    try:
        stream.sendall(f'GET /{host} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n'.encode())
        answer = b''
        while part := stream.recv(1 << 16):
            answer += part
    except OSError as error:
        return type(error).__name__
    return answer.split()[1].decode() if answer else 'nothing'

def bound(address, port=0):
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    stream.bind((address, port))
    return stream
";

fn python(program: &str) -> String {
    format!(
        "unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy\n\
         python3 - <<'PROGRAM'\n{PRELUDE}{program}\nPROGRAM\n"
    )
}

fn run(world: &World) -> Run<'_> {
    world
        .egress()
        .allow(&["allowed.test", "two.allowed.test"])
        .limit(Duration::from_mins(2))
}

/// Fails unless the records agree about every connection. The kernel's row states the destination address, the
/// resolver's row states the host name for it, and the relay's row states the host name that the relay used. Returns
/// the number of requests by host.
#[track_caller]
fn assert_joined(run: &RunOutput) -> BTreeMap<String, usize> {
    let names: BTreeMap<u128, String> = run
        .flows(&[("source", "resolver")])
        .iter()
        .filter_map(|row| Some((number(&text(&row["address"])?), text(&row["name"])?)))
        .collect();
    let key = |row: &Value| (row["cookie"].as_u64(), row["connect_ns"].as_u64());
    let wanted: BTreeMap<_, _> = run
        .flows(&[("source", "kernel"), ("verdict", "redirected")])
        .into_iter()
        .map(|row| (key(&row), row))
        .collect();
    let mut seen = BTreeMap::new();
    for row in run.flows(&[("source", "relay")]) {
        // The connection came from an unexpected address, or it ended before the relay accepted it. The relay has no
        // more information about this connection.
        if ["peer_address", "reset"].contains(&row["reason"].as_str().unwrap()) {
            assert!(row["host"].is_null(), "{row:#}");
            continue;
        }
        let Some(kernel) = wanted.get(&key(&row)) else {
            panic!("no connect of the kernel's log is {row:#}\n{run}");
        };
        let dst: SocketAddr = text(&row["orig_dst"]).unwrap().parse().unwrap();
        assert_eq!(text(&kernel["dst"]).unwrap(), dst.ip().to_string());
        assert_eq!(kernel["port"], dst.port());
        let name = &names[&number(&dst.ip().to_string())];
        assert_eq!(text(&row["host"]).as_ref(), Some(name), "{row:#}");
        // Requests of these tests contain their host name in the path.
        if let Some(target) = text(&row["target"]) {
            assert!(target.ends_with(&format!("/{name}")), "{row:#}");
        }
        *seen.entry(name.clone()).or_default() += 1;
    }
    // The mediator's receipts agree.
    for (verdict, host) in [
        ("allow", "allowed.test"),
        ("allow", "two.allowed.test"),
        ("block", "denied.test"),
    ] {
        for target in run.receipts(verdict) {
            if target.ends_with(&format!("/{host}")) {
                assert!(target.contains(&format!("//{host}")), "{target}");
            }
        }
    }
    seen
}

/// Returns the number at the end of an address. The two addresses of a name end with the same number.
fn number(address: &str) -> u128 {
    match address.parse::<IpAddr>().unwrap().to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits() & 0x1_ffff),
        IpAddr::V6(address) => address.to_bits() & 0x1_ffff,
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Claims: slot-by-listener, slot-at-syn*
#[test]
fn one_port_on_two_loopback_addresses() {
    let world = World::new();
    // The second connection comes from an address that redirected connections never have. The second connection
    // receives no answer, and certainly not the answer to the first one.
    let program = r"
for first, second in [('127.0.0.1', '127.0.0.2'), ('127.0.0.2', '127.0.0.1')]:
    one = bound(first)
    two = bound(second, one.getsockname()[1])
    one.settimeout(10), two.settimeout(10)
    outcomes = {}
    for stream, address, host in [(one, first, 'allowed.test'), (two, second, 'two.allowed.test')]:
        try:
            stream.connect((host, 80))
        except OSError as error:
            outcomes[address] = 'refused'
    for stream, address, host in [(two, second, 'two.allowed.test'), (one, first, 'allowed.test')]:
        if address not in outcomes:
            outcomes[address] = ask(stream, host)
    print(outcomes['127.0.0.1'], 'through' if outcomes['127.0.0.2'] in ('200', '404') else 'nothing')
";
    let before = world.requests().len();
    let run = run(&world).script(&python(program)).run();
    // The site has no such page, but a 404 is also an answer.
    assert_eq!(run.stdout, "404 nothing\n404 nothing\n", "{run}");
    let requests = world.requests();
    let hosts: Vec<_> = requests[before..]
        .iter()
        .map(|request| request.host.as_deref().unwrap())
        .collect();
    assert_eq!(hosts, ["allowed.test", "two.allowed.test"]);
    let seen = assert_joined(&run);
    assert_eq!(seen.len(), 2, "{seen:?}");
    // The flow log also contains the connections that were not served.
    assert_eq!(
        run.flows(&[("source", "kernel"), ("verdict", "redirected")])
            .len(),
        4
    );
}

#[test]
fn port_used_again_after_a_reset() {
    let world = World::new();
    let program = r"
hosts = ['allowed.test', 'denied.test', 'two.allowed.test']
port = bound('127.0.0.1').getsockname()[1]
def wrong(number):
    stream = bound('127.0.0.1', port)
    stream.settimeout(10)
    stream.connect((hosts[number % 3], 80))
    if number % 2:
        # Ended before the relay may have seen it.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        stream.close()
        return []
    expected = ['403' if 'denied' in hosts[number % 3] else '404']
    status = ask(stream, hosts[number % 3])
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    stream.close()
    return [] if [status] == expected else [(number, status)]
failures = [failure for number in range(60) for failure in wrong(number)]
assert not failures, failures
";
    let run = run(&world).script(&python(program)).run();
    assert_eq!(run.status, Some(0), "{run}");
    let seen = assert_joined(&run);
    for host in ["allowed.test", "two.allowed.test", "denied.test"] {
        assert!(seen.get(host).is_some_and(|count| *count >= 10), "{seen:?}");
    }
    assert_eq!(
        run.flows(&[("source", "kernel"), ("verdict", "redirected")])
            .len(),
        60
    );
}

/// Claims: slot-at-syn
#[test]
fn many_local_connections_between() {
    let world = World::new();
    let program = r"
server = socket.create_server(('127.0.0.1', 0), backlog=100)
def serve():
    while True:
        peer, _ = server.accept()
        peer.sendall(b'local')
        peer.close()
threading.Thread(target=serve, daemon=True).start()
hosts = ['allowed.test', 'denied.test', 'two.allowed.test']
for number in range(2000):
    stream = socket.create_connection(server.getsockname(), 10)
    assert stream.recv(10) == b'local'
    stream.close()
    if number % 100 == 0:
        host = hosts[number // 100 % 3]
        status = ask(socket.create_connection((host, 80), 10), host)
        assert status == ('403' if 'denied' in host else '404'), (host, status)
";
    let run = run(&world).script(&python(program)).run();
    assert_eq!(run.status, Some(0), "{run}");
    let seen = assert_joined(&run);
    assert_eq!(
        seen,
        BTreeMap::from([
            ("allowed.test".to_owned(), 7),
            ("denied.test".to_owned(), 7),
            ("two.allowed.test".to_owned(), 6)
        ])
    );
    let local = run.flows(&[
        ("source", "kernel_repeats"),
        ("protocol", "tcp"),
        ("verdict", "local"),
    ]);
    assert_eq!(local.len(), 1, "{local:#?}");
    assert_eq!(local[0]["count"], 2000);
}

/// Claims: connect-storage
#[test]
fn socket_that_connects_twice() {
    let world = World::new();
    let program = r"
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
stream = bound('127.0.0.1')
hosts = ['allowed.test', 'two.allowed.test', 'denied.test', 'allowed.test']
for host in hosts:
    stream.connect((host, 80))
    stream.settimeout(10)
    stream.sendall(f'GET /{host} HTTP/1.1\r\nHost: {host}\r\n\r\n'.encode())
    print(host, stream.recv(1 << 16).split()[1].decode())
    stream.settimeout(None)
    # AF_UNSPEC ends the connection and leaves the socket.
    assert libc.connect(stream.fileno(), bytes(16), 16) == 0
";
    let run = run(&world).script(&python(program)).run();
    assert_eq!(
        run.stdout, "allowed.test 404\ntwo.allowed.test 404\ndenied.test 403\nallowed.test 404\n",
        "{run}"
    );
    let seen = assert_joined(&run);
    assert_eq!(seen.values().sum::<usize>(), 4, "{seen:?}");
}

#[test]
fn data_with_the_first_packet() {
    let world = World::new();
    let program = r"
MSG_FASTOPEN = 0x20000000
for host in ['denied.test', 'allowed.test']:
    stream = socket.socket()
    address = socket.getaddrinfo(host, 80, socket.AF_INET)[0][4]
    stream.sendto(f'GET /{host} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n'.encode(), MSG_FASTOPEN, address)
    stream.settimeout(10)
    print(stream.recv(1 << 16).split()[1].decode())
";
    let control = world.shell(&python(program));
    assert_eq!(control.stdout, "404\n404\n", "{control}");
    let run = run(&world).script(&python(program)).run();
    assert_eq!(run.stdout, "403\n404\n", "{run}");
    assert_joined(&run);
}

/// Claims: tcp-mediated, ports*
#[test]
fn ports_that_were_not_allowed() {
    let world = World::new();
    let script = "unset HTTP_PROXY http_proxy ALL_PROXY all_proxy
        curl -sSf http://allowed.test:8080/ || echo refused
        curl -sSf --proxy http://127.0.0.1:3128 http://allowed.test:8080/ || echo refused
        curl -sSf --proxytunnel --proxy http://127.0.0.1:3128 http://allowed.test:8080/ || echo refused";
    let control = world.shell("curl -sSf http://allowed.test:8080/");
    assert!(control.success(), "{control}");
    world.wait_for_quiet();
    let start = world.wire().snapshot();
    let refused = run(&world).script(script).run();
    assert_eq!(refused.stdout, "refused\n".repeat(3), "{refused}");
    world.wire().assert_still(start);
    let rows = refused.flows(&[("source", "relay"), ("reason", "port_not_allowed")]);
    assert_eq!(rows.len(), 3, "{rows:#?}");
    assert!(refused.receipts("allow").is_empty());

    let opened = run(&world)
        .arg("--allow-port")
        .arg("8080")
        .script(script)
        .run();
    // Only TLS is allowed in a tunnel.
    assert_eq!(
        opened.stdout, "hello from allowed.test:8080\nhello from allowed.test:8080\nrefused\n",
        "{opened}"
    );
}

/// Claims: name-match
#[test]
fn tls_that_names_another_host_or_none() {
    let world = World::new();
    let run = run(&world).file("authority.pem", fs::read(world.authority()).unwrap());
    // Connects to an allowed name with a denied name in the `ClientHello`, with another allowed name, and without a
    // name. Also connects to the address itself with the allowed name in the `ClientHello`.
    let script = format!(
        "cd {} && unset HTTPS_PROXY https_proxy ALL_PROXY all_proxy
         to() {{ curl -sSf -m 10 --cacert authority.pem --connect-to ::\"$1\": \"$2\" || echo refused; }}
         to allowed.test https://denied.test/
         to allowed.test https://two.allowed.test/
         to {} https://allowed.test/
         openssl s_client -connect allowed.test:443 -noservername -brief < /dev/null 2> /dev/null && echo nameless
         to allowed.test https://allowed.test/",
        run.directory().display(),
        INTERNET.allowed
    );
    let control = world.shell(&script);
    assert_eq!(
        control.stdout,
        "hello from denied.test\nhello from two.allowed.test\nhello from allowed.test\nnameless\n\
         hello from allowed.test\n",
        "{control}"
    );
    let run = run.script(&script).run();
    assert_eq!(
        run.stdout, "refused\nrefused\nrefused\nhello from allowed.test\n",
        "{run}"
    );
    let mismatches = run.flows(&[("source", "relay"), ("reason", "name_mismatch")]);
    assert_eq!(mismatches.len(), 4, "{mismatches:#?}");
    assert_eq!(run.receipts("block").len(), 0);
}

#[test]
fn names_that_do_not_resolve() {
    let world = World::new();
    let script = "curl -sSf http://allowed.test/
        unset HTTP_PROXY http_proxy ALL_PROXY all_proxy
        curl -sSf http://allowed.test/ || echo no name";
    let run = run(&world).arg("--dns").arg("deny").script(script).run();
    assert_eq!(run.stdout, "hello from allowed.test\nno name\n", "{run}");
}

#[test]
fn dual_stack_sockets_of_java() {
    let (Some(_), Some(_)) = (installed("java"), installed("javac")) else {
        return;
    };
    let world = World::new();
    // Java uses IPv6 sockets, even for IPv4 addresses.
    let run = run(&world).file(
        "Ask.java",
        r#"import java.io.*;
import java.net.*;
public class Ask {
    public static void main(String[] words) throws Exception {
        for (int round = 0; round < 3; round++)
            for (String host : words)
                for (InetAddress address : InetAddress.getAllByName(host))
                    try (Socket socket = new Socket(address, 80)) {
                        socket.getOutputStream().write(
                            ("GET /" + host + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n").getBytes());
                        String line = new BufferedReader(
                            new InputStreamReader(socket.getInputStream())).readLine();
                        System.out.println(host + " " + address.getAddress().length + " " + line.split(" ")[1]);
                    }
    }
}
"#,
    );
    let built = world.shell(&format!(
        "cd {} && javac Ask.java",
        run.directory().display()
    ));
    assert!(built.success(), "{built}");
    let run = run
        .script("java -cp . Ask allowed.test denied.test two.allowed.test | sort | uniq -c")
        .run();
    let lines: Vec<String> = run
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "3 allowed.test 16 404",
            "3 allowed.test 4 404",
            "3 denied.test 16 403",
            "3 denied.test 4 403",
            "3 two.allowed.test 16 404",
            "3 two.allowed.test 4 404"
        ],
        "{run}"
    );
    let seen = assert_joined(&run);
    assert!(seen.values().all(|count| *count == 6), "{seen:?}");
    // The kernel recorded IPv6 sockets that connected to IPv4 addresses.
    let mapped = run.flows(&[("hook", "connect6"), ("verdict", "redirected")]);
    let mapped = mapped.iter().filter(|row| {
        let dst: IpAddr = text(&row["dst"]).unwrap().parse().unwrap();
        dst.is_ipv4()
    });
    assert_eq!(mapped.count(), 9);
}

/// Fills the relay with idle connections to the proxy, so that the next connection to the proxy has to wait. Meanwhile,
/// connects to another destination from the local port of the waiting connection.
const SAME_PORT: &str = r"
import resource
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
there = socket.getaddrinfo('allowed.test', 80, socket.AF_INET)[0][4]
idle = [socket.create_connection(('127.0.0.1', 3128)) for _ in range(4096)]
waiting = bound('127.0.0.1')
waiting.settimeout(30)
waiting.connect(('127.0.0.1', 3128))
waiting.sendall(b'GET http://allowed.test/waiting HTTP/1.1\r\nHost: allowed.test\r\n\r\n')
other = bound('127.0.0.1', waiting.getsockname()[1])
other.connect(there)
other.sendall(b'GET /other HTTP/1.1\r\nHost: allowed.test\r\n\r\n')
for one in idle:
    one.close()
for one in waiting, other:
    print(one.recv(12).decode())
";

/// Claims: slot-by-listener*
#[test]
fn connection_to_the_proxy_is_attributed_though_its_port_is_used_again() {
    let world = World::new();
    let run = run(&world).script(&python(SAME_PORT)).run();
    assert_eq!(run.status, Some(0), "{run}");
    // The world's server has neither of the two paths.
    assert_eq!(run.stdout, "HTTP/1.1 404\nHTTP/1.1 404\n", "{run}");
    let rows = run.flows(&[("source", "relay"), ("verdict", "forwarded")]);
    for (path, verdict) in [("/waiting", "proxy"), ("/other", "redirected")] {
        let is_it = |row: &&Value| text(&row["target"]).is_some_and(|it| it.ends_with(path));
        let row = rows.iter().find(is_it);
        let row = row.unwrap_or_else(|| panic!("no row for {path}\n{run}"));
        assert!(
            text(&row["process"]).unwrap().starts_with("python3"),
            "{row:#}"
        );
        assert!(row["pid"].as_u64() > Some(1), "{row:#}");
        let cookie = row["cookie"].to_string();
        run.assert_flow(&[
            ("source", "kernel"),
            ("verdict", verdict),
            ("cookie", &cookie),
        ]);
    }
}
