"""N components with M target states each, behind a sink that does nothing."""

from __future__ import annotations

import pathlib

from benchmarks import floor, harness
from benchmarks.harness import CHANGED, COLD, DROP, UNCHANGED, Case, Expected, Program, Scale, Size

SIZES: dict[Scale, tuple[int, ...]] = {
    "full": (1_000, 10_000, 100_000),
    "quick": (1_000,),
    "tiny": (100,),
}
NO_MEMO_SIZE: dict[Scale, int] = {"full": 10_000, "quick": 1_000, "tiny": 10}
REACH = {
    0: {COLD: 10.0, UNCHANGED: 15.0, CHANGED: 12.0},
    10: {COLD: 8.0, UNCHANGED: 12.0, CHANGED: 10.0, DROP: 8.0},
}


def cases(scale: Scale) -> list[Case]:
    memoized = [_case(n, m, memo=1) for m in (0, 10) for n in SIZES[scale]]
    return [*memoized, *(_case(NO_MEMO_SIZE[scale], m, memo=0) for m in (0, 10))]


def _case(n: int, m: int, memo: int) -> Case:
    large = n >= 100_000
    return Case(
        f"M = {m}, N = {n:,}{'' if memo else ', no memo'}",
        {"n": n, "m": m, "memo": memo},
        units=n,
        phases=(COLD, UNCHANGED, CHANGED, DROP),
        reach=REACH[m],
        memory_reach=2.0 if large else None,
        store_reach=1.0 if large else None,
        rounds=3 if large else 100,
    )


def expect(phase: str, size: Size) -> Expected:
    everything = size["n"] * size["m"]
    if phase == DROP:
        return Expected(0, everything)
    different = {COLD: size["n"], UNCHANGED: 0, CHANGED: -(-size["n"] // 100)}[phase]
    return Expected(different if size["memo"] else size["n"], different * size["m"])


def program(_folder: pathlib.Path, phase: str, size: Size) -> Program:
    import cocoindex as coco

    tally = harness.Tally()
    provider = harness.no_op_provider("bench/state", tally)
    components, states = size["n"], size["m"]

    @coco.fn(memo=bool(size["memo"]))
    async def component(item: tuple[int, int]) -> None:
        number, version = item
        tally.ran()
        for key in range(number * states, (number + 1) * states):
            coco.declare_target_state(provider.target_state(key, key * 7 + version))

    @coco.fn
    async def main() -> None:
        items = ((k, (k, int(harness.changed(k, phase)))) for k in range(components))
        await coco.mount_each(component, items)

    return Program(main, tally)


def bare(folder: pathlib.Path, phase: str, size: Size) -> float:
    work = floor.Work(size["n"], size["m"], memo=bool(size["memo"]))
    return floor.bare_loop(folder, phase, work)


WORKLOAD = harness.Workload(
    title="State",
    about="N components with M target states each, behind a sink that does nothing.",
    unit="component",
    cases=cases,
    expect=expect,
    program=program,
    floor=bare,
)
