"""Components that make many memoized calls with small results."""

from __future__ import annotations

import importlib.util
import pathlib
from typing import Any

from benchmarks import floor, harness
from benchmarks.harness import CHANGED, COLD, UNCHANGED, Case, Expected, Program, Scale, Size

HELPER_CHANGED = "helper changed"
CALLS = 30
COMPONENTS: dict[Scale, int] = {"full": 1_000, "quick": 100, "tiny": 10}
HELPER = """\
import cocoindex as coco


@coco.fn
async def double(number: int) -> int:
    return {body}
"""


def cases(scale: Scale) -> list[Case]:
    n = COMPONENTS[scale]
    return [
        Case(
            f"{n:,} × {CALLS} calls",
            {"n": n},
            units=n * CALLS,
            phases=(COLD, UNCHANGED, CHANGED, HELPER_CHANGED),
            reach={COLD: 8.0, UNCHANGED: 12.0, CHANGED: 10.0},
        )
    ]


def expect(phase: str, size: Size) -> Expected:
    calls = size["n"] * CALLS
    return Expected({UNCHANGED: 0, CHANGED: -(-calls // 100)}.get(phase, calls))


def prepare(folder: pathlib.Path, phase: str, _size: Size) -> None:
    body = "number + number" if phase == HELPER_CHANGED else "number * 2"
    (folder / "bench_helper.py").write_text(HELPER.format(body=body), encoding="utf-8")


def program(folder: pathlib.Path, phase: str, size: Size) -> Program:
    import cocoindex as coco

    tally = harness.Tally()
    components = size["n"]
    double = _load_helper(folder).double
    # What was changed stays changed: only the helper's code is new in the last phase.
    version_phase = CHANGED if phase == HELPER_CHANGED else phase

    @coco.fn(memo=True)
    async def doubled(number: int) -> int:
        tally.ran()
        result: int = await double(number)
        return result

    @coco.fn
    async def component(number: int) -> None:
        for call in range(number * CALLS, (number + 1) * CALLS):
            argument = -call - 1 if harness.changed(call, version_phase) else call
            if await doubled(argument) != 2 * argument:
                raise AssertionError("a memo returned the value of another call")

    @coco.fn
    async def main() -> None:
        await coco.mount_each(component, ((number, number) for number in range(components)))

    return Program(main, tally)


def _load_helper(folder: pathlib.Path) -> Any:
    spec = importlib.util.spec_from_file_location("bench_helper", folder / "bench_helper.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bare(folder: pathlib.Path, phase: str, size: Size) -> float:
    again = COLD if phase == HELPER_CHANGED else phase
    return floor.bare_loop(folder, again, floor.Work(size["n"] * CALLS, 0, memo=True))


WORKLOAD = harness.Workload(
    title="Memo",
    about="Components that make 30 memoized calls with small results each; in the last phase "
    "the code of a function that the memoized one calls is new.",
    unit="call",
    cases=cases,
    expect=expect,
    program=program,
    floor=bare,
    prepare=prepare,
)
