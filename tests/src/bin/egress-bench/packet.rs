//! Measures `egress verify` on the packets of runs with many requests. Ten times as many requests take ten times as
//! long, and the same memory.
#![expect(
    clippy::disallowed_methods,
    reason = "the benchmark starts the built binary and reads its memory while it runs"
)]
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use egress_tests::{RunOutput, World, binary};

use crate::turns::with_program;
use crate::{Result, text};

/// Requests of the runs, each on a connection of its own.
const SIZES: [u32; 3] = [1_000, 10_000, 100_000];
/// How often the memory of the verifier is read.
const LOOK: Duration = Duration::from_millis(2);

pub(crate) fn bench() -> Result<()> {
    let world = World::new();
    let [key, boundary] = ["key", "boundary"].map(|name| world.key(name));
    println!("requests   receipts   flow rows   packet MiB   verify s   RSS MiB");
    for requests in SIZES {
        let run = with_program(world.egress().allow(&["allowed.test"]))?
            .signed_with(&key)
            .arg("--boundary-key")
            .arg(&boundary);
        let work = ["./bench", "agent", "work", "short", &requests.to_string()];
        let run = run.limit(Duration::from_mins(15)).command(work).run();
        if !run.success() {
            return Err(run.to_string());
        }
        let (took, rss_kib) = verify(&run, &key, &boundary)?;
        println!(
            "{requests:>8} {:>10} {:>11} {:>12} {:>10.2} {:>9}",
            lines(&run.packet.join("evidence.jsonl"), "action_receipt")?,
            lines(&run.packet.join("flows.jsonl"), "")?,
            size(&run.packet)? >> 20,
            took.as_secs_f64(),
            rss_kib >> 10,
        );
    }
    Ok(())
}

/// Verifies the packet with both keys pinned. Returns the time and the most memory that the verifier held, KiB.
fn verify(run: &RunOutput, key: &Path, boundary: &Path) -> Result<(Duration, u64)> {
    let started = Instant::now();
    let mut child = Command::new(binary())
        .arg("verify")
        .arg(&run.packet)
        .args(["--require-grade", "kernel_enforced", "--key"])
        .arg(key.with_extension("pub"))
        .arg("--boundary-key")
        .arg(boundary.with_extension("pub"))
        .stdout(Stdio::null())
        .spawn()
        .map_err(text)?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut rss_kib = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait().map_err(text)? {
            break ended;
        }
        rss_kib = high_water(&status).unwrap_or(rss_kib);
        thread::sleep(LOOK);
    };
    if !ended.success() {
        return Err(format!(
            "verify refuses the packet of an honest run: {ended}"
        ));
    }
    Ok((started.elapsed(), rss_kib))
}

fn high_water(status: &Path) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
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
