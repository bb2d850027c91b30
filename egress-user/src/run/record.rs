//! Builds `changes.json` and `boundary.json`. `boundary.json` states the measured properties of the boundary, and the
//! digests of the parts that enforced it.
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use audit_packet::denied::Attempts;
use audit_packet::format::Name;
use audit_packet::format::boundary::{
    Agent, AllowedRow, AllowedSocket, AttestationKey, BoundaryDocument, BoundarySchema,
    ChangeCounts, Credentials, DeniedRow, Enforced, EvidenceLimit, Flows, Hidden, Kernel, LISTED,
    LeftOut, Limit, Limits, Link, MediatorDocument, MediatorPolicy, OpenFiles, OpenFilesHolder,
    Programs, Reached, Recovered, Scratch, Seccomp, Seconds, Shares, Tool, Users, View, Workspace,
};
use audit_packet::format::changes::{Change, ChangesDocument, ChangesSchema};
use audit_packet::model::{DockerSocketStatus, Posture};
use audit_packet::posture::{Facts, Words};
use egress_pipelock::digest::sha256_of;
use egress_sandbox::child::seccomp;
use egress_sandbox::probe::model::all_denied;
use egress_sandbox::sockets::Opened;
use egress_sandbox::{limits, view};
use egress_workspace::apply::configuration;
use egress_workspace::apply::model::{self, ChangeOutcome};
use egress_workspace::credentials::{Found, Redaction};
use egress_workspace::users::AGENT_NAME;
use serde::Serialize;

use super::digest::sha256;
use super::ending::Ending;
use super::facts::RunFacts;
use super::notice::Notice;
use super::plan::PlainHttp;
use crate::bpf;

/// Returns the posture of the packet. The words follow from the probes and from facts about this run.
pub(super) fn posture(run: &RunFacts) -> Posture {
    let is_audit = run.unverified.is_some();
    let opened = &run.context.measured.opened;
    let facts = Facts {
        is_audit,
        is_builtin: matches!(run.mediator.document, MediatorDocument::Builtin { .. }),
        tunnels_plain_http: run.mediator.plain_http == PlainHttp::Tunnel,
        opened: opened
            .iter()
            .map(|one| one.path.display().to_string())
            .collect(),
    };
    let probes = &run.context.measured.probes.results;
    let words = Words::of(|name| all_denied(probes, &[name]), &facts);
    let host_has_docker = std::fs::symlink_metadata("/var/run/docker.sock").is_ok();
    let docker = match (words.docker_is_closed, host_has_docker) {
        (true, true) => DockerSocketStatus::Denied,
        (true, false) => DockerSocketStatus::Absent,
        (false, _) => DockerSocketStatus::Unknown,
    };
    let inside = |text: String| (!is_audit).then_some(text);
    let users = &run.context.users;
    Posture {
        enforcement_mode: words.enforcement_mode,
        runner_os: String::from("Linux"),
        runner_arch: Some(runner_arch()),
        raw_socket_status: words.raw_socket,
        docker_socket_status: docker,
        dns_udp_status: words.dns_udp,
        browser_proxy_status: words.browser_proxy,
        websocket_frame_scanning: words.websocket_frames,
        network_namespace: run
            .context
            .measured
            .namespaces
            .iter()
            .find(|ns| ns.starts_with("net:"))
            .cloned(),
        agent_user: Some(AGENT_NAME.to_owned()),
        agent_uid: Some(i64::from(users.agent)),
        host_user: Some(String::from("pipelock-host")),
        host_uid: Some(i64::from(users.host)),
        host_ip: None,
        agent_ip: inside(String::from("127.0.0.1")),
        proxy_url: inside(format!("http://127.0.0.1:{}", run.context.plan.proxy_port)),
        script_basename: Some(run.context.plan.script_basename.clone()),
        script_arg_count: Some(run.context.plan.argument_count),
        unsupported_paths: words.unsupported_paths,
    }
}

/// Returns the name of this machine's architecture in GitHub Actions.
fn runner_arch() -> String {
    match std::env::consts::ARCH {
        "x86_64" => "X64",
        "aarch64" => "ARM64",
        other => other,
    }
    .to_owned()
}

