//! Starts Pipelock and waits until it is ready. Pipelock is ready if its process runs, its sockets belong to its user,
//! `/health` reports `healthy`, and its `session_open` binds the posture capsule. Versions before 3.1 do not write a
//! `session_open`.
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use egress_policy::pipelock::{Attempt, PipelockPolicy};
use egress_sys::process::{Child, Placement, spawn_self};
use egress_sys::{fd, sock_diag};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use pipelock_receipts::capsule::Signed;
use serde::Deserialize;

use super::binary;
use super::config::{self, Authority, Files};
use super::error::{PipelockError, system};
use super::evidence::{self, Tally};
use super::exec::{ExecPlan, STAGE};
use super::http::{self, Gate};
use super::log::Log;
use super::ports::Ports;
use super::resolver;

/// Time for Pipelock to become ready, and for a check of its configuration.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Interval between two checks for readiness.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// Time for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Interval between two checks of the free space for evidence.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Size limit of the file with root certificates.
const ROOTS_BYTES: u64 = 16 << 20;

/// The settings of a run for its Pipelock.
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub struct Setup<'a> {
    /// The run's directory.
    pub dir: &'a Path,
    /// User and group id of Pipelock, `pipelock-host` in the packet.
    pub id: u32,
    /// The mediator's cgroup.
    pub cgroup: BorrowedFd<'a>,
    /// Path of the binary, as the caller gave it or as it was found on `PATH`.
    pub binary: &'a Path,
    /// Root certificates for Pipelock's own TLS connections, in place of the system's.
    pub roots: Option<&'a Path>,
    /// The authority that intercepts TLS, if the caller's policy has one.
    pub authority: Option<&'a Authority>,
    /// The caller's policy. Without a policy, Pipelock runs in mode `balanced`.
    pub caller_yaml: Option<&'a str>,
    /// Actor in the receipts.
    pub identity: &'a str,
    /// Key that signs the receipts.
    pub key: &'a SigningKey,
    /// Signs the posture capsule of a run under the given policy.
    pub sign: &'a dyn Fn(&str) -> Signed,
    /// Reserved ports.
    pub ports: &'a Ports,
    /// Random token of the kill switch.
    pub token: &'a str,
}

/// Whether Pipelock's session binds the posture capsule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// `session_open` binds the posture capsule.
    Bound,
    /// This Pipelock does not write a `session_open`, because it is older than 3.1.
    NotKnown,
}

/// A running Pipelock.
#[derive(Debug)]
pub struct Pipelock {
    pub(super) child: Child,
    pub(super) log: Log,
    pub(super) files: Files,
    pub(super) metrics: SocketAddrV4,
    pub(super) proxy: SocketAddrV4,
    pub(super) gate: Box<dyn Gate>,
    pub(super) tally: Tally,
    attempt: Attempt,
    /// Whether Pipelock intercepts TLS.
    pub(super) intercepts: bool,
    policy: PipelockPolicy,
    caller_yaml: Option<String>,
    capsule: Signed,
    binding: Option<Binding>,
    version: Option<(Child, Log)>,
    digest: Option<JoinHandle<io::Result<String>>>,
    looked: Instant,
}

/// The members of `/health` that are checked.
#[derive(Debug, Deserialize)]
struct Health {
    status: String,
    #[serde(default)]
    forward_proxy_enabled: bool,
    #[serde(default = "yes")]
    kill_switch_active: bool,
}

/// Returns the default of `kill_switch_active`. If the answer does not state that the kill switch is off, the kill
/// switch counts as active.
fn yes() -> bool {
    true
}

