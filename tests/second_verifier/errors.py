"""Exceptions and the list of findings that every check writes to."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_FINDINGS_PER_RULE = 10


class FormError(ValueError):
    """A text or a value does not have the form that the format requires."""


class Unreadable(Exception):
    """A file of the packet cannot be read, so the packet has no verdict."""


class TooLong(Unreadable):
    """A file of the packet is longer than its limit."""


@dataclass
class Findings:
    """Errors and warnings, each with the identifier of its rule."""

    errors: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    has_error: bool = False

    def error(self, rule: str, text: str) -> None:
        """Record an error; only the first ten errors of each rule are kept."""
        self.has_error = True
        if sum(1 for known, _ in self.errors if known == rule) < MOST_FINDINGS_PER_RULE:
            self.errors.append((rule, text))

    def warning(self, rule: str, text: str) -> None:
        """Record a warning, which changes neither the verdict nor the grade."""
        if sum(1 for known, _ in self.warnings if known == rule) < MOST_FINDINGS_PER_RULE:
            self.warnings.append((rule, text))

    def rules(self) -> set[str]:
        """Return the identifiers of all rules that reported an error."""
        return {rule for rule, _ in self.errors}
