//! `--mode enforce`: all network traffic of the command goes through the relay and the mediator.
//!
//! Claims: read-receipts
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use egress_pipelock::{LetThrough, evidence};
use egress_policy::opened::Opened;
use egress_policy::redact::Key;
use egress_relay::Limits;
use egress_relay::plan::{Config, Listeners, RelayPlan, Report};
use egress_sandbox::cgroup::RunCgroups;
use egress_sandbox::child::protocol::Sockets;
use egress_sys::channel::ChannelError;
use egress_workspace::users::UserLease;

use super::network::{NetworkEnd, NetworkSetup, RunningNetwork};
use crate::bpf::events::Events;
use crate::run::boundary::Boundary;
use crate::run::capsule::Measurement;
use crate::run::context::RunContext;
use crate::run::error::{RunError, in_words, system};
use crate::run::flows::FlowLog;
use crate::run::helper::{END_WITHIN, Helper, end_of, ended_well};
use crate::run::init::{self, Init, PassedSockets};
use crate::run::mediator::{self, Launch, MediatorSetup, Relay, RelayOptions, RunningMediator};
use crate::run::plan::Plan;
use crate::run::probes::{Controls, Probed};
use crate::run::reach::MediatorTables;
use crate::run::relay_reports::take_report;
use crate::run::state::{RunDir, random_hex};
use crate::run::trust::Trust;

/// Maximum number of reports about connections that are kept until the kernel's records are written.
const REPORTS: usize = 1024;
/// Size of the evidence that may be written while a run ends, and between two checks of its size.
const ENDING_BYTES: u64 = 64 << 20;

/// An enforced network that is being prepared.
#[derive(Debug)]
pub(super) struct Enforce {
    mediator: Box<dyn MediatorSetup>,
    controls: Option<Controls>,
    sockets: Option<Sockets<OwnedFd>>,
}

impl Enforce {
    /// Prepares the mediator. `cgroup` is the mediator's cgroup.
    ///
    /// # Errors
    /// Fails if no port is free, or the policy is invalid.
    pub(super) fn new(plan: &Plan, dir: &RunDir, cgroup: BorrowedFd<'_>) -> Result<Self, RunError> {
        Ok(Self {
            mediator: mediator::setup(plan, dir, cgroup)?,
            controls: None,
            sockets: None,
        })
    }
}

impl NetworkSetup for Enforce {
    fn keeps_host_network(&self) -> bool {
        false
    }

    fn mediator_address(&self) -> io::Result<SocketAddr> {
        self.mediator.address()
    }

    fn trust(&self, plan: &Plan) -> io::Result<Trust> {
        Trust::of(plan)
    }

    fn start_controls(
        &mut self,
        plan: &Plan,
        dir: &RunDir,
        cgroups: &RunCgroups,
        users: &UserLease,
    ) -> Result<(), RunError> {
        self.controls = Some(Controls::start(plan, dir, cgroups, users)?);
        Ok(())
    }

    fn gates_are_attached(&self) {
        if let Some(controls) = &self.controls {
            controls.gates_are_attached();
        }
    }

    fn probe(
        &mut self,
        init: &mut Init,
        sockets: PassedSockets,
        events: &mut Events,
        dir: &RunDir,
    ) -> Result<Probed, RunError> {
        let number = sockets.fds.len();
        let wrong = || {
            init::failed(format!(
                "expected the sockets that it created, received {number}"
            ))
        };
        let sockets = Sockets::from_order(sockets.fds, sockets.ipv6, sockets.dns);
        let sockets = self.sockets.insert(sockets.ok_or_else(wrong)?);
        let none = || init::failed(String::from("its probes have no controls"));
        let controls = self.controls.as_mut().ok_or_else(none)?;
        controls.probe(init, sockets, events, dir)
    }

