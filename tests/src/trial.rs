//! Tries the lies of a mediator, one in each run. The changed receipts must be valid when they are checked without the
//! other files, and the other files must contradict them.
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::agents::NO_PROXY;
use crate::evidence::{Reference, public_key_hex};
use crate::judged::Judged;
use crate::liar::{Expected, LIES, Lie};
use crate::run::Run;
use crate::world::World;

/// Number of worlds that exist at the same time.
const WORKERS: usize = 2;
/// Minimum number of lies that must be detected.
const AT_LEAST: usize = 20;

/// The requests of the command. Each request prints one line: a status, or the answer from a WebSocket.
pub(crate) const MIX: &str = r#"
page() { curl -sS -m 20 -o /dev/null -w '%{http_code}\n' "$@"; }
head -c 30000 /dev/zero | tr '\0' a > body
page http://allowed.test/
page http://allowed.test/bytes/3000
page --data-binary @body -H 'Content-Type: text/plain' http://allowed.test/upload
page http://two.allowed.test/
page http://denied.test/
page https://allowed.test/
page https://allowed.test/bytes/200000
page https://two.allowed.test/bytes/5000
page https://denied.test/ 2>/dev/null || true
websocket() {
    python3 - "$@" <<'PROGRAM'
import base64, os, socket, struct, sys

host, message = sys.argv[1], sys.argv[2].encode() * int(sys.argv[3])

def frame(first, payload):
    mask = os.urandom(4)
    length = struct.pack(">BH", 0xFE, len(payload)) if len(payload) > 125 else bytes([0x80 | len(payload)])
    return bytes([first]) + length + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))

stream = socket.create_connection((host, 80), 10)
key = base64.b64encode(os.urandom(16)).decode()
stream.sendall(f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
answer = b""
while not answer.endswith(b"\r\n\r\n"):
    answer += stream.recv(1) or exit(answer.decode())
stream.sendall(frame(0x81, message))
head = 4 if len(message) > 125 else 2
echo = b""
while len(echo) < head + len(message):
    echo += stream.recv(head + len(message) - len(echo)) or exit("the echo was cut")
print(echo[head:].decode(), flush=True)
stream.sendall(frame(0x88, struct.pack(">H", 1000)))
while stream.recv(100):
    pass
PROGRAM
}
websocket allowed.test hello 1
"#;

/// Requests that do not end with an answer from an origin. These requests print nothing, because mediators differ. The
/// last request is a WebSocket with a large message. [`MIX`] defines the function `websocket`.
const ENDS: &str = r#"
ended() { curl -sS -m 20 -o /dev/null "$@" 2>/dev/null || true; }
ended http://allowed.test:8082/
ended https://allowed.test:8082/
ended http://allowed.test:8081/reset
ended http://allowed.test:8081/cut/500
ended -m 1 http://allowed.test/slow/5000
websocket two.allowed.test "hello " 10000 > /dev/null
"#;

/// Requests through the explicit proxy, which exists only behind the boundary.
const BY_PROXY: &str = "\
page -x $EXPLICIT http://allowed.test/echo
page -x $EXPLICIT https://allowed.test/echo
ended $EXPLICIT/fetch?url=http://allowed.test/bytes/100
";

/// The output of the command behind the boundary.
const PRINTED: &str = "200\n200\n200\n200\n403\n200\n200\n200\n000\nhello\n200\n200\n";
/// The output of the command without a boundary.
const CONTROL: &str = "200\n200\n200\n200\n200\n200\n200\n200\n200\nhello\n";

/// Returns the command of the run in which the mediator tells `lie`.
pub fn agent(lie: &Lie) -> String {
    // The times that a lie exchanges must differ by more than the tolerance for clocks.
    let pause = match lie.name {
        "times_reversed" => "sleep 3\n",
        _ => "",
    };
    format!("EXPLICIT=$HTTP_PROXY\n{NO_PROXY}{MIX}{ENDS}{pause}{BY_PROXY}")
}

/// Returns the policy of the run in which the mediator tells `lie`.
pub fn policy(lie: &Lie) -> String {
    format!(
        "mode: strict\napi_allowlist: [allowed.test, \"*.allowed.test\", v4.test, {}.lie.test]\n",
        lie.name
    )
}

