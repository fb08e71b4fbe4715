"""Values as rows hold them: checked, of one Python type per column, free of U+0000.

What does not fit a column raises ``ValueError``, ``TypeError`` or ``OverflowError`` here, before
anything is sent. Where the server rounds or pads, so does this, so that reading back gives the
same.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import re
import struct
import uuid
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal
from enum import Enum
from typing import Any, Final

from cocoindex.connectorkits import jsonenc
from cocoindex.connectorkits.row_compiler import leaves_alone
from cocoindex.connectors.postgres._literals import literal
from cocoindex.errors import UsageTypeError, UsageValueError

Clean = Callable[[str], str]
"""Takes U+0000 out of a text, or refuses it."""


class JsonText(str):
    """Text that was made by our own JSON encoder."""

    __slots__ = ()


def _expected(what: str, value: object) -> UsageTypeError:
    return UsageTypeError(f"expected {what}, not {type(value).__name__}")


# --- numbers -----------------------------------------------------------------------------------


def integer(bits: int) -> Callable[[Any], int]:
    """What takes integers of so many bits."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    @leaves_alone(f"type({{v}}) is int and {low} <= {{v}} <= {high}")
    def plain(value: Any) -> int:
        if type(value) is not int:
            if not hasattr(value, "__index__"):
                raise _expected("an int", value)
            value = value.__index__()
        if low <= value <= high:
            return value  # type: ignore[no-any-return]
        raise UsageValueError(f"the integer does not fit into {bits} bits")

    return plain


@leaves_alone("type({v}) is float")
def double(value: Any) -> float:
    """Any number but text that looks like one."""
    if isinstance(value, str | bytes):
        raise _expected("a number", value)
    return float(value)


_single: Final = struct.Struct("<f")


def real(value: Any) -> float:
    """As the column will have it, so that reading back gives the same."""
    rounded: float = _single.unpack(_single.pack(double(value)))[0]
    return rounded


def numeric(step: Decimal | None, value: Any) -> str:
    """A number as text without exponent, so that each has one form; a multiple of ``step``."""
    number = value if type(value) is Decimal else _to_decimal(value)
    if not number.is_finite():
        if number.is_snan():
            raise UsageValueError("a signaling NaN can't be stored")
        return str(number)
    exponent = number.as_tuple().exponent
    if not (isinstance(exponent, int) and exponent > -16_384 and number.adjusted() < 131_072):
        raise UsageValueError("the number has more digits than numeric holds")
    if step is not None:
        digits = number.adjusted() - step.adjusted() + 2
        number = number.quantize(step, ROUND_HALF_UP, Context(prec=max(digits, 1)))
    return format(abs(number) if number.is_zero() else number, "f")


