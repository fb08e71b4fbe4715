"""A store in memory that crashes as a real one does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

from cocoindex.engine.faults import FaultPoint
from cocoindex.errors import StoreFullError
from cocoindex.state.base import Batch
from cocoindex.state.buffered import BufferedSection
from cocoindex.state.commit import Generation
from cocoindex.state.memory import MemoryDisk, MemoryStore, _MemorySection
from cocoindex.state.rows import Rows
from cocoindex.testing.simulation.faults import InjectedFault

__all__ = ["SimulatedStore"]

Reach = Callable[[str, str], None]


class SimulatedStore(MemoryStore):
    """Commits after a random virtual delay, may fail to, and crashes with a random prefix of
    what was accepted on disk.

    Args:
        disk: what survives.
        reach: passed before and after every commit.
        random: source of delays and of what a crash leaves.
    """

    def __init__(self, disk: MemoryDisk, *, reach: Reach, random: Random) -> None:
        super().__init__(disk, location="simulated store")
        self._reach = reach
        self._random = random
        self._accepted: list[tuple[str, Batch | None]] = []

    def note(self, name: str, batch: Batch | None) -> None:
        """A batch was accepted (``None``: the section was cleared)."""
        self._accepted.append((name, batch))

    def crash(self) -> MemoryStore:
        """Die. Batches become durable in order, so any prefix of the accepted may have."""
        survivors = self._random.choice((0, 0, len(self._accepted)))
        if self._random.random() < 0.3:
            survivors = self._random.randint(0, len(self._accepted))
        for name, batch in self._accepted[:survivors]:
            rows = Rows(cleared=batch is None)
            rows.rows.update(batch or ())
            self.disk.apply(name, rows)
        return super().crash()

    def _make_section(self, name: str) -> BufferedSection:
        return _Section(self, name)

    def _start_commit(self, generation: Generation) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # closing: at once
            self._commit_now(generation)
            return
        loop.call_later(self._random.choice((0.0, 0.0, 0.5)), self._commit_now, generation)

    def _commit_now(self, generation: Generation) -> None:
        try:
            self._reach(FaultPoint.BEFORE_FLUSH, "")
        except InjectedFault:
            self.disk.failure = StoreFullError("simulated: the disk is full")
        try:
            super()._start_commit(generation)
        finally:
            self.disk.failure = None
        self._accepted.clear()
        with contextlib.suppress(InjectedFault):  # it is on disk: nothing is left to fail
            self._reach(FaultPoint.AFTER_FLUSH, "")


class _Section(_MemorySection):
    _store: Any

    def write(self, batch: Batch) -> None:
        super().write(batch)
        self._store.note(self._name, tuple(batch))

    def clear(self) -> None:
        super().clear()
        self._store.note(self._name, None)
