//! The supervisor's side of the probes: runs the controls, lets init run the probes, and judges the results.
//!
//! Claims: probe-reachable, probe-control-failed
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit_packet::format::boundary::{Control, Probe, ProbeCounts, Probes};
use egress_sandbox::cgroup::RunCgroups;
use egress_sandbox::child::protocol::Sockets;
use egress_sandbox::probe::control::{self, FromControls, GatesAttached, StandIns};
use egress_sandbox::probe::model::{Observation, ProbeOutcome, ProbeResult};
use egress_sandbox::probe::scene::{Owned, Scene, Side, Target, Targets};
use egress_sandbox::probe::{Found, PROBES};
use egress_sys::channel::{Channel, ChannelError};
use egress_workspace::users::UserLease;
use nix::unistd::Pid;
use socket2::Socket;

use super::environment;
use super::error::{RunError, system};
use super::helper::no_message;
use super::init::Init;
use super::plan::Plan;
use super::state::RunDir;
use crate::bpf::events::Events;

const CONTROLS: &str = "controls of the probes";
/// Time that the controls may take for one step.
const CONTROLS_WITHIN: Duration = Duration::from_secs(30);
/// Limit in bytes on the paths of host sockets that are probed, so that the paths fit into one message.
const HOST_SOCKET_BYTES: usize = 16 << 10;

/// Returns the names of all probes.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROBES.iter().map(|probe| probe.name)
}

/// The results of the probes of a run.
#[derive(Debug, Clone)]
pub struct Probed {
    /// One result for each probe.
    pub results: Vec<ProbeResult>,
    /// Number of records about the probes that the kernel programs wrote.
    pub seen_by_hooks: usize,
}

/// The process that runs the controls while the boundary is set up.
#[derive(Debug)]
pub(super) struct Controls {
    channel: Option<Channel<GatesAttached, FromControls>>,
    process: Pid,
    scene: Scene,
}

impl Controls {
    /// Starts the process.
    ///
    /// # Order
    /// Call this while the process has a single thread.
    ///
    /// # Errors
    /// Fails if the targets of the probes cannot be found, or the process cannot be started.
    pub(super) fn start(
        plan: &Plan,
        dir: &RunDir,
        cgroups: &RunCgroups,
        users: &UserLease,
    ) -> Result<Self, RunError> {
        let scene = system("find the targets of the probes", scene(plan, dir, cgroups))?;
        let (ours, theirs) = system("create a control socket", Channel::pair())?;
        let users = StandIns {
            mediator: users.host,
            relay: users.relay,
        };
        let started = control::start(theirs, &scene, users);
        Ok(Self {
            channel: Some(ours),
            process: system("start the controls", started)?,
            scene,
        })
    }

    /// Notifies the process that the kernel programs are attached, because some controls wait for the programs.
    pub(super) fn gates_are_attached(&self) {
        let sent = self.channel.as_ref().map(|one| one.send(&GatesAttached));
        // If the process has ended, the next message is an error with the reason.
        drop(sent);
    }

    /// Lets init run the probes in the closed boundary, and compares their results with the results of the controls.
    ///
    /// # Errors
    /// Fails if init or the controls fail, end, or send another message than expected.
    pub(super) fn probe(
        &mut self,
        init: &mut Init,
        sockets: &Sockets<OwnedFd>,
        events: &mut Events,
        dir: &RunDir,
    ) -> Result<Probed, RunError> {
        let mut scene = Box::new(self.scene.clone());
        (scene.targets.mediator, scene.targets.relay) = self.expect_ready(dir)?;
        let inside = init.probe(Some(scene), dir)?;
        let seen_by_hooks = discard(events)?;
        let arrived = system("accept the probes' connections", arrived(sockets))?;
        let outside = self.expect_made(dir)?;
        self.dismiss();
        Ok(Probed {
            results: conclude(&inside, &arrived, &outside),
            seen_by_hooks,
        })
    }

    /// Makes the process end. Dropping this value waits until the process has ended.
    fn dismiss(&mut self) {
        // When the channel closes, the process removes everything that it created, and ends.
        drop(self.channel.take());
    }

