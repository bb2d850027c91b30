//! The words of `boundary.json`.
words! {
    /// The version of the document.
    BoundarySchema {
        /// The current version.
        V0 = "egress.boundary.v0",
    }

    /// Whether a boundary was enforced.
    Mode {
        /// A boundary was enforced.
        Enforce = "enforce",
        /// The run was an audit, so nothing was enforced.
        Audit = "audit",
    }

    /// Whether the stub resolver answers names.
    Dns {
        /// The stub resolver answers valid host names with synthetic addresses.
        Synthetic = "synthetic",
        /// The run has no stub resolver, so no name resolves.
        Deny = "deny",
    }

    /// The kernel mechanism that enforced a limit.
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

    /// The kernel mechanism that enforced the limit on open files.
    OpenFilesHolder {
        /// A resource limit on each process.
        Files = "RLIMIT_NOFILE of each process",
    }

    /// The outcome of a probe and its control.
    ProbeOutcome {
        /// The probe failed inside, and its control succeeded.
        Denied = "denied",
        /// The probe succeeded inside.
        Reachable = "reachable",
        /// The target of the probe does not exist on this machine, or the command may read it.
        NotApplicable = "not_applicable",
        /// The probe proves nothing, because its control failed or the probe could not run.
        ControlFailed = "control_failed",
    }

    /// The way in which the relay sends plain HTTP to a Pipelock.
    PlainHttp {
        /// The relay sends plain HTTP as requests that Pipelock fetches and scans.
        Scan = "scan",
        /// The relay sends plain HTTP through a tunnel.
        Tunnel = "tunnel",
    }

    /// Whether the receipts of a Pipelock sign the posture capsule.
    Binding {
        /// The receipts sign the capsule.
        Bound = "bound",
        /// This Pipelock is too old to sign the capsule.
        NotKnown = "not_known",
    }

    /// Whether the receipts of the built-in mediator sign the posture capsule.
    BuiltinBinding {
        /// The receipts sign the capsule.
        Bound = "bound",
    }

    /// The steps of a run, in their order.
    Step {
        /// The cgroups of the run were made.
        CgroupsMade = "cgroups made",
        /// The workspace is mapped to the command's user.
        WorkspaceMapped = "workspace mapped",
        /// The boundary's first process was started.
        InitSpawned = "init spawned",
        /// The kernel programs are attached.
        GatesAttached = "gates attached",
        /// The kernel programs were attached again, because `::1` could not be bound.
        GatesAttachedAgain = "gates attached again",
        /// The file view is in place and the kernel programs are attached.
        BoundaryClosed = "boundary closed",
        /// The probes have run.
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
    /// Whether some runs omit the step.
    pub(crate) fn is_of_some_runs(word: &str) -> bool {
        let some = [
            Self::WorkspaceMapped,
            Self::GatesAttachedAgain,
            Self::WorkspaceDone,
        ];
        some.iter().any(|step| step.as_str() == word)
    }
}
