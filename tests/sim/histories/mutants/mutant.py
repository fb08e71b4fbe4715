"""What a deliberate mistake is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Mutant(NamedTuple):
    """A mistake: what it is, and how to make it."""

    name: str
    mistake: str
    patches: Callable[[], list[Any]]


def mutant(mistake: str) -> Callable[[Callable[[], list[Any]]], Mutant]:
    """Makes a mutant of a function that returns the patches."""
    return lambda patches: Mutant(patches.__name__, mistake, patches)


@contextlib.contextmanager
def applied(chosen: Mutant) -> Iterator[None]:
    """The engine makes this mistake meanwhile."""
    with contextlib.ExitStack() as stack:
        for change in chosen.patches():
            stack.enter_context(change)
        yield
