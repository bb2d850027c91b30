//! How the relay changes a client's request before it forwards the request to Pipelock.
use std::time::Duration;

use egress_tests::retry::{self, RetryServer};
use egress_tests::{RunOutput, World};
use serde_json::Value;

use crate::support::{
    NO_PROXY, allow, assert_verified, has_sessions, reasons, receipts, targets, with,
};

/// Prints the status and the size of each page, or `none` if there was no answer.
const PAGES: &str =
    "page() { curl -sS -o page -w '%{http_code} %{size_download}\\n' \"$@\" || echo none; }\n";

#[test]
fn plain_http_is_scanned_or_tunnelled_as_the_caller_chose() {
    let world = World::new();
    let agent = format!(
        "{NO_PROXY}{PAGES}\
         page http://allowed.test/redirect/x\n\
         page --compressed http://allowed.test/gzip\n\
         page http://allowed.test/bytes/5 http://allowed.test/bytes/6 -o second\n\
         page http://denied.test/\n"
    );
    let control = world.shell(&agent);
    assert!(
        control
            .stdout
            .starts_with("302 10\n200 38\n200 5\n200 6\n200 "),
        "{control}"
    );

    // Pipelock follows the redirect itself and does not accept a compressed answer.
    let run = with(&world, &allow(&["allowed.test"])).script(&agent).run();
    let lines: Vec<&str> = run.stdout.lines().collect();
    let [redirect, gzip, five, six, denied] = lines.as_slice() else {
        panic!("{run}");
    };
    assert_eq!(
        (*redirect, *five, *six),
        ("200 3", "200 5", "200 6"),
        "{run}"
    );
    assert!(
        gzip.starts_with("403 ") && denied.starts_with("403 "),
        "{run}"
    );
    assert_eq!(mediator(&run, "plain_http"), "scan");
    let allowed = targets(&run, "allow");
    for path in ["redirect/x", "bytes/5", "bytes/6"] {
        let url = format!("http://allowed.test/{path}");
        let receipts = allowed.iter().filter(|target| **target == url).count();
        assert_eq!(receipts, 1, "{url}: {allowed:?}");
    }
    assert!(!unsupported(&run).contains("plain_http_content"), "{run}");

    // Each request goes through its own tunnel, returns the origin's answer, and has one receipt.
    let run = with(&world, &allow(&["allowed.test"]))
        .arg("--plain-http")
        .arg("tunnel")
        .script(&agent)
        .run();
    let lines: Vec<&str> = run.stdout.lines().collect();
    let [redirect, gzip, five, six, denied] = lines.as_slice() else {
        panic!("{run}");
    };
    assert_eq!(
        [*redirect, *gzip, *five, *six],
        ["302 10", "200 38", "200 5", "200 6"],
        "{run}"
    );
    assert!(denied.starts_with("403 "), "{run}");
    assert_eq!(reasons(&run), "[]", "{run}");
    assert_eq!(mediator(&run, "plain_http"), "tunnel");
    assert!(unsupported(&run).contains("plain_http_content"), "{run}");
    assert!(
        run.stderr.contains("plain HTTP went through tunnels"),
        "{run}"
    );
    let allowed = targets(&run, "allow");
    assert_eq!(allowed.len(), 4, "{allowed:?}");
    assert!(
        allowed
            .iter()
            .all(|target| target.starts_with("https://allowed.test")),
        "{allowed:?}"
    );
    assert_verified(&world, &run);
}

