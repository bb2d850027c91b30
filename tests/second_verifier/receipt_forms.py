"""Forms in which each mediator writes receipts (format/comparison.md, "The form of receipts")."""

from __future__ import annotations

from actions import FRAME_LAYERS
from receipts import Receipt
from targets import target_names_user

# Action type, side effects, and reversibility by method.
_CLASSES = {
    **dict.fromkeys(("CONNECT", "GET", "HEAD", "OPTIONS", "TRACE"), ("read", "external_read", "full")),
    **dict.fromkeys(("DELETE", "PATCH", "POST", "PUT", "QUERY"), ("write", "external_write", "compensatable")),
}
_UNCLASSIFIED = ("unclassified", "none", "unknown")


def _class(receipt: Receipt) -> tuple[str, str, str]:
    return _CLASSES.get(receipt.text("method"), _UNCLASSIFIED)


def _is_classified(receipt: Receipt) -> bool:
    said = (receipt.text("action_type"), receipt.text("side_effect_class"))
    is_old_query = receipt.text("method") == "QUERY" and said == _UNCLASSIFIED[:2]
    return said == _class(receipt)[:2] or is_old_query


def has_form(receipt: Receipt) -> bool:
    """Whether type, side effects, and method are those that every mediator writes."""
    has_class = receipt.record["transport"] not in ("forward", "connect") or _is_classified(receipt)
    return has_class and _has_method(receipt)


def is_of_writer(receipt: Receipt, writer: str) -> bool:
    """Whether this mediator writes receipts of this form."""
    usual = _class(receipt)[2]
    if writer != "builtin":
        return _is_pipelock(receipt, writer == "3.x", usual)
    return _is_classified(receipt) and receipt.text("reversibility") == usual and _is_builtin(receipt)


def _has_method(receipt: Receipt) -> bool:
    """Whether the method is the one that every mediator writes for this transport."""
    method, transport = receipt.text("method"), receipt.record["transport"]
    if transport == "websocket" and receipt.record["verdict"] == "allow":
        return method == "WS"
    return transport != "connect" or method == "CONNECT"


def _is_builtin(receipt: Receipt) -> bool:
    """Whether the built-in mediator writes intents, outcomes, or denials of this form."""
    phase, layer, method = (receipt.text(name) for name in ("decision_phase", "layer", "method"))
    verdict, transport = receipt.record["verdict"], receipt.record["transport"]
    if (phase, verdict) == ("intent", "allow"):
        fits = not layer
    elif (phase, verdict) == ("outcome", "allow"):
        fits = layer == "outcome"
    else:
        fits = (phase, verdict) == ("", "block") and layer not in ("", "session_close")
    methods = {"connect": "CONNECT", "websocket": "WS"}
    has_method = method == methods.get(transport, method)
    is_whole = _is_local(receipt) and bool(receipt.text("policy_hash"))
    return fits and has_method and is_whole and not target_names_user(receipt.record["target"])


def _is_local(receipt: Receipt) -> bool:
    """Whether the receipt names the only principal, and no delegation."""
    return receipt.text("principal") == "local" and receipt.record.get("delegation_chain") is None


def _is_pipelock(receipt: Receipt, has_sessions: bool, usual: str) -> bool:
    """Whether a Pipelock writes receipts of this form. `usual` is the reversibility of the method elsewhere."""
    phase, layer, method = (receipt.text(name) for name in ("decision_phase", "layer", "method"))
    verdict, stated = receipt.record["verdict"], receipt.text("reversibility")
    words = {"DELETE": ["irreversible"], "QUERY": ["compensatable", "unknown"]}.get(method, [usual])
    if stated not in words or not _is_local(receipt):
        return False
    is_frame = receipt.record["transport"] == "websocket" and layer in FRAME_LAYERS
    if phase == "intent":
        fits = verdict == "allow" and not layer
    elif phase == "outcome":
        fits = verdict == "allow" and layer == "outcome"
    elif phase:
        fits = False
    elif verdict == "allow":
        fits = bool(layer) and not is_frame
    else:
        fits = verdict == "block" and (not is_frame or method == "WS")
    return fits or not has_sessions


def is_session(receipt: Receipt, is_builtin: bool) -> bool:
    """Whether a mediator writes session records of this form."""
    kind = receipt.record["session_control"].get("kind", "").removeprefix("session_")
    expected = {"verdict": "allow", "transport": "receipt_session", "target": f"pipelock://session/{kind}"}
    if is_builtin:
        expected |= {
            "action_type": "unclassified", "side_effect_class": "none", "reversibility": "unknown",
            "principal": "local", "actor": "pipelock",
        }
        if any(receipt.record.get(name) is not None for name in ("layer", "method", "pattern", "severity")):
            return False
        beat = receipt.record["session_control"].get("heartbeat")
        if beat and beat["heartbeat_time"] != receipt.record["timestamp"]:
            return False
    fits = all(receipt.text(name) == text for name, text in expected.items())
    return fits and (not is_builtin or bool(receipt.text("policy_hash")))