    fn receive(&self, dir: &RunDir) -> Result<FromControls, RunError> {
        let received = match &self.channel {
            Some(channel) => channel.receive_within(CONTROLS_WITHIN),
            None => Err(ChannelError::Ended),
        };
        match received
            .map_err(|error| no_message(CONTROLS, &error, dir))?
            .message
        {
            FromControls::Failed(text) => Err(controls_failed(text)),
            word @ (FromControls::Ready { .. } | FromControls::Made(_)) => Ok(word),
        }
    }

    /// Waits until the targets of the probes exist, and returns the stand-ins for mediator and relay.
    fn expect_ready(&self, dir: &RunDir) -> Result<(Target, Target), RunError> {
        let word = self.receive(dir)?;
        let FromControls::Ready { mediator, relay } = word else {
            return Err(unexpected("Ready", &word));
        };
        Ok((mediator, relay))
    }

    /// Waits for the results of the controls.
    fn expect_made(&self, dir: &RunDir) -> Result<Found, RunError> {
        let word = self.receive(dir)?;
        let FromControls::Made(found) = word else {
            return Err(unexpected("Made", &word));
        };
        Ok(found)
    }
}

fn controls_failed(text: String) -> RunError {
    RunError::Helper {
        process: CONTROLS,
        text,
    }
}

fn unexpected(expected: &'static str, received: &FromControls) -> RunError {
    controls_failed(ChannelError::unexpected(expected, received).to_string())
}

impl Drop for Controls {
    fn drop(&mut self) {
        self.dismiss();
        drop(nix::sys::wait::waitpid(self.process, None).map_err(io::Error::from));
    }
}

/// Discards the kernel's records of the probes, and returns their number.
///
/// # Errors
/// Fails if the kernel's clock cannot be read.
pub(super) fn discard(events: &mut Events) -> Result<usize, RunError> {
    let (attempts, texts) = system("read the probes' events", events.discard())?;
    Ok(attempts + texts)
}

