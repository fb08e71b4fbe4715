"""What a random history is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from histories import edits


class Step(NamedTuple):
    """One step; everything random about it follows from ``seed``."""

    what: str
    seed: int


class Divergence(AssertionError):
    """The engine broke a promise; ``kind`` says which."""

    @property
    def kind(self) -> str:
        return " ".join(re.sub(r"[^a-z ]", " ", str(self)).split()[:3])


GROWTH = ("add", "add", "add", "add_call", "put", "add_table")


def steps_of(seed: int) -> list[Step]:
    """The random history with this seed."""
    random = Random(seed)
    size = random.choice((1, 2, 3, 3, 4, 5, 8))
    if random.random() < 0.004:
        size = random.choice((40, 100, 190))
    steps = [_step("start", random)]
    steps += [_step(random.choice(GROWTH), random) for _ in range(size * 2)]
    kinds = [*edits.RANDOM, *edits.OFTEN]
    if random.random() < 0.4:
        kinds += ["move_table"] * 3
    elif random.random() < 0.6:
        kinds = [kind for kind in kinds if kind not in edits.CONTAINER_EDITS]
        steps = [step for step in steps if step.what != "add_table"]
    for _ in range(random.choice((1, 2, 4)) if size > 20 else random.choice((4, 8, 12))):
        steps += _edits(random, kinds)
        steps += _troubles(random)
        if random.random() < 0.25:
            steps.append(_step("clean", random))
    return [*steps, _step("last", random)]


def _edits(random: Random, kinds: list[str]) -> Iterator[Step]:
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        kind = random.choice(kinds)
        yield _step(kind, random)
        if kind == "move_table":  # some of its users fail to notice
            yield _step("failing", random)
            if random.random() < 0.5:  # and must make good for it at once
                yield _step("clean", random)


def _troubles(random: Random) -> Iterator[Step]:
    if random.random() < 0.3:
        yield _step("faulty", random)
        yield _step("undo", random)
    for _ in range(random.choice((2, 3, 4, 5))):
        yield _step("faulty", random)
    if random.random() < 0.1:
        yield _step("failing", random)
    if random.random() < 0.15:
        yield _step("thin", random)
        yield _step("withholding", random)


def _step(what: str, random: Random) -> Step:
    return Step(what, random.getrandbits(16))