/// Returns `boundary.json`.
///
/// # Errors
/// Fails if this binary cannot be read for its digest.
pub(super) fn boundary(run: &RunFacts, notices: &[Notice]) -> io::Result<Vec<u8>> {
    let kernel = nix::sys::utsname::uname()?;
    let uname = |text: &OsStr| Name::from(text.to_string_lossy());
    let context = &run.context;
    let (plan, measured, users) = (&context.plan, &context.measured, &context.users);
    let is_audit = run.unverified.is_some();
    let filters = (seccomp::digest(is_audit), egress_relay::filter_digest());
    document(&BoundaryDocument {
        schema_version: BoundarySchema::V0,
        run_id: run.context.dir.id().into(),
        mode: plan.mode.label().into(),
        egress: Tool {
            version: env!("CARGO_PKG_VERSION").into(),
            binary_sha256: own_digest()?.into(),
        },
        kernel: Kernel {
            release: uname(kernel.release()),
            version: uname(kernel.version()),
            machine: uname(kernel.machine()),
        },
        programs: Programs {
            object_sha256: bpf::object_sha256(plan.diagnostics.is_some()).into(),
            attached: run.programs.clone(),
            unavailable: run.unavailable.clone(),
            links: run.links.iter().map(link).collect(),
        },
        seccomp: Seccomp {
            agent_sha256: filters.0.map_err(io::Error::other)?.into(),
            relay_sha256: filters.1.map_err(io::Error::other)?.into(),
        },
        agent: Agent {
            enforced: Enforced {
                uid: run.enforced.uid.into(),
                capabilities: run.enforced.capabilities,
                no_new_privs: run.enforced.no_new_privs,
                seccomp_mode: run.enforced.seccomp_mode.into(),
                seccomp_filters: run.enforced.seccomp_filters.into(),
            },
            user: AGENT_NAME.into(),
            uid: users.agent.into(),
        },
        users: Users {
            agent: users.agent.into(),
            host: users.host.into(),
            relay: users.relay.into(),
        },
        namespaces: names(&measured.namespaces),
        ipv6: measured.ipv6,
        dns: plan.dns.label().into(),
        allowed_ports: plan.open_ports(),
        workspace: workspace(run),
        allowed_unix: measured.opened.iter().map(opened).collect(),
        view: View {
            left_out: measured.left_out.iter().map(left_out).collect(),
            masked: paths(&measured.masked),
            home_tools: paths(&plan.tools),
            cache: plan.cache.as_deref().map(path),
        },
        environment: measured.environment.clone(),
        tls_interception: measured.trusted.clone(),
        limits: limits(run),
        credentials: credentials(&measured.credentials),
        command_files: run.command_files.clone(),
        output: run.output.clone(),
        inherited_descriptors: names(&plan.inherited),
        policy: MediatorPolicy {
            config: plan.policy.path.as_deref().map(path),
            sha256: sha256(run.policy.yaml.as_bytes()).into(),
            overridden: names(&run.policy.overridden),
        },
        mediator: run.mediator.document.clone(),
        probes: measured.probes.record(&plan.accepted_risks),
        counters: run.counters.clone(),
        flows: Flows {
            sha256: sha256(&run.flows).into(),
            head: run.flow_head.as_str().into(),
            rows: run.flow_rows,
            by_verdict: run.counts.by_verdict.clone(),
            by_relay_verdict: run.counts.by_relay_verdict.clone(),
            names: run.counts.names,
        },
        residual_channels: run.counts.residual.clone(),
        denied: attempts(&run.denied),
        denied_left_out: left(run.denied.len()),
        answered: attempts(&run.answered),
        answered_left_out: left(run.answered.len()),
        allowed: allowed_rows(run),
        allowed_left_out: left(run.allowed.len()),
        notices: notices.iter().map(|one| Name::from(&one.text)).collect(),
        attestation: attestation_key(run),
        packet_directory: path(plan.packet.path().file_name().unwrap_or_default().as_ref()),
        incomplete: names(&run.incomplete),
        timeline: run.context.timeline.marks().to_vec(),
    })
}

/// Returns the text of a document. The members of the document are sorted by name.
fn document(document: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(&serde_json::to_value(document)?)?;
    text.push(b'\n');
    Ok(text)
}

fn path(path: &Path) -> Name {
    path.to_string_lossy().into()
}

fn paths(paths: &[PathBuf]) -> Vec<Name> {
    paths.iter().map(|one| path(one)).collect()
}

fn names(texts: &[String]) -> Vec<Name> {
    texts.iter().map(Name::from).collect()
}

fn left(all: usize) -> u64 {
    all.saturating_sub(LISTED) as u64
}

fn link(link: &bpf::links::Link) -> Link {
    Link {
        id: link.id,
        program_id: link.program_id,
        attach_type: link.attach_type,
        cgroup_id: link.cgroup_id,
    }
}

fn left_out(mount: &view::LeftOut) -> LeftOut {
    LeftOut {
        path: path(&mount.path),
        why: mount.why.as_str().into(),
    }
}

