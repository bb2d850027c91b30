"""`attestation.json`: a DSSE envelope around an in-toto statement (format/boundary.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import crypto
import schema
import strictjson
from errors import Findings, FormError

NAME = "attestation.json"
_TIMESTAMP = "timestamp.tsr"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_PREDICATE = ("run_id", "tool", "verdict", "grade")
_ENVELOPE = schema.obj({
    "payloadType": schema.exactly(_PAYLOAD_TYPE),
    "payload": schema.string,
    "signatures": schema.array(schema.obj({
        "keyid": schema.string,
        "sig": schema.string,
    })),
})
_STATEMENT = schema.obj({
    "_type": schema.exactly("https://in-toto.io/Statement/v1"),
    "subject": schema.array(schema.obj({
        "name": schema.string,
        "digest": schema.obj({"sha256?": schema.string}),
        "annotations?": schema.nullable(schema.obj({"size?": schema.nullable(schema.unsigned)}, is_open=True)),
    })),
    "predicateType": schema.exactly("urn:egress:audit-packet:v0"),
    "predicate": schema.obj({
        f"{name}?": schema.string for name in _PREDICATE
    }),
})


@dataclass
class Attestation:
    """An attestation that matches its schema."""

    statement: dict[str, Any]
    signer: str | None
    is_pinned: bool

    def sizes(self) -> dict[str, int]:
        """Return the number of bytes of each file whose size is stated."""
        subjects = self.statement["subject"]
        sizes = {subject["name"]: _size_of(subject, -1) for subject in subjects}
        return {name: size for name, size in sizes.items() if size >= 0}

    @property
    def predicate(self) -> dict[str, str]:
        """The predicate of the statement, with an empty text for each absent member."""
        return dict.fromkeys(_PREDICATE, "") | self.statement["predicate"]


def _signature(text: str) -> bytes:
    """Decode a signature; a malformed one becomes empty, and is valid under no key."""
    try:
        return crypto.decode_base64(text)
    except FormError:
        return b""


def read_attestation(data: bytes, pinned: list[str], findings: Findings) -> Attestation | None:
    """Parse the attestation and find the key under which a signature is valid."""
    try:
        envelope = strictjson.parse_bytes(data)
        _ENVELOPE(envelope, "attestation")
        payload = crypto.decode_base64(envelope["payload"])
        statement = strictjson.parse_bytes(payload)
        _STATEMENT(statement, "statement")
    except FormError as error:
        findings.error("attestation.form", str(error))
        return None
    message = f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(payload)} ".encode("ascii") + payload
    signatures = [(item["keyid"].lower(), _signature(item["sig"])) for item in envelope["signatures"]]
    candidates = [(key, sig) for keyid, sig in signatures for key in (pinned or [keyid])]
    signer = next((key for key, signature in candidates if crypto.verify(key, signature, message)), None)
    if signer is None:
        findings.error("attestation.signature", "no signature of the attestation is valid under the boundary key")
    return Attestation(statement, signer, signer is not None and bool(pinned))


def check_subjects(
    attestation: Attestation, entries: dict[str, str | None], sizes: dict[str, int], findings: Findings
) -> None:
    """Compare the subjects with the entries of the packet's directory."""
    left = {name: digest for name, digest in entries.items() if name not in (NAME, _TIMESTAMP)}
    seen: set[str] = set()
    for subject in attestation.statement["subject"]:
        name = subject["name"]
        if name not in left or name in seen:
            findings.error("attestation.missing", f"the signed file {name[:80]!r} is missing")
        elif left[name] != subject["digest"].get("sha256") or (
            attestation.is_pinned and sizes[name] > _size_of(subject, sizes[name])
        ):
            findings.error("attestation.digest", f"{name[:80]!r} is not the file that was signed")
        seen.add(name)
    for name in left.keys() - seen:
        findings.error("attestation.extra", f"the file {name[:80]!r} is not signed")


def _size_of(subject: dict[str, Any], otherwise: int) -> int:
    """Return the size that a subject states, or `otherwise` if it states none."""
    size = (subject.get("annotations") or {}).get("size")
    return otherwise if size is None else size


def check_signer(
    attestation: Attestation, bound_key: str, capsule_signer: str | None, findings: Findings
) -> None:
    """Check that the signer of the attestation is the key that the receipts or the capsule name."""
    expected = bound_key or capsule_signer
    if attestation.signer and expected and attestation.signer != expected:
        findings.error("attestation.signer", "the attestation is signed by another key than the one that is bound")
