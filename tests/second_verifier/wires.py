"""Comparison with the connections that the kernel recorded (format/comparison.md)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from actions import Actions, Group, Requests, saturated
from flows import FlowLog, is_unix
from targets import Target

_IN_BUFFERS = 16 * 1024 * 1024
_HEAD = 128 * 1024
_CHUNK_FRAMING = 5
_ALERT = 7
_DNS_PORT = 53
_NEEDED = ("complete", "cut", "not_answered")
_CONNECTED = (*_NEEDED, "cut_silent", "open")
_UNSIGNED_BY_2 = ("opened", "agreed", "failed", "answered", "other")


def _minus(a: int, b: int) -> int:
    return max(a - b, 0)


def compare_mediator(
    requests: Requests, actions: Actions, log: FlowLog, writer: str, differ: Counter[str]
) -> None:
    """Compare the signed actions with the mediator's connections."""
    established: Counter[int] = Counter()
    carried: Counter[int] = Counter()
    for source in ("kernel_mediator", "kernel_mediator_total"):
        for row in log.of(source):
            if row.get("protocol") == "tcp" and row.get("established", False):
                port = row.get("port", 0)
                established[port] += 1 if source == "kernel_mediator" else row.get("count", 0)
                carried[port] += row.get("bytes_sent", 0) + row.get("bytes_received", 0)
    connections, carried_all = established.total(), carried.total()
    groups = [*actions.groups.values(), *actions.hidden.values()]
    signed_bytes = saturated(sum(group.bytes for group in groups))
    differ["more_than_kernel"] = _minus(signed_bytes, carried_all + _IN_BUFFERS * max(connections, 1))
    if writer == "builtin":
        by_port = _by_port(actions.groups, _CONNECTED)
        needed = _by_port(actions.groups, _NEEDED)
        differ["more_connections"] = sum(
            _minus(number, by_port[port]) for port, number in established.items() if port != _DNS_PORT
        )
        differ["no_connection"] = sum(_minus(number, established[port]) for port, number in needed.items())
    else:
        for counter in (established, carried):
            del counter[_DNS_PORT]
        differ["denied_with_bytes"] = _denied_with_bytes(requests, actions, established, carried, writer)


def _by_port(groups: dict[Target, Group], endings: tuple[str, ...]) -> Counter[int | None]:
    """Count actions by port; those without a port are counted under `None`."""
    ports: Counter[int | None] = Counter()
    for target, group in groups.items():
        ports[target.port] += sum(group.left[ending] for ending in endings)
    return ports


def _allowed(group: Group) -> int:
    return group.total() - group.left["denied"]


def _denied_with_bytes(
    requests: Requests, actions: Actions, established: Counter[int], carried: Counter[int], writer: str
) -> int:
    hidden = sum(_allowed(group) for group in actions.hidden.values())
    allowed = [target for target, group in actions.groups.items() if _allowed(group)]
    if not allowed and not hidden:
        fates = _UNSIGNED_BY_2 if writer == "2.x" else ()
        unsigned = sum(group.left[fate] for group in requests.all() for fate in fates)
        return _minus(established.total(), unsigned) if carried.total() > 0 else 0
    if writer != "3.x" or hidden or any(target.transport in ("forward", "fetch") for target in allowed):
        return 0
    ports = {target.port for target in allowed}
    return sum(number for port, number in established.items() if carried[port] > 0 and port not in ports)


def compare_command(log: FlowLog, has_witness: bool, numbers: Counter[str], differ: Counter[str]) -> None:
    """Compare the relay's rows with the command's connections."""
    known: dict[tuple[int, int], str] = {}
    for row in log.of("kernel"):
        if not is_unix(row) and row.get("cookie", 0) and row.get("verdict") in ("redirected", "proxy"):
            known.setdefault(_connection(row), row["verdict"])
    more: Counter[str] = Counter()
    for row in log.of("kernel_repeats"):
        if is_unix(row):
            continue
        more[row.get("verdict", "")] += _minus(row.get("count", 0), 1)
    served: dict[tuple[int, int], list[dict[str, Any]]] = {}
    nameless: list[dict[str, Any]] = []
    for row in log.of("relay"):
        if row.get("cookie", 0):
            served.setdefault(_connection(row), []).append(row)
        else:
            nameless.append(row)
    closes = {_connection(row): row for row in log.of("kernel_close")}

    unknown = sum(1 for connection in served if connection not in known)
    unserved = sum(1 for connection, verdict in known.items() if verdict == "redirected" and connection not in served)
    numbers["unseen"] = _minus(unserved + _minus(more["redirected"], unknown), len(nameless))
    for connection, close in closes.items():
        rows = served.get(connection)
        if rows is None:
            continue
        up, down, framing = _sums(rows)
        if up > close.get("bytes_sent", 0) or down > close.get("bytes_received", 0) + _IN_BUFFERS:
            differ["relay_more_than_kernel"] += 1
        if close.get("bytes_acked", 0) > up + framing + _IN_BUFFERS + _HEAD * (len(rows) + 1):
            differ["relay_less_than_kernel"] += 1
        elif all(map(_is_only_tunnel, rows)):
            own = sum(0 if row.get("verdict") == "forwarded" else _ALERT for row in rows)
            if close.get("bytes_received", 0) > down + own + 1:
                differ["relay_less_than_kernel"] += 1
    if not has_witness:
        return
    forwarded = sum(1 for row in nameless if row.get("verdict") == "forwarded")
    differ["no_kernel_row"] = _minus(unknown + forwarded, more["redirected"] + more["proxy"])
    open_rows = [rows for connection, rows in served.items() if connection not in closes]
    totals = log.of("kernel_close_total")
    names = ("count", "bytes_sent", "bytes_acked", "bytes_received")
    count, sent, acked, received = (sum(row.get(name, 0) for row in totals) for name in names)
    differ["no_close"] = _minus(len(open_rows), count)
    up, down, framing = (sum(part) for part in zip((0, 0, 0), *map(_sums, open_rows)))
    if not differ["no_close"] and (up > sent or down > received + _IN_BUFFERS * count):
        differ["relay_more_than_kernel"] += len(open_rows)
    if acked > up + framing + _IN_BUFFERS * count:
        differ["relay_less_than_kernel"] += count


def _connection(row: dict[str, Any]) -> tuple[int, int]:
    return row.get("cookie", 0), row.get("connect_ns", 0)


def _is_only_tunnel(row: dict[str, Any]) -> bool:
    """Check whether the relay sent nothing but the bytes of a tunnel and at most an alert."""
    is_sealed = row.get("transport") == "connect" and row.get("protocol", "") not in ("http", "websocket")
    return is_sealed and row.get("orig_dst") is not None


def _sums(rows: list[dict[str, Any]]) -> tuple[int, int, int]:
    up, down = (sum(row.get(name, 0) for row in rows) for name in ("bytes_up", "bytes_down"))
    bodies = sum(row.get("bytes_up", 0) for row in rows if row.get("transport") != "connect")
    return up, down, _CHUNK_FRAMING * bodies
