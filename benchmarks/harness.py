"""Run the same programs on two interpreters, turn about, and compare medians.

A *workload* (one file each beside this one) is a program over documented names, in a few sizes
(*cases*), run in several *phases*, one after the other on one store: cold, unchanged, ... Each
phase is a fresh process of the side's interpreter, which does the timed work with whatever
``cocoindex`` it has and prints one JSON object. A third side, the floor, does the unavoidable part
of the same work in a bare loop (`floor.py`).

Imports only the standard library, so that figures of memory belong to the program measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
WORK = HERE / ".work"
PEER = "cocoindex==1.0.26"
PEER_NEEDS = ("asyncpg", "numpy")
"""What its connectors import."""
PEER_VENV = HERE / ".venv-peer"
WORKLOADS = ("state", "memo", "files", "rows", "tables", "fanout", "batching", "startup")

OURS, THEIRS, FLOOR = "this", "1.0.26", "floor"
COLD, UNCHANGED, CHANGED, DROP = "cold", "unchanged", "1% changed", "drop"
Scale = Literal["full", "quick", "tiny"]
Figures = dict[str, float]
Size = Mapping[str, int]
Timed = Coroutine[Any, Any, float]


@dataclass(frozen=True, slots=True)
class Case:
    """One program at one size.

    Attributes:
        title: what tells it from the other cases of its workload.
        size: what the program is given.
        units: components, calls, files or rows: what times are divided by.
        phases: what is run, in this order, on one store.
        reach: phase -> ratio of the peer's time to ours that is aimed at.
        memory_reach, store_reach: the same for peak memory and store size.
        rounds: at most so many rounds, for what takes minutes.
    """

    title: str
    size: Size
    units: int
    phases: tuple[str, ...] = (COLD, UNCHANGED, CHANGED)
    reach: Mapping[str, float] = field(default_factory=dict)
    memory_reach: float | None = None
    store_reach: float | None = None
    rounds: int = 100


class Tally:
    """What a program did, so that no figure comes from work left undone.

    Lists, since appending is safe from any thread. No plain data to the engine's eyes, so a
    function that holds one is not taken for changed when it grows.
    """

    def __init__(self) -> None:
        self._bodies: list[None] = []
        self._batches: list[int] = []

    def ran(self) -> None:
        """A body whose runs are counted has run."""
        self._bodies.append(None)

    def applied(self, actions: int) -> None:
        """A sink has got so many actions."""
        self._batches.append(actions)

    def figures(self) -> Figures:
        return {
            "bodies": len(self._bodies),
            "batches": len(self._batches),
            "actions": sum(self._batches),
        }


class Program(NamedTuple):
    """What a worker runs: the main function of an app, and what it counts on."""

    main: Callable[..., Any]
    tally: Tally
    provide: Callable[[Any], contextlib.AbstractAsyncContextManager[None]] | None = None
    """Provides context values while the program runs; outside the time."""


def safe_name(name: str) -> str:
    """``name`` as something that may be an identifier in SQL."""
    return "".join(char if char.isalnum() else "_" for char in name)


def _nothing(_folder: pathlib.Path, _phase: str, _size: Size) -> None:
    pass


class Expected(NamedTuple):
    """What a phase must have done: the same on every side."""

    bodies: int
    actions: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """A program to measure. Its functions take the folder of the case, the phase and the size.

    Attributes:
        title: heading of its section; ``about`` is the text below it.
        unit: what one of ``Case.units`` is called.
        cases: the sizes to run.
        expect: bodies run and actions applied (see `Tally`), else the figures mean nothing.
        floor: seconds for the unavoidable work alone, None if there is none; called in a worker.
        program: makes the program; called in a worker.
        prepare: called before each phase, in the driver, outside the time.
        verify: called after each phase; raises when the outcome is wrong.
        measure: instead of a program, where a whole process is what is measured.
    """

    title: str
    about: str
    unit: str
    cases: Callable[[Scale], list[Case]]
    expect: Callable[[str, Size], Expected]
    floor: Callable[[pathlib.Path, str, Size], float | None]
    program: Callable[[pathlib.Path, str, Size], Program] | None = None
    prepare: Callable[[pathlib.Path, str, Size], None] = _nothing
    verify: Callable[[pathlib.Path, str, Size], None] = _nothing
    measure: Callable[[str, pathlib.Path, str, Size], Figures] | None = None


def load(name: str) -> Workload:
    workload: Workload = importlib.import_module(f"benchmarks.{name}").WORKLOAD
    return workload


def changed(number: int, phase: str) -> bool:
    """Whether item ``number`` is one of the hundredth that differs in this phase."""
    return phase == CHANGED and number % 100 == 0


# --- sides ---------------------------------------------------------------------------------


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=5, help="rounds per side")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it all run?")
    parser.add_argument("--peer", help=f"interpreter with {PEER}; made when not given")
    parser.add_argument("--no-peer", action="store_true", help="measure this side only")
    parser.add_argument("--no-floor", action="store_true", help="leave out the bare loops")
    parser.add_argument("--write", action="store_true", help="put the tables into the docs")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser


def interpreters(options: argparse.Namespace) -> dict[str, str]:
    """Label -> interpreter: this one, the one with the release to compare with, the floor."""
    sides = {OURS: sys.executable}
    if not options.no_peer:
        sides[THEIRS] = options.peer or peer_interpreter()
    if not options.no_floor:
        sides[FLOOR] = sys.executable
    return sides


def peer_interpreter() -> str:
    """Make the peer's own environment, once."""
    python = PEER_VENV / "bin/python"
    if not python.exists():
        note(f"making {PEER_VENV} with {PEER} ...")
        subprocess.run([sys.executable, "-m", "venv", PEER_VENV], check=True)
    probe = subprocess.run(
        [python, "-c", "import cocoindex, asyncpg, numpy"],
        env=environment(),
        capture_output=True,
        check=False,
    )
    if probe.returncode:
        install = [python, "-m", "pip", "install", "--quiet", PEER, *PEER_NEEDS]
        subprocess.run(install, check=True)
    return str(python)


