"""Checking that a value is of a declared type, for keys given by users."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Generic, TypeVar, Union, cast, get_args, get_origin

from cocoindex.errors import UsageTypeError, UsageValueError

__all__ = ["TypeChecker"]

T = TypeVar("T")

_Check = Callable[[Any], str | None]
"""From a value to what is wrong with it, or ``None``."""


class TypeChecker(Generic[T]):
    """Checks values against one type: a class, ``None``, ``Any``, a union or a tuple type.

    Built once; the type is analysed then.

    Raises:
        UsageValueError: the type is of another kind.
    """

    __slots__ = ("_check", "_expected")

    def __init__(self, expected_type: type[T] | Any) -> None:
        self._expected = expected_type
        self._check = _build(expected_type, "")

    def check(self, value: Any) -> T:
        """``value`` itself.

        Raises:
            UsageTypeError: it is of another type; the message says what was expected, where
                in a tuple, and the value.
        """
        wrong = self._check(value)
        if wrong is not None:
            raise UsageTypeError(wrong)
        return cast("T", value)

    def __repr__(self) -> str:
        return f"TypeChecker({self._expected!r})"


def _build(expected: Any, at: str) -> _Check:
    if expected is Any:
        return lambda _: None
    if expected is None:
        return _of_class(type(None), at)
    origin = get_origin(expected)
    if origin is Union or origin is types.UnionType:
        return _of_union(expected, at)
    if origin is tuple:
        return _of_tuple(get_args(expected), at)
    if origin is None and isinstance(expected, type):
        return _of_class(expected, at)
    raise UsageValueError(
        f"Unsupported type for TypeChecker: {expected!r}. Use a class, None, Any, a union, or a "
        "tuple type."
    )


def _mismatch(expected: str, at: str, value: Any) -> str:
    where = f" at {at}" if at else ""
    return f"expected {expected}{where}, got {type(value).__name__}: {value!r}"


def _name(expected: Any) -> str:
    if expected is None or expected is type(None):
        return "None"
    is_plain_class = isinstance(expected, type) and get_origin(expected) is None
    return expected.__name__ if is_plain_class else str(expected)


def _of_class(expected: type, at: str) -> _Check:
    name = _name(expected)
    return lambda value: None if isinstance(value, expected) else _mismatch(name, at, value)


def _of_union(expected: Any, at: str) -> _Check:
    checks = [_build(arg, at) for arg in get_args(expected)]
    name = " | ".join([_name(arg) for arg in get_args(expected)])

    def check(value: Any) -> str | None:
        if any(one(value) is None for one in checks):
            return None
        return _mismatch(name, at, value)

    return check


def _of_tuple(args: tuple[Any, ...], at: str) -> _Check:
    if len(args) == 2 and args[1] is Ellipsis:
        return _of_any_length(args[0], at)
    checks = [_build(arg, f"{at}[{position}]") for position, arg in enumerate(args)]

    def check(value: Any) -> str | None:
        if not isinstance(value, tuple):
            return _mismatch("tuple", at, value)
        if len(value) != len(checks):
            where = f" at {at}" if at else ""
            return (
                f"expected tuple of length {len(checks)}{where}, got length {len(value)}: {value!r}"
            )
        return next(
            filter(None, (one(item) for one, item in zip(checks, value, strict=True))), None
        )

    return check


def _of_any_length(item_type: Any, at: str) -> _Check:
    check_item = _build(item_type, f"{at}[*]")

    def check(value: Any) -> str | None:
        if not isinstance(value, tuple):
            return _mismatch("tuple", at, value)
        for position, item in enumerate(value):
            if check_item(item) is not None:
                return _build(item_type, f"{at}[{position}]")(item)
        return None

    return check
