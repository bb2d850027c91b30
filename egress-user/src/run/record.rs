//! `boundary.json`: what was active in this run, as measured, and the digests of what enforced it.
use std::io;

use audit_packet::denied::Attempts;
use audit_packet::measured::{AllowedRow, AttestationKey, DeniedRow, LISTED};
use audit_packet::model::{DockerSocketStatus, Posture};
use audit_packet::posture::{Facts, Words};
use egress_pipelock::digest::sha256_of;
use egress_sandbox::child::seccomp;
use egress_sandbox::probe::model::all_denied;
use egress_workspace::apply::model::Outcome as ChangeOutcome;
use egress_workspace::users::AGENT_NAME;
use serde_json::{Value, json};

use super::collect::Collected;
use super::digest::sha256;
use super::ending::Ending;
use super::plan::{Mode, PlainHttp};
use crate::bpf;

/// Schema of the document.
pub const SCHEMA: &str = "egress.boundary.v0";

/// Schema of `changes.json`.
const CHANGES_SCHEMA: &str = "egress.changes.v0";

/// The posture of the packet: every word follows from a probe or a fact of this run.
pub fn posture(run: &Collected) -> Posture {
    let is_audit = run.plan.mode == Mode::Audit;
    let opened = &run.measured.opened;
    let facts = Facts {
        is_audit,
        is_builtin: run.pipelock.is_none(),
        tunnels_plain_http: run.plain_http() == PlainHttp::Tunnel,
        opened: opened
            .iter()
            .map(|one| one.path.display().to_string())
            .collect(),
    };
    let probes = &run.measured.probes.results;
    let words = Words::of(|name| all_denied(probes, &[name]), &facts);
    let host_has_docker = std::fs::symlink_metadata("/var/run/docker.sock").is_ok();
    let docker = match (words.docker_is_closed, host_has_docker) {
        (true, true) => DockerSocketStatus::Denied,
        (true, false) => DockerSocketStatus::Absent,
        (false, _) => DockerSocketStatus::Unknown,
    };
    let inside = |text: String| (!is_audit).then_some(text);
    let [agent, host, _] = run.uids;
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
            .measured
            .namespaces
            .iter()
            .find(|ns| ns.starts_with("net:"))
            .cloned(),
        agent_user: Some(AGENT_NAME.to_owned()),
        agent_uid: Some(i64::from(agent)),
        host_user: Some(String::from("pipelock-host")),
        host_uid: Some(i64::from(host)),
        host_ip: None,
        agent_ip: inside(String::from("127.0.0.1")),
        proxy_url: inside(format!("http://127.0.0.1:{}", run.plan.proxy_port)),
        script_basename: Some(run.plan.script_basename.clone()),
        script_arg_count: Some(run.plan.argument_count),
        unsupported_paths: words.unsupported_paths,
    }
}

/// The architecture in the words of a GitHub runner.
fn runner_arch() -> String {
    match std::env::consts::ARCH {
        "x86_64" => "X64",
        "aarch64" => "ARM64",
        other => other,
    }
    .to_owned()
}

/// The document.
///
/// # Errors
/// When this binary cannot be read for its digest.
pub fn boundary(run: &Collected, notices: &[String]) -> io::Result<Vec<u8>> {
    let kernel = nix::sys::utsname::uname()?;
    let [agent, host, relay] = run.uids;
    let directory = run.plan.packet.path().file_name().unwrap_or_default();
    let document = json!({
        "schema_version": SCHEMA,
        "run_id": run.dir.id(),
        "mode": run.plan.mode.label(),
        "egress": {"version": env!("CARGO_PKG_VERSION"), "binary_sha256": own_digest()?},
        "kernel": {
            "release": kernel.release().to_string_lossy(),
            "version": kernel.version().to_string_lossy(),
            "machine": kernel.machine().to_string_lossy(),
        },
        "programs": {"object_sha256": bpf::object_sha256(run.plan.diagnostics.is_some()), "attached": run.programs, "unavailable": run.unavailable, "links": run.links},
        "seccomp": {
            "agent_sha256": seccomp::digest(run.plan.mode == Mode::Audit).map_err(io::Error::other)?,
            "relay_sha256": egress_relay::filter_digest().map_err(io::Error::other)?,
        },
        "agent": {"enforced": run.enforced, "user": AGENT_NAME, "uid": agent},
        "users": {"pipelock-agent": agent, "pipelock-host": host, "pipelock-relay": relay},
        "namespaces": run.measured.namespaces,
        "ipv6": run.measured.ipv6,
        "dns": run.plan.dns.label(),
        "allowed_ports": run.plan.open_ports(),
        "workspace": workspace(run),
        "allowed_unix": opened(run),
        "view": {"left_out": run.measured.left_out, "masked": run.measured.masked},
        "environment": run.measured.environment,
        "tls_interception": run.measured.trusted,
        "limits": limits(run),
        "credentials": {
            "hidden": run.measured.credentials.redactions,
            "searched_whole_workspace": !run.measured.credentials.cut_short,
        },
        "command_files": run.command_files,
        "output": run.output,
        "inherited_descriptors": run.plan.inherited,
        "policy": {
            "config": run.plan.policy.path,
            "sha256": sha256(run.policy.yaml.as_bytes()),
            "overridden": run.policy.overridden,
        },
        "mediator": mediator(run),
        "probes": run.measured.probes.record(&run.plan.accepted_risks),
        "counters": run.counters,
        "flows": {
            "sha256": sha256(&run.flows),
            "head": run.flow_head,
            "rows": run.flow_rows,
            "by_verdict": run.counts.by_verdict,
            "by_relay_verdict": run.counts.by_relay_verdict,
            "names": run.counts.names,
        },
        "residual_channels": run.counts.residual,
        "denied": attempts(&run.denied),
        "denied_left_out": run.denied.len().saturating_sub(LISTED),
        "answered": attempts(&run.answered),
        "answered_left_out": run.answered.len().saturating_sub(LISTED),
        "allowed": allowed_rows(run),
        "allowed_left_out": run.allowed.len().saturating_sub(LISTED),
        "notices": notices,
        "attestation": attestation_key(run),
        "packet_directory": directory.to_string_lossy(),
        "incomplete": run.incomplete,
        "timeline": run.timeline.marks(),
    });
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    Ok(text)
}

