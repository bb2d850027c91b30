"""Members of `packet.json` that repeat another file, and its times (format/checks.md)."""

from __future__ import annotations

from typing import Any, Callable

from boundary import Boundary
from capsule import Capsule
from flows import FlowLog
from times import NANOSECONDS, time_or_none

_SLACK = 15 * NANOSECONDS
_CHECKED_WITHIN = 600 * NANOSECONDS
_RUN_MEMBERS = {
    "repository": "repository", "sha": "commit", "ref": "ref", "workflow": "workflow", "run_id": "run_id",
    "run_attempt": "run_attempt",
}
_ARCHITECTURES = {"x86_64": "X64", "aarch64": "ARM64"}

Differ = Callable[[str], None]


def check_members(
    packet: dict[str, Any], boundary: Boundary, capsule: Capsule | None, policy_mode: Any, differ: Differ
) -> None:
    """Compare each member with the value that another file states. An absent member is `None` and differs, too."""
    expected = _of_posture(boundary, capsule) | _of_policy(boundary, policy_mode) | {
        "packet_id": f"egress-{boundary.document.get('run_id', '')}",
        "verifier.output_file": "verifier.txt",
        "artifacts.packet": "packet.json",
        "artifacts.summary": "summary.md",
    }
    for name, value in expected.items():
        if _member(packet, name) != value:
            differ(f"{name} of packet.json is not {str(value)[:80]!r}")
    launch = capsule.document["evidence"].get("contain_launch") if capsule else None
    if launch and packet["posture"].get("agent_user") != launch["agent_user"]:
        differ("posture.agent_user of packet.json is not that of the capsule")
    hashes = packet["policy"]["policy_hashes"]
    if hashes != sorted(set(hashes), key=lambda text: text.encode("utf-8")):
        differ("policy.policy_hashes is not sorted")
    path = packet["policy"].get("runtime_config_path", "")
    if not path.endswith(f"{boundary.document.get('run_id', '')}/policy.yaml"):
        differ("policy.runtime_config_path does not end with the run and policy.yaml")
    _check_presence(packet, differ)


def _member(packet: dict[str, Any], name: str) -> Any:
    section, _, member = name.rpartition(".")
    return (packet.get(section, {}) if section else packet).get(member)


def _of_posture(boundary: Boundary, capsule: Capsule | None) -> dict[str, Any]:
    users = boundary.section("users")
    machine = boundary.section("kernel").get("machine", "")
    namespaces = boundary.document.get("namespaces", [])
    posture = {
        "runner_os": "Linux",
        "runner_arch": _ARCHITECTURES.get(machine, machine),
        "network_namespace": next((name for name in namespaces if name.startswith("net:")), None),
        "agent_user": boundary.section("agent").get("user", ""),
        "agent_uid": users.get("pipelock-agent"),
        "host_user": "pipelock-host",
        "host_uid": users.get("pipelock-host"),
        "host_ip": None,
        "agent_ip": "127.0.0.1",
    }
    launch = capsule.document["evidence"].get("contain_launch") if capsule else None
    if launch:
        posture["proxy_url"] = f"http://127.0.0.1:{launch['proxy_port']}"
    return {f"posture.{name}": value for name, value in posture.items()}


def _of_policy(boundary: Boundary, mode: Any) -> dict[str, Any]:
    policy = boundary.section("policy")
    is_builtin = boundary.mediator_kind == "builtin"
    scanner = {"dlp_patterns_count": 0, "response_patterns_count": 0, "ssrf_enabled": True, "redaction_enabled": False}
    scanner = {name: value if is_builtin else None for name, value in scanner.items()}
    scanner["flight_recorder_enabled"] = True
    if isinstance(mode, str):
        scanner["mode"] = mode
    return {f"scanner_config_snapshot.{name}": value for name, value in scanner.items()} | {
        "policy.config_path": policy.get("config"),
        "policy.config_snapshot_sha256": policy.get("sha256", ""),
    }


def _check_presence(packet: dict[str, Any], differ: Differ) -> None:
    has_receipts = packet["summary"]["receipt_count"] > 0
    stated = {
        "run.completed_at": True, "summary.transports": True, "summary.domains_touched": True,
        "verifier.receipt_count": True, "verifier.final_seq": has_receipts, "verifier.root_hash": has_receipts,
    }
    for name, is_stated in stated.items():
        # An empty root hash counts as absent.
        if (_member(packet, name) not in (None, "")) != is_stated:
            differ(f"{name} of packet.json is absent, or is present although there is no receipt")


def check_run(run: dict[str, Any], identity: dict[str, Any], differ: Differ) -> None:
    """Compare `run` of `packet.json` with `identity.json`."""
    provider = identity["provider"]
    fitting = {"github_actions": ("github_actions",), "local": ("local",), "ci": ("self_hosted",)}
    if run["provider"] not in fitting.get(provider, ("local", "self_hosted")):
        differ("run.provider does not follow from provider of identity.json")
    for name, other in _RUN_MEMBERS.items():
        expected = identity.get(other) if provider == "github_actions" else None
        if run.get(name) != expected:
            differ(f"run.{name} is not {other} of identity.json")


def check_times(packet: dict[str, Any], log: FlowLog, differ: Differ) -> None:
    """Compare the times in `packet.json` with the times in the flow log."""
    rows = log.of("supervisor")
    times = [time_or_none(row.get("ts")) or 0 for row in rows]
    gone = [time for row, time in zip(rows, times) if row.get("event") == "agent_gone"]
    if not times:
        return
    slack = _SLACK + log.clock
    run = packet["run"]
    compared = (
        ("run.started_at", run["started_at"], min(times), slack),
        ("run.completed_at", run.get("completed_at"), gone[-1] if gone else None, slack),
        ("generated_at", packet["generated_at"], max(times), slack + _CHECKED_WITHIN),
    )
    for name, text, seen, most in compared:
        if text is None or seen is None:
            continue
        stated = time_or_none(text)
        if stated is None or not -slack <= stated - seen <= most:
            differ(f"{name} of packet.json is not that of the flow log")
