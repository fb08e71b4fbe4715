"""How values of each column type are checked, and the forms in which they are sent.

Every declared type belongs to a *staging type*: the type of the column that rows pass through on
their way into the table. From there the server's own assignment rules lead into the table's
column, so how a type was spelled does not matter. Types that are not listed here are staged as
text and cast.

A value has three forms:

- plain: checked, of one Python type per column, free of U+0000. What a row holds (`_plain`).
- field: the bytes of a binary COPY, length first.
- literal: text, for parameters (`_literals`).
"""

from __future__ import annotations

import datetime as dt
import re
import struct
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple

from cocoindex.connectorkits.row_compiler import leaves_alone
from cocoindex.connectors.postgres import _plain, _vectors
from cocoindex.connectors.postgres._plain import Clean

__all__ = ["NULL", "Wire", "base_type", "type_size", "wire_for"]

NULL: Final = b"\xff\xff\xff\xff"
"""The field of an absent value."""


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


# --- fields ------------------------------------------------------------------------------------


def _text_field(value: str) -> bytes:
    data = value.encode()
    return _length(len(data)) + data


def _jsonb_field(value: str) -> bytes:
    data = value.encode()
    return b"%b\x01%b" % (_length(len(data) + 1), data)


def _bytes_field(value: bytes) -> bytes:
    return _length(len(value)) + value


def _uuid_field(value: uuid.UUID) -> bytes:
    return b"\0\0\0\x10" + value.bytes


_EPOCH: Final = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - for columns without a zone
_EPOCH_UTC: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_EPOCH_DAY: Final = _EPOCH.toordinal()


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


# --- the table ---------------------------------------------------------------------------------


def _fixed(code: str) -> Callable[[Any], bytes]:
    """The field of a value that has always the same size."""
    packer = struct.Struct(">i" + code)
    return partial(packer.pack, packer.size - 4)


_FIXED: Final = {
    wire.stage: wire
    for wire in (
        Wire("boolean", _plain.boolean, _fixed("?")),
        Wire("smallint", _plain.integer(16), _fixed("h")),
        Wire("integer", _plain.integer(32), _fixed("i")),
        Wire("bigint", _plain.integer(64), _fixed("q")),
        Wire("real", _plain.real, _fixed("f")),
        Wire("double precision", _plain.double, _fixed("d")),
        Wire("bytea", _plain.binary, _bytes_field),
        Wire("uuid", _plain.uuid_value, _uuid_field),
        Wire("date", _plain.date, _date_field),
        Wire("time", partial(_plain.without_zone, dt.time), _time_field),
        Wire("time with time zone", _plain.zoned_time, _zoned_time_field),
        Wire("timestamp", _plain.naive, partial(_moment_field, _EPOCH)),
        Wire("timestamp with time zone", _plain.aware, partial(_moment_field, _EPOCH_UTC)),
        Wire("interval", _plain.interval, _interval_field),
    )
}

_TEXTS: Final[dict[str, tuple[Callable[[Clean, Any], str], Callable[[str], bytes]]]] = {
    "text": (_plain.text, _text_field),
    "bpchar": (_plain.padded_text, _text_field),
    "json": (_plain.json_text, _text_field),
    "jsonb": (_plain.json_text, _jsonb_field),
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
        return _rounding(_FIXED[base], type_size(pg_type))
    if base in _TEXTS:
        checked, field = _TEXTS[base]
        plain = partial(checked, clean)
        if base == "text":
            leaves_alone('type({v}) is str and {v}.isascii() and "\\0" not in {v}')(plain)
        return Wire(base, _limited(pg_type, plain), field)
    if base == "numeric":
        return Wire("text", partial(_plain.numeric, _numeric_step(pg_type)), _text_field, "numeric")
    if base in ("inet", "cidr"):
        return Wire("text", _plain.inet if base == "inet" else _plain.cidr, _text_field, base)
    if base == "bit varying" or base in _vectors.VECTOR_TYPES:
        return _vector_wire(base, type_size(pg_type))
    return Wire("text", partial(_plain.other, clean), _text_field, base)


_ROUND: Final[Mapping[str, Callable[[int, Any], Any]]] = {
    "time": _plain.rounded_time,
    "time with time zone": _plain.rounded_time,
    "timestamp": _plain.rounded_moment,
    "timestamp with time zone": _plain.rounded_moment,
    "interval": _plain.rounded_interval,
}


def _rounding(wire: Wire, digits: int | None) -> Wire:
    """What the server rounds, such as ``time(3)``, is rounded before it becomes a key."""
    if digits is None or digits >= 6 or wire.stage not in _ROUND:
        return wire
    plain, round_to, step = wire.plain, _ROUND[wire.stage], 10 ** (6 - digits)
    return wire._replace(plain=lambda value: round_to(step, plain(value)))


def _limited(pg_type: str, plain: Callable[[Any], str]) -> Callable[[Any], str]:
    """Text that is not longer than its type, where that has a length."""
    name = _BLANKS.sub(" ", _PARAMETERS.sub("", pg_type)).strip().lower()
    size = type_size(pg_type)
    if name == "name":
        return lambda value: _plain.short_name(plain(value))
    if name in ("char", "character"):
        size = size or 1
    if size is None or name not in ("char", "character", "bpchar", "varchar", "character varying"):
        return plain
    return lambda value: _plain.at_most(size, plain(value))


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
