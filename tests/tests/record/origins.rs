//! Origins whose answers violate HTTP. The command receives each answer once, and the record shows that too.

use std::fs;
use std::time::Duration;

use egress_tests::agents::NO_PROXY;
use egress_tests::{Judged, World, wait_until};

/// Sends the bytes that the path contains in hexadecimal, writes the last part of the path to a file, and closes the
/// connection.
const ORIGIN: &str = r"
import socket
server = socket.create_server(('::', 8100), family=socket.AF_INET6, dualstack_ipv6=True)
asked = open('asked', 'a', buffering=1)
open('listening', 'w').close()
while True:
    stream = server.accept()[0]
    data = b''
    while b'\r\n\r\n' not in data and (part := stream.recv(65536)): data += part
    _, answer, name = data.split(b' ')[1].decode().split('/')
    asked.write(name + '\n')
    stream.sendall(bytes.fromhex(answer))
    stream.close()
";

/// An answer: its name, a curl option, the header fields, the body, and curl's output in the command (body and status).
type Answer = (
    &'static str,
    &'static str,
    String,
    &'static str,
    &'static str,
);

/// Returns the answers that the test origin sends. A chunked body ends where its chunks end, whatever its length field
/// states (RFC 9112, section 6.3).
fn answers() -> Vec<Answer> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let hello = "5\r\nhello\r\n0\r\n\r\n";
    let length = |length| format!("Content-Length: {length}\r\n");
    let beside = |length| format!("Content-Length: {length}\r\n{chunked}");
    let twice = format!("{}{}", length("5"), length("7"));
    vec![
        ("plain", "", length("5"), "hello", "hello 200"),
        (
            "longer",
            "",
            beside("5"),
            "14\r\n01234567890123456789\r\n0\r\n\r\n",
            "01234567890123456789 200",
        ),
        ("shorter", "", beside("50"), hello, "hello 200"),
        ("other", "", format!("{twice}{chunked}"), hello, "hello 200"),
        ("nonsense", "", beside("x"), hello, "hello 200"),
        ("list", "", length("5, 5"), "hello", "hello 200"),
        (
            "trailers",
            "",
            format!("Trailer: X-End\r\n{chunked}"),
            "5\r\nhello\r\n0\r\nX-End: y\r\n\r\n",
            "hello 200",
        ),
        ("head", "-I", length("5"), "", " 200"),
        ("head_twice", "-I", twice, "", " 200"),
        // The mediator adds one field. With this field, the answer has one field more than the relay reads.
        ("fields", "", "X: y\r\n".repeat(100), "hello", " 502"),
    ]
}

#[test]
fn answers_against_the_rules_pass_once_and_are_recorded_as_they_passed() {
    let world = World::new();
    let _origin = world.peer(["python3", "-c", ORIGIN]);
    wait_until("the origin listens", Duration::from_secs(20), || {
        world.dir().join("listening").exists()
    });
    let answers = answers();
    let ask = "ask() { curl -sS -m 20 -w ' %{http_code}\\n' \"$@\"; }\n";
    let mut script = vec![NO_PROXY.to_owned(), ask.to_owned()];
    for (name, option, fields, body, _) in &answers {
        // The connection to the mediator has already carried a request.
        let (plain, answer) = (encoded("Content-Length: 0\r\n", ""), encoded(fields, body));
        let output = if option.is_empty() {
            ""
        } else {
            "-o /dev/null"
        };
        let url = "http://allowed.test:8100";
        script.push(format!(
            "ask {url}/{plain}/warm > /dev/null\nask {option} {output} {url}/{answer}/{name}\n"
        ));
    }
    let script = script.concat();
    let asked = || fs::read_to_string(world.dir().join("asked")).unwrap_or_default();
    let names: Vec<String> = answers
        .iter()
        .map(|answer| format!("warm\n{}\n", answer.0))
        .collect();
    let each_once = names.concat();

    let control = world.shell(&script);
    for (name, _, _, _, expected) in &answers {
        // Without the boundary, curl itself rejects some of these answers.
        let is_taken = !matches!(*name, "nonsense" | "list" | "fields");
        let found = control.stdout.lines().any(|line| line == *expected);
        assert!(found || !is_taken, "{name}: {control}");
    }
    assert_eq!(asked(), each_once, "{control}");

    let [key, boundary] = ["receipts", "boundary"].map(|name| world.key(name));
    let run = world.egress().allow(&["allowed.test"]).signed_with(&key);
    let run = run.arg("--boundary-key").arg(&boundary);
    let run = run.arg("--allow-port").arg("8100").script(&script).run();
    let expected: Vec<&str> = answers.iter().map(|answer| answer.4).collect();
    let lines = run
        .stdout
        .lines()
        .map(|line| match line.strip_suffix(" 502") {
            Some(_) => " 502",
            None => line,
        });
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with("egress: ")).collect();
    assert_eq!(lines, expected, "{run}");
    assert_eq!(asked(), each_once.repeat(2), "{run}");
    let evidence = fs::read_to_string(run.packet.join("evidence.jsonl")).unwrap_or_default();
    let complete = evidence.matches("reason=complete").count();
    assert_eq!(complete, 2 * answers.len(), "{run}");
    let judged = Judged::new(&run.packet, &key, &boundary);
    assert_eq!(judged.grade(), "kernel_enforced", "{judged}");
}

/// Returns a whole answer in hexadecimal.
fn encoded(fields: &str, body: &str) -> String {
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
    hex::encode(answer)
}
