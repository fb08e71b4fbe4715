"""Records as the rows that a source hands out."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from types import CodeType
from typing import Any

from cocoindex.connectors.postgres._literals import literal
from cocoindex.connectors.postgres._reading import TableShape
from cocoindex.core.memo_key import fingerprint_object

__all__ = ["KeyedRow", "RowMaker"]

KeyedRow = tuple[Any, Any]

_NOT_STABLE = (dt.date, dt.time, dt.timedelta, Decimal, float)


class RowMaker:
    """Makes a pair of key and row of each record of a query.

    Args:
        shape: the query's columns.
        row_type: called with a row's values by name, or None.
        row_factory: called with a dict of a row's values, or None.
        ordinal: the column that with the key identifies a row's content, or None.
    """

    def __init__(
        self,
        shape: TableShape,
        row_type: Any,
        row_factory: Callable[[dict[str, Any]], Any] | None,
        ordinal: str | None,
    ) -> None:
        self._shape = shape
        self._decoders = list(shape.decoders.items())
        self._drops = len(shape.names) < len(shape.selected)
        self._ordinal = ordinal
        self._source = (*shape.identity, *shape.names, *_identity(row_factory or row_type))
        self._row_type, self._row_factory = row_type, row_factory
        self._known = (
            _known(dict if row_type is None else row_type) if ordinal is not None else None
        )

    def __call__(self, record: Any) -> KeyedRow:
        shape = self._shape
        values = dict(record.items())
        for name, decode in self._decoders:
            if values[name] is not None:
                values[name] = decode(values[name])
        key = tuple([_stable(values[name]) for name in shape.key])
        ordinal = None if self._ordinal is None else values[self._ordinal]
        if self._drops:
            values = {name: values[name] for name in shape.names}
        if ordinal is None:
            row = self._row(values)
        else:
            row = self._known_row(values, (*self._source, key, literal(ordinal)))
        return key[0] if len(key) == 1 else key, row

    def _row(self, values: dict[str, Any]) -> Any:
        if self._row_type is not None:
            return self._row_type(**values)
        return values if self._row_factory is None else self._row_factory(values)

    def _known_row(self, values: dict[str, Any], memo_key: tuple[Any, ...]) -> Any:
        """A row that memos know by ``memo_key`` instead of by what it holds."""
        assert self._known is not None
        if self._row_factory is None:
            row = self._known(**values)
        else:
            row = self._row_factory(values)
            kind: Any = type(row)
            try:
                object.__setattr__(row, "__class__", _known(kind, in_dict=True))
            except TypeError:  # made of something that can't pass for another class
                return row
        object.__setattr__(row, "_coco_memo_key", memo_key)
        return row


def _identity(make: Any) -> tuple[str, ...]:
    """What tells apart what makes rows: its name, and a function's code and what it captures."""
    make = inspect.unwrap(make) if callable(make) else make
    if make is None:
        return ()
    if isinstance(make, functools.partial):
        captured = (make.args, *sorted(make.keywords.items()))
        return (*_identity(make.func), *_fingerprints(captured))
    named = make if hasattr(make, "__qualname__") else type(make)
    code = getattr(getattr(make, "__func__", make), "__code__", None)
    if code is None:
        return (named.__module__, named.__qualname__)
    cells = [cell.cell_contents for cell in getattr(make, "__closure__", None) or ()]
    digest = blake2b(_code_text(code).encode(), digest_size=16).hexdigest()
    return (named.__module__, named.__qualname__, digest, *_fingerprints(cells))


def _code_text(code: CodeType) -> str:
    """What it does, wherever it stands."""
    constants = [_constant_text(constant) for constant in code.co_consts]
    return repr((code.co_code, code.co_names, code.co_varnames, constants))


def _constant_text(constant: Any) -> str:
    if isinstance(constant, CodeType):
        return _code_text(constant)
    # The order of a set differs between processes.
    return repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _fingerprints(captured: Iterable[Any]) -> Iterator[str]:
    """Of those values that can be told apart."""
    for value in captured:
        with contextlib.suppress(TypeError):
            yield fingerprint_object(value).hex()


def _stable(value: Any) -> Any:
    """A key column's value as something that a key may consist of."""
    return literal(value) if isinstance(value, _NOT_STABLE) else value


@lru_cache(256)
def _known(cls: Any, *, in_dict: bool = False) -> Any:
    """A subclass that passes for ``cls`` and says what identifies its instances.

    The name is kept in a slot, where fields are not looked for, unless ``in_dict``.
    """
    namespace: dict[str, Any] = {
        "__class__": property(lambda _: cls),
        "__coco_memo_key__": lambda self: self._coco_memo_key,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
    }
    if not in_dict and not issubclass(cls, tuple):
        namespace["__slots__"] = ("_coco_memo_key",)
    return type(cls)(cls.__name__, (cls,), namespace)
