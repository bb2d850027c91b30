//! Honest runs. Each command sends many requests of every kind, and some of them fail. The record of such a run must
//! not have faults, and must contain every byte that reached a server.
use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::agents::NO_PROXY;
use crate::internet::raw;
use crate::judged::Judged;
use crate::run::{Run, RunOutput};
use crate::world::World;

/// The source files of the command.
const PROGRAM: [(&str, &str); 4] = [
    ("main.py", include_str!("../agents/honest/main.py")),
    ("others.py", include_str!("../agents/honest/others.py")),
    ("plain.py", include_str!("../agents/honest/plain.py")),
    ("wire.py", include_str!("../agents/honest/wire.py")),
];

/// Variable with the number of rounds of a test.
const ROUNDS_VARIABLE: &str = "EGRESS_HONEST_ROUNDS";
/// Variable with the only kind of request to send, which helps to find the cause of a fault.
const ONLY_VARIABLE: &str = "EGRESS_HONEST_ONLY";

/// Seconds from the start of a run to the change of its clock. By then, the record has begun, even on a busy machine,
/// and the pause of [`command_with_pause`] is not over.
pub const SET_AFTER: u32 = 6;

/// Number of requests in a round that sends only one kind of request.
const OF_ONE_KIND: usize = 6;

/// Names that the command requests and that the policy allows.
const ALLOWED: [&str; 5] = [
    "allowed.test",
    "*.allowed.test",
    "loopback.test",
    "metadata.test",
    "nowhere.test",
];

/// Results that some kinds of requests must have with every mediator. Without these results, a round proves little.
const RESULTS: [(&str, &str); 12] = [
    ("blocked", "403"),
    ("get", "200"),
    ("get_after_hints", "200"),
    ("head_of", "200"),
    ("https_get", "200"),
    ("https_upload", "200"),
    ("no_content", "204"),
    ("post", "200"),
    ("post_answered_late", "200"),
    ("proxy_connect", "200"),
    ("proxy_get", "200"),
    ("websocket", "echo"),
];

/// One round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Seed that decides the requests and their order.
    pub seed: u64,
    /// Number of requests.
    pub requests: usize,
    /// Length of the longest body that the mediator may scan.
    pub body: usize,
}

/// Returns the number of rounds: the number that the caller of the tests set, or `usual`.
///
/// # Panics
/// Panics if the caller's number cannot be parsed.
pub fn rounds(usual: u64) -> u64 {
    env::var(ROUNDS_VARIABLE).map_or(usual, |text| text.parse().expect("a number of rounds"))
}

/// Returns the policy of a round. The policy allows the names that the command requests, and the names in `more`.
pub fn policy(more: &[&str]) -> String {
    let names = [&ALLOWED[..], more].concat();
    format!("mode: strict\napi_allowlist: {names:?}\n")
}

/// Adds the command of a round to a run.
pub fn command<'w>(run: Run<'w>, round: &Round) -> Run<'w> {
    asking(run, &words(round))
}

/// Adds the command of a round with a pause at its end, in which origins that wait for the command give up.
pub fn command_then_pause<'w>(run: Run<'w>, round: &Round, pause: Duration) -> Run<'w> {
    asking(run, &format!("{}sleep {}\n", words(round), pause.as_secs()))
}

/// Adds the command of a round in two halves with a pause between them.
pub fn command_with_pause<'w>(run: Run<'w>, round: &Round, pause: Duration) -> Run<'w> {
    let half = Round {
        requests: round.requests / 2,
        ..*round
    };
    let other = Round {
        seed: round.seed + 1_000,
        ..half
    };
    let script = format!(
        "{}sleep {}\n{}",
        words(&half),
        pause.as_secs(),
        words(&other)
    );
    asking(run, &script)
}

/// Adds the files of the program, and a script that runs `words` without the variables for proxies.
fn asking<'w>(run: Run<'w>, words: &str) -> Run<'w> {
    let run = run.limit(Duration::from_mins(3));
    let run = [raw::PORT, raw::PORT + 1]
        .into_iter()
        .fold(run, |run, port| {
            run.arg("--allow-port").arg(port.to_string())
        });
    PROGRAM
        .into_iter()
        .fold(run, |run, (name, text)| run.file(name, text))
        .script(&format!(
            "EXPLICIT=$HTTP_PROXY\n{NO_PROXY}export EXPLICIT\n{words}"
        ))
}

fn words(round: &Round) -> String {
    let Round {
        seed,
        requests,
        body,
    } = round;
    match env::var(ONLY_VARIABLE) {
        Ok(only) => format!("python3 -B main.py {seed} {OF_ONE_KIND} {body} {only}\n"),
        Err(_) => format!("python3 -B main.py {seed} {requests} {body}\n"),
    }
}

