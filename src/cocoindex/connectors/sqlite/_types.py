"""What SQLite makes of Python's types."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from cocoindex.connectorkits.columns import Encoder, Mapped, enum_value, json_text
from cocoindex.connectorkits.row_compiler import leaves_alone
from cocoindex.connectorkits.rows import NaiveTz, zoned
from cocoindex.connectorkits.vectors import encoder as vector_encoder
from cocoindex.connectorkits.vectors import little_endian
from cocoindex.errors import UsageTypeError, UsageValueError
from cocoindex.resources.schema import VectorSchema

__all__ = [
    "JSON",
    "LEAF_TYPES",
    "check_key_type",
    "encoder_for",
    "storable",
    "vector_type",
    "zero_of",
]

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1

JSON: Final = Mapped("TEXT", json_text)

LEAF_TYPES: Final[dict[Any, Mapped]] = {
    bool: Mapped("INTEGER"),
    int: Mapped("INTEGER"),
    float: Mapped("REAL"),
    Decimal: Mapped("TEXT"),
    str: Mapped("TEXT"),
    bytes: Mapped("BLOB"),
    UUID: Mapped("TEXT"),
    dt.date: Mapped("TEXT"),
    dt.time: Mapped("TEXT"),
    dt.datetime: Mapped("TEXT"),
    dt.timedelta: Mapped("REAL"),
    **{f"{sign}int{bits}": Mapped("INTEGER") for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": Mapped("REAL") for bits in (16, 32, 64)},
}


def vector_type(schema: VectorSchema) -> Mapped:
    """The column of a vector: ``float[N]``, or ``int8[N]`` and ``bit[N]`` by the dtype."""
    kind = schema.dtype
    if kind.kind == "b":
        if schema.size % 8:
            raise UsageValueError(f"bit vectors have a multiple of 8 elements, not {schema.size}")
        return Mapped(f"bit[{schema.size}]", vector_encoder(schema, _bits))
    if kind.name == "int8":
        return Mapped(f"int8[{schema.size}]", vector_encoder(schema))
    if kind.kind != "f":
        raise UsageValueError(
            f"SQLite vectors are made of float32, int8 or bool, not of {kind} (size {schema.size})"
        )
    return Mapped(f"float[{schema.size}]", vector_encoder(schema, _float32))


def _bits(array: Any) -> bytes:
    import numpy as np

    return np.packbits(array, bitorder="little").tobytes()


def _float32(array: Any) -> bytes:
    import numpy as np

    return little_endian(array.astype(np.float32, copy=False))


# --- Values by column type -----------------------------------------------------------------


def encoder_for(column_type: str, naive_tz: NaiveTz, warn: Callable[[], None]) -> Encoder:
    """The encoder of a column of which only the SQL type is known."""
    affinity = column_type.upper().partition("(")[0].strip()
    if affinity in ("INTEGER", "INT", "BIGINT", "SMALLINT", "BOOLEAN"):
        return to_integer
    if affinity in ("REAL", "FLOAT", "DOUBLE", "DOUBLE PRECISION"):
        return to_real
    if affinity in ("TEXT", "VARCHAR", "CHAR", "CLOB", "DATE", "DATETIME", "TIMESTAMP"):
        return _text_encoder(naive_tz, warn)
    if affinity == "BLOB":
        return to_blob
    return storable


def storable(value: Any) -> Any:
    """What a driver can bind, as it is; for columns of any other type, and behind the encoders
    of users.
    """
    kind = type(value)
    if kind is bytes or (kind is str and value.isascii()):
        return value
    value = enum_value(value)
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, str):
        _check_unicode(value)
        return str.__str__(value)
    if isinstance(value, int):
        return to_integer(value)
    if isinstance(value, float):
        return to_real(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise UsageTypeError(
        f"SQLite stores int, float, str and bytes, not {kind.__name__}: give the column an "
        "encoder, as in SqliteType(type, encoder)"
    )


@leaves_alone(f"type({{v}}) is int and {_INT_MIN} <= {{v}} <= {_INT_MAX}")
def to_integer(value: Any) -> int:
    """An int of 64 bits."""
    if type(value) is not int:
        value = _whole(value)
    if _INT_MIN <= value <= _INT_MAX:
        return int(value)
    raise UsageValueError("the integer does not fit into 64 bits")


def _whole(value: Any) -> int:
    value = enum_value(value)
    if isinstance(value, int):
        return int(value)
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    kind = UsageValueError if isinstance(value, float) else UsageTypeError
    raise kind(f"an integer is expected, not {type(value).__name__}")


@leaves_alone("type({v}) is float and {v} == {v}")
def to_real(value: Any) -> float:
    """A float; NaN is refused, because SQLite would store NULL in its place."""
    if type(value) is not float:
        value = _real(value)
    if value != value:  # noqa: PLR0124 - NaN
        raise UsageValueError("SQLite can't store NaN")
    number: float = value
    return number


def _real(value: Any) -> float:
    value = enum_value(value)
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, int):
        number = float(value)
        if int(number) != value:
            raise UsageValueError("the integer can't be stored as a float without loss")
        return number
    if isinstance(value, float):
        return float(value)
    raise UsageTypeError(f"a float is expected, not {type(value).__name__}")


@leaves_alone("type({v}) is bytes")
def to_blob(value: Any) -> bytes:
    """Bytes."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise UsageTypeError(f"bytes are expected, not {type(value).__name__}")


def _text_encoder(naive_tz: NaiveTz, warn: Callable[[], None]) -> Encoder:
    in_utc = zoned(naive_tz, warn)

    @leaves_alone("type({v}) is str and {v}.isascii()")
    def encode(value: Any) -> str:
        if type(value) is not str:
            value = _text(value)
        if not value.isascii():
            _check_unicode(value)
        text: str = value
        return text

    def _text(value: Any) -> str:
        value = enum_value(value)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, dt.datetime):
            # Without naive_tz, a time without zone stays one.
            aware = value.tzinfo is not None or naive_tz is not None
            return (in_utc(value) if aware else value).isoformat(timespec="microseconds")
        if isinstance(value, (dt.date, dt.time)):
            return value.isoformat()
        if isinstance(value, (UUID, Decimal)):
            return str(value)
        raise UsageTypeError(f"text is expected, not {type(value).__name__}")

    return encode


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageValueError("text is not valid Unicode (lone surrogate)") from None


_COLLATION: Final = re.compile(r"\bCOLLATE\s+[\"'`\[]?(\w+)", re.IGNORECASE)


def check_key_type(name: str, column_type: str) -> None:
    """Raises ``ValueError`` for types of which SQLite takes different texts for equal."""
    collation = _COLLATION.search(column_type)
    is_equal = collation is not None and collation[1].upper() != "BINARY"
    if is_equal or column_type.upper().partition("(")[0].strip() in ("NUMERIC", "DECIMAL"):
        raise UsageValueError(
            f"SQLite column {name!r} of type {column_type} can't be part of a primary key, because "
            "different values are equal in it: make it TEXT, and bring values into one form"
        )


def zero_of(column_type: str) -> str:
    """A literal for existing rows of a column that becomes NOT NULL."""
    encode = encoder_for(column_type, None, lambda: None)
    if encode in (to_integer, to_real):
        return "0"
    size = column_type.partition("[")[2].rstrip("]")
    if size.isdigit():
        width = {"float": 4 * int(size), "int8": int(size), "bit": math.ceil(int(size) / 8)}
        return f"zeroblob({width.get(column_type.partition('[')[0].lower(), 0)})"
    return "x''" if encode is to_blob else "''"
