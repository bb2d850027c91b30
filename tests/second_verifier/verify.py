#!/usr/bin/env python3
"""Verify Audit Packets without any code of egress.

Prints one JSON object for each packet, each on a line. Exits with 0 if every packet is valid and the end of its
receipts is proven, with 2 if the command line is wrong, and otherwise with 1. The verifier does not render
`summary.md`, `verifier.txt`, and `report.html` again, so it does not detect changes of their text.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from actions import read_actions
from attestation import Attestation, check_signer, check_subjects, read_attestation
from boundary import Boundary, observed_caps, read_boundary
from capsule import Capsule, check_binding, check_window, read_capsule
from compare import compare, enforced_list
from counted import check_counted, counter_caps
from course import observed_caps_of_course
from crypto import load_key, sha256
from errors import Findings, FormError, TooLong, Unreadable
from evidence import Evidence, EvidenceReader
from files import MAX_LOG, PacketFiles
from flows import FlowLog, broken_conditions, read_flows
from forms import deviations
from grade import Caps, packet_verdict, predicate_fits
from joined import contradictions
from packet import compare_with_receipts, read_packet
from statements import PacketParts, check_flows, check_statements
from times import time_or_none
from yamlsubset import parse_policy


_NOT_COMPARED = "the text of summary.md, verifier.txt, and report.html was not compared"


@dataclass
class Result:
    """The results of the check of one packet."""

    path: str
    verdict: str = "error"
    end: str = "unproven"
    grade: str = "none"
    errors: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    comparison: dict[str, Any] = field(default_factory=dict)

    def add(self, findings: Findings) -> None:
        """Add the errors of one step."""
        for rule, text in findings.errors:
            self.errors.append(rule)
            self.reasons.append(f"{rule}: {text}")

    def line(self) -> str:
        """Return the result as one line of JSON."""
        members = ("path", "verdict", "end", "grade", "errors", "reasons")
        return json.dumps({name: getattr(self, name) for name in members})


class PacketCheck:
    """The check of one packet, step by step in the order of format/checks.md."""

    def __init__(self, path: str, keys: list[str], boundary_keys: list[str]) -> None:
        self.result = Result(path)
        self.files = PacketFiles(path)
        self.keys, self.boundary_keys = keys, boundary_keys
        self.head = Findings()
        self.rest = Findings()
        self.caps = Caps()
        self.limits: dict[str, int] = {}
        self.is_log_there = False

    def run(self) -> Result:
        """Make all steps and return the result."""
        result = self.result
        try:
            data = self.files.read("packet.json")
            if data is None:
                self.head.error("packet.missing", "the directory has no packet.json")
                packet = None
            else:
                packet = read_packet(data, self.head)
            if packet is None or self.head.has_error:
                result.verdict = "invalid"
                result.add(self.head)
                return result
            self._limit()
            evidence = self._evidence(packet["artifacts"]["evidence"])
            self._packet(packet, evidence)
        except TooLong as error:
            result.verdict, result.grade, result.errors = "invalid", "none", ["packet.size"]
            result.reasons = [f"packet.size: {error}"]
        except Unreadable as error:
            result.verdict, result.grade = "error", "none"
            result.reasons.append(str(error))
        return result

    def _evidence(self, name: str) -> Evidence:
        try:
            file = self.files.open(name, self.limits.get(name, MAX_LOG))
        except Unreadable as error:
            file = None
            self.head.error("packet.evidence", str(error))
        if file is None:
            if not self.head.has_error:
                self.head.error("packet.evidence", "the evidence is missing")
            return Evidence()
        with file:
            return EvidenceReader(self.keys).read(file, name.rpartition("/")[2])

    def _packet(self, packet: dict[str, Any], evidence: Evidence) -> None:
        files, result, rest = self.files, self.result, self.rest
        documents = {name: files.read(name) for name in (
            "boundary.json", "posture-capsule.json", "attestation.json", "policy.yaml", "identity.json",
        )}
        changes = files.read("changes.json", self.limits["changes.json"])
        policy = documents["policy.yaml"]
        log = self._flows()
        clock_set_ms = log.clock_set_ms if log else 0

        compare_with_receipts(packet, evidence, self.keys, clock_set_ms, self.head)
        boundary = self._read(documents["boundary.json"], read_boundary)
        self._policy_hashes(packet, evidence, policy, boundary)
        self._artifacts(packet)

        capsule = self._read(documents["posture-capsule.json"], read_capsule)
        attestation = None
        if documents["attestation.json"] is not None:
            attestation = read_attestation(documents["attestation.json"], self.boundary_keys, rest)
        elif self.boundary_keys:
            rest.error("attestation.none", "a boundary key is pinned, and the packet has no attestation")

        self._presence(documents, boundary, capsule, evidence)
        if boundary and log:
            check_flows(boundary, log, rest)
        self._presence_of_flows(boundary, log)
        self._signers(attestation, capsule, boundary, evidence, clock_set_ms)
        rules = self._rules(policy)
        self._enforcement(boundary, log, evidence, rules)
        if boundary and boundary.is_audit:
            rest.error("packet.audit_mode", "boundary.json is of an audit, and packet.json is not")
        elif boundary:
            parts = PacketParts(
                packet, boundary, capsule, attestation, log, policy, documents["identity.json"], changes,
                list(files.entries()), files, rules or {},
            )
            for reason in check_statements(parts, rest):
                self.caps.add("kernel_observed", reason)
            self._rows(boundary, capsule, log, evidence, rules)
            reasons = observed_caps(boundary) + observed_caps_of_course(boundary, packet, log)
            for reason in reasons + deviations(boundary, changes, log):
                self.caps.add("kernel_observed", reason)
        self._conclude(packet, evidence, attestation)
        for findings in (self.head, evidence.findings, rest):
            result.add(findings)
        result.reasons += [*self.caps.reasons(), _NOT_COMPARED]

    def _read(self, data: bytes | None, reader: Any) -> Any:
        return None if data is None else reader(data, self.rest)

    def _limit(self) -> None:
        """Set the size limits to the attestation's sizes. Without a pinned boundary key, these sizes only lower a limit."""
        self.limits = dict.fromkeys(("changes.json", "flows.jsonl"), MAX_LOG)
        data = self.files.read("attestation.json")
        attestation = data and read_attestation(data, self.boundary_keys, Findings())
        if not attestation or attestation.signer is None:
            return
        for name, size in attestation.sizes().items():
            if attestation.is_pinned:
                self.limits[name] = size
            elif name in self.limits:
                self.limits[name] = min(self.limits[name], size)

    def _flows(self) -> FlowLog | None:
        try:
            file = self.files.open("flows.jsonl", self.limits["flows.jsonl"])
        except Unreadable as error:
            self.is_log_there = True
            self.rest.error("boundary.flows", str(error))
            return None
        self.is_log_there = file is not None
        if file is None:
            return None
        with file:
            return read_flows(file, self.rest)

    def _policy_hashes(
        self, packet: dict[str, Any], evidence: Evidence, policy: bytes | None, boundary: Boundary | None
    ) -> None:
        if policy is None:
            return
        found = sha256(policy)
        stated = packet["policy"].get("config_snapshot_sha256", found)
        if stated.removeprefix("sha256:") != found:
            self.head.error("packet.policy", "policy.yaml is not the policy that the packet names")
        receipts = [receipt for receipt in evidence.receipts if not receipt.is_session_record]
        if boundary and boundary.mediator_kind == "builtin":
            receipts = evidence.receipts
        elif evidence.decisions:
            receipts = []
        if any(receipt.record["policy_hash"] not in ("", found) for receipt in receipts):
            self.head.error("packet.policy", "policy.yaml is not the policy that the receipts name")

    def _artifacts(self, packet: dict[str, Any]) -> None:
        artifacts = packet["artifacts"]
        stated = (
            (artifacts["verifier"], "verifier.txt"),
            (packet["verifier"].get("output_file", "verifier.txt"), "verifier.txt"),
            (artifacts.get("summary", "summary.md"), "summary.md"),
        )
        self.files.read("report.html")
        for name, required in stated:
            if name != required or self.files.read(required) is None:
                self.head.error("packet.artifact", f"{required} is not there under this name")

    def _presence(
        self, documents: dict[str, bytes | None], boundary: Boundary | None, capsule: Capsule | None,
        evidence: Evidence,
    ) -> None:
        caps = self.caps
        signed = [documents[name] for name in ("boundary.json", "posture-capsule.json", "attestation.json")]
        if all(data is None for data in signed):
            caps.add("none", "the packet describes no boundary")
        if boundary and boundary.is_audit:
            caps.add("none", "the run was an audit")
        if any(data is None for data in signed):
            caps.add("unproven", "boundary.json, the attestation, or the capsule is missing")
        containment = capsule.containment if capsule else None
        if not containment or containment["mode"] != "kernel_ebpf_cgroup":
            caps.add("unproven", "the capsule does not show a boundary of the kernel")
        elif not (containment["boundary_verified"] and containment["probe_refused_direct_egress"]):
            caps.add("kernel_observed", "the capsule does not show that the probes were denied")
        if evidence.verdict in ("invalid", "error"):
            caps.add("unproven", f"the receipts are {evidence.verdict}")
        if not evidence.is_end_proven:
            caps.add("kernel_observed", "the end of the receipts is not proven")

    def _presence_of_flows(self, boundary: Boundary | None, log: FlowLog | None) -> None:
        if log is None and not self.is_log_there:
            self.caps.add("unproven" if boundary else "kernel_observed", "flows.jsonl is missing")

    def _signers(
        self, attestation: Attestation | None, capsule: Capsule | None, boundary: Boundary | None,
        evidence: Evidence, clock_set_ms: int,
    ) -> None:
        rest = self.rest
        if capsule:
            if self.boundary_keys and capsule.signer not in self.boundary_keys:
                rest.error("capsule.signer", "the capsule is signed by another key than the pinned boundary key")
            is_bound = check_binding(capsule, evidence, rest)
            if not is_bound:
                self.caps.add("kernel_observed", "the receipts do not bind the capsule")
            pipelock = boundary.section("mediator").get("pipelock") if boundary and not boundary.is_audit else None
            if pipelock is not None and pipelock.get("posture") != ("bound" if is_bound else "not_known"):
                self.caps.add("kernel_observed", "mediator.pipelock.posture does not match the receipts")
            check_window(capsule, evidence, clock_set_ms, rest)
            containment = capsule.containment
            if boundary and containment and containment.get("kernel_rule_hash", "") != boundary.rule_hash():
                rest.error("boundary.rules", "the kernel programs are not those that the capsule covers")
        if attestation:
            check_subjects(attestation, self.files.entries(), self.files.sizes(), rest)
            bound = (evidence.opens[-1].get("posture_signer_key_id") or "") if evidence.opens else ""
            check_signer(attestation, bound, capsule.signer if capsule else None, rest)
            if not attestation.is_pinned:
                self.caps.add_here("unpinned", "no pinned boundary key signed the attestation")
        if evidence.verdict == "self_consistent_only":
            self.caps.add_here("unpinned", "no key of the receipts is pinned")

    def _rules(self, policy: bytes | None) -> dict[str, Any] | None:
        try:
            return None if policy is None else parse_policy(policy)
        except FormError as error:
            self.rest.error("packet.statement", f"policy.yaml: {error}")
            return None

    def _enforcement(
        self, boundary: Boundary | None, log: FlowLog | None, evidence: Evidence, rules: dict[str, Any] | None
    ) -> None:
        if log is None:
            return
        comparison = compare(evidence, log, boundary, rules)
        if comparison.caps_grade():
            lost = {name: comparison.numbers[name] for name in ("unsigned", "unasked", "unseen")}
            found = {**+comparison.disagreements, **lost}
            self.caps.add("kernel_observed", f"the recorders disagree: {found}")
        self.result.comparison = {
            "disagreements": dict(+comparison.disagreements),
            "without_receipt": dict(+comparison.without_receipt),
            **comparison.numbers,
        }
        closed_at = None
        if evidence.is_closed and evidence.receipts:
            closed_at = time_or_none(evidence.receipts[-1].record["timestamp"])
        links, programs = (boundary.links, len(boundary.programs)) if boundary else (set(), 0)
        for reason in broken_conditions(log, links, programs, closed_at):
            self.caps.add("kernel_observed", reason)

    def _rows(
        self, boundary: Boundary, capsule: Capsule | None, log: FlowLog | None, evidence: Evidence,
        rules: dict[str, Any] | None,
    ) -> None:
        """Count the rows again, and compare them with each other."""
        actions = read_actions(evidence.receipts)
        differ = partial(self.rest.error, "packet.statement")
        check_counted(boundary, log, actions, enforced_list(rules), differ)
        launch = capsule.document["evidence"].get("contain_launch") if capsule else None
        proxy_port = launch.get("proxy_port", 0) if launch else None
        reasons = counter_caps(boundary, log) + (contradictions(boundary, log, proxy_port, rules) if log else [])
        for reason in reasons:
            self.caps.add("kernel_observed", reason)

    def _conclude(self, packet: dict[str, Any], evidence: Evidence, attestation: Attestation | None) -> None:
        result, caps = self.result, self.caps
        if attestation:
            stated = attestation.predicate
            if not predicate_fits(stated["verdict"], stated["grade"], evidence.verdict, caps.shown_grade()):
                self.rest.error("attestation.predicate", "the signer states another verdict or grade")
        if self.rest.has_error:
            caps.add_here("unproven", "the files of the boundary contradict each other or are not signed")
        has_error = self.head.has_error or self.rest.has_error
        result.verdict = packet_verdict(
            evidence.verdict, packet["verifier"]["verdict"], not self.head.has_error, has_error
        )
        if result.verdict in ("invalid", "error"):
            caps.add_here("unproven", f"the packet is {result.verdict}")
        result.grade = caps.grade()
        result.end = "proven" if evidence.is_end_proven else "unproven"


def main(arguments: list[str]) -> int:
    """Verify the packets that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--key", action="append", default=[], help="public key of the receipts, or its file")
    parser.add_argument("--boundary-key", action="append", default=[], help="public key of the boundary, or its file")
    parser.add_argument("packets", nargs="+", metavar="PACKET_DIR")
    options = parser.parse_args(arguments)
    try:
        keys = [load_key(text) for text in options.key]
        boundary_keys = [load_key(text) for text in options.boundary_key]
    except (OSError, ValueError) as error:
        parser.error(f"cannot read a key: {error}")
    status = 0
    for path in options.packets:
        result = check_packet(path, keys, boundary_keys)
        print(result.line(), flush=True)
        if result.verdict != "valid" or result.end != "proven":
            status = 1
    return status


def check_packet(path: str, keys: list[str], boundary_keys: list[str]) -> Result:
    """Check one packet; an unexpected fault of this program gives the verdict `error`, never a traceback."""
    try:
        return PacketCheck(path, keys, boundary_keys).run()
    except Exception as error:  # noqa: BLE001 - a packet must not be able to end the check of the others
        return Result(path, reasons=[f"this verifier failed: {type(error).__name__}: {error}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
