"""What a callable is called, and how it has to be called."""

from __future__ import annotations

import functools
import inspect
from typing import Any


def is_async_callable(fn: Any) -> bool:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
        getattr(fn, "__call__", None)  # noqa: B004 - the method itself is wanted
    )


def display_name(fn: Any) -> str:
    """The qualified name, else the name, else the type's name."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    for attribute in ("__qualname__", "__name__"):
        name = getattr(fn, attribute, None)
        if isinstance(name, str):
            return name
    return type(fn).__qualname__


def subpath_name(fn: Any) -> str | None:
    """The key under which ``fn`` is mounted if no subpath is given."""
    for attribute in ("__coco_subpath_name__", "__name__"):
        name = getattr(fn, attribute, None)
        if isinstance(name, str):
            return name
    return None
