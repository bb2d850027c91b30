"""The part of YAML in which the supervisor writes `policy.yaml`.

It reads block mappings, block sequences, and scalars on one line. Anything else is a `FormError`, because a
reader that guesses might see another policy than the mediator.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import strictjson
from errors import FormError

_KEY = re.compile(r"([A-Za-z0-9_./-]+)\s*:(?:\s+(.*))?", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,300}|[0-9]{0,20}\.[0-9]{1,20}|[0-9]{1,20}\.)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_MAX_INDENT = 64
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


@dataclass
class _Line:
    indent: int
    text: str


def _lines(text: str) -> list[_Line]:
    lines = []
    for raw in text.split("\n"):
        line = raw.removesuffix("\r")
        body = line.lstrip(" ")
        if not body or body.startswith("#"):
            continue
        if "\t" in line or body in ("---", "...") or body.startswith("%"):
            raise FormError("YAML with tabs, directives, or several documents is not read")
        indent = len(line) - len(body)
        if indent > _MAX_INDENT:
            raise FormError("YAML is nested too deep")
        lines.append(_Line(indent, body.rstrip(" ")))
    return lines


def _scalar(text: str) -> Any:
    if text.startswith('"'):
        value = strictjson.parse(text)
        if not isinstance(value, str):
            raise FormError("a quoted scalar is malformed")
        return value
    if text.startswith("'"):
        if not re.fullmatch(r"'(?:[^']|'')*'", text):
            raise FormError("a quoted scalar is malformed")
        return text[1:-1].replace("''", "'")
    if text in ("[]", "{}"):
        return [] if text == "[]" else {}
    if text[0] in "[]{}&*!|>%@`,?" or " #" in text or ": " in text or text.endswith(":"):
        raise FormError("a scalar of this form is not supported")
    if text in ("null", "Null", "NULL", "~"):
        return None
    if _NUMBER.fullmatch(text):
        return float(text)
    return _BOOLEANS.get(text, text)


class _Parser:
    def __init__(self, lines: list[_Line]) -> None:
        self.lines = lines
        self.at = 0

    def block(self, indent: int) -> Any:
        """Read the block that starts at the present line with this indent."""
        is_sequence = self.lines[self.at].text.startswith("- ") or self.lines[self.at].text == "-"
        return self._sequence(indent) if is_sequence else self._mapping(indent)

    def _mapping(self, indent: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while self.at < len(self.lines) and self.lines[self.at].indent == indent:
            match = _KEY.fullmatch(self.lines[self.at].text)
            if match is None:
                raise FormError("a line of the mapping is not KEY: VALUE")
            key, rest = match.group(1), match.group(2)
            if key in result:
                raise FormError(f"the key {key[:80]!r} occurs twice")
            self.at += 1
            result[key] = _scalar(rest) if rest else self._nested(indent)
        if self.at < len(self.lines) and self.lines[self.at].indent > indent:
            raise FormError("a line has an indent that does not fit")
        return result

    def _nested(self, indent: int) -> Any:
        if self.at == len(self.lines):
            return None
        line = self.lines[self.at]
        if line.indent > indent:
            return self.block(line.indent)
        if line.indent == indent and line.text.startswith("- "):
            return self._sequence(indent)
        return None

    def _sequence(self, indent: int) -> list[Any]:
        items: list[Any] = []
        while self.at < len(self.lines) and self.lines[self.at].indent == indent:
            line = self.lines[self.at]
            if not line.text.startswith("- "):
                break
            body = line.text[2:].lstrip(" ")
            if _KEY.fullmatch(body) and body[0] not in "\"'":
                self.lines[self.at] = _Line(indent + len(line.text) - len(body), body)
                items.append(self._mapping(self.lines[self.at].indent))
            else:
                self.at += 1
                items.append(_scalar(body))
        return items


def parse_policy(data: bytes) -> dict[str, Any]:
    """Parse a policy, and check that its `api_allowlist` lists strings that are not empty."""
    policy = _parse_mapping(data)
    entries = policy.get("api_allowlist")
    if isinstance(entries, list) and not all(isinstance(entry, str) and entry for entry in entries):
        raise FormError("an entry of api_allowlist is not a string, or empty")
    return policy


def _parse_mapping(data: bytes) -> dict[str, Any]:
    """Parse a YAML mapping without duplicate keys."""
    lines = _lines(strictjson.decode_utf8(data))
    if not lines:
        raise FormError("the policy is empty")
    parser = _Parser(lines)
    value = parser.block(lines[0].indent)
    if parser.at != len(lines) or not isinstance(value, dict):
        raise FormError("the policy is not one mapping")
    return value
