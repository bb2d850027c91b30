"""Signed actions and the relay's requests, grouped by target (format/comparison.md)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from receipts import Receipt
from targets import Target, read_row_target, read_url
from times import time_or_none

FATES = ("through", "opened", "agreed", "denied", "failed", "answered", "other")
LET_THROUGH = ("through", "opened", "agreed")
ENDINGS = ("denied", "denied_later", "not_reached", "not_answered", "cut", "cut_silent", "open", "complete")
MOST_SIZES = 4096
CLOSE_FRAME = 131
MAX_SUM = 2**64 - 1
NOT_REACHED = {"dial_failed": (502,), "upstream_dial_failed": (502, 1011), "ssrf_dns_rebind": (403, 1008)}
FAILED = {**NOT_REACHED, "fetch_failed": (400, 502)}
FRAME_LAYERS = frozenset({
    "address_protection",
    "body_prompt_injection",
    "cross_request",
    "dlp",
    "media_policy",
    "redaction",
    "response_scan",
    "ws_protocol",
})


def milliseconds(text: Any) -> int | None:
    """Return a time in milliseconds, or `None` if `text` is not a time."""
    time = time_or_none(text)
    return None if time is None else time // 1_000_000


def saturated(total: int) -> int:
    """Return a sum, at most `MAX_SUM`."""
    return min(total, MAX_SUM)


@dataclass
class Group:
    """Counts for one target: its requests by result, or its actions by ending."""

    left: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    statuses_cut: Counter[int] = field(default_factory=Counter)
    statuses_failed: Counter[int] = field(default_factory=Counter)
    without_status: int = 0
    not_opened: int = 0
    given_up: int = 0
    layers: Counter[str] = field(default_factory=Counter)
    sizes: Counter[Any] = field(default_factory=Counter)
    without_size: int = 0
    bytes: int = 0
    forwarded_up: int = 0
    forwarded_down: int = 0
    cut: int = 0
    cut_up: int = 0
    cut_down: int = 0
    first: int | None = None
    last: int | None = None
    last_decided: int | None = None
    went_back: int = 0

    def total(self) -> int:
        """Return the number of requests or actions that are not paired yet."""
        return sum(self.left.values())

    def merge(self, other: Group) -> None:
        """Add the requests to another target."""
        self.left += other.left
        self.statuses += other.statuses
        self.sizes += other.sizes
        self.without_size += other.without_size
        self.without_status += other.without_status
        self.not_opened += other.not_opened
        self.given_up += other.given_up
        self.bytes = saturated(self.bytes + other.bytes)
        self.see_time(other.first, other.last)

    def see_time(self, first: int | None, last: int | None) -> None:
        """Widen the range from `self.first` to `self.last`."""
        if first is not None and last is not None:
            self.first = first if self.first is None else min(self.first, first)
            self.last = last if self.last is None else max(self.last, last)

    def add_size(self, size: Any) -> None:
        """Count a size. After `MOST_SIZES` different sizes, new ones are not counted."""
        if size in self.sizes or len(self.sizes) < MOST_SIZES:
            self.sizes[size] += 1
        else:
            self.without_size += 1

    def take(self, number: int, order: tuple[str, ...]) -> int:
        """Take away up to `number` requests or actions, in this order of fates or endings; return how many."""
        taken = 0
        for word in order:
            part = min(self.left[word], number - taken)
            self.left[word] -= part
            taken += part
        return taken


@dataclass
class Requests:
    """All rows of the relay: those with a request to the mediator, and those without one."""

    groups: dict[Target, Group] = field(default_factory=dict)
    nameless: dict[str, Group] = field(default_factory=dict)
    asked: int = 0
    refused_unasked: Counter[str] = field(default_factory=Counter)


    def all(self) -> list[Group]:
        """Return the groups of all targets, and the groups of requests without a host name."""
        return [*self.groups.values(), *self.nameless.values()]


def _fate(row: dict[str, Any]) -> str:
    verdict, status = row.get("verdict"), row.get("status")
    fate = {"forwarded": "through", "blocked": "denied", "answered": "answered"}.get(verdict, "other")
    if verdict in ("failed", "unfinished"):
        is_open = 101 <= status < 400 if status is not None else row.get("bytes_down", 0) > 0
        fate = "opened" if is_open else "other"
    if verdict == "failed" and status == 502 and row.get("reason") in ("upstream_failed", "mediator_502"):
        fate = "failed"
    is_silent = row.get("transport") == "websocket" and row.get("bytes_down", 0) <= CLOSE_FRAME
    return "agreed" if is_silent and fate in ("through", "opened") else fate


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
        fate, verdict = _fate(row), row.get("verdict")
        group.left[fate] += 1
        up, down = row.get("bytes_up", 0), row.get("bytes_down", 0)
        if row.get("verdict") == "forwarded":
            group.add_size((row.get("status") or 0, up, down))
            group.forwarded_up = saturated(group.forwarded_up + up)
            group.forwarded_down = saturated(group.forwarded_down + down)
        else:
            group.reasons[_reason(row)] += 1
            group.without_size += 1
            if fate in ("opened", "agreed"):
                group.cut += 1
                group.cut_up = saturated(group.cut_up + up)
                group.cut_down = saturated(group.cut_down + down)
        layer, colon, _ = row.get("reason", "").partition(":")
        if fate == "denied" and colon:
            group.layers[layer] += 1
        group.given_up += verdict == "unfinished" or (verdict == "failed" and row.get("status") is None)
        is_failed = verdict == "failed" and row.get("reason", "").startswith("mediator_")
        group.not_opened += verdict == "blocked" or is_failed
        if row.get("status") is None:
            group.without_status += 1
        else:
            group.statuses[row["status"]] += 1
        group.bytes = saturated(group.bytes + up + down)
        ended = milliseconds(row.get("ts"))
        group.see_time(None if ended is None else ended - row.get("duration_us", 0) // 1000, ended)
    return requests


def read_number(text: str, bits: int) -> int | None:
    """Return an unsigned number of at most `bits` bits; a plus sign may precede it."""
    if not re.fullmatch(r"\+?[0-9]{1,40}", text, re.ASCII):
        return None
    value = int(text)
    return value if value < 2**bits else None


@dataclass
class Action:
    """One action: all receipts with the same `action_id`."""

    transport: str
    target: str
    method: str
    is_denied: bool = False
    is_denied_later: bool = False
    is_intent: bool = False
    denied_by: str | None = None
    outcome: dict[str, str] | None = None
    has_ended: bool = False
    close: bool | None = None
    decided: int | None = None
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
        if reason in NOT_REACHED:
            return "not_reached"
        if reason == "fetch_failed":
            return "not_answered"
        return "cut" if self.number("status", 16) else "cut_silent"

    def number(self, name: str, bits: int) -> int | None:
        """Return an unsigned number of at most `bits` bits that the outcome states; a plus sign may precede it."""
        return read_number((self.outcome or {}).get(name, ""), bits)


@dataclass
class Actions:
    """All signed actions."""

    groups: dict[Target, Group] = field(default_factory=dict)
    hidden: dict[str, Group] = field(default_factory=dict)
    frames: Counter[Target | None] = field(default_factory=Counter)
    frames_denied: Counter[Target | None] = field(default_factory=Counter)
    denied_by_list: Counter[str] = field(default_factory=Counter)
    reused_id: int = 0
    repeated: int = 0
    intents_repeated: int = 0
    without_intent: int = 0
    impossible_outcomes: int = 0
    outcomes_without_numbers: int = 0
    outcomes_with_status_0: int = 0


def outcome_words(receipt: Receipt) -> dict[str, str]:
    """Return the values in the pattern of an outcome, by name."""
    words: dict[str, str] = {}
    for word in receipt.text("pattern").split(" "):
        name, equals, value = word.partition("=")
        if equals:
            words.setdefault(name, value)
    return words


def _count_outcome(pattern: str, words: dict[str, str], actions: Actions, is_closed_tunnel: bool) -> None:
    """Count an outcome that no mediator writes, or else one that leaves out a number or has the status 0."""
    status, size = read_number(words.get("status", ""), 16), read_number(words.get("bytes", ""), 64)
    reason = words.get("reason", "")
    numbers = (("status", status), ("bytes", size))
    stated = " ".join(f"{name}={'unknown' if number is None else number}" for name, number in numbers)
    is_exact = pattern == f"{stated} reason={reason}"
    if status is None:
        has_its_numbers = size is None and reason == "incomplete"
    else:
        has_its_numbers = size is not None or reason != "complete"
    has_its_status = reason not in FAILED or status in FAILED[reason]
    if not (is_exact and has_its_numbers and reason and has_its_status) or (
        (reason in NOT_REACHED or is_closed_tunnel) and size
    ):
        actions.impossible_outcomes += 1
        return
    actions.outcomes_without_numbers += status is None or size is None
    actions.outcomes_with_status_0 += status == 0


def _read_one(by_id: dict[str, Action], receipt: Receipt, actions: Actions) -> None:
    layer, transport = receipt.text("layer"), receipt.record["transport"]
    is_denial = receipt.record["verdict"].strip().lower() in ("block", "ask")
    if transport == "websocket" and layer in FRAME_LAYERS:
        socket = read_url(transport, receipt.text("method"), receipt.record["target"])
        actions.frames[socket] += 1
        actions.frames_denied[socket] += is_denial
        return
    is_close = transport == "websocket" and layer == "session_close"
    named = (transport, receipt.record["target"], receipt.text("method"))
    phase = receipt.text("decision_phase")
    action = by_id.get(receipt.record["action_id"])
    time = milliseconds(receipt.record["timestamp"])
    begins_with_intent = transport in ("connect", "fetch", "forward", "websocket")
    if action is None:
        actions.without_intent += is_close or (begins_with_intent and not is_denial and phase != "intent")
        action = by_id[receipt.record["action_id"]] = Action(*named, is_intent=phase == "intent", decided=time)
        if is_denial and not is_close:
            action.is_denied = True
            if layer == "allowlist" and (target := read_url(transport, named[2], named[1])):
                actions.denied_by_list[target.host] += 1
        action.has_ended = phase != "intent"
    else:
        is_same = (action.transport, action.target, action.method) == named
        if action.has_ended:
            if not is_same:
                actions.reused_id += 1
            else:
                follows = is_close and action.close == is_denial
                action.close = None if is_close else action.close
                actions.repeated += not follows
            return
        actions.without_intent += is_close
        if not is_same:
            actions.reused_id += 1
            return
        if is_denial and not is_close and not action.is_denied:
            action.is_denied_later = True
        actions.intents_repeated += phase == "intent"
    if is_denial and not is_close and action.denied_by is None:
        action.denied_by = layer
    if phase == "outcome":
        action.outcome = outcome_words(receipt)
        action.has_ended = True
        is_closed_tunnel = transport == "connect" and action.is_denied_later
        _count_outcome(receipt.text("pattern"), action.outcome, actions, is_closed_tunnel)
        action.close = {"policy_blocked": True, "complete": False}.get(action.outcome.get("reason", ""))
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
        ending = action.ending()
        group.left[ending] += 1
        if action.denied_by is not None:
            group.layers[action.denied_by] += 1
        group.bytes = saturated(group.bytes + (action.number("bytes", 64) or 0))
        status, size = action.number("status", 16), action.number("bytes", 64)
        statuses = {
            "complete": group.statuses, "cut": group.statuses_cut,
            "not_reached": group.statuses_failed, "not_answered": group.statuses_failed,
        }
        if action.transport == "connect":
            statuses["denied_later"] = group.statuses_failed
        if status is not None and ending in statuses:
            statuses[ending][status] += 1
        if size is not None and ending == "complete":
            group.add_size((status or 0, size))
        if action.decided is not None and action.first is not None:
            group.see_time(action.first, action.last)
            group.last_decided = max(action.decided, group.last_decided or action.decided)
            group.went_back = max(group.went_back, action.decided - action.first)
    return actions
