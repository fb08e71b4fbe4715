"""Random histories from the command line: ``python tests/sim/run.py --seeds 2000``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter

from histories.history import Divergence, History, quiet, steps_of
from histories.shrink import as_text, failure, from_text, shrink


def run_seed(seed: int):
    steps = steps_of(seed)
    try:
        return seed, History().run(steps), None
    except Divergence as divergence:
        return seed, None, str(divergence)
    except BaseException as error:  # a worker must say which seed it was
        return seed, None, f"{type(error).__name__}: {error}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="shrink and explain this one")
    parser.add_argument("--steps", help="run exactly these steps (as printed by --seed)")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    quiet()
    if options.steps is not None:
        return explain(from_text(options.steps))
    if options.seed is not None:
        steps = steps_of(options.seed)
        return explain(shrink(steps) if failure(steps) else steps)
    return run_many(options)


def explain(steps) -> int:
    """Run one history, print what happened in it."""
    log: list[str] = []
    try:
        History(log=log).run(steps)
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
    faults, points, updates, bad = Counter(), Counter(), 0, []
    with multiprocessing.Pool(options.jobs, quiet) as pool:
        for seed, result, problem in pool.imap_unordered(run_seed, seeds, chunksize=10):
            if problem is not None:
                bad.append(seed)
                print(f"seed {seed}: {problem[:400]}", flush=True)
                continue
            faults += result.faults
            points += result.points
            updates += result.updates
    seconds = time.perf_counter() - started
    print(
        f"{options.seeds} histories, {updates} updates, {faults['kill']} kills, "
        f"{faults['raise']} failures, {faults['cancel']} cancellations, {len(bad)} divergences, "
        f"{sum(points.values())} fault points passed, {seconds:.0f} s"
    )
    print(dict(points))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
