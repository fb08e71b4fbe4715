"""Random histories from the command line: ``python tests/sim/run.py --seeds 2000``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter

from histories.history import Divergence, History, quiet, steps_of


def run_seed(seed: int):
    steps = steps_of(seed)
    try:
        return seed, History().run(steps), None
    except Divergence as divergence:
        return seed, None, str(divergence)
    except Exception as error:
        return seed, None, f"{type(error).__name__}: {error}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    quiet()
    if options.seed is not None:
        log: list[str] = []
        try:
            History(log=log).run(steps_of(options.seed))
        finally:
            print("\n".join(log))
        return 0
    return run_many(options)


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
