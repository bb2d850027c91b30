//! Measures `egress verify` on long evidence, compared with signature checks alone and with the published verifier in
//! Rust. `cargo xtask bench verify` builds and starts this program.
//!
//! The compared figures are measured in the same minute, because the machine may be busy with other work.
#![forbid(unsafe_code)]
#![allow(
    clippy::allow_attributes,
    clippy::print_stdout,
    clippy::float_arithmetic,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a benchmark starts programs and prints ratios for people"
)]
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::num::NonZero;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer, SigningKey};
use egress_test_support::measured;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use pipelock_receipts::keys;
use pipelock_receipts::record::{Action, ActionType, Phase, Posture, ReceiptVerdict, Transport};
use pipelock_receipts::recorder::{Moment, Recorder, SessionConfig};

/// Number of receipts in each chain.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Length of the longest chain that the published verifier checks. This verifier keeps the whole chain in memory and
/// needs half a second for a thousand receipts.
const MOST_FOR_REFERENCE: u64 = 100_000;
/// Duration of the measurement of signature checks alone.
const BARE: Duration = Duration::from_secs(2);

/// Any error.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let binary = env::var_os("EGRESS_BIN").ok_or("EGRESS_BIN is not set to the path of egress")?;
    let reference = env::var_os("EGRESS_REF_VERIFIER_RS");
    let directory = tempfile::tempdir()?;
    let key = keys::generate()?;
    let public = hex::encode(key.verifying_key().to_bytes());
    println!(
        "{:>9} {:>11} {:>10} {:>9} {:>10} {:>9} {:>11}",
        "receipts", "receipts/s", "of limit", "CPU us", "limit us", "RSS", "reference"
    );
    for size in sizes()? {
        let path = directory.path().join("evidence.jsonl");
        write(&path, &key, size)?;
        let rounds = if size < MOST_FOR_REFERENCE { 5 } else { 3 };
        let mut shares = Vec::new();
        let mut runs = Vec::new();
        let mut bares = Vec::new();
        for _ in 0..rounds {
            let before = bare(&key)?;
            let run = run(
                &binary,
                &[
                    "verify".as_ref(),
                    path.as_os_str(),
                    "--key".as_ref(),
                    public.as_ref(),
                ],
            )?;
            let after = bare(&key)?;
            let limit = f64::midpoint(before.per_second, after.per_second);
            shares.push(size as f64 / run.wall.as_secs_f64() / limit);
            bares.push(f64::midpoint(before.cpu_us, after.cpu_us));
            runs.push(run);
        }
        let wall = best(runs.iter().map(|run| run.wall));
        let cpu = best(runs.iter().map(|run| run.cpu));
        let rss = runs.iter().map(|run| run.rss_kib).max().unwrap_or(0);
        let ratio = match &reference {
            Some(reference) if size <= MOST_FOR_REFERENCE => {
                let args = [
                    "chain".as_ref(),
                    path.as_os_str(),
                    "--key".as_ref(),
                    public.as_ref(),
                ];
                let run = run(reference, &args)?;
                format!("{:.1}x", run.cpu.as_secs_f64() / cpu.as_secs_f64())
            }
            Some(_) | None => String::from("-"),
        };
        println!(
            "{size:>9} {:>11.0} {:>9.0}% {:>9.1} {:>10.1} {:>5} MiB {ratio:>11}",
            size as f64 / wall.as_secs_f64(),
            100.0 * shares.iter().copied().fold(0.0, f64::max),
            cpu.as_secs_f64() * 1e6 / size as f64,
            bares.iter().copied().fold(f64::INFINITY, f64::min),
            rss / 1024,
        );
        fs::remove_file(&path)?;
    }
    println!(
        "limit: bare verify_strict on all processors; reference: its CPU time over that of egress"
    );
    Ok(())
}

/// Returns the sizes that the caller requests, or all sizes.
fn sizes() -> Result<Vec<u64>> {
    let asked: Vec<String> = env::args().skip(1).collect();
    if asked.is_empty() {
        return Ok(SIZES.to_vec());
    }
    let sizes: std::result::Result<Vec<u64>, _> = asked.iter().map(|size| size.parse()).collect();
    Ok(sizes?)
}

fn best(times: impl Iterator<Item = Duration>) -> Duration {
    times.min().unwrap_or_default()
}

/// The time and memory that a program used.
struct Run {
    wall: Duration,
    cpu: Duration,
    rss_kib: u64,
}