#[test]
fn no_hop_by_hop_field_reaches_the_origin_and_names_have_one_form() {
    let world = World::new();
    let agent = format!(
        "{NO_PROXY}\
         curl -sS --compressed -H 'Proxy-Connection: keep-alive' -H 'X-Pipelock-Agent: someone' \
         -H 'Connection: X-Hop' -H 'X-Hop: 1' http://ALLOWED.test./echo > echo\n\
         cat echo\n\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' https://ALLOWED.TEST./\n"
    );
    let run = with(&world, &allow(&["allowed.test"])).script(&agent).run();
    assert_eq!(run.status, Some(0), "{run}");
    let (echo, code) = run.stdout.split_once('\n').unwrap();
    assert_eq!(code, "200\n", "{run}");
    let echo: Value = serde_json::from_str(echo).unwrap();
    assert_eq!(echo.get("host").unwrap(), "allowed.test", "{echo}");
    let headers = echo
        .get("headers")
        .unwrap()
        .to_string()
        .to_ascii_lowercase();
    for gone in ["proxy-connection", "x-pipelock", "someone", "x-hop", "gzip"] {
        assert!(!headers.contains(gone), "{gone}: {headers}");
    }
    assert!(
        headers.contains(r#"["accept-encoding","identity"]"#),
        "{headers}"
    );
    for receipt in receipts(&run) {
        assert!(!receipt.to_string().contains("someone"), "{receipt}");
        let target = receipt.get("target").unwrap().as_str().unwrap();
        assert!(
            !target.contains("ALLOWED") && !target.contains("test."),
            "{target}"
        );
    }
    assert_verified(&world, &run);
    // The control: without the boundary, all fields arrive.
    let control = world.shell(&agent);
    for there in ["proxy-connection", "someone", "gzip"] {
        assert!(
            control.stdout.to_ascii_lowercase().contains(there),
            "{control}"
        );
    }
}

#[test]
fn answer_that_pipelock_cuts_is_an_error() {
    let world = World::new();
    let yaml = format!(
        "{}fetch_proxy: {{max_response_mb: 1}}\n",
        allow(&["allowed.test"])
    );
    // Pipelock needs seconds to scan a megabyte of text, so these bodies are only slightly longer than its limit.
    let agent = format!(
        "{NO_PROXY}\
         for url in http://allowed.test/chunked/1100000 http://allowed.test/bytes/1100000; do\n\
         \x20   code=$(curl -sS -m 50 -o page -w '%{{http_code}}' $url) && echo whole $code || echo broken\n\
         done\n\
         curl -sS -o page -w '%{{http_code}} %{{size_download}}\\n' http://allowed.test/chunked/200000\n"
    );
    let control = world.shell(&agent);
    assert_eq!(
        control.stdout, "whole 200\nwhole 200\n200 200000\n",
        "{control}"
    );
    let run = with(&world, &yaml).script(&agent).run();
    let lines: Vec<&str> = run.stdout.lines().collect();
    let [chunked, told, short] = lines.as_slice() else {
        panic!("{run}");
    };
    for long in [chunked, told] {
        assert!(["broken", "whole 403"].contains(long), "{run}");
    }
    if *chunked == "broken" {
        run.assert_flow(&[("host", "allowed.test"), ("reason", "answer_cut")]);
    }
    assert_eq!(*short, "200 200000", "{run}");
}

#[test]
fn page_of_a_denial_states_layer_and_reason() {
    let world = World::new();
    let agent = format!("{NO_PROXY}curl -sSi http://denied.test/ http://allowed.test/status/403\n");
    let run = with(&world, &allow(&["allowed.test"])).script(&agent).run();
    let (refused, passed) = run
        .stdout
        .split_at(run.stdout.rfind("HTTP/1.1 403").unwrap());
    assert!(refused.contains("allowlist"), "{run}");
    // Since version 2.4, a header field also names the layer.
    if refused.to_ascii_lowercase().contains("x-pipelock-block") {
        assert!(
            refused
                .to_ascii_lowercase()
                .contains("x-pipelock-block-reason-layer: allowlist"),
            "{run}"
        );
    }
    // An origin could send the same page, so the row does not state a denial.
    run.assert_flow(&[
        ("host", "denied.test"),
        ("verdict", "answered"),
        ("reason", "answered_403"),
    ]);
    if has_sessions(&run) {
        run.assert_flow(&[("claimed", "allowlist:parse_error")]);
    }
    // A 403 from the origin is not recorded as Pipelock's denial.
    assert!(!passed.to_ascii_lowercase().contains("pipelock"), "{run}");
    run.assert_flow(&[("host", "allowed.test"), ("verdict", "forwarded")]);
}

#[test]
fn tunnel_is_requested_only_after_the_client_names_its_host() {
    let world = World::new();
    let agent = format!(
        "{NO_PROXY}cat > silent.py <<'E'\n\
         import socket\n\
         stream = socket.create_connection(('allowed.test', 443))\n\
         stream.settimeout(20)\n\
         try:\n\
         \x20   print('silent', len(stream.recv(1)))\n\
         except OSError:\n\
         \x20   print('silent 0')\n\
         socket.create_connection(('allowed.test', 443)).close()\n\
         half = socket.create_connection(('allowed.test', 443))\n\
         half.sendall(bytes([22, 3, 1, 1, 0, 1, 0, 0]))\n\
         half.close()\n\
         E\n\
         python3 silent.py\n\
         hello() {{ openssl s_client -connect allowed.test:443 -servername $1 < /dev/null 2>&1 \
         | grep -q 'BEGIN CERTIFICATE' && echo certificate || echo none; }}\n\
         hello allowed.test\nhello denied.test\nhello sub.allowed.test\n"
    );
    let run = with(&world, &allow(&["*.test"])).script(&agent).run();
    assert_eq!(run.stdout, "silent 0\ncertificate\nnone\nnone\n", "{run}");
    let allowed = targets(&run, "allow");
    assert_eq!(allowed.len(), 1, "{allowed:?}");
    assert_eq!(reasons(&run), "[]", "{run}");
    for reason in ["client_silent", "client_closed", "name_mismatch"] {
        run.assert_flow(&[("host", "allowed.test"), ("reason", reason)]);
    }
    // The control: without the boundary, every request receives an answer.
    let control = world.shell(&agent.replace("python3 silent.py\n", ""));
    assert_eq!(
        control.stdout, "certificate\ncertificate\ncertificate\n",
        "{control}"
    );
}

#[test]
fn second_hello_with_another_name_is_not_forwarded() {
    let world = World::new();
    let server = RetryServer::start(&world);
    let [honest, other] = ["allowed.test", "denied.test"]
        .map(|second| retry::client("allowed.test", second, "direct"));
    let control = world.shell(&other);
    assert_eq!(server.names(), ["allowed.test", "denied.test"], "{control}");
    let run = with(&world, &allow(&["allowed.test"]))
        .arg("--allow-port")
        .arg(retry::PORT.to_string())
        .script(&format!("{NO_PROXY}{honest}{other}true\n"))
        .run();
    let expected =
        "flights 3 names: allowed.test allowed.test\nflights 2 alert [21, 3, 3, 0, 2, 2, 112]\n";
    assert_eq!(run.stdout, expected, "{run}");
    assert_eq!(server.names().get(2..).unwrap(), ["allowed.test"; 3]);
    run.assert_flow(&[("reason", "name_mismatch"), ("verdict", "unfinished")]);
    assert_eq!(reasons(&run), "[]", "{run}");
    assert_verified(&world, &run);
}

#[test]
fn tunnels_beyond_a_thousand_wait_for_a_place() {
    let world = World::new();
    let agent = format!(
        "{NO_PROXY}ulimit -n 4096\npython3 - <<'PROGRAM'\n\
         import asyncio, ssl, os\n\
         trust = ssl.create_default_context(cafile=os.environ['SSL_CERT_FILE'])\n\
         def one():\n\
         \x20   return asyncio.ensure_future(asyncio.open_connection('allowed.test', 443, ssl=trust,\n\
         \x20       ssl_handshake_timeout=170))\n\
         async def main():\n\
         \x20   opening = []\n\
         \x20   for _ in range(50):\n\
         \x20       opening += [one() for _ in range(20)]\n\
         \x20       await asyncio.wait(opening)\n\
         \x20   opening += [one() for _ in range(60)]\n\
         \x20   opened = lambda: [one for one in opening if one.done()]\n\
         \x20   await asyncio.sleep(2)\n\
         \x20   print(len(opened()), flush=True)\n\
         \x20   for done in opened()[:100]:\n\
         \x20       done.result()[1].transport.abort()\n\
         \x20   await asyncio.gather(*opening)\n\
         \x20   print(len(opened()), flush=True)\n\
         \x20   os._exit(0)\n\
         asyncio.run(main())\n\
         PROGRAM\n"
    );
    let run = with(&world, &allow(&["allowed.test"]))
        .limit(Duration::from_mins(4))
        .script(&agent)
        .run();
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (Some(0), "1000\n1060\n"),
        "{run}"
    );
    assert_eq!(reasons(&run), "[]", "{run}");
    assert_eq!(targets(&run, "allow").len(), 1060);
    assert_eq!(targets(&run, "block").len(), 0);
}

