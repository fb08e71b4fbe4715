"""Three levels of components, one target state in each of the lowest."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

from benchmarks import floor, harness
from benchmarks.harness import CHANGED, COLD, UNCHANGED, Case, Expected, Program, Scale, Size

LEVELS: dict[Scale, tuple[int, int, int]] = {
    "full": (20, 50, 20),
    "quick": (5, 10, 20),
    "tiny": (2, 5, 10),
}


def cases(scale: Scale) -> list[Case]:
    a, b, c = LEVELS[scale]
    return [
        Case(
            f"{a} × {b} × {c}, {kind} bodies",
            {"a": a, "b": b, "c": c, "sync": int(kind == "sync")},
            units=a * b * c + a * b + a,
            reach={COLD: 8.0, UNCHANGED: 8.0, CHANGED: 8.0},
        )
        for kind in ("async", "sync")
    ]


def expect(phase: str, size: Size) -> Expected:
    leaves = size["a"] * size["b"] * size["c"]
    return Expected(leaves, {COLD: leaves, UNCHANGED: 0, CHANGED: leaves // 100}[phase])


def program(_folder: pathlib.Path, phase: str, size: Size) -> Program:
    import cocoindex as coco

    tally = harness.Tally()
    provider = harness.no_op_provider("bench/fanout", tally)
    top, middle, lowest = size["a"], size["b"], size["c"]

    def declare(number: int) -> None:
        tally.ran()
        value = number * 7 + int(harness.changed(number, phase))
        coco.declare_target_state(provider.target_state(number, value))

    @coco.fn
    def leaf(number: int) -> None:
        declare(number)

    @coco.fn
    async def waiting_leaf(number: int) -> None:
        await asyncio.sleep(0)
        declare(number)

    chosen: Any = leaf if size["sync"] else waiting_leaf

    @coco.fn
    async def branch(number: int) -> None:
        await coco.mount_each(chosen, ((k, number * lowest + k) for k in range(lowest)))

    @coco.fn
    async def trunk(number: int) -> None:
        await coco.mount_each(branch, ((k, number * middle + k) for k in range(middle)))

    @coco.fn
    async def main() -> None:
        await coco.mount_each(trunk, ((k, k) for k in range(top)))

    return Program(main, tally)


def bare(folder: pathlib.Path, phase: str, size: Size) -> float:
    leaves = size["a"] * size["b"] * size["c"]
    return floor.bare_loop(folder, phase, floor.Work(leaves, 1, memo=False))


WORKLOAD = harness.Workload(
    title="Fan-out and nesting",
    about="Three levels of components, one target state in each of the lowest. No memos: all "
    "bodies run each time. Async bodies await once; sync ones run on worker threads.",
    unit="component",
    cases=cases,
    expect=expect,
    program=program,
    floor=bare,
)
