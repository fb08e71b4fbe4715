"""Random histories from the command line: ``python tests/sim/run.py --seeds 2000``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from itertools import islice

from histories import mutants
from histories.exhaustive import cases
from histories.history import Divergence, History, prepare, steps_of
from histories.shrink import as_text, failure, from_text, shrink


def run_seed(seed: int):
    steps = steps_of(seed)
    try:
        return seed, History().run(steps), None
    except Divergence as divergence:
        return seed, None, str(divergence)
    except BaseException as error:  # noqa: BLE001 - a worker must say which seed it was
        return seed, None, f"{type(error).__name__}: {error}"


def run_case(case):
    try:
        return case.run(), None
    except Divergence as divergence:
        return Counter(), str(divergence)


def run_small(options) -> int:
    """Small trees, a kill at every fault point; see ``exhaustive.py``. In order, so that
    ``--first`` with the last count printed goes on where a run was interrupted.
    """
    started, count, figures, bad = time.perf_counter(), options.first, Counter(), 0
    chosen = islice(cases(options.small), options.first, None)
    with multiprocessing.Pool(options.jobs, prepare, maxtasksperchild=20) as pool:
        for found, problem in pool.imap(run_case, chosen, 10):
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


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="shrink and explain this one")
    parser.add_argument("--steps", help="run exactly these steps (as printed by --seed)")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument(
        "--small", type=int, metavar="STRIDE", help="every such small case (1: all)"
    )
    parser.add_argument("--mutants", action="store_true", help="also look for every mutant")
    options = parser.parse_args()
    prepare()
    if options.steps is not None:
        return explain(from_text(options.steps))
    if options.seed is not None:
        steps = steps_of(options.seed)
        return explain(shrink(steps) if failure(steps) else steps)
    if options.small is not None:
        return run_small(options)
    status = run_many(options)
    return status | find_mutants(options) if options.mutants else status


def find_mutant(mutant_name):
    mutant = next(mutant for mutant in mutants.MUTANTS if mutant.name == mutant_name)
    started = time.perf_counter()
    with mutants.applied(mutant):
        seed = mutants.find(mutant, first=mutants.FOUND_BY.get(mutant.name))
    return mutant, seed, time.perf_counter() - started


def find_mutants(options) -> int:
    """Whether some deliberate mistake stays unnoticed."""
    missed = 0
    names = [mutant.name for mutant in mutants.MUTANTS]
    with multiprocessing.Pool(options.jobs, prepare) as pool:
        for mutant, seed, seconds in pool.imap(find_mutant, names):
            missed += seed is None
            verdict = "NOT FOUND" if seed is None else f"found by seed {seed}"
            print(f"{mutant.name}: {verdict} in {seconds:.1f} s: {mutant.mistake}")
    print(f"{len(names)} deliberate mistakes, {missed} of them not found")
    return int(missed > 0)


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


def run_many(options) -> int:
    seeds = range(options.first, options.first + options.seeds)
    started = time.perf_counter()
    faults, points, updates, done, bad = Counter(), Counter(), 0, 0, []

    def figures() -> str:
        return (
            f"{done} histories, {updates} updates, {faults['kill']} kills, "
            f"{faults['raise'] + faults['full']} failures, {faults['cancel']} cancellations, "
            f"{len(bad)} divergences, {time.perf_counter() - started:.0f} s"
        )

    with multiprocessing.Pool(options.jobs, prepare, maxtasksperchild=100) as pool:
        for seed, result, problem in pool.imap_unordered(run_seed, seeds, chunksize=10):
            done += 1
            if problem is not None:
                bad.append(seed)
                print(f"seed {seed}: {problem[:400]}")
                print(f"  replay: python tests/sim/run.py --seed {seed}", flush=True)
                continue
            faults += result.faults
            points += result.points
            updates += result.updates
            if done % 1000 == 0 and done < options.seeds:
                print(f"… {figures()}", flush=True)
    print(figures())
    passed = ", ".join(f"{count} {point}" for point, count in sorted(points.items()))
    print(f"{sum(points.values())} fault points passed: {passed}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
