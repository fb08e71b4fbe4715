"""Making a failing history short enough to understand."""

from __future__ import annotations

from collections.abc import Callable

from histories.history import Divergence, History, Step

Fails = Callable[[list[Step]], bool]

PATIENCE = 1500
"""Attempts after which a history is short enough."""


def failure(steps: list[Step]) -> str | None:
    """The kind of divergence that ``steps`` lead to, if any."""
    try:
        History().run(steps)
    except Divergence as divergence:
        return divergence.kind
    return None


def shrink(steps: list[Step]) -> list[Step]:
    """The smallest part of ``steps`` found that still fails in the same way."""
    kind, attempts = failure(steps), 0

    def is_failing(candidate: list[Step]) -> bool:
        return failure(candidate) == kind

    def still(candidate: list[Step]) -> bool:
        nonlocal attempts
        attempts += 1
        return attempts <= PATIENCE and is_failing(candidate)

    steps = _without_chunks(steps, still)
    steps = _with_small_seeds(steps, still)
    return _without_chunks(steps, still)


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


def _with_small_seeds(steps: list[Step], still: Fails) -> list[Step]:
    for position, step in enumerate(steps):
        for seed in range(min(step.seed, 12)):
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
