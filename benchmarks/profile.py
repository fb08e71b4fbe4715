"""Where the time of one phase goes: the functions with the most own time.

    python -m benchmarks.profile WORKLOAD PHASE [--case N] [--full | --tiny] [--top N] [--py-spy]

Runs the phases before it as they are, then PHASE under cProfile: exact counts, times inflated about
threefold, and a C call that gives up the interpreter lock shows its wait for it. Before Python 3.12
the loop's thread and the workers are shown apart. With --py-spy the phase is sampled instead: true
proportions, no counts.
"""
# ruff: noqa: A005 - started with -m as part of a package, so the standard module stays in reach

from __future__ import annotations

import argparse
import asyncio
import collections
import cProfile
import json
import pathlib
import pstats
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from benchmarks import harness
from benchmarks.harness import Case

WAITS = ("'get' of '_queue.SimpleQueue'", "'acquire' of '_thread.lock'", "'poll' of 'select.")
PER_THREAD = sys.version_info < (3, 12)  # later, one profiler sees all threads
SPY = pathlib.Path(sys.executable).parent / "py-spy"
PLACES = tuple(f"{path}/" for path in sorted(sys.path, key=len, reverse=True) if path)


def main() -> None:
    options = _arguments().parse_args()
    if options.worker:
        task = json.loads(options.worker)
        harness.work(task, lambda timed: profiled(timed, task["units"], options.top))
        return
    case, task = make_ready(options)
    command = [sys.executable, "-m"]
    if options.py_spy:
        _sample([*command, "benchmarks", "--worker", json.dumps(task)], options.top)
    else:
        worker = json.dumps({**task, "units": case.units})
        worker_command = [*command, "benchmarks.profile", "--worker", worker]
        _run([*worker_command, "--top", str(options.top), options.workload, options.phase])
    shutil.rmtree(str(task["folder"]), ignore_errors=True)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile")
    parser.add_argument("workload", choices=[n for n in harness.WORKLOADS if n != "startup"])
    parser.add_argument("phase", help="cold, unchanged, ... as in the tables")
    parser.add_argument("--case", type=int, default=0, help="number of the case, 0 is the first")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--full", dest="scale", action="store_const", const="full")
    sizes.add_argument("--tiny", dest="scale", action="store_const", const="tiny")
    parser.set_defaults(scale="quick")
    parser.add_argument("--top", type=int, default=15, help="functions to print")
    parser.add_argument("--py-spy", action="store_true", help="sample instead of tracing")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser


def make_ready(options: argparse.Namespace) -> tuple[Case, dict[str, object]]:
    """Run the phases before the one asked for; return the case and what a worker is told."""
    workload = harness.load(options.workload)
    case = workload.cases(options.scale)[options.case]
    if options.phase not in case.phases:
        sys.exit(f"{options.phase!r} is no phase of {options.workload}: {', '.join(case.phases)}")
    folder = harness.fresh_folder(f"{options.workload}-profile")
    task: dict[str, object] = {"workload": options.workload, "folder": str(folder), "floor": False}
    task["size"] = dict(case.size)
    for phase in case.phases:
        workload.prepare(folder, phase, case.size)
        if phase == options.phase:
            break
        harness.call(sys.executable, {**task, "phase": phase})
    harness.note(f"{options.workload}, {case.title}: {options.phase}")
    return case, {**task, "phase": options.phase}


# --- tracing -------------------------------------------------------------------------------


def profiled(timed: harness.Timed, units: int, top: int) -> float:
    """Run under one profiler per thread, then print; the seconds it took."""
    workers: list[cProfile.Profile] = []
    if PER_THREAD:
        _profile_new_threads(workers)
    own = cProfile.Profile()
    own.enable()
    seconds = asyncio.run(timed)
    own.disable()
    for profile in workers:  # pools keep their threads
        profile.disable()
    _print("loop thread" if PER_THREAD else "all threads", [own], units, top)
    if workers:
        _print(f"{len(workers)} worker threads", workers, units, top)
    return seconds


def _profile_new_threads(into: list[cProfile.Profile]) -> None:
    original = threading.Thread.run

    def run_profiled(thread: threading.Thread) -> None:
        profile = cProfile.Profile()
        into.append(profile)
        profile.enable()
        try:
            original(thread)
        finally:
            profile.disable()

    threading.Thread.run = run_profiled  # type: ignore[assignment,method-assign]


def _print(title: str, profiles: Sequence[cProfile.Profile], units: int, top: int) -> None:
    print(f"{title + ', per unit':<28}{'calls':>9}{'own µs':>10}{'total µs':>10}")
    for name, calls, own, total in _rows(profiles)[:top]:
        print(
            f"{'':<28}{calls / units:>9.2f}{own / units * 1e6:>10.2f}{total / units * 1e6:>10.2f}"
            f"  {name}"
        )


def _rows(profiles: Sequence[cProfile.Profile]) -> list[tuple[str, int, float, float]]:
    """Function, calls, own seconds and seconds with callees, by own time."""
    ran = [profile for profile in profiles if profile.getstats()]
    if not ran:
        return []
    stats = pstats.Stats(ran[0])
    for profile in ran[1:]:
        stats.add(profile)
    found = stats.stats  # type: ignore[attr-defined]
    rows = [
        (_name(*where), calls, own, total)
        for where, (_, calls, own, total, _) in found.items()
        if not any(wait in where[2] for wait in WAITS)
    ]
    return sorted(rows, key=lambda row: -row[2])


def _name(file: str, line: int, function: str) -> str:
    if file == "~":
        return function
    return f"{_short(file)}:{line} {function}"


def _short(file: str) -> str:
    place = next((place for place in PLACES if file.startswith(place)), "")
    return file.removeprefix(place)


# --- sampling ------------------------------------------------------------------------------


def _sample(command: list[str], top: int) -> None:
    """Samples of all threads that hold the interpreter lock, once the program runs."""
    target = harness.WORK / "py-spy.txt"
    options = ["-r", "1000", "--gil", "--function", "--full-filenames", "-f", "raw"]
    _run([str(SPY), "record", *options, "-o", str(target), "--", *command])
    own: collections.Counter[str] = collections.Counter()
    for name, count in _samples(target):
        own[name] += count
    total = own.total()
    print(f"{total} samples of 1 ms")
    for name, count in own.most_common(top):
        print(f"{count / total:>8.1%}  {name}")


def _samples(target: pathlib.Path) -> Iterator[tuple[str, int]]:
    for line in target.read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        in_thread = not stack.startswith("_run_module_as_main")
        if stack and (in_thread or "BaseEventLoop.run_forever (" in stack):  # not the imports
            function, _, place = stack.split(";")[-1].partition(" (")
            yield f"{_short(place.rstrip(')'))} {function}", int(count)


def _run(command: list[str]) -> None:
    start = time.perf_counter()
    subprocess.run(command, cwd=harness.HERE.parent, env=harness.environment(), check=True)
    harness.note(f"the process took {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
