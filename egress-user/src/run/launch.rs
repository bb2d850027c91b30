//! `Prepared → Running`: the mediator, then the relay, and only when both are ready the agent.
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use egress_mediator::plan::{MediatorPlan, Status};
use egress_pipelock::Pipelock;
use egress_pipelock::start::Setup;
use egress_policy::opened::Opened;
use egress_policy::redact::Key;
use egress_policy::runtime::RuntimePolicy;
use egress_relay::Limits;
use egress_relay::plan::{Config, Listeners, PlainHttp, RelayPlan, Report};
use egress_sandbox::shares;
use egress_sys::clock;
use pipelock_receipts::capsule::Signed;

use super::agent_root::AgentRoot;
use super::capsule::Measurement;
use super::error::{RunError, system};
use super::helper::{Helper, end_of};
use super::init::{self, Started};
use super::mediator::{Builtin, Entry, Mediator};
use super::plan::{MediatorChoice, Mode};
use super::prepare::Prepared;
use super::reach::Reach;
use super::running::Running;
use super::state::random_hex;
use crate::neutralise::Obeyed;

impl Prepared {
    /// Starts the mediator and the relay, waits for both, and lets the agent go.
    ///
    /// # Order
    /// The boundary is closed (this value shows it), the mediator is ready before the agent runs.
    ///
    /// # Errors
    /// When a helper is not ready in time, or when the agent's process could not drop its privileges.
    pub fn launch(mut self) -> Result<Running, RunError> {
        let (mediator, relay, reach) = if let Entry::Absent(policy) = &self.entry {
            (Mediator::Absent(policy.clone()), None, None)
        } else {
            let opened = Opened::by(self.plan.policy.text.as_deref());
            let reach = Reach::set(&self.gates, &opened, &self.plan.open_ports())?;
            let (mut mediator, relay) = self.start_helpers()?;
            self.still_there(&mut mediator, &relay)?;
            (mediator, Some(relay), Some(reach))
        };
        // By now they have ended, and the agent shall meet nothing of them.
        drop(self.controls.take());
        // While init is certainly there.
        let allowed = self.measured.opened.iter().map(|one| one.id).collect();
        let agent_root = AgentRoot::of(self.init.child.pid, allowed);
        let agent_root = system("open the boundary's root", agent_root)?;
        let network = self.plan.mode == Mode::Enforce;
        let init = network.then(|| self.init.child.pid.as_raw().cast_unsigned());
        let shares = shares::Watch::begin(self.plan.limits.shares, init);
        let shares = system("count what the machine has", shares)?;
        let Started {
            enforced,
            not_executed,
        } = self.init.go(&self.dir)?;
        let started_at = clock::now_rfc3339();
        self.timeline.mark("command executed");
        let obeyed = Obeyed::by(&self.plan.environment);
        let pumps = system(
            "pass on the agent's output",
            self.pipes.pump(obeyed, self.plan.input),
        )?;
        Ok(Running {
            init: self.init,
            relay,
            mediator,
            cgroups: self.cgroups,
            caps: self.caps,
            gates: self.gates,
            events: self.events,
            reach,
            pumps,
            shares,
            held: self.held,
            agent_root: Some(agent_root),
            users: self.users,
            store: self.store,
            recovered: self.recovered,
            measured: self.measured,
            enforced,
            not_executed,
            started_at,
            timeline: self.timeline,
            dir: self.dir,
            plan: self.plan,
        })
    }

    /// Starts the mediator and the relay, and waits until both are ready.
    fn start_helpers(&mut self) -> Result<(Mediator, Helper<Report>), RunError> {
        let programs = self.gates.programs();
        let measurement = Measurement::of(
            &self.plan,
            &self.measured.probes,
            programs,
            self.users.agent,
        )?;
        let (mediator, relay) = self.start_both(&measurement)?;
        self.timeline.mark("mediator ready");
        relay.wait_ready(&self.dir, |report| match report {
            Report::Ready => Ok(()),
            Report::Failed { error } => Err(error.clone()),
            Report::Flow(_) | Report::Name(_) => Err(String::from("it served before it was ready")),
        })?;
        self.timeline.mark("relay ready");
        Ok((mediator, relay))
    }

    /// One that was ready may be gone by now: it waited for the others.
    fn still_there(&self, mediator: &mut Mediator, relay: &Helper<Report>) -> Result<(), RunError> {
        if let Some(text) = mediator.hear(&self.dir) {
            let process = "mediator";
            return Err(RunError::Helper { process, text });
        }
        for (process, child) in [
            ("relay", &relay.child),
            ("boundary's init", &self.init.child),
        ] {
            if system("look after a helper", child.peek(0))?.is_some() {
                let text = format!("it is gone{}", end_of(child));
                return Err(RunError::Helper { process, text });
            }
        }
        Ok(())
    }

