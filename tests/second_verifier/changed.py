"""Changes that no run makes or applies (format/documents.md, "Impossible changes")."""

from __future__ import annotations

import re
from typing import Any, Iterator

NAMES = (
    ".buildkite", ".circleci", ".claude", ".codex", ".cursor", ".devcontainer", ".envrc", ".github", ".gitlab",
    ".gitlab-ci.yml", ".husky", ".mcp.json", ".vscode", "AGENTS.md", "CLAUDE.md", "Jenkinsfile", "azure-pipelines.yml",
)
_LOWER = frozenset(name.lower().encode() for name in NAMES)
_KINDS = ("device", "directory", "fifo", "file", "socket", "symlink")
_GIT_FILES = (b"COMMIT_EDITMSG", b"FETCH_HEAD", b"HEAD", b"ORIG_HEAD", b"index", b"packed-refs", b"shallow")
_ALTERNATES = (b"alternates", b"http-alternates")
_LONGEST, _DEEPEST = 3072, 256
_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_ESCAPE = re.compile(rb"\\(\\|x[0-9A-Fa-f]{2})?")

Change = dict[str, Any]


def unescape(text: str) -> bytes | None:
    """Return the bytes of a path, or `None` if an escape is wrong."""
    is_wrong = False

    def byte(match: re.Match[bytes]) -> bytes:
        nonlocal is_wrong
        escape = match.group(1)
        is_wrong |= escape is None
        return b"\\" if not escape or escape == b"\\" else bytes.fromhex(escape[1:].decode())

    found = _ESCAPE.sub(byte, text.encode("utf-8", "surrogatepass"))
    return None if is_wrong else found


def _is_below(path: bytes) -> bool:
    names = path.split(b"/")
    return not any(name in (b"", b".", b"..") or b"\0" in name for name in names)


def _matcher(part: str) -> re.Pattern[bytes]:
    return re.compile(b".*".join(re.escape(piece.encode()) for piece in part.split("*")), re.DOTALL)


class _Pattern:
    """A pattern of `allowed_changes`."""

    def __init__(self, text: str) -> None:
        parts = text.removesuffix("/").split("/")
        self.parts = [_matcher(part) for part in parts]
        is_protected = any(self.parts[0].fullmatch(name.encode()) for name in NAMES)
        self.is_valid = is_protected and not any(part in ("", ".", "..") for part in parts)

    def covers(self, names: list[bytes]) -> bool:
        is_long = len(names) >= len(self.parts)
        return is_long and all(part.fullmatch(name) for part, name in zip(self.parts, names))

    def reaches_below(self, names: list[bytes]) -> bool:
        is_short = len(names) < len(self.parts)
        return is_short and all(part.fullmatch(name) for part, name in zip(self.parts, names))


def _is_git(name: bytes) -> bool:
    return name.lower() == b".git"


def _allows(zone: str, name: bytes, kind: str, is_merged: bool) -> bool:
    """Whether an entry of a directory may be applied."""
    if _is_git(name):
        return is_merged and zone == "plain"
    if zone == "plain":
        return True
    if zone == "new" and name == b"config":
        return kind == "file"
    if zone in ("git", "new"):
        if name in (b"objects", b"refs", b"logs"):
            return kind == "directory"
        if name in (b"modules", b"worktrees"):
            return is_merged
        return kind == "file" and (name in _GIT_FILES or name.startswith(b"MERGE_"))
    if zone in ("modules", "worktrees"):
        return is_merged
    if zone == "info" and name.lower() in _ALTERNATES:
        return False
    return zone in ("objects", "info", "data") and kind in ("file", "directory")


def _children(zone: str, name: bytes, is_new: bool) -> Iterator[str]:
    """Return the possible zones of a directory in a directory of this zone."""
    if zone == "plain":
        yield "git"
        if not _is_git(name):
            yield "plain"
        if is_new:
            yield "new"
    elif zone in ("git", "new"):
        if zone == "new" and name == b"hooks":
            yield "closed"
        else:
            zones = {b"objects": "objects", b"refs": "data", b"logs": "data", b"modules": "modules"}
            yield zones.get(name, "worktrees" if name == b"worktrees" else "closed")
    elif zone == "modules":
        yield from ("git", "modules")
    elif zone == "worktrees":
        yield "git"
    elif zone in ("objects", "info", "data"):
        yield "info" if zone == "objects" and name.lower() == b"info" else "data"
    else:
        yield "closed"


def impossible(changes: list[Change], workspace: dict[str, Any]) -> list[str]:
    """Return the reasons why the changes, or the rules of the workspace, are impossible."""
    rules = _Rules(changes, workspace)
    reasons = {reason for change in changes if (reason := rules.judge(change))}
    if tuple(workspace.get("protected_by_default", [])) != NAMES:
        reasons.add("the names that are protected by default")
    if not all(pattern.is_valid for pattern in rules.allowed):
        reasons.add("an allowed change that is not a pattern")
    if len({change.get("path", "") for change in changes}) < len(changes):
        reasons.add("a path twice")
    if _has_change_below_a_file(changes):
        reasons.add("a path below a path that is not a directory")
    if workspace.get("mode") == "discard" and any(change["outcome"] == "applied" for change in changes):
        reasons.add("an applied change, although all changes were discarded")
    return sorted(f"changes.json contradicts the rules of the workspace: {reason}" for reason in reasons)


