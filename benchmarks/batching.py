"""Calls of a batched and memoized function."""

from __future__ import annotations

import pathlib

from benchmarks import floor, harness
from benchmarks.harness import CHANGED, COLD, UNCHANGED, Case, Expected, Program, Scale, Size

COMPONENTS: dict[Scale, int] = {"full": 50, "quick": 5, "tiny": 2}
CALLS: dict[Scale, int] = {"full": 1_000, "quick": 200, "tiny": 100}


def cases(scale: Scale) -> list[Case]:
    n, calls = COMPONENTS[scale], CALLS[scale]
    return [
        Case(
            f"{n} × {calls:,} calls",
            {"n": n, "calls": calls},
            units=n * calls,
            reach={COLD: 5.0, UNCHANGED: 10.0, CHANGED: 8.0},
        )
    ]


def expect(phase: str, size: Size) -> Expected:
    calls = size["n"] * size["calls"]
    return Expected({COLD: calls, UNCHANGED: 0, CHANGED: calls // 100}[phase])


def program(_folder: pathlib.Path, phase: str, size: Size) -> Program:
    import cocoindex as coco

    tally = harness.Tally()
    components, calls = size["n"], size["calls"]

    @coco.fn.as_async(memo=True, batching=True, max_batch_size=500)
    def lengths(texts: list[str]) -> list[int]:
        for _ in texts:
            tally.ran()
        return [len(text) for text in texts]

    @coco.fn
    async def component(number: int) -> None:
        keys = range(number * calls, (number + 1) * calls)
        texts = [f"text {key}{'!' * harness.changed(key, phase)}" for key in keys]
        if await coco.map(lengths, texts) != [len(text) for text in texts]:
            raise AssertionError("a call got the result of another one")

    @coco.fn
    async def main() -> None:
        await coco.mount_each(component, ((k, k) for k in range(components)))

    return Program(main, tally)


def bare(folder: pathlib.Path, phase: str, size: Size) -> float:
    work = floor.Work(size["n"] * size["calls"], 0, memo=True)
    return floor.bare_loop(folder, phase, work)


WORKLOAD = harness.Workload(
    title="Batching",
    about="Components that each make their calls of one batched and memoized function at once, "
    "through `coco.map`; batches of up to 500.",
    unit="call",
    cases=cases,
    expect=expect,
    program=program,
    floor=bare,
)
