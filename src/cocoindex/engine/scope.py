"""Where the running code is: which component, which call, which subpath, whose handlers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from cocoindex.core.keys import StableKey, normalize_key, path_text
from cocoindex.engine.frames import Frame
from cocoindex.errors import UsageError

if TYPE_CHECKING:
    from cocoindex.engine.exception_handlers import HandlerChain
    from cocoindex.engine.execution import Execution
    from cocoindex.engine.stats import StatsGroup


class ComponentContext:
    """The place in the component tree at which code runs. Immutable; views are derived.

    It follows ``await``, tasks and ``asyncio.to_thread``. Carry it into a raw thread pool
    with :meth:`attach`.
    """

    __slots__ = ("execution", "frame", "handlers", "outer", "stats", "subpath")

    def __init__(
        self,
        execution: Execution,
        frame: Frame,
        subpath: tuple[StableKey, ...],
        handlers: HandlerChain | None,
        stats: StatsGroup,
    ) -> None:
        self.execution = execution
        self.frame = frame
        self.subpath = subpath
        self.handlers = handlers
        self.stats = stats
        self.outer: ComponentContext | None = None

    def for_probing(self) -> ComponentContext:
        """Where the memo states of children are asked for, once its subpath is theirs.

        What they use is no dependency of the component that mounts.
        """
        return self.with_frame(Frame(None, False, {}))

    def with_frame(self, frame: Frame) -> ComponentContext:
        """The view of a body with a frame of its own."""
        view = ComponentContext(self.execution, frame, self.subpath, self.handlers, self.stats)
        view.outer = self
        return view

    def derive(self, **changes: Any) -> ComponentContext:
        """A view that differs in the given attributes only."""
        view = ComponentContext(self.execution, self.frame, self.subpath, self.handlers, self.stats)
        view.outer = self
        for name, value in changes.items():
            setattr(view, name, value)
        return view

    @contextlib.contextmanager
    def attach(self) -> Iterator[None]:
        """Make this the current context in the calling thread or task."""
        with entered(self):
            yield

    @property
    def path(self) -> tuple[StableKey, ...]:
        return self.execution.path + self.subpath

    def __str__(self) -> str:
        return path_text(self.path)

    def __repr__(self) -> str:
        return f"ComponentContext({self})"

    def __coco_memo_key__(self) -> str:
        return str(self)


_current: ContextVar[ComponentContext | None] = ContextVar("cocoindex_scope", default=None)

current_or_none = _current.get
enter = _current.set
leave = _current.reset


@contextlib.contextmanager
def entered(scope: ComponentContext | None) -> Iterator[None]:
    token = _current.set(scope)
    try:
        yield
    finally:
        _current.reset(token)


def current_scope() -> ComponentContext:
    """The current context.

    Raises:
        RuntimeError: no component is running here.
    """
    scope = _current.get()
    if scope is None:
        raise UsageError(
            "No ComponentContext available: call this from a function that runs inside an app "
            "(in a raw thread, attach the context obtained from coco.get_component_context())"
        )
    return scope


def get_component_context() -> ComponentContext:
    """The context of the running component (``RuntimeError`` outside of one)."""
    return current_scope()


class ComponentSubpath:
    """Keys below the current component: where to mount, or a prefix for mounts in a block."""

    __slots__ = ("_parts",)

    def __init__(self, *keys: Any) -> None:
        self._parts = tuple(normalize_key(key) for key in keys)

    @property
    def parts(self) -> tuple[StableKey, ...]:
        return self._parts

    def __truediv__(self, key: Any) -> ComponentSubpath:
        return ComponentSubpath(*self._parts, key)

    def __enter__(self) -> Self:
        scope = current_scope()
        enter(scope.derive(subpath=scope.subpath + self._parts))
        return self

    def __exit__(self, *_: object) -> None:
        # The view remembers what it was derived from, so one object may be entered many
        # times, nested and from several tasks.
        enter(current_scope().outer)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ComponentSubpath) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    def __repr__(self) -> str:
        return f"ComponentSubpath({', '.join(map(repr, self._parts))})"


def component_subpath(*keys: Any) -> ComponentSubpath:
    """Keys below the current component; also a ``with`` block that prefixes mounts inside."""
    return ComponentSubpath(*keys)