def _has_change_below_a_file(changes: list[Change]) -> bool:
    left = [change for change in changes if change["change"] != "deleted"]
    others = {change.get("path", "") for change in left if change["kind"] != "directory"}
    for change in left:
        names = change.get("path", "").split("/")
        if any("/".join(names[:length]) in others for length in range(1, len(names))):
            return True
    return False


class _Rules:
    def __init__(self, changes: list[Change], workspace: dict[str, Any]) -> None:
        self.allowed = [_Pattern(text) for text in workspace.get("allowed_changes", [])]
        begin = workspace.get("path", "").rstrip("/") + "/"
        paths = [path for path in workspace.get("protected", []) if "\ufffd" not in path]
        self.protected = [path.removeprefix(begin).encode() for path in paths if path.startswith(begin)]
        self.created = {
            unescape(change.get("path", "")) for change in changes
            if change["outcome"] == "applied" and change["change"] == "created"
        }

    def judge(self, change: Change) -> str | None:
        """Return why a change is impossible."""
        is_applied = change["outcome"] == "applied"
        path = unescape(change.get("path", ""))
        if path is None or not (_is_below(path) or (path == b"" and not is_applied)):
            return "a path that is not below the workspace"
        has_from = change.get("from") is not None
        former = unescape(change["from"]) if has_from else None
        is_wrong = has_from and (former is None or not _is_below(former))
        if is_wrong or has_from != (change["change"] == "moved"):
            return "a previous path of a directory that was not moved, or none of one that was"
        if not _has_members_of_its_kind(change):
            return "a member that its kind does not have"
        if change.get("reduced", False) and not _may_be_reduced(change, path):
            return "a reduced file that is not the configuration of a new repository"
        size, digest = change.get("size"), change.get("sha256")
        if None not in (size, digest) and (size == 0) != (digest == _OF_NOTHING):
            return "a length that does not fit the digest"
        if not is_applied:
            return None
        is_file = change["kind"] == "file" and change["change"] != "deleted"
        if is_file and not change.get("reduced", False) and _has_setid(change) != change.get("setid_dropped", False):
            return "an applied file with a setuid or setgid bit"
        return self._applies(change, path) or (self._protects(change, former) if former is not None else None)

    def _applies(self, change: Change, path: bytes) -> str | None:
        kind, is_deleted = change["kind"], change["change"] == "deleted"
        if kind not in _KINDS or (not is_deleted and kind in ("device", "fifo", "socket")):
            return "a kind that is never applied"
        names = path.split(b"/")
        if len(path) > _LONGEST or len(names) > _DEEPEST:
            return "a path that is too deep"
        if reason := self._protects(change, path):
            return reason
        is_merged = change["change"] == "modified" and kind == "directory"
        return None if self._fits_git(names, kind, is_merged) else "a change in a git directory"

    def _protects(self, change: Change, path: bytes) -> str | None:
        names = path.split(b"/")
        may_lead = change["kind"] == "directory" and change["change"] != "deleted"
        if names[0].lower() in _LOWER:
            is_allowed = [one.covers(names) or (may_lead and one.reaches_below(names)) for one in self.allowed]
            if not any(is_allowed):
                return "a path that is protected by default"
        is_protected = any(path == other or path.startswith(other + b"/") for other in self.protected)
        return "a protected path" if is_protected else None

    def _fits_git(self, names: list[bytes], kind: str, is_merged: bool) -> bool:
        zones = {"plain"}
        for place, name in enumerate(names[:-1]):
            is_new = name == b".git" and b"/".join(names[: place + 1]) in self.created
            zones = {child for zone in zones for child in _children(zone, name, is_new)}
        is_repository = names[-1] == b".git" and kind == "directory" and "plain" in zones
        return is_repository or any(_allows(zone, names[-1], kind, is_merged) for zone in zones)


def _has_setid(change: Change) -> bool:
    mode = change.get("mode")
    is_octal = isinstance(mode, str) and re.fullmatch(r"\+?[0-7]+", mode, re.ASCII) is not None
    return is_octal and int(mode, 8) < 2**32 and int(mode, 8) & 0o6000 != 0


def _may_be_reduced(change: Change, path: bytes) -> bool:
    is_config = path == b".git/config" or path.endswith(b"/.git/config")
    is_plain = change.get("mode") == "0644" and not change.get("setid_dropped", False)
    return is_config and is_plain and change["change"] == "created"


def _has_members_of_its_kind(change: Change) -> bool:
    def has(name: str) -> bool:
        return change.get(name) is not None

    is_file = change["kind"] == "file"
    of_file = has("size") or has("sha256") or change.get("setid_dropped", False) or change.get("reduced", False)
    is_left = of_file or has("mode") or has("target")
    return (
        (is_file or not of_file)
        and not (change["change"] == "deleted" and is_left)
        and (change["kind"] == "symlink" or not has("target"))
        and (change["kind"] == "directory" or not has("from"))
    )
