//! Measures the cost of the kernel's record of connections. The benchmark compares the time of connect and close in a
//! cgroup with all kernel programs of one side, and in a cgroup without the program that writes the record. `cargo
//! xtask bench witness` builds and starts this program.
//!
//! A run always attaches all of its programs. This benchmark therefore attaches the programs itself, to cgroups that it
//! creates, and connects to a listener in its own network namespace. `agent_sockops` also copies the destination for
//! the relay, so the figure for the command's side is an upper bound.
#![forbid(unsafe_code)]
#![allow(
    clippy::allow_attributes,
    clippy::print_stdout,
    clippy::float_arithmetic,
    clippy::disallowed_methods,
    reason = "a benchmark starts programs and prints ratios for people"
)]
use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, RingBuf};
use aya::{Ebpf, EbpfLoader};
use egress::bpf::attach;
use egress_common::abi::{Config, halves, trie_key};
use egress_common::names::{DEFAULT_PROXY_PORT, TRANSPARENT_PORT};
use egress_sandbox::cgroup::RunCgroups;
use nix::sched::{CloneFlags, unshare};

/// Number of rounds for each cgroup. The first round is discarded.
const ROUNDS: u64 = 42;
/// The largest permitted ratio between a connection that is recorded and one that is not.
const MOST: f64 = 1.06;
/// Number of connections in a round.
const CONNECTIONS: u64 = 1_000;
/// Interval at which the supervisor of a run reads the records.
const READ_EVERY: Duration = Duration::from_millis(2);
/// Time limit for the last connections to close.
const CLOSED_WITHIN: Duration = Duration::from_millis(200);
/// Address of the listener.
const LISTENER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, TRANSPARENT_PORT);

/// Any error.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One side of the mediator: the command's or the mediator's own.
struct Side {
    name: &'static str,
    /// Prefix of the names of this side's kernel programs.
    prefix: &'static str,
    /// The program that writes the record.
    recorder: &'static str,
    /// Destination to which the processes of this side connect. The command's connections are redirected to the
    /// listener.
    to: SocketAddrV4,
}

const SIDES: [Side; 2] = [
    Side {
        name: "connect and close by the command",
        prefix: "agent_",
        recorder: "agent_sockops",
        to: SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, 1), 80),
    },
    Side {
        name: "connect and close by the mediator",
        prefix: "mediator_",
        recorder: "mediator_sockops",
        to: LISTENER,
    },
];

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => bench(),
        ["work", cgroup, to] => work(cgroup.as_ref(), to.parse()?),
        _ => Err("usage: witness_bench".into()),
    }
}

fn bench() -> Result<()> {
    let object = env::var_os("EGRESS_BPF_OBJECT")
        .ok_or("EGRESS_BPF_OBJECT is not set to the path of an object")?;
    let object = fs::read(object)?;
    // In this network namespace, no connection leaves the machine, whatever programs are attached.
    unshare(CloneFlags::CLONE_NEWNET)?;
    egress_sys::netdev::loopback_up()?;

    let mut slow = Vec::new();
    println!("medians of {} rounds of {CONNECTIONS}", ROUNDS - 1);
    for side in SIDES {
        let mut with = Attached::new(&object, &side, true)?;
        let mut without = Attached::new(&object, &side, false)?;
        for round in 0..ROUNDS {
            // The second measurement may benefit from the first one, so the order alternates.
            if round % 2 == 0 {
                with.round()?;
                without.round()?;
            } else {
                without.round()?;
                with.round()?;
            }
        }
        thread::sleep(CLOSED_WITHIN);
        let [recorded, unrecorded] = [with.read(), without.read()];
        if recorded < ROUNDS * CONNECTIONS || unrecorded > 0 {
            let text = format!(
                "{}: {recorded} records, and {unrecorded} without",
                side.name
            );
            return Err(text.into());
        }
        let [with, without] = [with.median(), without.median()];
        println!(
            "{:<52} {:>9.4} ms {:>9.4} ms {:>6.2} {:>8}",
            side.name,
            with * 1000.0,
            without * 1000.0,
            with / without,
            format!("<= {MOST}"),
        );
        if with / without > MOST {
            slow.push(side.name);
        }
    }
    if !slow.is_empty() {
        let text = format!(
            "{} costs more than {MOST} times as much",
            slow.join(" and ")
        );
        return Err(text.into());
    }
    Ok(())
}