/// The result of one lie.
#[derive(Debug)]
struct Told {
    lie: &'static Lie,
    judged: Judged,
    /// Exit statuses of the published verifiers.
    published: [Option<i32>; 2],
}

/// Tells every lie that is possible with this mediator, each in a run that `run` prepares. Fails unless the packet
/// reports each lie that can be detected. `best` is the highest grade of this mediator's honest receipts.
///
/// # Panics
/// Panics with all lies that were not detected.
#[track_caller]
pub fn assert_lies_are_named(
    best: &str,
    expected: fn(&Lie) -> Expected,
    run: impl for<'w> Fn(&'w World, &Lie) -> Run<'w> + Sync,
) {
    let sensible = |lie: &&Lie| expected(lie) != Expected::Senseless;
    let truth = LIES.first().expect("the truth");
    let lies: Vec<&'static Lie> = LIES.iter().filter(sensible).collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let honest = told(&World::new(), truth, &run);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let world = World::new();
                while let Some(lie) = lies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let told = told(&world, lie, &run);
                    results.lock().expect("no test has failed").push(told);
                }
            });
        }
    });
    let results = results.into_inner().expect("no test has failed");
    judge(best, expected, &honest, &results);
}

/// Executes a run whose mediator tells `lie`.
fn told<F>(world: &World, lie: &'static Lie, run: &F) -> Told
where
    F: for<'w> Fn(&'w World, &Lie) -> Run<'w>,
{
    let [key, boundary] = ["key", "boundary"].map(|name| world.dir().join(name));
    if !key.exists() {
        let control = world.shell(&format!("{NO_PROXY}{MIX}{ENDS}"));
        assert_eq!(control.stdout, CONTROL, "without a boundary: {control}");
        world.key("key");
        world.key("boundary");
    }
    let output = run(world, lie)
        .signed_with(&key)
        .arg("--boundary-key")
        .arg(&boundary)
        .arg("--allow-port")
        .arg("8081")
        .arg("--allow-port")
        .arg("8082")
        .script(&agent(lie))
        .run();
    // Status 123 means that the check at the end of the run rejects the receipts.
    let ended = matches!(output.status, Some(0 | 123));
    assert!(ended, "{}: {output}", lie.name);
    assert_eq!(output.stdout, PRINTED, "{}: {output}", lie.name);
    Told {
        lie,
        judged: Judged::new(&output.packet, &key, &boundary),
        published: published(&output.packet, &public_key_hex(&key)),
    }
}

fn published(packet: &Path, key: &str) -> [Option<i32>; 2] {
    let evidence = packet.join("evidence.jsonl");
    [Reference::Rust, Reference::Python].map(|verifier| verifier.chain(&evidence, key).status)
}

#[track_caller]
fn judge(best: &str, expected: fn(&Lie) -> Expected, honest: &Told, results: &[Told]) {
    assert_eq!(honest.judged.grade(), best, "{}", honest.judged);
    let usual: BTreeSet<String> = honest.judged.reasons().into_iter().collect();
    let mut table = String::new();
    let mut wrong = Vec::new();
    let mut named = 0;
    for told in results {
        let name = told.lie.name;
        let mut reasons = told.judged.reasons();
        reasons.retain(|reason| !usual.contains(reason));
        let grade = told.judged.grade();
        let is_named = !reasons.is_empty() && grade != "kernel_enforced";
        named += usize::from(is_named);
        let reasons = reasons.join("; ");
        writeln!(table, "{name}: {grade}: {reasons}").expect("write to memory");
        if told.published != honest.published {
            let [rust, python] = told.published;
            wrong.push(format!(
                "{name}: the published verifiers reject the receipts: {rust:?}, {python:?}"
            ));
        }
        if !is_named && expected(told.lie) == Expected::Named {
            wrong.push(format!("{name}: not named"));
        }
    }
    #[expect(
        clippy::print_stdout,
        reason = "the table of the results is of interest"
    )]
    {
        println!("{named} of {} lies are reported\n{table}", results.len());
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{table}");
    assert!(
        named >= AT_LEAST,
        "{named} of {} lies are reported",
        results.len()
    );
}
