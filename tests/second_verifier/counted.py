"""Count the rows again, and compare the sums with `boundary.json` (format/rows.md, "Rows counted again")."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cmp_to_key
from itertools import zip_longest
from typing import Any, Callable

from actions import Actions
from boundary import Boundary
from flows import FlowLog, is_unix
from targets import is_address, is_listed, normal_host

_MOST_HOSTS = 1000
_MOST_LISTED = 500
_OTHERS = "(others)"
_REDIRECTED = ("direct_tcp_ipv4", "direct_tcp_ssh", "metadata_ipv4")
_REDIRECTED_IPV6 = ("direct_tcp_ipv6", "direct_tcp_mapped", "metadata_ipv6")
_LATER_HELLO = frozenset({"encrypted_client_hello", "name_mismatch"})
_CHANNEL = ("requests", "bytes_up", "bytes_down", "head_bytes")

Row = dict[str, Any]
Differ = Callable[[str], None]
# Port, protocol, reason, and process.
Kind = tuple[int, str, str, str]
# Destination, port, protocol, reason, and process.
Attempt = tuple[str, int, str, str, str]


def counter_caps(boundary: Boundary, log: FlowLog | None) -> list[str]:
    """Return the conditions on `counters` (K16) that are not met."""
    if boundary.incomplete:
        return []
    counters = boundary.section("counters")
    rows = log or FlowLog()
    closes = len(rows.of("kernel_close")) + sum(row.get("count", 0) for row in rows.of("kernel_close_total"))
    denied = len(rows.of("kernel_mediator_denied")) + sum(map(_more, rows.of("kernel_mediator_denied_repeats")))
    last = next(reversed(rows.of("supervisor")), {})
    seen = counters.get("closes_seen", 0)
    slots = counters.get("slots_written", 0)
    relay = [(row.get("cookie", 0), row.get("connect_ns", 0)) for row in rows.of("relay")]
    connections = {connection for connection in relay if connection[0] != 0}
    redirected = (*_REDIRECTED, *(_REDIRECTED_IPV6 if boundary.document.get("ipv6", False) else ()))
    probes = sum(boundary.holds(name) for name in redirected)
    met = {
        "closes_expected": counters.get("closes_expected", 0) == seen,
        "closes_seen": seen >= closes + probes,
        "slots_written": len(connections) + probes <= slots <= counters.get("closes_expected", 0),
        "mediator_denied": counters.get("mediator_denied", 0) == denied,
        "ring_full": counters.get("ring_full", 0) == last.get("ring_full", 0),
        "relay_denied": counters.get("relay_denied", 0) == last.get("relay_denied", 0),
    }
    return [f"counters.{name} does not fit" for name, is_met in met.items() if not is_met]


def check_counted(
    boundary: Boundary, log: FlowLog | None, actions: Actions, allowed: list[Any] | None, differ: Differ
) -> None:
    """Compare the sums in `boundary.json` with the rows. `allowed` is the allow-list of an enforced policy."""
    if boundary.incomplete:
        return
    rows = log or FlowLog()
    _names(boundary, rows, differ)
    _channels(boundary, rows, differ)
    counted = _Destinations(rows)
    unclear = counted.settle(actions, allowed)
    _allowed(boundary, counted.allowed, differ)
    is_cut = _denied(boundary, counted.denied, differ)
    if not is_cut and not boundary.document.get("denied_left_out", 0):
        _answered(boundary, unclear, differ)


def _more(row: Row) -> int:
    """Return how many attempts a row counts. The first attempt is left out, because it has its own row."""
    return max(row.get("count", 0) - 1, 0)


def _names(boundary: Boundary, log: FlowLog, differ: Differ) -> None:
    document, flows = boundary.document, boundary.section("flows")
    verdicts: Counter[str] = Counter()
    # A verdict that was counted 0 times is a member, too.
    for source, count in (("kernel", lambda row: 1), ("kernel_repeats", _more)):
        for row in log.of(source):
            verdicts[row.get("verdict", "")] += count(row)
    if flows.get("by_verdict", {}) != dict(verdicts):
        differ("flows.by_verdict is not that of the rows")
    names = [row.get("name", "") for row in log.of("resolver")]
    channels = boundary.section("residual_channels")
    if not flows.get("names", 0) == channels.get("names", 0) == len(names):
        differ("the number of names is not that of the rows")
    if channels.get("name_bytes", 0) != sum(len(name.encode("utf-8")) for name in names):
        differ("residual_channels.name_bytes is not that of the rows")
    if names and document.get("dns", "") != "synthetic":
        differ("there are rows of a stub resolver, and dns is not synthetic")
    ports = document.get("allowed_ports", [])
    asked = [row for row in log.of("relay") if row.get("transport") is not None]
    reached = {row["port"] for row in asked if row.get("port") is not None}
    if ports != sorted(set(ports)) or not set(ports) >= {80, 443} | reached:
        differ("allowed_ports is not ascending, or lacks a port")
    refused = [row for row in log.of("relay") if row.get("verdict") == "refused"]
    denied = [row.get("port") for row in refused if row.get("reason") == "port_not_allowed"]
    if not set(ports).isdisjoint(denied):
        differ("allowed_ports has a port that the relay denied")


def _channels(boundary: Boundary, log: FlowLog, differ: Differ) -> None:
    hosts: dict[str, Counter[str]] = {}
    others: Counter[str] = Counter()
    blocked: Counter[str] = Counter()
    for row in log.of("relay"):
        if row.get("transport") is None:
            continue
        name = f"{row.get('host') or ''}:{row.get('port') or 0}"
        if row.get("verdict") == "blocked":
            channel = blocked
        elif name in hosts or len(hosts) < _MOST_HOSTS:
            channel = hosts.setdefault(name, Counter())
        else:
            channel = others
        channel["requests"] += 1
        for member in _CHANNEL[1:]:
            channel[member] += row.get(member, 0)
    stated = boundary.section("residual_channels")
    pairs = [(others, stated.get("other_hosts", {})), (blocked, stated.get("blocked", {}))]
    known = stated.get("allowed_hosts", {})
    if known.keys() != hosts.keys():
        differ("residual_channels.allowed_hosts has other hosts than the rows")
    pairs += [(channel, known.get(name, {})) for name, channel in hosts.items()]
    if any(channel[member] != one.get(member, 0) for channel, one in pairs for member in _CHANNEL):
        differ("residual_channels does not match the sums of the rows")


@dataclass
class _Destinations:
    """The allowed, denied, and answered connections, counted by destination."""

    log: FlowLog
    allowed: Counter[tuple[str, int]] = field(default_factory=Counter)
    denied: dict[Kind, tuple[int, set[str]]] = field(default_factory=dict)
    answers: Counter[tuple[Attempt, str | None]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for row in self.log.of("relay"):
            self._relay(row)
        for source in ("kernel", "kernel_mediator_denied"):
            for row in self.log.of(source):
                self._attempt(row, 1)
            for row in self.log.of(f"{source}_repeats"):
                self._attempt(row, _more(row))

    def _deny(self, kind: Kind, count: int, places: set[str]) -> None:
        before, known = self.denied.get(kind, (0, set()))
        self.denied[kind] = (before + count, known | places)

    def _attempt(self, row: Row, count: int) -> None:
        if row.get("verdict") != ("unreachable" if is_unix(row) else "denied"):
            return
        is_mediator = row["source"].startswith("kernel_mediator")
        process = "" if is_mediator else row.get("process", "")
        kind = (row.get("port", 0), row.get("protocol", ""), row.get("reason", ""), process)
        place = row.get("path" if is_unix(row) else "dst", "")
        places = {row.get("name") or "", place} - {""}
        if not is_mediator and place in ("0.0.0.0", "::"):
            places = places - {place} | {""}
        self._deny(kind, count, places)

    def _relay(self, row: Row) -> None:
        verdict, reason, claimed = row.get("verdict"), row.get("reason", ""), row.get("claimed")
        host = row.get("host")
        attempt = (
            _address(row) if host is None else host, row.get("port") or 0, row.get("protocol", ""),
            reason if claimed is None or verdict != "answered" else f"{reason}: {claimed}", row.get("process", ""),
        )
        if verdict == "answered":
            self.answers[attempt, claimed] += 1
        elif _is_denial(row):
            self._deny(attempt[1:], 1, {attempt[0]})
        elif None not in (host, row.get("port"), row.get("transport")):
            if verdict != "failed" or row.get("bytes_up", 0):
                self.allowed[host, row["port"]] += 1

    def settle(self, actions: Actions, allowed: list[Any] | None) -> list[tuple[Attempt, int]]:
        """Count the answers that receipts confirm as denials; return the others."""
        used: Counter[str] = Counter()
        used_by_list: Counter[str] = Counter()
        unclear: Counter[Attempt] = Counter()
        order = sorted(self.answers.items(), key=lambda item: (item[0][1] is None, _key(item[0][0])))
        for (attempt, claimed), count in order:
            host = normal_host(attempt[0])
            by_list = claimed is not None and claimed.partition(":")[0] == "allowlist"
            if by_list:
                is_name = host != "localhost" and not is_address(host)
                is_listed_name = allowed is not None and is_name and is_listed(host, allowed)
                left = 0 if is_listed_name else actions.denied_by_list[host] - used_by_list[attempt[0]]
            else:
                left = _denials(actions, host, attempt[3]) - used[attempt[0]]
            signed = min(count, max(left, 0))
            used[attempt[0]] += signed
            used_by_list[attempt[0]] += signed if by_list else 0
            if signed:
                self._deny(attempt[1:], signed, {attempt[0]})
            if count > signed:
                unclear[attempt] += count - signed
        return sorted(unclear.items(), key=lambda item: (-item[1], natural(item[0][0]), _key(item[0])))


def _natural_order(one: str, other: str) -> int:
    """Compare two texts in natural order: negative, zero, or positive."""
    runs = [re.findall(rb"[0-9]+|[^0-9]+", text.encode("utf-8")) for text in (one, other)]
    for pair in zip_longest(*runs, fillvalue=b""):
        if all(run[:1].isdigit() for run in pair):
            digits = [run.lstrip(b"0") for run in pair]
            left, right = [(len(run), run) for run in digits]
        else:
            left, right = [(0, run) for run in pair]
        if left != right:
            return -1 if left < right else 1
    texts = [text.encode("utf-8") for text in (one, other)]
    return (texts[0] > texts[1]) - (texts[0] < texts[1])


natural = cmp_to_key(_natural_order)


def _key(attempt: Attempt) -> tuple[Any, ...]:
    return tuple(part.encode("utf-8") if isinstance(part, str) else part for part in attempt)


def _address(row: Row) -> str:
    """Return the address of `orig_dst`, without brackets and port."""
    text = row.get("orig_dst")
    return str(ipaddress.ip_address(text.rpartition(":")[0].strip("[]"))) if text else ""


def _is_denial(row: Row) -> bool:
    verdict = row.get("verdict")
    if verdict == "unfinished":
        return row.get("reason", "") in _LATER_HELLO
    if verdict == "failed":
        has_moved = row.get("bytes_up", 0) or row.get("bytes_down", 0)
        return not has_moved and (not row.get("head_bytes", 0) or row.get("status") not in (None, 502))
    return verdict in ("refused", "blocked")


def _denials(actions: Actions, host: str, reason: str) -> int:
    """Return how many requests to this host the mediator may have answered with the status that `reason` contains."""
    status = re.match(r"answered_([0-9]{3})", reason, re.ASCII)
    if status is None:
        return 0
    groups = [group for target, group in actions.groups.items() if target.host == host]
    return sum(
        group.left["denied"] + group.left["denied_later"] + group.statuses_cut[int(status.group(1))]
        for group in [*groups, *actions.hidden.values()]
    )


def _has_room(boundary: Boundary, name: str, differ: Differ) -> None:
    if boundary.document.get(name + "_left_out", 0) and len(boundary.document.get(name, [])) < _MOST_LISTED:
        differ(f"{name}_left_out is over 0, and {name} has room")


def _allowed(boundary: Boundary, counted: Counter[tuple[str, int]], differ: Differ) -> None:
    order = sorted(counted.items(), key=lambda item: (-item[1], item[0][0].encode("utf-8"), item[0][1]))
    rows = [(row["host"], row["port"], row["count"]) for row in boundary.document.get("allowed", [])]
    if len(rows) + boundary.document.get("allowed_left_out", 0) != len(order):
        differ("allowed has another number of destinations than the rows")
    _has_room(boundary, "allowed", differ)
    if any((*place, count) != row for (place, count), row in zip(order, rows)):
        differ("allowed does not match the sums of the rows")


def _stated(row: Row) -> Attempt:
    attempt = row["attempt"]
    return tuple(attempt[name] for name in ("destination", "port", "protocol", "reason", "process"))


def _answered(boundary: Boundary, unclear: list[tuple[Attempt, int]], differ: Differ) -> None:
    rows = [(_stated(row), row["count"]) for row in boundary.document.get("answered", [])]
    if len(rows) + boundary.document.get("answered_left_out", 0) != len(unclear):
        differ("answered has another number of destinations than the rows")
    _has_room(boundary, "answered", differ)
    if any(one != row for one, row in zip(unclear, rows)):
        differ("answered does not match the sums of the rows")


def _denied(boundary: Boundary, counted: dict[Kind, tuple[int, set[str]]], differ: Differ) -> bool:
    """Compare the denied destinations; return whether some of them were counted together."""
    rows = boundary.document.get("denied", [])
    left_out = boundary.document.get("denied_left_out", 0)
    stated: Counter[Kind] = Counter()
    before, seen = None, set()
    for row in rows:
        attempt, count = _stated(row), row["count"]
        if count == 0 or (before is not None and count > before) or attempt in seen:
            differ("denied is not in order, or names an attempt twice")
        seen.add(attempt)
        before = count
        if attempt[0] == _OTHERS:
            return True
        if attempt[0] not in counted.get(attempt[1:], (0, set()))[1]:
            differ("denied names an attempt that no row shows")
        stated[attempt[1:]] += count
    for kind, (count, _) in counted.items():
        if stated[kind] > count or (stated[kind] < count and not left_out):
            differ("denied does not match the sums of the rows")
    _has_room(boundary, "denied", differ)
    return any(row["attempt"]["destination"] == _OTHERS for row in rows)