impl Pipelock {
    /// Writes Pipelock's files and starts Pipelock behind `gate`.
    ///
    /// # Order
    /// Call this while the process has one thread.
    ///
    /// # Errors
    /// Fails if a file cannot be read or written, the caller's policy is invalid, or the process
    /// cannot be started.
    pub fn start(setup: &Setup<'_>, gate: Box<dyn Gate>) -> Result<Self, PipelockError> {
        let files = Files::of(setup.dir);
        binary::copy(setup.binary, &files.binary)?;
        files.write_key(setup.key, setup.id)?;
        if let Some(roots) = setup.roots {
            let pem =
                egress_files::read(roots, ROOTS_BYTES).map_err(config::file("read", roots))?;
            config::write_for(&files.roots, &pem, setup.id)?;
        }
        if let Some(authority) = setup.authority {
            files.write_authority(authority, setup.id)?;
        }
        resolver::write(&files.resolver, setup.id)?;
        let attempt = Attempt::Whole;
        let (policy, capsule) = write_policy(&files, setup, attempt)?;
        files.fresh_evidence(setup.id)?;
        let (child, log) = spawn(&files, setup, &["run", "--config"], &files.log)?;
        Ok(Self {
            child,
            log,
            metrics: setup.ports.metrics.address(),
            proxy: setup.ports.proxy.address(),
            gate,
            files,
            tally: Tally::default(),
            attempt,
            intercepts: setup.authority.is_some(),
            policy,
            caller_yaml: setup.caller_yaml.map(str::to_owned),
            capsule,
            binding: None,
            version: None,
            digest: None,
            looked: Instant::now(),
        })
    }

    /// Waits until Pipelock is ready. If Pipelock rejects a key that egress added to the policy, this function starts
    /// Pipelock again without the key.
    ///
    /// # Order
    /// Call this while the process has one thread.
    ///
    /// # Errors
    /// Fails if Pipelock exits, rejects its configuration, or is not ready in time (each with the end of its log). Also
    /// fails if another process has Pipelock's port, or if Pipelock's session does not bind the posture capsule.
    pub fn wait_ready(&mut self, setup: &Setup<'_>) -> Result<(), PipelockError> {
        loop {
            let deadline = Instant::now() + READY_WITHIN;
            match self.wait_once(setup, deadline) {
                Err(error @ PipelockError::Ended { .. }) => self.fall_back(setup, error)?,
                other => break other?,
            }
        }
        self.binding = Some(self.bound()?);
        // Version and digest are determined while the command runs, because they are only for the
        // record.
        self.version = Some(spawn(
            &self.files,
            setup,
            &["--version"],
            &self.files.version,
        )?);
        let copy = self.files.binary.clone();
        self.digest = Some(std::thread::spawn(move || binary::digest(&copy)));
        Ok(())
    }

    fn wait_once(&mut self, setup: &Setup<'_>, deadline: Instant) -> Result<(), PipelockError> {
        loop {
            self.log.drain();
            let ended = system("watch Pipelock", self.child.try_wait())?;
            if let Some(status) = ended {
                return Err(PipelockError::Ended {
                    how: how(&status),
                    words: self.log.last_words(setup.caller_yaml),
                });
            }
            let Some(reason) = self.is_ready(setup)? else {
                return Ok(());
            };
            if Instant::now() >= deadline {
                return Err(PipelockError::NotReady {
                    seconds: READY_WITHIN.as_secs(),
                    reason,
                    words: self.log.last_words(setup.caller_yaml),
                });
            }
            std::thread::sleep(ASK_EVERY);
        }
    }

    /// Returns `None` if Pipelock is ready, otherwise the check that fails.
    fn is_ready(&mut self, setup: &Setup<'_>) -> Result<Option<String>, PipelockError> {
        for address in [self.proxy, self.metrics] {
            let owner = sock_diag::listener_uid(address);
            match system("find the owner of a listening socket", owner)? {
                Some(owner) if owner == setup.id => {}
                Some(found) => {
                    return Err(PipelockError::Poser {
                        address,
                        found,
                        wanted: setup.id,
                    });
                }
                None => return Ok(Some(format!("no process listens at {address}"))),
            }
        }
        Ok(
            match http::get(self.proxy, "/health", ANSWER_WITHIN, self.gate.as_mut()) {
                Err(error) => Some(format!("/health: {error}")),
                Ok((200, body)) => match serde_json::from_slice::<Health>(&body) {
                    Err(error) => Some(format!("cannot parse /health: {error}")),
                    Ok(health) if health.status != "healthy" => {
                        Some(format!("/health reports {}", health.status))
                    }
                    Ok(health) if health.kill_switch_active => {
                        Some(String::from("its kill switch is on"))
                    }
                    Ok(health) if !health.forward_proxy_enabled => {
                        Some(String::from("its forward proxy is off"))
                    }
                    Ok(_) => None,
                },
                Ok((status, _)) => Some(format!("/health returns status {status}")),
            },
        )
    }

