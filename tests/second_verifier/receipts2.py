"""Version 2 receipts: form, signature, and chain (format/evidence.md, "Version 2 receipts")."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import Any

import crypto
import schema
from errors import Findings, FormError
from strictjson import canonical
from times import parse_time


def _time(value: Any, where: str) -> None:
    schema.string(value, where)
    parse_time(value)


_CANONICALIZATION = {
    "jcs_profile": "pipelock-jcs-rfc8785-nfc-v1",
    "jcs_version": "rfc8785",
    "hash_alg": "sha256",
    "sig_alg": "ed25519",
    "redaction_ruleset_id": "pipelock-transform-v1",
    "redaction_ruleset_version": "1",
    "redaction_ruleset_hash": "sha256:541896788b42651a202448894583a847db9d1aa081c33a7e1f0512303d72527e",
}

_FORM = schema.obj({
    "record_type": schema.exactly("evidence_receipt_v2"),
    "receipt_version": schema.exactly(2),
    "payload_kind": schema.exactly("proxy_decision"),
    "canonicalization": schema.obj({name: schema.exactly(value) for name, value in _CANONICALIZATION.items()}),
    "crit": schema.array(schema.exactly("canonicalization")),
    "event_id": schema.filled,
    "chain_prev_hash": schema.filled,
    "timestamp": _time,
    "principal?": schema.string,
    "actor?": schema.string,
    "active_manifest_hash?": schema.string,
    "contract_hash?": schema.string,
    "selector_id?": schema.string,
    "delegation_chain?": schema.anything,
    "contract_generation?": schema.anything,
    "policy_hash": schema.matching(r"sha256:[0-9a-f]{64}"),
    "chain_seq": schema.unsigned,
    "signature": schema.obj({
        "signer_key_id": schema.digest,
        "key_purpose": schema.exactly("receipt-signing"),
        "algorithm": schema.exactly("ed25519"),
        "signature": schema.matching(r"ed25519:[0-9a-fA-F]{128}"),
    }),
    "payload": schema.obj({
        "action_type": schema.filled,
        "target": schema.filled,
        "verdict": schema.filled,
        "transport": schema.filled,
        "winning_source": schema.filled,
        "policy_sources": schema.array(schema.filled),
        "live_verdict?": schema.string,
        "rule_id?": schema.string,
    }),
})


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@dataclass
class DecisionReceipt:
    """One version 2 receipt that matches its schema."""

    detail: dict[str, Any]
    hash: str

    @property
    def payload(self) -> dict[str, Any]:
        """The payload, which states the decision."""
        return self.detail["payload"]


@dataclass
class DecisionChain:
    """The chain of version 2 receipts. Receipts are added in the order of the file."""

    findings: Findings
    receipts: list[DecisionReceipt] = field(default_factory=list)
    key: str | None = None

    def add(self, detail: Any) -> None:
        """Check the next receipt by itself and against the chain."""
        try:
            _FORM(detail, "detail")
            if len(detail["crit"]) != 1 or not detail["payload"]["policy_sources"]:
                raise FormError("crit or policy_sources has another number of items")
            text = canonical(detail, _nfc)
            unsigned = {**detail, "signature": {name: "" for name in detail["signature"]}}
            message = canonical(unsigned, _nfc).encode("utf-8")
        except FormError as error:
            self.findings.error("v2.form", str(error))
            return
        key = detail["signature"]["signer_key_id"]
        signature = bytes.fromhex(detail["signature"]["signature"].removeprefix("ed25519:"))
        if not crypto.verify(key, signature, message):
            self.findings.error("receipt.signature", "the signature of a version 2 receipt is not valid")
        self._check_link(detail, key)
        self.receipts.append(DecisionReceipt(detail, crypto.sha256(text)))

    def _check_link(self, detail: dict[str, Any], key: str) -> None:
        seq, prior = detail["chain_seq"], detail["chain_prev_hash"]
        if not self.receipts:
            self.key = key
            expected = (0, "genesis")
        elif (seq, prior) == (0, "genesis"):
            self.findings.error("v2.second-process", "a second version 2 chain starts")
            return
        else:
            expected = (self.receipts[-1].detail["chain_seq"] + 1, self.receipts[-1].hash)
        if seq != expected[0]:
            self.findings.error("v2.seq", "version 2 receipts are missing, repeated, or out of order")
        if prior != expected[1]:
            self.findings.error("v2.link", "a version 2 receipt does not name the hash of the one before it")
        if key != self.key:
            self.findings.error("v2.signer", "a version 2 receipt names another key than the chain")

    def finish(self, signers: list[str], pinned: list[str], decisions: int) -> None:
        """Compare the chain with the version 1 receipts of the whole file."""
        if self.key is None:
            return
        if signers:
            if self.key not in signers:
                self.findings.error("v2.signer", "the version 2 chain is signed by no key of the version 1 chain")
            if len(self.receipts) != decisions:
                self.findings.warning("v2.count", "the numbers of decisions and version 2 receipts differ")
        elif pinned and self.key not in pinned:
            self.findings.error("trust.key", "the signer is not a pinned key")