    /// Starts the mediator and the relay side by side, and waits for the mediator.
    fn start_both(
        &self,
        measurement: &Measurement,
    ) -> Result<(Mediator, Helper<Report>), RunError> {
        let key = &self.plan.boundary_key.key;
        let sign = |yaml: &str| measurement.sign(yaml, key);
        let redaction_key = system("make a redaction key", random_hex::<32>()).map(Key::new)?;
        match (&self.entry, &self.plan.mediator) {
            (Entry::Pipelock(ports), MediatorChoice::Pipelock(choice)) => {
                let token = system("make a token", random_hex::<32>())?;
                let setup = Setup {
                    dir: self.dir.path(),
                    id: self.users.host,
                    cgroup: self.cgroups.mediator.as_fd(),
                    binary: &choice.binary,
                    roots: choice.roots.as_deref(),
                    authority: choice.authority.as_ref(),
                    caller_yaml: self.plan.policy.text.as_deref(),
                    identity: &self.plan.agent_identity,
                    key: &self.plan.signer.key,
                    sign: &sign,
                    ports,
                    token: &token,
                };
                let mut pipelock = Pipelock::start(&setup, Box::new(self.gates.callers()?))?;
                let cut = pipelock.policy().answer_cut;
                let relay = self.start_relay(choice.plain_http, cut, None, redaction_key)?;
                pipelock.wait_ready(&setup)?;
                Ok((Mediator::Pipelock(Box::new(pipelock)), relay))
            }
            (Entry::Builtin(listener, policy), _) => {
                let capsule = sign(&policy.yaml);
                let mark = system("make a mark", random_hex::<16>())?;
                let helper =
                    self.start_builtin(listener, policy, &capsule, &mark, &redaction_key)?;
                let relay = self.start_relay(PlainHttp::Scan, None, Some(mark), redaction_key)?;
                helper.wait_ready(&self.dir, |status| match status {
                    Status::Ready => Ok(()),
                    Status::Failed { error } => Err(error.clone()),
                })?;
                let builtin = Builtin {
                    helper,
                    policy: RuntimePolicy::clone(policy),
                    capsule,
                };
                Ok((Mediator::Builtin(Box::new(builtin)), relay))
            }
            (Entry::Pipelock(_), MediatorChoice::Builtin) | (Entry::Absent(_), _) => {
                Err(RunError::Helper {
                    process: "mediator",
                    text: String::from("nobody asked for the one that was prepared for"),
                })
            }
        }
    }

    fn start_builtin(
        &self,
        listener: &TcpListener,
        policy: &RuntimePolicy,
        capsule: &Signed,
        mark: &str,
        redaction_key: &Key,
    ) -> Result<Helper<Status>, RunError> {
        let evidence = system(
            "make the evidence directory",
            self.dir.make_evidence(self.users.host),
        )?;
        let random = |what| system(what, random_hex::<16>());
        let plan = MediatorPlan {
            uid: self.users.host,
            gid: self.users.host,
            listener_fd: listener.as_raw_fd(),
            policy_yaml: policy.yaml.clone(),
            signing_seed_hex: hex::encode(self.plan.signer.key.to_bytes()),
            evidence_dir: evidence,
            recorder_session: format!("proxy.run.{}", random("name the recorder's session")?),
            run_nonce: random("make a run nonce")?,
            agent_identity: self.plan.agent_identity.clone(),
            heartbeat_seconds: policy.policy.recorder.heartbeat.as_secs().max(1),
            mark: mark.to_owned(),
            redaction_key: redaction_key.clone(),
            posture: Some(capsule.posture.clone()),
        };
        let cgroup = self.cgroups.mediator.as_fd();
        let passed = [listener.as_fd()];
        Helper::start("mediator", c"__mediator", &plan, cgroup, &passed, &self.dir)
    }

    fn start_relay(
        &self,
        plain_http: PlainHttp,
        answer_cut: Option<u64>,
        mark: Option<String>,
        redaction_key: Key,
    ) -> Result<Helper<Report>, RunError> {
        let sockets = self
            .sockets
            .as_ref()
            .ok_or_else(|| init::failed(String::from("it made no sockets for the relay")))?;
        let slots_v4 = self.gates.slots_fd("SLOTS_V4")?;
        let slots_v6 = self.gates.slots_fd("SLOTS_V6")?;
        let slots_proxy = self.gates.slots_fd("SLOTS_PROXY")?;
        let plan = RelayPlan {
            uid: self.users.relay,
            gid: self.users.relay,
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
                mediator: system("read the mediator's address", self.entry.address())?,
                allowed_ports: self.plan.open_ports(),
                ipv6: sockets.transparent_v6.is_some(),
                plain_http,
                answer_cut,
                mark,
                redaction_key,
                limits: Limits::default(),
            },
        };
        let order = sockets.order();
        let mut keep: Vec<BorrowedFd<'_>> = order.iter().map(|socket| socket.as_fd()).collect();
        keep.extend([slots_v4, slots_v6, slots_proxy]);
        let cgroup = self.cgroups.relay.as_fd();
        Helper::start("relay", c"__relay", &plan, cgroup, &keep, &self.dir)
    }
}
