# ruff: noqa: ARG001, ARG005 - forms share one signature
"""Canonical forms of objects: standard library values, records, arrays, functions, the rest."""

from __future__ import annotations

import copyreg
import dataclasses
import datetime as dt
import pathlib
import re
import sys
import types
import uuid
from decimal import Decimal
from enum import Enum
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from cocoindex.core.canonical import (
    Canon,
    Mode,
    NotPlainData,
    Writer,
    canonical_module,
    type_name_form,
    write,
)
from cocoindex.errors import UsageTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["EXPLICIT", "object_writer", "unsupported"]

_PICKLE_PROTOCOL: Final = 5  # pinned: a newer interpreter must not change anybody's keys


def unsupported(cls: type) -> UsageTypeError:
    """The error for a value that has no canonical form."""
    if cls is types.CoroutineType:
        return UsageTypeError(f"Unsupported type for memoization key: {cls!r}: forgot `await`?")
    return UsageTypeError(
        f"Unsupported type for memoization key: {cls!r}. Provide __coco_memo_key__() or register "
        "a key function with register_memo_key_function()."
    )


def _fields(tag: bytes, read: Callable[[Any], Sequence[object]]) -> Writer:
    def write_fields(out: bytearray, value: object, canon: Canon) -> None:
        out += tag
        for item in read(value):
            write(out, item, canon)
        out += b"."

    return write_fields


def _named(name: str, read: Callable[[Any], Sequence[object]]) -> Writer:
    return _fields(b"X" + name.encode() + b":", read)


def _path_parts(path: pathlib.PurePath) -> tuple[object, ...]:
    if isinstance(path, pathlib.Path):
        return ("", path.as_posix())
    return (type(path).__name__, path.as_posix())


def _datetime_parts(value: dt.datetime) -> tuple[object, ...]:
    return (value.replace(tzinfo=None).isoformat(), value.fold, value.tzinfo)


def _time_parts(value: dt.time) -> tuple[object, ...]:
    return (value.replace(tzinfo=None).isoformat(), value.fold, value.tzinfo)


def _timezone_parts(value: dt.timezone) -> tuple[object, ...]:
    return (value.utcoffset(None), value.tzname(None))


def _write_zone(out: bytearray, value: Any, canon: Canon) -> None:
    if value.key is None:  # made from a file: nothing names it
        raise unsupported(type(value))
    out += b"Xzone:"
    write(out, value.key, canon)
    out += b"."


_path_form = _named("path", _path_parts)

EXPLICIT: Final[dict[type, Writer]] = {
    uuid.UUID: _named("uuid", lambda v: (v.bytes,)),
    dt.datetime: _named("datetime", _datetime_parts),
    dt.date: _named("date", lambda v: (v.isoformat(),)),
    dt.time: _named("time", _time_parts),
    dt.timedelta: _named("timedelta", lambda v: (v.days, v.seconds, v.microseconds)),
    dt.timezone: _named("timezone", _timezone_parts),
    Decimal: _named("decimal", lambda v: (str(v),)),
    complex: _named("complex", lambda v: (v.real, v.imag)),
    range: _named("range", lambda v: (v.start, v.stop, v.step)),
    re.Pattern: _named("pattern", lambda v: (v.pattern, v.flags)),
    pathlib.PurePosixPath: _path_form,
    pathlib.PureWindowsPath: _path_form,
    pathlib.PosixPath: _path_form,
    pathlib.WindowsPath: _path_form,
    type(Ellipsis): _named("ellipsis", lambda v: ()),
    type(NotImplemented): _named("notimplemented", lambda v: ()),
}
"""Exact standard library types; a subclass may carry more and is not served here."""


def _write_enum(out: bytearray, value: Enum, canon: Canon) -> None:
    out += b"E" + type_name_form(type(value))
    write(out, value.name, canon)
    start = len(out)
    try:
        write(out, value.value, canon)
    except NotPlainData:  # the member itself is; its name will do
        del out[start:]


