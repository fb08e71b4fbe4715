"""A history: edits, updates in which things go wrong, and clean updates that must set it right."""

from __future__ import annotations

import gc
import logging
import re
from collections import Counter
from random import Random
from typing import Any, NamedTuple

import cocoindex as coco
from cocoindex.testing.simulation import Fault, MemoryDisk, Outcome, SimulatedProcess
from histories import edits, invariants, outside, program
from histories.model import Model

APP = "simulated"


class Step(NamedTuple):
    """One step; everything random about it follows from ``seed``."""

    what: str
    seed: int


class Divergence(AssertionError):
    """The engine broke a promise; ``kind`` says which."""

    @property
    def kind(self) -> str:
        return " ".join(re.sub(r"[^a-z ]", " ", str(self)).split()[:3])


class Result(NamedTuple):
    """Figures of a history that went well."""

    updates: int
    faults: Counter[str]
    points: Counter[str]


def steps_of(seed: int) -> list[Step]:
    """The random history with this seed."""
    random = Random(seed)
    size = random.choice((1, 2, 3, 3, 4, 5, 8))
    if random.random() < 0.004:
        size = random.choice((40, 100, 190))
    steps = [Step("start", random.getrandbits(16))]
    steps += [Step(random.choice(GROWTH), random.getrandbits(16)) for _ in range(size * 2)]
    kinds = edits.RANDOM
    if random.random() < 0.4:
        kinds = [kind for kind in kinds if kind not in edits.CONTAINER_EDITS]
        steps = [step for step in steps if step.what != "add_table"]
    for _ in range(random.choice((1, 2, 4)) if size > 20 else random.choice((4, 8, 12))):
        for _ in range(random.choice((0, 1, 1, 2, 3))):
            steps.append(Step(random.choice(kinds), random.getrandbits(16)))
        if random.random() < 0.3:
            steps += [Step("faulty", random.getrandbits(16)), Step("undo", random.getrandbits(16))]
        for _ in range(random.choice((1, 2, 3, 5))):
            steps.append(Step("faulty", random.getrandbits(16)))
        if random.random() < 0.25:
            steps.append(Step("clean", random.getrandbits(16)))
    return [*steps, Step("last", random.getrandbits(16))]


GROWTH = ("add", "add", "add", "add_call", "put", "add_table")


