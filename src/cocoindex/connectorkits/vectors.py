"""Vectors in rows: checked once where they are declared, then bytes all the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cocoindex.errors import UsageTypeError, UsageValueError

if TYPE_CHECKING:
    from cocoindex.resources.schema import VectorSchema

__all__ = ["encoder", "little_endian"]

Pack = Callable[[Any], Any]


def encoder(schema: VectorSchema, pack: Pack | None = None) -> Callable[[Any], Any]:
    """A column encoder for vectors of ``schema``.

    It takes arrays, sequences of numbers and tensors, and passes a one-dimensional array of
    the schema's dtype to ``pack``, which makes the stored form (default: its little-endian
    bytes). The encoder raises ``ValueError`` for another length and for NaN or infinities,
    ``TypeError`` for what is no vector.
    """
    import numpy as np

    dtype, size = schema.dtype, schema.size
    is_float = dtype.kind == "f"
    make = little_endian if pack is None else pack
    array_type, isfinite = np.ndarray, np.isfinite

    def encode(value: Any) -> Any:
        if type(value) is not array_type or value.dtype != dtype:
            value = _as_array(value, dtype)
        if value.shape != (size,):
            raise UsageValueError(_wrong_shape(value.shape, size))
        # Looking for a false byte takes half as long as `.all()`.
        if is_float and b"\0" in isfinite(value).tobytes():
            raise UsageValueError("a vector must not hold NaN or infinities")
        return make(value)

    return encode


def little_endian(array: Any) -> bytes:
    """The elements of ``array``, little-endian, one after the other."""
    data: bytes = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return data


def _as_array(value: Any, dtype: Any) -> Any:
    import numpy as np

    if hasattr(value, "detach"):  # a torch tensor, possibly with a gradient or on a GPU
        value = value.detach().cpu().numpy()
    if isinstance(value, (str, bytes, dict)):
        raise UsageTypeError(f"a vector is expected, not {type(value).__name__}")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        raise UsageTypeError(f"a vector is expected, not {type(value).__name__}") from None
    if array.dtype.kind not in "fiub":
        raise UsageTypeError(f"a vector of numbers is expected, not of {array.dtype}")
    return _converted(array, dtype)


def _converted(array: Any, dtype: Any) -> Any:
    """``array`` as ``dtype``; integers that would not fit are refused, floats are rounded."""
    import numpy as np

    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if dtype.kind in "iub" and not np.array_equal(converted, array):
        raise UsageValueError(f"a vector has elements that are no {dtype}")
    if dtype.kind == "f" and array.dtype.kind == "f" and array.dtype.itemsize > dtype.itemsize:
        lost = ~np.isfinite(converted) & np.isfinite(array)
        if lost.any():
            raise UsageValueError(f"a vector has elements that are too large for {dtype}")
    return converted


def _wrong_shape(shape: tuple[int, ...], size: int) -> str:
    found = f"{shape[0]}" if len(shape) == 1 else f"shape {shape}"
    return f"a vector of {size} elements is expected, not of {found}"