    fn launch(
        self: Box<Self>,
        boundary: &Boundary,
        context: &mut RunContext,
    ) -> Result<Box<dyn RunningNetwork>, RunError> {
        let Self {
            mediator,
            controls,
            sockets,
        } = *self;
        let none = || init::failed(String::from("it created no sockets for the relay"));
        let sockets = sockets.ok_or_else(none)?;
        let opened = Opened::by(context.plan.policy.text.as_deref());
        let tables = MediatorTables::set(&boundary.gates, &opened, &context.plan.open_ports())?;
        let address = system("read the mediator's address", mediator.address())?;
        let measurement = Measurement::of(context, boundary.gates.programs())?;
        let redaction_key = system("create a redaction key", random_hex::<32>()).map(Key::new)?;
        let launch = Launch {
            boundary,
            context,
            sign: &|yaml: &str| measurement.sign(yaml, &context.plan.boundary_key.key),
            redaction_key: &redaction_key,
        };
        let start_relay = |options| start_relay(&launch, &sockets, address, options);
        let (mut mediator, relay) = mediator.start(&launch, &start_relay)?;
        context.timeline.mark("mediator ready");
        relay.wait_ready(&context.dir, |report| match report {
            Report::Ready => Ok(()),
            Report::Failed { error } => Err(error.clone()),
            Report::Flow(_) | Report::Name(_) => {
                Err(String::from("it sent a report before it was ready"))
            }
        })?;
        context.timeline.mark("relay ready");
        check_running(mediator.as_mut(), &relay, boundary, &context.dir)?;
        // The controls have ended by now. Dropping the controls removes everything that they created, before the
        // command starts.
        drop(controls);
        Ok(Box::new(Enforced {
            relay,
            mediator,
            tables,
            tunnels: 0,
        }))
    }
}

/// Starts the relay with the sockets that init created.
fn start_relay(
    launch: &Launch<'_>,
    sockets: &Sockets<OwnedFd>,
    mediator: SocketAddr,
    options: RelayOptions,
) -> Result<Relay, RunError> {
    let (boundary, context) = (launch.boundary, launch.context);
    let slots_v4 = boundary.gates.slots_fd("SLOTS_V4")?;
    let slots_v6 = boundary.gates.slots_fd("SLOTS_V6")?;
    let slots_proxy = boundary.gates.slots_fd("SLOTS_PROXY")?;
    let plan = RelayPlan {
        uid: context.users.relay,
        gid: context.users.relay,
        listeners: Listeners {
            transparent_v4: sockets.transparent_v4.as_raw_fd(),
            transparent_v6: sockets.transparent_v6.as_ref().map(AsRawFd::as_raw_fd),
            proxy_v4: sockets.proxy_v4.as_raw_fd(),
            dns_udp: sockets.dns.as_ref().map(|(udp, _)| udp.as_raw_fd()),
            dns_tcp: sockets.dns.as_ref().map(|(_, tcp)| tcp.as_raw_fd()),
        },
        slots_v4_fd: slots_v4.as_raw_fd(),
        slots_v6_fd: slots_v6.as_raw_fd(),
        slots_proxy_fd: slots_proxy.as_raw_fd(),
        config: Config {
            mediator,
            allowed_ports: context.plan.open_ports(),
            ipv6: sockets.transparent_v6.is_some(),
            plain_http: options.plain_http,
            answer_cut: options.answer_cut,
            mark: options.mark,
            redaction_key: launch.redaction_key.clone(),
            redaction_patterns: options.patterns,
            limits: Limits::default(),
        },
    };
    let order = sockets.order();
    let mut passed: Vec<BorrowedFd<'_>> = order.iter().map(|socket| socket.as_fd()).collect();
    passed.extend([slots_v4, slots_v6, slots_proxy]);
    let cgroup = boundary.cgroups.relay.as_fd();
    Helper::start("relay", c"__relay", &plan, cgroup, &passed, &context.dir)
}

/// Checks that every process still runs. A process that was ready early may have ended while the others started.
fn check_running(
    mediator: &mut dyn RunningMediator,
    relay: &Relay,
    boundary: &Boundary,
    dir: &RunDir,
) -> Result<(), RunError> {
    if let Some(text) = mediator.failure(dir) {
        let process = "mediator";
        return Err(RunError::Helper { process, text });
    }
    for (process, child) in [
        ("relay", &relay.child),
        ("boundary's init", &boundary.init.child),
    ] {
        if system("check a process of the run", child.peek(0))?.is_some() {
            let text = format!("it is gone{}", end_of(child));
            return Err(RunError::Helper { process, text });
        }
    }
    Ok(())
}

/// An enforced network while the command runs.
#[derive(Debug)]
struct Enforced {
    relay: Relay,
    mediator: Box<dyn RunningMediator>,
    tables: MediatorTables,
    /// Tunnels that were open when the relay began to end.
    tunnels: u64,
}

impl RunningNetwork for Enforced {
    fn watched(&self) -> [Option<BorrowedFd<'_>>; 2] {
        let relay = self.relay.control.as_fd();
        [Some(relay), Some(self.mediator.watched())]
    }

