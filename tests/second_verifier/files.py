"""Bounded reading of the files of one packet directory."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import BinaryIO

from errors import FormError, TooLong, Unreadable

MAX_DOCUMENT = 8 * 1024 * 1024
MAX_LOG = 512 * 1024 * 1024
_CHUNK = 1024 * 1024


class PacketFiles:
    """The directory of a packet. Only regular files in the directory are read."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.realpath(directory)

    def open(self, name: str, most: int) -> BinaryIO | None:
        """Open a file that has at most `most` bytes; return `None` if there is no such entry."""
        path = os.path.join(self.directory, name)
        if not os.path.lexists(path):
            return None
        real = os.path.realpath(path)
        if not real.startswith(self.directory.rstrip("/") + "/"):
            raise Unreadable(f"{name!r} points outside the packet")
        try:
            descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise Unreadable(f"cannot open {name!r}: {error}") from None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise Unreadable(f"{name!r} is not a regular file")
        if status.st_size > most:
            os.close(descriptor)
            raise TooLong(f"{name!r} has {status.st_size} bytes, more than {most}")
        return os.fdopen(descriptor, "rb")

    def open_itself(self, name: str) -> BinaryIO:
        """Open a regular file of any length, but not through a link."""
        path = os.path.join(self.directory, name)
        if not os.path.isfile(path) or os.path.islink(path):
            raise Unreadable(f"{name!r} is not a regular file")
        return open(path, "rb")

    def read(self, name: str, most: int = MAX_DOCUMENT) -> bytes | None:
        """Return the bytes of a file, or `None` if there is no such entry."""
        file = self.open(name, most)
        if file is None:
            return None
        with file:
            data = file.read(most + 1)
        if len(data) > most:
            raise TooLong(f"{name!r} has more than {most} bytes")
        return data

    def entries(self) -> dict[str, str | None]:
        """Return the names in the directory, each with its SHA-256 if it is a regular file."""
        digests: dict[str, str | None] = {}
        try:
            names = sorted(os.listdir(self.directory))
        except OSError as error:
            raise Unreadable(f"cannot list the packet: {error}") from None
        for name in names:
            digests[name] = self._digest(name)
        return digests

    def sizes(self) -> dict[str, int]:
        """Return the names in the directory, each with its number of bytes."""
        names = os.listdir(self.directory)
        return {name: os.lstat(os.path.join(self.directory, name)).st_size for name in names}

    def _digest(self, name: str) -> str | None:
        path = os.path.join(self.directory, name)
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        digest = hashlib.sha256()
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            remaining = os.fstat(file.fileno()).st_size
            while remaining > 0 and (chunk := file.read(min(_CHUNK, remaining))):
                digest.update(chunk)
                remaining -= len(chunk)
        return digest.hexdigest()


def safe_name(name: str) -> None:
    """Raise `FormError` unless `name` is a path below the packet's directory (documents.md, "artifacts")."""
    parts = name.split("/")
    if name in ("", ".") or name.startswith("/") or any(c in name for c in ":\\\0") or ".." in parts:
        raise FormError(f"the path {name[:80]!r} does not stay in the packet")
