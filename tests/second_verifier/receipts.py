"""Version 1 receipts: signature, chain, sessions, and actions (format/evidence.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import crypto
from errors import Findings, FormError
from record import canonical_record, value_fault
from strictjson import compact_source, escaped_string, member_sources

_SIGNATURE = re.compile(r"ed25519:([0-9a-fA-F]{128})", re.ASCII)
_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)
_GENESIS = re.compile(r"genesis|g1:[0-9a-f]{64}", re.ASCII)
_KINDS = {
    "open": ("session_open",),
    "heartbeat": ("heartbeat", "session_heartbeat"),
    "close": ("session_close",),
}
_LABEL = "pipelock.receipt.session_open.v1"


@dataclass
class Receipt:
    """One version 1 receipt that matches its schema."""

    record: dict[str, Any]
    hash: str
    signer_key: str
    entry_session: str

    @property
    def is_session_record(self) -> bool:
        """Whether the receipt opens, continues, or closes a session."""
        return self.record.get("session_control") is not None

    def text(self, name: str) -> str:
        """Return a string member of the record, or an empty string if it is absent."""
        return self.record.get(name) or ""


def read_receipt(detail: Any, source: str, entry_session: str, findings: Findings) -> Receipt | None:
    """Check one receipt by itself; return it if it matches its schema."""
    if isinstance(detail, dict) and (
        ("redacted" in detail and "action_record" not in detail)
        or (isinstance(detail.get("action_record"), dict) and "redacted_fields" in detail["action_record"])
    ):
        findings.error("receipt.rewritten", "the receipt was rewritten after it was signed")
        return None
    required = {"version", "action_record", "signature", "signer_key"}
    if not isinstance(detail, dict) or not required <= detail.keys() or detail.keys() - required - {"ext"}:
        findings.error("receipt.form", "the receipt does not have the members of a version 1 receipt")
        return None
    version, signature, key = detail["version"], detail["signature"], detail["signer_key"]
    try:
        if type(version) is not int or not isinstance(signature, str) or not isinstance(key, str):
            raise FormError("version, signature, or signer_key has another type")
        canonical = canonical_record(detail["action_record"])
    except FormError as error:
        findings.error("receipt.form", str(error))
        return None
    fault = "version is not 1" if version != 1 else value_fault(detail["action_record"])
    if fault:
        findings.error("receipt.value", fault)
    match = _SIGNATURE.fullmatch(signature)
    if match is None or _KEY.fullmatch(key) is None or not crypto.is_usable_key(key):
        findings.error("receipt.signature-form", "signature or signer_key is malformed, or the key is weak")
    elif not crypto.verify(key, bytes.fromhex(match.group(1)), bytes.fromhex(crypto.sha256(canonical))):
        findings.error("receipt.signature", "the signature of a receipt is not valid")
    whole = (
        f'{{"version":1,"action_record":{canonical},"signature":{escaped_string(signature)},'
        f'"signer_key":{escaped_string(key)}'
    )
    if "ext" in detail:
        whole += ',"ext":' + compact_source(member_sources(source)["ext"])
    return Receipt(detail["action_record"], crypto.sha256(whole + "}"), key, entry_session)


def _field(value: bytes) -> bytes:
    return len(value).to_bytes(8, "big") + value


def genesis_hash(payload: dict[str, Any]) -> str:
    """Return the genesis hash, which covers the parameters of a `session_open`."""
    before = (_LABEL, *(payload[n] for n in ("run_nonce", "open_nonce", "recorder_session", "policy_hash",
                                             "signer_key_epoch")))
    after = (payload.get(n) or "" for n in ("genesis_anchor_head", "genesis_anchor_log",
                                            "posture_capsule_sha256", "containment_nonce", "contained_uid"))
    data = b"".join(_field(text.encode("utf-8")) for text in before)
    data += _field(max(payload["heartbeat_seconds"], 0).to_bytes(8, "big"))
    data += b"".join(_field(text.encode("utf-8")) for text in after)
    return "g1:" + crypto.sha256(data)


@dataclass
class Session:
    """The last session that was opened."""

    run_nonce: str
    open_nonce: str
    beats: int = 0
    fsync_errors: int = 0
    durability_blocks: int = 0
    is_closed: bool = False


@dataclass
class ReceiptChain:
    """The chain of version 1 receipts. Receipts are added in the order of the file."""

    findings: Findings
    pinned: list[str]
    receipts: list[Receipt] = field(default_factory=list)
    signers: list[str] = field(default_factory=list)
    count_of_key: int = 0
    session: Session | None = None
    run_nonces: set[str] = field(default_factory=set)
    opens: list[dict[str, Any]] = field(default_factory=list)
    phases: dict[str, set[str]] = field(default_factory=dict)

    @property
    def last(self) -> Receipt | None:
        """The last receipt so far."""
        return self.receipts[-1] if self.receipts else None

    def add(self, receipt: Receipt) -> None:
        """Check the next receipt against the chain, its session, and its action."""
        if self.last is None:
            self._check_first(receipt)
        else:
            self._check_link(receipt, self.last)
        self.count_of_key += 1
        self._check_session(receipt)
        self._check_action(receipt)
        self.receipts.append(receipt)

    def finish(self) -> None:
        """Make the checks that depend on the whole file."""
        if any(receipt.is_session_record for receipt in self.receipts):
            for receipt in self.receipts:
                if not receipt.text("run_nonce"):
                    self.findings.error("session.nonce", "a receipt does not name a run, although the chain contains sessions")
        for phases in self.phases.values():
            if phases == {"intent"}:
                self.findings.warning("action.open", "an action has no outcome")

    def _new_key(self, key: str, is_first: bool) -> None:
        self.signers.append(key)
        self.count_of_key = 0
        if (self.pinned and key not in self.pinned) or (not is_first and not self.pinned):
            self.findings.error("trust.key", "the signer is not a pinned key")

    def _check_first(self, receipt: Receipt) -> None:
        record = receipt.record
        self._new_key(receipt.signer_key, is_first=True)
        if record["chain_seq"] != 0:
            self.findings.error("chain.seq", "the first receipt does not have chain_seq 0")
        if record.get("key_transition") is not None:
            self.findings.error("chain.transition", "the first receipt changes the key")
        if _GENESIS.fullmatch(record["chain_prev_hash"]) is None:
            self.findings.error("chain.link", "the first receipt does not start at a genesis")

    def _check_link(self, receipt: Receipt, last: Receipt) -> None:
        record, change = receipt.record, receipt.record.get("key_transition")
        if change is not None:
            fits = (
                record["chain_seq"] == 0
                and change["prior_signer_key"] == last.signer_key != receipt.signer_key
                and change["prior_chain_seq"] == last.record["chain_seq"]
                and change["prior_chain_hash"] == record["chain_prev_hash"] == last.hash
            )
            if not fits:
                self.findings.error("chain.transition", "a change of keys does not fit the chain before it")
            self._new_key(receipt.signer_key, is_first=False)
            return
        if record["chain_seq"] == 0 and _GENESIS.fullmatch(record["chain_prev_hash"]):
            self.findings.error("chain.second-start", "a second receipt chain starts")
            return
        if record["chain_seq"] != last.record["chain_seq"] + 1:
            self.findings.error("chain.seq", "receipts are missing, repeated, or out of order")
        if record["chain_prev_hash"] != last.hash:
            self.findings.error("chain.link", "a receipt does not name the hash of the one before it")
        if receipt.signer_key != last.signer_key:
            self.findings.error("chain.signer", "a receipt is signed by another key than the chain")

    def _check_session(self, receipt: Receipt) -> None:
        record, control = receipt.record, receipt.record.get("session_control")
        is_first = self.last is None
        if is_first and record["chain_prev_hash"].startswith("g1:") and not (control or {}).get("open"):
            self.findings.error("session.open", "the first receipt has the genesis of a session, but does not open a session")
        if control is None:
            self._check_plain(receipt)
            return
        present = [name for name in _KINDS if control.get(name) is not None]
        if len(present) != 1 or control["kind"] not in _KINDS[present[0]]:
            self.findings.error("session.form", "a session record does not have the payload of its kind")
            return
        kind, payload = present[0], control[present[0]]
        if not receipt.text("run_nonce") or record["run_nonce"] != payload["run_nonce"]:
            self.findings.error("session.form", "a session record and its payload name different runs")
        if kind == "open":
            self._check_open(receipt, payload)
        else:
            self._check_within(receipt, kind, payload)

    def _check_plain(self, receipt: Receipt) -> None:
        nonce = receipt.text("run_nonce")
        if self.session is not None:
            if nonce != self.session.run_nonce:
                self.findings.error("session.form", "a receipt names another run than the last session")
            if self.session.is_closed:
                self.findings.error("session.after-close", "a receipt follows the close of its session")
        if nonce and nonce not in self.run_nonces:
            self.findings.error("session.missing-open", "a receipt names a run that no session_open opened")

    def _check_open(self, receipt: Receipt, payload: dict[str, Any]) -> None:
        record, last = receipt.record, self.last
        prior = (payload.get("prior_chain_seq") or 0, payload.get("prior_chain_head") or "")
        genesis = payload.get("genesis_hash") or ""
        if last is None:
            is_ordinary = (
                record["chain_prev_hash"].startswith("g1:") and payload["chain_open_seq"] == 0 and prior == (0, "")
            )
            expected = genesis_hash(payload)
            if record["chain_prev_hash"] != expected or genesis != expected:
                self.findings.error("session.genesis", "the parameters of the session do not have the genesis")
        else:
            is_ordinary = (
                genesis == ""
                and payload["chain_open_seq"] == record["chain_seq"]
                and prior == (last.record["chain_seq"], last.hash)
            )
        if not is_ordinary or payload["run_nonce"] in self.run_nonces:
            self.findings.error("session.open", "the session is opened in a way that no writer uses")
        if payload["recorder_session"] != receipt.entry_session:
            self.findings.error("session.recorder", "session_open names another recorder session than its entry")
        self.run_nonces.add(payload["run_nonce"])
        self.opens.append(payload)
        self.session = Session(payload["run_nonce"], payload["open_nonce"])

    def _check_within(self, receipt: Receipt, kind: str, payload: dict[str, Any]) -> None:
        session, last = self.session, self.last
        if session is None or (payload["run_nonce"], payload["open_nonce"]) != (session.run_nonce, session.open_nonce):
            self.findings.error("session.form", "a session record names another session than the last one")
            return
        if session.is_closed:
            self.findings.error("session.after-close", "a session record follows the close of its session")
        seq, head = receipt.record["chain_seq"], last.hash if last else ""
        if kind == "heartbeat":
            if payload["chain_head"] != head or payload["chain_seq_head"] != seq - 1:
                self.findings.error("session.heartbeat", "a heartbeat does not fit the chain")
            if payload["beat"] != session.beats + 1:
                self.findings.warning("session.beats", "numbers of heartbeats are missing")
            session.beats = payload["beat"]
        else:
            stated = (payload["root_hash"], payload["final_seq"], payload["receipt_count"])
            if stated != (head, seq, self.count_of_key):
                self.findings.error("session.close", "the close does not fit the chain")
            session.is_closed = True
        failed, blocked = payload["fsync_errors_gated"], payload["durability_blocks"]
        if failed < session.fsync_errors or blocked < session.durability_blocks:
            self.findings.error("session.durability", "a counter of failed writes went down")
        session.fsync_errors, session.durability_blocks = failed, blocked

    def _check_action(self, receipt: Receipt) -> None:
        phase = receipt.text("decision_phase")
        if phase not in ("intent", "outcome"):
            return
        phases = self.phases.setdefault(receipt.record["action_id"], set())
        if phase == "outcome" and "intent" not in phases:
            self.findings.error("action.no-intent", "an outcome has no intent before it")
        if phase in phases:
            self.findings.warning("action.repeated", f"an action has a second {phase}")
        phases.add(phase)
