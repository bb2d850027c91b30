"""Statements of several files that must be equal (format/checks.md, "Statements that are compared")."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import crypto
import schema
import strictjson
from archive import is_of_changes
from attestation import Attestation
from boundary import Boundary
from changed import impossible
from capsule import Capsule
from course import check_links
from errors import Findings, FormError, Unreadable
from files import PacketFiles
from flows import RELAY_VERDICTS, FlowLog
from members import check_members, check_run, check_times
from places import intercepts

_WAY_OUT = ("interface_other_than_lo", "route")
_REDIRECTED = ("direct_tcp_ipv4", "direct_tcp_mapped", "direct_tcp_fast_open", "direct_tcp_ssh")
_UDP = ("udp_sendto", "udp_sendmsg", "udp_connected", "dns_udp")
_SOCKETS = ("docker_socket", "podman_socket", "containerd_socket", "buildkit_socket", "host_path_sockets")
_TEXT = schema.nullable(schema.string)
_IDENTITY = schema.obj({
    "schema_version": schema.exactly("egress.identity.v0"),
    "provider": schema.string,
    "repository?": _TEXT, "commit?": _TEXT, "ref?": _TEXT, "workflow?": _TEXT,
    "job?": _TEXT, "run_id?": _TEXT, "run_attempt?": _TEXT, "runner?": _TEXT,
    "runner_image?": _TEXT, "bind?": schema.mapping(schema.string),
    "nonce?": _TEXT,
})


def _reason(value: Any, where: str) -> None:
    """Accept a word, `{"io": TEXT}`, or `null`."""
    if isinstance(value, dict):
        schema.obj({"io": schema.string}, is_open=True)(value, where)
    else:
        schema.nullable(schema.string)(value, where)


_CHANGES = schema.obj({
    "schema_version?": schema.string,
    "mode": schema.string,
    "changes": schema.array(schema.obj({
        "change": schema.string, "kind": schema.string, "outcome": schema.string, "path?": schema.string,
        "from?": _TEXT, "mode?": _TEXT, "size?": schema.nullable(schema.unsigned), "sha256?": _TEXT, "target?": _TEXT,
        "setid_dropped?": schema.boolean, "reduced?": schema.boolean, "reason?": _reason,
    }, is_open=True)),
}, is_open=True)
_ARCHIVE = "workspace-changes.tar"
_PROBE_OUTCOMES = ("denied", "reachable", "not_applicable", "control_failed")
_CHANGE_OUTCOMES = ("applied", "refused", "conflicts", "discarded")
_MEMBERS = {"conflict": "conflicts"}


@dataclass
class PacketParts:
    """The documents of a packet; a part is `None` if its file is missing or malformed."""

    packet: dict[str, Any]
    boundary: Boundary
    capsule: Capsule | None
    attestation: Attestation | None
    log: FlowLog | None
    policy: bytes | None
    identity: bytes | None
    changes: bytes | None
    names: list[str]
    files: PacketFiles
    rules: dict[str, Any]


def check_statements(parts: PacketParts, findings: Findings) -> list[str]:
    """Compare the files of a packet with each other, and return the reasons that cap the grade."""
    def differ(text: str) -> None:
        findings.error("packet.statement", text)

    _check_users(parts, differ)
    _check_policy(parts, differ)
    _check_interception(parts, differ)
    _check_run(parts, differ)
    _check_probes(parts.boundary, differ)
    reasons = _check_changes(parts, differ)
    _check_identity(parts, findings)
    _check_posture(parts, differ)
    _check_rows(parts, differ)
    check_links(parts.boundary, differ)
    check_members(parts.packet, parts.boundary, parts.capsule, parts.rules.get("mode"), differ)
    if parts.log:
        check_times(parts.packet, parts.log, differ)
    return reasons


def _check_users(parts: PacketParts, differ: Any) -> None:
    uid = parts.boundary.uid
    if parts.boundary.section("agent").get("enforced", {}).get("uid", 0) != uid:
        differ("agent.enforced.uid is not agent.uid")
    if parts.packet["posture"].get("agent_uid", uid) != uid:
        differ("posture.agent_uid is not agent.uid")
    if parts.capsule and parts.capsule.containment and parts.capsule.containment["target_uid"] != str(uid):
        differ("containment.target_uid is not agent.uid")
    launch = parts.capsule.document["evidence"].get("contain_launch") if parts.capsule else None
    if launch and launch["target_uid"] != str(uid):
        differ("contain_launch.target_uid is not agent.uid")


def _check_policy(parts: PacketParts, differ: Any) -> None:
    if parts.policy is None:
        differ("policy.yaml is missing")
        return
    found = crypto.sha256(parts.policy)
    if parts.capsule and parts.capsule.document["config_hash"] != found:
        differ("config_hash of the capsule is not that of policy.yaml")
    if parts.boundary.section("policy").get("sha256", "") != found:
        differ("policy.sha256 of boundary.json is not that of policy.yaml")
    pipelock = parts.boundary.section("mediator").get("pipelock")
    recorder = parts.rules.get("flight_recorder")
    redacts = isinstance(recorder, dict) and recorder.get("redact") is True
    if pipelock is not None and pipelock.get("redact", False) is not redacts:
        differ("mediator.pipelock.redact of boundary.json is not flight_recorder.redact of policy.yaml")


def _check_interception(parts: PacketParts, differ: Any) -> None:
    if parts.policy is None:
        return
    is_pipelock = parts.boundary.mediator_kind == "pipelock"
    is_stated = parts.boundary.document.get("tls_interception") is not None
    if is_stated != (is_pipelock and intercepts(parts.rules)):
        differ("tls_interception of boundary.json does not follow from policy.yaml")


def _check_run(parts: PacketParts, differ: Any) -> None:
    run_id = parts.boundary.document.get("run_id", "")
    tool = f"egress-{parts.boundary.section('egress').get('version', '')}"
    if parts.capsule and parts.capsule.document["tool_version"] != tool:
        differ("tool_version of the capsule is not egress.version")
    if parts.attestation is None:
        return
    if parts.attestation.predicate["tool"] != tool:
        differ("predicate.tool is not egress.version")
    if parts.attestation.predicate["run_id"] != run_id:
        differ("predicate.run_id is not that of the run")
    key = parts.boundary.section("attestation").get("key")
    if key and parts.attestation.signer is not None and key != parts.attestation.signer:
        differ("attestation.key of boundary.json is not the attestation's signer")


def _is_counted(stated: dict[str, int], names: tuple[str, ...], outcomes: Counter[str]) -> bool:
    """Whether each outcome occurs as often as `stated` states, and every outcome is in `names`."""
    return {name: stated.get(name, 0) for name in names} == dict.fromkeys(names, 0) | outcomes


def _check_probes(boundary: Boundary, differ: Any) -> None:
    if len({result["name"] for result in boundary.results}) != len(boundary.results):
        differ("a probe has two results")
    outcomes = Counter(result["outcome"] for result in boundary.results)
    if not _is_counted(boundary.document["probes"].get("counts", {}), _PROBE_OUTCOMES, outcomes):
        differ("probes.counts is not the number of results by outcome")


def _check_changes(parts: PacketParts, differ: Any) -> list[str]:
    workspace = parts.boundary.section("workspace")
    counts = workspace.get("changes")
    if (counts is not None) != (parts.changes is not None):
        differ(
            "changes.json exists although boundary.json counts no changes, "
            "or is missing although boundary.json counts changes"
        )
        return []
    if counts is None or parts.changes is None:
        return []
    try:
        document = strictjson.parse_bytes(parts.changes)
        _CHANGES(document, "changes.json")
    except FormError as error:
        differ(str(error))
        return []
    if workspace.get("mode") in ("direct", "read-only"):
        differ("boundary.json counts changes, although the command worked on the workspace itself")
    if document["mode"] != workspace.get("mode", ""):
        differ("mode of changes.json is not workspace.mode")
    kept = [change for change in document["changes"] if change["outcome"] != "applied"]
    if any((change.get("reason") is None) == (change["outcome"] != "applied") for change in document["changes"]):
        differ("a change that was not applied has no reason, or an applied change has a reason")
    if document["mode"] == "copy":
        kept = []
    has_files = any(change["kind"] == "file" and change["change"] != "deleted" for change in kept)
    if "attestation.json" in parts.names and not has_files <= (_ARCHIVE in parts.names) <= bool(kept):
        differ(f"{_ARCHIVE} is missing, or is present although every change was applied")
    elif "attestation.json" in parts.names and not _fits_archive(parts, document["changes"]):
        differ(f"{_ARCHIVE} is not that of the changes")
    outcomes = Counter(_MEMBERS.get(change["outcome"], change["outcome"]) for change in document["changes"])
    if not _is_counted(counts, _CHANGE_OUTCOMES, outcomes):
        differ("workspace.changes is not the number of changes by outcome")
    return impossible(document["changes"], workspace)


def _fits_archive(parts: PacketParts, changes: list[dict[str, Any]]) -> bool:
    """Whether the archive fits the changes. An archive that is not signed is not read."""
    subjects = parts.attestation.statement["subject"] if parts.attestation and parts.attestation.signer else []
    if _ARCHIVE not in parts.names or not any(subject["name"] == _ARCHIVE for subject in subjects):
        return True
    try:
        file = parts.files.open_itself(_ARCHIVE)
    except Unreadable:
        return True
    with file:
        return is_of_changes(file, changes)


def _check_identity(parts: PacketParts, findings: Findings) -> None:
    bound = parts.capsule.identity_hash if parts.capsule else None
    found = crypto.sha256(parts.identity) if parts.identity is not None else None
    if bound != found:
        findings.error("identity.bound", "identity.json is not the file that the capsule binds")
    if parts.identity is None:
        return
    try:
        identity = strictjson.parse_bytes(parts.identity)
        _IDENTITY(identity, "identity.json")
    except FormError as error:
        findings.error("identity.form", str(error))
        return
    check_run(parts.packet["run"], identity, lambda text: findings.error("packet.statement", text))


def _unsupported(boundary: Boundary) -> list[str]:
    holds = boundary.holds
    words = (
        ("mcp_transports", True),
        ("nested_docker", not holds(*_SOCKETS)),
        ("non_proxy_browser_egress", not holds(*_WAY_OUT, *_REDIRECTED, *_UDP)),
        ("service_containers", not holds(*_WAY_OUT, *_REDIRECTED)),
        ("sibling_steps", True),
        ("ssh_egress", not holds(*_WAY_OUT, *_REDIRECTED)),
        ("everything", boundary.is_audit),
        ("plain_http_content", boundary.section("mediator").get("plain_http") == "tunnel"),
    )
    sockets = boundary.document.get("allowed_unix", [])
    return [word for word, is_listed in words if is_listed] + [f"unix:{item.get('path', '')}" for item in sockets]


def _check_posture(parts: PacketParts, differ: Any) -> None:
    boundary, posture = parts.boundary, parts.packet["posture"]
    is_out, is_redirected = boundary.holds(*_WAY_OUT), boundary.holds(*_REDIRECTED)
    mode = "linux" + ("_netns" if is_out else "") + ("_ebpf_cgroup" if is_redirected else "")
    is_raw = boundary.holds("raw_socket_ipv4", "raw_socket_ipv6", "packet_socket")
    expected: dict[str, tuple[Any, ...]] = {
        "enforcement_mode": (mode,),
        "raw_socket_status": ("denied" if is_raw else "unknown",),
        "docker_socket_status": ("denied", "absent") if boundary.holds("docker_socket") else ("unknown",),
        "dns_udp_status": ("denied" if boundary.holds("dns_udp") else "unknown",),
        "browser_proxy_status": ("forced" if is_out and is_redirected else "unknown",),
        "websocket_frame_scanning": (
            "off" if boundary.mediator_kind == "builtin" else "explicit_ws_proxy_path_required",
        ),
        "unsupported_paths": (_unsupported(boundary),),
    }
    for name, values in expected.items():
        if posture[name] not in values:
            differ(f"posture.{name} does not follow from the probes")


def _check_rows(parts: PacketParts, differ: Any) -> None:
    if parts.log is None or parts.boundary.incomplete:
        return
    stated = parts.boundary.document["flows"].get("by_relay_verdict", {})
    words = [row.get("verdict") for row in parts.log.of("relay")]
    found = Counter(word if word in RELAY_VERDICTS else "unknown" for word in words)
    if stated != dict(found):
        differ("flows.by_relay_verdict is not that of the flow log")


def check_flows(boundary: Boundary, log: FlowLog, findings: Findings) -> None:
    """Check that the flow log is the one that `boundary.json` names."""
    flows = boundary.document["flows"]
    if (flows["sha256"], flows["head"], flows["rows"]) != (log.sha256, log.head, log.count):
        findings.error("boundary.flows", "flows.jsonl is not the log that boundary.json names")
