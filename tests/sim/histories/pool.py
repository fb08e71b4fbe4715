"""Many histories, in several processes at once."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from histories.exhaustive import Case
from histories.history import Divergence, History, Result, prepare, steps_of

CORES = min(2, os.cpu_count() or 1)
LIFE = 5
"""Tasks of ten histories after which a process gives way to a fresh one."""


class Tally:
    """What has been run so far, and what went wrong."""

    def __init__(self) -> None:
        self.histories = self.updates = 0
        self.faults: Counter[str] = Counter()
        self.points: Counter[str] = Counter()
        self.problems: dict[int, str] = {}
        """By seed."""
        self._started = time.perf_counter()

    def add(self, seed: int, result: Result | None, problem: str | None) -> None:
        self.histories += 1
        if problem is not None:
            self.problems[seed] = problem
        if result is not None:
            self.faults += result.faults
            self.points += result.points
            self.updates += result.updates

    def __str__(self) -> str:
        return (
            f"{self.histories} histories, {self.updates} updates, {self.faults['kill']} kills, "
            f"{self.faults['raise'] + self.faults['full']} failures, "
            f"{self.faults['cancel']} cancellations, {len(self.problems)} divergences, "
            f"{time.perf_counter() - self._started:.0f} s"
        )


def run_many(seeds: Iterable[int], jobs: int = CORES) -> Iterator[tuple[int, Tally]]:
    """Run the histories with these seeds; yields after each its seed and the tally so far."""
    tally = Tally()
    with multiprocessing.Pool(jobs, _prepare_without_gc, maxtasksperchild=LIFE) as pool:
        for seed, result, problem in pool.imap_unordered(run_seed, seeds, chunksize=10):
            tally.add(seed, result, problem)
            yield seed, tally


def run_seed(seed: int) -> tuple[int, Result | None, str | None]:
    try:
        return seed, History().run(steps_of(seed)), None
    except Divergence as divergence:
        return seed, None, str(divergence)
    except BaseException as error:  # noqa: BLE001 - a worker must say which seed it was
        return seed, None, f"{type(error).__name__}: {error}"


def run_cases(
    cases: Iterable[Case], jobs: int = CORES
) -> Iterator[tuple[Counter[str], str | None]]:
    """Run small cases, in order; yields figures and what went wrong with each."""
    with multiprocessing.Pool(jobs, _prepare_without_gc, maxtasksperchild=LIFE) as pool:
        yield from pool.imap(_run_case, cases, 10)


def _run_case(case: Case) -> tuple[Counter[str], str | None]:
    try:
        return case.run(), None
    except Divergence as divergence:
        return Counter(), str(divergence)
    finally:
        gc.collect()


def over_mutants(task: Callable[[str], Any], names: list[str], jobs: int = CORES) -> Iterator[Any]:
    """Run ``task`` for each of them, in order."""
    with multiprocessing.Pool(jobs, prepare) as pool:
        yield from pool.imap(task, names)


def _prepare_without_gc() -> None:
    """A history leaves about a megabyte of garbage, which need not be collected by a process
    that soon ends.
    """
    prepare()
    gc.disable()
