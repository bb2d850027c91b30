//! Compares the members of `packet.json` that repeat other files of the packet. egress writes all of them, so an absent
//! member counts as a difference.
use pipelock_receipts::capsule::Capsule;

use super::format::boundary::BoundaryDocument;
use super::identity::Identity;
use super::model::{Packet, Provider, ScannerConfig};
use super::names::{POLICY_FILE, VERIFIER_FILE};

/// A member, its value, and the value in the other file.
pub(super) type Repeated = (&'static str, Option<String>, Option<String>);

pub(super) fn differences(
    packet: &Packet,
    boundary_document: &BoundaryDocument,
    capsule: Option<&Capsule>,
    identity: Option<&Identity>,
    policy_mode: Option<&str>,
) -> Vec<Repeated> {
    let mut all = of_posture(packet, boundary_document, capsule);
    all.extend(of_policy(packet, boundary_document, policy_mode));
    all.extend(
        identity
            .into_iter()
            .flat_map(|identity| of_run(packet, identity)),
    );
    let verifier = &packet.verifier;
    let is_there = |is: bool| is.then(|| String::from("stated"));
    // Without a receipt, there is no end of the chain.
    let has_receipts = packet.summary.receipt_count > 0;
    all.extend([
        (
            "verifier.output_file",
            verifier.output_file.clone(),
            text(VERIFIER_FILE),
        ),
        (
            "verifier.receipt_count",
            is_there(verifier.receipt_count.is_some()),
            text("stated"),
        ),
        (
            "verifier.final_seq",
            is_there(verifier.final_seq.is_some()),
            is_there(has_receipts),
        ),
        (
            "verifier.root_hash",
            is_there(
                verifier
                    .root_hash
                    .as_ref()
                    .is_some_and(|hash| !hash.is_empty()),
            ),
            is_there(has_receipts),
        ),
        (
            "summary.transports",
            is_there(packet.summary.transports.is_some()),
            text("stated"),
        ),
        (
            "summary.domains_touched",
            is_there(packet.summary.domains_touched.is_some()),
            text("stated"),
        ),
        (
            "artifacts.packet",
            Some(packet.artifacts.packet.clone()),
            text(super::names::PACKET_FILE),
        ),
        (
            "artifacts.summary",
            packet.artifacts.summary.clone(),
            text(super::names::SUMMARY_FILE),
        ),
        (
            "run.completed_at",
            is_there(packet.run.completed_at.is_some()),
            text("stated"),
        ),
        (
            "packet_id",
            packet.packet_id.clone(),
            Some(format!("egress-{}", boundary_document.run_id)),
        ),
    ]);
    all.retain(|(_, stated, repeated)| stated != repeated);
    all
}

/// Returns the value of a member that is always present.
#[expect(
    clippy::unnecessary_wraps,
    reason = "all members are compared as optional ones"
)]
fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn of_posture(
    packet: &Packet,
    boundary_document: &BoundaryDocument,
    capsule: Option<&Capsule>,
) -> Vec<Repeated> {
    let posture = &packet.posture;
    let launch = capsule.and_then(|capsule| capsule.evidence.contain_launch.as_ref());
    let architecture = match boundary_document.kernel.machine.as_str() {
        "x86_64" => "X64",
        "aarch64" => "ARM64",
        other => other,
    };
    let namespace = boundary_document
        .namespaces
        .iter()
        .find(|one| one.starts_with("net:"));
    let mut all = vec![
        (
            "posture.runner_os",
            Some(posture.runner_os.clone()),
            text("Linux"),
        ),
        (
            "posture.runner_arch",
            posture.runner_arch.clone(),
            text(architecture),
        ),
        (
            "posture.network_namespace",
            posture.network_namespace.clone(),
            namespace.map(ToString::to_string),
        ),
        (
            "posture.agent_user",
            posture.agent_user.clone(),
            Some(boundary_document.agent.user.to_string()),
        ),
        (
            "posture.agent_uid",
            posture.agent_uid.map(|uid| uid.to_string()),
            Some(boundary_document.users.agent.to_string()),
        ),
        (
            "posture.host_user",
            posture.host_user.clone(),
            text("pipelock-host"),
        ),
        (
            "posture.host_uid",
            posture.host_uid.map(|uid| uid.to_string()),
            Some(boundary_document.users.host.to_string()),
        ),
        ("posture.host_ip", posture.host_ip.clone(), None),
        (
            "posture.agent_ip",
            posture.agent_ip.clone(),
            text("127.0.0.1"),
        ),
    ];
    if let Some(launch) = launch {
        let url = format!("http://127.0.0.1:{}", launch.proxy_port);
        all.push(("posture.proxy_url", posture.proxy_url.clone(), Some(url)));
        all.push((
            "posture.agent_user",
            posture.agent_user.clone(),
            Some(launch.agent_user.clone()),
        ));
    }
    all
}

