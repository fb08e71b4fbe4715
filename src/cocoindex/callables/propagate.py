"""Handing a callback's logic up to the function that made it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from cocoindex.engine.frames import Frame
from cocoindex.engine.function import function_of, is_async_callable
from cocoindex.engine.scope import ComponentContext, current_scope, entered
from cocoindex.errors import UsageError, UsageTypeError

F = TypeVar("F", bound=Callable[..., Any])


def logic_propagated_to_callers(fn: F) -> F:
    """Wrap a callback so that its logic counts for every memo between here and its call.

    When the wrapper is called, the logic of ``fn`` and of what it calls is recorded in all
    frames from the call site up to the one that made the wrapper, even through frames with
    ``logic_tracking="self"`` or ``None``.

    Raises:
        RuntimeError: made or called outside a component, or called after the function that
            made it has returned.
        TypeError: a plain callable returned an awaitable.
    """
    maker = current_scope()

    def frames_between() -> tuple[ComponentContext, list[Frame]]:
        scope = current_scope()
        frames: list[Frame] = []
        frame: Frame | None = scope.frame
        while frame is not None:
            frames.append(frame)
            if frame is maker.frame:
                if frame.has_ended or scope.execution is not maker.execution:
                    break
                return scope, frames
            frame = frame.parent
        raise UsageError(
            f"the callback {fn!r} was called after the function that wrapped it has returned, "
            "or in another component"
        )

    def inner_scope(scope: ComponentContext) -> ComponentContext:
        own = function_of(fn).logic()
        return scope.derive(frame=scope.frame.detached_logic(keeps_logic=True, own_logic=own))

    def propagate(inner: ComponentContext, frames: list[Frame]) -> None:
        blob = inner.frame.logic.blob()
        for frame in frames:
            frame.logic.absorb(blob)

    if is_async_callable(fn):

        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            scope, frames = frames_between()
            inner = inner_scope(scope)
            with entered(inner):
                try:
                    return await fn(*args, **kwargs)
                finally:
                    propagate(inner, frames)
    else:

        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            scope, frames = frames_between()
            inner = inner_scope(scope)
            with entered(inner):
                try:
                    result = fn(*args, **kwargs)
                finally:
                    propagate(inner, frames)
            if inspect.isawaitable(result):
                if inspect.iscoroutine(result):
                    result.close()
                raise UsageTypeError(f"{fn!r} is a plain callable, but returned an awaitable")
            return result

    wrapper.__coco_memo_key__ = lambda: fn  # type: ignore[attr-defined]
    return wrapper  # type: ignore[return-value]


logic_tracked = logic_propagated_to_callers
"""Deprecated alias."""
