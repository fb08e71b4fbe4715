"""Deliberate mistakes in the engine. The simulator must find every one of them."""

from histories.mutants import code, containers, deletion, memos, ownership, running, submitting
from histories.mutants.finding import FOUND_BY, find
from histories.mutants.mutant import Mutant, applied

MUTANTS = [
    thing
    for module in (submitting, memos, ownership, containers, deletion, code, running)
    for thing in vars(module).values()
    if isinstance(thing, Mutant)
]
"""In the order of the table in ``docs/trust.md``."""

__all__ = ["FOUND_BY", "MUTANTS", "Mutant", "applied", "find"]
