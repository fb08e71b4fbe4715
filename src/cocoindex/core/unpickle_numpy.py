"""What pickles of numpy arrays, dtypes and scalars may call, with checked arguments.

Loaded only when a payload names numpy. Types and arrays are built through numpy's public
constructors, never through its ``__setstate__``, which trusts flags and sizes it is given.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cocoindex.core.unpickle_values import Pending, require

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["reconstructor", "resolve"]

_CODE_RE: Final = re.compile(r"(?:[?biufcmMSUVO])[0-9]{0,9}")
_UNIT_RE: Final = re.compile(rb"[A-Za-z]{1,8}")
_MAX_EMPTY_ITEMS: Final = 1 << 16
_ALIGNED: Final = 0x80


class _PendingDtype(Pending):
    """A dtype waiting for its byte order, fields or sub-array."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        super().__init__()
        self.code = code

    def finish(self, state: Any) -> np.dtype[Any]:
        require(type(state) is tuple and 8 <= len(state) <= 9, "state of a dtype")
        _, order, base, names, fields, size, _, flags = state[:8]
        if base is not None:
            return _subarray_dtype(base)
        if names is not None:
            return _record_dtype(names, fields, size, flags)
        unit = _unit(state[8]) if len(state) == 9 else ""
        plain = np.dtype(self.code + unit)
        return plain.newbyteorder(order) if order in ("<", ">") else plain


def _subarray_dtype(base: Any) -> np.dtype[Any]:
    require(type(base) is tuple and len(base) == 2 and isinstance(base[0], np.dtype), "sub-array")
    _shape(base[1])
    return np.dtype((base[0], base[1]))


def _record_dtype(names: Any, fields: Any, size: Any, flags: Any) -> np.dtype[Any]:
    require(type(names) is tuple and type(fields) is dict, "fields of a dtype")
    require(type(size) is int and type(flags) is int and size >= 0, "size of a dtype")
    columns = [fields[name] for name in names]
    require(all(isinstance(column[0], np.dtype) for column in columns), "field of a dtype")
    description = {
        "names": list(names),
        "formats": [column[0] for column in columns],
        "offsets": [column[1] for column in columns],
        "titles": [column[2] if len(column) > 2 else None for column in columns],
        "itemsize": size,
    }
    return np.dtype(description, align=bool(flags & _ALIGNED))  # type: ignore[call-overload, no-any-return]


def _unit(metadata: Any) -> str:
    """``[25us]`` for the metadata ``(…, (b"us", 25, …))`` of a datetime64 or timedelta64."""
    if metadata is None:
        return ""
    require(type(metadata) is tuple and len(metadata) == 2, "metadata of a dtype")
    unit, count = metadata[1][:2]
    require(type(unit) is bytes and type(count) is int and count > 0, "unit of a dtype")
    require(_UNIT_RE.fullmatch(unit) is not None, "unit of a dtype")
    return "" if unit == b"generic" else f"[{count}{unit.decode()}]"


class _PendingArray(Pending):
    """An array waiting for shape, dtype and contents."""

    __slots__ = ()

    def finish(self, state: Any) -> np.ndarray[Any, Any]:
        require(type(state) is tuple and len(state) == 5, "state of an array")
        _, shape, dtype, fortran, contents = state
        require(isinstance(dtype, np.dtype), "dtype of an array")
        if dtype.hasobject:
            return _object_array(shape, dtype, bool(fortran), contents)
        require(type(contents) is bytes, "contents of an array")
        return _array(bytearray(contents), dtype, shape, "F" if fortran else "C")


def _object_array(
    shape: Any, dtype: np.dtype[Any], fortran: bool, items: Any
) -> np.ndarray[Any, Any]:
    require(dtype == np.dtype(object) and type(items) is list, "array of records with objects")
    require(_shape(shape) == len(items), "number of items of an array")
    flat = np.empty(len(items), dtype=object)
    for position, item in enumerate(items):
        flat[position] = item
    array = flat.reshape(shape)
    return np.asfortranarray(array) if fortran else array


def _shape(shape: Any) -> int:
    """The number of items of an array of that shape."""
    require(type(shape) is tuple and len(shape) <= 64, "shape of an array")
    require(all(type(size) is int and 0 <= size < 2**63 for size in shape), "shape of an array")
    return math.prod(shape)


def _array(
    buffer: bytes | bytearray, dtype: np.dtype[Any], shape: Any, order: Any
) -> np.ndarray[Any, Any]:
    count = _shape(shape)
    require(order in ("C", "F"), "order of an array")
    require(count * dtype.itemsize == len(buffer), "size of an array")
    if not buffer:
        require(count <= _MAX_EMPTY_ITEMS, "size of an array")
        return np.zeros(shape, dtype, order)
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _make_from_buffer(args: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    require(4 <= len(args) <= 5, "arguments of an array")
    buffer, dtype, shape, order = args[:4]
    require(type(buffer) in (bytes, bytearray), "contents of an array")
    require(isinstance(dtype, np.dtype) and not dtype.hasobject, "dtype of an array")
    axes = args[4] if len(args) == 5 else None
    if order == "K" and axes is not None:
        require(type(axes) is tuple and all(type(axis) is int for axis in axes), "axes")
        return _array(buffer, dtype, shape, "C").transpose(axes)
    return _array(buffer, dtype, shape, order)


def _make_dtype(args: tuple[Any, ...]) -> _PendingDtype:
    require(tuple(map(type, args)) == (str, bool, bool), "arguments of a dtype")
    require(_CODE_RE.fullmatch(args[0]) is not None, "code of a dtype")
    return _PendingDtype("O" if args[0].startswith("O") else args[0])


def _make_empty(args: tuple[Any, ...]) -> _PendingArray:
    require(len(args) == 3 and args[0] is np.ndarray, "arguments of an array")
    return _PendingArray()


def _make_scalar(args: tuple[Any, ...]) -> Any:
    require(len(args) == 2 and isinstance(args[0], np.dtype), "arguments of a scalar")
    dtype, contents = args
    require(not dtype.hasobject and type(contents) is bytes, "contents of a scalar")
    return _array(contents, dtype, (1,), "C")[0]


class _Function:
    """Stands for one of numpy's own functions while a payload is read."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[tuple[Any, ...]], Any]) -> None:
        self.call = call


_EMPTY: Final = _Function(_make_empty)
_SCALAR: Final = _Function(_make_scalar)
_FROM_BUFFER: Final = _Function(_make_from_buffer)

_SCALAR_TYPES: Final = (
    "bool", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128", "str_", "bytes_", "datetime64",
    "timedelta64", "longdouble", "longlong", "ulonglong", "generic", "number", "integer",
    "floating",
)  # fmt: skip

_GLOBALS: Final[dict[tuple[str, str], Any]] = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy._core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy.core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy._core.multiarray", "_reconstruct"): _EMPTY,
    ("numpy.core.multiarray", "_reconstruct"): _EMPTY,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    **{("numpy", name): getattr(np, name) for name in _SCALAR_TYPES if name in vars(np)},
}


def resolve(module: str, name: str) -> Any:
    """What ``module.name`` stands for, or ``None`` if it is not allowed."""
    return _GLOBALS.get((module, name))


def reconstructor(function: Any) -> Callable[[tuple[Any, ...]], Any] | None:
    """The checked reconstructor for ``function``, or ``None``."""
    if function is np.dtype:
        return _make_dtype
    return function.call if isinstance(function, _Function) else None
