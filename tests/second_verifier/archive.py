"""`workspace-changes.tar` and the changes that were not applied (format/documents.md, "The archive")."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, BinaryIO, Callable

from changed import unescape

_BLOCK = 512
_EMPTY = bytes(_BLOCK)
_MOST_HOLES = 8 << 30
_MOST_EXTENTS = 1 << 20
_LONGEST_NAME = 8 << 10
_OCTAL = re.compile(rb"[ \t\n\r\f]*([0-7]+)[ \0]*", re.ASCII)
_KINDS = {b"0": "file", b"S": "file", b"1": "link", b"2": "symlink", b"5": "directory", b"K": "K", b"L": "L"}

Change = dict[str, Any]


class _Broken(Exception):
    """The archive is not a tar archive in the form of the writer."""


@dataclass
class _Entry:
    kind: str
    name: bytes
    link: bytes
    stored: int
    length: int
    extents: list[tuple[int, int]]
    mode: int
    is_extended: bool = False


def _number(data: bytes) -> int:
    if data[0] == 0x80:
        if any(data[1:-8]):
            raise _Broken
        return int.from_bytes(data[-8:])
    match = _OCTAL.fullmatch(data)
    if match is None or int(match.group(1), 8) >= 2**64:
        raise _Broken
    return int(match.group(1), 8)


def _map(data: bytes) -> list[tuple[int, int]]:
    places = [data[at:at + 24] for at in range(0, len(data), 24)]
    used = next((at for at, place in enumerate(places) if place[0] == 0), len(places))
    if any(any(place) for place in places[used:]):
        raise _Broken
    return [(_number(place[:12]), _number(place[12:])) for place in places[:used]]


def _has_plain_fields(block: bytes, kind: str) -> bool:
    """Whether the other fields have the values of the writer."""
    owner, time = block[108:124], _number(block[136:148])
    devices = block[329:345]
    if kind == "file":
        devices, is_owned = devices.replace(b"0", b""), True
    elif kind in ("K", "L"):
        is_owned = _number(owner[:8]) == _number(owner[8:]) == time == 0
    else:
        is_owned = not any(owner) and time == 0
    rest = block[495 if block[156:157] == b"S" else 386:]
    return is_owned and not any(block[265:329] + devices + block[345:386]) and not any(rest)


def _has_mode(change: Change, entry: _Entry) -> bool:
    if entry.kind in ("directory", "symlink"):
        return entry.mode == (0o755 if entry.kind == "directory" else 0o777)
    text = change.get("mode")
    is_octal = isinstance(text, str) and re.fullmatch(r"\+?[0-7]+", text, re.ASCII) is not None
    stated = int(text, 8) if is_octal else 2**64
    is_same = stated >= 2**64 or (entry.mode & 0o7777 & ~stated == 0 and entry.mode & 0o777 == stated & 0o777)
    return entry.mode & ~0o7777 == 0o100000 and (change.get("reduced", False) or is_same)


def _header(block: bytes) -> _Entry:
    total = sum(block) - sum(block[148:156]) + 8 * 0x20
    kind = _KINDS.get(block[156:157])
    if block[257:265] != b"ustar  \0" or kind is None or _number(block[148:156]) != total:
        raise _Broken
    stored = _number(block[124:136])
    if stored and kind not in ("file", "K", "L"):
        raise _Broken
    if not _has_plain_fields(block, kind):
        raise _Broken
    name, link = (block[at:at + 100].split(b"\0")[0] for at in (0, 157))
    entry = _Entry(kind, name, link, stored, stored, [(0, stored)], _number(block[100:108]))
    if block[156:157] == b"S":
        entry.extents, entry.is_extended = _map(block[386:482]), block[482] != 0
        entry.length = _number(block[483:495])
    return entry


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.holes_left = _MOST_HOLES

    def _block(self) -> bytes:
        block = self.file.read(_BLOCK)
        if len(block) < _BLOCK:
            raise _Broken
        return block

    def entry(self) -> _Entry | None:
        """Return the next entry with its long names, or `None` at the end of the archive."""
        long: dict[str, bytes] = {}
        while True:
            block = self._block()
            if block == _EMPTY:
                if long or self._block() != _EMPTY:
                    raise _Broken
                return None
            entry = _header(block)
            if entry.kind not in ("K", "L"):
                entry.name, entry.link = long.get("L", entry.name), long.get("K", entry.link)
                self._extents(entry)
                return entry
            if entry.kind in long or entry.stored > _LONGEST_NAME:
                raise _Broken
            text = bytearray()
            self._data(entry.stored, text.extend)
            if not text or text.pop() != 0:
                raise _Broken
            long[entry.kind] = bytes(text)

    def _extents(self, entry: _Entry) -> None:
        while entry.is_extended:
            block = self._block()
            if any(block[505:]) or block[504] > 1:
                raise _Broken
            entry.extents += _map(block[:504])
            entry.is_extended = block[504] == 1
        at = total = 0
        for offset, length in entry.extents:
            end = offset + length
            if offset < at or end > entry.length or (length == 0 and end != entry.length):
                raise _Broken
            at, total = end, total + length
        if total != entry.stored:
            raise _Broken

    def _data(self, length: int, take: Callable[[bytes], object]) -> None:
        while length > 0:
            block = self._block()
            wanted = min(length, _BLOCK)
            if any(block[wanted:]):
                raise _Broken
            take(block[:wanted])
            length -= wanted

    def content(self, entry: _Entry) -> tuple[int, str | None]:
        """Return the length and the digest of a file; the digest is `None` if there are too many holes."""
        digest = hashlib.sha256()
        holes = entry.length - entry.stored
        is_hashed = holes <= self.holes_left and len(entry.extents) <= _MOST_EXTENTS
        if is_hashed:
            self.holes_left -= holes
        at = 0
        extents = iter([*entry.extents, (entry.length, 0)])
        offset, left = next(extents)

        def zeros(until: int) -> None:
            nonlocal at
            while is_hashed and at < until:
                piece = min(until - at, 1 << 20)
                digest.update(bytes(piece))
                at += piece
            at = max(at, until)

        def take(data: bytes) -> None:
            nonlocal at, offset, left
            while data:
                while left == 0:
                    offset, left = next(extents)
                zeros(offset)
                piece, data = data[:left], data[left:]
                digest.update(piece)
                at, offset, left = at + len(piece), offset + len(piece), left - len(piece)

        self._data(entry.stored, take)
        zeros(entry.length)
        return entry.length, digest.hexdigest() if is_hashed else None

    def is_at_end(self) -> bool:
        """Whether nothing follows."""
        return self.file.read(1) == b""


def _target(data: bytes) -> tuple[bool, list[bytes]]:
    return data.startswith(b"/"), [name for name in data.split(b"/") if name not in (b"", b".")]


def is_kept(change: Change) -> bool:
    """Whether the archive has an entry for a change."""
    is_made = change["change"] in ("created", "modified") and change["kind"] in ("directory", "file", "symlink")
    return is_made and change["outcome"] != "applied"


def is_of_changes(file: BinaryIO, changes: list[Change]) -> bool:
    """Whether an archive is that of the changes."""
    reader = _Reader(file)
    names: dict[bytes, tuple[int, str | None]] = {}
    try:
        for change in filter(is_kept, changes):
            if not _is_entry_of(reader, change, names):
                return False
        return reader.entry() is None and reader.is_at_end()
    except _Broken:
        return False


def _is_entry_of(reader: _Reader, change: Change, names: dict[bytes, tuple[int, str | None]]) -> bool:
    path, entry = unescape(change.get("path", "")), reader.entry()
    if path is None or entry is None or entry.name.removesuffix(b"/") != path:
        return False
    if not _has_mode(change, entry):
        return False
    if change["kind"] == "directory":
        return entry.kind == "directory"
    if change["kind"] == "symlink":
        target = unescape(change.get("target") or "")
        return entry.kind == "symlink" and _target(target or b"") == _target(entry.link)
    if entry.kind == "link" and entry.link in names:
        content = names[entry.link]
    elif entry.kind == "file":
        content = reader.content(entry)
    else:
        return False
    names[path] = content
    if change.get("reduced", False):
        return True
    length, digest = content
    if change.get("size") not in (None, length):
        return False
    return digest is None or change.get("sha256") in (None, digest)
