"""Rows compared with each other (format/rows.md, "Rows compared with each other"): the conditions of K17."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import endings
from boundary import Boundary
from flows import FlowLog, is_unix
from places import Opened, is_ipv6
from times import NANOSECONDS, time_or_none

_RECORDED_WITHIN = 15 * NANOSECONDS
_AT_ONCE = NANOSECONDS
_WRITTEN_AT_ONCE = ("supervisor", "relay", "resolver")
_REPEATS = {"kernel_repeats": "kernel", "kernel_mediator_denied_repeats": "kernel_mediator_denied"}
_ALIKE = ("hook", "verdict", "protocol", "process", "reason", "dst", "port", "path")
_CARRYING = ("kernel_close", "kernel_close_total", "kernel_mediator", "kernel_mediator_total")
_WITH_REASON = frozenset({"denied", "unreachable", "unread", "probe"})
_WITHOUT_REASON = frozenset({"local", "proxy", "redirected", "allowed_unix"})
_PROTOCOLS = {
    "forward": ("http",), "fetch": ("http",), "websocket": ("websocket",),
    "connect": ("tls", "connect", "http", "websocket"),
}
_LONGEST_HEAD = 256 << 10
_SHORTEST_HEAD = 16
_CACHE = "/nscd/socket"
# Reasons of the relay for a denial before it determined the destination.
_WITHOUT_DESTINATION = frozenset({"loopback", "no_slot", "peer_address", "stale_slot", "unknown_synthetic"})
_WITHOUT_REQUEST = frozenset({"client_closed", "reset", "stopped"})
# Protocols that the relay denies for a reason. None stands for all protocols.
_DENIED = {
    "loopback": None, "unknown_synthetic": None, "not_a_proxy_request": None, "port_not_allowed": None,
    "no_slot": ("raw",), "peer_address": ("raw",), "stale_slot": ("raw",),
    "client_silent": ("client_silent", "connect"), "client_hello": ("tls", "connect"),
    "client_hello_timeout": ("tls", "connect"), "encrypted_client_hello": ("tls", "connect"),
    "name_mismatch": ("tls", "connect", "http"), "not_tls": ("connect",),
}
_METHOD = re.compile(r"[\x21-\x60\x7b-\x7e]*", re.ASCII)

Row = dict[str, Any]


def contradictions(
    boundary: Boundary, log: FlowLog, proxy_port: int | None, rules: dict[str, Any] | None
) -> list[str]:
    """Return the numbers of the conditions that are not met. 

    `proxy_port` is the port in the capsule, and `rules` is the policy.
    """
    check = _Check(boundary, log, proxy_port)
    check.places(rules)
    return [f"rows contradict each other: condition {number} does not hold" for number in sorted(check.broken)]


def _address(text: Any) -> Any:
    try:
        return ipaddress.ip_address(text) if isinstance(text, str) and "%" not in text else None
    except ValueError:
        return None


def _time(row: Row, name: str = "ts") -> int:
    """Return a time in ns; anything else counts as the first moment of 1970."""
    return time_or_none(row.get(name)) or 0


def _number(address: Any) -> int:
    """Return the number of a synthetic address."""
    return int(address) & (0x1FFFF if address.version == 4 else 2**64 - 1)


def _connection(row: Row) -> tuple[int, int]:
    return row.get("cookie", 0), row.get("connect_ns", 0)


def _alike(row: Row, source: str) -> tuple[Any, ...]:
    names = [name for name in _ALIKE if name != "process" or source == "kernel"]
    return (source, *(row.get(name, 0 if name == "port" else "") for name in names))


def _began(row: Row) -> int:
    return _time(row) - row.get("duration_us", 0) * 1000


def _leads_inside(address: Any) -> bool:
    return address is not None and (address.is_loopback or address.is_unspecified)


class _Check:
    def __init__(self, boundary: Boundary, log: FlowLog, proxy_port: int | None) -> None:
        self.boundary, self.log, self.proxy_port = boundary, log, proxy_port
        self.clock = log.clock
        self.slack = _RECORDED_WITHIN + self.clock
        self.broken: set[int] = set()
        self.denied: set[tuple[int, int]] = set()
        self.made: dict[tuple[int, int], Row] = {}
        self.attempts = log.of("kernel")
        for row in self.attempts:
            self._attempt(row)
        self._times()
        self._ends()
        self._names()
        self._repeats()
        self.early = self._early()
        for row in log.of("relay"):
            self._request(row)
        self._others()

    def _require(self, number: int, is_met: Any) -> None:
        if not is_met:
            self.broken.add(number)

    # Times

    def _times(self) -> None:
        latest = None
        for row in self.log.rows:
            if row["source"] in _WRITTEN_AT_ONCE:
                time = _time(row)
                self._require(1, latest is None or latest - time <= _AT_ONCE + self.clock)
                latest = time
        clocks = {
            _time(row) - row.get("connect_ns", 0)
            for row in (*self.attempts, *self.log.of("kernel_mediator_denied")) if not is_unix(row)
        } | {_time(row, "opened") - row.get("connect_ns", 0) for row in self.log.of("kernel_mediator")}
        self._require(2, len(clocks) <= 1)
        beats = [_time(row) for row in self.log.of("supervisor")]
        others = [_time(row) for row in self.log.rows if row["source"] != "supervisor"]
        others += [_began(row) for row in self.log.of("relay")]
        others += [_time(row, name) for source in _REPEATS for row in self.log.of(source) for name in ("first", "last")]
        if beats and others:
            self._require(3, min(others) >= min(beats) - self.slack and max(others) <= max(beats) + self.slack)

    def _ends(self) -> None:
        for source in _REPEATS:
            for row in self.log.of(source):
                self._require(4, _time(row, "first") <= _time(row, "last"))
        for row in self.log.of("kernel_mediator"):
            self._require(4, _time(row, "opened") <= _time(row))
        begun: dict[tuple[int, int], int] = {}
        for row in self.log.rows:
            if row["source"] == "kernel" and self._is_made(row):
                begun[_connection(row)] = _time(row)
            elif row["source"] == "kernel_close" and _connection(row) in begun:
                self._require(4, _time(row) >= begun[_connection(row)])

    # Attempts

    def _is_made(self, row: Row) -> bool:
        return not is_unix(row) and row.get("verdict") in ("redirected", "proxy") and row.get("cookie", 0) != 0

    def _attempt(self, row: Row) -> None:
        self._require(5, row.get("uid", 0) == self.boundary.uid)
        verdict, hook, sock_type = row.get("verdict", ""), row.get("hook", ""), row.get("sock_type", 0)
        # A connection to loopback that nothing listened for is left alone as well.
        is_refused = verdict == "local" and row.get("reason", "") == "nothing_listens"
        has_reason = row.get("reason", "") != "" and not is_refused
        self._require(6, has_reason if verdict in _WITH_REASON else not (has_reason and verdict in _WITHOUT_REASON))
        if is_unix(row):
            self._require(12, sock_type in ((2,) if hook == "sendmsg_unix" else (1, 2, 5)))
            self._require(33, _is_verdict_of(verdict, row.get("path", "")))
            return
        address, family = _address(row.get("dst")), row.get("family", 0)
        if family == 2 and address is not None and address.version == 4:
            self._require(8, not hook.endswith("6"))
        elif family == 10 and address is not None:
            self._require(8, not hook.endswith("4"))
        else:
            self._require(8, address is not None and hook in ("sock_create", "skb_egress"))
        is_stream = row.get("protocol", "") == "tcp" and sock_type == 1 and hook.startswith("connect")
        is_inside = _leads_inside(address)
        if verdict == "redirected":
            self._require(9, is_stream and not is_inside)
        elif verdict == "proxy":
            self._require(9, is_stream and is_inside)
            self._require(13, self.proxy_port in (None, row.get("port", 0)))
        elif verdict == "local":
            self._require(9, is_inside or hook == "sock_create")
        if hook.startswith(("connect", "sendmsg")) and row.get("protocol") == "udp":
            self._require(12, sock_type == 2)
        if self._is_made(row):
            self._require(11, _connection(row) not in self.made)
            self.made[_connection(row)] = row

    def _early(self) -> set[int]:
        """Return the identities of the rows before the first `agent_gone` row."""
        early = set()
        for row in self.log.rows:
            if row["source"] == "supervisor" and row.get("event") == "agent_gone":
                return early
            early.add(id(row))
        return set()

    def _names(self) -> None:
        given: dict[str, int | None] = {}
        for row in self.log.of("resolver"):
            address = _address(row.get("address"))
            number = None if address is None else _number(address)
            self._require(21, (number is None) == (row.get("reason", "") != ""))
            self._require(36, row.get("name", "") not in given)
            given[row.get("name", "")] = number
        for row in (*self.attempts, *self.log.of("kernel_repeats")):
            address = None if is_unix(row) else _address(row.get("dst"))
            if address is not None and row.get("name") is not None:
                self._require(10, _number(address) == given.get(row["name"]))

    def _repeats(self) -> None:
        first = {
            (_alike(row, source), _time(row)) for source in _REPEATS.values() for row in self.log.of(source)
        }
        for source, of_first in _REPEATS.items():
            for row in self.log.of(source):
                is_there = (_alike(row, of_first), _time(row, "first")) in first
                self._require(7 if of_first == "kernel" else 23, is_there)

    # Requests

    def _request(self, row: Row) -> None:
        verdict, transport, status = row.get("verdict", ""), row.get("transport"), row.get("status")
        protocol = row.get("protocol", "")
        if verdict in ("forwarded", "blocked", "answered", "refused"):
            self._require(14, (transport is None) == (verdict == "refused"))
        self._require(15, (row.get("reason", "") == "") == (verdict == "forwarded"))
        if verdict == "forwarded" and transport == "connect" and protocol not in ("http", "websocket"):
            self._require(16, status == 200)
        elif verdict in ("forwarded", "answered"):
            self._require(16, status is not None)
        if transport is not None:
            self._require(17, protocol in _PROTOCOLS.get(transport, (protocol,)))
            self._require(18, _leads_where_it_says(row))
        self._sent(row, verdict, transport, protocol)
        for number in endings.broken(row, self.boundary.section("mediator").get("kind"), id(row) in self.early):
            self._require(number, False)
        caller = (row.get("pid"), row.get("process", ""), row.get("exe") or "")
        nobody = (None, "", "")
        if row.get("cookie", 0) == 0:
            self._require(19, caller == nobody)
            return
        made = self.made.get(_connection(row))
        if made is None:
            return
        by = (made.get("pid", 0), made.get("process", ""), made.get("exe") or "")
        self._require(20, caller in (nobody, by))
        self._require(20, _began(row) >= _time(made) - self.slack)
        orig = None if made["verdict"] == "proxy" else (_address(made.get("dst")), made.get("port", 0))
        self._require(20, _socket(row.get("orig_dst")) == orig)

    def _sent(self, row: Row, verdict: str, transport: str | None, protocol: str) -> None:
        """Check what the relay sent for a request, and why it denied one."""
        moved = any(row.get(name, 0) for name in ("bytes_up", "bytes_down", "head_bytes"))
        answered = any(row.get(name) is not None for name in ("target", "status", "claimed"))
        self._require(28, transport is not None or not (moved or answered))
        self._require(29, transport not in _PROTOCOLS or _has_possible_head(row, verdict, transport, protocol))
        if transport is None and verdict in ("failed", "unfinished"):
            self._require(28, verdict == "failed" and row.get("reason", "") in _WITHOUT_REQUEST)
        port, orig = row.get("port"), row.get("orig_dst")
        is_placed = row.get("host") is not None
        is_proxied = protocol == "connect" or row.get("reason", "") == "not_a_proxy_request"
        self._require(34, is_placed == (port is not None) and not (is_proxied and orig is not None))
        self._require(34, orig is None or port is None or int(orig.rpartition(":")[2]) == port)
        if verdict == "refused":
            reason = row.get("reason", "")
            self._require(30, _is_denied_for(reason, protocol))
            is_unplaced = reason in _WITHOUT_DESTINATION
            self._require(30, not is_unplaced if is_placed else is_unplaced or orig is None)
            is_last = protocol not in ("http", "h2c") or (reason == "port_not_allowed" and orig is not None)
            if is_last and row.get("cookie", 0) != 0:
                self._require(35, _connection(row) not in self.denied)
                self.denied.add(_connection(row))
            is_open = port is None or port in self.boundary.document.get("allowed_ports", [])
            self._require(31, reason == "port_not_allowed" or is_open)
        mediator = self.boundary.section("mediator")
        if mediator.get("kind") == "pipelock" and mediator.get("plain_http") == "tunnel":
            self._require(32, transport != "forward")
        else:
            self._require(32, transport != "connect" or protocol not in ("http", "websocket"))

    # Others

    def places(self, rules: dict[str, Any] | None) -> None:
        """Check the addresses of both sides: IPv6, and what the kernel programs deny to the mediator."""
        attempts = [row for row in (*self.attempts, *self.log.of("kernel_repeats")) if not is_unix(row)]
        if self.boundary.document.get("ipv6", False):
            self._require(25, not any(row.get("reason", "") == "ipv6_unavailable" for row in attempts))
        else:
            redirected = [_address(row.get("dst")) for row in attempts if row.get("verdict") == "redirected"]
            self._require(25, not any(address is not None and is_ipv6(address) for address in redirected))
        opened = None if rules is None else Opened(rules)
        ports = self.boundary.document.get("allowed_ports", [])
        for row in self.log.of("kernel_mediator"):
            address, port = _address(row.get("dst")), row.get("port", 0)
            if opened and address is not None and row.get("protocol") != "udp" and port != 53:
                self._require(26, opened.allows(address, port in ports))

    def _others(self) -> None:
        is_opened = bool(self.boundary.document.get("allowed_unix", []))
        self._require(27, is_opened or not any(row.get("verdict") == "allowed_unix" for row in self.attempts))
        for source in ("kernel_mediator", "kernel_mediator_denied"):
            for row in self.log.of(source):
                self._require(22, _address(row.get("dst")) is not None)
        for source in _CARRYING:
            for row in self.log.of(source):
                self._require(24, row.get("bytes_acked", 0) <= row.get("bytes_sent", 0))
                if row.get("protocol") == "udp" and source.startswith("kernel_mediator"):
                    self._require(24, not row.get("bytes_acked", 0) and not row.get("bytes_received", 0))
                    self._require(24, source != "kernel_mediator" or row.get("port", 0) in (0, 53))


def _is_verdict_of(verdict: str, path: str) -> bool:
    """Return whether the use of a Unix socket with this path can have the verdict."""
    if path == "…":
        return True
    if verdict in ("probe", "unreachable"):
        return path.endswith(_CACHE) == (verdict == "probe")
    return verdict != "unread" or path == ""


def _is_denied_for(reason: str, protocol: str) -> bool:
    """Return whether the relay denies the protocol for this reason."""
    if reason == "not_tls_or_http":
        return protocol not in ("tls", "http", "client_silent", "connect", "websocket")
    protocols = _DENIED.get(reason, ("http", "h2c"))
    return protocols is None or protocol in protocols


def _has_possible_head(row: Row, verdict: str, transport: str, protocol: str) -> bool:
    """Return whether the relay can have sent a head of the stated length."""
    length = row.get("head_bytes", 0)
    if transport == "connect" and protocol not in ("http", "websocket"):
        return length == 0
    if length == 0:
        return verdict != "forwarded" if transport == "connect" else row.get("status") is None
    shown = re.split(r"\?|\[redacted-", row.get("target") or "", maxsplit=1)[0]
    least = max(_SHORTEST_HEAD, len(shown.encode("utf-8")) if transport == "forward" else 0)
    return least <= length <= _LONGEST_HEAD


def _socket(text: str | None) -> tuple[Any, int] | None:
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    return _address(host.removeprefix("[").removesuffix("]")), int(port)


def _leads_where_it_says(row: Row) -> bool:
    target, host, port = row.get("target"), row.get("host"), row.get("port")
    if target is None or host is None or port is None:
        return False
    method, space, rest = target.partition(" ")
    if not space or _METHOD.fullmatch(method) is None:
        return False
    authority = rest
    if method != "CONNECT":
        _, separator, after = rest.partition("://")
        if not separator:
            return False
        authority = re.split("[/?#]", after, maxsplit=1)[0]
    if "[redacted-" in authority:
        return True
    bare = host.lstrip("[").rstrip("]")
    for name in (bare, f"[{bare}]"):
        if authority.startswith(name):
            colon, digits = authority[len(name):len(name) + 1], authority[len(name) + 1:]
            if colon == ":" and re.fullmatch(r"\+?[0-9]{1,40}", digits, re.ASCII) and int(digits) == port:
                return True
            if not colon and method != "CONNECT":
                return True
    return False
