"""`packet.json`: schema, rules, and comparison with the receipts (format/documents.md)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import schema
import strictjson
from errors import Findings, FormError
from evidence import Evidence
from files import safe_name
from receipts import Receipt
from targets import receipt_host
from times import NANOSECONDS, time_or_none

VERDICTS = ("valid", "self_consistent_only", "invalid", "error", "not_run")
TOTALS = ("allow", "block", "warn", "ask", "strip", "forward", "redirect", "other")
_COUNTS = schema.mapping(schema.unsigned)

_SCHEMA = schema.obj({
    "schema_version": schema.string,
    "packet_id?": schema.string,
    "generated_at": schema.string,
    "run": schema.obj({
        "provider": schema.exactly("github_actions", "self_hosted", "local"),
        "repository?": schema.string,
        "sha?": schema.string,
        "ref?": schema.string,
        "workflow?": schema.string,
        "run_id?": schema.string,
        "run_attempt?": schema.string,
        "agent_identity": schema.string,
        "started_at": schema.string,
        "completed_at?": schema.string,
        "agent_exit_code?": schema.integer,
    }),
    "policy": schema.obj({
        "policy_hashes": schema.array(schema.string),
        "config_path?": schema.string,
        "runtime_config_path?": schema.string,
        "config_snapshot_sha256?": schema.string,
    }),
    "summary": schema.obj({
        "receipt_count": schema.unsigned,
        "totals": schema.obj({name: schema.unsigned for name in TOTALS}),
        "transports?": _COUNTS,
        "layers?": _COUNTS,
        "domains_touched?": schema.array(schema.string),
    }),
    "verifier": schema.obj({
        "verdict": schema.exactly(*VERDICTS),
        "trusted": schema.boolean,
        "receipt_count?": schema.unsigned,
        "root_hash?": schema.string,
        "final_seq?": schema.unsigned,
        "signer_key?": schema.string,
        "output_file?": schema.string,
        "error?": schema.string,
    }),
    "receipts?": schema.array(schema.mapping(schema.anything)),
    "scanner_config_snapshot?": schema.obj({
        "mode?": schema.string,
        "dlp_patterns_count?": schema.unsigned,
        "response_patterns_count?": schema.unsigned,
        "ssrf_enabled?": schema.boolean,
        "redaction_enabled?": schema.boolean,
        "flight_recorder_enabled?": schema.boolean,
    }),
    "posture": schema.obj({
        "enforcement_mode": schema.string,
        "runner_os": schema.string,
        "runner_arch?": schema.string,
        "raw_socket_status": schema.exactly("denied", "allowed", "unknown"),
        "docker_socket_status": schema.exactly("denied", "absent", "allowed", "masked", "unknown"),
        "dns_udp_status": schema.exactly("denied", "allowed", "proxied", "unknown"),
        "browser_proxy_status": schema.exactly("forced", "absent", "advisory", "unknown"),
        "websocket_frame_scanning": schema.exactly("always_on", "explicit_ws_proxy_path_required", "off"),
        "network_namespace?": schema.string,
        "agent_user?": schema.string,
        "agent_uid?": schema.integer,
        "host_user?": schema.string,
        "host_uid?": schema.integer,
        "host_ip?": schema.string,
        "agent_ip?": schema.string,
        "proxy_url?": schema.string,
        "script_basename?": schema.string,
        "script_arg_count?": schema.unsigned,
        "unsupported_paths": schema.array(schema.string),
    }),
    "artifacts": schema.obj({
        "packet": schema.string,
        "evidence": schema.string,
        "verifier": schema.string,
        "summary?": schema.string,
    }),
})
_INLINE = (
    "action_id chain_prev_hash verdict policy_hash timestamp action_type transport method layer pattern severity"
).split()


def read_packet(data: bytes, findings: Findings) -> dict[str, Any] | None:
    """Parse `packet.json`, and check everything that needs no other file; return it if it matches its schema."""
    try:
        packet = strictjson.parse_bytes(data)
    except FormError as error:
        findings.error("packet.json", str(error))
        return None
    try:
        _SCHEMA(packet, "packet.json")
    except FormError as error:
        findings.error("packet.schema", str(error))
        return None
    _check_rules(packet, findings)
    for name in packet["artifacts"].values():
        try:
            safe_name(name)
        except FormError as error:
            findings.error("packet.path", str(error))
    if packet["posture"]["enforcement_mode"] == "none_audit":
        findings.error("packet.audit_mode", "the packet is of an audit: nothing was enforced")
    return packet


def _check_rules(packet: dict[str, Any], findings: Findings) -> None:
    verifier, summary, run = packet["verifier"], packet["summary"], packet["run"]
    domains = [name.encode("utf-8") for name in summary.get("domains_touched", [])]
    is_valid = verifier["verdict"] == "valid"
    rules = (
        (packet["schema_version"] == "pipelock.audit_packet.v0", "schema_version is not pipelock.audit_packet.v0"),
        (run["agent_identity"] != "", "agent_identity is empty"),
        (run["started_at"] != "", "started_at is empty"),
        (sum(summary["totals"].values()) == summary["receipt_count"], "the totals do not add up to receipt_count"),
        (all(a < b for a, b in zip(domains, domains[1:])), "domains_touched is not in ascending order"),
        (verifier["trusted"] == is_valid, "trusted is not that of the verdict"),
        (not is_valid or verifier.get("signer_key"), "a valid packet does not name a signer_key"),
        (packet["posture"]["enforcement_mode"] != "", "enforcement_mode is empty"),
        (packet["posture"]["runner_os"] != "", "runner_os is empty"),
    )
    for holds, text in rules:
        if not holds:
            findings.error("packet.rule", text)


def _totals(evidence: Evidence) -> dict[str, int]:
    totals = dict.fromkeys(TOTALS, 0)
    for receipt in evidence.receipts:
        word = receipt.record["verdict"].strip().lower()
        totals[word if word in totals else "other"] += 1
    totals["other"] += evidence.rewritten
    if not evidence.receipts:
        totals["other"] += len(evidence.decisions)
    return totals


def compare_with_receipts(
    packet: dict[str, Any], evidence: Evidence, pinned: list[str], clock_set_ms: int, findings: Findings
) -> None:
    """Compare the members of `packet.json` with the evidence."""
    verifier, summary = packet["verifier"], packet["summary"]
    receipts = evidence.receipts
    if receipts:
        count, root, last_seq = len(receipts), receipts[-1].hash, receipts[-1].record["chain_seq"]
    elif evidence.decisions:
        last = evidence.decisions[-1]
        count, root, last_seq = len(evidence.decisions), last.hash, last.detail["chain_seq"]
    else:
        count, root, last_seq = 0, None, None
    count += evidence.rewritten
    if summary["receipt_count"] != count or verifier.get("receipt_count", count) != count:
        findings.error("packet.count", "the packet counts other receipts than the evidence has")
    if summary["totals"] != _totals(evidence):
        findings.error("packet.count", "the packet counts other verdicts than the evidence has")
    if (verifier.get("root_hash") or root) != root or verifier.get("final_seq", last_seq) != last_seq:
        findings.error("packet.root", "the packet states another last receipt than the evidence has")
    key = verifier.get("signer_key", "").lower()
    if key and (key not in evidence.signers or (pinned and key not in pinned)):
        findings.error("packet.signer", "the signer in packet.json is not the signer of the receipts, or is not pinned")
    _check_verdict(verifier["verdict"], evidence.verdict, findings)
    _check_inline(packet.get("receipts", []), receipts, findings)
    _check_display(packet, receipts, findings)
    _check_identity(packet["run"]["agent_identity"], receipts, findings)
    _check_times(packet, clock_set_ms, findings)


def _check_verdict(stated: str, found: str, findings: Findings) -> None:
    fitting = {
        "valid": ("valid", "self_consistent_only"),
        "self_consistent_only": ("valid", "self_consistent_only"),
        "invalid": ("invalid", "error"),
        "error": ("error",),
        "not_run": (found,),
    }
    if found not in fitting[stated]:
        findings.error("packet.verdict", f"the packet states {stated}, and the receipts are {found}")


def _check_inline(items: list[dict[str, Any]], receipts: list[Receipt], findings: Findings) -> None:
    by_seq = {receipt.record["chain_seq"]: receipt for receipt in receipts}
    seen: set[int] = set()
    for item in items:
        seq = item.get("chain_seq")
        receipt = by_seq.get(seq) if type(seq) is int else None
        if receipt is None or seq in seen:
            findings.error("packet.receipts", "a receipt in the packet is not one of the evidence")
            continue
        seen.add(seq)
        for name in _INLINE:
            if name in item and item[name] != receipt.record.get(name):
                findings.error("packet.receipts", f"{name} of a receipt in the packet differs from the evidence")
        stated = item.get("receipt_hash", receipt.hash)
        if not isinstance(stated, str) or stated.removeprefix("sha256:") != receipt.hash:
            findings.error("packet.receipts", "receipt_hash of a receipt in the packet differs from the evidence")


def _check_display(packet: dict[str, Any], receipts: list[Receipt], findings: Findings) -> None:
    blocked = [r for r in receipts if r.record["verdict"].strip().lower() == "block"]
    domains = {receipt_host(r.record["target"]) for r in receipts if not r.is_session_record} - {None}
    real = {
        "transports": dict(Counter(r.record["transport"] for r in receipts)),
        "layers": dict(Counter(r.text("layer") for r in blocked if r.text("layer"))),
        "domains_touched": sorted(domains, key=lambda name: name.encode("utf-8")),
    }
    for name, value in real.items():
        if packet["summary"].get(name, value) != value:
            findings.error("packet.display", f"summary.{name} is not that of the receipts")
    stated = {text.removeprefix("sha256:") for text in packet["policy"]["policy_hashes"]}
    if stated != {r.record["policy_hash"].removeprefix("sha256:") for r in receipts} - {""}:
        findings.error("packet.display", "policy.policy_hashes is not that of the receipts")


def _check_identity(stated: str, receipts: list[Receipt], findings: Findings) -> None:
    actors = {receipt.record["actor"] for receipt in receipts} - {"pipelock"}
    if actors and stated not in actors:
        findings.error("packet.identity", "no receipt has the packet's agent as its actor")


def _check_times(packet: dict[str, Any], clock_set_ms: int, findings: Findings) -> None:
    run = packet["run"]
    texts = [run["started_at"], *([run["completed_at"]] if "completed_at" in run else []), packet["generated_at"]]
    times = [time_or_none(text) for text in texts]
    if None in times:
        findings.error("packet.time", "a time of the packet is malformed")
        return
    slack = NANOSECONDS + clock_set_ms * 1_000_000
    if any(before > after + slack for before, after in zip(times, times[1:])):
        findings.error("packet.time", "the times of the packet are not in order")
