"""Closed forms of the boundary's files (format/rows.md), by the JSON Schemas of `docs/schema`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import strictjson
from boundary import Boundary
from errors import FormError
from flows import FlowLog

_SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"
_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "null": type(None)}
_OF_AUDITS = frozenset({"would_deny", "would_redirect", "dns_answer"})
_NOTES = frozenset({"$schema", "$defs", "title", "description"})


class Form:
    """A JSON Schema. Only the keywords of this project's schemas are known."""

    def __init__(self, name: str) -> None:
        self.schema = json.loads((_SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))

    def fits(self, value: Any) -> bool:
        """Whether `value` matches the schema."""
        return self._fits(value, self.schema)

    def _fits(self, value: Any, schema: dict[str, Any]) -> bool:
        return all(self._holds(value, schema, keyword) for keyword in schema if keyword not in _NOTES)

    def _holds(self, value: Any, schema: dict[str, Any], keyword: str) -> bool:
        stated = schema[keyword]
        match keyword:
            case "$ref":
                return self._fits(value, self.schema["$defs"][stated.rpartition("/")[2]])
            case "type":
                words = stated if isinstance(stated, list) else [stated]
                return any(_has_type(value, word) for word in words)
            case "const":
                return type(value) is type(stated) and value == stated
            case "anyOf":
                return any(self._fits(value, one) for one in stated)
            case "oneOf":
                return sum(self._fits(value, one) for one in stated) == 1
            case "minimum":
                return not _has_type(value, "integer") or value >= stated
            case "maximum":
                return not _has_type(value, "integer") or value <= stated
            case "pattern":
                pattern = re.sub(r"\$$", r"\\Z", stated)
                return not isinstance(value, str) or re.search(pattern, value, re.ASCII) is not None
            case "items":
                return not isinstance(value, list) or all(self._fits(item, stated) for item in value)
            case "required":
                return not isinstance(value, dict) or all(name in value for name in stated)
            case "properties":
                return not isinstance(value, dict) or all(
                    self._fits(value[name], one) for name, one in stated.items() if name in value
                )
            case "additionalProperties":
                others = set(value) - set(schema.get("properties", ())) if isinstance(value, dict) else set()
                if isinstance(stated, bool):
                    return stated or not others
                return all(self._fits(value[name], stated) for name in others)
        raise FormError(f"the schema has the unknown keyword {keyword}")


def _has_type(value: Any, word: str) -> bool:
    return isinstance(value, _TYPES[word]) and not (word == "integer" and isinstance(value, bool))


_BOUNDARY, _CHANGES, _ROW = Form("boundary"), Form("changes"), Form("flows")


def deviations(boundary: Boundary, changes: bytes | None, log: FlowLog | None) -> list[str]:
    """Return the conditions among K13, K14, and K15 that are met."""
    found = []
    if not _BOUNDARY.fits(boundary.document):
        found.append("boundary.json does not have its closed form")
    if changes is not None and not _is_changes(changes):
        found.append("changes.json does not have its closed form")
    rows = log.every if log else []
    strange = sum(1 for row in rows if row.get("verdict") in _OF_AUDITS or not _ROW.fits(row))
    if strange:
        found.append(f"{strange} rows of the flow log do not have their closed form")
    return found


def _is_changes(changes: bytes) -> bool:
    try:
        return _CHANGES.fits(strictjson.parse_bytes(changes))
    except FormError:
        return False
