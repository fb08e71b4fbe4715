"""The engine alone: target states that cost nothing to apply, and memoized calls that do nothing.

    python benchmarks/bench_engine.py [--peer PYTHON] [--rounds N] [--components N]

State: N components with M target states each, behind a handler whose sink does nothing.
Memo: 1,000 components with 30 memoized calls each. Documented names only, both sides.
"""

from __future__ import annotations

import asyncio
import pathlib
import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import harness

COLUMNS = (
    harness.Column("update", "run", unit=" s"),
    harness.Column("each", "each", scale=1e6, unit=" µs"),
    harness.Column("memory", "peak memory", scale=1 / 2**20, unit=" MiB"),
    harness.Column("store", "store", scale=1 / 2**20, unit=" MiB"),
)
PER_COMPONENT = (0, 10)
MEMO_COMPONENTS, MEMO_CALLS = 1_000, 30


def main() -> None:
    parser = harness.arguments(__doc__ or "", rounds=5)
    parser.add_argument("--components", type=int, default=5_000)
    options = parser.parse_args()
    if options.worker:
        folder, *what = options.worker
        worker(pathlib.Path(folder), *what)
        return

    def one_round(python: str, folder: pathlib.Path) -> dict[str, harness.Figures]:
        return phases(python, folder, options.components)

    results = harness.interleave(harness.interpreters(options), options.rounds, one_round)
    text = f"""\
State: {options.components:,} components with M no-op target states each; "each" is per component.
Memo: {MEMO_COMPONENTS:,} components with {MEMO_CALLS} memoized calls each; "each" is per call.
Medians of {options.rounds} rounds, every run in a fresh process. {harness.machine()}

{harness.table(results, COLUMNS)}"""
    harness.publish("engine", text, write=options.write)


def phases(python: str, folder: pathlib.Path, components: int) -> dict[str, harness.Figures]:
    done: dict[str, harness.Figures] = {}
    for states in PER_COMPONENT:
        home = folder / f"state{states}"
        for phase in ("cold", "unchanged", "drop"):
            args = ("state", phase, str(components), str(states))
            done[f"state, M = {states}: {phase}"] = measure(python, home, components, *args)
    for phase in ("cold", "unchanged"):
        calls = MEMO_COMPONENTS * MEMO_CALLS
        done[f"memo: {phase}"] = measure(python, folder / "memo", calls, "memo", phase)
    return done


def measure(python: str, home: pathlib.Path, units: int, *args: str) -> harness.Figures:
    figures = harness.call(python, __file__, str(home), *args)
    figures["each"] = figures["update"] / units
    figures["store"] = harness.disk_use(home)
    return figures


# --- the worker ----------------------------------------------------------------------------


class Record(NamedTuple):
    """What the engine remembers of one state."""

    value: int


def worker(folder: pathlib.Path, workload: str, phase: str, *sizes: str) -> None:
    main_fn = state_workload(*map(int, sizes)) if workload == "state" else memo_workload()
    seconds = asyncio.run(timed(folder, main_fn, phase))
    harness.tell(update=seconds, memory=harness.peak_memory())


async def timed(folder: pathlib.Path, main_fn: Any, phase: str) -> float:
    import cocoindex as coco

    environment = coco.Environment(coco.Settings(db_path=folder))
    app = coco.App(coco.AppConfig("bench_engine", environment=environment), main_fn)
    start = time.perf_counter()
    if phase == "drop":
        await app.drop()
    else:
        await app.update()
    return time.perf_counter() - start


def state_workload(components: int, states: int) -> Any:
    import cocoindex as coco

    def apply(_context: Any, _actions: Sequence[int]) -> None:
        """The outside world is not part of what is measured."""

    sink = coco.TargetActionSink.from_fn(apply)

    class Handler:
        def reconcile(
            self, key: int, desired: Any, previous: Collection[Record], may_be_missing: bool, /
        ) -> Any:
            if coco.is_non_existence(desired):
                if not previous and not may_be_missing:
                    return None
                return coco.TargetReconcileOutput(key, sink, coco.NON_EXISTENCE)
            if not may_be_missing and all(record.value == desired for record in previous):
                return None
            return coco.TargetReconcileOutput(key, sink, Record(desired))

    provider = coco.register_root_target_states_provider("bench/state", Handler())

    @coco.fn
    async def component(number: int) -> None:
        for key in range(number * states, (number + 1) * states):
            coco.declare_target_state(provider.target_state(key, key * 7))

    @coco.fn
    async def app_main() -> None:
        await coco.mount_each(component, ((number, number) for number in range(components)))

    return app_main


def memo_workload() -> Any:
    import cocoindex as coco

    @coco.fn(memo=True)
    async def double(number: int) -> int:
        return number * 2

    @coco.fn
    async def component(number: int) -> None:
        for call in range(MEMO_CALLS):
            if await double(number * MEMO_CALLS + call) != 2 * (number * MEMO_CALLS + call):
                raise AssertionError("a memo returned the value of another call")

    @coco.fn
    async def app_main() -> None:
        items = ((number, number) for number in range(MEMO_COMPONENTS))
        await coco.mount_each(component, items)

    return app_main


if __name__ == "__main__":
    main()
