"""The comparison of receipts, relay, and kernel (format/comparison.md)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from actions import (
    ENDINGS, FATES, LET_THROUGH, MAX_SUM, Actions, Group, Requests, milliseconds, read_actions, read_requests,
)
from beats import interval_changes, most_apart
from boundary import Boundary
from evidence import Evidence
from flows import FlowLog
from receipt_forms import has_form, is_of_writer, is_session
from receipts import Receipt
from targets import HIDDEN, Target, is_address, is_listed, may_be_same, shortest_secret
from times import most_back
from wires import compare_command, compare_mediator

RECORDED_WITHIN = 15_000
UNNOTICED = 100
IN_BUFFERS = 16 * 1024 * 1024
TUNNEL_SLACK = 16 * 1024

_UNSIGNED_BY_2 = "cut, or agreed to before the dial"
_NOT_OPENED = ("denied", "failed", "answered", "other")
_ANSWERED = "denied denied_later cut complete cut_silent not_answered not_reached open".split()
_OTHER = "not_reached not_answered cut_silent cut open denied_later denied complete".split()
_BUILTIN = {
    "through": "complete cut".split(),
    "opened": "cut complete open".split(),
    "agreed": "complete cut open".split(),
    "denied": ["denied"],
    "failed": "not_reached not_answered cut open".split(),
    "answered": _ANSWERED,
    "other": _OTHER,
}
_OPENED_3 = "cut open complete cut_silent not_answered denied_later".split()
_AGREED_3 = "complete cut cut_silent open denied_later not_reached not_answered".split()
_FITTING = {
    "builtin": _BUILTIN,
    "3.x": {
        "through": "complete cut".split(),
        "opened": _OPENED_3,
        "agreed": _AGREED_3,
        "denied": "denied denied_later not_reached cut cut_silent".split(),
        "failed": _OTHER,
        "answered": _ANSWERED,
        "other": _OTHER,
    },
    "2.x": {
        "through": ["complete"],
        "opened": _OPENED_3,
        "agreed": _AGREED_3,
        "denied": ["denied"],
        "failed": _OTHER,
        "answered": _ANSWERED,
        "other": _OTHER,
    },
}
_VERDICTS = frozenset({"allow", "ask", "block", "forward", "redirect", "strip", "warn"})


@dataclass
class Comparison:
    """Every number of the comparison; `disagreements` has only those that are not 0."""

    numbers: Counter[str] = field(default_factory=Counter)
    without_receipt: Counter[str] = field(default_factory=Counter)
    disagreements: Counter[str] = field(default_factory=Counter)

    def caps_grade(self) -> bool:
        """Whether the comparison found anything that lowers the grade."""
        lost = any(self.numbers[name] for name in ("unsigned", "unasked", "unseen"))
        return lost or any(self.disagreements.values())


def compare(evidence: Evidence, log: FlowLog, boundary: Boundary | None, policy: dict[str, Any] | None) -> Comparison:
    """Compare everything that the three recorders state."""
    return _Comparer(evidence, log, boundary, policy).run()


class _Comparer:
    def __init__(
        self, evidence: Evidence, log: FlowLog, boundary: Boundary | None, policy: dict[str, Any] | None
    ) -> None:
        self.evidence, self.log, self.policy = evidence, log, policy
        kind = boundary.mediator_kind if boundary else ""
        self.writer = "builtin" if kind == "builtin" else "3.x" if evidence.opens else "2.x"
        self.intercepts = bool(boundary and boundary.document.get("tls_interception") is not None)
        pipelock = (boundary.section("mediator").get("pipelock") or {}) if boundary else {"redact": True}
        self.redacts = bool(pipelock.get("redact", False))
        self.shortest = shortest_secret(policy)
        programs = {program["name"] for program in boundary.programs} if boundary else set()
        self.has_witness = "mediator_sockops" in programs
        self.clock_set = log.clock // 1_000_000
        timeline = boundary.document.get("timeline", []) if boundary else []
        executed = [mark["at_us"] for mark in timeline if mark["step"] == "command executed"]
        self.preparation = executed[0] // 1000 if executed else 0
        self.requests: Requests = read_requests(log.of("relay"))
        self.actions: Actions = read_actions(evidence.receipts)
        self.result = Comparison()
        self.numbers, self.differ = self.result.numbers, self.result.disagreements

    def run(self) -> Comparison:
        """Make all comparisons in the order of the page."""
        self.numbers["asked"] = self.requests.asked
        self.differ["unknown_row"] = self.log.unknown_rows
        self.differ["reused_id"] = self.actions.reused_id
        self.differ["repeated"] = self.actions.repeated
        self.differ["unknown_verdict"] = self.actions.impossible_outcomes
        if self.writer == "builtin":
            self.differ["repeated"] += self.actions.intents_repeated
            self.differ["unknown_verdict"] += self.actions.outcomes_without_numbers
        else:
            self.differ["unknown_verdict"] += self.actions.outcomes_with_status_0
        if self.writer == "3.x":
            self.differ["other_form"] += self.actions.without_intent
        for receipt in self.evidence.receipts:
            if not receipt.is_session_record:
                self._words(receipt)
            else:
                self.differ["other_form"] += not is_session(receipt, self.writer == "builtin")
        self._entries()
        self._frames()
        self._policy()
        self._twins()
        self._times()
        endings = self.actions.groups.values(), self.actions.hidden.values()
        if self.writer == "builtin":
            self.differ["allowed_and_denied"] = sum(g.left["denied_later"] for gs in endings for g in gs)
        if self.has_witness:
            compare_mediator(self.requests, self.actions, self.log, self.writer, self.differ)
        compare_command(self.log, self.has_witness, self.numbers, self.differ)
        self._intercepted()
        self._whole_targets()
        self._visible_parts()
        self._hidden_hosts()
        self._same_hosts()
        self._rest()
        return self.result

    # Pairing

    def _fitting(self, fate: str, transport: str) -> list[str]:
        endings = _FITTING[self.writer][fate]
        if self.writer == "builtin":
            return endings
        if fate == "denied" and transport == "connect" and self.writer == "3.x":
            return ["denied", "denied_later"]
        if fate == "opened" and transport == "connect":
            return [ending for ending in endings if ending != "denied_later"]
        if fate == "failed" and transport == "connect" and self.writer == "3.x":
            return ["not_reached", "open"]
        if fate == "through" and self.writer == "3.x":
            return {"websocket": [*endings, "open"], "fetch": ["complete"]}.get(transport, endings)
        return endings

    def _settle(self, requests: Group, actions: Group, transport: str, fates: tuple[str, ...] = FATES) -> None:
        for fate in fates:
            for ending in self._fitting(fate, transport):
                number = min(requests.left[fate], actions.left[ending])
                requests.left[fate] -= number
                actions.left[ending] -= number
                self.numbers["receipted"] += number

    def _ordered(self, groups: dict[Target, Group]) -> list[tuple[Target, Group]]:
        return sorted(groups.items(), key=lambda item: item[0].order())

    def _by_place(self, groups: dict[Target, Group]) -> dict[tuple[str, str], list[tuple[Target, Group]]]:
        """Return the targets that have unpaired requests or actions, by transport and host."""
        places: dict[tuple[str, str], list[tuple[Target, Group]]] = {}
        for target, group in self._ordered(groups):
            if group.total():
                places.setdefault((target.transport, target.host), []).append((target, group))
        return places

    def _intercepted(self) -> None:
        inside = {t: g for t, g in self.actions.groups.items() if t.transport == "intercept"}
        for target in inside:
            del self.actions.groups[target]
        by_host: Counter[str] = Counter()
        for target, group in inside.items():
            by_host[target.host] += group.total()
        if not self.intercepts:
            self.differ["intercepted"] = sum(by_host.values())
            return
        places = self._by_place(self.requests.groups)
        for host in sorted(by_host):
            tunnels = places.get(("connect", host), [])
            self.numbers["said_alone" if tunnels else "unasked"] += by_host[host]
            if self.writer != "2.x":
                continue
            for target, group in tunnels:
                signed = self.actions.groups.get(target)
                beyond = group.total() - (signed.total() if signed else 0)
                self.numbers["receipted"] += group.take(max(beyond, 0), FATES)

    def _whole_targets(self) -> None:
        ordered = self._ordered(self.requests.groups)
        for target, requests in sorted(ordered, key=lambda item: item[0].path_kind == HIDDEN):
            actions = self.actions.groups.get(target)
            if actions is None or self._may_stand_for_another(target):
                continue
            self._compare_target(target, requests, actions)
            self._settle(requests, actions, target.transport)
            number = min(requests.total(), actions.total())
            went = min(number, sum(requests.left[fate] for fate in LET_THROUGH))
            self.differ["through_but_denied"] += went
            denied = min(number - went, requests.left["denied"])
            self.differ["denied_but_allowed"] += denied
            self.differ["failed_otherwise"] += number - went - denied
            self.numbers["receipted"] += number
            requests.take(number, FATES)
            actions.take(number, ENDINGS)

    def _may_stand_for_another(self, target: Target) -> bool:
        """Whether some requests or actions with this hidden path may be those of another target."""
        if target.path_kind != HIDDEN or not self.redacts or self.writer == "2.x":
            return False
        groups = (*self.requests.groups.items(), *self.actions.groups.items())
        others = (other for other, group in groups if group.total() and other != target)
        return any(may_be_same(other, target, self.shortest) for other in others)

    def _compare_target(self, target: Target, requests: Group, actions: Group) -> None:
        self._compare_signed(target, requests, actions)
        most = max(requests.total(), actions.total())
        if self.writer == "builtin" or (self.writer == "3.x" and target.transport == "connect"):
            self.differ["other_layer"] += (requests.layers - actions.layers).total()
        if actions.bytes < self._least_bytes(target.transport, requests, most):
            self.differ["fewer_bytes"] += 1

    def _compare_signed(self, target: Target, requests: Group, actions: Group) -> None:
        """Compare what is signed with requests that may include others than those that were signed."""
        most = max(requests.total(), actions.total())
        slack = RECORDED_WITHIN + self.clock_set
        if None not in (requests.first, actions.first):
            last = actions.last if self.writer == "builtin" else actions.last_decided
            is_late = last > requests.last + slack and (self.writer == "builtin" or requests.given_up == 0)
            goes_back = actions.went_back > UNNOTICED + self.clock_set
            if actions.first < requests.first - slack or is_late or goes_back:
                self.differ["other_time"] += 1
        in_buffers = IN_BUFFERS * (most if target.transport == "fetch" else requests.without_size)
        if actions.bytes > requests.bytes + in_buffers + TUNNEL_SLACK * most:
            self.differ["more_bytes"] += 1
        self.differ["other_status"] += self._other_statuses(target.transport, requests, actions)
        self._compare_sizes(target.transport, requests, actions)

    def _other_statuses(self, transport: str, requests: Group, actions: Group) -> int:
        """Count the signed statuses that contradict those of the requests."""
        complete, cut, failed = actions.statuses, actions.statuses_cut, actions.statuses_failed

        def other(statuses: Counter[int], expected: int) -> int:
            return statuses.total() - statuses[expected]

        def unseen(statuses: Counter[int]) -> int:
            return max((statuses - requests.statuses).total() - requests.without_status, 0)

        match transport, self.writer:
            case ("forward", _) | ("websocket", "builtin"):
                return unseen(complete + cut + failed)
            case "connect", _:
                not_opened = max(requests.total() - requests.statuses[200], 0)
                as_opened = complete[200] + cut[200] - (requests.total() - requests.not_opened)
                return other(complete, 200) + max(other(cut, 200) - not_opened, 0) + max(as_opened, 0) + unseen(failed)
            case "websocket", "3.x":
                return other(complete, 1000) + other(cut, 1008)
            case "fetch", "3.x":
                return unseen(cut + failed)
        return 0

    def _least_bytes(self, transport: str, requests: Group, connections: int) -> int:
        """Return how many bytes the receipts of a target state at least."""
        up, down = requests.forwarded_up, requests.forwarded_down
        slack = TUNNEL_SLACK * connections
        if transport in ("connect", "websocket") and self.writer == "builtin":
            return up + down + requests.cut_up + requests.cut_down - IN_BUFFERS * requests.cut - slack
        if transport == "forward" and self.writer == "builtin":
            return max(down + requests.cut_down - slack, up + down - IN_BUFFERS * connections)
        if transport == "forward" and self.writer == "3.x":
            return down - slack
        return 0

    def _compare_sizes(self, transport: str, requests: Group, actions: Group) -> None:
        is_tunnel = transport in ("connect", "websocket")
        if self.writer == "2.x" or not (is_tunnel or transport == "forward"):
            return
        below = TUNNEL_SLACK if is_tunnel else 0
        above = below if self.writer == "builtin" or not is_tunnel else MAX_SUM
        sizes: dict[int, Counter[int]] = {}
        for (status, up, down), number in requests.sizes.items():
            size = up + down if self.writer == "builtin" or is_tunnel else down
            sizes.setdefault(0 if is_tunnel else status, Counter())[size] += number
        signed: dict[int, Counter[int]] = {}
        for (status, size), number in actions.sizes.items():
            signed.setdefault(0 if is_tunnel else status, Counter())[size] += number
        alone = 0
        for status, wanted in signed.items():
            free = sorted(sizes.get(status, Counter()).elements(), reverse=True)
            for size in sorted(wanted.elements()):
                while free and free[-1] < size - below:
                    free.pop()
                if free and free[-1] <= size + above:
                    free.pop()
                else:
                    alone += 1
        self.differ["other_bytes"] += max(alone - requests.without_size, 0)

    def _visible_parts(self) -> None:
        self._hidden_paths()
        for fates in (LET_THROUGH, _NOT_OPENED):
            places = self._by_place(self.actions.groups)
            for wanted, requests in self._ordered(self.requests.groups):
                for signed, actions in places.get((wanted.transport, wanted.host), []):
                    leaves_out = not signed.scheme or (signed.port is None and self.writer != "2.x")
                    if (signed.path_kind == HIDDEN and not self.redacts) or leaves_out:
                        continue
                    if (wanted.is_partial or signed.is_partial) and may_be_same(wanted, signed, self.shortest):
                        self._settle(requests, actions, wanted.transport, fates)

    def _hidden_paths(self) -> None:
        """Compare each hidden path with all requests that it may stand for."""
        if self.writer == "2.x" or not self.redacts:
            return
        places = self._by_place(self.requests.groups)
        for signed, actions in self._ordered(self.actions.groups):
            if signed.path_kind != HIDDEN or not actions.total():
                continue
            seen = Group()
            for wanted, requests in places.get((signed.transport, signed.host), []):
                if may_be_same(wanted, signed, self.shortest):
                    seen.merge(requests)
            if seen.total():
                self._compare_signed(signed, seen, actions)

    def _hidden_hosts(self) -> None:
        if not self.redacts:
            return
        for transport, actions in sorted(self.actions.hidden.items()):
            groups = [g for t, g in self._ordered(self.requests.groups) if t.transport == transport]
            groups += [g for name, g in self.requests.nameless.items() if name == transport]
            for requests in groups:
                self._settle(requests, actions, transport, _NOT_OPENED)

    def _same_hosts(self) -> None:
        signed = self._by_place(self.actions.groups)
        for place, wanted in self._by_place(self.requests.groups).items():
            requests = [group for _, group in wanted]
            actions = [group for _, group in signed.get(place, [])]
            number = min(sum(g.total() for g in requests), sum(g.total() for g in actions))
            self.differ["other_target"] += number
            self.numbers["receipted"] += number
            for groups, order in ((requests, FATES), (actions, ENDINGS)):
                left = number
                for group in groups:
                    left -= group.take(left, order)

    def _rest(self) -> None:
        groups = [(t.transport, g) for t, g in self._ordered(self.requests.groups)]
        groups += sorted(self.requests.nameless.items(), key=lambda item: item[0])
        for transport, group in groups:
            left = group.left
            if self.writer == "2.x":
                is_socket = transport == "websocket"
                unsigned = 0 if is_socket else left["through"]
                self.numbers["unsigned"] += unsigned
                self.result.without_receipt[_UNSIGNED_BY_2] += sum(left[fate] for fate in LET_THROUGH) - unsigned
            else:
                self.numbers["unsigned"] += sum(left[fate] for fate in LET_THROUGH)
                self.differ["denial_unsigned"] += left["denied"] + left["failed"]
            self._without_receipt(group, sum(left[fate] for fate in _NOT_OPENED))
        for actions in (*self.actions.groups.values(), *self.actions.hidden.values()):
            self.numbers["unasked"] += actions.total()

    def _without_receipt(self, group: Group, number: int) -> None:
        for reason in sorted(group.reasons):
            part = min(group.reasons[reason], number)
            self.result.without_receipt[reason] += part
            number -= part

    # Receipts alone

    def _frames(self) -> None:
        for socket, number in self.actions.frames.items():
            opened = 0
            for target, group in self.requests.groups.items():
                is_partial = socket is not None and (target.is_partial or socket.is_partial)
                if target == socket or (is_partial and may_be_same(target, socket, self.shortest)):
                    opened += group.total()
            if self.writer == "builtin" or not opened:
                self.differ["frames"] += number
            else:
                self.differ["frames"] += max(self.actions.frames_denied[socket] - opened, 0)

    def _words(self, receipt: Receipt) -> None:
        """Check the members of one receipt that have few possible values, or that depend on other members."""
        self.differ["unknown_verdict"] += receipt.record["verdict"] not in _VERDICTS
        if not receipt.text("action_type"):
            return
        self.differ["other_form"] += not has_form(receipt)
        self.differ["other_form"] += not is_of_writer(receipt, self.writer)

    def _entries(self) -> None:
        """Check the entries around the receipts, and the heartbeats and ends of the built-in mediator."""
        self.differ["other_form"] += self.evidence.other_summaries
        if self.writer != "builtin":
            return
        self.differ["other_form"] += self.evidence.unlike_builtin
        self.differ["other_form"] += interval_changes(self.evidence.opens, self.policy)
        apart = most_apart(self.evidence.receipts)
        self.differ["heartbeats"] = apart // 1000 if apart > RECORDED_WITHIN + self.clock_set else 0
        if self.evidence.is_closed:
            groups = (*self.actions.groups.values(), *self.actions.hidden.values())
            self.differ["other_form"] += sum(group.left["open"] for group in groups)

    def _policy(self) -> None:
        allowed = enforced_list(self.policy)
        if allowed is None:
            return
        hosts = {t.host for t, g in self.requests.groups.items() if any(g.left[fate] for fate in LET_THROUGH)}
        hosts |= {t.host for t, g in self.actions.groups.items() if g.total() > g.left["denied"]}
        self.differ["not_in_policy"] = sum(1 for host in hosts if not is_listed(host, allowed))
        self.differ["denied_though_listed"] = sum(
            number for host, number in self.actions.denied_by_list.items()
            if host != "localhost" and not is_address(host) and is_listed(host, allowed)
        )

    def _twins(self) -> None:
        signed = [receipt for receipt in self.evidence.receipts if not receipt.is_session_record]
        if not self.evidence.decisions:
            self.differ["twins_differ"] = len(signed) if self.writer == "3.x" else 0
            return
        difference: Counter[tuple[str, ...]] = Counter()
        times: dict[tuple[str, ...], tuple[list[int], list[int]]] = {}
        for receipt in signed:
            record, transport = receipt.record, receipt.record["transport"]
            action = "websocket_frame" if transport == "websocket" else "http_request"
            source = "kill_switch" if receipt.text("layer") == "kill_switch" else "scanner"
            key = (transport, record["target"], record["verdict"], receipt.text("pattern"),
                   receipt.text("policy_hash"), action, source)
            difference[key] += 1
            times.setdefault(key, ([], []))[0].append(milliseconds(record["timestamp"]) or 0)
        for decision in self.evidence.decisions:
            said = decision.payload
            key = (said["transport"], said["target"], said["verdict"], said.get("rule_id", ""),
                   decision.detail["policy_hash"].removeprefix("sha256:"), said["action_type"], said["winning_source"])
            difference[key] -= 1
            times.setdefault(key, ([], []))[1].append(milliseconds(decision.detail["timestamp"]) or 0)
        over = sum(number for number in difference.values() if number > 0)
        under = -sum(number for number in difference.values() if number < 0)
        apart = max(over, under) if self.evidence.is_closed else under
        self.differ["twins_differ"] = apart + sum(self._are_apart(*both) for both in times.values() if all(both))

    def _are_apart(self, first: list[int], second: list[int]) -> bool:
        """Whether two ranges of times do not fit into each other."""
        slack = RECORDED_WITHIN + self.clock_set
        begins, ends = min(second) - min(first), max(second) - max(first)
        is_within = begins >= -slack and ends <= slack
        return not (is_within and (not self.evidence.is_closed or (begins <= slack and ends >= -slack)))

    def _times(self) -> None:
        signed = [
            milliseconds(receipt.record["timestamp"])
            for receipt in self.evidence.receipts if not receipt.is_session_record
        ]
        logged = [milliseconds(row.get("ts")) for row in self.log.rows if row["source"] in ("relay", "supervisor")]
        receipts = [time for time in signed if time is not None]
        rows = [time for time in logged if time is not None]
        apart = self.evidence.entry_apart
        if apart > RECORDED_WITHIN + self.clock_set:
            self.differ["entry_time"] = max(apart // 1000, 1)
        slack = UNNOTICED if self.writer == "builtin" else RECORDED_WITHIN
        back = most_back(receipts)
        if back > slack + max(self.clock_set, most_back(rows)):
            self.differ["time_went_back"] = max(back // 1000, 1)
        if rows:
            first, last = min(rows), max(rows)
            apart = [first - time for time in receipts] + [time - last for time in receipts]
            if self.evidence.written:
                begin, end = self.evidence.written
                apart += [first - self.preparation - begin, end - last]
            outside = max(apart, default=0)
            if outside > RECORDED_WITHIN + self.clock_set:
                self.differ["outside_run"] = max(outside // 1000, 1)


def enforced_list(policy: dict[str, Any] | None) -> list[Any] | None:
    """Return the list of a strict and enforced policy, or `None` if every host is on the list."""
    policy = policy or {}
    if policy.get("mode") != "strict" or policy.get("enforce", True) is False:
        return None
    entries = policy.get("api_allowlist")
    return entries if isinstance(entries, list) else []
