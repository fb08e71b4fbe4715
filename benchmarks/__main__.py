"""`python -m benchmarks [WORKLOAD ...]`, see `harness.py`."""

from __future__ import annotations

import json

from benchmarks import harness


def main(chosen: tuple[str, ...] = harness.WORKLOADS) -> None:
    options = harness.arguments().parse_args()
    if options.worker:
        harness.work(json.loads(options.worker))
        return
    from benchmarks import report  # not in workers: what they import is measured

    sides = harness.interpreters(options)
    for name in options.workloads or chosen:
        cases = harness.load(name).cases("quick" if options.quick else "full")
        samples = list(harness.interleave(name, cases, sides, options.rounds))
        report.publish(name, cases, samples, write=options.write)


if __name__ == "__main__":
    main()
