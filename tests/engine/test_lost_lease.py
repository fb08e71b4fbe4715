"""A process that lost its run lease stops acting, whatever it was about to do."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
import pytest

import cocoindex as coco
from cocoindex.errors import StoreError
from cocoindex.state.postgres.location import PostgresLocation
from cocoindex.state.postgres.store import PostgresStore


class Lines:
    """A target whose first action takes so long that another process takes over."""

    def __init__(self, while_acting: Any) -> None:
        self.log: list[str] = []
        self.while_acting = while_acting
        self._sink = coco.TargetActionSink.from_fn(self._apply)
        self.provider = coco.register_root_target_states_provider("test/lost-lease", self)

    def reconcile(self, key: Any, desired: Any, prev: Any, may_miss: Any, /) -> Any:
        return coco.TargetReconcileOutput(str(key), self._sink, desired)

    def _apply(self, _context: Any, actions: Any) -> None:
        self.log += actions
        self.while_acting()

    def declare(self, name: str) -> None:
        coco.declare_target_state(self.provider.target_state(name, name))


async def test_no_sink_is_called_after_the_lease_was_lost(pg18: str) -> None:
    location = PostgresLocation.of(pg18)
    database = coco.DatabaseConnectionSpec(pg18)
    environment = coco.Environment(coco.Settings(database=database))
    store: Any = environment.store
    successor = PostgresStore(location)

    def take_over() -> None:
        with psycopg.connect(pg18, autocommit=True) as connection:
            connection.execute(
                "UPDATE cocoindex_state_sections SET expires = now() - interval '1 second'"
            )
        successor.section("app").acquire_lease()
        store.leases.renew()

    lines = Lines(take_over)

    @coco.fn
    async def declare(name: str) -> None:
        lines.declare(name)

    @coco.fn
    async def main() -> None:
        await coco.use_mount(coco.component_subpath("one"), declare, "one")
        await coco.use_mount(coco.component_subpath("two"), declare, "two")

    app: Any = coco.App(coco.AppConfig("app", environment), main)
    with closing(successor):
        with pytest.raises(StoreError, match="was taken over by"):
            await app.update()
    assert lines.log == ["one"]
    lines.while_acting = lambda: None
    await app.update()
    assert lines.log == ["one", "one", "two"]
    environment.close()
