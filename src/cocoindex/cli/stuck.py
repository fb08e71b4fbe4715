"""Which synchronous bodies are still running on the threads of the engine."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextvars import Context
from types import FrameType

from cocoindex.core.keys import path_text
from cocoindex.engine import workers
from cocoindex.engine.scope import ComponentContext

MAX_NAMED = 3


def running_bodies() -> list[tuple[str, str]]:
    """Name and path of every synchronous body that runs now.

    Read off the stacks of the worker threads, so that the hot path keeps no books for it.
    """
    threads = {thread.ident for thread in threading.enumerate()}
    stacks = [frame for ident, frame in sys._current_frames().items() if ident in threads]
    found = [_body_of(context) for frame in stacks for context in _contexts(frame)]
    return sorted(body for body in found if body is not None)


def _contexts(frame: FrameType | None) -> Iterator[Context]:
    """The context of the job that a thread with this stack is running, if it is a worker."""
    while frame is not None:
        if frame.f_code is workers.WorkerPool.run_job.__code__:
            yield frame.f_locals["job"].context
            return
        frame = frame.f_back


def _body_of(context: Context) -> tuple[str, str] | None:
    scope = next((v for v in context.values() if isinstance(v, ComponentContext)), None)
    if scope is None:
        return None
    return scope.execution.function.name, path_text(scope.execution.path)


def waiting_lines(bodies: Sequence[tuple[str, str]]) -> list[str]:
    """What to say about bodies that do not return: the first of them by name."""
    quit_now = "press Ctrl-C again to quit now."
    if not bodies:
        return [f"Waiting for running functions to return… {quit_now}"]
    lines = [f"Waiting for {name} at {path}… {quit_now}" for name, path in bodies[:MAX_NAMED]]
    more = len(bodies) - len(lines)
    return [*lines, f"(and {more} more)"] if more else lines
