"""Heartbeats of the built-in mediator (format/comparison.md)."""

from __future__ import annotations

import re
from typing import Any

from receipts import Receipt
from times import time_or_none

_PART = re.compile(r"(\d+)([hms])", re.ASCII)
_UNITS = {"h": 3600, "m": 60, "s": 1}
_DEFAULT = 60


def most_apart(receipts: list[Receipt]) -> int:
    """Return the longest time by which a session record is not where the interval puts it, in ms."""
    apart, interval, last = 0, 0, None
    for receipt in receipts:
        if not receipt.is_session_record:
            continue
        control = receipt.record["session_control"]
        if control.get("open"):
            interval = max(control["open"]["heartbeat_seconds"], 0) * 1000
        now = time_or_none(receipt.record["timestamp"])
        now = None if now is None else now // 1_000_000
        if None not in (last, now):
            late = now - last - interval
            if control.get("heartbeat"):
                apart = max(apart, abs(late))
            elif control.get("close"):
                apart = max(apart, late)
        last = now
    return apart


def interval_changes(opens: list[dict[str, Any]], policy: dict[str, Any] | None) -> int:
    """Count the changes of the interval to one that the policy does not set."""
    if policy is None:
        return 0
    completeness = (policy.get("flight_recorder") or {}).get("completeness") or {}
    text = completeness.get("heartbeat_interval")
    parts = _PART.findall(text) if isinstance(text, str) else []
    expected = sum(int(number) * _UNITS[unit] for number, unit in parts) if parts else _DEFAULT
    stated = [max(payload["heartbeat_seconds"], 0) for payload in opens]
    changes = [one for at, one in enumerate(stated) if at == 0 or stated[at - 1] != one]
    return sum(one != max(expected, 1) for one in changes)
