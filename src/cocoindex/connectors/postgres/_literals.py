"""Values as the text that the server reads them from."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import uuid
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from cocoindex.errors import UsageTypeError

__all__ = ["literal", "sql_text"]

_WRITTEN_AS_IS: Final = (
    int,
    float,
    Decimal,
    uuid.UUID,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)
_SAFE: Final = re.compile(r"[A-Za-z0-9_.+-]+\Z")
_SPECIAL: Final = re.compile(r'["\\]')


def literal(value: Any) -> str:
    r"""The text form of ``value`` for an input function of the server.

    Lists become arrays ``{…}``, tuples composites ``(…)``, objects with ``lower`` and ``upper``
    ranges; text stays as it is.

    Raises:
        TypeError: nothing is known about the value's type.
    """
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is int or kind is float:
        return repr(value)
    if kind is bool:
        return "t" if value else "f"
    return _other(value)


def _other(value: Any) -> str:
    if isinstance(value, Enum):
        return literal(value.value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\x" + bytes(value).hex()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return f"{value.days:+d} days {value.seconds:+d} secs {value.microseconds:+d} usecs"
    if hasattr(value, "lower_inc") and hasattr(value, "upper_inc"):
        return _range(value)
    if isinstance(value, tuple) or type(value).__name__ == "Record":  # asyncpg's is no tuple
        return "(" + ",".join("" if v is None else _quoted(literal(v)) for v in value) + ")"
    if isinstance(value, list | set | frozenset) or hasattr(value, "tolist"):
        return _array(value)
    if isinstance(value, _WRITTEN_AS_IS):
        return str(value)
    raise UsageTypeError(f"no text form is known of {type(value).__name__}: declare a str")


def _array(value: Any) -> str:
    if hasattr(value, "tolist"):  # NumPy
        items = value.tolist()
        if not isinstance(items, list):
            return literal(items)
    else:
        items = sorted(value) if isinstance(value, set | frozenset) else value
    return "{" + ",".join(_element(item) for item in items) + "}"


def _element(item: Any) -> str:
    if item is None:
        return "NULL"
    if isinstance(item, list):
        return _array(item)
    return _quoted(literal(item))


def _quoted(text: str) -> str:
    if _SAFE.match(text) and text.upper() != "NULL":
        return text  # what looks like a composite may be a point, which knows no quotes
    return '"' + _SPECIAL.sub(r"\\\g<0>", text) + '"'


def _range(value: Any) -> str:
    if getattr(value, "isempty", False):
        return "empty"
    lower = "" if value.lower is None else _quoted(literal(value.lower))
    upper = "" if value.upper is None else _quoted(literal(value.upper))
    return (
        ("[" if value.lower_inc else "(") + f"{lower},{upper}" + ("]" if value.upper_inc else ")")
    )


def sql_text(value: str) -> str:
    """``value`` as a text constant in SQL, whatever the server's settings."""
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
