//! `boundary.json`: what was active in this run, as measured, and the digests of what enforced it.
use std::io;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::collect::Collected;
use super::plan::{MediatorChoice, Mode, PlainHttp};
use super::supervise::Ending;
use crate::apply::model::Outcome as ChangeOutcome;
use crate::boundary::users::AGENT_NAME;
use crate::bpf;
use crate::child::seccomp;
use crate::digest::sha256_of;
use crate::packet::AUDIT_ENFORCEMENT;
use crate::packet::model::{
    BrowserProxyStatus, DnsUdpStatus, DockerSocketStatus, Posture, RawSocketStatus,
    WebSocketFrameScanning,
};
use crate::probe::model::{ProbeResult, all_denied};
use crate::relay;

/// Schema of the document.
pub const SCHEMA: &str = "egress.boundary.v0";

/// Schema of `changes.json`.
const CHANGES_SCHEMA: &str = "egress.changes.v0";

/// That nothing but loopback is there to leave by.
pub(super) const NO_WAY_OUT: [&str; 2] = ["interface_other_than_lo", "route"];
/// That a connection to elsewhere ends at the relay.
const REDIRECTED: [&str; 4] = [
    "direct_tcp_ipv4",
    "direct_tcp_mapped",
    "direct_tcp_fast_open",
    "direct_tcp_ssh",
];
/// That no datagram leaves.
const NO_DATAGRAM: [&str; 4] = ["udp_sendto", "udp_sendmsg", "udp_connected", "dns_udp"];
/// That no container engine can be asked for anything.
const NO_ENGINE: [&str; 5] = [
    "docker_socket",
    "podman_socket",
    "containerd_socket",
    "buildkit_socket",
    "host_path_sockets",
];

/// Paths that the original names as not enforced. One leaves the list only when all its probes of
/// this run show it closed; one without a probe never does.
const UNSUPPORTED: [(&str, &[&[&str]]); 6] = [
    ("mcp_transports", &[]),
    ("nested_docker", &[&NO_ENGINE]),
    (
        "non_proxy_browser_egress",
        &[&NO_WAY_OUT, &REDIRECTED, &NO_DATAGRAM],
    ),
    ("service_containers", &[&NO_WAY_OUT, &REDIRECTED]),
    ("sibling_steps", &[]),
    ("ssh_egress", &[&NO_WAY_OUT, &REDIRECTED]),
];

fn unsupported(probes: &[ProbeResult]) -> Vec<String> {
    UNSUPPORTED
        .iter()
        .filter(|(_, needed)| {
            let closed = |names: &&[&str]| all_denied(probes, names);
            needed.is_empty() || !needed.iter().all(closed)
        })
        .map(|(path, _)| (*path).to_owned())
        .collect()
}

/// What the packet names as not enforced: the known paths, plain HTTP that went through tunnels
/// unseen, and each socket of the host that the caller opened.
fn not_enforced(run: &Collected) -> Vec<String> {
    let mut paths = unsupported(&run.measured.probes.results);
    if run.plan.mode == Mode::Audit {
        paths.push(String::from("everything"));
    }
    if plain_http(run) == PlainHttp::Tunnel {
        paths.push(String::from("plain_http_content"));
    }
    let opened = &run.measured.opened;
    paths.extend(
        opened
            .iter()
            .map(|one| format!("unix:{}", one.path.display())),
    );
    paths
}

/// How plain HTTP was asked of the mediator.
pub(super) fn plain_http(run: &Collected) -> PlainHttp {
    match &run.plan.mediator {
        MediatorChoice::Builtin => PlainHttp::Scan,
        MediatorChoice::Pipelock(choice) => choice.plain_http,
    }
}

