"""Steps of the run, namespaces, and the links of the kernel programs (format/checks.md)."""

from __future__ import annotations

import re
from typing import Any, Callable

from boundary import Boundary

_STEPS = (
    "cgroups made", "workspace mapped", "init spawned", "gates attached", "gates attached again", "boundary closed",
    "probes done", "mediator ready", "relay ready", "command executed", "command ended", "agent gone",
    "workspace done", "relay ended", "mediator ended",
)
_OF_SOME_RUNS = frozenset({"workspace mapped", "gates attached again", "command executed", "workspace done"})
_NAMESPACES = re.compile(r"cgroup:N ipc:N mnt:N net:N pid:N uts:N".replace("N", r"\[[0-9]+\]"), re.ASCII)


def observed_caps_of_course(boundary: Boundary, packet: dict[str, Any]) -> list[str]:
    """Return the conditions K18 to K21 that cap the grade."""
    caps = []
    timeline = boundary.document.get("timeline", [])
    steps = [mark.get("step", "") for mark in timeline]
    places = [_STEPS.index(step) if step in _STEPS else None for step in steps]
    times = [mark.get("at_us", 0) for mark in timeline]
    is_known = None not in places
    if not is_known or any(one >= other for one, other in zip(places, places[1:])) or times != sorted(times):
        caps.append("the steps of the timeline are not in order")
    if not boundary.incomplete and set(_STEPS) - _OF_SOME_RUNS - set(steps):
        caps.append("the timeline lacks a step")
    if _NAMESPACES.fullmatch(" ".join(boundary.document.get("namespaces", []))) is None:
        caps.append("the namespaces are not of all kinds")
    is_reached = boundary.section("limits").get("seconds", {}).get("reached", False)
    if not boundary.incomplete and ("agent_exit_code" in packet["run"]) == is_reached:
        caps.append("the command has an exit status and a time-out, or neither")
    return caps + _cgroup_caps(boundary)


def _cgroup_caps(boundary: Boundary) -> list[str]:
    names = {program["id"]: program["name"] for program in boundary.programs}
    cgroups: dict[str, set[int]] = {}
    for link in boundary.document["programs"]["links"]:
        if link["program_id"] in names:
            prefix = names[link["program_id"]].partition("_")[0]
            cgroups.setdefault(prefix, set()).add(link.get("cgroup_id", 0))
    caps = []
    if any(len(group) != 1 or 0 in group for group in cgroups.values()):
        caps.append("programs of one group are attached to several cgroups, or to none")
    if len(set().union(*cgroups.values())) < sum(len(group) for group in cgroups.values()):
        caps.append("programs of two groups are attached to one cgroup")
    return caps


def check_links(boundary: Boundary, differ: Callable[[str], None]) -> None:
    """Check that each program has one link, at its hook."""
    left = {program["id"]: program for program in boundary.programs}
    for link in boundary.document["programs"]["links"]:
        program = left.pop(link["program_id"], None)
        if program is None:
            differ("a link belongs to no program, or the program has another link")
        elif program["attach_type"] != link.get("attach_type", 0):
            differ("a link is attached at another hook than its program's")
    if left:
        differ(f"{len(left)} programs have no link")
