"""Short steps of many components, done one right after the other.

A processor takes half the time for code that it has just run. So what needs no waiting, and is the
same for each component, is put off to the end of the turn that the event loop is in, and then
done for all that have come to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING

from cocoindex.errors import StoreError

if TYPE_CHECKING:
    from cocoindex.engine.run import Run

Step = Callable[[], None]
"""Raises nothing, and asks whether the run was cancelled."""


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
            context, step = self._steps.popleft()
            context.run(step)

    def _do_all(self) -> None:
        while self._steps:
            context, step = self._steps.popleft()
            context.run(step)
            if self._steps and self._run.has_much_pending():
                flushing = self._run.spawn(self._flushed())
                flushing.add_done_callback(self._go_on, context=Context())
                return
        self._is_due = False

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
