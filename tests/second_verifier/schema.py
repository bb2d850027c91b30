"""Checks of the types of JSON values, composed from small functions.

A check takes a value and its place, and raises `FormError` if the value does not fit.
"""

from __future__ import annotations

import re
from typing import Any, Callable

from errors import FormError

Check = Callable[[Any, str], None]

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


def anything(value: Any, where: str) -> None:
    """Accept any value."""


def string(value: Any, where: str) -> None:
    """Accept a string."""
    if not isinstance(value, str):
        raise FormError(f"{where} is not a string")


def filled(value: Any, where: str) -> None:
    """Accept a string that is not empty."""
    string(value, where)
    if not value:
        raise FormError(f"{where} is empty")


def boolean(value: Any, where: str) -> None:
    """Accept `true` or `false`."""
    if not isinstance(value, bool):
        raise FormError(f"{where} is not a boolean")


def integer(value: Any, where: str) -> None:
    """Accept an integer written as plain digits, perhaps with a minus sign."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise FormError(f"{where} is not an integer")


def unsigned(value: Any, where: str) -> None:
    """Accept an unsigned integer."""
    integer(value, where)
    if value < 0:
        raise FormError(f"{where} is negative")


def unsigned32(value: Any, where: str) -> None:
    """Accept an unsigned integer of 32 bits."""
    unsigned(value, where)
    if value >= 2**32:
        raise FormError(f"{where} has more than 32 bits")


def port(value: Any, where: str) -> None:
    """Accept an integer of 16 bits."""
    unsigned(value, where)
    if value > 65535:
        raise FormError(f"{where} is not a port")


def is_hash(value: Any) -> bool:
    """Whether `value` is 64 lowercase hexadecimal digits."""
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def digest(value: Any, where: str) -> None:
    """Accept 64 lowercase hexadecimal digits."""
    if not is_hash(value):
        raise FormError(f"{where} is not 64 lowercase hexadecimal digits")


def matching(pattern: str) -> Check:
    """Accept a string that matches `pattern` as a whole."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: Any, where: str) -> None:
        string(value, where)
        if not compiled.fullmatch(value):
            raise FormError(f"{where} does not have the required form")

    return check


def exactly(*choices: Any) -> Check:
    """Accept one of `choices`."""

    def check(value: Any, where: str) -> None:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise FormError(f"{where} is not {' or '.join(map(repr, choices))}")

    return check


def nullable(inner: Check) -> Check:
    """Accept `null`, and every value that `inner` accepts."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def array(inner: Check) -> Check:
    """Accept an array of items that `inner` accepts."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise FormError(f"{where} is not an array")
        for index, item in enumerate(value):
            inner(item, f"{where}[{index}]")

    return check


def mapping(inner: Check) -> Check:
    """Accept an object of members that `inner` accepts."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise FormError(f"{where} is not an object")
        for name, item in value.items():
            inner(item, f"{where}.{name}")

    return check


def obj(members: dict[str, Check], is_open: bool = False) -> Check:
    """Accept an object with these members; a name that ends in `?` may be absent.

    Unknown members are accepted only if `is_open` is set.
    """
    known = {name.rstrip("?"): (inner, not name.endswith("?")) for name, inner in members.items()}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise FormError(f"{where} is not an object")
        for name, item in value.items():
            if name in known:
                known[name][0](item, f"{where}.{name}")
            elif not is_open:
                raise FormError(f"{where} has the unknown member {name[:80]!r}")
        for name, (_, is_required) in known.items():
            if is_required and name not in value:
                raise FormError(f"{where} has no member {name!r}")

    return check
