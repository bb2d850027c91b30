"""`flows.jsonl`: the hash chain, the rows, and unbroken enforcement (format/flows.md)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import crypto
import schema
import strictjson
from errors import Findings, FormError
from evidence import read_lines
from schema import boolean, filled, integer, nullable, port, string, unsigned
from times import NANOSECONDS, time_or_none

_HASH_MEMBER = re.compile(rb',"hash":"([^"\\]{64})"\}')
_HASH_MEMBER_LENGTH = 75
_SUPERVISOR_EVENTS = frozenset({"heartbeat", "agent_gone", "end"})
RELAY_VERDICTS = frozenset({"forwarded", "refused", "blocked", "answered", "failed", "unfinished"})

_BYTES = {"bytes_sent?": unsigned, "bytes_acked?": unsigned, "bytes_received?": unsigned}
_ATTEMPT = {
    "hook?": string, "verdict?": string, "reason?": string, "protocol?": string, "dst?": string,
    "port?": port, "name?": nullable(string), "path?": string, "process?": string, "count?": unsigned,
}
_ROWS = {
    "kernel": _ATTEMPT | {
        "sock_type?": integer, "family?": integer, "pid?": integer, "uid?": integer,
        "exe?": nullable(string), "cookie?": unsigned, "connect_ns?": unsigned,
    },
    "kernel_repeats": _ATTEMPT | {"first?": string, "last?": string},
    "relay": {
        "cookie?": unsigned, "connect_ns?": unsigned, "orig_dst?": nullable(string), "host?": nullable(string),
        "port?": nullable(port), "protocol?": string, "transport?": nullable(string),
        "target?": nullable(string), "verdict?": string, "reason?": string, "claimed?": string,
        "status?": nullable(unsigned), "bytes_up?": unsigned, "bytes_down?": unsigned, "head_bytes?": unsigned,
        "duration_us?": unsigned, "pid?": nullable(integer), "process?": string, "exe?": nullable(string),
    },
    "resolver": {"name?": string, "address?": nullable(string), "reason?": string},
    "kernel_close": _BYTES | {"cookie?": unsigned, "connect_ns?": unsigned},
    "kernel_close_total": _BYTES | {"count?": unsigned},
    "kernel_mediator": _BYTES | {
        "protocol?": string, "port?": port, "dst?": string, "cookie?": unsigned, "connect_ns?": unsigned,
        "opened?": string, "established?": boolean, "closed?": boolean,
    },
    "kernel_mediator_total": _BYTES | {
        "protocol?": string, "port?": port, "established?": boolean, "count?": unsigned,
    },
    "supervisor": {
        "event?": string, "beat?": unsigned, "interval_s?": unsigned, "links?": schema.array(unsigned),
        "processes?": unsigned, "unconfined?": unsigned, "ring_full?": unsigned, "relay_denied?": unsigned,
        "malformed?": unsigned, "clock_set_ms?": unsigned,
    },
}
_CHECKS = {source: schema.obj(members | {"ts?": string}, is_open=True) for source, members in _ROWS.items()}


@dataclass
class FlowLog:
    """The rows of the flow log, and what the check of its chain found."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0
    head: str = "genesis"
    sha256: str = ""
    unknown_rows: int = 0

    def of(self, source: str) -> list[dict[str, Any]]:
        """Return the rows of one kind."""
        return [row for row in self.rows if row["source"] == source]

    @property
    def clock_set_ms(self) -> int:
        """By how much the system clock was set at most during the run."""
        return max((row.get("clock_set_ms", 0) for row in self.of("supervisor")), default=0)


def read_flows(file: BinaryIO, findings: Findings) -> FlowLog:
    """Check the hash chain of the log and sort out rows of unknown form."""
    log = FlowLog()
    digest = hashlib.sha256()
    for line in read_lines(file):
        digest.update(line)
        if not line.endswith(b"\n"):
            findings.error("flows.torn", "the last row of the flow log is incomplete")
            break
        _read_row(line[:-1], log, findings)
    log.sha256 = digest.hexdigest()
    return log


