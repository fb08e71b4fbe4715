"""How values of each column type are checked, and the forms in which they are sent.

Every declared type belongs to a *staging type*: the type of the column that rows pass through on
their way into the table. From there the server's own assignment rules lead into the table's
column, so how a type was spelled does not matter. Types that are not listed here are staged as
text and cast.

A value has three forms:

- plain: checked, of one Python type per column, free of U+0000. What a row holds.
- field: the bytes of a binary COPY, length first.
- literal: text, for parameters (see `_literals`).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import re
import struct
import uuid
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from typing import Any, Final, NamedTuple

from cocoindex.connectorkits import jsonenc
from cocoindex.connectors.postgres import _vectors
from cocoindex.connectors.postgres._literals import literal
from cocoindex.errors import UsageTypeError, UsageValueError

__all__ = ["NULL", "JsonText", "Wire", "base_type", "type_size", "wire_for"]

NULL: Final = b"\xff\xff\xff\xff"
"""The field of an absent value."""

Clean = Callable[[str], str]


class Wire(NamedTuple):
    """What is known about the columns of one declared type.

    Attributes:
        stage: type of the staging column.
        plain: from a declared value to the plain one; ``ValueError``, ``TypeError`` or
            ``OverflowError`` if it doesn't fit the column.
        field: from the plain value to the bytes of a COPY.
        cast: what the staged value must be cast to on its way into the table, if the server
            would not by itself.
        is_binary: the plain value is the field; there is no text form of it.
    """

    stage: str
    plain: Callable[[Any], Any]
    field: Callable[[Any], bytes]
    cast: str | None = None
    is_binary: bool = False

    @property
    def key_type(self) -> str:
        """What the text form of a key is cast to for a comparison with the column."""
        return self.cast or self.stage


class JsonText(str):
    """Text that was made by our own JSON encoder."""

    __slots__ = ()


def _expected(what: str, value: object) -> UsageTypeError:
    return UsageTypeError(f"expected {what}, not {type(value).__name__}")


# --- numbers -----------------------------------------------------------------------------------


def _integer(bits: int) -> Callable[[Any], int]:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    def plain(value: Any) -> int:
        if type(value) is not int:
            if not hasattr(value, "__index__"):
                raise _expected("an int", value)
            value = value.__index__()
        if low <= value <= high:
            return value  # type: ignore[no-any-return]
        raise UsageValueError(f"the integer does not fit into {bits} bits")

    return plain


def _double(value: Any) -> float:
    if isinstance(value, str | bytes):
        raise _expected("a number", value)
    return float(value)


_single: Final = struct.Struct("<f")


def _real(value: Any) -> float:
    """As the column will have it, so that reading back gives the same."""
    rounded: float = _single.unpack(_single.pack(_double(value)))[0]
    return rounded


def _numeric(step: Decimal | None, value: Any) -> str:
    """Text without exponent: each number has one form."""
    number = value if type(value) is Decimal else _to_decimal(value)
    if not number.is_finite():
        if number.is_snan():
            raise UsageValueError("a signaling NaN can't be stored")
        return str(number)
    if not -16_384 < number.adjusted() < 131_072:
        raise UsageValueError("the number has more digits than numeric holds")
    if step is not None:
        number = _quantized(number, step)
    return format(abs(number) if number.is_zero() else number, "f")


def _quantized(number: Decimal, step: Decimal) -> Decimal:
    from decimal import Context

    return number.quantize(step, ROUND_HALF_UP, Context(prec=2_000))


def _to_decimal(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return Decimal(value)
    if hasattr(value, "__index__"):
        return Decimal(value.__index__())
    if hasattr(value, "__float__"):
        return Decimal(repr(float(value)))
    raise _expected("a number", value)


def _boolean(value: Any) -> bool:
    if value is True or value is False:
        return value
    if type(value).__name__ in ("bool", "bool_"):  # NumPy's
        return bool(value)
    raise _expected("a bool", value)


# --- text and bytes ----------------------------------------------------------------------------


def _text(clean: Clean, value: Any) -> str:
    if type(value) is not str:
        if not isinstance(value, str):
            raise _expected("a str", value)
        value = str.__str__(value)
    if "\0" in value:
        value = clean(value)
    if not value.isascii():
        value.encode()  # raises for a lone surrogate
    return value  # type: ignore[no-any-return]


def _padded_text(clean: Clean, value: Any) -> str:
    return _text(clean, value).rstrip(" ")


_ESCAPE: Final = re.compile(r"\\(?:u0000|.)")


def _json(clean: Clean, value: Any) -> str:
    """Text is taken for JSON, as the driver does; everything else is encoded."""
    if type(value) is not JsonText:
        if isinstance(value, str | bytes):
            value = value.decode() if isinstance(value, bytes) else value
            json.loads(value)
        else:
            value = jsonenc.dumps(value)
    if "\\u0000" in value:
        without = _ESCAPE.sub(lambda m: "" if m[0] == "\\u0000" else m[0], value)
        value = without if without == value else clean("\0") + without
    return _text(clean, value)


def _other(clean: Clean, value: Any) -> str:
    return _text(clean, literal(value))


def _text_field(value: str) -> bytes:
    data = value.encode()
    return _length(len(data)) + data


def _jsonb_field(value: str) -> bytes:
    data = value.encode()
    return b"%b\x01%b" % (_length(len(data) + 1), data)


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise _expected("bytes", value)


def _bytes_field(value: bytes) -> bytes:
    return _length(len(value)) + value


def _uuid(value: Any) -> uuid.UUID:
    return value if type(value) is uuid.UUID else uuid.UUID(str(value))


def _uuid_field(value: uuid.UUID) -> bytes:
    return b"\0\0\0\x10" + value.bytes


# --- time --------------------------------------------------------------------------------------

_EPOCH: Final = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - for columns without a zone
_EPOCH_UTC: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_EPOCH_DAY: Final = _EPOCH.toordinal()


def _date(value: Any) -> dt.date:
    if isinstance(value, dt.datetime) or not isinstance(value, dt.date):
        raise _expected("a date", value)
    return value


def _aware(value: Any) -> dt.datetime:
    """In UTC, so that one instant has one form."""
    if not isinstance(value, dt.datetime):
        raise _expected("a datetime", value)
    return value.astimezone(dt.UTC)


def _naive(value: Any) -> dt.datetime:
    return _without_zone(dt.datetime, value)  # type: ignore[return-value]


def _without_zone(kind: type[dt.datetime | dt.time], value: Any) -> dt.datetime | dt.time:
    if not isinstance(value, kind):
        raise _expected(f"a {kind.__name__}", value)
    if value.tzinfo is not None:
        raise UsageValueError("a value with a time zone for a column without one")
    return value


def _zoned_time(value: Any) -> dt.time:
    if not isinstance(value, dt.time):
        raise _expected("a time", value)
    if value.tzinfo is None:
        return value.replace(tzinfo=dt.UTC)
    offset = value.utcoffset()
    if offset is None:
        raise UsageValueError("the offset of this time zone depends on the day")
    return value.replace(tzinfo=dt.timezone(offset), fold=0)


def _interval(value: Any) -> dt.timedelta:
    if isinstance(value, dt.timedelta):
        return value
    raise _expected("a timedelta", value)


def _microseconds(delta: dt.timedelta) -> int:
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _of_day(value: dt.time) -> int:
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return seconds * 1_000_000 + value.microsecond


_length: Final = struct.Struct(">i").pack
_pack_day: Final = struct.Struct(">ii").pack
_pack_moment: Final = struct.Struct(">iq").pack
_pack_zoned: Final = struct.Struct(">iqi").pack
_pack_interval: Final = struct.Struct(">iqii").pack


def _date_field(value: dt.date) -> bytes:
    return _pack_day(4, value.toordinal() - _EPOCH_DAY)


def _time_field(value: dt.time) -> bytes:
    return _pack_moment(8, _of_day(value))


def _moment_field(epoch: dt.datetime, value: dt.datetime) -> bytes:
    return _pack_moment(8, _microseconds(value - epoch))


def _zoned_time_field(value: dt.time) -> bytes:
    offset = value.utcoffset() or dt.timedelta()
    return _pack_zoned(12, _of_day(value), -int(offset.total_seconds()))


def _interval_field(value: dt.timedelta) -> bytes:
    return _pack_interval(16, value.seconds * 1_000_000 + value.microseconds, value.days, 0)


# --- addresses ---------------------------------------------------------------------------------


def _inet(value: Any) -> str:
    address = ipaddress.ip_interface(value) if isinstance(value, str) else value
    if not hasattr(address, "packed"):
        raise _expected("an IP address", value)
    if getattr(address, "scope_id", None) is not None:
        raise UsageValueError("an address with a scope can't be stored")
    return str(address).removesuffix(f"/{address.max_prefixlen}")


def _cidr(value: Any) -> str:
    network = ipaddress.ip_network(value) if isinstance(value, str) else value
    if not hasattr(network, "network_address"):
        raise _expected("an IP network", value)
    return str(network)


# --- the table ---------------------------------------------------------------------------------


def _fixed(code: str) -> Callable[[Any], bytes]:
    """The field of a value that has always the same size."""
    packer = struct.Struct(">i" + code)
    return partial(packer.pack, packer.size - 4)


_FIXED: Final = {
    wire.stage: wire
    for wire in (
        Wire("boolean", _boolean, _fixed("?")),
        Wire("smallint", _integer(16), _fixed("h")),
        Wire("integer", _integer(32), _fixed("i")),
        Wire("bigint", _integer(64), _fixed("q")),
        Wire("real", _real, _fixed("f")),
        Wire("double precision", _double, _fixed("d")),
        Wire("bytea", _bytes, _bytes_field),
        Wire("uuid", _uuid, _uuid_field),
        Wire("date", _date, _date_field),
        Wire("time", partial(_without_zone, dt.time), _time_field),
        Wire("time with time zone", _zoned_time, _zoned_time_field),
        Wire("timestamp", _naive, partial(_moment_field, _EPOCH)),
        Wire("timestamp with time zone", _aware, partial(_moment_field, _EPOCH_UTC)),
        Wire("interval", _interval, _interval_field),
    )
}

_TEXTS: Final[dict[str, tuple[Callable[[Clean, Any], str], Callable[[str], bytes]]]] = {
    "text": (_text, _text_field),
    "bpchar": (_padded_text, _text_field),
    "json": (_json, _text_field),
    "jsonb": (_json, _jsonb_field),
}

_ALIASES: Final = {
    "bool": "boolean",
    "int2": "smallint",
    "smallserial": "smallint",
    "serial2": "smallint",
    "int": "integer",
    "int4": "integer",
    "serial": "integer",
    "serial4": "integer",
    "int8": "bigint",
    "bigserial": "bigint",
    "serial8": "bigint",
    "float4": "real",
    "float": "double precision",
    "float8": "double precision",
    "decimal": "numeric",
    "varchar": "text",
    "character varying": "text",
    "name": "text",
    "char": "bpchar",
    "character": "bpchar",
    "time without time zone": "time",
    "timetz": "time with time zone",
    "timestamp without time zone": "timestamp",
    "timestamptz": "timestamp with time zone",
    "varbit": "bit varying",
}

_PARAMETERS: Final = re.compile(r'\s*\(([^()"]*)\)')
_BLANKS: Final = re.compile(r"\s+")


def base_type(pg_type: str) -> str:
    """A declared type without its parameters, by the name it has here: ``int8`` is ``bigint``.

    Names that are not known here come back as they are, without parameters.
    """
    name = _BLANKS.sub(" ", _PARAMETERS.sub("", pg_type)).strip()
    if '"' in name:
        return name
    name = name.lower()
    return _ALIASES.get(name, name)


def type_size(pg_type: str) -> int | None:
    """The number in ``vector(384)``, None if there is none."""
    found = _PARAMETERS.search(pg_type)
    return int(found[1]) if found and found[1].strip().isdigit() else None


def wire_for(pg_type: str, clean: Clean = lambda text: text.replace("\0", "")) -> Wire:
    """How values of a column declared as ``pg_type`` are checked and sent.

    Args:
        pg_type: the type as declared.
        clean: called for text with U+0000 in it; returns the text without.
    """
    base = base_type(pg_type)
    if base in _FIXED:
        return _FIXED[base]
    if base in _TEXTS:
        plain, field = _TEXTS[base]
        return Wire(base, partial(plain, clean), field)
    if base == "numeric":
        return Wire("text", partial(_numeric, _numeric_step(pg_type)), _text_field, "numeric")
    if base in ("inet", "cidr"):
        return Wire("text", _inet if base == "inet" else _cidr, _text_field, base)
    if base == "bit varying" or base in _vectors.VECTOR_TYPES:
        return _vector_wire(base, type_size(pg_type))
    return Wire("text", partial(_other, clean), _text_field, base)


def _vector_wire(base: str, size: int | None) -> Wire:
    if base in ("bit", "bit varying"):
        exact = None if base == "bit varying" else size or 1
        return Wire("bit varying", _vectors.encoder("bit", exact), bytes, is_binary=True)
    return Wire(base, _vectors.encoder(base, size), bytes, is_binary=True)


def _numeric_step(pg_type: str) -> Decimal | None:
    """The smallest number that ``numeric(precision, scale)`` tells from zero."""
    found = _PARAMETERS.search(pg_type)
    if found is None:
        return None
    scale = found[1].partition(",")[2].strip() or "0"
    return Decimal(1).scaleb(-int(scale))
