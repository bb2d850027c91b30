"""Signed actions and the relay's requests, grouped by target (format/comparison.md)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from receipts import Receipt
from targets import Target, normal_host, read_row_target, read_url, receipt_host
from times import time_or_none

FATES = ("through", "opened", "denied", "answered", "other")
ENDINGS = ("denied", "denied_later", "not_reached", "not_answered", "cut", "open", "complete")
MOST_SIZES = 4096
MAX_SUM = 2**64 - 1
_FRAME_LAYERS = frozenset({"ws_protocol", "dlp", "response_scan"})


def milliseconds(text: Any) -> int | None:
    """Return a time in milliseconds, or `None` if `text` is no time."""
    time = time_or_none(text)
    return None if time is None else time // 1_000_000


def saturated(total: int) -> int:
    """Return a sum as 64 bits hold it."""
    return min(total, MAX_SUM)


@dataclass
class Group:
    """What one target has on one side: requests by fate, or actions by ending."""

    left: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    without_status: int = 0
    sizes: Counter[Any] = field(default_factory=Counter)
    bytes: int = 0
    first: int | None = None
    last: int | None = None

    def total(self) -> int:
        """How many are left."""
        return sum(self.left.values())

    def see_time(self, first: int | None, last: int | None) -> None:
        """Widen the range of times."""
        if first is not None and last is not None:
            self.first = first if self.first is None else min(self.first, first)
            self.last = last if self.last is None else max(self.last, last)

    def add_size(self, size: Any) -> None:
        """Count a size while there are at most `MOST_SIZES` different ones."""
        if size in self.sizes or len(self.sizes) < MOST_SIZES:
            self.sizes[size] += 1

    def take(self, number: int, order: tuple[str, ...]) -> int:
        """Take up to `number` off, in this order; return how many were taken."""
        taken = 0
        for word in order:
            part = min(self.left[word], number - taken)
            self.left[word] -= part
            taken += part
        return taken


@dataclass
class Requests:
    """All rows of the relay that asked the mediator, and those that did not."""

    groups: dict[Target, Group] = field(default_factory=dict)
    nameless: dict[str, Group] = field(default_factory=dict)
    asked: int = 0
    refused_unasked: Counter[str] = field(default_factory=Counter)


def _fate(row: dict[str, Any]) -> str:
    verdict, status = row.get("verdict"), row.get("status")
    if verdict == "forwarded":
        return "through"
    if verdict in ("failed", "unfinished"):
        is_open = 101 <= status < 400 if status is not None else row.get("bytes_down", 0) > 0
        return "opened" if is_open else "other"
    return {"blocked": "denied", "answered": "answered"}.get(verdict, "other")


def _reason(row: dict[str, Any]) -> str:
    status = row.get("status")
    parts = [row.get("reason", "")] + ([f"status {status}"] if status is not None else [])
    return ", ".join(part for part in parts if part)


def read_requests(rows: list[dict[str, Any]]) -> Requests:
    """Group the relay's rows by target."""
    requests = Requests()
    for row in rows:
        transport = row.get("transport")
        if not transport:
            requests.refused_unasked[row.get("reason", "")] += 1
            continue
        requests.asked += 1
        target = read_row_target(transport, row.get("target") or "", row.get("host"), row.get("port"))
        if target is None:
            group = requests.nameless.setdefault(transport, Group())
        else:
            group = requests.groups.setdefault(target, Group())
        fate = _fate(row)
        group.left[fate] += 1
        up, down = row.get("bytes_up", 0), row.get("bytes_down", 0)
        if row.get("verdict") == "forwarded":
            group.add_size((up, down))
        else:
            group.reasons[_reason(row)] += 1
        if row.get("status") is None:
            group.without_status += 1
        else:
            group.statuses[row["status"]] += 1
        group.bytes = saturated(group.bytes + up + down)
        ended = milliseconds(row.get("ts"))
        group.see_time(None if ended is None else ended - row.get("duration_us", 0) // 1000, ended)
    return requests


@dataclass
class Action:
    """One action: all receipts with the same `action_id`."""

    transport: str
    target: str
    method: str
    is_denied: bool = False
    is_denied_later: bool = False
    is_intent: bool = False
    outcome: dict[str, str] | None = None
    has_ended: bool = False
    first: int | None = None
    last: int | None = None

    def ending(self) -> str:
        """Return how the action ended."""
        if self.is_denied:
            return "denied"
        if self.is_denied_later:
            return "denied_later"
        if self.outcome is None:
            return "open" if self.is_intent else "complete"
        reason = self.outcome.get("reason", "")
        if reason == "complete":
            return "complete"
        if reason in ("dial_failed", "upstream_dial_failed", "ssrf_dns_rebind"):
            return "not_reached"
        return "not_answered" if reason == "fetch_failed" else "cut"

    def number(self, name: str, bits: int) -> int | None:
        """Return an unsigned number of at most `bits` bits that the outcome states; a plus sign may precede it."""
        text = (self.outcome or {}).get(name, "")
        if not re.fullmatch(r"\+?[0-9]{1,40}", text, re.ASCII):
            return None
        value = int(text)
        return value if value < 2**bits else None


@dataclass
class Actions:
    """All signed actions."""

    groups: dict[Target, Group] = field(default_factory=dict)
    hidden: dict[str, Group] = field(default_factory=dict)
    frames: Counter[str] = field(default_factory=Counter)
    reused_id: int = 0
    repeated: int = 0


def _read_one(by_id: dict[str, Action], receipt: Receipt, actions: Actions) -> None:
    layer, transport = receipt.text("layer"), receipt.record["transport"]
    if transport == "websocket" and layer in _FRAME_LAYERS:
        host = receipt_host(receipt.record["target"]) or ""
        actions.frames[normal_host(host)] += 1
        return
    named = (transport, receipt.record["target"], receipt.text("method"))
    phase = receipt.text("decision_phase")
    is_denial = receipt.record["verdict"].strip() in ("block", "ask")
    action = by_id.get(receipt.record["action_id"])
    if action is None:
        action = by_id[receipt.record["action_id"]] = Action(*named, is_intent=phase == "intent")
        if is_denial and layer != "session_close":
            action.is_denied = True
        action.is_denied_later = is_denial and not action.is_denied
        action.has_ended = phase != "intent"
    else:
        is_same = (action.transport, action.target, action.method) == named
        if action.has_ended:
            if not is_same:
                actions.reused_id += 1
            elif layer != "session_close":
                actions.repeated += 1
            return
        if not is_same:
            actions.reused_id += 1
            return
        if is_denial and not action.is_denied:
            action.is_denied_later = True
    if phase == "outcome":
        action.outcome = {}
        for word in receipt.text("pattern").split(" "):
            name, equals, value = word.partition("=")
            if equals:
                action.outcome.setdefault(name, value)
        action.has_ended = True
    time = milliseconds(receipt.record["timestamp"])
    if time is not None:
        action.first = time if action.first is None else min(action.first, time)
        action.last = time if action.last is None else max(action.last, time)


def read_actions(receipts: list[Receipt]) -> Actions:
    """Group the receipts of version 1 by action, and the actions by target."""
    actions = Actions()
    by_id: dict[str, Action] = {}
    for receipt in receipts:
        if not receipt.is_session_record:
            _read_one(by_id, receipt, actions)
    for action in by_id.values():
        target = read_url(action.transport, action.method, action.target)
        if target is None:
            group = actions.hidden.setdefault(action.transport, Group())
        else:
            group = actions.groups.setdefault(target, Group())
        group.left[action.ending()] += 1
        group.bytes = saturated(group.bytes + (action.number("bytes", 64) or 0))
        if action.outcome is not None and action.outcome.get("reason") == "complete":
            status, size = action.number("status", 16), action.number("bytes", 64)
            if status is not None:
                group.statuses[status] += 1
            if size is not None:
                group.add_size(size)
        group.see_time(action.first, action.last)
    return actions
