"""JSON of anything that has a structure; never of something's ``str()``."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from enum import Enum
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from cocoindex.core.datatype import is_namedtuple_type, is_pydantic_model
from cocoindex.errors import UsageTypeError, UsageValueError

__all__ = ["dumps", "plain"]

_MAX_DEPTH: Final = 200
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1

_encode = msgspec.json.Encoder(order="deterministic").encode


def dumps(value: Any, *, nan_as_null: bool = False) -> str:
    """``value`` as compact JSON with sorted keys: equal values give equal text.

    Records become objects, tuples and sets arrays (sets sorted), dates and durations ISO 8601,
    UUIDs and Decimals text, enums their value, bytes base64, NumPy values numbers and arrays.

    Args:
        value: what to encode.
        nan_as_null: write NaN and infinities as ``null`` instead of refusing them.

    Raises:
        ValueError: NaN or an infinity, text that is not Unicode, or a structure that contains
            itself; the message names the path.
        TypeError: a part of another type.
    """
    structure = plain(value, nan_as_null=nan_as_null)
    try:
        return _encode(structure).decode()
    except OverflowError:  # integers of more than 64 bits, which JSON allows
        return json.dumps(structure, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    except UnicodeEncodeError:
        raise UsageValueError("JSON: a text is not valid Unicode (lone surrogate)") from None


def plain(value: Any, *, nan_as_null: bool = False) -> Any:
    """``value`` made of dict, list, str, int, float, bool and None. Raises as :func:`dumps`."""
    return _plain(value, _Place("$", None, nan_as_null, 0))


class _Place(NamedTuple):
    """Where in the value we are; text is made only for an error."""

    step: str
    outer: _Place | None
    nan_as_null: bool
    depth: int

    def at(self, step: str) -> _Place:
        if self.depth >= _MAX_DEPTH:
            raise UsageValueError(f"JSON: more than {_MAX_DEPTH} levels deep, or contains itself")
        return _Place(step, self, self.nan_as_null, self.depth + 1)

    def __str__(self) -> str:
        return self.step if self.outer is None else f"{self.outer}{self.step}"


_SAME: Final = frozenset((str, int, bool, type(None)))


def _plain(value: Any, place: _Place) -> Any:
    cls = type(value)
    if cls in _SAME:
        return value
    writer = _writers.get(cls)
    if writer is None:
        writer = _writers[cls] = _writer_of(cls)
    return writer(value, place)


def _float(value: float, place: _Place) -> float | None:
    if math.isfinite(value):
        return float(value)
    if place.nan_as_null:
        return None
    raise UsageValueError(f"JSON has no NaN and no infinity (at {place})")


def _mapping(value: Mapping[Any, Any], place: _Place) -> dict[str, Any]:
    if _SAME.issuperset(map(type, value.values())) and set(map(type, value)) == {str}:
        return value if type(value) is dict else dict(value)
    result: dict[str, Any] = {}
    for key, part in value.items():
        name = key if type(key) is str else _key(key, place)
        if name in result:
            raise UsageValueError(f"JSON: two keys of a mapping have the same text (at {place})")
        result[name] = _plain(part, place.at(f".{name}"))
    return result


def _key(key: Any, place: _Place) -> str:
    text = _plain(key, place)
    if isinstance(text, str):
        return text
    if isinstance(text, (bool, int, float)) or text is None:
        return json.dumps(text)
    raise UsageTypeError(f"JSON: {type(key).__name__} can't be a key (at {place})")


def _array(value: Sequence[Any], place: _Place) -> list[Any]:
    if _SAME.issuperset(map(type, value)):
        return value if type(value) is list else list(value)
    if set(map(type, value)) == {float} and all(map(math.isfinite, value)):
        return list(value)
    return [_plain(part, place.at(f"[{i}]")) for i, part in enumerate(value)]


def _set(value: AbstractSet[Any], place: _Place) -> list[Any]:
    parts = [_plain(part, place.at("{}")) for part in value]
    return sorted(parts, key=lambda part: (type(part).__name__, _encode(part)))


def _dataclass(value: Any, place: _Place) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(value)]
    return _mapping({name: getattr(value, name) for name in names}, place)


def _struct(value: Any, place: _Place) -> dict[str, Any]:
    return _mapping({name: getattr(value, name) for name in value.__struct_fields__}, place)


def _named_tuple(value: Any, place: _Place) -> dict[str, Any]:
    return _mapping(value._asdict(), place)


def _pydantic(value: Any, place: _Place) -> Any:
    return _plain(value.model_dump(mode="json"), place)


def _iso(value: Any, _place: _Place) -> str:
    return str(value.isoformat())


def _duration(value: dt.timedelta, _place: _Place) -> str:
    return msgspec.json.encode(value).decode()[1:-1]


def _base64(value: Any, _place: _Place) -> str:
    return b64encode(value).decode("ascii")


def _numpy_scalar(value: Any, place: _Place) -> Any:
    return _plain(value.item(), place)


def _numpy_array(value: Any, place: _Place) -> Any:
    return _plain(value.tolist(), place)


def _int(value: Any, _place: _Place) -> int:
    return int(value)


def _str(value: Any, _place: _Place) -> str:
    return str.__str__(value)


def _text(value: Any, _place: _Place) -> str:
    return str(value)


def _decimal(value: Decimal, place: _Place) -> str | None:
    if value.is_finite() or place.nan_as_null:
        return str(value) if value.is_finite() else None
    raise UsageValueError(f"JSON has no NaN and no infinity (at {place})")


def _enum(value: Enum, place: _Place) -> Any:
    return _plain(value.value, place)


def _unknown(value: Any, place: _Place) -> Any:
    raise UsageTypeError(f"JSON: {type(value).__qualname__} has no JSON form (at {place})")


_Writer = Callable[[Any, _Place], Any]

_writers: Final[dict[type, _Writer]] = {float: _float, dict: _mapping, list: _array, tuple: _array}

_BY_BASE: Final[tuple[tuple[type, _Writer], ...]] = (
    (Enum, _enum),
    (dt.date, _iso),
    (dt.time, _iso),
    (dt.timedelta, _duration),
    (UUID, _text),
    (Decimal, _decimal),
    (msgspec.Struct, _struct),
    (str, _str),
    (int, _int),
    (float, _float),
    (bytes, _base64),
    (bytearray, _base64),
    (memoryview, _base64),
    (Mapping, _mapping),
    (AbstractSet, _set),
    (Sequence, _array),
)


def _writer_of(cls: type) -> _Writer:
    if is_namedtuple_type(cls):
        return _named_tuple
    if is_pydantic_model(cls):
        return _pydantic
    if dataclasses.is_dataclass(cls):
        return _dataclass
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(cls, numpy.generic):
        return _numpy_scalar
    if numpy is not None and issubclass(cls, numpy.ndarray):
        return _numpy_array
    return next((writer for base, writer in _BY_BASE if issubclass(cls, base)), _unknown)
