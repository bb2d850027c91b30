//! `boundary.json`: what was active in a run, as measured, and the digests of what enforced it.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::value::{Head, Hex16, Name, Sha256};
use crate::residual::Residual;

mod limits;
mod mediator;
mod probes;
mod reading;
mod words;

pub use limits::{EvidenceLimit, Limit, Limits, OpenFiles, Reached, Scratch, Seconds, Shares};
pub use mediator::{Mediator, Pipelock, PolicyNotice};
pub use probes::{Control, Probe, ProbeCounts, Probes};
pub use words::*;

use super::words::WorkspaceMode;

/// Destinations that `boundary.json` lists; the others are counted.
pub const LISTED: usize = 500;

documents! {
    /// `boundary.json`.
    BoundaryDocument {
        [
            /// Kernel programs.
            programs: Programs,
            /// System call filters.
            seccomp: Seccomp,
            /// Attempts to break out before the start.
            probes: Probes,
            /// The flow log.
            flows: Flows,
            /// Why the record is not complete.
            incomplete: Vec<Name>,
        ]
        /// `egress.boundary.v0`.
        schema_version: BoundarySchema,
        /// Id of the run.
        run_id: Hex16,
        /// Whether a boundary was enforced.
        mode: Mode,
        /// The program that ran the command.
        egress: Tool,
        /// The kernel, in the words of uname(2).
        kernel: Kernel,
        /// User of the command.
        agent: Agent,
        /// User ids of command, mediator, and relay.
        users: Users,
        /// Namespaces of the boundary, `KIND:[N]`.
        namespaces: Vec<Name>,
        /// Whether the relay listens on `::1`.
        ipv6: bool,
        /// What the stub resolver does.
        dns: Dns,
        /// Ports that may be asked for.
        allowed_ports: Vec<u16>,
        /// How the command saw the workspace.
        workspace: Workspace,
        /// Host sockets that the caller opened.
        allowed_unix: Vec<AllowedSocket>,
        /// What the file view leaves out.
        view: View,
        /// Names of environment variables.
        environment: Environment,
        /// The authority with which a Pipelock opens TLS; absent when it opens none.
        tls_interception: Option<TlsInterception>,
        /// Limits, and which were reached.
        limits: Limits,
        /// Credentials that were hidden from the command.
        credentials: Credentials,
        /// What the command wrote for the runner, which does not get it.
        command_files: Vec<CommandFile>,
        /// What was passed on of the command's output.
        output: Output,
        /// `NUMBER: TARGET` of each descriptor above 2 that the caller left open, which no process of the run gets, and of
        /// each standard stream of the caller that is a socket. `TARGET` is the text of the link in `/proc/self/fd`; a socket
        /// has ` connected to ADDRESS` or ` not connected` after it.
        inherited_descriptors: Vec<Name>,
        /// The policy that the mediator read.
        policy: Policy,
        /// Who judged and signed.
        mediator: Mediator,
        /// The kernel's counters at the end of the run.
        counters: Counters,
        /// Bytes and requests by destination.
        residual_channels: Residual,
        /// Up to 500 denied destinations, most frequent first.
        denied: Vec<DeniedRow>,
        /// Rows of `denied` beyond those.
        denied_left_out: u64,
        /// Up to 500 kinds of answers that look like denials and that no receipt confirms, most frequent first.
        answered: Vec<DeniedRow>,
        /// Rows of `answered` beyond those.
        answered_left_out: u64,
        /// Up to 500 destinations that were reached, most frequent first.
        allowed: Vec<AllowedRow>,
        /// Rows of `allowed` beyond those.
        allowed_left_out: u64,
        /// What people should know of the run beyond its verdict.
        notices: Vec<Name>,
        /// The key that signs the attestation.
        attestation: AttestationKey,
        /// Name of the packet's directory when it was written.
        packet_directory: Name,
        /// When each step was reached.
        timeline: Vec<Mark>,
    }

    /// The program that ran the command.
    Tool {
        /// Its version.
        version: Name,
        /// SHA-256 of its binary.
        binary_sha256: Sha256,
    }

    /// The kernel of the machine.
    Kernel {
        /// Release.
        release: Name,
        /// Version.
        version: Name,
        /// Hardware.
        machine: Name,
    }

    /// Kernel programs.
    Programs {
        [
            /// The programs.
            attached: Vec<Program>,
            /// Where they were attached; one for each program.
            links: Vec<Link>,
        ]
        /// SHA-256 of the object file.
        object_sha256: Sha256,
        /// Programs that this kernel has no hook for.
        unavailable: Vec<Unavailable>,
    }

    /// A kernel program.
    Program {
        [
            /// Name in the object.
            name: Name,
            /// Id that the kernel gave it.
            id: u32,
            /// The kernel's digest of its instructions.
            tag: Hex16,
            /// Number of the hook, `enum bpf_attach_type`.
            attach_type: u32,
        ]
    }

    /// A kernel program that is not attached.
    Unavailable {
        /// Name in the object.
        name: Name,
        /// Why it is not attached.
        why: Name,
    }

    /// Where a kernel program was attached.
    Link {
        [
            /// Id of the link.
            id: u32,
            /// Id of its program.
            program_id: u32,
        ]
        /// Number of the hook, `enum bpf_attach_type`.
        attach_type: u32,
        /// Id of the cgroup; 0 when it was taken off.
        cgroup_id: u64,
    }

    /// System call filters.
    Seccomp {
        [
            /// Digest of the command's filter.
            agent_sha256: Sha256,
        ]
        /// Digest of the relay's filter.
        relay_sha256: Sha256,
    }

    /// User of the command.
    Agent {
        /// Name.
        user: Name,
        /// User id.
        uid: u64,
        /// What the command's first process had given up.
        enforced: Enforced,
    }

    /// What a process had given up, as in `/proc/PID/status`.
    Enforced {
        /// User id; not 0.
        uid: u64,
        /// Capabilities, all sets or-ed; 0.
        capabilities: u64,
        /// Whether it cannot gain privileges; true.
        no_new_privs: bool,
        /// 2: a filter.
        seccomp_mode: u64,
        /// Number of filters; at least 1.
        seccomp_filters: u64,
    }

    /// User ids.
    Users {
        /// The command's.
        #[serde(rename = "pipelock-agent")]
        agent: u64,
        /// The mediator's.
        #[serde(rename = "pipelock-host")]
        host: u64,
        /// The relay's.
        #[serde(rename = "pipelock-relay")]
        relay: u64,
    }

    /// How the command saw the workspace.
    Workspace {
        /// How.
        mode: WorkspaceMode,
        /// Where it is.
        path: Name,
        /// What in it no change may touch.
        protected: Vec<Name>,
        /// Changes by what became of them; absent where none were kept apart.
        changes: Option<ChangeCounts>,
        /// What killed runs before this one had left beside it.
        recovered: Vec<Recovered>,
    }

    /// Changes by what became of them.
    ChangeCounts {
        [
            /// They are in the workspace.
            applied: u64,
            /// They are not, by a rule.
            refused: u64,
            /// They are not, because the host changed the same.
            conflicts: u64,
            /// They are not, because nothing of the run is.
            discarded: u64,
        ]
    }

    /// What was done about a killed run's changes.
    Recovered {
        /// The workspace.
        workspace: Name,
        /// Whether applying had begun and was completed.
        completed: bool,
        /// Changes that are in the workspace now.
        applied: u64,
        /// Changes that are not, though applying had begun.
        refused: u64,
        /// Where they are kept.
        kept: Option<Name>,
    }

    /// A host socket that the caller opened.
    AllowedSocket {
        /// Where.
        path: Name,
        /// Whether the command has it as its owner.
        as_owner: bool,
    }

    /// What the file view leaves out.
    View {
        /// Host mounts.
        left_out: Vec<LeftOut>,
        /// Paths that are covered.
        masked: Vec<Name>,
    }

    /// A host mount that is not in the file view.
    LeftOut {
        /// Where the host has it.
        path: Name,
        /// Why it is not there.
        why: Name,
    }

    /// Names of environment variables.
    Environment {
        /// Passed on as they were.
        passed: Vec<Name>,
        /// Not passed.
        dropped: Vec<Name>,
        /// Set by the boundary.
        set: Vec<Name>,
    }

    /// The authority with which a Pipelock opens TLS.
    TlsInterception {
        /// SHA-256 of its certificate, DER.
        certificate_sha256: Sha256,
        /// Files that the view has in place of the host's.
        files: Vec<Name>,
    }

    /// Credentials that were hidden from the command.
    Credentials {
        /// Files that the command sees without them.
        hidden: Vec<Hidden>,
        /// Whether the search reached every file.
        searched_whole_workspace: bool,
    }

    /// A file that the command sees without its credentials.
    Hidden {
        /// Where it is.
        path: Name,
        /// Names of what is not shown.
        keys: Vec<String>,
    }

    /// What the command wrote for the runner.
    CommandFile {
        /// The variable that names it.
        name: Name,
        /// Its length.
        bytes: u64,
        /// SHA-256 of its content; none of a file that is longer than 8 MiB.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Sha256"))]
        sha256: Option<Sha256>,
        /// Names that it would have set.
        keys: Vec<String>,
    }

    /// What was passed on of the command's output.
    Output {
        /// Whether the caller obeys its log, so that commands in it were defused.
        guarded: bool,
        /// Whether it was told to obey nothing meanwhile.
        stop_commands: bool,
        /// Bytes that the command wrote.
        bytes: u64,
        /// Commands that were defused.
        defused: u64,
    }

    /// The policy that the mediator read.
    Policy {
        /// The caller's policy file.
        config: Option<Name>,
        /// SHA-256 of `policy.yaml`.
        sha256: Sha256,
        /// Keys that were overridden.
        overridden: Vec<Name>,
    }

    /// The kernel's counters at the end of the run.
    Counters {
        /// Events that found the ring buffer full.
        ring_full: u64,
        /// Denials because a program could not read or store what it needs.
        internal: u64,
        /// Packets stopped on their way to another interface than loopback.
        skb_dropped: u64,
        /// Calls of the relay that its own kernel programs denied.
        relay_denied: u64,
        /// Packets to the mediator from other processes of the machine than the relay.
        caller_refused: u64,
        /// Destinations that the hooks on the mediator's own sockets denied.
        mediator_denied: u64,
        /// Connections whose destination was handed to the relay.
        slots_written: u64,
        /// Connections of the command whose close a program was to report.
        closes_expected: u64,
        /// Those whose close it saw.
        closes_seen: u64,
    }

    /// The flow log.
    Flows {
        [
            /// SHA-256 of `flows.jsonl`.
            sha256: Sha256,
            /// Hash of its last row; `genesis` if it has none.
            head: Head,
            /// Its rows.
            rows: u64,
        ]
        /// Attempts by the kernel's verdict.
        by_verdict: BTreeMap<String, u64>,
        /// Rows of the relay by verdict.
        by_relay_verdict: BTreeMap<String, u64>,
        /// Names that were asked for.
        names: u64,
    }

    /// Attempts that were denied alike.
    DeniedRow {
        [
            /// How many.
            count: u64,
            /// What each of them was.
            attempt: crate::denied::Denied,
        ]
    }

    /// A destination that was reached.
    AllowedRow {
        [
            /// Host name.
            host: Name,
            /// Port.
            port: u16,
            /// Connections.
            count: u64,
        ]
    }

    /// The key that signs the attestation.
    AttestationKey {
        /// Its public half.
        key: Sha256,
        /// Whether the caller supplied it. Otherwise it was made for this run, and no reviewer can pin it.
        pinned: bool,
    }

    /// A step that was reached.
    Mark {
        /// Which.
        step: Step,
        /// When, µs since the run began.
        at_us: u64,
    }
}