fn of_policy(
    packet: &Packet,
    boundary_document: &BoundaryDocument,
    mode: Option<&str>,
) -> Vec<Repeated> {
    let policy = &packet.policy;
    let nothing = ScannerConfig::default();
    let scanner = packet.scanner_config_snapshot.as_ref().unwrap_or(&nothing);
    let is_builtin = boundary_document.mediator.is_builtin();
    let known = |value: &str| is_builtin.then(|| value.to_owned());
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let flag = |flag: Option<bool>| flag.map(|flag| flag.to_string());
    // The directory of all runs may differ between machines, but not the name of the run's directory.
    let ending = format!("{}/{POLICY_FILE}", boundary_document.run_id);
    let path = policy.runtime_config_path.as_deref();
    let shown = path.map(|path| {
        path.get(path.len().saturating_sub(ending.len())..)
            .unwrap_or(path)
            .to_owned()
    });
    let mut hashes = policy.policy_hashes.clone();
    hashes.sort();
    hashes.dedup();
    let mut all = vec![
        (
            "policy.policy_hashes",
            Some(policy.policy_hashes.join(" ")),
            Some(hashes.join(" ")),
        ),
        (
            "policy.config_path",
            policy.config_path.clone(),
            boundary_document
                .policy
                .config
                .as_ref()
                .map(ToString::to_string),
        ),
        ("policy.runtime_config_path", shown, Some(ending)),
        (
            "policy.config_snapshot_sha256",
            policy.config_snapshot_sha256.clone(),
            Some(boundary_document.policy.sha256.to_string()),
        ),
        (
            "scanner_config_snapshot.dlp_patterns_count",
            number(scanner.dlp_patterns_count),
            known("0"),
        ),
        (
            "scanner_config_snapshot.response_patterns_count",
            number(scanner.response_patterns_count),
            known("0"),
        ),
        (
            "scanner_config_snapshot.ssrf_enabled",
            flag(scanner.ssrf_enabled),
            known("true"),
        ),
        (
            "scanner_config_snapshot.redaction_enabled",
            flag(scanner.redaction_enabled),
            known("false"),
        ),
        (
            "scanner_config_snapshot.flight_recorder_enabled",
            flag(scanner.flight_recorder_enabled),
            text("true"),
        ),
    ];
    if let Some(mode) = mode {
        all.push((
            "scanner_config_snapshot.mode",
            scanner.mode.clone(),
            text(mode),
        ));
    }
    all
}

/// Returns the members about the run. `packet.json` contains these members only for GitHub.
fn of_run(packet: &Packet, identity: &Identity) -> Vec<Repeated> {
    let run = &packet.run;
    let is_github = identity.provider == "github_actions";
    let provider = match run.provider {
        Provider::GithubActions => "github_actions",
        Provider::Local => "local",
        Provider::SelfHosted => "self_hosted",
    };
    // Not every CI system sets the variable that distinguishes it from a local machine.
    let expected = match identity.provider.as_str() {
        "github_actions" | "local" => identity.provider.as_str(),
        "ci" => "self_hosted",
        _ if provider == "local" => "local",
        _ => "self_hosted",
    };
    let value = |name: &str| {
        identity
            .value(name)
            .filter(|_| is_github)
            .map(str::to_owned)
    };
    vec![
        ("run.provider", text(provider), text(expected)),
        (
            "run.repository",
            run.repository.clone(),
            value("repository"),
        ),
        ("run.sha", run.sha.clone(), value("commit")),
        ("run.ref", run.git_ref.clone(), value("ref")),
        ("run.workflow", run.workflow.clone(), value("workflow")),
        ("run.run_id", run.run_id.clone(), value("run_id")),
        (
            "run.run_attempt",
            run.run_attempt.clone(),
            value("run_attempt"),
        ),
    ]
}