#[test]
fn answer_that_looks_like_a_denial_is_listed_as_what_the_receipts_make_of_it() {
    let world = World::new();
    let agent = format!(
        "{NO_PROXY}for url in denied.test/ allowed.test/go-error allowed.test/; do\n\
         curl -sS -o /dev/null -w '%{{http_code}} ' http://$url\n\
         done\n"
    );
    let control = world.shell(&agent);
    assert_eq!(control.stdout, "200 403 200 ", "{control}");
    let run = with(&world, &allow(&["allowed.test"])).script(&agent).run();
    assert_eq!(run.stdout, "403 403 200 ", "{run}");
    let summary = std::fs::read_to_string(run.packet.join("summary.md")).unwrap();
    let report = std::fs::read_to_string(run.packet.join("report.html")).unwrap();
    let boundary = run.json("boundary.json");
    for (list, pointer, destination, title) in [
        ("denied", "attempt/destination", "denied.test", "Denied"),
        (
            "answered",
            "attempt/destination",
            "allowed.test",
            "Allowed or denied: not known",
        ),
        ("allowed", "host", "allowed.test", "Allowed"),
    ] {
        let rows = boundary.get(list).and_then(Value::as_array).unwrap();
        let [row] = rows.as_slice() else {
            panic!("{list}: {rows:?}\n{run}");
        };
        assert_eq!(
            row.pointer(&format!("/{pointer}")).unwrap(),
            destination,
            "{run}"
        );
        assert_eq!(row.get("count").unwrap(), 1, "{list}: {run}");
        let section = summary
            .split("\n## ")
            .find(|section| section.starts_with(&format!("{title}\n")));
        let section = section.unwrap_or_else(|| panic!("{title}: {summary}"));
        assert_eq!(
            section.matches(&format!("` {destination}:80 `")).count(),
            1,
            "{section}"
        );
        assert!(report.contains(&format!("<h2>{title}</h2>")), "{report}");
    }
    assert!(
        run.stderr.contains("egress: answered  1 x allowed.test:80"),
        "{run}"
    );
    assert_verified(&world, &run);
}

