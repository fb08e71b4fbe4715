"""What goes wrong in a simulated run, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from cocoindex.engine.faults import FaultPoint

__all__ = ["Fault", "FaultPlan", "InjectedFault"]

Kind = Literal["kill", "raise", "cancel", "full"]
"""``full``: the next commit of the store finds the disk full."""


class InjectedFault(Exception):
    """The failure that a simulated run is told to have."""


class Fault(NamedTuple):
    """One fault: ``kind`` strikes when the run passes its ``at``-th fault point (from 0)."""

    at: int
    kind: Kind


class FaultPlan:
    """Counts the fault points that a run passes, and strikes at those it was told.

    Install :meth:`reach` as the engine's hook; simulated stores, sinks and bodies call it too.
    """

    def __init__(
        self,
        faults: Iterable[Fault] = (),
        *,
        kill: Callable[[], None],
        cancel: Callable[[], None],
    ) -> None:
        self._faults = {fault.at: fault.kind for fault in faults}
        self._kill = kill
        self._cancel = cancel
        self._ended = False
        self._disk_is_full = False
        self.passed = 0
        self.struck: list[tuple[str, str, Kind]] = []
        """Where a fault struck: point, component, kind."""
        self.seen: Counter[str] = Counter()

    def reach(self, point: str, where: object) -> None:
        """Pass a point.

        Raises:
            InjectedFault: a ``raise`` strikes here.
            Killed: a ``kill`` does.
        """
        if self._ended:
            return
        position, self.passed = self.passed, self.passed + 1
        self.seen[point] += 1
        if self._disk_is_full and point == FaultPoint.BEFORE_FLUSH:
            self._disk_is_full = False
            raise InjectedFault("injected: the disk is full")
        kind = self._faults.get(position)
        if kind is None:
            return
        self.struck.append((str(point), str(where), kind))
        if kind == "full":
            self._disk_is_full = True
        elif kind == "cancel":
            self._cancel()
        elif kind == "raise":
            raise InjectedFault(f"injected at {point} of {where}")
        else:
            self._ended = True
            self._kill()

    def end(self) -> None:
        """Strike no more."""
        self._ended = True
