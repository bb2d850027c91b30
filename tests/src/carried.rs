//! Uploads that end in every possible way. Compares the bytes that each recorder reports with the bytes that the origin
//! received.
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::agents::NO_PROXY;
use crate::command::Running;
use crate::processes::wait_until;
use crate::run::{Run, RunOutput};
use crate::world::World;

const ORIGIN: &str = include_str!("../agents/carried/origin.py");
const CLIENT: &str = include_str!("../agents/carried/client.py");

/// Ports of the origin, without TLS and with TLS.
const PORTS: [&str; 2] = ["8100", "8101"];
/// Time limit for anything that should happen at once, even on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// The host names that uploads go to.
pub const NAMES: &str = "*.more.test";

/// One upload. Each upload has its own host name.
#[derive(Clone, Copy, Debug)]
pub struct Upload {
    /// How the upload is sent: `plain`, `chunked`, `kept` (as the second request of a connection), `proxy` (through the
    /// explicit proxy), `tunnel`, `explicit-tunnel` or `websocket`.
    pub way: &'static str,
    /// How the upload ends: `late` (no answer arrives before the command ends), `early` (the answer ends before the
    /// upload), `forged` (the origin imitates a mediator's denial), or `bad` (a chunk or frame is malformed).
    pub fate: &'static str,
    /// Bytes of the payload.
    pub size: u64,
}

impl Upload {
    /// Returns one upload for each way to send it.
    pub fn each(
        fate: &'static str,
        size: u64,
        ways: &[&'static str],
    ) -> impl Iterator<Item = Self> {
        ways.iter().map(move |way| Self { way, fate, size })
    }

    /// Returns the host name that the upload goes to.
    pub fn host(&self) -> String {
        format!("{}-{}.more.test", self.fate, self.way)
    }
}

/// The number of bytes that the origin received, by host name.
#[derive(Debug)]
pub struct Received(BTreeMap<String, u64>);

/// An origin that counts the bytes that it receives.
#[derive(Debug)]
pub struct Origin<'w> {
    world: &'w World,
    _running: Running,
}

impl<'w> Origin<'w> {
    /// Starts the origin.
    ///
    /// # Panics
    /// Panics if the origin does not listen within the time limit.
    pub fn start(world: &'w World) -> Self {
        let [certificate, key] = world.certificate(NAMES);
        let words = ["python3".into(), "-c".into(), ORIGIN.into()];
        let running = world.peer(words.into_iter().chain([certificate, key]));
        let origin = Self {
            world,
            _running: running,
        };
        wait_until("the origin listens", SOON, || {
            origin.lines().len() >= 2 * PORTS.len()
        });
        origin
    }

    /// Sets the command of the run. The command makes these uploads one after the other.
    pub fn command<'r>(&self, run: Run<'r>, uploads: &[Upload]) -> Run<'r> {
        let words: Vec<String> = uploads
            .iter()
            .map(|Upload { way, fate, size }| format!("{way}:{fate}:{size}"))
            .collect();
        let run = PORTS
            .into_iter()
            .fold(run, |run, port| run.arg("--allow-port").arg(port));
        run.limit(Duration::from_mins(5))
            .file("client.py", CLIENT)
            .script(&format!(
                "EXPLICIT=$HTTP_PROXY\n{NO_PROXY}export EXPLICIT\npython3 -B client.py {}\n",
                words.join(" ")
            ))
    }

    /// Returns the bytes that the origin has received since the last call.
    ///
    /// # Panics
    /// Panics if a connection does not end within the time limit.
    pub fn received(&self) -> Received {
        let count = |lines: &[(String, u64)], name: &str| {
            lines.iter().filter(|(found, _)| found == name).count()
        };
        wait_until("connections to the origin end", SOON, || {
            let lines = self.lines();
            count(&lines, "begun") == count(&lines, "ended")
        });
        let mut received = BTreeMap::new();
        for (name, bytes) in self.lines() {
            if name.contains('.') {
                *received.entry(name).or_default() += bytes;
            }
        }
        fs::remove_file(self.world.dir().join("received")).expect("remove the old counts");
        Received(received)
    }

    fn lines(&self) -> Vec<(String, u64)> {
        let text = fs::read_to_string(self.world.dir().join("received")).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, count)| (name.to_owned(), count.parse().expect("a number of bytes")))
            .collect()
    }
}

impl Received {
    /// Returns how many bytes of an upload the origin received.
    pub fn of(&self, upload: &Upload) -> u64 {
        self.0.get(&upload.host()).copied().unwrap_or(0)
    }

    /// Returns how many bytes the origin received from all uploads with this fate.
    pub fn of_fate(&self, fate: &str) -> u64 {
        let hosts = self.0.iter().filter(|(host, _)| host.starts_with(fate));
        hosts.map(|(_, received)| received).sum()
    }

    /// Returns the bytes by host name.
    pub fn by_host(&self) -> &BTreeMap<String, u64> {
        &self.0
    }

    /// Returns each record that states fewer bytes than the origin received, and each record that states that a
    /// received upload was denied.
    ///
    /// # Panics
    /// Panics if the packet lacks a document, or if a row lacks a required member.
    pub fn faults(&self, run: &RunOutput) -> Vec<String> {
        let mut faults = Vec::new();
        let measure = run.boundary("/residual_channels/allowed_hosts");
        let closes = run.flows(&[("source", "kernel_close")]);
        for (host, received) in &self.0 {
            let rows = run.flows(&[("source", "relay"), ("host", host)]);
            let closes = closes.iter().filter(|close| {
                let cookie = close.get("cookie");
                rows.iter().any(|row| row.get("cookie") == cookie)
            });
            let measured = PORTS.map(|port| {
                let through = measure.get(format!("{host}:{port}"));
                through.map_or(0, |through| number(through, "bytes_up"))
            });
            for (recorder, recorded) in [
                ("the relay's rows", sum(&rows, "bytes_up")),
                ("the residual measure", measured.iter().sum()),
                ("the kernel's rows", sum(closes, "bytes_sent")),
            ] {
                if recorded < *received {
                    faults.push(format!(
                        "{host}: {received} bytes received, {recorder} state {recorded}"
                    ));
                }
            }
            for row in rows {
                let verdict = row.get("verdict").and_then(Value::as_str);
                if matches!(verdict, Some("blocked" | "refused")) && *received > 0 {
                    faults.push(format!("{host}: {received} bytes received: {row}"));
                }
            }
        }
        let dialled = run.flows(&[("source", "kernel_mediator"), ("protocol", "tcp")]);
        let [sent, all] = [sum(&dialled, "bytes_sent"), self.0.values().sum()];
        if sent < all {
            faults.push(format!(
                "{all} bytes received in all, the kernel saw the mediator send {sent}"
            ));
        }
        faults
    }
}

fn sum<'r>(rows: impl IntoIterator<Item = &'r Value>, member: &str) -> u64 {
    rows.into_iter().map(|row| number(row, member)).sum()
}

fn number(row: &Value, member: &str) -> u64 {
    let number = row.get(member).and_then(Value::as_u64);
    number.unwrap_or_else(|| panic!("no {member}: {row}"))
}
