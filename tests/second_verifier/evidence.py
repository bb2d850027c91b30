"""`evidence.jsonl`: lines, entries, checkpoints, the transcript root, and the end (format/evidence.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import crypto
import entry_forms
import schema
import strictjson
from errors import Findings, FormError
from receipts import Receipt, ReceiptChain, read_receipt
from receipts2 import DecisionChain, DecisionReceipt
from times import is_normal, time_or_none

MAX_LINE = 1024 * 1024
_WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_MEMBERS = (
    "v seq ts session_id chain_kind writer_instance_id trace_id type event_kind transport summary detail "
    "raw_ref prev_hash hash"
).split()
_STRINGS = (
    "ts session_id chain_kind writer_instance_id trace_id type event_kind transport summary raw_ref prev_hash hash"
).split()
_REQUIRED = "v seq ts session_id type prev_hash hash".split()
_FILLED = "session_id type prev_hash hash".split()
_READ_TYPES = frozenset({"action_receipt", "evidence_receipt", "checkpoint", "transcript_root"})
_OTHER_TYPES = frozenset({"decision", "capture", "capture_drop"})
_SIGNATURE = re.compile(r"[0-9a-fA-F]{128}", re.ASCII)
_FILE_NAME = re.compile(r"evidence-(.+)-(\d+)\.jsonl", re.ASCII)
_CHECKPOINT = schema.obj(
    {"entry_count": schema.unsigned, "first_seq": schema.unsigned, "last_seq": schema.unsigned,
     "signature?": schema.nullable(schema.string)},
    is_open=True,
)
_ROOT = schema.obj(
    {"session_id": schema.string, "final_seq": schema.unsigned, "root_hash": schema.string,
     "receipt_count": schema.unsigned},
    is_open=True,
)


@dataclass
class Evidence:
    """The results of the check of the evidence."""

    findings: Findings = field(default_factory=Findings)
    verdict: str = "error"
    is_end_proven: bool = False
    receipts: list[Receipt] = field(default_factory=list)
    decisions: list[DecisionReceipt] = field(default_factory=list)
    signers: list[str] = field(default_factory=list)
    opens: list[dict[str, Any]] = field(default_factory=list)
    is_closed: bool = False
    entry_apart: int = 0
    written: list[int] = field(default_factory=list)
    rewritten: int = 0
    other_summaries: int = 0
    unlike_builtin: int = 0


def read_lines(file: BinaryIO) -> list[bytes] | Any:
    """Yield the lines of a file with their LF; a line that is too long is cut and ends the reading."""
    while line := file.readline(MAX_LINE + 2):
        yield line
        if len(line.removesuffix(b"\n")) > MAX_LINE:
            return


def _fold(name: str) -> str:
    """Return the form of a name that readers compare if they ignore case."""
    folded = "".join(chr(ord(char) + 32) if "A" <= char <= "Z" else char for char in name)
    return folded.replace("\u212a", "k").replace("\u017f", "s")


class EvidenceReader:
    """Checks the entries of one file in order."""

    def __init__(self, pinned: list[str]) -> None:
        self.result = Evidence()
        self.findings = self.result.findings
        self.pinned = pinned
        self.chain = ReceiptChain(self.findings, pinned)
        self.decisions = DecisionChain(self.findings)
        self.next_seq = 0
        self.last_hash = "genesis"
        self.identity: tuple[str, str, str] | None = None
        self.is_version_3: bool | None = None
        self.times: tuple[str, str] | None = None
        self.root_after: int | None = None
        self.ends_with_checkpoint = False

    def read(self, file: BinaryIO, name: str) -> Evidence:
        """Check the whole file and return the results."""
        for line in read_lines(file):
            self._line(line)
        match = _FILE_NAME.fullmatch(name)
        if match and self.identity and self.identity[0] != match.group(1):
            self.findings.error("file.name", "the file is named after another session than its entries")
        return self._finish()

    def _finish(self) -> Evidence:
        result, chain = self.result, self.chain
        chain.finish()
        decisions = sum(1 for receipt in chain.receipts if not receipt.is_session_record)
        self.decisions.finish(chain.signers, self.pinned, decisions)
        result.receipts, result.decisions = chain.receipts, self.decisions.receipts
        result.signers = chain.signers or ([self.decisions.key] if self.decisions.key else [])
        result.opens = chain.opens
        result.is_closed = chain.session is not None and chain.session.is_closed
        close = ((chain.last.record.get("session_control") or {}).get("close") or {}) if chain.last else {}
        result.is_end_proven = (
            close.get("close_reason") == "graceful_shutdown"
            and self.root_after == len(chain.receipts)
            and self.ends_with_checkpoint
        )
        is_empty = not result.receipts and not result.decisions
        had_error = self.findings.has_error
        if is_empty and not result.rewritten:
            self.findings.error("evidence.empty", "there is no receipt")
        if had_error:
            result.verdict = "invalid"
        elif is_empty:
            result.verdict = "error"
        else:
            result.verdict = "valid" if self.pinned else "self_consistent_only"
        return result

    def _line(self, line: bytes) -> None:
        is_torn = not line.endswith(b"\n")
        line = line.removesuffix(b"\n")
        if len(line) > MAX_LINE:
            self.findings.error("line.long", "a line exceeds 1 MiB")
            return
        try:
            text = strictjson.decode_utf8(line)
            source = text.strip(_WHITE_SPACE)
            if not source:
                return
            if source != text.strip(" \t\r"):
                self.findings.warning("line.space", "a line has white space around it that no writer emits")
            entry = strictjson.parse(source, strictjson.LINE_DEPTH)
        except FormError as error:
            self.findings.error("file.torn" if is_torn else "line.json", str(error))
            return
        self.ends_with_checkpoint = False
        if not isinstance(entry, dict):
            self.findings.error("entry.form", "a line is not an object")
            return
        if "type" not in entry and ("action_record" in entry or "record_type" in entry):
            self.findings.error("entry.bare", "a line is a receipt without the entry around it")
            return
        sources = strictjson.member_sources(source)
        if self._check_form(entry, sources):
            self.result.other_summaries += not entry_forms.has_summary(entry)
            self.times = (self.times or (entry["ts"], ""))
            self.result.unlike_builtin += not entry_forms.is_builtin(entry, *self.times)
            self.times = (self.times[0], entry["ts"])
            self._check_chain(entry, sources.get("detail", "null"))
            self._check_detail(entry, sources.get("detail", "null"))
            self.last_hash = entry["hash"]
            self.next_seq = entry["seq"] + 1

    def _check_form(self, entry: dict[str, Any], sources: dict[str, str]) -> bool:
        """Check the members of an entry; return whether its chain can be checked."""
        for name in entry:
            if name not in _MEMBERS:
                if _fold(name) in _MEMBERS:
                    self.findings.error("entry.alias", f"some readers take the member {name[:80]!r} for another one")
                else:
                    self.findings.warning("entry.unknown", f"the hash does not cover the member {name[:80]!r}")
        try:
            for name in _REQUIRED:
                if name not in entry:
                    raise FormError(f"the entry has no member {name!r}")
            for name in _STRINGS:
                if name in entry:
                    schema.string(entry[name], name)
            for name in _FILLED:
                schema.filled(entry[name], name)
            schema.unsigned(entry["seq"], "seq")
            schema.integer(entry["v"], "v")
        except FormError as error:
            self.findings.error("entry.form", str(error))
            return False
        if entry["v"] not in (1, 2, 3):
            self.findings.error("entry.version", "the entry's version is not 1, 2, or 3")
            return False
        writer = (entry.get("chain_kind", ""), entry.get("writer_instance_id", ""))
        is_version_3 = entry["v"] == 3
        if is_version_3 != bool(writer[0]) or is_version_3 != bool(writer[1]):
            self.findings.error("entry.form", "chain_kind and writer_instance_id do not fit the entry's version")
        if not is_normal(entry["ts"]) or sources["ts"] != f'"{entry["ts"]}"':
            self.findings.error("entry.time", "the entry's time is not in the form that writers emit")
        self._see_time(entry["ts"])
        if any("\0" in entry.get(name, "") for name in _STRINGS):
            self.findings.error("entry.nul", "a hashed text holds U+0000")
        identity = (entry["session_id"], *writer)
        if self.identity is None:
            self.identity, self.is_version_3 = identity, is_version_3
        elif identity[0] != self.identity[0]:
            self.findings.error("file.sessions", "the file holds entries of more than one session")
        elif identity != self.identity or is_version_3 != self.is_version_3:
            self.findings.error("entry.writer", "entries of different writers share a chain")
        return True

    def _check_chain(self, entry: dict[str, Any], detail: str) -> None:
        version = entry["v"]
        fields = [str(version), str(entry["seq"]), entry["ts"], entry["session_id"]]
        if version == 3:
            fields += [entry.get("chain_kind", ""), entry.get("writer_instance_id", "")]
        fields += [entry.get("trace_id", ""), entry["type"]]
        if version != 1:
            fields.append(entry.get("event_kind", ""))
        fields += [entry.get("transport", ""), entry.get("summary", ""), detail, entry.get("raw_ref", ""),
                   entry["prev_hash"]]
        if crypto.sha256("\0".join(fields)) != entry["hash"]:
            self.findings.error("entry.hash", "an entry does not have its hash")
        if entry["prev_hash"] != self.last_hash:
            self.findings.error("entry.link", "an entry does not name the hash of the one before it")
        if entry["seq"] != self.next_seq:
            self.findings.error("entry.seq", "entries are missing, repeated, or out of order")

    def _check_detail(self, entry: dict[str, Any], source: str) -> None:
        kind, detail = entry["type"], entry.get("detail")
        if kind == "receipt_group_v1":
            self.findings.error("entry.group", "the file is one shard of a receipt group")
        elif kind not in _READ_TYPES and kind not in _OTHER_TYPES:
            self.findings.error("entry.type", "the entry's type is unknown")
        elif kind == "action_receipt":
            known = len(self.findings.errors)
            receipt = read_receipt(detail, source, entry["session_id"], self.findings)
            if receipt:
                self._check_time(entry, receipt.record)
                self.chain.add(receipt)
                self._check_text(entry, receipt)
            elif any(rule == "receipt.rewritten" for rule, _ in self.findings.errors[known:]):
                self.result.rewritten += 1
        elif kind == "evidence_receipt":
            known = len(self.decisions.receipts)
            self.decisions.add(detail)
            if len(self.decisions.receipts) > known:
                self._check_time(entry, detail)
        elif kind == "checkpoint":
            self._check_checkpoint(entry, detail)
        elif kind == "transcript_root":
            self._check_root(entry, detail)

    def _check_time(self, entry: dict[str, Any], receipt: dict[str, Any]) -> None:
        times = [time_or_none(entry["ts"]), time_or_none(receipt["timestamp"])]
        if None not in times:
            written, signed = (time // 1_000_000 for time in times)
            self.result.entry_apart = max(self.result.entry_apart, abs(written - signed))

    def _check_text(self, entry: dict[str, Any], receipt: Receipt) -> None:
        for name, other in (("transport", "transport"), ("event_kind", "action_type")):
            if entry.get(name) and entry[name] != receipt.record[other]:
                self.findings.warning("entry.text", f"an entry's {name} is not that of its receipt")

    def _check_checkpoint(self, entry: dict[str, Any], detail: Any) -> None:
        try:
            _CHECKPOINT(detail, "detail")
            signature = detail.get("signature") or ""
            if signature and _SIGNATURE.fullmatch(signature) is None:
                raise FormError("signature is not 128 hexadecimal digits")
            if detail["last_seq"] + 1 != entry["seq"] or detail["entry_count"] != entry["seq"] - detail["first_seq"]:
                raise FormError("the numbers do not describe the entries before it")
        except FormError as error:
            self.findings.error("checkpoint.form", str(error))
            return
        if not signature:
            self.findings.warning("checkpoint.unsigned", "a checkpoint has no signature")
            return
        last = self.chain.last
        key = last.signer_key if last else self.decisions.key or (self.pinned[0] if self.pinned else "")
        if crypto.verify(key, bytes.fromhex(signature), entry["prev_hash"].encode("utf-8")):
            self.ends_with_checkpoint = True
        else:
            self.findings.error("checkpoint.signature", "a checkpoint does not match the entries before it")

    def _see_time(self, text: object) -> None:
        """Note a time that an entry states, if it is valid."""
        if (time := time_or_none(text)) is not None:
            times = [*self.result.written, time // 1_000_000]
            self.result.written = [min(times), max(times)]

    def _check_root(self, entry: dict[str, Any], detail: Any) -> None:
        last = self.chain.last
        try:
            _ROOT(detail, "detail")
        except FormError as error:
            self.findings.error("root.mismatch", str(error))
            return
        self._see_time(detail.get("start_time"))
        self._see_time(detail.get("end_time"))
        stated = (detail["session_id"], detail["final_seq"], detail["root_hash"], detail["receipt_count"])
        if last and stated == (entry["session_id"], last.record["chain_seq"], last.hash, self.chain.count_of_key):
            self.root_after = len(self.chain.receipts)
        else:
            self.findings.error("root.mismatch", "the transcript root does not describe the receipts")