def _read_row(line: bytes, log: FlowLog, findings: Findings) -> None:
    try:
        row = strictjson.parse(strictjson.decode_utf8(line), strictjson.LINE_DEPTH)
        if not isinstance(row, dict):
            raise FormError("a row is not an object")
        schema.unsigned(row.get("seq"), "seq")
        match = _HASH_MEMBER.fullmatch(line[-_HASH_MEMBER_LENGTH:])
        if match is None or list(row)[-1] != "hash":
            raise FormError("hash is not the last member")
    except FormError as error:
        findings.error("flows.form", str(error))
        return
    stated = match.group(1).decode("utf-8", "replace")
    prev_hash = row.get("prev_hash")
    if not isinstance(prev_hash, str):
        findings.error("flows.form", "prev_hash is not a string")
        return
    if row["seq"] != log.count or prev_hash != log.head:
        findings.error("flows.link", "rows are missing, repeated, or out of order")
    text = line[:-_HASH_MEMBER_LENGTH] + b"}"
    if crypto.sha256(prev_hash.encode("utf-8") + b"\0" + text) != stated:
        findings.error("flows.hash", "a row does not have its hash")
    log.head = stated
    log.count = row["seq"] + 1
    source = row.get("source")
    try:
        filled(source, "source")
        _CHECKS.get(source, _unknown)(row, "row")
        log.rows.append(row)
        if source == "relay" and row.get("verdict") not in RELAY_VERDICTS:
            log.unknown_rows += 1
    except FormError:
        log.unknown_rows += 1


def _unknown(value: Any, where: str) -> None:
    raise FormError(f"{where} has an unknown source")


def broken_conditions(log: FlowLog, links: set[int], programs: int, closed_at: int | None) -> list[str]:
    """Return the conditions of unbroken enforcement that do not hold.

    `links` and `programs` are the expected links and the number of programs of `boundary.json`; `closed_at` is
    the time of the last receipt if the receipts are closed.
    """
    broken: list[str] = []
    beats = [row for row in log.of("supervisor") if row.get("event") in _SUPERVISOR_EVENTS]
    first_beat = next((i for i, row in enumerate(log.rows) if beats and row is beats[0]), 0)
    if not beats or any(row["source"] == "kernel" for row in log.rows[:first_beat]):
        broken.append("there is no heartbeat before the first attempt")
    if any(row.get("beat", 0) != index for index, row in enumerate(beats)):
        broken.append("the numbers of the heartbeats are not complete")
    attached = [set(row.get("links", [])) for row in beats]
    if programs == 0 or any(found != links or len(found) < programs for found in attached):
        broken.append("a heartbeat does not have all links of the kernel programs")
    for row in beats:
        broken.extend(_unclean(row))
    broken.extend(_gaps(beats))
    events = [row["event"] for row in beats]
    if "agent_gone" not in events or "heartbeat" in events[events.index("agent_gone"):]:
        broken.append("the log does not show that the command was gone")
    else:
        gone = time_or_none([row for row in beats if row["event"] == "agent_gone"][-1].get("ts"))
        if closed_at is not None and (gone is None or gone > closed_at):
            broken.append("the receipts were closed before the command was gone")
    if "end" not in events or log.rows[-1].get("event") != "end":
        broken.append("the log does not end with an end")
    return broken


def _unclean(row: dict[str, Any]) -> list[str]:
    event = row["event"]
    must_be_zero = ["unconfined", "ring_full", "relay_denied"]
    if event == "end" or "malformed" in row:
        must_be_zero.append("malformed")
    if event in ("agent_gone", "end"):
        must_be_zero.append("processes")
    return [f"{name} of a heartbeat is not 0" for name in must_be_zero if row.get(name) != 0]


def _gaps(beats: list[dict[str, Any]]) -> list[str]:
    times = [time_or_none(row.get("ts")) for row in beats]
    if None in times:
        return ["the time of a heartbeat is malformed"]
    seconds = [time // NANOSECONDS for time in times]
    for before, after, row in zip(seconds, seconds[1:], beats[1:]):
        interval, gap = row.get("interval_s", 0), after - before
        if not 1 <= interval <= 60 or gap < 0 or (row["event"] != "end" and gap > 3 * interval):
            return ["a heartbeat is late or early"]
    return []
