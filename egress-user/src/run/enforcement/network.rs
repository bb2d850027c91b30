//! The parts of a run's network that `--mode` selects. Each mode implements [`NetworkSetup`] and [`RunningNetwork`].
use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use egress_pipelock::LetThrough;
use egress_sandbox::cgroup::RunCgroups;
use egress_workspace::users::UserLease;

use crate::bpf::events::Events;
use crate::run::boundary::Boundary;
use crate::run::context::RunContext;
use crate::run::error::RunError;
use crate::run::flows::FlowLog;
use crate::run::init::{Init, PassedSockets};
use crate::run::mediator::MediatorEnd;
use crate::run::plan::Plan;
use crate::run::probes::Probed;
use crate::run::state::RunDir;
use crate::run::trust::Trust;

/// The network of a run that is being prepared.
pub(in crate::run) trait NetworkSetup: Debug {
    /// Returns whether the command keeps the host's network namespace.
    fn keeps_host_network(&self) -> bool;

    /// Returns the mediator's address on the host's loopback.
    ///
    /// # Errors
    /// Fails if the kernel does not report the address of a socket.
    fn mediator_address(&self) -> io::Result<SocketAddr>;

    /// Returns the certificate authorities and browser policies for the file view.
    ///
    /// # Errors
    /// Fails if a trust store of the host cannot be read.
    fn trust(&self, plan: &Plan) -> io::Result<Trust>;

    /// Starts the process that runs the controls of the probes, while init builds the boundary.
    ///
    /// # Order
    /// Call this while the process has a single thread.
    ///
    /// # Errors
    /// Fails if the process cannot be started.
    fn start_controls(
        &mut self,
        plan: &Plan,
        dir: &RunDir,
        cgroups: &RunCgroups,
        users: &UserLease,
    ) -> Result<(), RunError>;

    /// Notifies the controls that the kernel programs are attached, because some controls wait for the programs.
    fn gates_are_attached(&self);

    /// Runs the probes in the closed boundary, in which init has created `sockets`.
    ///
    /// # Errors
    /// Fails if the number of sockets is wrong, or init or the controls fail.
    fn probe(
        &mut self,
        init: &mut Init,
        sockets: PassedSockets,
        events: &mut Events,
        dir: &RunDir,
    ) -> Result<Probed, RunError>;

    /// Starts the processes that carry and judge the command's traffic. Returns when all these processes are ready.
    ///
    /// # Errors
    /// Fails if a process fails or is not ready in time.
    fn launch(
        self: Box<Self>,
        boundary: &Boundary,
        context: &mut RunContext,
    ) -> Result<Box<dyn RunningNetwork>, RunError>;
}

/// The network of a run while the command runs.
pub(in crate::run) trait RunningNetwork: Debug {
    /// Prepares the flow log.
    ///
    /// # Errors
    /// Fails if a file of the host cannot be read.
    fn begin(&self, _flows: &mut FlowLog) -> Result<(), RunError> {
        Ok(())
    }

    /// Returns the descriptors that become readable when the relay or the mediator sends a message or ends.
    fn watched(&self) -> [Option<BorrowedFd<'_>>; 2];

    /// Writes the relay's reports and the kernel's records to the flow log. Returns an error text if the relay failed
    /// or ended.
    ///
    /// # Errors
    /// Fails if a row cannot be written.
    fn read_reports(
        &mut self,
        flows: &mut FlowLog,
        boundary: &mut Boundary,
    ) -> Result<Option<String>, RunError>;

    /// Checks the mediator, and updates the kernel programs if addresses of the host have changed. Returns a text if
    /// the run cannot continue. `is_readable` refers to the mediator's descriptor.
    ///
    /// # Errors
    /// Fails if the addresses cannot be read, or do not fit into the kernel programs' tables.
    fn check(&mut self, is_readable: bool, dir: &RunDir) -> Result<Option<String>, RunError>;

    /// Returns the length of the receipts, in bytes.
    ///
    /// # Errors
    /// Fails if the evidence directory cannot be read.
    fn evidence_length(&self, dir: &RunDir) -> io::Result<u64>;

    /// Ends the relay and writes its last reports to the flow log.
    ///
    /// # Errors
    /// Fails if the relay fails, or does not end in time.
    fn end_relay(&mut self, flows: &mut FlowLog) -> io::Result<()>;

    /// Ends the mediator and reads its receipts. `allowed` counts the requests and tunnels that the relay has
    /// forwarded.
    fn end(self: Box<Self>, allowed: LetThrough, context: &RunContext) -> NetworkEnd;
}

/// The records of the network of a run.
#[derive(Debug)]
pub(in crate::run) struct NetworkEnd {
    pub(in crate::run) mediator: MediatorEnd,
    /// Path and bytes of each evidence file, in the order of the file numbers.
    pub(in crate::run) evidence: io::Result<Vec<(PathBuf, Vec<u8>)>>,
    /// Why there is nothing to verify, if the mode does not write receipts.
    pub(in crate::run) unverified: Option<&'static str>,
}