def _write_class(out: bytearray, value: type, canon: Canon) -> None:
    if canon.mode is Mode.DATA:
        raise NotPlainData(value)
    out += b"C" + type_name_form(value)


# Records


def _record_writer(cls: type, tag: bytes, names: tuple[str, ...]) -> Writer:
    label = bytearray(tag + type_name_form(cls))
    write(label, names, Canon(None))
    prefix = bytes(label)
    if len(names) < 2:
        return _slow_record_writer(prefix, names)
    read = attrgetter(*names)
    slow = _slow_record_writer(prefix, names)

    def write_record(out: bytearray, value: object, canon: Canon) -> None:
        try:
            items = read(value)
        except AttributeError:
            slow(out, value, canon)
            return
        if canon.visited(out, value):
            return
        out += prefix
        for item in items:
            write(out, item, canon)

    return write_record


def _slow_record_writer(prefix: bytes, names: tuple[str, ...]) -> Writer:
    def write_record(out: bytearray, value: object, canon: Canon) -> None:
        if canon.visited(out, value):
            return
        out += prefix
        for name in names:
            try:
                item = getattr(value, name)
            except AttributeError:  # a field that was never set
                out += b"-"
            else:
                write(out, item, canon)

    return write_record


def _pydantic_writer(cls: Any) -> Writer:
    names = tuple(cls.model_fields)
    fields = _record_writer(cls, b"P", names)

    def write_model(out: bytearray, value: Any, canon: Canon) -> None:
        if id(value) not in canon.seen:
            fields(out, value, canon)
            write(out, value.__pydantic_extra__ or {}, canon)
        else:
            canon.visited(out, value)

    return write_model


# numpy, never imported from here


def _numpy_writer(cls: type) -> Writer | None:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if cls is numpy.ndarray:
        return _write_array
    if issubclass(cls, numpy.generic):
        return _write_numpy_scalar
    if issubclass(cls, numpy.dtype):
        return _write_dtype
    return None


def _dtype_name(dtype: Any) -> str:
    return str(dtype.str) if dtype.names is None else repr(dtype.descr)


def _write_array(out: bytearray, value: Any, canon: Canon) -> None:
    if canon.mode is not Mode.ANY:
        raise NotPlainData(value)
    if canon.visited(out, value):
        return
    out += b"A"
    write(out, _dtype_name(value.dtype), canon)
    write(out, value.shape, canon)
    if value.dtype.hasobject:
        items = value.tolist()
        canon.alive.append(items)
        write(out, items, canon)
    else:
        write(out, value.tobytes(), canon)


def _write_numpy_scalar(out: bytearray, value: Any, canon: Canon) -> None:
    out += b"n"
    write(out, _dtype_name(value.dtype), canon)
    write(out, value.tobytes(), canon)


def _write_dtype(out: bytearray, value: Any, canon: Canon) -> None:
    if canon.mode is Mode.DATA:
        raise NotPlainData(value)
    out += b"d"
    write(out, _dtype_name(value), canon)


# Callables


def _refuse_in_data(writer: Writer) -> Writer:
    def write_unless_data(out: bytearray, value: object, canon: Canon) -> None:
        if canon.mode is not Mode.ANY:
            raise NotPlainData(value)
        writer(out, value, canon)

    return write_unless_data


def _write_builtin(out: bytearray, value: Any, canon: Canon) -> None:
    if canon.mode is Mode.DATA:
        raise NotPlainData(value)
    owner = value.__self__
    out += b"B"
    write(out, value.__qualname__, canon)
    if owner is None or isinstance(owner, (types.ModuleType, type)):
        write(out, canonical_module(value.__module__ or ""), canon)
    else:
        write(out, owner, canon)


def _write_bound_method(out: bytearray, value: types.MethodType, canon: Canon) -> None:
    if canon.mode is Mode.DATA:
        raise NotPlainData(value)
    out += b"m"
    write(out, value.__func__, canon)
    write(out, value.__self__, canon)


