"""What a check reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cocoindex.state.base import Batch, Section

    Fix = Callable[[Section], Batch]
    """The rows that mend it, given the section as it is when the repair gets there."""


class Severity(StrEnum):
    """How bad a finding is."""

    VIOLATION = "violation"
    """No update may leave this behind, whatever happened to it."""

    UNFINISHED = "unfinished"
    """A failed or interrupted update left this behind; the next one completes it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a store that should not be there, or is missing.

    Attributes:
        invariant: ``"I1"`` … ``"I6"``, or ``"rows"`` for a row that can't be read.
        severity: whether it is damage, or work left for the next update.
        where: the component or target state, in readable form as far as it is known.
        problem: what is wrong.
        remedy: what a repair does about it; empty if nothing.
    """

    invariant: str
    severity: Severity
    where: str
    problem: str
    remedy: str = ""
    fix: Fix | None = field(default=None, repr=False, compare=False)

    @property
    def is_violation(self) -> bool:
        return self.severity is Severity.VIOLATION

    def __str__(self) -> str:
        return f"{self.invariant} {self.where}: {self.problem}"


def violation(
    invariant: str, where: str, problem: str, remedy: str = "", fix: Fix | None = None
) -> Finding:
    return Finding(invariant, Severity.VIOLATION, where, problem, remedy, fix)


def unfinished(
    invariant: str, where: str, problem: str, remedy: str = "", fix: Fix | None = None
) -> Finding:
    return Finding(invariant, Severity.UNFINISHED, where, problem, remedy, fix)