/// Returns the faults in the record of a round. `received` counts the bytes that servers had received before the round.
/// An honest run of this mediator can have reasons why its grade is not higher than `best`; `usual` lists the starts of
/// these reasons.
pub fn faults(
    world: &World,
    run: &RunOutput,
    judged: &Judged,
    received: &BTreeMap<String, u64>,
    best: &str,
    usual: &[&str],
) -> Vec<String> {
    let mut faults = Vec::new();
    if run.status != Some(0) {
        faults.push(format!("the run did not exit with 0: {run}"));
    }
    if judged.grade() != best {
        faults.push(format!("the grade is {}", judged.grade()));
    }
    for reason in judged.reasons() {
        if !usual.iter().any(|usual| reason.starts_with(usual)) {
            faults.push(format!("a loss: {reason}"));
        }
    }
    if env::var_os(ONLY_VARIABLE).is_none() {
        faults.extend(results(run));
    }
    faults.extend(unrecorded(&new_bytes(world, received), run));
    faults
}

/// Returns a fault for each kind of request that does not have its required result.
fn results(run: &RunOutput) -> Vec<String> {
    let mut faults = Vec::new();
    for line in run.stdout.lines() {
        let Ok(results) = serde_json::from_str::<Value>(line) else {
            faults.push(format!("the command printed {line:?}"));
            continue;
        };
        for (kind, wanted) in RESULTS {
            let all = results.get(kind).and_then(Value::as_object);
            if all.is_none_or(|all| all.keys().any(|result| result != wanted)) {
                faults.push(format!("{kind} came to {all:?}"));
            }
        }
    }
    if run.stdout.is_empty() {
        faults.push(format!("the command printed nothing: {run}"));
    }
    faults
}

/// Returns the number of bytes that each server has received since `before`.
fn new_bytes(world: &World, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut bytes = world.received();
    for (host, count) in &mut bytes {
        *count -= before.get(host).copied().unwrap_or(0);
    }
    bytes.retain(|_, count| *count > 0);
    bytes
}

/// Returns a fault for each server whose received bytes are missing in the flow log, in the residual channels, or in
/// the kernel's counts.
///
/// # Panics
/// Panics if the packet lacks a document.
pub fn unrecorded(received: &BTreeMap<String, u64>, run: &RunOutput) -> Vec<String> {
    let mut faults = Vec::new();
    let flows = run.lines("flows.jsonl");
    let number = |row: &Value, name: &str| row.get(name).and_then(Value::as_u64).unwrap_or(0);
    let is_of = |row: &Value, source: &str| row.get("source").is_some_and(|text| text == source);
    let measure = run.boundary("/residual_channels/allowed_hosts");
    for (host, bytes) in received {
        let rows = flows.iter().filter(|row| {
            is_of(row, "relay") && row.get("host").and_then(Value::as_str) == Some(host)
        });
        let in_flows: u64 = rows.map(|row| number(row, "bytes_up")).sum();
        let of_host = |name: &str| name.rsplit_once(':').is_some_and(|(name, _)| name == host);
        let measured: u64 = measure.as_object().map_or(0, |hosts| {
            let hosts = hosts.iter().filter(|(name, _)| of_host(name));
            hosts.map(|(_, through)| number(through, "bytes_up")).sum()
        });
        for (what, counted) in [
            ("the flow log", in_flows),
            ("the residual measure", measured),
        ] {
            if counted < *bytes {
                faults.push(format!(
                    "{host} received {bytes} bytes, {what} has {counted}"
                ));
            }
        }
    }
    let closed: Vec<&Value> = flows
        .iter()
        .filter(|row| is_of(row, "kernel_close") || is_of(row, "kernel_close_total"))
        .collect();
    let sent: u64 = closed.iter().map(|row| number(row, "bytes_sent")).sum();
    let all: u64 = received.values().sum();
    if !closed.is_empty() && sent < all {
        faults.push(format!(
            "all received {all} bytes, the kernel saw {sent} leave"
        ));
    }
    faults
}

/// Fails if there is a fault in any round.
///
/// # Panics
/// Panics with the faults of the rounds, by seed.
#[track_caller]
pub fn assert_faultless(all: &BTreeMap<u64, Vec<String>>) {
    let mut text = String::new();
    for (seed, faults) in all.iter().filter(|(_, faults)| !faults.is_empty()) {
        writeln!(text, "seed {seed}:").expect("write to memory");
        for fault in faults {
            writeln!(text, "  {fault}").expect("write to memory");
        }
    }
    assert!(
        text.is_empty(),
        "honest runs with faults in their record:\n{text}"
    );
}