/// Runs a verifier that must accept the chain.
fn run(program: &OsStr, args: &[&OsStr]) -> Result<Run> {
    let before = children()?;
    let ended = measured::run(Command::new(program).args(args).stdout(Stdio::null()))?;
    let cpu = children()?.saturating_sub(before);
    if !ended.status.success() {
        return Err(format!("{} rejects the chain: {}", program.display(), ended.status).into());
    }
    Ok(Run {
        wall: ended.wall,
        cpu,
        rss_kib: ended.rss_kib,
    })
}

/// Returns the CPU time of all children that have ended.
fn children() -> Result<Duration> {
    spent(UsageWho::RUSAGE_CHILDREN)
}

fn spent(who: UsageWho) -> Result<Duration> {
    let usage = getrusage(who)?;
    let micros = [usage.user_time(), usage.system_time()].map(|time| time.num_microseconds());
    Ok(Duration::from_micros(
        micros.into_iter().sum::<i64>().try_into()?,
    ))
}

/// The result of the measurement of signature checks alone.
struct Bare {
    per_second: f64,
    cpu_us: f64,
}

/// Checks signatures on all processors for [`BARE`].
fn bare(key: &SigningKey) -> Result<Bare> {
    let signed: Vec<_> = (0..1024_u64)
        .map(|number| {
            let message = [number.to_be_bytes(); 4].concat();
            let signature = key.sign(&message);
            (message, signature)
        })
        .collect();
    let public = key.verifying_key();
    let before = spent(UsageWho::RUSAGE_SELF)?;
    let start = Instant::now();
    let count = |()| {
        let mut count = 0_u64;
        while start.elapsed() < BARE {
            for (message, signature) in &signed {
                if public.verify_strict(message, signature).is_ok() {
                    count = count.saturating_add(1);
                }
            }
        }
        count
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let count: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| count(()))).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .sum()
    });
    let cpu = spent(UsageWho::RUSAGE_SELF)?.saturating_sub(before);
    Ok(Bare {
        per_second: count as f64 / start.elapsed().as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / count as f64,
    })
}

/// Writes a clean session of `receipts` receipts, as the built-in mediator would.
fn write(path: &Path, key: &SigningKey, receipts: u64) -> Result<()> {
    let at = |step: u64| {
        let second = step / 100;
        format!(
            "2026-11-{:02}T{:02}:{:02}:{:02}.{:03}1Z",
            1 + second / 86_400,
            second / 3600 % 24,
            second / 60 % 60,
            second % 60,
            step % 100
        )
    };
    let id = |step: u64| format!("01a20d10-da40-7c63-bb84-{step:012x}");
    let config = SessionConfig {
        recorder_session: String::from("proxy.run.0123456789abcdef0123456789abcdef"),
        run_nonce: "ab".repeat(16),
        open_nonce: "cd".repeat(16),
        actor: String::from("ci-agent"),
        policy_hash: "44".repeat(32),
        heartbeat_seconds: 60,
        posture: Posture {
            capsule_sha256: "11".repeat(32),
            signer_key_id: "22".repeat(32),
            containment_nonce: "33".repeat(64),
            contained_uid: String::from("65533"),
        },
        checkpoint_interval: 1000,
    };
    let mut out = BufWriter::new(File::create(path)?);
    let (first, last) = (id(0), id(1));
    let start = at(0);
    let moment = |id| Moment { time: &start, id };
    let (mut recorder, line) = Recorder::open(key.clone(), config, moment(&first))?;
    out.write_all(&line)?;
    // The records that open and close the session are receipts as well.
    for step in 0..receipts.saturating_sub(2) / 2 {
        let (time, id, request) = (at(step), id(step.saturating_add(2)), format!("req-{step}"));
        let target = format!("https://host{}.example:443/", step % 50);
        let intent = Action {
            action_id: &id,
            action_type: ActionType::Read,
            verdict: ReceiptVerdict::Allow,
            phase: Some(Phase::Intent),
            transport: Transport::Connect,
            target: &target,
            method: "CONNECT",
            layer: "",
            pattern: "",
            request_id: &request,
        };
        let outcome = Action {
            phase: Some(Phase::Outcome),
            layer: "outcome",
            pattern: "status=200 bytes=1048 reason=complete",
            ..intent
        };
        out.write_all(&recorder.action(&intent, &time)?)?;
        out.write_all(&recorder.action(&outcome, &time)?)?;
    }
    let end = at(receipts / 2);
    let at_end = Moment {
        time: &end,
        id: &last,
    };
    out.write_all(&recorder.close("graceful_shutdown", at_end)?.lines)?;
    out.flush()?;
    Ok(())
}