    /// Checks whether Pipelock exited because it does not support a key, and starts Pipelock again without the key.
    fn fall_back(&mut self, setup: &Setup<'_>, ended: PipelockError) -> Result<(), PipelockError> {
        if self.check(setup)?.is_ok() {
            return Err(ended);
        }
        let mut words = String::new();
        while let Some(attempt) = self.attempt.next() {
            self.attempt = attempt;
            (self.policy, self.capsule) = write_policy(&self.files, setup, attempt)?;
            match self.check(setup)? {
                Ok(()) => {
                    self.files.fresh_evidence(setup.id)?;
                    (self.child, self.log) =
                        spawn(&self.files, setup, &["run", "--config"], &self.files.log)?;
                    return Ok(());
                }
                Err(printed) => words = printed,
            }
        }
        Err(PipelockError::Refused { words })
    }

    /// Runs `pipelock check`. The inner error is the end of its output.
    fn check(&self, setup: &Setup<'_>) -> Result<Result<(), String>, PipelockError> {
        let (child, mut log) = spawn(&self.files, setup, &["check", "--config"], &self.files.log)?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            log.drain();
            match system("watch Pipelock", child.wait_for(10))? {
                Some(WaitStatus::Exited(_, 0)) => return Ok(Ok(())),
                Some(_) => return Ok(Err(log.last_words(setup.caller_yaml))),
                None if Instant::now() < deadline => {}
                None => {
                    child.signal(Signal::SIGKILL);
                    let end = system("end Pipelock", child.wait_for(1000))?;
                    let how = end.as_ref().map_or_else(String::new, how);
                    let words = log.last_words(setup.caller_yaml);
                    return Ok(Err(format!(
                        "the check had not ended after {} s{how}: {words}",
                        READY_WITHIN.as_secs()
                    )));
                }
            }
        }
    }

    /// Checks that `session_open` binds the capsule. The record is durable before `/health` answers.
    fn bound(&mut self) -> Result<Binding, PipelockError> {
        let read = self.tally.read_on(&self.files.evidence);
        system("read Pipelock's first receipt", read)?;
        match &self.tally.bound {
            Some(bound) if *bound == self.capsule.posture => Ok(Binding::Bound),
            Some(bound) => Err(PipelockError::NotBound {
                found: match bound.capsule_sha256.as_str() {
                    "" => String::from("the session_open does not name a capsule"),
                    other => format!("the session_open names capsule {other}"),
                },
            }),
            None if self.attempt.binds_posture() => Err(PipelockError::NotBound {
                found: String::from("there is no session_open, although this version writes one"),
            }),
            None => Ok(Binding::NotKnown),
        }
    }

    /// Returns the policy in force.
    pub fn policy(&self) -> &PipelockPolicy {
        &self.policy
    }

    /// Returns the posture capsule that Pipelock received.
    pub fn capsule(&self) -> &Signed {
        &self.capsule
    }

    /// Returns whether the session binds the posture capsule. Returns `None` before Pipelock is
    /// ready.
    pub fn binding(&self) -> Option<Binding> {
        self.binding
    }

    /// Returns a descriptor that becomes readable when Pipelock ends.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Reads the log and checks the free space for evidence. Returns an error if the run cannot continue.
    pub fn look(&mut self) -> Option<String> {
        self.log.drain();
        if self.looked.elapsed() < LOOK_EVERY {
            return None;
        }
        self.looked = Instant::now();
        match evidence::is_full(&self.files.evidence) {
            Ok(false) => None,
            Ok(true) => Some(format!(
                "the file system of {} is full, so evidence would be lost",
                self.files.evidence.display()
            )),
            Err(error) => Some(format!("cannot check the evidence directory: {error}")),
        }
    }

    /// Returns how Pipelock ended and the end of its log, or `None` while it runs.
    pub fn gone(&mut self) -> Option<String> {
        let status = self.child.peek(0).ok().flatten()?;
        let words = self.log.last_words(self.caller_yaml.as_deref());
        Some(format!("Pipelock is gone{}: {words}", how(&status)))
    }

    /// Returns the SHA-256 of the executed binary. Only the first call returns the digest.
    pub(super) fn digest(&mut self) -> Option<String> {
        self.digest.take()?.join().ok()?.ok()
    }

    /// Returns the output of `pipelock --version`. Only the first call returns the version.
    pub(super) fn version(&mut self) -> Option<String> {
        let (child, mut log) = self.version.take()?;
        let status = child.wait_for(5_000).ok().flatten();
        if status.is_none() {
            child.signal(Signal::SIGKILL);
            drop(child.wait_for(1_000));
        }
        matches!(status, Some(WaitStatus::Exited(_, 0))).then(|| log.last_words(None))
    }
}

