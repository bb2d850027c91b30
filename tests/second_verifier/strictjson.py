"""Strict JSON, the source text of members, and canonical JSON (format.md, "Reading" and "Conventions")."""

from __future__ import annotations

import json
import re
from typing import Any, Callable

from errors import FormError

MAX_NUMBER = 2**53 - 1
DOCUMENT_DEPTH = 128
LINE_DEPTH = 127

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_PLAIN_INTEGER = re.compile(r"-?[1-9][0-9]*|0", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_JSON_SPACE = " \t\n\r"


class OtherNumber(float):
    """A number with a fraction, an exponent, or a sign on zero: valid JSON, but not an integer of this format."""


def _integer(text: str) -> Any:
    if len(text) > 17:
        raise FormError("a number exceeds 2^53 - 1")
    if not _PLAIN_INTEGER.fullmatch(text):
        return OtherNumber(text)
    value = int(text)
    if abs(value) > MAX_NUMBER:
        raise FormError("a number exceeds 2^53 - 1")
    return value


def _fraction(text: str) -> OtherNumber:
    value = OtherNumber(text)
    if not abs(value) <= MAX_NUMBER:
        raise FormError("a number exceeds 2^53 - 1")
    return value


def _constant(text: str) -> Any:
    raise FormError(f"{text} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise FormError("an object has a name twice")
    return members


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)


def _check_depth(text: str, most: int) -> None:
    """Reject a text that is nested too deep before the recursive parser sees it."""
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > most:
            raise FormError(f"JSON is nested more than {most} levels deep")


def _has_surrogate(value: Any) -> bool:
    """Whether a string or a name holds half of a surrogate pair."""
    if isinstance(value, str):
        return _SURROGATE.search(value) is not None
    if isinstance(value, list):
        return any(_has_surrogate(item) for item in value)
    if isinstance(value, dict):
        return any(_has_surrogate(name) or _has_surrogate(item) for name, item in value.items())
    return False


def decode_utf8(data: bytes) -> str:
    """Return the text of `data`, which must be UTF-8 without a byte order mark."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormError(f"not UTF-8 at byte {error.start}") from None
    if text.startswith("\ufeff"):
        raise FormError("starts with a byte order mark")
    return text


def parse(text: str, depth: int = DOCUMENT_DEPTH) -> Any:
    """Parse one strict JSON value with nothing but white space around it."""
    _check_depth(text, depth)
    try:
        value = _DECODER.decode(text)
    except FormError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormError(f"not strict JSON: {error}") from None
    if "\\u" in text and _has_surrogate(value):
        raise FormError("a string holds a lone surrogate")
    return value


def parse_bytes(data: bytes, depth: int = DOCUMENT_DEPTH) -> Any:
    """Parse the bytes of a file as one strict JSON value."""
    return parse(decode_utf8(data), depth)


def member_sources(text: str) -> dict[str, str]:
    """Return the source text of each member of the object that `text` holds.

    `text` must have passed `parse`; the sources exclude the white space around each value.
    """
    sources: dict[str, str] = {}
    at = _skip_space(text, 0) + 1
    while True:
        at = _skip_space(text, at)
        if text[at] == "}":
            return sources
        if text[at] == ",":
            at = _skip_space(text, at + 1)
        name, at = _DECODER.raw_decode(text, at)
        at = _skip_space(text, _skip_space(text, at) + 1)
        _, end = _DECODER.raw_decode(text, at)
        sources[name] = text[at:end]
        at = end


def _skip_space(text: str, at: int) -> int:
    while text[at] in _JSON_SPACE:
        at += 1
    return at


_ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
    "<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029",
}
_ESCAPED = re.compile('["\\\\\x00-\x1f<>&\u2028\u2029]')
_ESCAPED_IN_SOURCE = re.compile("[<>&\u2028\u2029]")


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    return _ESCAPES.get(char) or f"\\u{ord(char):04x}"


def escaped_string(text: str) -> str:
    """Write `text` as an escaped string."""
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def canonical(value: Any, text_form: Callable[[str], str] = str) -> str:
    """Write `value` as canonical JSON, with `text_form` applied to each string and name first."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return escaped_string(text_form(value))
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ",".join(canonical(item, text_form) for item in value) + "]"
    if isinstance(value, dict):
        members = {text_form(name): item for name, item in value.items()}
        if len(members) != len(value):
            raise FormError("two names of an object are equal in their canonical form")
        ordered = sorted(members.items(), key=lambda member: member[0].encode("utf-8"))
        return "{" + ",".join(f"{escaped_string(n)}:{canonical(v, text_form)}" for n, v in ordered) + "}"
    raise FormError("a number has a fraction, an exponent, or a sign on zero")


def compact_source(source: str) -> str:
    """Remove the white space between the tokens of `source`, and escape the characters that Go escapes in any JSON."""
    parts: list[str] = []
    at = 0
    for match in _STRING.finditer(source):
        parts.append(re.sub(f"[{_JSON_SPACE}]", "", source[at : match.start()]))
        parts.append(_ESCAPED_IN_SOURCE.sub(_escape, match.group()))
        at = match.end()
    parts.append(re.sub(f"[{_JSON_SPACE}]", "", source[at:]))
    return "".join(parts)
