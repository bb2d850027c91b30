//! Requests to the paths of Pipelock's own endpoints, which a command must not reach in any spelling.
use egress_tests::World;

use crate::support::{allow, pipelock, targets, with};

/// Sends each request unchanged to a port of this machine, and prints the result.
const RAW: &str = r#"
import socket, sys
port = int(sys.argv[1])
for line in open(sys.argv[2]):
    line = line.rstrip("\n").replace("PORT", str(port))
    stream = socket.create_connection(("127.0.0.1", port), 10)
    stream.settimeout(10)
    stream.sendall(f"{line} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = b""
    try:
        while piece := stream.recv(65536):
            answer += piece
    except OSError:
        pass
    answer = answer.lower()
    status = answer.split(b" ")[1].decode() if b" " in answer else "none"
    what = "relay" if b"x-egress-refused" in answer else "own" if b"healthy" in answer or b"pipelock" in answer else "-"
    print(status, what, line)
"#;

/// Ways to write Pipelock's own paths.
const SPELLINGS: &str = "\
GET /health
HEAD /health
POST /health
GET /metrics
GET /stats
GET /api/v1/killswitch
POST /api/v1/killswitch
GET /api/v1/killswitch/status
GET /api/v1/sessions
GET /api/v1/sessions/x
GET /.well-known/http-message-signatures-directory
GET /api/v1/adaptive/status
GET /api/v1/adaptive/flush
GET /api/v1/adaptive/whoami
GET /flush
GET /whoami
GET /api/v1/scan
GET /
GET /%68ealth
GET //health
GET /./health
GET /fetch/../health
GET /fetch/%2e%2e/health
GET /fetch?
GET /fetch
GET /fetch/?url=http://allowed.test/
GET //fetch?url=http://allowed.test/
GET /%66etch?url=http://allowed.test/
GET /./ws?url=ws://allowed.test/
GET /ws/../health?url=ws://allowed.test/
GET /health?url=http://allowed.test/
GET /fetch?url=http://127.0.0.1:PORT/health
GET http:///health
GET http:/health
GET https:/health
GET https:///health
GET http://@/health
GET http://127.0.0.1:PORT/health
GET http://localhost:PORT/health
GET http://[::1]:PORT/health
GET http://0.0.0.0:PORT/health
GET http://2130706433:PORT/health
GET http://0x7f.1:PORT/health
GET HTTP:///health
GET :/health
GET health
CONNECT /health
CONNECT /x
CONNECT 127.0.0.1:PORT
CONNECT localhost:PORT
CONNECT user@allowed.test:443
CONNECT allowed.test:443/health
CONNECT allowed.test%20:443
CONNECT allowed.test
CONNECT allowed.test:0
CONNECT allowed.test:99999
OPTIONS *
GET *
";

#[test]
fn paths_of_pipelock_itself_are_out_of_reach_in_every_spelling() {
    let world = World::new();
    let policy = allow(&["allowed.test"]);
    // The control: a Pipelock without a relay answers several of these requests.
    let direct = format!(
        "cat > own.yaml <<'E'\n{policy}fetch_proxy: {{listen: '127.0.0.1:8871'}}\nforward_proxy: {{enabled: true}}\nE\n\
         cat > raw.py <<'E'\n{RAW}E\ncat > spellings <<'E'\n{SPELLINGS}E\n\
         {} run --config own.yaml > own.log 2>&1 & own=$!\n\
         for i in $(seq 200); do curl -s http://127.0.0.1:8871/health > /dev/null && break; sleep 0.05; done\n\
         python3 raw.py 8871 spellings; kill $own; wait $own 2> /dev/null; true\n",
        pipelock().display()
    );
    let control = world.shell(&direct);
    for reached in ["/health", "http:///health", "https:/health", "/%68ealth"] {
        let line = format!("200 own GET {reached}\n");
        assert!(control.stdout.contains(&line), "{reached}: {control}");
    }

    let agent = "python3 raw.py ${HTTP_PROXY##*:} spellings\n";
    let run = with(&world, &policy)
        .file("raw.py", RAW)
        .file("spellings", SPELLINGS)
        .script(agent)
        .run();
    assert_eq!(
        run.stdout.lines().count(),
        SPELLINGS.lines().count(),
        "{run}"
    );
    for line in run.stdout.lines() {
        let mut words = line.split(' ');
        let (status, by) = (words.next().unwrap(), words.next().unwrap());
        // If a request is not HTTP, the relay closes the connection without an answer.
        let is_refused = by == "relay" && status.starts_with('4') || (status, by) == ("none", "-");
        assert!(is_refused, "{line}\n{run}");
    }
    // None of these requests reached Pipelock.
    assert_eq!(targets(&run, "allow"), [""; 0], "{run}");
    assert_eq!(targets(&run, "block"), [""; 0], "{run}");
}