/// A WebSocket client that ends its connection in the given way.
const SOCKET: &str = r#"
import base64, os, socket, ssl, struct, sys, time

def frame(first, payload, length=None):
    mask = os.urandom(4)
    length = len(payload) if length is None else length
    head = bytes([first, 0x80 | length]) if length < 126 else bytes([first, 0xfe]) + struct.pack(">H", length)
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))

def read(stream, count):
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        if not piece:
            return None
        data += piece
    return data

scheme, ending = sys.argv[1:]
host = "allowed.test"
stream = socket.create_connection((host, 443 if scheme == "wss" else 80), 10)
if scheme == "wss":
    stream = ssl.create_default_context().wrap_socket(stream, server_hostname=host)
stream.sendall(f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n".encode())
answer = b""
while not answer.endswith(b"\r\n\r\n"):
    answer += stream.recv(1) or sys.exit("closed: " + answer.decode())
if b" 101 " not in answer.split(b"\r\n")[0]:
    sys.exit(answer.decode())
stream.sendall(frame(0x81, b"hello"))
print(ending, read(stream, 7)[2:].decode(), flush=True)
if ending == "close":
    stream.sendall(frame(0x88, struct.pack(">H", 1000)))
    read(stream, 2)
elif ending == "reset":
    stream.sendall(frame(0x81, b"only a part", 300))
    time.sleep(0.2)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()
elif ending == "binary":
    stream.sendall(frame(0x82, b"bytes"))
    print("refused" if read(stream, 2)[0] == 0x88 else "echoed", flush=True)
elif ending == "open":
    open("open", "w").close()
    time.sleep(60)
"#;

#[test]
fn every_websocket_has_its_receipt_however_it_ends() {
    let world = World::new();
    let agent = format!(
        "{NO_PROXY}for ending in close reset gone binary; do python3 client.py ws $ending; done\n\
         python3 client.py wss close\n\
         python3 client.py ws open & until [ -e open ]; do sleep 0.05; done\n"
    );
    let run = with(&world, &allow(&["allowed.test"]))
        .file("client.py", SOCKET)
        .script(&agent)
        .run();
    assert_eq!(
        run.stdout,
        "close hello\nreset hello\ngone hello\nbinary hello\nrefused\nclose hello\nopen hello\n",
        "{run}"
    );
    assert_eq!(reasons(&run), "[]", "{run}");
    // Each WebSocket has one receipt about its end. If this version signs intents, the receipt is an outcome.
    // Otherwise, the receipt has the layer `session_close`.
    let ends = receipts(&run)
        .iter()
        .filter(|receipt| receipt.get("transport").unwrap() == "websocket")
        .filter(|receipt| match receipt.get("decision_phase") {
            Some(phase) => phase == "outcome",
            None => {
                !has_sessions(&run)
                    && receipt
                        .get("layer")
                        .is_some_and(|layer| layer == "session_close")
            }
        })
        .count();
    assert_eq!(ends, 5, "{:#?}", receipts(&run));
    // wss:// is a tunnel.
    assert_eq!(receipts_of(&run, "connect"), 1, "{run}");
    run.assert_flow(&[
        ("protocol", "websocket"),
        ("transport", "websocket"),
        ("verdict", "forwarded"),
    ]);
    assert_verified(&world, &run);
}

/// Returns the number of receipts with this transport. Outcomes are not counted.
fn receipts_of(run: &RunOutput, transport: &str) -> usize {
    let is_intent = |receipt: &&Value| {
        receipt
            .get("decision_phase")
            .is_none_or(|phase| phase != "outcome")
    };
    receipts(run)
        .iter()
        .filter(|receipt| receipt.get("transport").unwrap() == transport)
        .filter(is_intent)
        .count()
}

/// Returns a member of `mediator` in boundary.json.
fn mediator(run: &RunOutput, key: &str) -> Value {
    let boundary = run.json("boundary.json");
    boundary.get("mediator").unwrap().get(key).unwrap().clone()
}

/// Returns the entries that the packet lists as not enforced, as JSON text.
fn unsupported(run: &RunOutput) -> String {
    let packet = run.json("packet.json");
    packet
        .pointer("/posture/unsupported_paths")
        .unwrap()
        .to_string()
}
