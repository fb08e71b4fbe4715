"""Random histories from the command line: ``python tests/sim/run.py --seeds 2000``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from itertools import islice

from histories import mutants
from histories.exhaustive import cases
from histories.history import Divergence, History, prepare, steps_of
from histories.pool import CORES, over_mutants, run_cases, run_many
from histories.shrink import as_text, failure, from_text, shrink


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="shrink and explain this one")
    parser.add_argument("--steps", help="run exactly these steps (as printed by --seed)")
    parser.add_argument("--jobs", type=int, default=CORES)
    parser.add_argument(
        "--small", type=int, metavar="STRIDE", help="every such small case (1: all)"
    )
    parser.add_argument(
        "--mutants", choices=("known", "afresh", "shrink"),
        help="look for the deliberate mistakes: first by the seeds known to find them, by seeds "
        "from 0 on, or so and with the histories shrunk",
    )  # fmt: skip
    options = parser.parse_args()
    prepare()
    if options.steps is not None:
        return explain(from_text(options.steps))
    if options.seed is not None:
        steps = steps_of(options.seed)
        return explain(shrink(steps) if failure(steps) else steps)
    if options.small is not None:
        return small(options)
    return find_mutants(options) if options.mutants else many(options)


def many(options) -> int:
    """Random histories."""
    tally = None
    for seed, tally in run_many(range(options.first, options.first + options.seeds), options.jobs):
        if seed in tally.problems:
            print(f"seed {seed}: {tally.problems[seed][:400]}")
            print(f"  replay: python tests/sim/run.py --seed {seed}", flush=True)
        if tally.histories % 1000 == 0 and tally.histories < options.seeds:
            print(f"… {tally}", flush=True)
    if tally is None:
        return 0
    print(tally)
    passed = ", ".join(f"{count} {point}" for point, count in sorted(tally.points.items()))
    print(f"{sum(tally.points.values())} fault points passed: {passed}")
    return int(bool(tally.problems))


def small(options) -> int:
    """Small trees, a kill at every fault point; see ``exhaustive.py``. In order, so that
    ``--first`` with the last count printed goes on where a run was interrupted.
    """
    started, count, figures, bad = time.perf_counter(), options.first, Counter(), 0
    chosen = islice(cases(options.small), options.first, None)
    for found, problem in run_cases(chosen, options.jobs):
        count += 1
        figures += found
        if problem is not None:
            bad += 1
            print(problem[:600], flush=True)
        if count % 100 == 0:
            print(f"… {count} cases, {figures['kills']} kills, {bad} divergences", flush=True)
    print(
        f"{count} small cases, {figures['kills']} kills, {figures['states']} distinct states "
        f"recovered from, {bad} divergences, {time.perf_counter() - started:.0f} s"
    )
    return int(bad > 0)


def find_mutants(options) -> int:
    """Whether some deliberate mistake stays unnoticed."""
    missed = 0
    task = {"known": by_known_seed, "afresh": afresh, "shrink": shrunk}[options.mutants]
    mistakes = {mutant.name: mutant.mistake for mutant in mutants.MUTANTS}
    for name, seed, seconds, steps in over_mutants(task, list(mistakes), options.jobs):
        missed += seed is None
        verdict = "NOT FOUND" if seed is None else f"found by seed {seed}"
        print(f"{name}: {verdict} in {seconds:.1f} s: {mistakes[name]}", flush=True)
        if steps:
            print(f"  {len(steps)} steps: {as_text(steps)}", flush=True)
    print(f"{len(mistakes)} deliberate mistakes, {missed} of them not found")
    return int(missed > 0)


def by_known_seed(name, *, first=None, is_shrunk=False):
    mutant = next(mutant for mutant in mutants.MUTANTS if mutant.name == name)
    started = time.perf_counter()
    with mutants.applied(mutant):
        seed = mutants.find(mutant, first=mutants.FOUND_BY.get(name) if first is None else first)
        seconds = time.perf_counter() - started
        steps = shrink(steps_of(seed)) if is_shrunk and seed is not None else []
    return name, seed, seconds, steps


def afresh(name):
    return by_known_seed(name, first=0)


def shrunk(name):
    return by_known_seed(name, is_shrunk=True)


def explain(steps) -> int:
    """Run one history, print what happened in it."""
    log: list[str] = []
    try:
        History(log=log, thorough=True).run(steps)
        problem = None
    except Divergence as divergence:
        problem = divergence
    print("\n".join(log))
    print(f"{len(steps)} steps; replay: python tests/sim/run.py --steps {as_text(steps)}")
    print(f"DIVERGENCE: {problem}" if problem is not None else "no divergence")
    return int(problem is not None)


if __name__ == "__main__":
    sys.exit(main())