/// Who judged and signed.
fn mediator(run: &Collected) -> Value {
    match &run.pipelock {
        None => json!({"kind": "builtin", "posture": "bound"}),
        Some(facts) => json!({
            "kind": "pipelock",
            "plain_http": run.plain_http().label(),
            "pipelock": facts,
        }),
    }
}

/// What the agent might take, and what of it was all used.
fn limits(run: &Collected) -> Value {
    let limits = &run.plan.limits;
    let report = run.reached.cgroups.as_ref();
    json!({
        "processes": {"most": limits.processes, "reached": report.map(|report| &report.processes)},
        "memory": {"most": limits.memory, "reached": report.map(|report| &report.memory)},
        "open_files": {"most": limits.open_files, "held_by": "RLIMIT_NOFILE of each process"},
        "scratch": {"most": limits.scratch, "full_at_the_end": run.reached.full},
        "evidence": {"most": limits.evidence},
        "shares": limits.shares,
        "seconds": {"most": run.plan.timeout.map(|time| time.as_secs()), "reached": run.ending == Ending::TimedOut},
    })
}

/// How the agent saw the workspace, and what became of its changes, in numbers.
fn workspace(run: &Collected) -> Value {
    let counts = run.workspace.as_ref().map(|workspace| {
        let count = |outcome| workspace.plan.count(outcome);
        json!({
            "applied": count(ChangeOutcome::Applied),
            "refused": count(ChangeOutcome::Refused),
            "conflicts": count(ChangeOutcome::Conflict),
            "discarded": count(ChangeOutcome::Discarded),
        })
    });
    json!({
        "mode": run.plan.workspace.label(),
        "path": run.plan.workdir,
        "protected": run.plan.protected,
        "changes": counts,
        "recovered": run.recovered,
    })
}

/// `changes.json`: every change of the agent, where they were kept apart.
///
/// # Errors
/// When it cannot be put into JSON.
pub fn changes(run: &Collected) -> io::Result<Option<Vec<u8>>> {
    let Some(workspace) = &run.workspace else {
        return Ok(None);
    };
    let mut text = serde_json::to_vec_pretty(&json!({
        "schema_version": CHANGES_SCHEMA,
        "mode": run.plan.workspace.label(),
        "changes": workspace.plan.changes,
    }))?;
    text.push(b'\n');
    Ok(Some(text))
}

/// Sockets of the host that the command may use.
fn opened(run: &Collected) -> Vec<Value> {
    let opened = &run.measured.opened;
    opened
        .iter()
        .map(|one| json!({"path": one.path, "as_owner": one.as_owner}))
        .collect()
}

fn attempts(attempts: &Attempts) -> Vec<DeniedRow> {
    let rows = attempts.iter().take(LISTED).cloned();
    rows.map(|(attempt, count)| DeniedRow { count, attempt })
        .collect()
}

fn allowed_rows(run: &Collected) -> Vec<AllowedRow> {
    let rows = run.allowed.iter().take(LISTED).cloned();
    rows.map(|(host, port, count)| AllowedRow { host, port, count })
        .collect()
}

fn attestation_key(run: &Collected) -> AttestationKey {
    let boundary = &run.plan.boundary_key;
    AttestationKey {
        key: hex::encode(boundary.key.verifying_key().as_bytes()),
        pinned: boundary.pinned,
    }
}

/// SHA-256 of the running binary, read through its own inode.
fn own_digest() -> io::Result<String> {
    sha256_of(&mut std::fs::File::open("/proc/self/exe")?)
}