/// Writes and returns the policy with the keys of `attempt`, and the capsule of a run under this policy.
fn write_policy(
    files: &Files,
    setup: &Setup<'_>,
    attempt: Attempt,
) -> Result<(PipelockPolicy, Signed), PipelockError> {
    let policy = files.build_policy(
        setup.caller_yaml,
        setup.identity,
        setup.ports,
        setup.token,
        setup.authority.is_some(),
        attempt,
    )?;
    let capsule = (setup.sign)(&policy.yaml);
    config::replace_for(&files.policy, policy.yaml.as_bytes(), setup.id)?;
    config::replace_for(&files.capsule, &capsule.bytes, setup.id)?;
    Ok((policy, capsule))
}

/// Returns how a process ended, in parentheses.
pub(super) fn how(status: &WaitStatus) -> String {
    if let WaitStatus::Exited(_, code) = status {
        format!(" (exit status {code})")
    } else if let WaitStatus::Signaled(_, signal, _) = status {
        format!(" (ended by {signal})")
    } else {
        String::new()
    }
}

/// Starts the copy with `words` as arguments, and the path of the policy after `--config`.
fn spawn(
    files: &Files,
    setup: &Setup<'_>,
    words: &[&str],
    log: &Path,
) -> Result<(Child, Log), PipelockError> {
    let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
    if words.last() == Some(&"--config") {
        arguments.push(files.policy.clone().into());
    }
    let mut environment = vec![(
        String::from("PIPELOCK_POSTURE_PROOF"),
        files.capsule.clone(),
    )];
    if setup.roots.is_some() {
        environment.push((String::from("SSL_CERT_FILE"), files.roots.clone()));
    }
    let plan = ExecPlan {
        id: setup.id,
        binary: files.binary.clone(),
        arguments,
        environment,
        resolver: files.resolver.exists().then(|| files.resolver.clone()),
    };
    let placement = Placement {
        namespaces: 0,
        cgroup: setup.cgroup,
    };
    let start = || -> io::Result<(Child, Log)> {
        let memory = fd::memory_file(c"egress-plan", &serde_json::to_vec(&plan)?)?;
        let arguments = [
            c"egress".to_owned(),
            STAGE.to_owned(),
            CString::new(memory.as_raw_fd().to_string())?,
            c"2".to_owned(),
        ];
        let null = File::open("/dev/null")?;
        let (log, writing) = Log::create(log)?;
        let child = spawn_self(
            &arguments,
            placement,
            &[memory.as_fd()],
            [null.as_fd(), writing.as_fd(), writing.as_fd()],
        )?;
        Ok((child, log))
    };
    system("start Pipelock", start())
}
