"""Forms in which writers emit entries (format/comparison.md, "The form of receipts")."""

from __future__ import annotations

from typing import Any

_ENTRY = frozenset("v seq ts session_id type event_kind transport summary detail prev_hash hash".split())
_RECORD = frozenset(
    "version action_id action_type timestamp principal actor delegation_chain target side_effect_class reversibility "
    "policy_hash verdict decision_phase transport method layer pattern request_id chain_prev_hash chain_seq run_nonce "
    "session_control".split()
)
_DETAILS = {
    "action_receipt": frozenset("version action_record signature signer_key".split()),
    "checkpoint": frozenset("entry_count first_seq last_seq signature".split()),
    "transcript_root": frozenset("session_id final_seq root_hash receipt_count start_time end_time".split()),
}
_NOT_OPENED_WITH = ("prior_chain_head", "prior_chain_seq", "genesis_anchor_head", "genesis_anchor_log", "group_binding")
_COUNTERS = ("fsync_errors_gated", "durability_blocks")


def has_summary(entry: dict[str, Any]) -> bool:
    """Whether the summary is the text that follows from the content, if such a text is defined."""
    expected = _summary(entry)
    return expected is None or entry.get("summary", "") == expected


def _summary(entry: dict[str, Any]) -> str | None:
    detail = entry.get("detail")
    if not isinstance(detail, dict):
        return None
    texts = lambda source, names: [source.get(name) if isinstance(source.get(name), str) else "" for name in names]
    match entry["type"]:
        case "action_receipt" if isinstance(detail.get("action_record"), dict):
            verdict, kind, transport = texts(detail["action_record"], ("verdict", "action_type", "transport"))
            return f"receipt: {verdict} {kind} {transport}"
        case "evidence_receipt" if detail.get("payload_kind") == "proxy_decision":
            if not isinstance(detail.get("payload"), dict):
                return None
            kind, verdict, source = texts(detail["payload"], ("action_type", "verdict", "winning_source"))
            return f"proxy_decision: {kind} {verdict} via {source}"
        case "checkpoint":
            numbers = [detail.get(name) for name in ("entry_count", "first_seq", "last_seq")]
            if all(type(number) is int and number >= 0 for number in numbers):
                return "checkpoint: {} entries [seq {}-{}]".format(*numbers)
        case "transcript_root":
            count, (root,) = detail.get("receipt_count"), texts(detail, ("root_hash",))
            if type(count) is int and count >= 0:
                return f"transcript_root: {count} receipts, root={root[:16]}"
    return None


def is_builtin(entry: dict[str, Any], first: str, previous: str) -> bool:
    """Whether the built-in mediator writes this entry after entries with these times."""
    return _has_members(entry) and _has_values(entry, first, previous)


def _has_values(entry: dict[str, Any], first: str, previous: str) -> bool:
    detail, kind = entry["detail"], entry["type"]
    if kind == "action_receipt":
        record = detail["action_record"]
        words, times = (record.get("action_type"), record.get("transport")), {record.get("timestamp")}
    elif kind == "checkpoint":
        words, times = (kind, ""), {previous}
    else:
        if detail.get("start_time") != first:
            return False
        words, times = (kind, ""), {previous, detail.get("end_time")}
    return words == (entry.get("event_kind", ""), entry.get("transport", "")) and times == {entry["ts"]}


def _has_members(entry: dict[str, Any]) -> bool:
    detail, kind = entry.get("detail"), entry["type"]
    if entry["v"] != 2 or kind not in _DETAILS or entry.keys() - _ENTRY or not isinstance(detail, dict):
        return False
    if detail.keys() - _DETAILS[kind]:
        return False
    if kind != "action_receipt":
        return True
    record = detail.get("action_record")
    if not isinstance(record, dict) or record.keys() - _RECORD:
        return False
    control = record.get("session_control") or {}
    later = [control[name] for name in ("heartbeat", "close") if control.get(name)]
    is_open_usual = not any(name in (control.get("open") or {}) for name in _NOT_OPENED_WITH)
    return is_open_usual and all(payload.get(name) == 0 for payload in later for name in _COUNTERS)