def environment() -> dict[str, str]:
    """Environment variables of a measured process."""
    ours = {"COCOINDEX_DISABLE_USAGE_TRACKING": "1", "RUST_LOG": "error"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, **ours, "PYTHONDONTWRITEBYTECODE": ""}


# --- rounds --------------------------------------------------------------------------------


class Sample(NamedTuple):
    """One phase of one case, run once by one side."""

    side: str
    case: str
    phase: str
    figures: Figures


def interleave(
    name: str, cases: Sequence[Case], sides: Mapping[str, str], rounds: int
) -> Iterator[Sample]:
    """Let each side do each case in a fresh folder, in turns, the first mover alternating.

    The folders go in the end only: creating files takes longer for a while after many were deleted.
    """
    folders: list[pathlib.Path] = []
    try:
        for number in range(rounds):
            order = list(sides) if number % 2 == 0 else list(sides)[::-1]
            for case in cases:
                if number >= case.rounds:
                    continue
                for side in order:
                    folders.append(fresh_folder(f"{name}-{len(folders)}-{side}"))
                    yield from run_case(name, case, side, sides[side], folders[-1])
                note(f"{name}: {case.title}: round {number + 1} of {min(rounds, case.rounds)}")
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def run_case(
    name: str, case: Case, side: str, python: str, folder: pathlib.Path
) -> Iterator[Sample]:
    """All phases of one case, one process each."""
    workload = load(name)
    for phase in case.phases:
        workload.prepare(folder, phase, case.size)
        if workload.measure is not None and side != FLOOR:
            figures = workload.measure(python, folder, phase, case.size)
        else:
            task = {"workload": name, "folder": str(folder), "phase": phase}
            figures = call(python, {**task, "size": dict(case.size), "floor": side == FLOOR})
        if side != FLOOR:
            _check(figures, workload.expect(phase, case.size), f"{name}, {case.title}, {phase}")
            workload.verify(folder, phase, case.size)
            figures["store"] = disk_use(store(folder))
        yield Sample(side, case.title, phase, figures)


