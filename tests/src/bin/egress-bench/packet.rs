//! Measures the time and the memory of `egress verify` for the packets of runs with many requests.
#![expect(
    clippy::disallowed_methods,
    reason = "the benchmark starts the built binary itself"
)]
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use egress_test_support::measured::{self, Measured};
use egress_tests::{RunOutput, World, binary};

use crate::turns::with_program;
use crate::{Result, text};

/// Number of requests in each run. Each request has its own connection.
const SIZES: [u32; 3] = [1_000, 10_000, 100_000];

pub(crate) fn bench() -> Result<()> {
    let world = World::new();
    let [key, boundary] = ["key", "boundary"].map(|name| world.key(name));
    println!("requests   receipts   flow rows   packet MiB   verify s   RSS MiB");
    for requests in SIZES {
        let run = with_program(world.egress().allow(&["allowed.test"]))?
            .signed_with(&key)
            .arg("--boundary-key")
            .arg(&boundary)
            .arg("--max-evidence")
            .arg("1G");
        let work = ["./bench", "agent", "work", "short", &requests.to_string()];
        let run = run.limit(Duration::from_mins(15)).command(work).run();
        if !run.success() {
            return Err(run.to_string());
        }
        let verifier = verify(&run, &key, &boundary)?;
        println!(
            "{requests:>8} {:>10} {:>11} {:>12} {:>10.2} {:>9}",
            lines(&run.packet.join("evidence.jsonl"), "action_receipt")?,
            lines(&run.packet.join("flows.jsonl"), "")?,
            size(&run.packet)? >> 20,
            verifier.wall.as_secs_f64(),
            verifier.rss_kib >> 10,
        );
    }
    Ok(())
}

/// Verifies the packet with both keys pinned.
fn verify(run: &RunOutput, key: &Path, boundary: &Path) -> Result<Measured> {
    let verifier = measured::run(
        Command::new(binary())
            .arg("verify")
            .arg(&run.packet)
            .args(["--require-grade", "kernel_enforced", "--key"])
            .arg(key.with_extension("pub"))
            .arg("--boundary-key")
            .arg(boundary.with_extension("pub"))
            .stdout(Stdio::null()),
    )
    .map_err(text)?;
    if !verifier.status.success() {
        return Err(format!(
            "verify rejects the packet of an honest run: {}",
            verifier.status
        ));
    }
    Ok(verifier)
}

fn lines(file: &Path, word: &str) -> Result<usize> {
    let text = fs::read_to_string(file).map_err(text)?;
    Ok(text.lines().filter(|line| line.contains(word)).count())
}

fn size(directory: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory).map_err(text)? {
        total += entry
            .and_then(|entry| entry.metadata())
            .map_err(text)?
            .len();
    }
    Ok(total)
}
