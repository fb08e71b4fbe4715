"""Words for error messages about values of the wrong type."""

from __future__ import annotations

import inspect

__all__ = ["kind_of"]


def kind_of(value: object) -> str:
    """What ``value`` is, to end "... must be a str, not"; names a forgotten ``await``."""
    if inspect.iscoroutine(value):
        value.close()  # else Python warns about it too, later and from elsewhere
        call = value.__qualname__
        return f"the coroutine of {call}(): forgot `await`? Write `await {call.split('.')[-1]}()`"
    name = type(value).__name__
    return f"{name}: forgot `await`?" if inspect.isawaitable(value) else name
