"""What a random history is made of."""

from __future__ import annotations

import re
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
    steps = [Step("start", random.getrandbits(16))]
    steps += [Step(random.choice(GROWTH), random.getrandbits(16)) for _ in range(size * 2)]
    kinds = [*edits.RANDOM, *edits.OFTEN]
    if random.random() < 0.4:
        kinds += ["move_table"] * 3
    elif random.random() < 0.6:
        kinds = [kind for kind in kinds if kind not in edits.CONTAINER_EDITS]
        steps = [step for step in steps if step.what != "add_table"]
    for _ in range(random.choice((1, 2, 4)) if size > 20 else random.choice((4, 8, 12))):
        for _ in range(random.choice((0, 1, 1, 2, 3))):
            steps.append(Step(random.choice(kinds), random.getrandbits(16)))
            if steps[-1].what == "move_table":  # some of its users fail to notice
                steps.append(Step("failing", random.getrandbits(16)))
                if random.random() < 0.5:  # and must make good for it at once
                    steps.append(Step("clean", random.getrandbits(16)))
        if random.random() < 0.3:
            steps += [Step("faulty", random.getrandbits(16)), Step("undo", random.getrandbits(16))]
        for _ in range(random.choice((2, 3, 4, 5))):
            steps.append(Step("faulty", random.getrandbits(16)))
        if random.random() < 0.1:
            steps.append(Step("failing", random.getrandbits(16)))
        if random.random() < 0.15:
            steps.append(Step("thin", random.getrandbits(16)))
            steps.append(Step("withholding", random.getrandbits(16)))
        if random.random() < 0.25:
            steps.append(Step("clean", random.getrandbits(16)))
    return [*steps, Step("last", random.getrandbits(16))]
