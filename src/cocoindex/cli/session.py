"""Running engine work from the main thread: one loop, clean interruption, environments stopped.

The engine works on the background loop while the main thread waits, so that signals are served
at once even while user code blocks the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar, cast

R = TypeVar("R")

_PATIENCE = 5.0
"""Seconds a body may take to end after an interruption before it is named."""

_GLANCE = 0.02
"""Seconds between two looks at what still runs."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


_waiting = False
"""Whether the main thread waits for the engine (else it runs code of its own or asks)."""


class Interrupted(BaseException):
    """The process was asked to stop by a signal, and has cleaned up. Not an error of the work."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


def call(work: Coroutine[Any, Any, R]) -> R:
    """Run ``work`` on the loop of the engine and wait for it in this thread."""
    from cocoindex.engine.loops import background_loop, submit

    global _waiting  # noqa: PLW0603  (read by the signal handler)
    loop = background_loop()
    _waiting = True
    try:
        value, error = submit(loop, _carried(work)).result()
    finally:
        _waiting = False
    if error is not None:
        raise error
    return cast("R", value)


async def _carried(
    work: Coroutine[Any, Any, R],
) -> tuple[R | None, KeyboardInterrupt | SystemExit | None]:
    """What ``work`` returns; or one of the errors that would end the event loop on their way."""
    try:
        return await work, None
    except (KeyboardInterrupt, SystemExit) as error:
        return None, error


@contextlib.contextmanager
def session(*, quiet: bool = False) -> Iterator[Session]:
    """Guard a command that uses the engine.

    The first SIGINT or SIGTERM cancels all work of the engine, and lets synchronous bodies that
    run return; the second one ends the process at once. However the block ends, every
    environment of the process is stopped.

    Raises:
        Interrupted: a signal came; whatever the cancellation made the block raise is dropped.
    """
    current = Session(quiet=quiet)
    with current.serving_signals():
        try:
            yield current
        except (Exception, asyncio.CancelledError):
            # After a signal, any failure is taken for its consequence.
            if current.signum is None:
                raise
        finally:
            if current.signum is not None:
                _wait_for_bodies()
            stop_environments()
    if current.signum is not None:
        raise Interrupted(current.signum)


class Session:
    """What a running command knows about interruption."""

    def __init__(self, *, quiet: bool) -> None:
        from cocoindex.engine.loops import background_loop

        self.signum: int | None = None
        self._quiet = quiet
        # Looked up now: the look-up takes a lock, which a signal handler must not wait for.
        self._loop = background_loop()
        self._timer: threading.Timer | None = None
        self._before: dict[int, Any] = {}

    @contextlib.contextmanager
    def serving_signals(self) -> Iterator[None]:
        """Handle signals within the block; put the handlers of before back afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may handle signals
            return
        self._before = {number: signal.signal(number, self._first) for number in _SIGNALS}
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for number, handler in self._before.items():
                # None: it was not Python that set it.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _first(self, signum: int, _frame: FrameType | None) -> None:
        # From here on a signal ends the process without asking anybody.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self.signum = signum
        if not _waiting:
            raise Interrupted(signum)
        _release_terminal()
        if not self._quiet:
            print("Stopping...", flush=True)
        self._loop.call_soon_threadsafe(_cancel_all)
        self._timer = threading.Timer(_PATIENCE, _name_stuck_bodies)
        self._timer.daemon = True
        self._timer.start()


def _cancel_all() -> None:
    from cocoindex.engine.app import cancel_all

    cancel_all()


def _release_terminal() -> None:
    terminal = sys.modules.get("cocoindex.display.terminal")
    if terminal is not None:
        terminal.release_terminal()


def _wait_for_bodies() -> None:
    """Let synchronous bodies return, which can't be cancelled; a second signal ends the wait."""
    from cocoindex.cli.stuck import running_bodies

    while running_bodies():
        time.sleep(_GLANCE)


def _name_stuck_bodies() -> None:
    from cocoindex.cli.stuck import running_bodies, waiting_lines

    for line in waiting_lines(running_bodies()):
        print(line, file=sys.stderr, flush=True)


def stop_environments() -> None:
    """Stop every environment of the process; a failing one does not keep the others open."""
    from cocoindex.cli.errors import report

    try:
        call(_stop_all())
    except Exception as error:  # noqa: BLE001  (a lifespan may raise anything)
        report(error, "stopping the environment failed; see the traceback above.")


async def _stop_all() -> None:
    import cocoindex as coco
    from cocoindex.engine.lifespan import default_env_lazy, get_registered_environment_infos

    default = default_env_lazy().started
    for info in get_registered_environment_infos():
        if isinstance(info.env, coco.Environment) and info.env is not default:
            info.env.close()
    await coco.stop()
