"""The verdict and the grade of a packet (format/checks.md)."""

from __future__ import annotations

from dataclasses import dataclass, field

GRADES = ("none", "unproven", "kernel_observed", "unpinned", "kernel_enforced")


def lowest(grades: list[str]) -> str:
    """Return the lowest grade; `kernel_enforced` if the list is empty."""
    return min(grades, key=GRADES.index, default="kernel_enforced")


@dataclass
class Caps:
    """Conditions that cap the grade, each with its reason."""

    shown: list[tuple[str, str]] = field(default_factory=list)
    other: list[tuple[str, str]] = field(default_factory=list)

    def add(self, grade: str, reason: str) -> None:
        """Add a cap that also applies when the run states its grade in the attestation's predicate."""
        self.shown.append((grade, reason))

    def add_here(self, grade: str, reason: str) -> None:
        """Add a cap that only this check applies: U5, U6, P1, and P2."""
        self.other.append((grade, reason))

    def shown_grade(self) -> str:
        """Return the grade that the predicate must state, unless it states `unpinned` and that is lower."""
        return lowest([grade for grade, _ in self.shown])

    def grade(self) -> str:
        """Return the grade of the packet."""
        return lowest([grade for grade, _ in self.shown + self.other])

    def reasons(self) -> list[str]:
        """Return every reason why the grade is not higher."""
        return [reason for _, reason in self.shown + self.other]


def predicate_fits(verdict: str, grade: str, receipts: str, shown: str) -> bool:
    """Whether the attestation's predicate states the verdict and the grade that this check found."""
    sound = ("valid", "self_consistent_only")
    verdicts = sound if receipts in sound else (receipts,)
    return verdict in verdicts and grade in (shown, lowest([shown, "unpinned"]))


def packet_verdict(receipts: str, stated: str, is_packet_sound: bool, has_error: bool) -> str:
    """Return the verdict of a packet.

    `is_packet_sound` means that steps 1 to 3 found no error except in the receipts; `has_error` means that some
    step found an error.
    """
    if receipts == "error" and is_packet_sound:
        return "error"
    if receipts in ("invalid", "error") or has_error:
        return "invalid"
    return receipts if stated == "valid" else "self_consistent_only"
