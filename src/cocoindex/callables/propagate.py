"""Handing a callback's logic up to the function that made it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from cocoindex.core.introspect import is_async_callable
from cocoindex.engine.frames import Frame
from cocoindex.engine.function import function_of
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
    wrapper: Any
    if is_async_callable(fn):

        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            with _recording(maker, fn):
                return await fn(*args, **kwargs)
    else:

        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with _recording(maker, fn):
                return _plain(fn, fn(*args, **kwargs))

    wrapper.__coco_memo_key__ = lambda: fn
    return wrapper  # type: ignore[no-any-return]


def _plain(fn: Callable[..., Any], result: Any) -> Any:
    if not inspect.isawaitable(result):
        return result
    if inspect.iscoroutine(result):
        result.close()
    raise UsageTypeError(f"{fn!r} is a plain callable, but returned an awaitable")


@contextmanager
def _recording(maker: ComponentContext, fn: Callable[..., Any]) -> Iterator[None]:
    """Run a block in a frame of its own, and hand its logic to every frame up to ``maker``."""
    scope = current_scope()
    frames = list(_frames_up_to(maker, scope, fn))
    own = function_of(fn).logic()
    inner = scope.frame.detached_logic(keeps_logic=True, own_logic=own)
    try:
        with entered(scope.with_frame(inner)):
            yield
    finally:
        for frame in frames:
            frame.logic.update(inner.logic)


def _frames_up_to(
    maker: ComponentContext, scope: ComponentContext, fn: Callable[..., Any]
) -> Iterator[Frame]:
    frame: Frame | None = scope.frame
    while frame is not None and scope.execution is maker.execution:
        yield frame
        if frame is maker.frame and not frame.has_ended:
            return
        frame = frame.parent
    raise UsageError(
        f"the callback {fn!r} was called after the function that wrapped it has returned, "
        "or in another component"
    )


logic_tracked = logic_propagated_to_callers
"""Deprecated alias."""
