//! `boundary.json`: the measurements of a run, and the digests of everything that enforced its boundary.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::value::{Head, Hex16, Name, Sha256};

mod denied;
mod limits;
mod mediator;
mod probes;
mod reading;
mod residual;
mod words;

pub(crate) use denied::NOT_RESOLVED;
pub use denied::{Denied, MEDIATED};
pub use limits::{EvidenceLimit, Limit, Limits, OpenFiles, Reached, Scratch, Seconds, Shares};
pub use mediator::{MediatorDocument, Pipelock, PolicyNotice};
pub use probes::{Control, Probe, ProbeCounts, Probes};
pub use residual::{Residual, Through};
pub use words::*;

use super::words::WorkspaceMode;

/// Maximum length of the lists `denied`, `answered`, and `allowed` in `boundary.json`. Entries beyond it are only
/// counted.
pub const LISTED: usize = 500;

documents! {
    /// `boundary.json`.
    BoundaryDocument {
        [
            /// The kernel programs that enforced the boundary.
            programs: Programs,
            /// System call filters.
            seccomp: Seccomp,
            /// The probes, which are attempts to leave the boundary, made before the command started.
            probes: Probes,
            /// The flow log.
            flows: Flows,
            /// Reasons why the record is not complete. Empty if the record is complete.
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
        /// The kernel of the machine, as `uname(2)` reports it.
        kernel: Kernel,
        /// User of the command.
        agent: Agent,
        /// User ids of command, mediator, and relay.
        users: Users,
        /// Namespaces of the boundary, `KIND:[N]`.
        namespaces: Vec<Name>,
        /// Whether the relay listens on `::1`.
        ipv6: bool,
        /// Whether the stub resolver answers names.
        dns: Dns,
        /// Destination ports that the relay accepts: 80, 443, and the ports of `--allow-port`.
        allowed_ports: Vec<u16>,
        /// The mode in which the command used the workspace.
        workspace: Workspace,
        /// Host sockets that the caller opened.
        allowed_unix: Vec<AllowedSocket>,
        /// Mounts that the file view leaves out, and paths that it covers.
        view: View,
        /// Names of environment variables.
        environment: Environment,
        /// The authority with which a Pipelock intercepts TLS. Null if Pipelock does not intercept TLS.
        tls_interception: Option<TlsInterception>,
        /// Limits of the run, and whether some of these limits were reached.
        limits: Limits,
        /// The stored credentials that egress found, and whether it hid or showed them.
        credentials: Credentials,
        /// Files that the command wrote for the runner, such as `GITHUB_ENV`. The runner does not receive them.
        command_files: Vec<CommandFile>,
        /// Handling of the command's output.
        output: Output,
        /// `NUMBER: TARGET` of each descriptor above 2 that the caller left open, and of each standard stream of the
        /// caller that is a socket. No process of the run receives the descriptors above 2. `TARGET` is the text of the
        /// link in `/proc/self/fd`. For a socket, a space and `connected to ADDRESS` or `not connected` follow this
        /// text.
        inherited_descriptors: Vec<Name>,
        /// The policy that the mediator read.
        policy: MediatorPolicy,
        /// The mediator. It judged the requests and signed the receipts.
        mediator: MediatorDocument,
        /// The kernel's counters at the end of the run.
        counters: Counters,
        /// Bytes and requests that went through the open channels.
        residual_channels: Residual,
        /// Up to 500 kinds of denied attempts, most frequent first.
        denied: Vec<DeniedRow>,
        /// Number of kinds of denied attempts that `denied` does not list.
        denied_left_out: u64,
        /// Up to 500 kinds of answers that look like denials and that no receipt confirms, most frequent first.
        answered: Vec<DeniedRow>,
        /// Number of kinds of answers that `answered` does not list.
        answered_left_out: u64,
        /// Up to 500 destinations to which requests or tunnels went through, most frequent first. In an audit, the
        /// destinations of the connections that a boundary would send to the relay.
        allowed: Vec<AllowedRow>,
        /// Number of such destinations that `allowed` does not list.
        allowed_left_out: u64,
        /// Notices for the reader of the report, for example about a policy that is not strict.
        notices: Vec<Name>,
        /// The key that signs the attestation.
        attestation: AttestationKey,
        /// Name of the packet directory at the time of writing.
        packet_directory: Name,
        /// The steps of the run, with their times.
        timeline: Vec<Mark>,
    }

    /// The program that ran the command.
    Tool {
        /// Version of egress.
        version: Name,
        /// SHA-256 of the egress binary.
        binary_sha256: Sha256,
    }

    /// The kernel of the machine.
    Kernel {
        /// Release, for example `6.12.0`.
        release: Name,
        /// Build version of the kernel.
        version: Name,
        /// Hardware, for example `x86_64`.
        machine: Name,
    }

    /// Kernel programs.
    Programs {
        [
            /// Programs that were attached.
            attached: Vec<Program>,
            /// Attachments of the programs to cgroups, one for each program.
            links: Vec<Link>,
        ]
        /// SHA-256 of the object file that contains the programs.
        object_sha256: Sha256,
        /// Programs that were not attached, because this kernel does not have their hook.
        unavailable: Vec<Unavailable>,
    }

    /// A kernel program.
    Program {
        [
            /// Name of the program in the object file.
            name: Name,
            /// Id that the kernel assigned to the program.
            id: u32,
            /// Digest of the program's instructions, computed by the kernel.
            tag: Hex16,
            /// Number of the hook, `enum bpf_attach_type`.
            attach_type: u32,
        ]
    }

    /// A kernel program that is not attached.
    Unavailable {
        /// Name of the program in the object file.
        name: Name,
        /// Reason why the program is not attached.
        why: Name,
    }

    /// The attachment of a kernel program.
    Link {
        [
            /// Id of the link.
            id: u32,
            /// Id of the program.
            program_id: u32,
        ]
        /// Number of the hook, `enum bpf_attach_type`.
        attach_type: u32,
        /// Id of the cgroup. 0 if the program was detached.
        cgroup_id: u64,
    }

    /// System call filters.
    Seccomp {
        [
            /// SHA-256 of the command's filter.
            agent_sha256: Sha256,
        ]
        /// SHA-256 of the relay's filter.
        relay_sha256: Sha256,
    }

    /// User of the command.
    Agent {
        /// Name of the user.
        user: Name,
        /// User id.
        uid: u64,
        /// Privileges of the command's first process, as the kernel reported them.
        enforced: Enforced,
    }

    /// Privileges of a process, from `/proc/PID/status`.
    Enforced {
        /// User id; not 0.
        uid: u64,
        /// All capability sets of the process, combined with a bitwise or. Must be 0.
        capabilities: u64,
        /// Whether the process cannot gain privileges by executing a program. Must be true.
        no_new_privs: bool,
        /// Seccomp mode of the process. Must be 2, which means that filters are active.
        seccomp_mode: u64,
        /// Number of seccomp filters of the process. Must be at least 1.
        seccomp_filters: u64,
    }

    /// User ids.
    Users {
        /// User id of the command.
        #[serde(rename = "pipelock-agent")]
        agent: u64,
        /// User id of the mediator.
        #[serde(rename = "pipelock-host")]
        host: u64,
        /// User id of the relay.
        #[serde(rename = "pipelock-relay")]
        relay: u64,
    }

    /// The mode in which the command used the workspace.
    Workspace {
        /// The value of `--workspace`.
        mode: WorkspaceMode,
        /// Path of the workspace.
        path: Name,
        /// Paths to which no change is applied (`--protect`, policy, keys, packet directory).
        protected: Vec<Name>,
        /// Names at the top of the workspace to which no change is applied unless `allowed_changes` covers it. The
        /// names are those of configuration for agents and CI systems that makes later code run.
        protected_by_default: Vec<Name>,
        /// Patterns of paths in `protected_by_default` to which changes are applied (`--allow-change`).
        allowed_changes: Vec<Name>,
        /// Number of changes by outcome. Null if the command worked on the workspace itself.
        changes: Option<ChangeCounts>,
        /// Changes of earlier, killed runs that were found beside the workspace.
        recovered: Vec<Recovered>,
    }

    /// Number of changes by outcome.
    ChangeCounts {
        [
            /// Changes that were applied to the workspace.
            applied: u64,
            /// Changes that a rule denied.
            refused: u64,
            /// Changes that were not applied, because a host process changed the same path.
            conflicts: u64,
            /// Changes that were not applied, because no change of the run is applied.
            discarded: u64,
        ]
    }

    /// Changes of a killed run that were found later.
    Recovered {
        /// Path of the workspace.
        workspace: Name,
        /// Whether the killed run had begun to apply its changes. In this case, the rest was applied now.
        completed: bool,
        /// Number of changes that are in the workspace now.
        applied: u64,
        /// Number of changes that are not in the workspace, although the killed run had begun to apply its changes.
        refused: u64,
        /// Directory that keeps the changes that were not applied.
        kept: Option<Name>,
    }

    /// A host socket that the caller opened.
    AllowedSocket {
        /// Path of the socket.
        path: Name,
        /// Whether the command has the rights of the socket's owner. If not, the command has the rights of any other
        /// user.
        as_owner: bool,
    }

    /// Mounts that the file view leaves out, and paths that it covers.
    View {
        /// Mounts of the host that the file view does not contain.
        left_out: Vec<LeftOut>,
        /// Paths that are covered by empty files or directories.
        masked: Vec<Name>,
        /// Directories of programs in the caller's home that the command could read, although other users cannot enter
        /// the home.
        home_tools: Vec<Name>,
        /// The directory of `--cache`, in which earlier commands may have written. Null if the run had no `--cache`.
        cache: Option<Name>,
    }

    /// A host mount that is not in the file view.
    LeftOut {
        /// Mount point on the host.
        path: Name,
        /// Reason why the file view does not contain the mount.
        why: Name,
    }

    /// Names of environment variables.
    Environment {
        /// Variables that were passed to the command unchanged.
        passed: Vec<Name>,
        /// Variables that were removed.
        dropped: Vec<Name>,
        /// Variables that egress set.
        set: Vec<Name>,
    }

    /// The authority with which a Pipelock intercepts TLS.
    TlsInterception {
        /// SHA-256 of the authority's certificate in DER form.
        certificate_sha256: Sha256,
        /// Files with certificates that the file view replaces.
        files: Vec<Name>,
    }

    /// Stored credentials that the search found.
    Credentials {
        /// Files whose credentials are hidden from the command.
        hidden: Vec<Hidden>,
        /// Files with credentials that the caller showed to the command.
        shown: Vec<Name>,
        /// Whether the search for credentials reached none of its limits.
        searched_whole_workspace: bool,
    }

    /// A file whose credentials are hidden from the command.
    Hidden {
        /// Path of the file.
        path: Name,
        /// Names of the settings that are not shown.
        keys: Vec<String>,
    }

    /// A file that the command wrote for the runner.
    CommandFile {
        /// Variable that names the file.
        name: Name,
        /// Length of the file, bytes.
        bytes: u64,
        /// SHA-256 of the file. Absent if the file is longer than 8 MiB.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Sha256"))]
        sha256: Option<Sha256>,
        /// Names of the variables that the file would have set.
        keys: Vec<String>,
    }

    /// The handling of the command's output.
    Output {
        /// Whether the caller is a CI system that executes commands in its log. If so, egress defused these commands.
        guarded: bool,
        /// Whether the runner was set to ignore commands in its log while the command ran.
        stop_commands: bool,
        /// Bytes that the command wrote.
        bytes: u64,
        /// Number of commands to the CI system that were defused.
        defused: u64,
    }

    /// The policy that the mediator read.
    MediatorPolicy {
        /// Path of the caller's policy file.
        config: Option<Name>,
        /// SHA-256 of `policy.yaml`.
        sha256: Sha256,
        /// Keys of the caller's policy that the run replaced.
        overridden: Vec<Name>,
    }

    /// The kernel's counters at the end of the run.
    Counters {
        /// Kernel events that were lost because the ring buffer was full.
        ring_full: u64,
        /// Number of times that a kernel program could not read or store data that it needs.
        internal: u64,
        /// Network packets that were dropped on their way to an interface other than loopback.
        skb_dropped: u64,
        /// Calls of the relay that the kernel programs on its cgroup denied.
        relay_denied: u64,
        /// Network packets that host processes other than the relay sent to the mediator's port, and that the kernel
        /// programs dropped.
        caller_refused: u64,
        /// Calls and network packets of the mediator that the kernel programs on its own sockets denied.
        mediator_denied: u64,
        /// Connections whose destination the kernel programs passed to the relay.
        slots_written: u64,
        /// Connections of the command whose close the kernel programs should have reported.
        closes_expected: u64,
        /// Connections of the command whose close the kernel programs did report.
        closes_seen: u64,
    }

    /// The flow log.
    Flows {
        [
            /// SHA-256 of `flows.jsonl`.
            sha256: Sha256,
            /// Hash of the last row, or `genesis` if there is no row.
            head: Head,
            /// Number of rows.
            rows: u64,
        ]
        /// Number of the command's attempts by verdict of the hooks.
        by_verdict: BTreeMap<String, u64>,
        /// Number of rows of the relay by verdict.
        by_relay_verdict: BTreeMap<String, u64>,
        /// Number of names in the command's queries to the stub resolver.
        names: u64,
    }

    /// Equal attempts that were denied.
    DeniedRow {
        [
            /// Number of attempts.
            count: u64,
            /// The attempt.
            attempt: Denied,
        ]
    }

    /// A destination to which a request or tunnel went through, completely or in part. In an audit, the destination of
    /// a connection.
    AllowedRow {
        [
            /// Host name. In an audit, the address if no name is known.
            host: Name,
            /// Port.
            port: u16,
            /// Number of requests and tunnels, or of connections in an audit.
            count: u64,
        ]
    }

    /// The key that signs the attestation.
    AttestationKey {
        /// Public key, 64 lowercase hexadecimal digits.
        key: Sha256,
        /// Whether the caller supplied the key. Otherwise the key was made for this run, and no
        /// reviewer can pin it.
        pinned: bool,
    }

    /// A step of the run, and the time at which the run reached it.
    Mark {
        /// The step.
        step: Step,
        /// Time since the start of the run, µs.
        at_us: u64,
    }
}
