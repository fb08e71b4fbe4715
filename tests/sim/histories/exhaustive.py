"""Small scope, completely: every small tree, every pair of edits, a kill at every fault point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from itertools import product
from random import Random
from typing import NamedTuple

from cocoindex.testing.simulation import Fault, MemoryDisk
from histories import edits
from histories.history import APP, Divergence, History, brief, show
from histories.model import CallModel, Comp, Model, TableModel
from histories.outside import Outside
from histories.program import File

SHAPES = ("a", "a(b)", "a b", "a(b(c))", "a(b c)", "a(b) c", "a b c")
"""Trees of up to three components; the root comes on top."""

KINDS = ("memoized", "plain")
BUILD = "build"
"""The first edit of those cases in which the very first update is the one that is killed."""
PAIRS = tuple(product((BUILD, *edits.RANDOM), edits.RANDOM))


class Case(NamedTuple):
    """A tree and a pair of edits. The update after the first one is killed at every point, and
    the one after the second must put everything right.
    """

    shape: str
    kind: str
    pair: tuple[str, str]

    def __str__(self) -> str:
        return f"{self.shape} {self.kind}: {self.pair[0]}, kill, {self.pair[1]}"

    def models(self) -> tuple[Model, Model, Model]:
        """Before, in between, and in the end; what an edit chooses follows from its name."""
        first, second = self.pair
        start = _model(self.shape, self.kind)
        if first == BUILD:
            start, edited = Model(), start
        else:
            edited = edits.apply(start, first, Random(first))
        return start, edited, edits.apply(edited, second, Random(second + self.shape))

    def run(self, *, stride: int = 1, offset: int = 0) -> Counter[str]:
        """Kill at every ``stride``-th fault point. Figures: kills, and states they left."""
        start, edited, final = self.models()
        built = History()
        built.model = start
        built._clean(Random(1))
        built.end()
        found: Counter[str] = Counter()
        seen: set[Hashable] = set()
        at, killed = offset, True
        while killed:
            killed = self._kill(built, edited, final, at, seen)
            found["kills"] += killed
            at += stride
        found["states"] = len(seen)
        return found

    def _kill(
        self, built: History, edited: Model, final: Model, at: int, seen: set[Hashable]
    ) -> bool:
        history = _twin(built, edited)
        try:
            outcome = history._run(Random(7), [Fault(at, "kill")])
            history._settle()
            history._check_instant()
            state = _state(history)
            if state not in seen:  # what follows depends on nothing else
                seen.add(state)
                history.model = final
                history._clean(Random(2))
        except Divergence as divergence:
            raise Divergence(
                f"{self}, at point {at}: {divergence}; in the end {show(history.model)}, "
                f"{brief(history.outside.changes())}"
            ) from divergence
        finally:
            history.end()
        return outcome.kind == "killed"


def cases(stride: int = 1, offset: int = 0) -> Iterator[Case]:
    """Every ``stride``-th case; without those that come to the same as an earlier one."""
    seen: set[str] = set()
    for number, (shape, kind, pair) in enumerate(product(SHAPES, KINDS, PAIRS)):
        if number % stride != offset:
            continue
        case = Case(shape, kind, pair)
        content = "".join(
            f"{m.frozen()}{m.codes}{m.files}{m.tone}{m.root.children}" for m in case.models()
        )
        if content not in seen:
            seen.add(content)
            yield case


def _model(shape: str, kind: str) -> Model:
    model = Model()
    model.root.tables.append(TableModel("table", "t0"))
    model.table_count = 1
    model.root.children = _tree(shape, kind)
    for number, comp in enumerate(model.comps()):
        comp.rows["rows", f"k{number}"] = File("f1") if number % 2 else "v0"
        comp.rows["table", "t0", f"k{number}"] = "v1"
        comp.states = number % 2
        if number:
            rows = {("rows", f"c{number}"): "v2"}
            comp.calls.append(CallModel("leaf", f"c{number}", rows, [], tone=True))
    return model


def _twin(built: History, model: Model) -> History:
    """A history that goes on, with another program, where ``built`` has ended."""
    history = History()
    history.model = model
    history.disk = MemoryDisk()
    history.disk.apply(APP, built.disk.rows(APP))
    history.outside = Outside()
    history.outside.rows = dict(built.outside.rows)
    return history


def _state(history: History) -> Hashable:
    disk = frozenset(history.disk.rows(APP).rows.items())
    return disk, frozenset(history.outside.rows.items()), history.process is None


def _tree(shape: str, kind: str) -> list[Comp]:
    """``"a(b c) d"``: a with b and c below it, and d beside it."""
    level: list[Comp] = []
    stack = [level]
    for token in shape.replace("(", " ( ").replace(")", " ) ").split():
        if token == "(":
            stack.append(stack[-1][-1].children)
        elif token == ")":
            stack.pop()
        else:
            stack[-1].append(Comp(token, kind=kind))
    return level
