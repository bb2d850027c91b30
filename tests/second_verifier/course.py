"""Steps of the run, namespaces, and the links of the kernel programs (format/checks.md)."""

from __future__ import annotations

import re
from typing import Any, Callable

from boundary import Boundary
from flows import FlowLog
from times import NANOSECONDS, time_or_none

_STEPS = (
    "cgroups made", "workspace mapped", "init spawned", "gates attached", "gates attached again", "boundary closed",
    "probes done", "mediator ready", "relay ready", "command executed", "command ended", "agent gone",
    "workspace done", "relay ended", "mediator ended",
)
_FIRST_NAMESPACE = 4_026_531_842
_OPTIONAL_PROGRAMS = frozenset({"agent_unix_connect", "agent_unix_sendmsg"})
_ROOT_CGROUP = 1
_SMALLEST_SIZE = 64 << 10
_SHORTEST_ROW = 128
_RECORDED_WITHIN = 15 * NANOSECONDS
_ENDED_WITHIN = 60 * NANOSECONDS
_OF_SOME_RUNS = frozenset({"workspace mapped", "gates attached again", "workspace done"})
_NAMESPACES = re.compile(r"cgroup:N ipc:N mnt:N net:N pid:N uts:N".replace("N", r"\[[0-9]+\]"), re.ASCII)


def observed_caps_of_course(boundary: Boundary, packet: dict[str, Any], log: FlowLog | None) -> list[str]:
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
    else:
        numbers = [int(text.partition("[")[2][:-1]) for text in boundary.document["namespaces"]]
        if len(set(numbers)) < len(numbers) or min(numbers) < _FIRST_NAMESPACE:
            caps.append("a namespace is one of the host, or two have the same number")
    is_reached = boundary.section("limits").get("seconds", {}).get("reached", False)
    if not boundary.incomplete and ("agent_exit_code" in packet["run"]) == is_reached:
        caps.append("the command has an exit status and a time-out, or neither")
    return caps + _cgroup_caps(boundary) + _measured_caps(boundary, log) + _time_caps(boundary, log)


def _measured_caps(boundary: Boundary, log: FlowLog | None) -> list[str]:
    """Return the conditions K23 to K25 that are not met."""
    caps = []
    users = boundary.section("users")
    agent = users.get("pipelock-agent", 0)
    if agent == 0 or [users.get(f"pipelock-{name}", 0) for name in ("host", "relay")] != [agent + 1, agent + 2]:
        caps.append("the users are not those of one run")
    optional = _OPTIONAL_PROGRAMS - {program["name"] for program in boundary.programs}
    if any(program.get("name", "") not in optional for program in boundary.section("programs").get("unavailable", [])):
        caps.append("a program is stated as unavailable, and is attached, required, or unknown")
    if boundary.incomplete:
        return caps
    limits = boundary.section("limits")
    beats = [row for row in log.of("supervisor") if row.get("event") != "end"] if log else []
    most = limits.get("processes", {}).get("most", 0)
    if any((limits.get(name) or {}).get("most", 0) < _SMALLEST_SIZE for name in ("memory", "scratch", "evidence")):
        caps.append("a limit on a size is smaller than a run can have")
    if any(row.get("processes", 0) > most for row in beats):
        caps.append("there were more processes than the limit")
    checked = {id(row) for row in beats if row.get("event") == "heartbeat"}
    places = [place for place, row in enumerate(log.every if log else []) if id(row) in checked]
    if places and places[-1] * _SHORTEST_ROW > limits.get("evidence", {}).get("most", 0):
        caps.append("the flow log is longer than the limit")
    return caps


def _at(boundary: Boundary, step: str) -> int | None:
    marks = boundary.document.get("timeline", [])
    return next((mark.get("at_us", 0) * 1000 for mark in marks if mark.get("step", "") == step), None)


def _time_caps(boundary: Boundary, log: FlowLog | None) -> list[str]:
    """Return the conditions on the duration of the run that are not met."""
    caps = []
    begin = _at(boundary, "command executed")
    ends = [_at(boundary, step) for step in ("command ended", "mediator ended")]
    rows = log.of("supervisor") if log else []
    times = [time_or_none(row.get("ts")) or 0 for row in rows]
    gone = [time for row, time in zip(rows, times) if row.get("event") == "agent_gone"]
    seen = [gone[-1] if gone else None, max(times, default=None)]
    for end, last in zip(ends, seen):
        if log is None or begin is None or end is None or last is None:
            continue
        more = last - min(times) - (end - begin)
        if not -_RECORDED_WITHIN - log.clock <= more <= log.shown:
            caps.append("the steps did not take as long as the rows show")
            break
    if boundary.incomplete:
        return caps
    limit = boundary.section("limits").get("seconds") or {}
    most = None if limit.get("most") is None else limit["most"] * NANOSECONDS
    ran = None if begin is None or ends[0] is None else max(ends[0] - begin, 0)
    if ran is not None and most is not None and ran > most + _ENDED_WITHIN:
        caps.append("the run took longer than its limit")
    if limit.get("reached", False) and (most is None or (ran is not None and ran < most)):
        caps.append("the time limit was not reached")
    return caps


def _cgroup_caps(boundary: Boundary) -> list[str]:
    names = {program["id"]: program["name"] for program in boundary.programs}
    cgroups: dict[str, set[int]] = {}
    for link in boundary.document["programs"]["links"]:
        if link["program_id"] in names:
            prefix = names[link["program_id"]].partition("_")[0]
            cgroups.setdefault(prefix, set()).add(link.get("cgroup_id", 0))
    caps = []
    if any(len(group) != 1 or min(group) <= _ROOT_CGROUP for group in cgroups.values()):
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
