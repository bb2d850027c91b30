"""The action record of version 1 receipts: its schema and its canonical form (format/evidence.md, "Record")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import schema
from errors import FormError
from strictjson import escaped_string
from times import time_or_none


@dataclass(frozen=True)
class Member:
    """One member of an object that is signed; `is_kept` members are required and always written."""

    name: str
    kind: str
    is_kept: bool


def _members(text: str) -> tuple[Member, ...]:
    """Read a table. `name!` is a member that is always written, and `name:kind` is not a string."""
    members = []
    for word in text.split():
        name, _, kind = word.partition(":")
        members.append(Member(name.rstrip("!"), kind or "string", name.endswith("!")))
    return tuple(members)


RECORD = _members("""
    version!:unsigned action_id! parent_action_id action_type! timestamp! principal! actor!
    delegation_chain!:delegation target! intent data_classes_in:strings data_classes_out:strings
    side_effect_class! reversibility! policy_hash! verdict! decision_phase defer_id resolution_policy
    resolution_source session_id session_id_original session_taint_level session_contaminated:boolean
    recent_taint_sources:taint_sources session_task_id session_task_label authority_kind taint_decision
    taint_decision_reason task_override_applied:boolean contract_winning_source contract_live_verdict
    contract_policy_sources:strings contract_rule_id active_manifest_hash contract_hash
    contract_selector_id contract_generation:unsigned transport! method layer pattern severity
    redaction:redaction shield:shield request_id chain_prev_hash! chain_seq!:unsigned run_nonce
    key_transition:key_transition session_control:session_control venue jurisdiction rulebook_id
    remedy_class contestation_window precedent_refs:strings
""")

OBJECTS: dict[str, tuple[Member, ...]] = {
    "taint_source": _members("url! kind! level!:unsigned timestamp! receipt_id match_reason"),
    "redaction": _members("""
        profile provider parser total_redactions:unsigned by_class:counts cache_boundary_kept:boolean
    """),
    "shield": _members("""
        pipeline total_rewrites:unsigned extension_probes:unsigned tracking_beacons:unsigned
        agent_traps:unsigned fingerprint_shim_injected:boolean svg_foreign_objects:unsigned
        svg_event_handlers:unsigned svg_external_references:unsigned svg_hidden_text:unsigned
        svg_animation_injections:unsigned body_bytes:unsigned scanned_bytes:unsigned partial:boolean
        adaptive_signals_recorded:unsigned adaptive_signal_max_per_body:unsigned
    """),
    "key_transition": _members("prior_signer_key! prior_chain_seq!:unsigned prior_chain_hash!"),
    "session_control": _members("kind! open:open heartbeat:heartbeat close:close"),
    "open": _members("""
        run_nonce! open_nonce! recorder_session! policy_hash! signer_key_epoch! heartbeat_seconds!:integer
        chain_open_seq!:unsigned prior_chain_head prior_chain_seq:unsigned genesis_hash genesis_anchor_head
        genesis_anchor_log posture_capsule_sha256 posture_signer_key_id containment_nonce contained_uid
        group_binding:group_binding
    """),
    "group_binding": _members("""
        group_id! shard_index!:unsigned session_id! open_manifest_sha256! signer_key! previous_group_id!
        previous_open_manifest_sha256!
    """),
    "heartbeat": _members("""
        run_nonce! open_nonce! beat!:unsigned chain_head! chain_seq_head!:unsigned heartbeat_time!
        fsync_errors_gated!:unsigned durability_blocks!:unsigned
    """),
    "close": _members("""
        run_nonce! open_nonce! final_seq!:unsigned root_hash! receipt_count!:unsigned close_reason!
        fsync_errors_gated!:unsigned durability_blocks!:unsigned
    """),
}

ACTION_TYPES = frozenset(
    "read derive write delegate authorize spend commit actuate unclassified".split()
)
_FILLED = ("action_id", "action_type", "timestamp", "target", "verdict", "transport", "chain_prev_hash")


def _write(value: Any, kind: str, where: str) -> str:
    """Check one value against its kind and return its canonical text."""
    if kind == "string":
        schema.string(value, where)
        return escaped_string(value)
    if kind in ("unsigned", "integer"):
        (schema.unsigned if kind == "unsigned" else schema.integer)(value, where)
        return str(value)
    if kind == "boolean":
        schema.boolean(value, where)
        return "true" if value else "false"
    if kind in ("strings", "delegation"):
        if value is None and kind == "delegation":
            return "null"
        schema.array(schema.string)(value, where)
        return "[" + ",".join(escaped_string(item) for item in value) + "]"
    if kind == "counts":
        schema.mapping(schema.unsigned)(value, where)
        ordered = sorted(value.items(), key=lambda member: member[0].encode("utf-8"))
        return "{" + ",".join(f"{escaped_string(name)}:{count}" for name, count in ordered) + "}"
    if kind == "taint_sources":
        schema.array(schema.anything)(value, where)
        items = (write_object(item, OBJECTS["taint_source"], where) for item in value)
        return "[" + ",".join(items) + "]"
    return write_object(value, OBJECTS[kind], where)


def _is_empty(value: Any, kind: str) -> bool:
    if kind == "counts" and value == {}:
        return True
    return value is None or value is False or value == "" or value == [] or (value == 0 and not isinstance(value, bool))


def write_object(value: Any, members: tuple[Member, ...], where: str) -> str:
    """Check an object against its table and return its canonical text."""
    if not isinstance(value, dict):
        raise FormError(f"{where} is not an object")
    unknown = value.keys() - {member.name for member in members}
    if unknown:
        raise FormError(f"{where} has the unknown member {min(unknown)[:80]!r}")
    parts = []
    for member in members:
        if member.name not in value:
            if member.is_kept:
                raise FormError(f"{where} has no member {member.name!r}")
            continue
        item = value[member.name]
        if item is None and not member.is_kept:
            continue
        text = _write(item, member.kind, f"{where}.{member.name}")
        if member.is_kept or not _is_empty(item, member.kind):
            parts.append(f"{escaped_string(member.name)}:{text}")
    return "{" + ",".join(parts) + "}"


def canonical_record(record: Any) -> str:
    """Check the record's schema and return its canonical text."""
    return write_object(record, RECORD, "action_record")


def value_fault(record: dict[str, Any]) -> str | None:
    """Return the fault in the values of a record that matches its schema, or `None`."""
    if record["version"] != 1:
        return "version is not 1"
    for name in _FILLED:
        if not record[name]:
            return f"{name} is empty"
    if record["action_type"] not in ACTION_TYPES:
        return "action_type is not known"
    if time_or_none(record["timestamp"]) is None:
        return "timestamp is not a time"
    for name in ("key_transition", "session_control"):
        if name in record and record[name] is None:
            return f"{name} is null"
    return None
