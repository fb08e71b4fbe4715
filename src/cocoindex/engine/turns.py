"""Short steps of many components, done one right after the other.

A processor takes half the time for code that it has just run. So what needs no waiting, and is the
same for each component, is put off to the end of the turn that the event loop is in, and then
done for all that have come to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Sequence
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Protocol

from cocoindex.errors import StoreError

if TYPE_CHECKING:
    from cocoindex.engine.run import Run


class Step(Protocol):
    """What is left to do with a component, in one go."""

    def __call__(self, taken: set[bytes] | None) -> None:
        """Do it. Raises nothing, and asks whether the run was cancelled.

        ``taken``: of the rows in :meth:`rows_to_read`, all that may exist; if that is known.
        A step that writes rows which it has not told of adds them, for those after it.
        """

    def rows_to_read(self) -> Sequence[bytes]:
        """Keys of rows that it would ask the store for, and that most likely don't exist."""


class Turn:
    """What is put off to the end of a turn, in one run."""

    __slots__ = ("_is_due", "_run", "_steps")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._steps: deque[tuple[Context, Step]] = deque()
        self._is_due = False
        """Whether it is seen to that the steps are done."""

    def put_off(self, step: Step, context: Context | None = None) -> None:
        """Do ``step`` at the end of this turn, in ``context`` or a copy of the current one.

        Raises:
            asyncio.CancelledError: the run is being cancelled.
        """
        self._run.check_not_cancelled()
        self._steps.append((copy_context() if context is None else context, step))
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._do_all, context=Context())

    def cancel(self) -> None:
        """Tell all steps that the run is being cancelled."""
        while self._steps:
            self._do_next(None)

    def _do_all(self) -> None:
        while self._steps:
            taken = self._taken()
            for _ in range(len(self._steps)):
                self._do_next(taken)
                if self._steps and self._run.has_much_pending():
                    flushing = self._run.spawn(self._flushed())
                    flushing.add_done_callback(self._go_on, context=Context())
                    return
        self._is_due = False

    def _do_next(self, taken: set[bytes] | None) -> None:
        context, step = self._steps.popleft()
        context.run(step, taken)

    def _taken(self) -> set[bytes] | None:
        """Of the rows that the steps ask for, those that exist, or may until it is their turn."""
        keys = [key for _, step in self._steps for key in step.rows_to_read()]
        try:
            found = self._run.app.section.get_many(keys) if keys else []
        except StoreError:  # each of them will hear of it
            return None
        taken: set[bytes] = set()
        if found.count(None) < len(found):
            taken = {key for key, value in zip(keys, found, strict=True) if value is not None}
        if len(set(keys)) < len(keys):  # the first who asks for a row may write it
            taken.update(key for key, times in Counter(keys).items() if times > 1)
        return taken

    async def _flushed(self) -> None:
        with contextlib.suppress(StoreError):  # the next step that writes will hear of it
            await self._run.app.section.flushed()

    def _go_on(self, flushing: asyncio.Task[None]) -> None:
        """Go on with the disk having what was written so far; also if that was cancelled, since
        whoever has put something off waits for it.
        """
        if not flushing.cancelled():
            flushing.result()
        self._do_all()