/// The posture of the packet: every word follows from a probe or a fact of this run.
pub fn posture(run: &Collected) -> Posture {
    let probes = &run.measured.probes.results;
    let raw = ["raw_socket_ipv4", "raw_socket_ipv6", "packet_socket"];
    let raw_closed = all_denied(probes, &raw);
    let host_has_docker = std::fs::symlink_metadata("/var/run/docker.sock").is_ok();
    let docker = match (all_denied(probes, &["docker_socket"]), host_has_docker) {
        (true, true) => DockerSocketStatus::Denied,
        (true, false) => DockerSocketStatus::Absent,
        (false, _) => DockerSocketStatus::Unknown,
    };
    let no_way_out = all_denied(probes, &NO_WAY_OUT);
    let redirected = all_denied(probes, &REDIRECTED);
    let netns = if no_way_out { "_netns" } else { "" };
    let gates = if redirected { "_ebpf_cgroup" } else { "" };
    let is_audit = run.plan.mode == Mode::Audit;
    let inside = |text: String| (!is_audit).then_some(text);
    let [agent, host, _] = run.uids;
    Posture {
        enforcement_mode: if is_audit {
            AUDIT_ENFORCEMENT.to_owned()
        } else {
            format!("linux{netns}{gates}")
        },
        runner_os: String::from("Linux"),
        runner_arch: Some(runner_arch()),
        raw_socket_status: if raw_closed {
            RawSocketStatus::Denied
        } else {
            RawSocketStatus::Unknown
        },
        docker_socket_status: docker,
        dns_udp_status: if all_denied(probes, &["dns_udp"]) {
            DnsUdpStatus::Denied
        } else {
            DnsUdpStatus::Unknown
        },
        browser_proxy_status: if no_way_out && redirected {
            BrowserProxyStatus::Forced
        } else {
            BrowserProxyStatus::Unknown
        },
        // The built-in mediator scans nothing; a real one what comes by `/ws`, and no `wss://`.
        websocket_frame_scanning: match run.pipelock {
            None => WebSocketFrameScanning::Off,
            Some(_) => WebSocketFrameScanning::ExplicitWsProxyPathRequired,
        },
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
        unsupported_paths: not_enforced(run),
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
pub fn boundary(run: &Collected) -> io::Result<Vec<u8>> {
    let kernel = nix::sys::utsname::uname()?;
    let [agent, host, relay] = run.uids;
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
            "relay_sha256": relay::filter_digest().map_err(io::Error::other)?,
        },
        "agent": {"enforced": run.enforced, "user": AGENT_NAME, "uid": agent},
        "users": {"pipelock-agent": agent, "pipelock-host": host, "pipelock-relay": relay},
        "namespaces": run.measured.namespaces,
        "ipv6": run.measured.ipv6,
        "dns": run.plan.dns.label(),
        "allowed_ports": allowed_ports(run),
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
        "denied": denied_rows(run),
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
            "plain_http": plain_http(run).label(),
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

fn allowed_ports(run: &Collected) -> Vec<u16> {
    let mut ports = vec![80, 443];
    ports.extend(&run.plan.allowed_ports);
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Rows of the refused destinations, as many as a reader looks at.
fn denied_rows(run: &Collected) -> Vec<Value> {
    let row =
        |(denied, count): &(super::flows::Denied, u64)| json!({"count": count, "attempt": denied});
    run.denied.iter().take(200).map(row).collect()
}

/// Lowercase hex SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// SHA-256 of the running binary, read through its own inode.
fn own_digest() -> io::Result<String> {
    sha256_of(&mut std::fs::File::open("/proc/self/exe")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::model::Attempt;

    const ALL: [&str; 6] = [
        "mcp_transports",
        "nested_docker",
        "non_proxy_browser_egress",
        "service_containers",
        "sibling_steps",
        "ssh_egress",
    ];

    /// Results in which every probe was refused, but `other` came to something else.
    fn probed(other: &str, inside: &Attempt, outside: &Attempt) -> Vec<ProbeResult> {
        let text = || String::from("x");
        crate::run::probes::names()
            .map(|name| {
                let (inside, outside) = if name == other {
                    (inside.clone(), outside.clone())
                } else {
                    (Attempt::Refused(text()), Attempt::Reached(text()))
                };
                ProbeResult::conclude(name, inside, Some(outside))
            })
            .collect()
    }

    #[test]
    fn path_is_unsupported_until_every_probe_of_it_was_refused() {
        let text = || String::from("x");
        let refused = || Attempt::Refused(text());
        assert_eq!(unsupported(&[]), ALL);
        let closed = probed("", &refused(), &refused());
        assert_eq!(unsupported(&closed), ["mcp_transports", "sibling_steps"]);
        // A hole, a control that failed and nothing to be reached prove equally little.
        for (inside, outside) in [
            (Attempt::Reached(text()), Attempt::Reached(text())),
            (refused(), refused()),
            (refused(), Attempt::Absent(text())),
        ] {
            let route = probed("route", &inside, &outside);
            assert_eq!(
                unsupported(&route),
                [
                    "mcp_transports",
                    "non_proxy_browser_egress",
                    "service_containers",
                    "sibling_steps",
                    "ssh_egress"
                ]
            );
            let engine = probed("podman_socket", &inside, &outside);
            assert_eq!(
                unsupported(&engine),
                ["mcp_transports", "nested_docker", "sibling_steps"]
            );
        }
    }

    #[test]
    fn every_probe_that_a_claim_needs_exists() {
        let needed = UNSUPPORTED
            .iter()
            .flat_map(|(_, groups)| groups.iter().copied());
        for name in needed.flatten() {
            assert!(
                crate::run::probes::names().any(|known| known == *name),
                "{name}"
            );
        }
    }
}
