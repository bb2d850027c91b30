//! Programs that are not configured for a proxy. The requests of these programs to an allowed name arrive, and no
//! packet for a denied name leaves. The flow log and the receipts both show this.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test whose files or rows are not there has failed"
)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use egress_tests::{INTERNET, Packet, Run, RunOutput, Snapshot, World, installed};

/// The start of every script: no proxy variables, and variables that make programs trust the world's authority.
const PLAIN: &str =
    "unset HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy
export SSL_CERT_FILE=$PWD/authority.pem CURL_CA_BUNDLE=$PWD/authority.pem
export NODE_EXTRA_CA_CERTS=$PWD/authority.pem GIT_SSL_CAINFO=$PWD/authority.pem
";

/// Requests an allowed and a denied name over HTTP and HTTPS. The script must define the function `get URL` before this
/// text.
const ASK: &str = r#"
for url in http://allowed.test/ https://allowed.test/ http://denied.test/ https://denied.test/; do
    if get "$url" > page && grep -q hello page; then echo "got $url"; else echo "no $url"; fi
done
"#;

/// Returns a run with the certificate of the world's authority in its workspace.
fn run(world: &World) -> Run<'_> {
    world
        .egress()
        .allow(&["allowed.test"])
        .file("authority.pem", fs::read(world.authority()).unwrap())
        .limit(Duration::from_mins(2))
}

fn to_denied(packet: &Packet) -> bool {
    let denied = [INTERNET.denied.into(), INTERNET.denied_v6.into()];
    packet.destination.is_some_and(|to| denied.contains(&to))
}

/// Fails if a packet for `denied.test` has left since `start`.
#[track_caller]
fn assert_none_to_denied(world: &World, start: Snapshot) {
    let packets = world.wire().since(start);
    let left = packets.iter().find(|packet| to_denied(packet));
    assert!(left.is_none(), "left the runner: {}", left.unwrap());
}

/// Requests pages with the shell function `get`, without and with the boundary.
#[track_caller]
fn assert_judged(world: &World, run: Run<'_>, get: &str) -> RunOutput {
    let directory = run.directory();
    let script = format!("{PLAIN}{get}{ASK}");

    let start = world.wire().snapshot();
    let control = world.shell(&format!("cd {} && {script}", directory.display()));
    assert_eq!(
        control.stdout,
        "got http://allowed.test/\ngot https://allowed.test/\n\
         got http://denied.test/\ngot https://denied.test/\n",
        "without a boundary: {control}"
    );
    world.wire().assert_left(start, to_denied);
    world.wait_for_quiet();
    // The control created this file, and the command could not replace it.
    fs::remove_file(directory.join("page")).unwrap();

    let start = world.wire().snapshot();
    let run = run.script(&script).run();
    assert_eq!(
        run.stdout,
        "got http://allowed.test/\ngot https://allowed.test/\n\
         no http://denied.test/\nno https://denied.test/\n",
        "with the boundary: {run}"
    );
    assert_eq!(run.status, Some(0), "{run}");
    assert_none_to_denied(world, start);
    assert_both_witnesses(&run);
    run
}

/// Fails unless the flow log and the receipts contain both hosts and the decisions about these hosts.
#[track_caller]
fn assert_both_witnesses(run: &RunOutput) {
    for (host, flow, receipt) in [
        ("allowed.test", "forwarded", "allow"),
        ("denied.test", "blocked", "block"),
    ] {
        for port in ["80", "443"] {
            let fields = [("source", "relay"), ("host", host), ("port", port)];
            run.assert_flow(&fields);
            for row in run.flows(&fields) {
                // A program may close its connection when it has the page, before the server has closed it.
                let is_left = flow == "forwarded" && row["reason"] == "client_closed";
                let expected = if is_left { "unfinished" } else { flow };
                assert_eq!(row["verdict"], expected, "{row:#}");
            }
        }
        run.assert_receipt(receipt, host);
    }
    // The list of denied attempts contains the program's own attempts, and no side effects of libraries.
    for denied in run.boundary("/denied").as_array().unwrap() {
        assert_eq!(denied["attempt"]["destination"], "denied.test", "{denied}");
    }
}

