"""`flows.jsonl`: the hash chain, the rows, and continuous enforcement (format/flows.md)."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import crypto
import schema
import strictjson
from errors import Findings, FormError
from evidence import read_lines
from schema import array, boolean, filled, nullable, port, string, unsigned, unsigned32
from times import NANOSECONDS, time_or_none

_HASH_MEMBER = re.compile(rb',"hash":"([^"\\]{64})"\}')
_HASH_MEMBER_LENGTH = 75
_SUPERVISOR_EVENTS = frozenset({"heartbeat", "agent_gone", "end"})
_BEAT_EVERY = 10 * NANOSECONDS
_RECORDED_WITHIN = 15 * NANOSECONDS
RELAY_VERDICTS = frozenset({"forwarded", "refused", "blocked", "answered", "failed", "unfinished"})

def _socket_address(value: Any, where: str) -> None:
    string(value, where)
    match = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^:]*)):([0-9]{1,5})", value, re.ASCII)
    try:
        if match is None or int(match.group(3)) > 65535:
            raise ValueError
        ipaddress.IPv6Address(match.group(1)) if match.group(2) is None else ipaddress.IPv4Address(match.group(2))
    except ValueError:
        raise FormError(f"{where} is not ADDRESS:PORT") from None


# The members of each kind of row. Each member may be absent, and other members are ignored.
_TEXTS = dict.fromkeys(("ts", "hook", "verdict", "reason", "protocol"), string)
_BYTES = dict.fromkeys(("bytes_sent", "bytes_acked", "bytes_received"), unsigned)
_CONNECTION = {"cookie": unsigned, "connect_ns": unsigned}
_PROCESS = {"pid": unsigned, "uid": unsigned, "process": string, "exe": nullable(string), "sock_type": unsigned}
_REPEATS = {"count": unsigned, "first": string, "last": string}
_TO = {"dst": string, "port": port}
_BEAT = {"ts": string, "event": string, "links": array(unsigned)} | dict.fromkeys(
    ("beat", "interval_s", "processes", "unconfined", "ring_full", "relay_denied"), unsigned
)
_ROWS = {
    ("kernel", ""): _TEXTS | _TO | _PROCESS | _CONNECTION | {"name": nullable(string), "family": unsigned, "count": unsigned},
    ("kernel", "unix"): _TEXTS | _PROCESS | {"path": string, "count": unsigned},
    ("kernel_repeats", ""): _TEXTS | _TO | _REPEATS | {"name": nullable(string), "process": string},
    ("kernel_repeats", "unix"): _TEXTS | _REPEATS | {"path": string, "process": string},
    ("kernel_close", ""): _BYTES | _CONNECTION | {"ts": string},
    ("kernel_close_total", ""): _BYTES | {"ts": string, "count": unsigned},
    ("kernel_mediator", ""): _BYTES | _TO | _CONNECTION | {
        "ts": string, "protocol": string, "opened": string, "established": boolean, "closed": boolean,
    },
    ("kernel_mediator_total", ""): _BYTES | {
        "ts": string, "protocol": string, "port": port, "established": boolean, "count": unsigned,
    },
    ("kernel_mediator_denied", ""): _TEXTS | _TO | _CONNECTION | {"count": unsigned},
    ("kernel_mediator_denied_repeats", ""): _TEXTS | _TO | _REPEATS,
    ("relay", ""): _CONNECTION | {
        "ts": string, "orig_dst": nullable(_socket_address), "host": nullable(string), "port": nullable(port),
        "protocol": string, "transport": nullable(string), "target": nullable(string), "verdict": string,
        "reason": string, "claimed": nullable(string), "status": nullable(port), "bytes_up": unsigned,
        "bytes_down": unsigned, "head_bytes": unsigned, "duration_us": unsigned, "pid": nullable(unsigned32),
        "process": string, "exe": nullable(string),
    },
    ("resolver", ""): {"ts": string, "name": string, "address": nullable(string), "reason": string},
    ("supervisor", ""): _BEAT,
    ("supervisor", "end"): _BEAT | {"malformed": unsigned, "clock_set_ms": unsigned},
}
_CHECKS = {
    kind: schema.obj({f"{name}?": check for name, check in members.items()}, is_open=True)
    for kind, members in _ROWS.items()
}


def is_unix(row: dict[str, Any]) -> bool:
    """Whether a row is about the address of a file, which does not name a connection."""
    return row.get("protocol") == "unix"


def _kind(row: dict[str, Any]) -> tuple[Any, str]:
    source = row.get("source")
    if source in ("kernel", "kernel_repeats") and is_unix(row):
        return source, "unix"
    if source == "supervisor" and row.get("event") == "end":
        return source, "end"
    return source, ""


@dataclass
class FlowLog:
    """The rows of the flow log, and the results of the check of its chain.

    `every` contains all rows; `rows` contains only the rows whose members have the right types.
    """

    every: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0
    head: str = "genesis"
    sha256: str = ""
    unknown_rows: int = 0

    def of(self, source: str) -> list[dict[str, Any]]:
        """Return the rows of one kind whose members have the right types."""
        return [row for row in self.rows if row["source"] == source]

    @property
    def clock_set_ms(self) -> int:
        """The largest step of the system clock during the run, in milliseconds."""
        ends = (row for row in self.of("supervisor") if row.get("event") == "end")
        return max((row.get("clock_set_ms", 0) for row in ends), default=0)

    def _steps(self) -> tuple[int, int]:
        """Return how far the times from row to row are from the expected times, and the sum of these times, in ns."""
        apart = passed = 0
        last: tuple[int, bool] | None = None
        for row in self.of("supervisor"):
            time, is_beat = time_or_none(row.get("ts")), row.get("event", "") == "heartbeat"
            if time is None:
                continue
            if last is not None:
                expected = _BEAT_EVERY if is_beat and last[1] else 0
                apart += abs(time - last[0] - expected)
                passed += abs(time - last[0])
            last = time, is_beat
        return apart, passed

    @property
    def shown(self) -> int:
        """The largest amount by which the rows show that the clock was set, in ns."""
        apart, passed = self._steps()
        return apart + passed // 1000 + _RECORDED_WITHIN

    @property
    def clock(self) -> int:
        """The amount by which the clock was set, at most the amount that the rows show, in ns."""
        return min(self.clock_set_ms * 1_000_000, self.shown)


def read_flows(file: BinaryIO, findings: Findings) -> FlowLog:
    """Check the hash chain of the log and leave rows of unknown form out of `rows`."""
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
    log.every.append(row)
    try:
        filled(source, "source")
        _CHECKS.get(_kind(row), _unknown)(row, "row")
        log.rows.append(row)
        if source == "relay" and row.get("verdict") not in RELAY_VERDICTS:
            raise FormError("the verdict is not known")
    except FormError:
        log.unknown_rows += 1


def _unknown(value: Any, where: str) -> None:
    raise FormError(f"{where} has an unknown source")


def broken_conditions(log: FlowLog, links: set[int], programs: int, closed_at: int | None) -> list[str]:
    """Return the conditions of continuous enforcement that do not hold.

    `links` and `programs` are the expected links and the number of programs of `boundary.json`; `closed_at` is
    the time of the last receipt if the receipts are closed.
    """
    broken: list[str] = []
    beats = [row for row in log.every if row.get("source") == "supervisor" and _event(row)]
    first_beat = next((at for at, row in enumerate(log.every) if beats and row is beats[0]), 0)
    if not beats or any(row.get("source") == "kernel" for row in log.every[:first_beat]):
        broken.append("there is no heartbeat before the first attempt")
    if any(_number(row, "beat") != index for index, row in enumerate(beats)):
        broken.append("the numbers of the heartbeats are not complete")
    attached = [_links(row) for row in beats]
    if programs == 0 or any(found != links or len(found) < programs for found in attached):
        broken.append("a heartbeat does not have all links of the kernel programs")
    for row in beats:
        broken.extend(_unclean(row))
    broken.extend(_gaps(beats))
    events = [_event(row) for row in beats]
    if "agent_gone" not in events or "heartbeat" in events[events.index("agent_gone"):]:
        broken.append("the log does not show that the command had ended")
    else:
        gone = time_or_none([row for row in beats if _event(row) == "agent_gone"][-1].get("ts"))
        if closed_at is not None and (gone is None or gone > closed_at):
            broken.append("the receipts were closed before the command had ended")
    if not log.every or _event(log.every[-1]) != "end" or log.every[-1].get("source") != "supervisor":
        broken.append("the log does not end with an end")
    return broken


def _event(row: dict[str, Any]) -> str | None:
    """Return the event of a heartbeat, or `None` for any other row."""
    event = row.get("event")
    return event if isinstance(event, str) and event in _SUPERVISOR_EVENTS else None


def _number(row: dict[str, Any], name: str) -> int | None:
    """Return an unsigned integer; return `None` if the member has another type."""
    value = row.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _links(row: dict[str, Any]) -> set[int]:
    links = row.get("links")
    if not isinstance(links, list) or not all(_number({"id": link}, "id") is not None for link in links):
        return set()
    return set(links) if len(set(links)) == len(links) else set()


def _unclean(row: dict[str, Any]) -> list[str]:
    event = _event(row)
    must_be_zero = ["unconfined", "ring_full", "relay_denied"]
    if event == "end" or "malformed" in row:
        must_be_zero.append("malformed")
    if event in ("agent_gone", "end"):
        must_be_zero.append("processes")
    return [f"{name} of a heartbeat is not 0" for name in must_be_zero if _number(row, name) != 0]


def _gaps(beats: list[dict[str, Any]]) -> list[str]:
    times = [time_or_none(row.get("ts")) for row in beats]
    if None in times:
        return ["the time of a heartbeat is malformed"]
    seconds = [time // NANOSECONDS for time in times]
    for before, after, row in zip(seconds, seconds[1:], beats[1:]):
        interval, gap = _number(row, "interval_s") or 0, after - before
        if not 1 <= interval <= 60 or gap < 0 or (_event(row) != "end" and gap > 3 * interval):
            return ["a heartbeat is late or early"]
    return []
