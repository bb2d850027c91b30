//! Executes the honest runs whose packets are changed.
use std::fs;
use std::path::PathBuf;

use crate::agents::NO_PROXY;
use crate::run::Run;
use crate::trial::MIX;
use crate::world::World;

/// Actions of the command in addition to its requests: a datagram, a request over IPv6, a connection to a port that is
/// not allowed, connections without data that the relay or the command closes, a new file, and a change that is denied.
const MORE: &str = r#"
python3 - <<'PROGRAM'
import socket
for attempt in (
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("198.51.100.20", 7000)),
    lambda: socket.create_connection(("allowed.test", 25), 5),
    lambda: socket.create_connection(("198.51.100.20", 80), 60).recv(1),
    lambda: socket.create_connection(("198.51.100.20", 80), 5).close(),
    lambda: socket.socket(socket.AF_UNIX).connect("/run/nothing.sock"),
):
    for _ in range(2):
        try:
            attempt()
        except OSError:
            pass
PROGRAM
page -6 http://allowed.test/echo
page -x $EXPLICIT http://allowed.test/echo
page -x $EXPLICIT https://allowed.test/echo
mkdir -p .github/workflows
echo 'on: push' > .github/workflows/new.yml
echo text > file.txt
"#;

/// Executes two runs with the same keys, `key` and `boundary` in the world's directory, and returns their packets.
///
/// # Panics
/// Panics if a run does not end as expected.
pub fn runs(world: &World, with: impl for<'w> Fn(Run<'w>) -> Run<'w>) -> [PathBuf; 2] {
    let [key, boundary] = ["key", "boundary"].map(|name| world.key(name));
    let script = format!("EXPLICIT=$HTTP_PROXY\n{NO_PROXY}{MIX}{MORE}");
    ["0123456789abcdef", "fedcba9876543210"].map(|nonce| {
        let run = world
            .egress()
            .config("mode: strict\napi_allowlist: [allowed.test, \"*.allowed.test\"]\n")
            .signed_with(&key)
            .arg("--boundary-key")
            .arg(&boundary)
            .arg("--bind")
            .arg("build=17")
            .arg("--nonce")
            .arg(nonce)
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_REPOSITORY", "acme/widgets")
            .env("GITHUB_SHA", "0123456789abcdef0123456789abcdef01234567")
            .env("GITHUB_RUN_ID", "1111")
            .file("kept.txt", "kept\n")
            .script(&script);
        let output = with(run).run();
        assert_eq!(output.status, Some(0), "{output}");
        assert!(fs::exists(output.packet.join("packet.json")).is_ok_and(|there| there));
        output.packet
    })
}
