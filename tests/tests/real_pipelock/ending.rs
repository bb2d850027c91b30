//! Requests that Pipelock is still scanning when the command ends.
use egress_tests::{RunOutput, World};
use serde_json::Value;

use crate::support::{NO_PROXY, allow, assert_verified, has_sessions, reasons, receipts, with};

/// Pipelock 2.x scans this many times as much text as 3.x in the same time.
const FASTER: usize = 8;

/// Sends more text than Pipelock can scan before the command ends, and ends without waiting for an answer.
const SENT_AND_GONE: &str = r#"
import base64, os, socket, struct, sys, time

kind, count, size, secret = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
held = []
for number in range(count):
    body = b"a" * (size + size * number // count) + b" " + secret.encode()
    stream = socket.create_connection(("allowed.test", 80), 10)
    head = "Host: allowed.test\r\n"
    if kind == "upload":
        stream.sendall(f"POST /upload/{number} HTTP/1.1\r\n{head}Content-Type: text/plain\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    else:
        key = base64.b64encode(os.urandom(16)).decode()
        stream.sendall(f"GET /ws?{number} HTTP/1.1\r\n{head}Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += stream.recv(1) or sys.exit("closed: " + answer.decode())
        # A mask of zeros leaves the text as it is.
        stream.sendall(bytes([0x81, 0xff]) + struct.pack(">Q", len(body)) + bytes(4) + body)
    held.append(stream)
time.sleep(0.3)
os._exit(0)
"#;

/// Executes three runs that end while Pipelock scans `count` texts of at least `size` bytes. Fails unless each run has
/// a receipt for the denial of each text.
#[track_caller]
fn assert_all_are_signed(kind: &str, count: usize, size: usize) {
    let world = World::new();
    let secret = format!("AKIA{}", "Z7Q2M4X8K1P5R9T3");
    let yaml = allow(&["allowed.test"]) + "request_body_scanning: {enabled: true, action: block}\n";
    let run = |size: usize| {
        let run = with(&world, &yaml)
            .file("gone.py", SENT_AND_GONE)
            .script(&format!(
                "{NO_PROXY}curl -sS -o /dev/null http://allowed.test/\n\
                 python3 gone.py {kind} {count} {size} {secret}\n"
            ))
            .run();
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(reasons(&run), "[]", "{run}");
        assert_eq!(denied(&run), count, "{:#?}", receipts(&run));
        assert_verified(&world, &run);
        run
    };
    let first = run(size);
    let size = if has_sessions(&first) {
        size
    } else {
        size * FASTER
    };
    run(size);
    run(size);
}

/// Returns the number of requests for which a receipt of the scanner states a denial.
fn denied(run: &RunOutput) -> usize {
    let is_denied = |receipt: &&Value| {
        let is_blocked = receipt.get("verdict").unwrap() == "block";
        is_blocked && receipt.get("layer").unwrap() != "session_close"
    };
    receipts(run).iter().filter(is_denied).count()
}

/// Claims: pipelock-ending
#[test]
fn uploads_that_are_scanned_when_the_command_ends_have_their_receipts() {
    assert_all_are_signed("upload", 12, 16_000);
}

#[test]
fn websockets_that_are_scanned_when_the_command_ends_have_their_receipts() {
    assert_all_are_signed("websocket", 2, 150_000);
}

/// The verifier compares times of two recorders with a tolerance of 15 seconds, and a scan may take longer.
#[test]
fn scan_that_ends_long_after_the_command_is_signed_in_time() {
    assert_all_are_signed("upload", 1, 1_400_000);
}