def fresh_folder(name: str) -> pathlib.Path:
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _check(figures: Figures, expected: Expected, what: str) -> None:
    found = Expected(int(figures.get("bodies", 0)), int(figures.get("actions", 0)))
    if found != expected:
        raise AssertionError(f"{what}: {found}, not {expected}")


def call(python: str, task: Mapping[str, Any]) -> Figures:
    """Run one worker to its end and return its figures."""
    done = subprocess.run(
        [python, "-m", "benchmarks", "--worker", json.dumps(task)],
        cwd=HERE.parent,
        env=environment(),
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def note(text: str) -> None:
    print(text, file=sys.stderr)


def disk_use(folder: pathlib.Path) -> float:
    """Bytes that the files below ``folder`` occupy on disk (sparse parts don't count)."""
    return float(sum(p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file()))


# --- the worker ----------------------------------------------------------------------------


def store(folder: pathlib.Path) -> pathlib.Path:
    return folder / "store"


def work(task: Mapping[str, Any], run: Callable[[Timed], float] = asyncio.run) -> None:
    """Do one phase and print its figures; ``run`` runs the timed part."""
    workload = load(task["workload"])
    where = pathlib.Path(task["folder"]), task["phase"], task["size"]
    if task["floor"]:
        floor = workload.floor(*where)
        print(json.dumps({} if floor is None else {"seconds": floor}))
        return
    assert workload.program is not None
    program = workload.program(*where)
    seconds = run(timed(store(where[0]), program, where[1]))
    print(json.dumps({"seconds": seconds, "memory": peak_memory(), **program.tally.figures()}))


async def timed(db_path: pathlib.Path, program: Program, phase: str) -> float:
    """Seconds that the app's operation took; imports and opening the store are not counted."""
    import cocoindex as coco

    provider = coco.ContextProvider()
    environment = coco.Environment(coco.Settings(db_path=db_path), context_provider=provider)
    app = coco.App(coco.AppConfig("bench", environment=environment), program.main)
    async with contextlib.nullcontext() if not program.provide else program.provide(provider):
        start = time.perf_counter()
        if phase == DROP:
            await app.drop()
        else:
            await app.update()
        return time.perf_counter() - start


def peak_memory() -> float:
    """Largest resident size of this process, in bytes.

    On Linux from /proc: ``ru_maxrss`` there starts at the size of the parent.
    """
    try:
        status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        import resource

        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(size if sys.platform == "darwin" else size * 1024)
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return float(line.split()[1]) * 1024


# --- a target that costs nothing -----------------------------------------------------------


class Known(NamedTuple):
    """What the engine remembers of one state."""

    value: int


def no_op_provider(name: str, tally: Tally) -> Any:
    """A root provider of states whose sink only counts."""
    import cocoindex as coco

    def apply(_context: Any, batch: Sequence[int]) -> None:
        tally.applied(len(batch))

    sink = coco.TargetActionSink.from_fn(apply)

    class Handler:
        def reconcile(
            self, key: int, desired: Any, previous: Collection[Known], may_be_missing: bool, /
        ) -> Any:
            if coco.is_non_existence(desired):
                if not previous and not may_be_missing:
                    return None
                return coco.TargetReconcileOutput(key, sink, coco.NON_EXISTENCE)
            if not may_be_missing and all(known.value == desired for known in previous):
                return None
            return coco.TargetReconcileOutput(key, sink, Known(desired))

    return coco.register_root_target_states_provider(name, Handler())
