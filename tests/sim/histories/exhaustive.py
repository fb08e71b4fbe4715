"""Small scope, completely: every small tree, every pair of edits, a kill at every fault point."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from random import Random

from cocoindex.testing.simulation import Fault
from histories import edits
from histories.history import Divergence, History, brief, show
from histories.model import CallModel, Comp, Model, TableModel
from histories.program import File

SHAPES = ("a", "a(b)", "a b", "a(b(c))", "a(b c)", "a(b) c", "a b c")
"""Trees of up to three components; the root comes on top."""

KINDS = ("memoized", "plain")
PAIRS = tuple(product(edits.RANDOM, repeat=2))


class Case:
    """One tree, one pair of edits; the update after the first one is killed everywhere."""

    def __init__(self, shape: str, kind: str, pair: tuple[str, str]) -> None:
        self.shape = shape
        self.kind = kind
        self.pair = pair

    def __str__(self) -> str:
        return f"{self.shape} {self.kind}: {self.pair[0]}, kill, {self.pair[1]}"

    def model(self) -> Model:
        model = Model()
        model.root.tables.append(TableModel("table", "t0"))
        model.table_count = 1
        model.root.children = _tree(self.shape, self.kind)
        for number, comp in enumerate(model.comps()):
            comp.rows["rows", f"k{number}"] = File("f1") if number % 2 else "v0"
            comp.rows["table", "t0", f"k{number}"] = "v1"
            if number:
                rows = {("rows", f"c{number}"): "v2"}
                comp.calls.append(CallModel("leaf", f"c{number}", rows, [], tone=True))
        return model

    def run(self, *, stride: int = 1, offset: int = 0) -> int:
        """Kill at every ``stride``-th fault point; how many kills that were."""
        at = offset
        kills = 0
        while self._run_once(at):
            kills += 1
            at += stride
        return kills

    def _run_once(self, at: int) -> bool:
        history = History()
        history.model = self.model()
        random = Random(at)
        try:
            history._clean(Random(1), is_last=False)
            history.model = edits.apply(history.model, self.pair[0], random)
            outcome = history._run(random, [Fault(at, "kill")])
            history._check_instant()
            history.model = edits.apply(history.model, self.pair[1], random)
            history._known = None
            history._clean(Random(2), is_last=False)
        except Divergence as divergence:
            raise Divergence(
                f"{self}, at point {at}: {divergence}; in the end {show(history.model)}, "
                f"{brief(history.outside.changes())}"
            ) from divergence
        finally:
            if history.process is not None:
                history.process.end()
        return outcome.kind == "killed"


def cases(stride: int = 1, offset: int = 0) -> Iterator[Case]:
    """Every ``stride``-th case."""
    everything = product(SHAPES, KINDS, PAIRS)
    for number, (shape, kind, pair) in enumerate(everything):
        if number % stride == offset:
            yield Case(shape, kind, pair)


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
