"""Random histories: whatever happens, a clean update makes the outside equal the declared."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

import cocoindex as coco
from cocoindex.testing.targets import InjectedFailure, MemoryTarget, MemoryTree

sub = coco.component_subpath

PATHS = st.sampled_from(["a", "b", "c", "d/x", "d/y", "a/n"])
KEYS = st.sampled_from(["k1", "k2", "k3"])
VALUES = st.integers(0, 2)


class Counted:
    """Opaque counter of memoized bodies."""

    def __init__(self) -> None:
        self.n = 0


class History(RuleBasedStateMachine):
    """A flat target, a container, memoized and plain components; sinks that fail; reopening."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.flat = MemoryTarget()
        self.tree = MemoryTree(handlers_from="factory")
        # path -> (memoized, {key: value} in the flat target, {key: value} in the container)
        self.plan: dict[str, tuple[bool, dict[str, int], dict[str, int]]] = {}
        self.container = 0
        self.bodies = bodies = Counted()
        flat = self.flat

        @coco.fn(memo=True)
        async def memoized(rows: dict[str, int], children: Any, inner: dict[str, int]) -> None:
            bodies.n += 1
            declare(rows, children, inner)

        @coco.fn(memo=True)
        async def call(key: str, value: int) -> None:
            bodies.n += 1
            flat.declare(key, value)

        async def plain(rows: dict[str, int], children: Any, inner: dict[str, int]) -> None:
            for key, value in rows.items():
                await call(key, value)
            declare({}, children, inner)

        def declare(rows: dict[str, int], children: Any, inner: dict[str, int]) -> None:
            for key, value in rows.items():
                flat.declare(key, value)
            for key, value in inner.items():
                coco.declare_target_state(children.target_state(key, value))

        async def main() -> None:
            children = await coco.mount_target(self.tree.container("D", self.container))
            handles = []
            for path, (memo, rows, inner) in sorted(self.plan.items()):
                function = memoized if memo else plain
                handles.append(
                    await coco.mount(sub(*path.split("/")), function, rows, children, inner)
                )
            for handle in handles:
                await handle.ready()

        self.main = main
        self.open()

    def open(self) -> None:
        async def start() -> coco.Environment:
            return coco.Environment(
                coco.Settings(db_path=Path(self.directory.name) / "store"),
                exception_handler=lambda error, context: None,
            )

        self.env = self.loop.run_until_complete(start())
        self.app = coco.App(coco.AppConfig("history", self.env), self.main)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.app.drop())
        assert self.flat.rows == {}
        assert self.tree.rows == {}
        self.env.close()
        self.loop.close()
        self.directory.cleanup()

    def update(self, **options: Any) -> None:
        async def run() -> None:
            await asyncio.wait_for(asyncio.ensure_future(self.app.update(**options)), 60)

        self.loop.run_until_complete(run())

    @rule(path=PATHS, memo=st.booleans(), rows=st.dictionaries(KEYS, VALUES, max_size=2))
    def declare_rows(self, path: str, memo: bool, rows: dict[str, int]) -> None:
        """Keys that another component declares move here; nested paths exclude each other."""
        if path in ("a", "a/n"):
            self.plan.pop("a/n" if path == "a" else "a", None)
        for _, others, _ in self.plan.values():
            for key in rows:
                others.pop(key, None)
        inner = self.plan.get(path, (False, {}, {}))[2]
        self.plan[path] = (memo, rows, inner)

    @rule(path=PATHS, inner=st.dictionaries(KEYS, VALUES, max_size=2))
    def declare_children(self, path: str, inner: dict[str, int]) -> None:
        if path in self.plan:
            for _, _, others in self.plan.values():
                for key in inner:
                    others.pop(key, None)
            memo, rows, _ = self.plan[path]
            self.plan[path] = (memo, rows, inner)

    @rule(path=PATHS)
    def unmount(self, path: str) -> None:
        self.plan.pop(path, None)

    @rule(kind=st.sampled_from(["lossy", "destructive"]))
    def change_container(self, kind: Any) -> None:
        self.container += 1
        self.tree.invalidations["D",] = kind

    @rule(
        point=st.sampled_from(["before", "midway", "after"]),
        keys=st.sets(KEYS, min_size=1),
        inner=st.booleans(),
        full=st.booleans(),
    )
    def update_with_failures(self, point: Any, keys: set[str], inner: bool, full: bool) -> None:
        with ExitStack() as failures:
            for key in keys:
                failures.enter_context(self.flat.failing(point, key=key))
                if inner:
                    failures.enter_context(self.tree.failing(point, key=("D", key)))
            self.update(full_reprocess=full)

    @rule(point=st.sampled_from(["before", "after"]))
    def update_with_a_failing_container(self, point: Any) -> None:
        with self.tree.failing(point, key=("D",)):
            try:
                self.update()
            except InjectedFailure:
                pass

    @rule()
    def reopen(self) -> None:
        self.env.close()
        self.open()

    @rule()
    def preview(self) -> None:
        before = dict(self.flat.rows), dict(self.tree.rows)
        self.update(preview=True)
        assert (self.flat.rows, self.tree.rows) == before

    @rule(full=st.booleans())
    def clean_update(self, full: bool) -> None:
        self.update(full_reprocess=full)
        self.check_outside()
        self.flat.take()
        self.tree.take()
        self.bodies.n = 0

        self.update()

        assert self.flat.take() == []
        assert self.tree.take() == []
        assert self.bodies.n == 0
        self.check_outside()

    def check_outside(self) -> None:
        rows = {k: v for _, declared, _ in self.plan.values() for k, v in declared.items()}
        inner = {k: v for _, _, declared in self.plan.values() for k, v in declared.items()}
        assert self.flat.rows == rows
        assert self.tree.rows == {
            ("D",): self.container,
            **{("D", key): value for key, value in inner.items()},
        }


TestHistory = History.TestCase
TestHistory.settings = settings(
    max_examples=30,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