#[test]
fn curl() {
    let world = World::new();
    assert_judged(&world, run(&world), r#"get() { curl -sSf "$1"; }"#);
}

#[test]
fn wget() {
    let world = World::new();
    // Debian's wget does not read an environment variable for the certificate bundle.
    let get = r#"get() { wget -qO- --ca-certificate=authority.pem "$1"; }"#;
    assert_judged(&world, run(&world), get);
}

#[test]
fn python_urllib() {
    let world = World::new();
    let program = "import sys, urllib.request\n\
                   print(urllib.request.urlopen(sys.argv[1]).read().decode())\n";
    let run = run(&world).file("get.py", program);
    assert_judged(&world, run, r#"get() { python3 get.py "$1"; }"#);
}

#[test]
fn node_fetch() {
    let world = World::new();
    let program = "fetch(process.argv[2]).then(async r => {
        if (!r.ok) throw new Error(r.status)
        process.stdout.write(await r.text())
    }).catch(e => { console.error(e); process.exit(1) })";
    let run = run(&world).file("get.cjs", program);
    assert_judged(&world, run, r#"get() { node get.cjs "$1"; }"#);
}

#[test]
fn go_net_http() {
    let Some(go) = installed("go") else { return };
    let world = World::new();
    let run = run(&world).file(
        "get.go",
        "package main
import (\"io\"; \"net/http\"; \"os\")
func main() {
    r, err := http.Get(os.Args[1])
    if err != nil { println(err.Error()); os.Exit(1) }
    if r.StatusCode != 200 { os.Exit(1) }
    io.Copy(os.Stdout, r.Body)
}
",
    );
    // Building the standard library takes long, so its result is kept between tests.
    let build = format!(
        "cd {} && GOCACHE={}/go GOFLAGS=-mod=mod GOPROXY=off GOTOOLCHAIN=local CGO_ENABLED=0 {} build get.go",
        run.directory().display(),
        env!("CARGO_TARGET_TMPDIR"),
        go.display()
    );
    let built = world.background(["bash", "-c", &build]);
    let built = built.finish(Duration::from_mins(5));
    assert!(built.success(), "{built}");
    assert_judged(&world, run, r#"get() { ./get "$1"; }"#);
}

#[test]
fn java_http_client() {
    let (Some(_), Some(_)) = (installed("java"), installed("javac")) else {
        return;
    };
    let world = World::new();
    let run = run(&world).file(
        "Get.java",
        r"import java.net.URI;
import java.net.http.*;
public class Get {
    public static void main(String[] words) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(words[0])).build();
        HttpResponse<String> response =
            HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        if (response.statusCode() != 200) System.exit(1);
        System.out.print(response.body());
    }
}
",
    );
    let built = world.shell(&format!(
        "cd {} && javac Get.java && keytool -importcert -noprompt -alias world -file authority.pem \
         -keystore trust.p12 -storepass changeit",
        run.directory().display()
    ));
    assert!(built.success(), "{built}");
    let get = r#"get() {
        java -Djavax.net.ssl.trustStore=trust.p12 -Djavax.net.ssl.trustStorePassword=changeit -cp . Get "$1"
    }"#;
    assert_judged(&world, run, get);
}

#[test]
fn git_clone() {
    let world = World::new();
    serve_repository(&world);
    let get = r#"get() {
        rm -rf clone
        git clone -q "${1}files/repository.git" clone >&2 && cat clone/greeting && rm -rf clone
    }"#;
    assert_judged(&world, run(&world), get);
}

/// Puts a repository into the servers' directory, for clients that read it file by file.
fn serve_repository(world: &World) {
    let made = world.shell(&format!(
        "mkdir source && cd source && git init -q && echo hello > greeting && git add greeting &&
         git -c user.name=a -c user.email=a@allowed.test commit -qm first && cd .. &&
         git clone -q --bare source {0} && cd {0} && git update-server-info",
        world.files().join("repository.git").display()
    ));
    assert!(made.success(), "{made}");
}

/// A WebSocket client that sends `hello` and prints the reply.
const WEBSOCKET: &str = r#"
import base64, os, socket, ssl, sys, urllib.parse

def text(payload):
    mask = os.urandom(4)
    return bytes([0x81, 0x80 | len(payload)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))

url = urllib.parse.urlsplit(sys.argv[1])
proxy = sys.argv[2:]
target, extra = "/ws", ""
if proxy and url.scheme == "ws":
    target = "/ws?url=" + urllib.parse.quote(sys.argv[1] + "ws", safe="")
