"""Markdown tables of medians and ratios, printed and put into the documentation."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence

from benchmarks import harness
from benchmarks.harness import FLOOR, OURS, THEIRS, Case, Sample

PAGE = harness.HERE.parent / "docs/benchmarks.md"
TIMES = (
    "program",
    "phase",
    f"{OURS}",
    f"{THEIRS}",
    "ratio",
    "reach",
    "each",
    "floor",
    "× floor",
)
SIZES = (
    "program",
    f"peak memory, {OURS}",
    THEIRS,
    "ratio",
    "reach",
    f"store, {OURS}",
    THEIRS,
    "ratio",
    "reach",
)
NONE = "–"


def publish(name: str, cases: Sequence[Case], samples: Sequence[Sample], *, write: bool) -> None:
    """Print the section of a workload and, if asked, put it between its marks on the page."""
    text = section(harness.load(name), cases, samples)
    print(f"## {harness.load(name).title}\n\n{text}")
    if not write:
        return
    first, last = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(first)
    _, mark, after = rest.partition(last)
    if not mark:
        sys.exit(f"{PAGE}: no section between {first} and {last}")
    PAGE.write_text(f"{before}{first}\n{text}\n{last}{after}", encoding="utf-8")


def section(workload: harness.Workload, cases: Sequence[Case], samples: Sequence[Sample]) -> str:
    rounds = max(_count(samples, case) for case in cases)
    fewer = {case.title: _count(samples, case) for case in cases if _count(samples, case) < rounds}
    medians = f"Medians of {rounds} round{'s' * (rounds != 1)}"
    medians += "".join(f", of {count} for {title}" for title, count in fewer.items())
    parts = [
        workload.about,
        f"{medians}; *each* is per {workload.unit}. {machine()}",
        times(cases, samples),
        sizes(cases, samples),
    ]
    return "\n\n".join(part for part in parts if part)


def times(cases: Sequence[Case], samples: Sequence[Sample]) -> str:
    lines = []
    for case in cases:
        for phase in case.phases:
            ours, theirs, floor = (
                median(samples, side, case, phase, "seconds") for side in (OURS, THEIRS, FLOOR)
            )
            lines.append(
                (
                    case.title,
                    phase,
                    _seconds(ours),
                    _seconds(theirs),
                    _ratio(theirs, ours),
                    _reach(case.reach.get(phase)),
                    _seconds(ours and ours / case.units),
                    _seconds(floor and floor / case.units),
                    _number(ours / floor) if ours and floor else NONE,
                )
            )
    return table(TIMES, lines, names=2)


def sizes(cases: Sequence[Case], samples: Sequence[Sample]) -> str:
    """Memory of the first phase, store after it; nothing if neither was measured."""
    lines = []
    for case in cases:
        memory = [median(samples, side, case, case.phases[0], "memory") for side in (OURS, THEIRS)]
        store = [median(samples, side, case, case.phases[0], "store") for side in (OURS, THEIRS)]
        if memory[0]:
            lines.append(
                (
                    case.title,
                    *(_megabytes(size) for size in memory),
                    _ratio(memory[1], memory[0]),
                    _reach(case.memory_reach),
                    *(_megabytes(size) for size in store),
                    _ratio(store[1], store[0]),
                    _reach(case.store_reach),
                )
            )
    return table(SIZES, lines, names=1) if lines else ""


def table(head: Sequence[str], lines: Sequence[Sequence[str]], names: int) -> str:
    """A Markdown table whose first columns are names and the others numbers."""
    rule = ["---"] * names + ["---:"] * (len(head) - names)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def median(samples: Sequence[Sample], side: str, case: Case, phase: str, key: str) -> float | None:
    values = [
        sample.figures[key]
        for sample in samples
        if (sample.side, sample.case, sample.phase) == (side, case.title, phase)
        and key in sample.figures
    ]
    return statistics.median(values) if values else None


def machine() -> str:
    """One sentence on where the figures come from."""
    return (
        f"Measured on {time.strftime('%Y-%m-%d')}: {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, CPython {platform.python_version()}."
    )


def _count(samples: Sequence[Sample], case: Case) -> int:
    first = OURS, case.title, case.phases[0]
    return sum((sample.side, sample.case, sample.phase) == first for sample in samples)


def _seconds(value: float | None) -> str:
    if value is None:
        return NONE
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * scale >= 1 or unit == "µs":
            break
    return f"{_number(value * scale)} {unit}"


def _megabytes(value: float | None) -> str:
    return NONE if value is None else f"{_number(value / 1e6)} MB"


def _ratio(theirs: float | None, ours: float | None) -> str:
    return f"**{_number(theirs / ours)}×**" if theirs and ours else NONE


def _reach(ratio: float | None) -> str:
    return NONE if ratio is None else f"≥ {ratio:g}×"


def _number(value: float) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"
