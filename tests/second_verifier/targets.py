"""Targets of requests and actions (format/comparison.md, "Targets")."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any

_REDACTED = "[redacted-"
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
SHORTEST_SECRET = 8
HIDDEN = "hidden"
UNKNOWN = "unknown"
_PERCENT = re.compile(rb"%([0-9a-fA-F]{2})")


@dataclass(frozen=True)
class Target:
    """The destination of a request or an action. `path` is empty if `path_kind` is `hidden` or `unknown`."""

    transport: str
    method: str
    scheme: str
    host: str
    port: int | None
    path: bytes
    path_kind: str = ""

    @property
    def is_partial(self) -> bool:
        """Whether a part of the target is not visible."""
        return self.port is None or self.path_kind != ""

    def order(self) -> tuple:
        """Return a key that sorts targets by their members."""
        port = -1 if self.port is None else self.port
        return (self.transport, self.method, self.scheme, self.host, port, self.path_kind, self.path)


def shortest_secret(policy: dict[str, Any] | None) -> int:
    """Return the length of the shortest path that is redacted under this policy."""
    dlp = {"patterns": None} if policy is None else policy.get("dlp")
    return 0 if isinstance(dlp, dict) and "patterns" in dlp else SHORTEST_SECRET


def may_be_same(one: Target, other: Target, shortest: int) -> bool:
    """Whether two targets may be the same destination. A shorter path is not redacted."""
    return (
        one.transport == other.transport
        and one.host == other.host
        and (one.port == other.port or one.port is None or other.port is None)
        and (one.scheme == other.scheme or not one.scheme or not other.scheme)
        and (one.method == other.method or not one.method or not other.method)
        and _paths_fit(one, other, shortest)
    )


def _paths_fit(one: Target, other: Target, shortest: int) -> bool:
    if UNKNOWN in (one.path_kind, other.path_kind):
        return True
    if one.path_kind == other.path_kind:
        return one.path == other.path
    visible = other if one.path_kind == HIDDEN else one
    return len(visible.path) >= shortest


def normal_host(text: str) -> str:
    """Bring a host name or an address into its usual form."""
    text = text.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text.lower().rstrip(".")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def is_address(text: str) -> bool:
    """Whether `text` is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_host(text: str) -> bool:
    """Whether `text`, in its usual form, is an address or a host name."""
    labels = text.split(".")
    is_name = len(text) <= 253 and all(re.fullmatch(r"[a-z0-9_-]{1,63}", label, re.ASCII) for label in labels)
    return is_name or is_address(text)


def is_listed(host: str, allowed: list[str]) -> bool:
    """Whether a host is on an allow-list."""
    if not is_host(host):
        return False
    for entry in allowed:
        if entry.startswith("*."):
            parent = normal_host(entry[2:])
            if host == parent or host.endswith("." + parent):
                return True
        elif host == normal_host(entry):
            return True
    return False


def _split_authority(authority: str) -> tuple[str, str]:
    """Return the host and the text of the port, which is empty if there is no port."""
    authority = authority.rpartition("@")[2]
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        return host, rest.removeprefix(":")
    host, _, port = authority.partition(":")
    return host, port


def _authority(url: str) -> tuple[str, str, str] | None:
    """Return scheme, authority, and the rest of a URL, or `None` without `://`."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return None
    end = next((index for index, char in enumerate(rest) if char in "/?#"), len(rest))
    return scheme.lower(), rest[:end], rest[end:]


def method_of(transport: str, method: str) -> str:
    """Return the method under which a request of this transport is paired."""
    return {"websocket": "WS", "connect": "CONNECT"}.get(transport, method)


def read_url(transport: str, method: str, url: str) -> Target | None:
    """Read a URL as a target; `None` means that the target is hidden."""
    parts = _authority(url)
    if parts is None or _REDACTED in parts[1]:
        return None
    scheme, authority, rest = parts
    if authority.rpartition("@")[2].startswith("[") and "]" not in authority:
        return None
    host, port_text = _split_authority(authority)
    if port_text:
        if not re.fullmatch(r"\+?[0-9]{1,40}", port_text, re.ASCII) or int(port_text) > 65535:
            return None
        port: int | None = int(port_text)
    else:
        port = None if transport == "connect" else _DEFAULT_PORTS.get(scheme)
    path = re.split("[?#]", rest, maxsplit=1)[0]
    kind, decoded = "", b""
    if _REDACTED in path:
        kind = HIDDEN
    else:
        decoded = _PERCENT.sub(lambda match: bytes([int(match.group(1), 16)]), (path or "/").encode("utf-8"))
    return Target(transport, method_of(transport, method), scheme, normal_host(host), port, decoded, kind)


def read_row_target(transport: str, text: str, host: str | None, port: int | None) -> Target | None:
    """Read the target of a row of the relay; `None` means that the row is nameless."""
    word, _, rest = text.partition(" ")
    if word == "CONNECT" and rest:
        return read_url(transport, "CONNECT", f"https://{rest}/")
    if "://" in rest and not rest.startswith("/"):
        return read_url(transport, word, rest)
    if not host:
        return None
    method = word if rest else ""
    return Target(transport, method_of(transport, method), "", normal_host(host), port, b"", UNKNOWN)


def target_names_user(target: str) -> bool:
    """Whether the authority of a receipt's target has user information."""
    parts = _authority(target)
    return parts is not None and "@" in parts[1]


def receipt_host(target: str) -> str | None:
    """Return the host of a receipt's target, in lower case, without port and user."""
    parts = _authority(target)
    if parts is None:
        return None
    return _split_authority(parts[1])[0].lower() or None
