"""Values as parts of stable keys, and back."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from cocoindex.connectorkits.columns import enum_value
from cocoindex.connectorkits.row_compiler import leaves_alone
from cocoindex.errors import UsageTypeError, UsageValueError

__all__ = ["Key", "key_part", "key_text", "key_value"]

Key = tuple[Any, ...]


def key_text(key: Key) -> str:
    """A key as messages show it."""
    shown = ", ".join(repr(part) for part in key)
    return shown if len(shown) <= 200 else f"{shown[:200]}…"


_KEYS_AS_THEY_ARE: Final = frozenset((str, int, bool, bytes, UUID))


@leaves_alone("type({v}) is str or type({v}) is int or type({v}) is bytes")
def key_part(value: Any) -> Any:
    """A value as part of a stable key: what no key can hold becomes text, without loss.

    Raises:
        TypeError: a type that no key can be made of.
    """
    if type(value) in _KEYS_AS_THEY_ARE:
        return value
    value = enum_value(value)
    if isinstance(value, dt.datetime):
        return _utc(value).isoformat()
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _decimal_text(value)
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (str, int, bytes, UUID)):
        return value
    if hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        return key_part(value.item())
    raise UsageTypeError(f"{type(value).__name__} can't be part of a primary key")


def _utc(value: dt.datetime) -> dt.datetime:
    return value if value.tzinfo is None else value.astimezone(dt.UTC)


def _decimal_text(value: Decimal) -> str:
    """Equal numbers have equal text, as they are one key in a database."""
    if not value.is_finite():
        raise UsageValueError("NaN or an infinity can't be part of a primary key")
    text = f"{value:f}"  # exact, whatever the context's precision is
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "0") else text


def _float_text(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN
        raise UsageValueError("NaN or an infinity can't be part of a primary key")
    return repr(value + 0.0)


def key_value(part: Any, kind: type) -> Any:
    """The value of type ``kind`` from which :func:`key_part` made ``part``."""
    if kind in (dt.datetime, dt.date, dt.time):
        return kind.fromisoformat(part)
    if kind in (Decimal, float):
        return kind(part)
    return part
