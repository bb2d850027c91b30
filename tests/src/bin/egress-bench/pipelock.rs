//! Measures the cost of a run with a real Pipelock, compared with the same Pipelock without egress.
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use egress_tests::{Run, Running, World};
use nix::sys::signal::Signal;

use crate::{Result, median, ms, ratio, text};

const ROUNDS: usize = 11;
const LIMIT: Duration = Duration::from_mins(2);
/// Port of the Pipelock that runs without egress.
const PORT: u16 = 8871;
/// Milliseconds that a run may take in addition to Pipelock's own start and stop.
const MOST_BEYOND: f64 = 60.0;

pub(crate) fn bench() -> Result<()> {
    let binary = std::env::var_os("PIPELOCK_BIN")
        .ok_or("PIPELOCK_BIN is not set to the path of a Pipelock")?;
    let bench = Bench::new(PathBuf::from(binary))?;
    println!("medians of {} rounds", ROUNDS - 1);
    let mut whole = Vec::new();
    let mut alone = Vec::new();
    for round in 0..ROUNDS {
        // Pipelock 2.x does not write evidence if there is no traffic, so the status is 123.
        let run = bench.run().command(["true"]).run();
        if !matches!(run.status, Some(0 | 123)) {
            return Err(run.to_string());
        }
        whole.push(run.elapsed);
        alone.push(end(bench.start(&format!("alone-{round}"))?));
    }
    let beyond = ms(median(&whole)) - ms(median(&alone));
    println!(
        "whole run of `true` {:.1} ms, Pipelock's own start and stop {:.1} ms: {beyond:+.1} ms (aim <= +{MOST_BEYOND} ms)",
        ms(median(&whole)),
        ms(median(&alone)),
    );

    let own = bench.start("own")?;
    let mut inside = Vec::new();
    let mut direct = Vec::new();
    for _ in 0..5 {
        let run = bench.run().script(&curls("--noproxy '*'")).run();
        inside.push(took(&run.stdout).map_err(|error| format!("{error}: {run}"))?);
        let shell = bench
            .world
            .shell(&curls(&format!("-x http://127.0.0.1:{PORT}")));
        direct.push(took(&shell.stdout).map_err(|error| format!("{error}: {shell}"))?);
    }
    end(own);
    ratio(
        "200 runs of curl, compared with a Pipelock alone",
        &inside,
        &direct,
        "<= 1.10",
    );
    Ok(())
}

/// Runs curl 200 times, and returns the time in nanoseconds.
fn curls(how: &str) -> String {
    format!(
        "start=$(date +%s%N)\n\
         for i in {{1..200}}; do curl -sS {how} -o /dev/null http://allowed.test/ || exit; done\n\
         echo $(($(date +%s%N) - start))\n"
    )
}

fn took(output: &str) -> Result<Duration> {
    output
        .trim()
        .parse()
        .map(Duration::from_nanos)
        .map_err(text)
}

struct Bench {
    world: World,
    binary: PathBuf,
    key: PathBuf,
    supports_gate: bool,
}

impl Bench {
    fn new(binary: PathBuf) -> Result<Self> {
        let world = World::new();
        let key = world.key("key");
        let mut bench = Self {
            world,
            binary,
            key,
            supports_gate: true,
        };
        let config = bench.config("check")?;
        let words = [
            bench.binary.as_path(),
            "check".as_ref(),
            "--config".as_ref(),
            &config,
        ];
        bench.supports_gate = bench.world.runner(words).success();
        Ok(bench)
    }

    fn run(&self) -> Run<'_> {
        self.world
            .egress()
            .allow(&["allowed.test"])
            .signed_with(&self.key)
            .arg("--mediator")
            .arg("pipelock")
            .arg("--pipelock-bin")
            .arg(&self.binary)
            .limit(LIMIT)
    }

    /// Returns the policy that a run passes to Pipelock.
    fn config(&self, name: &str) -> Result<PathBuf> {
        let dir = self.world.dir().join(name);
        fs::create_dir(&dir).map_err(text)?;
        let gate = if self.supports_gate {
            ", require_receipts: true"
        } else {
            ""
        };
        let yaml = format!(
            "version: 1\nmode: strict\napi_allowlist: [allowed.test]\n\
             fetch_proxy: {{listen: '127.0.0.1:{PORT}', monitoring: {{max_requests_per_minute: 1000000}}}}\n\
             forward_proxy: {{enabled: true}}\nwebsocket_proxy: {{enabled: true}}\n\
             flight_recorder: {{enabled: true, dir: {}, redact: true, sign_checkpoints: true, signing_key_path: {}{gate}}}\n",
            dir.display(),
            self.key.display(),
        );
        let path = self.world.dir().join(format!("{name}.yaml"));
        fs::write(&path, yaml).map_err(text)?;
        Ok(path)
    }

    /// Starts a Pipelock without egress, and waits until it is ready.
    fn start(&self, name: &str) -> Result<Running> {
        let config = self.config(name)?;
        let words: [&Path; 4] = [&self.binary, "run".as_ref(), "--config".as_ref(), &config];
        let running = self.world.background(words);
        let deadline = Instant::now() + LIMIT;
        self.world.on_runner(|| {
            while !is_healthy() {
                if Instant::now() > deadline {
                    return Err(String::from("Pipelock did not become ready"));
                }
                thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        })?;
        Ok(running)
    }
}

/// Stops Pipelock with its usual signal, and returns how long it ran.
fn end(pipelock: Running) -> Duration {
    pipelock.signal(Signal::SIGTERM);
    pipelock.finish(LIMIT).elapsed
}

fn is_healthy() -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("healthy"))
}
