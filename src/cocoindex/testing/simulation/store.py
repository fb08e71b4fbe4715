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
from cocoindex.state.buffered import BufferedSection, BufferedStore, Work
from cocoindex.state.commit import Generation
from cocoindex.state.memory import MemoryDisk, MemoryStore, _MemorySection
from cocoindex.state.rows import Rows
from cocoindex.testing.simulation.faults import InjectedFault

__all__ = ["CrashingCommits", "SimulatedStore"]

Reach = Callable[[str, str], None]


class CrashingCommits(BufferedStore):
    """How simulated stores commit and crash; named before the store they are made of.

    They commit after a random virtual delay, may find the disk full, and leave a random prefix
    of what was accepted behind when they crash.
    """

    _reach: Reach
    _random: Random
    _accepted: list[Any]
    _is_full = False
    """Whether the commit that is on its way finds the disk full."""

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
            self._is_full = True
        try:
            self._commit(generation)
        finally:
            self._is_full = False
        self._accepted.clear()
        with contextlib.suppress(InjectedFault):  # it is on disk: nothing is left to fail
            self._reach(FaultPoint.AFTER_FLUSH, "")

    def _check_disk(self) -> None:
        """Raise if the disk is full."""
        if self._is_full:
            raise StoreFullError("simulated: the disk is full")

    def _survivors(self) -> list[Any]:
        """What of the accepted a crash leaves: batches become durable in order, any prefix."""
        count = self._random.choice((0, 0, len(self._accepted)))
        if self._random.random() < 0.3:
            count = self._random.randint(0, len(self._accepted))
        return self._accepted[:count]


class SimulatedStore(CrashingCommits, MemoryStore):
    """A store in memory that crashes.

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
        """Die; what was accepted may have become durable, or some of it."""
        for name, batch in self._survivors():
            rows = Rows(cleared=batch is None)
            rows.rows.update(batch or ())
            self.disk.apply(name, rows)
        return super().crash()

    def _make_section(self, name: str) -> BufferedSection:
        return _Section(self, name)

    def _apply(self, work: Work) -> None:
        self._check_disk()
        super()._apply(work)


class _Section(_MemorySection):
    _store: Any

    def write(self, batch: Batch) -> None:
        super().write(batch)
        self._store.note(self._name, tuple(batch))

    def clear(self) -> None:
        super().clear()
        self._store.note(self._name, None)
