"""Random histories whose state is in a real Postgres, with kills and broken connections."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import psycopg
import pytest
from histories import history
from histories.history import Divergence, History, steps_of

from cocoindex.state.buffered import BufferedSection, Closed, Work
from cocoindex.state.memory import MemoryDisk
from cocoindex.state.postgres import lease
from cocoindex.state.postgres.location import PostgresLocation
from cocoindex.state.postgres.mirror import Limits
from cocoindex.state.postgres.store import PostgresStore, _PostgresSection
from cocoindex.state.rows import Rows
from cocoindex.testing.simulation import CrashingCommits, process

SEEDS = int(os.environ.get("COCOINDEX_SIM_POSTGRES_SEEDS", "12"))

pytestmark = pytest.mark.slow


class PostgresDisk(MemoryDisk):
    """What survives: a schema of its own, looked at past every store."""

    url: str
    connection: psycopg.Connection[Any]
    made = 0

    def __init__(self) -> None:
        super().__init__()
        PostgresDisk.made += 1
        self.location = PostgresLocation.of(self.url, schema=f"disk{self.made}")

    def rows(self, name: str) -> Rows:
        schema = self.location.schema
        text = f"""SELECT key, value FROM {schema}.cocoindex_state
            JOIN {schema}.cocoindex_state_sections USING (section) WHERE name = %s"""
        found = Rows()
        with contextlib.suppress(psycopg.errors.UndefinedTable):
            rows = self.connection.execute(text.encode(), [name])  # type: ignore[arg-type]
            found.rows.update(rows.fetchall())
        return found

    def cut(self) -> None:
        """Break every connection of the store."""
        self.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


class SimulatedPostgresStore(CrashingCommits, PostgresStore):
    """As :class:`cocoindex.testing.simulation.SimulatedStore`, on a real server."""

    def __init__(
        self, disk: PostgresDisk, *, reach: Callable[[str, str], None], random: Random
    ) -> None:
        super().__init__(
            disk.location, limits=random.choice((Limits(), Limits(2000, 50, 20), Limits(0, 0, 0)))
        )
        self._disk = disk
        self._reach = reach
        self._random = random
        self._is_crashed = False
        self._accepted: list[tuple[_PostgresSection, Rows]] = []

    def note(self, section: _PostgresSection, rows: Rows) -> None:
        self._accepted.append((section, rows))

    def crash(self) -> None:
        """Die; what was accepted may have become durable, or some of it."""
        self._is_full = False
        for section, rows in self._survivors():
            super()._apply([(section, rows)])
        self._is_crashed = True
        self._shut(Closed(self._location))

    def _release(self) -> None:
        if self._is_crashed:  # nothing is given back
            self.leases._stop.set()
            self.connections.close()
            self._on_close()
        else:
            super()._release()

    def _make_section(self, name: str) -> BufferedSection:
        return _Section(self, name)

    def _apply(self, work: Work) -> None:
        if self._random.random() < 0.05:
            self._disk.cut()
        self._check_disk()
        super()._apply(work)


class _Section(_PostgresSection):
    _store: Any

    def write(self, batch: Any) -> None:
        super().write(batch)
        rows = Rows()
        rows.rows.update(batch)
        self._store.note(self, rows)

    def clear(self) -> None:
        super().clear()
        self._store.note(self, Rows(cleared=True))


@pytest.fixture(scope="module", autouse=True)
def on_postgres(pg18_server) -> Iterator[None]:
    url = pg18_server.create_database()
    with pytest.MonkeyPatch.context() as patch, psycopg.connect(url, autocommit=True) as connection:
        PostgresDisk.url, PostgresDisk.connection = url, connection
        patch.setattr(history, "MemoryDisk", PostgresDisk)
        patch.setattr(process, "SimulatedStore", SimulatedPostgresStore)
        # Simulated processes share one that lives: let the killed ones look gone.
        patch.setattr(lease.process, "is_gone", lambda _process: True)
        yield
    pg18_server.drop_database(url)


@pytest.mark.parametrize("block", range(4))
def test_random_histories_end_with_the_outside_as_declared(block):
    kills = 0
    for seed in range(1000 + block, 1000 + SEEDS, 4):
        try:
            kills += History().run(steps_of(seed)).faults["kill"]
        except Divergence as divergence:
            pytest.fail(f"seed {seed}: {divergence}")
    assert kills > 0
