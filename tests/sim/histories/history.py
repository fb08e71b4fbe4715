"""A history: edits, updates in which things go wrong, and clean updates that must set it right."""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import cocoindex as coco
from cocoindex.testing.simulation import Fault, MemoryDisk, Outcome, SimulatedProcess
from histories import edits, invariants, outside, program, telling
from histories.model import Expected, Model
from histories.steps import Divergence, Step, steps_of
from histories.telling import brief, describe_edit, difference, show

APP = "simulated"
FAULTS: tuple[Any, ...] = ("kill",) * 14 + ("raise", "raise", "raise", "cancel", "full")
PLAIN_FAULTS = ("kill", "raise", "cancel", "full")
"""Shrinking makes steps of these (after ``drop/`` and the like): one fault, at that point."""
EVERYTHING = coco.DeletionGuard(0, 1)
"""Withholds every removal from a listing."""


class Result(NamedTuple):
    """Figures of a history that went well."""

    updates: int
    faults: Counter[str]
    points: Counter[str]


class History:
    """Carries out steps. One at a time per process: program and outside are module-wide."""

    def __init__(self, *, log: list[str] | None = None, thorough: bool = False) -> None:
        """``thorough``: leave out no check, whatever time it takes."""
        self.model = Model()
        self.disk = MemoryDisk()
        self.outside = outside.Outside()
        self.process: SimulatedProcess | None = None
        self.log = log
        self.thorough = thorough
        self.past: list[Model] = []
        self.errors: list[str] = []
        self.estimate = 60
        self.updates = 0
        self.struck: list[tuple[int, str]] = []
        """The faults of the last update that went wrong."""
        self.faults: Counter[str] = Counter()
        self.points: Counter[str] = Counter()
        self._known: set[Any] | None = None
        """Signatures of what the last clean update has left memoized, while that counts."""

    def run(self, steps: list[Step]) -> Result:
        try:
            for step in steps:
                self.take(step)
        finally:
            self.end()
        return Result(self.updates, self.faults, self.points)

    def end(self) -> None:
        """End the simulated process in an orderly way."""
        if self.process is not None:
            self.process.end()
            self.process = None

    def take(self, step: Step) -> None:
        random = Random(step.seed)
        if step.what == "start":
            self.model.root.kind = random.choice(("plain", "plain", "memoized"))
            self.note(lambda: f"start with a {self.model.root.kind} root")
        elif step.what == "faulty":
            self._faulty(random)
        elif step.what.rpartition("/")[2] in PLAIN_FAULTS:
            name, _, kind = step.what.rpartition("/")
            self._spoiled(random, [Fault(step.seed % 1000, kind)], name or "update")  # type: ignore[arg-type]
        elif step.what == "withholding":
            self._withholding(random)
        elif step.what == "failing":
            self._failing(random)
        elif step.what == "clean":
            self._clean(random)
        elif step.what == "last":
            self._last(random)
        elif step.what == "undo":
            self._undo(random)
        else:
            self._edit(step, random)

    def note(self, text: Callable[[], str]) -> None:
        if self.log is not None:
            self.log.append(text())

    # --- edits -----------------------------------------------------------------------------------

    def _edit(self, step: Step, random: Random) -> None:
        before = self.model
        self.model = edits.apply(before, step.what, random)
        if self.model is before:
            return
        self.past.append(before)
        if step.what not in edits.HARMLESS:
            self._known = None
        self.note(lambda: f"{step.what}: {describe_edit(before, self.model)}")

    def _undo(self, random: Random) -> None:
        """The program, its sources and its code are again as they were one to three edits ago."""
        if not self.past:
            return
        count = min(random.choice((1, 1, 2, 3)), len(self.past))
        before, self.model = self.model, self.past[-count]
        del self.past[-count:]
        self.model.table_count = before.table_count
        self._known = None
        self.note(lambda: f"undo: {show(self.model)}")

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

    def _run(
        self,
        random: Random,
        faults: list[Fault] = (),  # type: ignore[assignment]
        *,
        what: str = "update",
        guard: coco.DeletionGuard | None = None,
        **options: Any,
    ) -> Outcome:
        """One operation; sink calls that it abandons go on until :meth:`_settle`."""
        process = self.process
        if process is None or random.random() < 0.25:
            self.end()
            process = self._start_process(random)
        model = self.model
        process.environment.context_provider.provide(program.TONE, model.tone)
        program.install(model.codes)
        program.present.files = model.files
        outside.present.outside = self.outside
        for record in (self.errors, program.present.ran, program.present.remembered):
            record.clear()
        program.present.kept.clear()
        self.outside.log.clear()
        self.updates += 1
        has_states = any(comp.states for comp in model.comps())
        stored = invariants.Stored(self.disk, APP).states() if has_states else {}
        node = model.frozen()
        app = coco.App(
            coco.AppConfig(APP, process.environment, deletion_guard=guard),
            program.COMPONENTS[node.kind], node, {},
        )  # fmt: skip
        outcome = process.run(
            app.start_drop if what == "drop" else lambda: app.update(**options), faults
        )
        process.environment.apps.unregister(app)
        self.points.update(outcome.plan.seen)
        self._check_remembered({} if options.get("full_reprocess") else stored)
        if outcome.kind == "killed":
            self.process = None
        else:
            self._expect_none(left_behind(process))
        return outcome

    def _settle(self) -> None:
        if self.process is not None:
            self.process.settle()

    def _faulty(self, random: Random) -> None:
        faults = [
            Fault(random.randrange(self.estimate), random.choice(FAULTS))
            for _ in range(random.choice((1, 1, 1, 2, 3)))
        ]
        name = random.choice(sorted(WAYS)) if random.random() < 0.2 else "update"
        outcome = self._spoiled(random, faults, name)
        if outcome.kind == "killed":
            self.estimate = max(self.estimate, outcome.plan.passed)
        else:
            self.estimate = max(10, outcome.plan.passed)

    def _spoiled(self, random: Random, faults: list[Fault], name: str) -> Outcome:
        """An update with these faults, and what must hold right after it."""
        if name == "preview":
            self._settle()
        unchanged = dict(self.disk.rows(APP).rows) if name == "preview" else None
        outcome = self._run(random, faults, **WAYS[name])
        struck = outcome.plan.struck
        self.faults.update(kind for _, _, kind in struck)
        self.note(lambda: f"{name}: {telling.spoiled(outcome)}; {brief(self.outside.changes())}")
        if outcome.kind == "failed" and not struck and not is_withheld(outcome):
            raise Divergence(f"an update without a fault failed: {outcome.value!r}")
        self._known = None
        self.struck = [(fault.at, f"{name}/{fault.kind}") for fault in faults if struck]
        if outcome.kind == "cancelled" and random.random() < 0.3:
            return outcome  # the next update comes while calls of sinks still go on
        self._settle()
        if unchanged is not None and (self.outside.log or self.disk.rows(APP).rows != unchanged):
            raise Divergence("a preview left something behind")
        self._check_instant()
        return outcome

    def _failing(self, random: Random) -> None:
        """Some components fail by themselves, and everything else goes on."""
        names = [child.name for comp in self.model.comps() for child in comp.children]
        if not names:
            return
        failing = random.sample(names, min(len(names), random.choice((1, 1, 2))))
        program.present.failing = frozenset(failing)
        try:
            outcome = self._run(random)
        finally:
            program.present.failing = frozenset()
        self.note(lambda: f"failing {failing}: {outcome.kind}; {brief(self.outside.changes())}")
        self.faults["raise"] += 1
        self._known = None
        self._settle()
        self._check_instant()

    def _check_instant(self) -> None:
        self._expect_none(self.outside.violations)
        self._expect_none(invariants.at_any_time(self.disk, APP, self.outside))
        if self.thorough or self.updates % 8 == 0:  # it takes as long as an update
            self._expect_none(invariants.fsck(self.disk, APP, is_at_rest=False))

    def _check_remembered(self, stored: dict[tuple[str, str], str]) -> None:
        """A component finds the state that its last commit has left, and no other. (The last
        commit is this update's own if it passes over the tree twice.)"""
        kept = program.present.kept
        met: set[Any] = set()
        for path, key, value in program.present.remembered:
            right = {stored.get((path, key))} | ({kept[path, key]} if (path, key) in met else set())
            met.add((path, key))
            if value not in right:
                raise Divergence(
                    f"{path} remembers {key} as {value}, not as {stored.get((path, key))}"
                )

    # --- updates that remove less than was asked for ---------------------------------------------

    def _withholding(self, random: Random) -> None:
        """Some children are not listed by accident, or the deletion guard steps in."""
        self._settle()
        before = self.outside.ours()
        if random.random() < 0.5:
            self._hide(random, before)
        else:
            self._guard(random, before)
        self._known = None
        self._check_instant()

    def _hide(self, random: Random, before: dict[Any, str]) -> None:
        names = random.sample(edits.NAMES, random.randrange(1, len(edits.NAMES)))
        holders = invariants.Stored(self.disk, APP).holders()
        program.present.hidden = hidden = frozenset(names)
        try:
            outcome = self._run(random)
        finally:
            program.present.hidden = frozenset()
        self.note(lambda: f"update without {sorted(hidden)}: {brief(self.outside.changes())}")
        self._expect_success(outcome)
        expected = self.model.expected(hidden)
        unseen = [f'{path}/"{name}"' for path in self.model.listings() for name in hidden]
        for place, holder in holders.items():
            if place in before and any(f"{holder}/".startswith(f"{path}/") for path in unseen):
                expected.setdefault(place, before[place])
        self._expect_at_least(expected, before)

    def _guard(self, random: Random, before: dict[Any, str]) -> None:
        guard = coco.DeletionGuard(random.choice((0, 0.3, 0.5, 0.9)), random.choice((1, 1, 2, 3)))
        stored = invariants.Stored(self.disk, APP)
        listed, is_dropped = stored.listed(), stored.is_being_dropped()
        expected = []
        for path, names in self.model.listings().items():
            had = listed.get(path, set())
            if guard.withholds(len(had - names), len(had)):
                expected.append((path, len(had - names), len(had)))
        outcome = self._run(random, guard=guard)
        withheld = outcome.value.withheld if is_withheld(outcome) else []
        self.note(lambda: f"update under {guard}: {withheld}; {brief(self.outside.changes())}")
        # Of what a drop has left, an update first forgets components that have nothing (any more).
        if sorted(withheld) != sorted(expected) and not is_dropped:
            raise Divergence(f"withheld {sorted(withheld)} instead of {sorted(expected)}")
        if not withheld:
            self._expect_success(outcome)
        self._expect_at_least(self.model.expected(), before)

    def _expect_at_least(self, expected: Expected, before: dict[Any, str]) -> None:
        """What was additionally there before may be left, and nothing else."""
        found = self.outside.ours()
        expected.decide(found)
        for path, value in found.items():
            if path not in expected and value in (before.get(path), outside.LOST):
                expected[path] = value
        self._expect_outside(expected)

    # --- clean updates ---------------------------------------------------------------------------

    def _clean(self, random: Random) -> None:
        self._settle()
        expected = self.model.expected()
        plan = self._preview(random, expected) if random.random() < 0.2 else None
        before = self.outside.ours()
        guard = EVERYTHING if random.random() < 0.1 else None
        outcome = self._run(random, guard=guard, allow_deletes=guard is not None)
        self.note(lambda: f"clean update: {outcome.kind}; {brief(self.outside.changes())}")
        self._expect_success(outcome)
        if expected.contested:
            expected.decide(self.outside.ours())
            self._expect_outside(expected)
            self._known = None
            return
        if plan is not None:
            self._expect_planned(plan)
        self._check_work(before, expected)
        self._expect_outside(expected)
        self._expect_at_rest()
        self._run_idly(random)
        self._known = self.model.signatures()

    def _run_idly(self, random: Random) -> None:
        """An update that finds nothing to do."""
        before = dict(self.disk.rows(APP).rows)
        self._expect_success(self._run(random))
        if self.disk.rows(APP).rows != before:
            raise Divergence("a second update wrote to the store")
        if self.outside.changes():
            raise Divergence(f"a second update acted: {self.outside.changes()}")
        if program.present.ran:
            raise Divergence(f"a second update ran {ran()}")

    def _last(self, random: Random) -> None:
        self._clean(random)
        if self.model.expected().contested:
            self.take(Step("concede", 0))
            self._clean(random)
        choice = random.random()
        if choice < 0.15:
            self._rebuild(random)
        elif choice < 0.3:
            self._expect_success(self._run(random, what="drop"))
            self._expect_outside({})
            left = self.disk.rows(APP).rows
            if left:
                raise Divergence(f"a drop left {len(left)} rows")

    def _rebuild(self, random: Random) -> None:
        old = self.outside
        self.end()
        self.disk, self.outside = MemoryDisk(), outside.Outside()
        self._expect_success(self._run(random))
        self._expect_outside(self.model.expected())
        if self.outside.rows != old.rows:
            raise Divergence("a rebuild differs")

    def _preview(self, random: Random, expected: Expected) -> list[Any]:
        before = self.outside.ours()
        outcome = self._run(random, preview=True)
        self._expect_success(outcome)
        if self.outside.ours() != before or self.outside.log:
            raise Divergence(f"a preview acted: {self.outside.log}")
        plan: list[Any] = outcome.value
        twin = self.outside.copy()
        for action in plan:
            twin.act(action)
        expected.decide(twin.ours())
        if twin.ours() != expected:
            raise Divergence(f"the plan {plan} leads to {difference(twin.ours(), expected)}")
        return plan

    # --- expectations ----------------------------------------------------------------------------

    def _expect_success(self, outcome: Outcome) -> None:
        if outcome.kind != "done":
            raise Divergence(f"a clean update {outcome.kind}: {outcome.value!r}") from outcome.value
        if self.errors:
            raise Divergence(f"a clean update had failures: {self.errors}")
        self._expect_none(self.outside.violations)
        times = 2 if self.model.table_count else 1  # a second pass, for a container's sake
        twice = [call for call, count in Counter(program.present.ran).items() if count > times]
        if twice:
            raise Divergence(f"one update ran {times + 1} times: {twice}")

    def _expect_planned(self, plan: list[Any]) -> None:
        """The plan was carried out, but for what another component takes over: whether that is
        deleted and written anew, with all that is below it, depends on who comes first."""
        planned, done = by_path(plan), by_path(self.outside.log)
        handed = {
            path
            for path in planned.keys() | done.keys()
            if {len(planned.get(path, ())), len(done.get(path, ()))} in ({0, 2}, {1, 2})
        }
        for path in planned.keys() | done.keys():
            one, other = planned.get(path, []), done.get(path, [])
            if one != other and not any(path[:end] in handed for end in range(2, len(path) + 1)):
                raise Divergence(f"planned was {one}, but done {other}")

    def _expect_outside(self, expected: dict[Any, str]) -> None:
        found = self.outside.ours()
        if found != expected:
            raise Divergence(f"outside differs: {difference(found, expected)}")
        for path, value in self.outside.foreign.items():
            if self.outside.rows.get(path) != value:
                raise Divergence(f"foreign {path} was touched")

    def _expect_at_rest(self) -> None:
        self._expect_none(invariants.at_rest(self.disk, APP))
        kept, expected = invariants.Stored(self.disk, APP).states(), self.model.states()
        if kept != expected:
            raise Divergence(f"states are {kept} instead of {expected}")

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


WAYS: dict[str, dict[str, Any]] = {
    "update": {},
    "full": {"full_reprocess": True},
    "preview": {"preview": True},
    "drop": {"what": "drop"},
    "guarded": {"guard": EVERYTHING},
}
"""What may go wrong, and how it is started."""


def by_path(actions: list[Any]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {}
    for action in actions:
        found.setdefault(action.path, []).append(action)
    return found


def is_withheld(outcome: Outcome) -> bool:
    return isinstance(outcome.value, coco.DeletionsWithheldError)


def left_behind(process: SimulatedProcess) -> list[str]:
    """Tasks that outlived their update. Only calls of sinks may, where it was cancelled."""
    names = [task.get_coro().__qualname__ for task in process.loop.tasks()]
    return [f"{name}() goes on" for name in names if not name.startswith("SinkQueue.")]


def ran() -> list[str]:
    return [f"{kind}({argument.name})" for _, kind, argument in program.present.ran]


def prepare() -> None:
    """Keep the engine's log to itself: failures are the point here. And look for garbage less
    often: a history makes much of it, and does not live long.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    logging.getLogger("cocoindex").setLevel(logging.CRITICAL + 1)


__all__ = ["Divergence", "History", "Step", "brief", "prepare", "show", "steps_of"]
