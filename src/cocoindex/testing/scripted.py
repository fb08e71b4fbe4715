"""The sink of a memory target: logs its calls, and fails or pauses when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, NamedTuple

__all__ = ["ANY_KEY", "Action", "Gate", "InjectedFailure", "Point", "Reconciled", "ScriptedSink"]

Point = Literal["before", "midway", "after"]
"""A point of a sink call. *before*: nothing is applied yet. *midway*: the actions in front of
the matching one are (without a key: the first half). *after*: everything is."""

ANY_KEY: Final = object()
"""Matches every sink call."""


class InjectedFailure(Exception):
    """The failure that :meth:`ScriptedSink.failing` raises unless told otherwise."""


class Action(NamedTuple):
    """One change sent to a memory target.

    Attributes:
        op: ``put`` or ``delete``; containers also ``keep`` (nothing to do, but children want a
            handler), ``alter`` (a lossy change) and ``replace`` (a destructive one).
        key: the key of a row of a :class:`MemoryTarget`; the path in a :class:`MemoryTree`.
        value: what to write; ``None`` for deletes.
    """

    op: Literal["put", "delete", "keep", "alter", "replace"]
    key: Any
    value: Any = None


class Reconciled(NamedTuple):
    """The arguments of one ``reconcile()`` call."""

    key: Any
    desired: Any
    prev: tuple[Any, ...]
    may_be_missing: bool


class Gate:
    """Holds sink calls until opened. Create it on the loop that opens it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.entered = asyncio.Event()
        """Set once a call waits at the gate (or has passed it)."""
        self.opened = asyncio.Event()

    def open(self) -> None:
        """Let every held and future call pass."""
        self.opened.set()

    async def passage(self) -> None:
        """What a sink call awaits; it may run on any loop."""
        if asyncio.get_running_loop() is self._loop:
            await self._pass()
        else:
            future = asyncio.run_coroutine_threadsafe(self._pass(), self._loop)
            await asyncio.wrap_future(future)

    async def _pass(self) -> None:
        self.entered.set()
        await self.opened.wait()


class _Injection(NamedTuple):
    point: Point
    key: Any
    do: Callable[[], None]

    def position(self, call: tuple[Action, ...]) -> int | None:
        """Before which action it strikes; ``len(call)``: after all; None: not in this call."""
        index = _index(self.key, call)
        if index is None or self.point == "midway":
            return index
        return 0 if self.point == "before" else len(call)


def _index(key: Any, call: tuple[Action, ...]) -> int | None:
    if key is ANY_KEY:
        return len(call) // 2
    return next((i for i, action in enumerate(call) if action.key == key), None)


class ScriptedSink:
    """Log and script of a sink; the base of both memory targets."""

    def __init__(self) -> None:
        self.calls: list[tuple[Action, ...]] = []
        """The actions of every sink call, in the order in which the calls began."""
        self.reconciled: list[Reconciled] = []
        """Arguments of every ``reconcile()`` call, in order."""
        self._injections: list[_Injection] = []
        self._gates: list[tuple[Any, Gate]] = []

    @property
    def actions(self) -> list[Action]:
        """Every action of every call that asked for a change."""
        return [action for call in self.calls for action in call if action.op != "keep"]

    def take(self) -> list[Action]:
        """The actions since the last ``take()``; clears both logs."""
        taken = self.actions
        self.calls.clear()
        self.reconciled.clear()
        return taken

    @contextmanager
    def injected(
        self, point: Point, do: Callable[[], None], *, key: Any = ANY_KEY
    ) -> Iterator[None]:
        """Run ``do()`` at ``point`` of each sink call that carries ``key``."""
        injection = _Injection(point, key, do)
        self._injections.append(injection)
        try:
            yield
        finally:
            self._injections.remove(injection)

    @contextmanager
    def failing(
        self,
        point: Point = "before",
        *,
        key: Any = ANY_KEY,
        error: BaseException | None = None,
    ) -> Iterator[None]:
        """Let each sink call that carries ``key`` raise ``error`` at ``point``."""

        def strike() -> None:
            raise error if error is not None else InjectedFailure(f"injected {point}")

        with self.injected(point, strike, key=key):
            yield

    @contextmanager
    def held(self, *, key: Any = ANY_KEY) -> Iterator[Gate]:
        """Hold each sink call that carries ``key`` before it applies anything.

        Leaving the block opens the gate. Needs a running loop.
        """
        entry = (key, Gate())
        self._gates.append(entry)
        try:
            yield entry[1]
        finally:
            self._gates.remove(entry)
            entry[1].open()

    async def run(
        self, actions: Sequence[Action], apply: Callable[[Action], None]
    ) -> tuple[Action, ...]:
        """What a sink does with its actions; returns them."""
        call = tuple(actions)
        self.calls.append(call)
        for key, gate in list(self._gates):
            if _index(key, call) is not None:
                await gate.passage()
        strikes = [(i.position(call), i.do) for i in self._injections]
        for position in range(len(call) + 1):
            for strike_position, do in strikes:
                if strike_position == position:
                    do()
            if position < len(call):
                apply(call[position])
        return call