def _to_decimal(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return Decimal(value)
    if hasattr(value, "__index__"):
        return Decimal(value.__index__())
    if hasattr(value, "__float__"):
        return Decimal(repr(float(value)))
    raise _expected("a number", value)


@leaves_alone("{v} is True or {v} is False")
def boolean(value: Any) -> bool:
    """``True`` or ``False``, not what merely counts as such."""
    if value is True or value is False:
        return value
    if type(value).__name__ in ("bool", "bool_"):  # NumPy's
        return bool(value)
    raise _expected("a bool", value)


# --- text and bytes ----------------------------------------------------------------------------


def text(clean: Clean, value: Any) -> str:
    """Text that has a UTF-8 form."""
    if type(value) is not str:
        value = value.value if isinstance(value, Enum) else value
        if not isinstance(value, str):
            raise _expected("a str", value)
        value = str.__str__(value)
    if "\0" in value:
        value = clean(value)
    if not value.isascii():
        value.encode()  # raises for a lone surrogate
    return value  # type: ignore[no-any-return]


def padded_text(clean: Clean, value: Any) -> str:
    """Text of a ``char(n)``, whose trailing blanks mean nothing."""
    return text(clean, value).rstrip(" ")


def at_most(size: int, value: str) -> str:
    """Text of so many characters; the server cuts blanks behind them, and nothing else."""
    if len(value) <= size:
        return value
    if value[size:].strip(" "):
        raise UsageValueError(f"the text is longer than {size} characters")
    return value[:size]


_NAME_BYTES: Final = 63


def short_name(value: str) -> str:
    """Text of type ``name``, of which the server would keep the beginning only."""
    if len(value.encode()) > _NAME_BYTES:
        raise UsageValueError(f"the name is longer than {_NAME_BYTES} bytes")
    return value


_ESCAPE: Final = re.compile(r"\\(?:u0000|.)")


def json_text(clean: Clean, value: Any) -> str:
    """Text is taken for JSON, as the driver does; everything else is encoded."""
    if type(value) is not JsonText:
        if isinstance(value, str | bytes):
            value = value.decode() if isinstance(value, bytes) else value
            json.loads(value)
        else:
            value = jsonenc.dumps(value)
    if "\\u0000" in value:
        without = _ESCAPE.sub(lambda m: "" if m[0] == "\\u0000" else m[0], value)
        if without != value:
            value = clean("\0") + without  # says that there was one
    return text(clean, value)


def other(clean: Clean, value: Any) -> str:
    """The text form, for types that are not known here."""
    return text(clean, literal(value))


@leaves_alone("type({v}) is bytes")
def binary(value: Any) -> bytes:
    """A copy of what may still change."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise _expected("bytes", value)


def uuid_value(value: Any) -> uuid.UUID:
    """A UUID, or its text."""
    return value if type(value) is uuid.UUID else uuid.UUID(str(value))


# --- time --------------------------------------------------------------------------------------


def date(value: Any) -> dt.date:
    """A day, and not a moment of it."""
    if isinstance(value, dt.datetime) or not isinstance(value, dt.date):
        raise _expected("a date", value)
    return value


def aware(value: Any) -> dt.datetime:
    """In UTC, so that one instant has one form."""
    if not isinstance(value, dt.datetime):
        raise _expected("a datetime", value)
    return value.astimezone(dt.UTC)


def naive(value: Any) -> dt.datetime:
    """A moment without a zone."""
    return without_zone(dt.datetime, value)  # type: ignore[return-value]


def without_zone(kind: type[dt.datetime | dt.time], value: Any) -> dt.datetime | dt.time:
    """A value of ``kind`` that has no zone."""
    if not isinstance(value, kind):
        raise _expected(f"a {kind.__name__}", value)
    if value.tzinfo is not None:
        raise UsageValueError("a value with a time zone for a column without one")
    return value


def zoned_time(value: Any) -> dt.time:
    """A time with an offset; one without is in UTC."""
    if not isinstance(value, dt.time):
        raise _expected("a time", value)
    if value.tzinfo is None:
        return value.replace(tzinfo=dt.UTC)
    offset = value.utcoffset()
    if offset is None:
        raise UsageValueError("the offset of this time zone depends on the day")
    return value.replace(tzinfo=dt.timezone(offset), fold=0)


def interval(value: Any) -> dt.timedelta:
    """A duration."""
    if isinstance(value, dt.timedelta):
        return value
    raise _expected("a timedelta", value)


def _rounded(step: int, microseconds: int) -> int:
    """A multiple of ``step``; halves go away from zero, as on the server."""
    size = (abs(microseconds) + step // 2) // step * step
    return size if microseconds >= 0 else -size


_MICROSECOND: Final = dt.timedelta(microseconds=1)
_EPOCH: Final = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - takes the zone of what it is compared to


def rounded_moment(step: int, value: dt.datetime) -> dt.datetime:
    """A moment, rounded as the server does: from 2000 on."""
    epoch = _EPOCH.replace(tzinfo=value.tzinfo)
    return epoch + _rounded(step, (value - epoch) // _MICROSECOND) * _MICROSECOND


def rounded_time(step: int, value: dt.time) -> dt.time:
    """A time of day."""
    day = dt.datetime.combine(_EPOCH, value)
    rounded = day + (_rounded(step, value.microsecond) - value.microsecond) * _MICROSECOND
    if rounded.day != day.day:
        raise UsageValueError("the time would be rounded to 24:00, which Python can't read back")
    return rounded.timetz()


def rounded_interval(step: int, value: dt.timedelta) -> dt.timedelta:
    """A duration."""
    return value + (_rounded(step, value.microseconds) - value.microseconds) * _MICROSECOND


# --- addresses ---------------------------------------------------------------------------------


def inet(value: Any) -> str:
    """An address, with its network if that is given."""
    address = ipaddress.ip_interface(value) if isinstance(value, str) else value
    if not hasattr(address, "packed"):
        raise _expected("an IP address", value)
    if getattr(address, "scope_id", None) is not None:
        raise UsageValueError("an address with a scope can't be stored")
    return str(address).removesuffix(f"/{address.max_prefixlen}")


def cidr(value: Any) -> str:
    """A network."""
    network = ipaddress.ip_network(value) if isinstance(value, str) else value
    if not hasattr(network, "network_address"):
        raise _expected("an IP network", value)
    return str(network)