port = 443 if url.scheme == "wss" else 80
address = ("127.0.0.1", int(proxy[0])) if proxy else (url.hostname, port)
stream = socket.create_connection(address, 10)
if proxy and url.scheme == "wss":
    stream.sendall(f"CONNECT {url.hostname}:443 HTTP/1.1\r\nHost: {url.hostname}:443\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += stream.recv(1) or sys.exit("closed: " + answer.decode())
    if b" 200 " not in answer:
        sys.exit(answer.decode())
if url.scheme == "wss":
    stream = ssl.create_default_context().wrap_socket(stream, server_hostname=url.hostname)
stream.sendall(f"GET {target} HTTP/1.1\r\nHost: {url.hostname if not proxy else '127.0.0.1'}\r\nUpgrade: websocket\r\n"
    f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n".encode())
answer = b""
while not answer.endswith(b"\r\n\r\n"):
    answer += stream.recv(1) or sys.exit("closed: " + answer.decode())
if b" 101 " not in answer.split(b"\r\n")[0]:
    sys.exit(answer.decode())
stream.sendall(text(b"hello"))
frame = b""
while len(frame) < 7:
    frame += stream.recv(7 - len(frame)) or sys.exit("closed")
print(frame[2:].decode())
"#;

#[test]
fn websocket() {
    let world = World::new();
    let run = run(&world).file("ws.py", WEBSOCKET);
    let run = assert_judged(&world, run, r#"get() { python3 ws.py "ws${1#http}"; }"#);
    run.assert_flow(&[("protocol", "websocket"), ("verdict", "forwarded")]);
}

#[test]
fn websocket_by_the_proxy() {
    let world = World::new();
    let run = run(&world).file("ws.py", WEBSOCKET);
    // The control: without a proxy, the same program shows that the hosts answer.
    let directory = run.directory();
    let control = world.shell(&format!(
        "cd {} && {PLAIN} python3 ws.py ws://denied.test/ && python3 ws.py wss://denied.test/",
        directory.display()
    ));
    assert_eq!(control.stdout, "hello\nhello\n", "{control}");
    world.wait_for_quiet();

    let start = world.wire().snapshot();
    let script = r#"
for url in ws://allowed.test/ wss://allowed.test/ ws://denied.test/ wss://denied.test/; do
    if [[ $(python3 ws.py "$url" "$port") == hello ]]; then echo "got $url"; else echo "no $url"; fi
done"#;
    let run = run
        .script(&format!("port=${{HTTP_PROXY##*:}}\n{PLAIN}{script}"))
        .run();
    assert_eq!(
        run.stdout,
        "got ws://allowed.test/\ngot wss://allowed.test/\nno ws://denied.test/\nno wss://denied.test/\n",
        "{run}"
    );
    assert_none_to_denied(&world, start);
    run.assert_receipt("allow", "allowed.test");
    run.assert_receipt("block", "denied.test");
}

/// Sends a request with the first argument as its target, and prints the status of the answer.
const TARGET: &str = r#"
import socket, sys
target, host, port = sys.argv[1:]
stream = socket.create_connection((host, int(port)), 10)
stream.sendall(f"GET {target} HTTP/1.1\r\nHost: allowed.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
print(stream.recv(4096).split(b" ")[1].decode())
"#;

#[test]
fn websocket_to_a_url_without_a_path_requests_the_root() {
    let world = World::new();
    let run = run(&world).file("target.py", TARGET);
    // The control: without the boundary, an origin rejects a request with an empty target.
    let control = world.shell(&format!(
        "cd {} && {PLAIN} python3 target.py '' allowed.test 80; python3 target.py / allowed.test 80",
        run.directory().display()
    ));
    assert!(control.stdout.starts_with("400\n"), "{control}");
    assert!(!control.stdout.ends_with("400\n"), "{control}");
    let before = world.requests().len();
    let run = run
        .script(&format!(
            "port=${{HTTP_PROXY##*:}}\n{PLAIN}for mark in '%23x' '%3Fy' ''; do
                 python3 target.py \"/ws?url=ws%3A%2F%2Fallowed.test$mark\" 127.0.0.1 $port
             done"
        ))
        .run();
    assert!(!run.stdout.contains("400"), "{run}");
    let requests = world.requests();
    let targets = requests[before..].iter().map(|one| one.target.as_str());
    assert_eq!(targets.collect::<Vec<_>>(), ["/", "/?y", "/"], "{run}");
}

#[test]
fn bodies_with_and_without_a_length_are_the_same() {
    let world = World::new();
    let run = run(&world);
    let directory = run.directory();
    let run = run
        .script(&format!(
            "{PLAIN}curl -sSf http://allowed.test/bytes/300001 > a; wget -qO b http://allowed.test/chunked/300001"
        ))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    let read = |name: &str| fs::read(Path::new(&directory).join(name)).unwrap();
    assert_eq!(read("a").len(), 300_001);
    assert!(read("a") == read("b"));
}