def _write_function_name(out: bytearray, value: Any, canon: Canon) -> None:
    if canon.mode is Mode.DATA:
        raise NotPlainData(value)
    out += b"c"
    write(out, canonical_module(value.__module__), canon)
    write(out, value.__qualname__, canon)


def _descriptor_parts(value: Any) -> tuple[object, ...]:
    return (value.__objclass__, value.__name__)


def _partial_parts(value: partial[Any]) -> tuple[object, ...]:
    return (value.func, value.args, value.keywords)


_CALLABLES: Final[dict[type, Writer]] = {
    types.FunctionType: _write_function_name,
    types.BuiltinFunctionType: _write_builtin,
    types.MethodType: _write_bound_method,
    types.MethodDescriptorType: _refuse_in_data(_named("descriptor", _descriptor_parts)),
    types.WrapperDescriptorType: _refuse_in_data(_named("descriptor", _descriptor_parts)),
    partial: _named("partial", _partial_parts),
}


# Everything that can be taken apart for pickling


def _write_reduced(out: bytearray, value: object, canon: Canon) -> None:
    if canon.mode is not Mode.ANY:
        raise NotPlainData(value)
    if canon.visited(out, value):
        return
    reduced = _reduce(value)
    canon.alive.append(reduced)
    out += b"O"
    if isinstance(reduced, str):
        write(out, getattr(value, "__module__", None) or "", canon)
        write(out, reduced, canon)
    else:
        _write_reduced_parts(out, reduced, canon)
    out += b"."


def _write_reduced_parts(out: bytearray, parts: tuple[Any, ...], canon: Canon) -> None:
    for index, part in enumerate(parts):
        if index in (3, 4) and part is not None:  # iterators of list and dict items
            items = list(part)
            canon.alive.append(items)
            write(out, items, canon)
        else:
            write(out, part, canon)


def _reduce(value: object) -> str | tuple[object, ...]:
    # The parts of a pickle rather than its bytes: sets inside get an order, and whether two
    # equal strings happen to be one object doesn't matter.
    special = copyreg.dispatch_table.get(type(value))
    try:
        reduced = special(value) if special else value.__reduce_ex__(_PICKLE_PROTOCOL)
    except Exception as error:  # whatever __reduce__ or __getstate__ of the user's class raises
        raise unsupported(type(value)) from error
    if not isinstance(reduced, (str, tuple)):
        raise unsupported(type(value))
    return reduced


def _write_unsupported(out: bytearray, value: object, canon: Canon) -> None:
    if canon.mode is not Mode.ANY:
        raise NotPlainData(value)
    raise unsupported(type(value))


def object_writer(cls: type) -> Writer:
    """The form of a type that is neither scalar nor container nor has a memo key."""
    explicit = EXPLICIT.get(cls) or _CALLABLES.get(cls) or _family_writer(cls)
    if explicit is not None:
        return explicit
    if dataclasses.is_dataclass(cls):
        return _record_writer(cls, b"D", tuple(f.name for f in dataclasses.fields(cls)))
    struct_fields = getattr(cls, "__struct_fields__", None)
    if isinstance(struct_fields, tuple):  # msgspec
        return _record_writer(cls, b"D", struct_fields)
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        return _pydantic_writer(cls)
    # An instance of a class that can't be imported could not be pickled either.
    return _write_unsupported if "<locals>" in cls.__qualname__ else _write_reduced


def _family_writer(cls: type) -> Writer | None:
    if issubclass(cls, type):
        return _write_class
    if issubclass(cls, Enum):
        return _write_enum
    if issubclass(cls, uuid.UUID):
        return EXPLICIT[uuid.UUID]
    if cls.__module__ == "zoneinfo" and cls.__name__ == "ZoneInfo":
        return _write_zone
    return _numpy_writer(cls)
