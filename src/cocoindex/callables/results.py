"""Storing and reading back what a memoized function returns."""

from __future__ import annotations

import collections.abc
import logging
import typing
from collections.abc import Callable
from functools import partial
from typing import Any, Final, get_args, get_origin

from cocoindex.core.serde import make_deserialize_fn, serialize, survives_generic_round_trip

__all__ = ["ResultCodec"]

_logger = logging.getLogger(__name__)
_NOTHING: Final = serialize(None)
_LISTS: Final = (
    list,
    tuple,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)


class ResultCodec:
    """Encodes results of one function, and decodes them as its return annotation says."""

    __slots__ = ("_label", "_name", "_return_type", "_suspect", "decode")

    def __init__(self, fn: Callable[..., Any], name: str, *, batched: bool) -> None:
        """``name``: ``module.qualname``; ``batched``: whether ``fn`` returns a list of results."""
        self._return_type = partial(_return_type, fn, batched)
        self._name = name
        self._label = f"return value of {name}()"
        self._suspect: bool | None = None
        self.decode = make_deserialize_fn(self._return_type, f"return type of {name}()")
        """Raises ``DeserializationError``, naming the function."""

    def encode(self, value: Any) -> bytes:
        """Raises ``SerializationError``, naming the function."""
        if value is None:
            return _NOTHING
        payload = serialize(value, self._label)
        if self._suspect is not False:
            self._warn_if_types_get_lost(value)
        return payload

    def _warn_if_types_get_lost(self, value: Any) -> None:
        if self._suspect is None:
            self._suspect = self._return_type() is Any
        if self._suspect and not survives_generic_round_trip(value):
            self._suspect = False
            _logger.warning(
                "%s() is memoized, but says nothing about what it returns: a stored %s will come "
                "back as plain lists and dicts. Annotate its return type.",
                self._name,
                type(value).__qualname__,
            )


def _return_type(fn: Callable[..., Any], batched: bool) -> Any:
    try:
        hint = typing.get_type_hints(fn, include_extras=True).get("return", Any)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return Any  # a name that exists for type checkers only
    return _item_type(hint) if batched else hint


def _item_type(hint: Any) -> Any:
    if get_origin(hint) in _LISTS and get_args(hint):
        return get_args(hint)[0]
    return Any