/// Describes the credentials that the search found.
fn credentials(found: &Found) -> Credentials {
    let hidden = |file: &Redaction| Hidden {
        path: path(&file.path),
        keys: file.keys.clone(),
    };
    Credentials {
        hidden: found.redactions.iter().map(hidden).collect(),
        shown: found.shown.iter().map(|file| path(&file.path)).collect(),
        searched_whole_workspace: !found.cut_short,
    }
}

/// Describes a host socket that the command may use.
fn opened(socket: &Opened) -> AllowedSocket {
    AllowedSocket {
        path: path(&socket.path),
        as_owner: socket.as_owner,
    }
}

/// Returns the command's limits, and whether the command reached them, if that is known.
fn limits(run: &RunFacts) -> Limits {
    let limits = &run.context.plan.limits;
    let report = run.reached.cgroups.as_ref();
    let limit = |most: u64, reached: Option<&limits::Reached>| Limit {
        most,
        reached: reached.map(|reached| Reached {
            held_by: reached.held_by.into(),
            times: reached.times,
        }),
    };
    Limits {
        processes: limit(limits.processes, report.map(|report| &report.processes)),
        memory: limit(limits.memory, report.map(|report| &report.memory)),
        open_files: OpenFiles {
            most: limits.open_files,
            held_by: OpenFilesHolder::Files,
        },
        scratch: Scratch {
            most: limits.scratch,
            full_at_the_end: paths(&run.reached.full),
        },
        evidence: EvidenceLimit {
            most: limits.evidence,
        },
        shares: Shares {
            files: limits.shares.files,
            sockets: limits.shares.sockets,
            tcp_bytes: limits.shares.tcp_bytes,
            processes: limits.shares.processes,
        },
        seconds: Seconds {
            most: run.context.plan.timeout.map(|time| time.as_secs()),
            reached: run.ending == Ending::TimedOut,
        },
    }
}

/// Returns how the command saw the workspace, and how many of its changes had each outcome.
fn workspace(run: &RunFacts) -> Workspace {
    let changes = run.workspace.as_ref().map(|workspace| {
        let count = |outcome| workspace.plan.count(outcome) as u64;
        ChangeCounts {
            applied: count(ChangeOutcome::Applied),
            refused: count(ChangeOutcome::Refused),
            conflicts: count(ChangeOutcome::Conflict),
            discarded: count(ChangeOutcome::Discarded),
        }
    });
    let recovered = run.context.recovered.iter().map(|one| Recovered {
        workspace: path(&one.workspace),
        completed: one.completed,
        applied: one.applied as u64,
        refused: one.refused as u64,
        kept: one.kept.as_deref().map(path),
    });
    let allowed = run.context.plan.allowed_changes.iter();
    Workspace {
        mode: run.context.plan.workspace.label().into(),
        path: path(&run.context.plan.workdir),
        protected: paths(&run.context.plan.protected),
        protected_by_default: configuration::NAMES.map(Name::from).to_vec(),
        allowed_changes: allowed.map(|one| one.as_str().into()).collect(),
        changes,
        recovered: recovered.collect(),
    }
}

/// Returns `changes.json` with every change of the command, if changes were stored separately.
///
/// # Errors
/// Fails if a change is not valid in the packet's format.
pub(super) fn changes(run: &RunFacts) -> io::Result<Option<Vec<u8>>> {
    let Some(workspace) = &run.workspace else {
        return Ok(None);
    };
    let changes = workspace.plan.changes.iter().map(change);
    document(&ChangesDocument {
        schema_version: ChangesSchema::V0,
        mode: run.context.plan.workspace.label().into(),
        changes: changes.collect::<io::Result<_>>()?,
    })
    .map(Some)
}

/// Converts a change to the packet's format. The format and the run's journal use the same words.
fn change(change: &model::Change) -> io::Result<Change> {
    Ok(serde_json::from_value(serde_json::to_value(change)?)?)
}

fn attempts(attempts: &Attempts) -> Vec<DeniedRow> {
    let rows = attempts.iter().take(LISTED).cloned();
    rows.map(|(attempt, count)| DeniedRow { count, attempt })
        .collect()
}

fn allowed_rows(run: &RunFacts) -> Vec<AllowedRow> {
    let rows = run.allowed.iter().take(LISTED).cloned();
    rows.map(|(host, port, count)| AllowedRow {
        host: host.into(),
        port,
        count,
    })
    .collect()
}

fn attestation_key(run: &RunFacts) -> AttestationKey {
    let boundary = &run.context.plan.boundary_key;
    AttestationKey {
        key: hex::encode(boundary.key.verifying_key().as_bytes()).into(),
        pinned: boundary.pinned,
    }
}

/// Returns the SHA-256 of the running binary, read through its inode.
fn own_digest() -> io::Result<String> {
    sha256_of(&mut std::fs::File::open("/proc/self/exe")?)
}
