//! The words of `boundary.json`.
words! {
    /// The version of the document.
    BoundarySchema {
        /// The only one.
        V0 = "egress.boundary.v0",
    }

    /// Whether a boundary was enforced.
    Mode {
        /// It was.
        Enforce = "enforce",
        /// Nothing was enforced.
        Audit = "audit",
    }

    /// What the stub resolver does.
    Dns {
        /// It gives every name a synthetic address.
        Synthetic = "synthetic",
        /// It is not there.
        Deny = "deny",
    }

    /// What held a limit.
    LimitHolder {
        /// A cgroup of version 1.
        CgroupV1 = "cgroup v1",
        /// The command's cgroup.
        CgroupV2 = "cgroup v2",
        /// A resource limit on the user.
        Processes = "RLIMIT_NPROC of the agent's user",
        /// A resource limit on each process.
        Data = "RLIMIT_DATA of each process",
    }

    /// What held the limit on open files.
    OpenFilesHolder {
        /// A resource limit on each process.
        Files = "RLIMIT_NOFILE of each process",
    }

    /// What follows from a probe and its control.
    ProbeOutcome {
        /// It failed inside, and succeeded outside.
        Denied = "denied",
        /// It succeeded inside.
        Reachable = "reachable",
        /// This machine has nothing to reach.
        NotApplicable = "not_applicable",
        /// It proves nothing, because it failed outside as well.
        ControlFailed = "control_failed",
    }

    /// How a Pipelock is asked for plain HTTP.
    PlainHttp {
        /// It fetches and scans.
        Scan = "scan",
        /// Through a tunnel.
        Tunnel = "tunnel",
    }

    /// Whether the receipts of a Pipelock sign the posture capsule.
    Binding {
        /// They do.
        Bound = "bound",
        /// It is too old for that.
        NotKnown = "not_known",
    }

    /// That the receipts of the built-in mediator sign the posture capsule.
    BuiltinBinding {
        /// They do.
        Bound = "bound",
    }

    /// The steps of a run, in their order.
    Step {
        /// The cgroups of the run are there.
        CgroupsMade = "cgroups made",
        /// The workspace is mapped to the command's user.
        WorkspaceMapped = "workspace mapped",
        /// The first process of the boundary is there.
        InitSpawned = "init spawned",
        /// The kernel programs are attached.
        GatesAttached = "gates attached",
        /// The kernel programs are attached once more, with messages.
        GatesAttachedAgain = "gates attached again",
        /// The boundary is closed.
        BoundaryClosed = "boundary closed",
        /// The probes are made.
        ProbesDone = "probes done",
        /// The mediator accepts connections.
        MediatorReady = "mediator ready",
        /// The relay accepts connections.
        RelayReady = "relay ready",
        /// The command is executed.
        CommandExecuted = "command executed",
        /// The command has ended.
        CommandEnded = "command ended",
        /// No process of the command is left.
        AgentGone = "agent gone",
        /// The changes to the workspace are applied or kept.
        WorkspaceDone = "workspace done",
        /// The relay has ended.
        RelayEnded = "relay ended",
        /// The mediator has ended.
        MediatorEnded = "mediator ended",
    }
}

impl Step {
    /// Whether not every run takes the step.
    pub(crate) fn is_of_some_runs(word: &str) -> bool {
        let some = [
            Self::WorkspaceMapped,
            Self::GatesAttachedAgain,
            Self::CommandExecuted,
            Self::WorkspaceDone,
        ];
        some.iter().any(|step| step.as_str() == word)
    }
}
