"""Repairing: check, mend, and check again until nothing more can be mended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cocoindex.engine.fsck.check import check_section

if TYPE_CHECKING:
    from cocoindex.engine.fsck.finding import Finding
    from cocoindex.state.base import Section

_ROUNDS = 5
_KEPT = 10_000


@dataclass(slots=True)
class RepairReport:
    """What a repair did.

    Attributes:
        repaired: what was mended (the first 10,000 findings), in order.
        repaired_count: how much was mended.
        left: violations that can't be mended.
    """

    repaired: list[Finding] = field(default_factory=list)
    repaired_count: int = 0
    left: list[Finding] = field(default_factory=list)


def repair_section(section: Section) -> RepairReport:
    """Mend every violation that can be mended safely.

    What is mended is accepted by the section, not yet durable: flush the store afterwards.
    Hold the run lease of the app meanwhile. One finding may hide another, so the check is
    repeated until it finds nothing more to mend.
    """
    report = RepairReport()
    for _ in range(_ROUNDS):
        if not _repair_once(section, report):
            break
    return report


def _repair_once(section: Section, report: RepairReport) -> bool:
    """One round; whether anything was written."""
    report.left = []
    wrote = False
    with section.snapshot() as snapshot:
        for finding in check_section(snapshot):
            rows = [] if finding.fix is None else finding.fix(section)
            if rows:
                section.write(rows)
                wrote = True
                _note(report, finding)
            elif finding.is_violation:
                report.left.append(finding)
    return wrote


def _note(report: RepairReport, finding: Finding) -> None:
    report.repaired_count += 1
    if len(report.repaired) < _KEPT:
        report.repaired.append(finding)