/// Accepts the connections that arrived at the listeners, and returns the source ports of these connections. The
/// listeners are passed to the relay later.
fn arrived(sockets: &Sockets<OwnedFd>) -> io::Result<Vec<u16>> {
    let mut ports = Vec::new();
    let listeners = std::iter::once(&sockets.transparent_v4).chain(&sockets.transparent_v6);
    for listener in listeners {
        let listener = Socket::from(listener.try_clone()?);
        loop {
            match listener.accept() {
                Ok((_, peer)) => ports.extend(peer.as_socket().map(|peer| peer.port())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(ports)
}

/// Returns one result for each probe, in the order of [`names`]. A probe that was not run counts as broken.
fn conclude(inside: &Found, arrived: &[u16], outside: &Found) -> Vec<ProbeResult> {
    let take = |found: &Found, name: &str| {
        let same = |(one, _): &&(String, Observation)| one == name;
        found.iter().find(same).map(|(_, attempt)| attempt.clone())
    };
    let at_relay = |to| {
        Observation::Refused(format!(
            "a connection to {to} arrived at the relay's listener"
        ))
    };
    let elsewhere =
        |to| Observation::Reached(format!("a connection to {to} did not arrive at the relay"));
    names()
        .map(|name| {
            let attempt = take(inside, name)
                .unwrap_or_else(|| Observation::Broken(String::from("it did not run")))
                .settled(arrived, at_relay, elsewhere);
            ProbeResult::conclude(name, attempt, take(outside, name))
        })
        .collect()
}

/// Returns the targets of the probes.
fn scene(plan: &Plan, dir: &RunDir, cgroups: &RunCgroups) -> io::Result<Scene> {
    let variable = |name: &str| {
        let same = |(key, _): &&(OsString, OsString)| key == name;
        plan.environment.iter().find(same).map(|(_, value)| value)
    };
    let listens = |variable: Option<PathBuf>, usual: &str| {
        let path = variable.filter(|path| path.is_absolute());
        path.into_iter().chain([PathBuf::from(usual)]).collect()
    };
    let names: Vec<String> = plan
        .environment
        .iter()
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .collect();
    let id = dir.id();
    let run = cgroups.run.path();
    Ok(Scene {
        side: Side::Outside,
        targets: Targets {
            supervisor: Target::of(nix::unistd::getpid().as_raw())?,
            ..Targets::default()
        },
        abstract_name: format!("egress-{id}"),
        socket: dir.path().join("probe.socket"),
        fifo: dir.path().join("probe.fifo"),
        shm_key: shm_key()?,
        shm_file: PathBuf::from(format!("/dev/shm/egress-{id}")),
        host_sockets: host_sockets(&plan.allowed_sockets),
        ssh_agent: listens(
            variable("SSH_AUTH_SOCK").map(PathBuf::from),
            "/tmp/ssh-egress/agent.1",
        ),
        gpg_agent: listens(
            variable("GNUPGHOME").map(|home| Path::new(home).join("S.gpg-agent")),
            "/run/user/0/gnupg/S.gpg-agent",
        ),
        signing_key: plan.signer.path.as_deref().and_then(Owned::at),
        config: plan.policy.path.as_deref().and_then(|path| {
            let path = path.canonicalize().ok()?;
            Owned::at(&path)
        }),
        shows_config: plan.policy.shown.is_some(),
        evidence: Owned::at(dir.path()),
        packet: Owned::at(plan.packet.path()),
        command_files: environment::COMMAND_VARIABLES
            .iter()
            .filter_map(|name| Owned::at(Path::new(variable(name)?)))
            .collect(),
        tokens: names
            .iter()
            .filter(|name| environment::is_token(name))
            .cloned()
            .collect(),
        environment: names,
        cgroup: run.parent().unwrap_or(run).to_path_buf(),
        protocols: protocols(),
        loads_modules: Path::new("/proc/sys/kernel/modprobe").exists(),
    })
}

/// Returns a random key of a shared memory segment. Two runs get the same key with a probability of 2^-31.
fn shm_key() -> io::Result<i32> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    // 0 is IPC_PRIVATE, which is not the key of any segment.
    Ok(i32::from_ne_bytes(bytes) | 1)
}

/// Returns the socket protocols that the kernel has loaded.
fn protocols() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/protocols").unwrap_or_default();
    let first = |line: &str| line.split_ascii_whitespace().next().map(str::to_owned);
    table.lines().skip(1).filter_map(first).collect()
}

/// Returns the paths of sockets in the host's network namespace, without those that the caller opened. If the kernel's
/// list cannot be read, only the run's own socket is probed.
fn host_sockets(opened: &[PathBuf]) -> Vec<PathBuf> {
    let mut room = HOST_SOCKET_BYTES;
    let mut paths = paths_in(&std::fs::read("/proc/net/unix").unwrap_or_default());
    paths.sort();
    paths.dedup();
    paths.retain(|path| !opened.contains(path));
    paths.retain(|path| {
        let length = path.as_os_str().len();
        let fits = length <= room;
        room = room.saturating_sub(length);
        fits
    });
    paths
}

/// Returns the paths in the kernel's table of Unix sockets. The name of a socket can contain any bytes, and a name that
/// is not UTF-8 must not hide the other names.
fn paths_in(table: &[u8]) -> Vec<PathBuf> {
    let path = |line: &str| {
        // A line has seven words of fixed form, then the path, which may contain spaces.
        let path = line.split_ascii_whitespace().nth(7)?;
        let path = line.get(line.find(path)?..)?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    let lines = table.split(|byte| *byte == b'\n').skip(1);
    lines
        .filter_map(|line| path(std::str::from_utf8(line).ok()?))
        .collect()
}

impl Probed {
    /// Fails if a probe stops a run of this plan. A run without a layer is open on purpose, so it continues.
    ///
    /// # Errors
    /// Returns [`RunError::Open`] with the probes that stop the run.
    pub(super) fn judge_for(&self, plan: &Plan) -> Result<(), RunError> {
        if plan.layers.warning().is_some() {
            return Ok(());
        }
        self.judge(&plan.accepted_risks)
    }

    /// Fails unless each probe that would stop a run is `accepted` by the caller.
    ///
    /// # Errors
    /// Returns [`RunError::Open`] with the probes that the caller did not accept.
    pub fn judge(&self, accepted: &[String]) -> Result<(), RunError> {
        let open: Vec<ProbeResult> = self
            .stopping()
            .filter(|probe| !accepted.contains(&probe.name))
            .cloned()
            .collect();
        if open.is_empty() {
            Ok(())
        } else {
            Err(RunError::Open(open))
        }
    }

    fn stopping(&self) -> impl Iterator<Item = &ProbeResult> {
        self.results
            .iter()
            .filter(|probe| probe.outcome.stops_the_run())
    }

    /// Returns the results that would have stopped the run and were `accepted`.
    pub fn accepted(&self, accepted: &[String]) -> Vec<ProbeResult> {
        self.stopping()
            .filter(|probe| accepted.contains(&probe.name))
            .cloned()
            .collect()
    }

    /// Returns the name of each probe with the label of its outcome.
    pub fn outcomes(&self) -> Vec<(String, &'static str)> {
        let results = self.results.iter();
        results
            .map(|result| (result.name.clone(), result.outcome.label()))
            .collect()
    }

    /// Returns the probes' part of `boundary.json`.
    pub fn record(&self, accepted: &[String]) -> Probes {
        let count = |outcome: ProbeOutcome| {
            let same = |probe: &&ProbeResult| probe.outcome == outcome;
            self.results.iter().filter(same).count() as u64
        };
        let probe = |result: &ProbeResult| Probe {
            name: result.name.as_str().into(),
            outcome: result.outcome.label().into(),
            detail: result.detail.as_str().into(),
            control: Control {
                succeeded: result.control.succeeded,
                detail: result.control.detail.as_str().into(),
            },
        };
        Probes {
            results: self.results.iter().map(probe).collect(),
            counts: ProbeCounts {
                denied: count(ProbeOutcome::Denied),
                reachable: count(ProbeOutcome::Reachable),
                not_applicable: count(ProbeOutcome::NotApplicable),
                control_failed: count(ProbeOutcome::ControlFailed),
            },
            accepted_risks: accepted.iter().map(Into::into).collect(),
            seen_by_hooks: self.seen_by_hooks as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egress_sandbox::probe::model;

    /// Claims: add-probe*
    #[test]
    fn every_packet_has_to_show_every_probe() {
        assert!(names().eq(audit_packet::required::PROBES));
    }

    #[test]
    fn hints_know_every_socket_of_a_probe() {
        let hints = audit_packet::hint::SERVICES;
        for (probe, paths) in egress_sandbox::probe::SERVICES {
            for path in paths {
                let real = path.strip_prefix("/var").unwrap_or(path);
                let is_known =
                    |(name, paths): &(&str, &[&str])| *name == probe && paths.contains(&real);
                assert!(hints.iter().any(is_known), "{probe}: {path}");
            }
        }
    }

    fn probed(outcomes: &[(&str, ProbeOutcome)]) -> Probed {
        let result = |(name, outcome): &(&str, ProbeOutcome)| ProbeResult {
            name: (*name).to_owned(),
            outcome: *outcome,
            detail: String::from("what was seen"),
            control: model::Control {
                succeeded: *outcome != ProbeOutcome::ControlFailed,
                detail: String::from("why"),
            },
        };
        Probed {
            results: outcomes.iter().map(result).collect(),
            seen_by_hooks: 0,
        }
    }

    /// Claims: probe-control-failed*, probe-not-applicable*
    #[test]
    fn open_boundary_stops_the_run_unless_each_hole_is_accepted() {
        let probed = probed(&[
            ("udp", ProbeOutcome::Reachable),
            ("route", ProbeOutcome::ControlFailed),
            ("dns_udp", ProbeOutcome::Denied),
            ("vsock_socket", ProbeOutcome::NotApplicable),
        ]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let judged = |accepted: &[&str]| {
            let accepted: Vec<String> = names(accepted);
            probed.judge(&accepted).map_err(|error| error.to_string())
        };
        assert_eq!(
            judged(&[]),
            Err(String::from(
                "the boundary is open: probe udp succeeded (what was seen); \
                 probe route proves nothing, because its control failed (why)"
            ))
        );
        assert_eq!(
            judged(&["udp", "dns_udp"]),
            Err(String::from(
                "the boundary is open: probe route proves nothing, because its control failed (why)"
            ))
        );
        assert_eq!(judged(&["udp", "route"]), Ok(()));
        let accepted: Vec<String> = names(&["udp", "dns_udp"]);
        let shown: Vec<String> = probed
            .accepted(&accepted)
            .into_iter()
            .map(|probe| probe.name)
            .collect();
        assert_eq!(shown, ["udp"]);
        assert_eq!(probed.record(&accepted).counts.reachable, 1);
    }
}
