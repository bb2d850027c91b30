"""SHA-256, strict Ed25519, and the text forms of public keys."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from errors import FormError

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
# A point of order 8; with its negative, 0, 1, and -1 it gives the y coordinates of all points of small order.
_Y8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_SMALL_ORDER = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})

_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_KEY_HEADER = "pipelock-ed25519-public-v1"
_MAX_KEY_FILE = 64 * 1024


def sha256(data: bytes | str) -> str:
    """Return the hash of `data`, a text taken as UTF-8."""
    return hashlib.sha256(data.encode("utf-8") if isinstance(data, str) else data).hexdigest()


def _is_strict_point(encoded: bytes) -> bool:
    """Whether the encoding is canonical and the point does not have small order."""
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    return y < _P and y not in _SMALL_ORDER


def is_usable_key(key: str) -> bool:
    """Whether `key`, 64 hexadecimal digits, is a canonical point that does not have small order."""
    return _HEX_KEY.fullmatch(key) is not None and _is_strict_point(bytes.fromhex(key))


def verify(key: str, signature: bytes, message: bytes) -> bool:
    """Verify an Ed25519 signature strictly under a key of 64 hexadecimal digits."""
    if len(signature) != 64 or not is_usable_key(key) or not _is_strict_point(signature[:32]):
        return False
    if int.from_bytes(signature[32:], "little") >= _ORDER:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def decode_base64(text: str) -> bytes:
    """Decode standard base64 with padding; only the canonical encoding is accepted."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise FormError("not standard base64") from None
    if base64.b64encode(data).decode("ascii") != text:
        raise FormError("not canonical base64")
    return data


def _key_from_text(text: str) -> str | None:
    text = text.strip()
    if _HEX_KEY.fullmatch(text):
        return text.lower()
    header, _, rest = text.partition("\n")
    if header.rstrip("\r") != _KEY_HEADER:
        return None
    data = decode_base64(rest.strip())
    if len(data) != 32:
        raise FormError("a public key has 32 bytes")
    return data.hex()


def load_key(argument: str) -> str:
    """Return the public key in `argument`, which is a key text or the name of a key file."""
    key = _key_from_text(argument)
    if key is None:
        if os.path.getsize(argument) > _MAX_KEY_FILE:
            raise FormError(f"{argument!r} is too large for a key file")
        with open(argument, encoding="utf-8") as file:
            key = _key_from_text(file.read(_MAX_KEY_FILE))
    if key is None or not is_usable_key(key):
        raise FormError(f"{argument!r} is not a public key")
    return key
