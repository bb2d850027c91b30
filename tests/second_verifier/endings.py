"""How the relay can have ended a request that it sent to the mediator (format/rows.md, conditions 37 to 42)."""

from __future__ import annotations

import re
from typing import Any

# A layer and a reason, or one of the two.
_WORDS = re.compile(r"[A-Za-z0-9_.-]{1,64}(?::[A-Za-z0-9_.-]{1,64})?", re.ASCII)
_TRANSPORTS = frozenset({"connect", "forward", "fetch", "websocket"})
_OF_DENIALS = (403, 429, 503)
_WITHOUT_ANSWER = frozenset({
    "client_closed", "malformed_target", "mediator_closed", "mediator_timeout", "mediator_unreachable", "stopped",
})
_HELLOS = ("client_hello", "encrypted_client_hello", "name_mismatch")
_WITHOUT_BYTES = (*_HELLOS, "no_answer", "stopped")
_SHORTEST_HELLO = 43
_IDLE_US = 600_000_000

Row = dict[str, Any]


def broken(row: Row, mediator: str | None, is_early: bool) -> list[int]:
    """Return the numbers of the conditions that a row of the relay does not meet.

    `is_early` states whether the row precedes the first `agent_gone` row.
    """
    verdict, transport, reason = row.get("verdict", ""), row.get("transport"), row.get("reason", "")
    found = []
    if row.get("claimed") is not None and verdict != "answered":
        found.append(37)
    if transport not in _TRANSPORTS:
        return found
    is_sealed = transport == "connect" and row.get("protocol", "") not in ("http", "websocket")
    if not _is_possible(row, verdict, reason, is_sealed):
        found.append(38 if verdict in ("blocked", "answered") else 39)
    if is_sealed and not _has_possible_bytes(row, verdict, reason):
        found.append(40)
    if reason == "stopped" and row.get("status") is not None and is_early:
        found.append(42)
    has_layer = ":" in reason or _is_of_status(row, reason, "mediator_")
    if mediator == "builtin" and (verdict == "answered" or (verdict == "blocked" and not has_layer)):
        found.append(41)
    if mediator == "pipelock" and verdict == "blocked" and transport != "connect":
        found.append(41)
    return found


def _has_possible_bytes(row: Row, verdict: str, reason: str) -> bool:
    up, down = row.get("bytes_up", 0), row.get("bytes_down", 0)
    if verdict in ("blocked", "failed"):
        return up == down == 0
    if verdict == "forwarded":
        return up >= _SHORTEST_HELLO and down > 0
    if verdict == "unfinished":
        return up >= _SHORTEST_HELLO and (down > 0 or reason in _WITHOUT_BYTES)
    return True


def _is_of_status(row: Row, reason: str, start: str) -> bool:
    status = row.get("status")
    return status is not None and reason == f"{start}{status}"


def _is_possible(row: Row, verdict: str, reason: str, is_sealed: bool) -> bool:
    status = row.get("status")
    if verdict == "blocked":
        return _WORDS.fullmatch(reason) is not None
    if verdict == "answered":
        is_denial = row["transport"] != "connect" and status in _OF_DENIALS
        claimed = row.get("claimed")
        fits = claimed is None or _WORDS.fullmatch(claimed) is not None
        return is_denial and fits and _is_of_status(row, reason, "answered_")
    if verdict == "failed":
        if reason in ("malformed_chunk", "trailer_fields"):
            return row.get("protocol") == "http"
        if reason == "upstream_failed":
            return status in (None, 502)
        if reason in _WITHOUT_ANSWER:
            return status is None
        is_refusal = row["transport"] == "connect" and status in (403, 429)
        return _is_of_status(row, reason, "mediator_") and not is_refusal
    if verdict == "unfinished":
        return _is_cut(row, reason, is_sealed) and (not is_sealed or status == 200)
    return True


def _is_cut(row: Row, reason: str, is_sealed: bool) -> bool:
    has_answer = row.get("status") is not None
    protocol = row.get("protocol", "")
    if reason in ("client_closed", "mediator_closed", "stopped"):
        return True
    if reason in ("mediator_timeout", "mediator_unreachable", "upstream_failed"):
        return not has_answer
    if reason in _HELLOS:
        return is_sealed
    return {
        "mediator_status": protocol == "http" and not has_answer,
        "idle": (is_sealed or protocol == "websocket") and row.get("duration_us", 0) >= _IDLE_US,
        "no_answer": is_sealed and row.get("bytes_down", 0) == 0,
        "answer_cut": row["transport"] == "forward" and has_answer,
        "early_answer": protocol == "http" and has_answer,
        "unmasked_frame": protocol == "websocket" and has_answer,
    }.get(reason, False)
