"""Storing and reading back what a memoized function returns."""

from __future__ import annotations

import collections.abc
import logging
import typing
from collections.abc import Callable
from typing import Any, Final, get_args, get_origin

__all__ = ["ResultCodec"]

_logger = logging.getLogger(__name__)
_LISTS: Final = (
    list,
    tuple,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)


class ResultCodec:
    """Encodes results of one function, and decodes them as its return annotation says."""

    __slots__ = ("_annotated", "_batched", "_decode", "_fn", "_name", "_suspect")

    def __init__(self, fn: Callable[..., Any], name: str, *, batched: bool) -> None:
        """``name``: ``module.qualname``; ``batched``: whether ``fn`` returns a list of results."""
        self._fn = fn
        self._name = name
        self._batched = batched
        self._decode: Callable[[bytes], Any] | None = None
        self._annotated = False
        self._suspect: bool | None = None

    def encode(self, value: Any) -> bytes:
        """Raises ``SerializationError``, naming the function."""
        from cocoindex.core.serde import serialize

        payload = serialize(value, f"return value of {self._name}()")
        if self._suspect is not False:
            self._warn_if_types_get_lost(value)
        return payload

    def decode(self, payload: bytes) -> Any:
        """Raises ``DeserializationError``, naming the function."""
        if self._decode is None:
            from cocoindex.core.serde import make_deserialize_fn

            self._decode = make_deserialize_fn(self._return_type, f"return type of {self._name}()")
        return self._decode(payload)

    def _return_type(self) -> Any:
        try:
            hint = typing.get_type_hints(self._fn, include_extras=True).get("return", Any)
        except (NameError, TypeError, AttributeError, SyntaxError):
            return Any  # a name that exists for type checkers only
        return _item_type(hint) if self._batched else hint

    def _warn_if_types_get_lost(self, value: Any) -> None:
        from cocoindex.core.serde import survives_generic_round_trip

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


def _item_type(hint: Any) -> Any:
    if get_origin(hint) in _LISTS and get_args(hint):
        return get_args(hint)[0]
    return Any
