"""Making a failing history short enough to understand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import combinations

from histories.history import PLAIN_FAULTS, Divergence, History, Step

Fails = Callable[[list[Step]], bool]

SHORT = 10
PATIENCE = 1500
"""Attempts after which a history is short enough."""


def failure(steps: list[Step]) -> str | None:
    """The kind of divergence that ``steps`` lead to, if any."""
    try:
        History(thorough=True).run(steps)
    except Divergence as divergence:
        return divergence.kind
    return None


def shrink(steps: list[Step]) -> list[Step]:
    """The smallest part of ``steps`` found that still fails: in the same way, or, if that takes
    more than ten steps, in any.
    """
    kind = failure(steps)
    steps = _shrink(steps, lambda candidate: failure(candidate) == kind)
    if len(steps) > SHORT:
        steps = _shrink(steps, lambda candidate: failure(candidate) is not None)
    return steps


def _shrink(steps: list[Step], is_failing: Fails) -> list[Step]:
    attempts = 0

    def still(candidate: list[Step]) -> bool:
        nonlocal attempts
        attempts += 1
        return attempts <= PATIENCE and is_failing(candidate)

    steps = _without_chunks(steps, still)
    length = len(steps) + 1
    while len(steps) < length:
        length = len(steps)
        steps = _with_plain_faults(steps, still)
        steps = _with_small_seeds(steps, still)
        steps = _without_pairs(_without_chunks(steps, still), still)
    return steps


def _without_chunks(steps: list[Step], still: Fails) -> list[Step]:
    size = max(1, len(steps) // 2)
    while size:
        position = 0
        while position < len(steps):
            candidate = steps[:position] + steps[position + size :]
            if candidate and still(candidate):
                steps = candidate
            else:
                position += size
        size //= 2
    return steps


def _without_pairs(steps: list[Step], still: Fails) -> list[Step]:
    """Some steps, such as an edit and a fault, only go together."""
    if len(steps) > 2 * SHORT:
        return steps
    for one, other in combinations(range(len(steps)), 2):
        candidate = [step for at, step in enumerate(steps) if at not in (one, other)]
        if candidate and still(candidate):
            return _without_pairs(candidate, still)
    return steps


def _with_plain_faults(steps: list[Step], still: Fails) -> list[Step]:
    """Where and how a faulty update fails depends on those before it; say it outright instead."""
    for position, step in enumerate(steps):
        if step.what == "faulty":
            for plain in _plain_faults(steps, position):
                candidate = [*steps[:position], plain, *steps[position + 1 :]]
                if still(candidate):
                    steps = candidate
                    break
    return steps


def _plain_faults(steps: list[Step], position: int) -> list[Step]:
    history = History(thorough=True)
    with contextlib.suppress(Divergence):
        history.run(steps[: position + 1])
    last = [(at, kind) for at, kind in history.struck if at < 1000]
    return [Step(kind, at + 1000 * variant) for variant in range(4) for at, kind in last]


def _with_small_seeds(steps: list[Step], still: Fails) -> list[Step]:
    for position, step in enumerate(steps):
        is_plain = step.what.rpartition("/")[2] in PLAIN_FAULTS
        for seed in range(0 if is_plain else min(step.seed, 12)):
            candidate = [*steps[:position], Step(step.what, seed), *steps[position + 1 :]]
            if still(candidate):
                steps = candidate
                break
    return steps


def as_text(steps: list[Step]) -> str:
    """What ``run.py --steps`` takes."""
    return ",".join(f"{step.what}:{step.seed}" for step in steps)


def from_text(text: str) -> list[Step]:
    pairs = (part.split(":") for part in text.split(","))
    return [Step(what, int(seed)) for what, seed in pairs]