/// Runs one round: enters the cgroup, makes the connections, and prints the time of one connection.
fn work(cgroup: &Path, to: SocketAddrV4) -> Result<()> {
    // Accepted sockets belong to the cgroup in which the listener was created, so no program runs for them.
    let listener = TcpListener::bind(LISTENER)?;
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string())?;
    let mut times = Vec::new();
    for _ in 0..CONNECTIONS {
        let started = Instant::now();
        let stream = TcpStream::connect(to)?;
        let connected = started.elapsed();
        // The other side closes first. Otherwise, the kernel would report the end of the connection later.
        drop(listener.accept()?);
        let started = Instant::now();
        drop(stream);
        times.push(connected + started.elapsed());
    }
    println!("{}", median(times).as_nanos());
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A cgroup with programs.
struct Attached {
    to: SocketAddrV4,
    attempts: RingBuf<MapData>,
    traffic: RingBuf<MapData>,
    recorded: u64,
    rounds: Vec<Duration>,
    // The programs are detached before the cgroup is removed.
    _programs: Ebpf,
    cgroups: RunCgroups,
}

impl Attached {
    fn new(object: &[u8], side: &Side, with_recorder: bool) -> Result<Self> {
        let which = format!(
            "bench-{}-{}{with_recorder}",
            std::process::id(),
            side.prefix
        );
        let cgroups = RunCgroups::create(RunCgroups::place(&which)?)?;
        let config = Config::new(DEFAULT_PROXY_PORT, true);
        let mut programs = EbpfLoader::new()
            .btf(None)
            .override_global("CONFIG", &config, true)
            .load(object)?;
        let listed = programs.map_mut("LISTED").ok_or("no map LISTED")?;
        let mut listed = LpmTrie::<_, [u32; 4], u32>::try_from(listed)?;
        let address = halves(LISTENER.ip().to_ipv6_mapped().to_bits());
        listed.insert(&Key::new(128, trie_key(address)), 1, 0)?;
        for (name, program) in programs.programs_mut() {
            // A run need not attach the programs on `AF_UNIX` addresses, and it attaches the program that reads DNS
            // answers only in audit mode.
            let is_other = name.contains("_unix_") || name == "agent_skb_ingress";
            let is_wanted = with_recorder || name != side.recorder;
            if name.starts_with(side.prefix) && !is_other && is_wanted {
                attach(name, program, &cgroups.agent)?;
            }
        }
        let mut ring = |name| {
            let map = programs.take_map(name).ok_or("no such ring")?;
            Ok::<_, Box<dyn std::error::Error>>(RingBuf::try_from(map)?)
        };
        Ok(Self {
            to: side.to,
            attempts: ring("EVENTS")?,
            traffic: ring("TRAFFIC")?,
            recorded: 0,
            rounds: Vec::new(),
            _programs: programs,
            cgroups,
        })
    }

    /// Runs one round. Meanwhile, this process reads the records as the supervisor would.
    fn round(&mut self) -> Result<()> {
        let mut worker = Command::new(env::current_exe()?)
            .arg("work")
            .arg(self.cgroups.agent.path())
            .arg(self.to.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        while worker.try_wait()?.is_none() {
            self.read();
            thread::sleep(READ_EVERY);
        }
        let output = worker.wait_with_output()?;
        let nanoseconds = String::from_utf8(output.stdout)?.trim().parse()?;
        self.rounds.push(Duration::from_nanos(nanoseconds));
        Ok(())
    }

    /// Reads the available records, and returns how many of them are about connections.
    fn read(&mut self) -> u64 {
        while self.attempts.next().is_some() {}
        while self.traffic.next().is_some() {
            self.recorded += 1;
        }
        self.recorded
    }

    /// Returns the seconds for one connection.
    fn median(&self) -> f64 {
        median(self.rounds.iter().skip(1).copied().collect()).as_secs_f64()
    }
}
