"""Binary forms of pgvector's types, so that vectors are never written out as text.

What is made here is the field as a binary COPY carries it: its length, then its content. It is
both what is fingerprinted and what is sent.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cocoindex.connectorkits import vectors
from cocoindex.errors import UsageValueError
from cocoindex.resources.schema import VectorSchema

__all__ = ["VECTOR_TYPES", "VectorType", "decoder", "encoder"]

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]

_sparse_head: Final = struct.Struct(">iiii").pack
_dense_head: Final = struct.Struct(">ihh").pack
_bits_head: Final = struct.Struct(">ii").pack


class VectorType(NamedTuple):
    """A type that vector indexes can be built on.

    Attributes:
        element: NumPy's name of the binary element, or None where elements are not numbers.
        most: dimensions that the type can hold.
        most_indexed: dimensions that an index can hold.
        metrics: the metrics that have an operator class.
    """

    element: str | None
    most: int
    most_indexed: int
    metrics: tuple[str, ...]


_DENSE_METRICS: Final = ("cosine", "l2", "ip", "l1")

VECTOR_TYPES: Final[Mapping[str, VectorType]] = {
    "vector": VectorType(">f4", 16_000, 2_000, _DENSE_METRICS),
    "halfvec": VectorType(">f2", 16_000, 4_000, _DENSE_METRICS),
    "sparsevec": VectorType(">f4", 1_000_000_000, 1_000_000_000, _DENSE_METRICS),
    "bit": VectorType(None, 83_886_080, 64_000, ("hamming", "jaccard")),
}


def encoder(base: str, size: int | None) -> Encode:
    """What turns a value into the binary field of a ``base(size)`` column.

    Accepts arrays and sequences of numbers, and the text form.

    Raises:
        ValueError: the length is another than ``size``, or an element is not finite.
    """
    if base == "sparsevec":
        return _sparse_encoder(size)
    if base == "bit":
        return _bits_encoder(size)
    return _dense_encoder(base, size)


def decoder(base: str) -> Decode:
    """What turns the binary content of a ``base`` value into an array (sparse: a mapping)."""
    import numpy as np

    if base == "sparsevec":
        return _decode_sparse
    element = ">f4" if base == "vector" else ">f2"
    native = np.dtype(element).newbyteorder("=")

    def decode(data: bytes) -> Any:
        return np.frombuffer(data, element, offset=4).astype(native)

    return decode


def _dense_encoder(base: str, size: int | None) -> Encode:
    if size is not None:
        return _sized_encoder(base, size)

    def encode(value: Any) -> bytes:
        array = _array(value)
        return _sized_encoder(base, len(array))(array)

    return encode


@lru_cache(256)
def _sized_encoder(base: str, size: int) -> Encode:
    import numpy as np

    kind = VECTOR_TYPES[base]
    if size > kind.most:
        raise UsageValueError(f"{base} holds at most {kind.most:,} dimensions, not {size:,}")
    dtype = np.dtype(kind.element)
    head = _dense_head(4 + dtype.itemsize * size, size, 0)

    def pack(array: Any) -> bytes:
        content: bytes = array.astype(dtype).tobytes()
        return head + content

    encode = vectors.encoder(VectorSchema(dtype.newbyteorder("="), size), pack)
    return lambda value: encode(json.loads(value) if type(value) is str else value)


def _array(value: Any) -> Any:
    import numpy as np

    array = np.asarray(json.loads(value) if isinstance(value, str) else value)
    if array.ndim != 1 or not array.size:
        raise UsageValueError(f"expected a vector, got an array of shape {array.shape}")
    return array


def _sparse_encoder(size: int | None) -> Encode:
    import numpy as np

    def encode(value: Any) -> bytes:
        dimensions, indices, values = _sparse_parts(value, size)
        if size is not None and dimensions != size:
            raise UsageValueError(f"expected {size} dimensions, got {dimensions}")
        order = np.argsort(indices, kind="stable")
        indices, values = indices[order].astype(">i4"), values[order].astype(">f4")
        if not np.isfinite(values).all():
            raise UsageValueError("a vector must not hold NaN or infinities")
        if indices.size and not 0 <= int(indices[0]) <= int(indices[-1]) < dimensions:
            raise UsageValueError(f"an index lies outside the {dimensions} dimensions")
        if np.unique(indices).size != indices.size:
            raise UsageValueError("an index is given twice")
        kept = values != 0
        indices, values = indices[kept], values[kept]
        head = _sparse_head(12 + 8 * indices.size, dimensions, indices.size, 0)
        return b"".join((head, indices.tobytes(), values.tobytes()))

    return encode


def _sparse_parts(value: Any, size: int | None) -> tuple[int, Any, Any]:
    """Dimensions, indices from 0 and values of a mapping, of text, or of a SparseVector."""
    import numpy as np

    if isinstance(value, str):
        value, size = _parse_sparse(value)
    elif hasattr(value, "indices") and hasattr(value, "values") and hasattr(value, "dimensions"):
        return value.dimensions(), np.asarray(value.indices()), np.asarray(value.values())
    elif not isinstance(value, Mapping):
        dense = _array(value)
        indices = np.flatnonzero(dense)
        return len(dense), indices, dense[indices]
    if size is None:
        raise UsageValueError("a mapping needs a column with dimensions: PgType('sparsevec(N)')")
    return (
        size,
        np.fromiter(value.keys(), np.int64, len(value)),
        np.fromiter(value.values(), np.float64, len(value)),
    )


def _parse_sparse(text: str) -> tuple[dict[int, float], int]:
    """The text form ``{1:0.5,3:2}/5``, whose indices start at 1."""
    try:
        body, _, dimensions = text.strip().partition("/")
        pairs = [pair.split(":") for pair in body.strip("{}").split(",") if pair.strip()]
        return {int(index) - 1: float(number) for index, number in pairs}, int(dimensions)
    except ValueError:
        raise UsageValueError("expected the form {index:value,…}/dimensions") from None


def _decode_sparse(data: bytes) -> dict[int, float]:
    import numpy as np

    count = int.from_bytes(data[4:8], "big")
    indices = np.frombuffer(data, ">i4", count, 12)
    values = np.frombuffer(data, ">f4", count, 12 + 4 * count)
    return dict(zip(indices.tolist(), values.tolist(), strict=True))


def _bits_encoder(size: int | None) -> Encode:
    def encode(value: Any) -> bytes:
        length, packed = _bits(value)
        if size is not None and length != size:
            raise UsageValueError(f"expected {size} bits, got {length}")
        return _bits_head(4 + len(packed), length) + packed

    return encode


def _bits(value: Any) -> tuple[int, bytes]:
    """Number of bits, and the bits, of text, of an array of booleans, or of a BitString."""
    import numpy as np

    if isinstance(value, str):
        if value.strip("01"):
            raise UsageValueError("expected a text of 0 and 1")
        value = np.frombuffer(value.encode(), np.uint8) == ord("1")
    elif hasattr(value, "bytes") and hasattr(value, "__len__"):  # asyncpg.BitString
        return len(value), bytes(value.bytes)
    array = np.asarray(value)
    if array.ndim != 1 or not ((array == 0) | (array == 1)).all():
        raise UsageValueError("expected a vector of booleans")
    return array.shape[0], np.packbits(array.astype(bool)).tobytes()