    /// Writes names before the kernel's records, because rows of these records contain names. Writes the reports about
    /// connections last, because the records contain the callers of the connections.
    fn read_reports(
        &mut self,
        flows: &mut FlowLog,
        boundary: &mut Boundary,
    ) -> Result<Option<String>, RunError> {
        let mut waiting = Vec::new();
        let mut gone = None;
        boundary.drain(flows, |flows| {
            while gone.is_none() && waiting.len() < REPORTS {
                match self.relay.next_message() {
                    Ok(None) => break,
                    Ok(Some(Report::Name(name))) => {
                        system("write the flow log", flows.name(&name))?;
                    }
                    Ok(Some(report)) => waiting.push(report),
                    Err(text) => gone = Some(text),
                }
            }
            Ok(())
        })?;
        for report in waiting {
            if let Some(failed) = take_report(flows, report)? {
                return Ok(Some(failed));
            }
        }
        Ok(gone)
    }

    fn check(&mut self, is_readable: bool, dir: &RunDir) -> Result<Option<String>, RunError> {
        let failure = is_readable.then(|| self.mediator.failure(dir)).flatten();
        let failure = failure.or_else(|| self.mediator.check());
        if failure.is_none() {
            system(
                "update the machine's addresses in the kernel programs",
                self.tables.update(),
            )?;
        }
        Ok(failure)
    }

    fn evidence_length(&self, dir: &RunDir) -> io::Result<u64> {
        let mut length = 0;
        for entry in std::fs::read_dir(dir.evidence())? {
            length += entry?.metadata()?.len();
        }
        Ok(length)
    }

    /// Shuts down the supervisor's half of the relay's socket, reads the last reports, and takes the exit status.
    fn end_relay(&mut self, flows: &mut FlowLog) -> io::Result<()> {
        self.tunnels = self.mediator.tunnels();
        self.relay.control.finish()?;
        let deadline = Instant::now() + END_WITHIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let report = match self.relay.control.receive_within(left) {
                Ok(received) => received.message,
                // A relay that does not end is killed below, and the kill is reported as the error.
                Err(ChannelError::Ended | ChannelError::Silent(_)) => break,
                Err(error) => return Err(io::Error::other(in_words(&error))),
            };
            if let Some(failed) = take_report(flows, report).map_err(io::Error::other)? {
                return Err(io::Error::other(failed));
            }
        }
        ended_well(&self.relay)
    }

    fn end(self: Box<Self>, allowed: LetThrough, context: &RunContext) -> NetworkEnd {
        let mediator = self.mediator.end(self.tunnels, allowed);
        NetworkEnd {
            mediator,
            evidence: read_evidence(
                &context.dir.evidence(),
                most_evidence(context.plan.limits.evidence),
            ),
            unverified: None,
        }
    }
}

/// Returns the limit on the evidence that is read. This limit is higher than the limit of the run, because the evidence
/// can grow until the supervisor has ended the run.
const fn most_evidence(limit: u64) -> u64 {
    limit.saturating_mul(2).saturating_add(ENDING_BYTES)
}

/// Reads the regular files `evidence-*.jsonl`, at most `left` bytes in total, in the order of the first sequence
/// numbers.
fn read_evidence(dir: &Path, mut left: u64) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut all = Vec::new();
    for path in evidence::files(dir)? {
        let bytes = egress_files::read(&path, left)?;
        left = left.saturating_sub(bytes.len() as u64);
        all.push((path, bytes));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: read-receipts*
    #[test]
    fn evidence_is_regular_files_up_to_a_limit_in_all() {
        assert_eq!(most_evidence(256 << 20), (512 << 20) + (64 << 20));
        assert_eq!(most_evidence(u64::MAX), u64::MAX);
        let dir = tempfile::tempdir().unwrap();
        let file = |number: u32| dir.path().join(format!("evidence-run-{number}.jsonl"));
        std::fs::write(file(0), "four").unwrap();
        std::fs::write(file(10), "after").unwrap();
        std::fs::write(file(9), "nine").unwrap();
        let texts = |read: io::Result<Vec<(PathBuf, Vec<u8>)>>| -> Vec<String> {
            let files = read.unwrap().into_iter();
            files
                .map(|(_, bytes)| String::from_utf8(bytes).unwrap())
                .collect()
        };
        assert_eq!(
            texts(read_evidence(dir.path(), 13)),
            ["four", "nine", "after"]
        );
        // Each of the two files is shorter than the limit, but both together are not.
        assert!(read_evidence(dir.path(), 12).is_err());
        nix::unistd::mkfifo(&file(11), nix::sys::stat::Mode::S_IRWXU).unwrap();
        // An entry that is not a regular file is not evidence, and is not opened.
        let all = texts(read_evidence(dir.path(), 13));
        assert_eq!(all, ["four", "nine", "after"]);
    }
}
