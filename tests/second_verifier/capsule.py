"""`posture-capsule.json`: schema, signature, binding, and window (format/boundary.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import crypto
import schema
import strictjson
from errors import Findings, FormError
from evidence import Evidence
from schema import array, boolean, integer, mapping, nullable, obj, string
from times import is_normal, parse_time, time_or_none


def _normal_time(value: Any, where: str) -> None:
    string(value, where)
    if not is_normal(value):
        raise FormError(f"{where} is not a normal time")


_DISCOVER = (
    "total_clients total_servers protected_pipelock protected_other unprotected unknown high_risk parse_errors"
).split()
_CONTAINMENT = obj({
    "mode": string,
    "boundary_verified": boolean,
    "probe_refused_direct_egress": boolean,
    "kernel_rule_hash?": string,
    "target_uid": string,
})
_LAUNCH = obj({
    "launcher": string, "agent_user": string, "target_uid": string, "target_gid": string, "tool": string,
    "argv_sha256": string, "cwd": string, "proxy_port": integer, "argc": integer,
    "env_vars?": nullable(array(string)), "env_sha256": string,
    "target_groups?": nullable(array(string)),
})
_SCENARIO = obj({
    "name": string, "category": string, "detected": boolean, "detail?": string, "limitation?": boolean,
})
_FORM = obj({
    "schema_version": schema.exactly("1"),
    "generated_at": _normal_time,
    "expires_at": _normal_time,
    "tool_version": string,
    "config_hash": string,
    "evidence": obj({
        "containment?": nullable(_CONTAINMENT),
        "contain_launch?": nullable(_LAUNCH),
        "discover": obj({name: integer for name in _DISCOVER}),
        "verify_install": obj({"flight_recorder_active": boolean, "proxying": boolean, "receipt_count": integer}),
        "simulate": obj({
            "total": integer, "passed": integer, "failed": integer, "known_limitations": integer,
            "percentage": integer, "grade": string, "mode": string, "config_file?": string,
            "scenarios?": nullable(array(_SCENARIO)),
        }),
        "flight_recorder": obj({
            "receipt_count": integer, "last_receipt_at?": nullable(string),
            "scanner_verdict?": nullable(mapping(obj({"allow": integer, "block": integer, "warn": integer}))),
        }),
    }),
    "signature": schema.matching("[0-9a-f]{128}"),
    "signer_key_id": schema.digest,
})


@dataclass
class Capsule:
    """A capsule that matches its schema."""

    document: dict[str, Any]
    hash: str

    @property
    def signer(self) -> str:
        """The boundary key that the capsule names."""
        return self.document["signer_key_id"]

    @property
    def containment(self) -> dict[str, Any] | None:
        """The summary of the measurements."""
        return self.document["evidence"].get("containment")

    @property
    def identity_hash(self) -> str | None:
        """SHA-256 of the `identity.json` that the capsule binds, or `None` if it binds none."""
        launch = self.document["evidence"].get("contain_launch")
        return launch["env_sha256"] if launch else None


def _drop(members: dict[str, Any], name: str) -> None:
    if not members.get(name):
        members.pop(name, None)


def _normalized(document: dict[str, Any]) -> dict[str, Any]:
    """Return a copy in which empty members are left out, or written as `null`, as in the canonical form."""
    document = dict(document)
    evidence = document["evidence"] = dict(document["evidence"])
    for name in ("containment", "contain_launch"):
        if evidence.get(name) is None:
            evidence.pop(name, None)
        else:
            evidence[name] = dict(evidence[name])
    if "containment" in evidence:
        _drop(evidence["containment"], "kernel_rule_hash")
    if "contain_launch" in evidence:
        evidence["contain_launch"] = {"target_groups": None, "env_vars": None} | evidence["contain_launch"]
    evidence["simulate"] = {"scenarios": None} | evidence["simulate"]
    _drop(evidence["simulate"], "config_file")
    if evidence["simulate"]["scenarios"] is not None:
        scenarios = evidence["simulate"]["scenarios"] = [dict(item) for item in evidence["simulate"]["scenarios"]]
        for scenario in scenarios:
            _drop(scenario, "detail")
            _drop(scenario, "limitation")
    recorder = evidence["flight_recorder"] = {"scanner_verdict": None} | evidence["flight_recorder"]
    if recorder.get("last_receipt_at") is None:
        recorder.pop("last_receipt_at", None)
    return document


def read_capsule(data: bytes, findings: Findings) -> Capsule | None:
    """Parse the capsule and check its signature. Return the capsule if it matches the schema."""
    try:
        document = strictjson.parse_bytes(data)
        _FORM(document, "capsule")
        normalized = _normalized(document)
        whole = strictjson.canonical(normalized)
    except FormError as error:
        findings.error("capsule.form", str(error))
        return None
    signed = {name: value for name, value in normalized.items() if name not in ("signature", "signer_key_id")}
    signature = bytes.fromhex(document["signature"])
    if not crypto.verify(document["signer_key_id"], signature, strictjson.canonical(signed).encode("utf-8")):
        findings.error("capsule.signature", "the capsule is not signed by the key that it names")
    return Capsule(document, crypto.sha256(whole))


def check_binding(capsule: Capsule, evidence: Evidence, findings: Findings) -> bool:
    """Compare the capsule with the last `session_open`; return whether the receipts bind it."""
    opened = evidence.opens[-1] if evidence.opens else {}
    if not opened.get("posture_capsule_sha256"):
        findings.warning("capsule.unbound", "no receipt binds the capsule")
        return False
    uid = (capsule.containment or {}).get("target_uid", "")
    compared = (
        ("capsule.hash", "posture_capsule_sha256", capsule.hash),
        ("capsule.key-id", "posture_signer_key_id", capsule.signer),
        ("capsule.nonce", "containment_nonce", capsule.document["signature"]),
        ("capsule.uid", "contained_uid", uid),
    )
    is_bound = True
    for rule, name, value in compared:
        if (opened.get(name) or "") != value:
            findings.error(rule, f"{name} of session_open is not that of the capsule")
            is_bound = False
    return is_bound


def check_window(capsule: Capsule, evidence: Evidence, clock_set_ms: int, findings: Findings) -> None:
    """Check that the capsule is valid at the times of the receipts."""
    start, end = (parse_time(capsule.document[name]) for name in ("generated_at", "expires_at"))
    if start > end:
        findings.error("capsule.window", "the capsule expires before it is generated")
    for receipt in evidence.receipts[:1] + evidence.receipts[-1:]:
        time = time_or_none(receipt.record["timestamp"])
        if time is None or not start - clock_set_ms * 1_000_000 <= time <= end:
            findings.error("capsule.window", "a receipt is not within the validity of the capsule")