class History:
    """Carries out steps. One at a time per process: program and outside are module-wide."""

    def __init__(self, *, log: list[str] | None = None) -> None:
        self.model = Model()
        self.disk = MemoryDisk()
        self.outside = outside.Outside()
        self.process: SimulatedProcess | None = None
        self.log = log
        self.past: list[Model] = []
        self.errors: list[str] = []
        self.estimate = 60
        self.updates = 0
        self.faults: Counter[str] = Counter()
        self.points: Counter[str] = Counter()
        self._known: set[Any] | None = None
        """Signatures of what the last clean update has left memoized, while that counts."""
        self._moved = False

    def run(self, steps: list[Step]) -> Result:
        try:
            for step in steps:
                self.take(step)
        finally:
            if self.process is not None:
                self.process.end()
        return Result(self.updates, self.faults, self.points)

    def take(self, step: Step) -> None:
        random = Random(step.seed)
        if step.what == "start":
            self.model.root.kind = random.choice(("plain", "plain", "memoized"))
            self.note(f"start with a {self.model.root.kind} root")
        elif step.what == "faulty":
            self._faulty(random)
        elif step.what in ("clean", "last"):
            self._clean(random, is_last=step.what == "last")
        elif step.what == "undo":
            self._undo(random)
        else:
            self._edit(step, random)

    def note(self, text: str) -> None:
        if self.log is not None:
            self.log.append(text)

    # --- edits -----------------------------------------------------------------------------------

    def _edit(self, step: Step, random: Random) -> None:
        before = self.model
        self.model = edits.apply(before, step.what, random)
        if self.model is before:
            return
        self.past.append(before)
        if step.what not in edits.HARMLESS:
            self._known = None
        self.note(f"{step.what}: {describe_edit(before, self.model)}")

    def _undo(self, random: Random) -> None:
        """The program, its sources and its code are again as they were one to three edits ago."""
        if not self.past:
            return
        count = min(random.choice((1, 1, 2, 3)), len(self.past))
        before, self.model = self.model, self.past[-count]
        del self.past[-count:]
        self.model.table_count = before.table_count
        self._known = None
        self.note(f"undo: {show(self.model)}")

    # --- updates ---------------------------------------------------------------------------------

    def _start_process(self, random: Random) -> SimulatedProcess:
        context = coco.ContextProvider()
        context.provide(program.TONE, self.model.tone)
        self.outside.is_severed = False
        process = SimulatedProcess(
            self.disk,
            random.getrandbits(32),
            context=context,
            on_kill=self._sever,
            on_error=lambda error, _context: self.errors.append(repr(error)),
        )
        program.present.providers.clear()
        program.present.reach = self.outside.reach = process.reach
        program.present.delay = self.outside.delay = process.delay
        self.process = process
        return process

    def _sever(self) -> None:
        self.outside.is_severed = True

    def _run(self, random: Random, faults: list[Fault] = (), **options: Any) -> Outcome:  # type: ignore[assignment]
        process = self.process
        if process is None or random.random() < 0.25:
            if process is not None:
                process.end()
            process = self._start_process(random)
        model = self.model
        for name, value in model.codes.items():
            setattr(program, name, value)
        program.present.files = model.files
        process.environment.context_provider.provide(program.TONE, model.tone)
        outside.present.outside = self.outside
        self.errors.clear()
        program.present.ran.clear()
        self.outside.log.clear()
        self.updates += 1
        node = model.frozen()
        app = coco.App(
            coco.AppConfig(APP, process.environment), program.COMPONENTS[node.kind], node, {}
        )
        what = options.pop("what", "update")
        outcome = process.run(
            app.start_drop if what == "drop" else lambda: app.update(**options), faults
        )
        process.environment.apps.unregister(app)
        self.points.update(outcome.plan.seen)
        if outcome.kind == "killed":
            self.process = None
        else:
            self._expect_none(left_behind(process))
            process.settle()
        return outcome

    def _faulty(self, random: Random) -> None:
        faults = [
            Fault(random.randrange(self.estimate), random.choice(FAULTS))
            for _ in range(random.choice((1, 1, 1, 2, 3)))
        ]
        full = random.random() < 0.05
        outcome = self._run(random, faults, full_reprocess=full)
        self.estimate = max(10, (self.estimate + outcome.plan.passed) // 2)
        struck = outcome.plan.struck
        self.faults.update(kind for _, _, kind in struck)
        self.note(
            f"update{' (full)' if full else ''}: {outcome.kind} {outcome.value or ''}; "
            f"{', '.join(f'{k} at {p} of {w}' for p, w, k in struck) or 'nothing struck'}; "
            f"{brief(self.outside.changes())}"
        )
        if outcome.kind == "failed" and not struck:
            raise Divergence(f"an update without a fault failed: {outcome.value!r}")
        self._known = None
        self._check_instant()

    def _check_instant(self) -> None:
        self._expect_none(self.outside.violations)
        self._expect_none(invariants.at_any_time(self.disk, APP, self.outside))

    def _clean(self, random: Random, *, is_last: bool) -> None:
        expected = self.model.expected()
        if random.random() < (0.3 if is_last else 0.15):
            self._preview(random, expected)
        before = self.outside.ours()
        outcome = self._run(random)
        self.note(f"clean update: {outcome.kind}; {brief(self.outside.changes())}")
        self._expect_success(outcome)
        if self.model.table_count:
            self._let_containers_settle(random, expected)
        self._expect_outside(expected)
        self._expect_none(invariants.at_rest(self.disk, APP))
        if not self.model.table_count:
            self._check_work(before, expected)
        again = self._run(random)
        self._expect_success(again)
        if self.outside.changes():
            raise Divergence(f"a second update acted: {self.outside.changes()}")
        if program.present.ran:
            raise Divergence(f"a second update ran {ran()}")
        self._expect_none(invariants.at_rest(self.disk, APP))
        self._known = self.model.signatures()
        if is_last:
            self._finish(random, expected)

    def _let_containers_settle(self, random: Random, expected: dict[Any, str]) -> None:
        """A component that goes before its container is declared is deleted by the next update,
        and one that could not know what becomes of a container is memoized by the next."""
        for _ in range(2):
            if not invariants.at_rest(self.disk, APP) and self.outside.ours() == expected:
                break
            self._expect_success(self._run(random))
            self.note(f"settling: {brief(self.outside.changes())}")
        self._expect_success(self._run(random))

    def _finish(self, random: Random, expected: dict[Any, str]) -> None:
        choice = random.random()
        if choice < 0.15:
            self.disk, old = MemoryDisk(), self.outside
            self.process.end()
            self.process, self.outside = None, outside.Outside()
            self._expect_success(self._run(random))
            self._expect_outside(expected)
            if self.outside.rows != old.rows:
                raise Divergence("a rebuild differs")
        elif choice < 0.3:
            self._expect_success(self._run(random, what="drop"))
            self._expect_outside({})
            left = self.disk.rows(APP).rows
            if left:
                raise Divergence(f"a drop left {len(left)} rows")

    def _preview(self, random: Random, expected: dict[Any, str]) -> None:
        before = self.outside.ours()
        outcome = self._run(random, preview=True)
        self._expect_success(outcome)
        if self.outside.ours() != before or self.outside.log:
            raise Divergence(f"a preview acted: {self.outside.log}")
        if self.model.table_count:
            return  # what waits for its container is in the next plan
        twin = self.outside.copy()
        for action in outcome.value:
            twin.act(action)
        if twin.ours() != expected:
            raise Divergence(
                f"the plan {outcome.value} leads to {difference(twin.ours(), expected)}"
            )

    # --- expectations ----------------------------------------------------------------------------

    def _expect_success(self, outcome: Outcome) -> None:
        if outcome.kind != "done":
            raise Divergence(f"a clean update {outcome.kind}: {outcome.value!r}") from outcome.value
        if self.errors:
            raise Divergence(f"a clean update had failures: {self.errors}")
        self._expect_none(self.outside.violations)

    def _expect_outside(self, expected: dict[Any, str]) -> None:
        found = self.outside.ours()
        if found != expected:
            raise Divergence(f"outside differs: {difference(found, expected)}")
        for path, value in self.outside.foreign.items():
            if self.outside.rows.get(path) != value:
                raise Divergence(f"foreign {path} was touched")

    def _check_work(self, before: dict[Any, str], expected: dict[Any, str]) -> None:
        """With nothing wrong since the last clean update: only what changed was worked on."""
        if self._known is None:
            return
        for path, kind, argument in program.present.ran:
            if self.model.sign(path, kind, argument) in self._known:
                raise Divergence(f"needless run of {kind} although nothing changed: {argument}")
        changed = {path for path in before | expected if before.get(path) != expected.get(path)}
        moved = {a.path for a in self.outside.changes() if a.op == "delete"}
        for action in self.outside.changes():
            if action.path not in changed and action.path not in moved:
                raise Divergence(f"{action} changed nothing")

    def _expect_none(self, violations: list[str]) -> None:
        if violations:
            raise Divergence("; ".join(violations[:5]))


FAULTS: tuple[Any, ...] = ("kill",) * 6 + ("raise", "raise", "cancel", "full")


def left_behind(process: SimulatedProcess) -> list[str]:
    """Tasks that outlived their update. Only calls of sinks may, where it was cancelled."""
    names = [task.get_coro().__qualname__ for task in process.loop.tasks()]
    return [f"{name}() goes on" for name in names if not name.startswith("SinkQueue.")]


def ran() -> list[str]:
    return [f"{kind}({argument.name})" for _, kind, argument in program.present.ran]


def difference(found: dict[Any, str], expected: dict[Any, str]) -> str:
    lines = [
        f"{'/'.join(path)}: {found.get(path)} instead of {expected.get(path)}"
        for path in sorted(found | expected)
        if found.get(path) != expected.get(path)
    ]
    return "; ".join(lines[:6])


def brief(actions: list[Any]) -> str:
    return ", ".join(f"{a.op} {'/'.join(a.path)}" for a in actions[:12]) or "no action"


def describe_edit(before: Model, after: Model) -> str:
    if before.files != after.files:
        return f"files are {after.files}"
    if before.codes != after.codes:
        return f"code is { {k: v for k, v in after.codes.items() if v} }"
    if before.tone != after.tone:
        return f"tone is {after.tone}"
    return show(after)


def show(model: Model) -> str:
    def text(comp: Any) -> str:
        rows = [f"{'/'.join(p)}={s}" for p, s in comp.rows.items()]
        parts = [*rows, *[call_text(c) for c in comp.calls]]
        parts += [f"{t.kind}:{t.name}({t.shape}|{t.minor}{t.inner or ''})" for t in comp.tables]
        parts += [text(child) for child in comp.children]
        flags = [("+w", comp.is_wrapped), ("+p", comp.passes), ("+tone", comp.tone)]
        flag_text = "".join(flag for flag, is_set in flags if is_set)
        return f"{comp.name}:{comp.how}/{comp.kind}{flag_text}[{', '.join(parts)}]"

    def call_text(call: Any) -> str:
        rows = [f"{'/'.join(p)}={s}" for p, s in call.rows.items()]
        parts = ", ".join([*rows, *map(call_text, call.inner)])
        return f"{call.kind}.{call.name}{'+tone' if call.tone else ''}({parts})"

    return text(model.root)


def prepare() -> None:
    """Keep the engine's log to itself: failures are the point here. And look for garbage less
    often: a history makes much of it, and does not live long.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    logging.getLogger("cocoindex").setLevel(logging.CRITICAL + 1)
