"""What pickles may name and call: a fixed list, in which every call checks its arguments.

The table of :mod:`cocoindex.core.unpickle`. Classes of users join it by registration only.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import pathlib
import sys
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable

__all__ = [
    "Pending",
    "PendingUUID",
    "allow_unpickling",
    "bad",
    "hashable",
    "is_registered_callable",
    "is_unpicklable_type",
    "reconstructor",
    "require",
    "resolve",
]

_MAX_HASH_DEPTH: Final = 200


class Pending:
    """An object between the call that announces it and the state that completes it."""

    __slots__ = ("memo_slots",)

    def __init__(self) -> None:
        self.memo_slots: list[int] = []

    def finish(self, state: Any) -> Any:
        """The object itself, made from its checked state."""
        raise bad(f"state for an object that takes none: {type(state).__name__}")


def bad(what: str) -> pickle.UnpicklingError:
    """The error for a payload that is damaged, or tries something."""
    from pickle import UnpicklingError

    return UnpicklingError(f"malformed or hostile pickle: {what}")


class PendingUUID(Pending):
    """A UUID waiting for its number."""

    __slots__ = ()

    def finish(self, state: Any) -> UUID:
        require(type(state) is dict and type(state.get("int")) is int, "state of a UUID")
        return UUID(int=state["int"])


# --- What may be named and called ---------------------------------------------------------

_user_globals: dict[tuple[str, str], Any] = {}
_user_ids: dict[int, Any] = {}


def allow_unpickling(target: Any) -> None:
    """Let pickles name, instantiate and call ``target`` (a class or a module-level function)."""
    _user_globals[target.__module__, target.__qualname__] = target
    _user_ids[id(target)] = target


def is_registered_callable(target: Any) -> bool:
    """Whether a user allowed exactly this object."""
    return id(target) in _user_ids


def is_unpicklable_type(kind: type) -> bool:
    """Whether a user allowed exactly this class."""
    return _user_ids.get(id(kind)) is kind


def require(condition: bool, what: str) -> None:
    if not condition:
        raise bad(what)


def _kinds(args: tuple[Any, ...], *signatures: tuple[type, ...]) -> tuple[Any, ...]:
    """``args`` if their exact types are those of one of the signatures."""
    require(tuple(map(type, args)) in signatures, "unexpected arguments of a reconstructor")
    return args


def _make_path(kind: type[pathlib.PurePath]) -> Callable[[tuple[Any, ...]], Any]:
    def make(args: tuple[Any, ...]) -> pathlib.PurePath:
        require(all(type(part) is str for part in args), "a path of something other than text")
        return kind(*args)

    return make


def _make_from_bytes(kind: Any, size: int) -> Callable[[tuple[Any, ...]], Any]:
    def make(args: tuple[Any, ...]) -> Any:
        require(1 <= len(args) <= 2 and type(args[0]) is bytes, f"arguments of {kind.__name__}")
        require(len(args[0]) == size, f"size of a {kind.__name__}")
        require(all(isinstance(arg, dt.tzinfo) for arg in args[1:]), "time zone")
        return kind(*args)

    return make


def _make_timezone(args: tuple[Any, ...]) -> dt.timezone:
    return dt.timezone(*_kinds(args, (dt.timedelta,), (dt.timedelta, str)))


def _make_set(args: tuple[Any, ...]) -> set[Any]:
    (items,) = _kinds(args, (list,))
    return set(hashable(items))


def _make_frozenset(args: tuple[Any, ...]) -> frozenset[Any]:
    (items,) = _kinds(args, (list,))
    return frozenset(hashable(items))


def _make_slice(args: tuple[Any, ...]) -> slice:
    require(len(args) == 3 and all(arg is None or type(arg) is int for arg in args), "slice")
    return slice(*args)


def _make_deque(args: tuple[Any, ...]) -> collections.deque[Any]:
    _kinds(args, (), (tuple, int))
    require(not args or args[0] == (), "a deque with contents in its call")
    return collections.deque(maxlen=args[1] if args else None)


def _make_singleton_type(args: tuple[Any, ...]) -> type:
    # How pickle writes type(None): the only form of type(...) that a payload may use.
    known = len(args) == 1 and any(args[0] is one for one in (None, Ellipsis, NotImplemented))
    require(known, "a call of type()")
    return type(args[0])


_BUILTIN_VALUES: Final = (
    bool, bytearray, bytes, complex, dict, float, frozenset, int, list, object, range, set, slice,
    str, tuple, type,
)  # fmt: skip
_PATHS: Final = (
    pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.Path,
    pathlib.PosixPath, pathlib.WindowsPath,
)  # fmt: skip
_DATETIMES: Final = (
    dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone,
)  # fmt: skip

_GLOBALS: Final[dict[tuple[str, str], Any]] = {
    **{("builtins", kind.__name__): kind for kind in _BUILTIN_VALUES},
    ("builtins", "Ellipsis"): Ellipsis,
    ("builtins", "NotImplemented"): NotImplemented,
    **{("pathlib", kind.__name__): kind for kind in _PATHS},
    **{("pathlib._local", kind.__name__): kind for kind in _PATHS},  # as Python 3.13 names them
    **{("datetime", kind.__name__): kind for kind in _DATETIMES},
    ("uuid", "UUID"): UUID,
    ("decimal", "Decimal"): decimal.Decimal,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "deque"): collections.deque,
}

_CALLS: Final[dict[Any, Callable[[tuple[Any, ...]], Any]]] = {
    complex: lambda args: complex(*_kinds(args, (float, float))),
    bytearray: lambda args: bytearray(*_kinds(args, (), (bytes,))),
    range: lambda args: range(*_kinds(args, (int, int, int))),
    slice: _make_slice,
    set: _make_set,
    frozenset: _make_frozenset,
    type: _make_singleton_type,
    **{kind: _make_path(kind) for kind in _PATHS},
    dt.date: _make_from_bytes(dt.date, 4),
    dt.datetime: _make_from_bytes(dt.datetime, 10),
    dt.time: _make_from_bytes(dt.time, 6),
    dt.timedelta: lambda args: dt.timedelta(*_kinds(args, (int, int, int))),
    dt.timezone: _make_timezone,
    decimal.Decimal: lambda args: decimal.Decimal(*_kinds(args, (str,))),
    collections.OrderedDict: lambda args: collections.OrderedDict(*_kinds(args, ())),
    collections.deque: _make_deque,
}


def resolve(module: str, name: str) -> Any:
    key = (module, name)
    if key in _GLOBALS:
        return _GLOBALS[key]
    if key in _user_globals:
        return _user_globals[key]
    if module.partition(".")[0] == "numpy":
        from cocoindex.core import unpickle_numpy

        found = unpickle_numpy.resolve(module, name)
        if found is not None:
            return found
    from pickle import UnpicklingError

    raise UnpicklingError(f"Forbidden global during unpickling: {module}.{name}")


def reconstructor(function: Any) -> Callable[[tuple[Any, ...]], Any] | None:
    """The checked reconstructor that stands for ``function``, if it is one of the fixed list."""
    try:
        call = _CALLS.get(function)
    except TypeError:  # unhashable: no function at all
        return None
    if call is None and "cocoindex.core.unpickle_numpy" in sys.modules:
        from cocoindex.core import unpickle_numpy

        return unpickle_numpy.reconstructor(function)
    return call


# --- Hashing ------------------------------------------------------------------------------


def hashable(items: list[Any]) -> list[Any]:
    for item in items:
        if type(item) is tuple:
            _check_tuple(item)
    return items


def _check_tuple(key: tuple[Any, ...]) -> None:
    """Refuse a tuple whose hash would overflow the C stack or take exponential time."""
    budget = 100_000
    pending = [(key, 0)]
    while pending:
        current, depth = pending.pop()
        budget -= len(current)
        require(depth < _MAX_HASH_DEPTH and budget > 0, "a key nested too deeply")
        pending.extend((item, depth + 1) for item in current if type(item) is tuple)
