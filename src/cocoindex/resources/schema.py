"""Vector schemas: how long the vectors of a column are, and what they are made of."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import cocoindex as coco
from cocoindex.errors import UsageTypeError, UsageValueError

if TYPE_CHECKING:
    import numpy as np

    DType: TypeAlias = np.dtype[Any]
else:
    DType = Any  # schemas are read back by their annotations, and NumPy is loaded when needed

__all__ = [
    "MultiVectorSchema",
    "MultiVectorSchemaProvider",
    "VectorSchema",
    "VectorSchemaProvider",
    "get_multi_vector_schema",
    "get_vector_schema",
]


@dataclass(frozen=True, init=False)
class VectorSchema:
    """Vectors of ``size`` elements of type ``dtype``; its own provider.

    ``VectorSchema(384)`` means 384 times float32. ``dtype`` takes what NumPy takes.

    Raises:
        ValueError: ``size`` is below 1, or ``dtype`` holds no numbers.
    """

    dtype: DType
    size: int

    def __init__(self, dtype: Any = None, size: int | None = None) -> None:
        if size is None and isinstance(dtype, int):
            dtype, size = None, dtype
        if not isinstance(size, int) or isinstance(size, bool):
            raise UsageTypeError(f"VectorSchema: size must be an int, not {type(size).__name__}")
        if size < 1:
            raise UsageValueError(f"VectorSchema: size must be at least 1, not {size}")
        object.__setattr__(self, "dtype", _number_type(dtype))
        object.__setattr__(self, "size", size)

    async def __coco_vector_schema__(self) -> VectorSchema:
        return self

    def __coco_memo_key__(self) -> object:
        return (self.dtype.str, self.size)


def _number_type(dtype: Any) -> DType:
    import numpy as np

    try:
        resolved = np.dtype(np.float32 if dtype is None else dtype)
    except TypeError as error:
        raise UsageValueError(f"VectorSchema: {dtype!r} is no NumPy dtype") from error
    if resolved.kind not in "fiub" or resolved.names is not None:
        raise UsageValueError(f"VectorSchema: vectors hold numbers, not {resolved}")
    return resolved


@dataclass(frozen=True)
class MultiVectorSchema:
    """Any number of vectors of one schema (late-interaction models); its own provider."""

    vector_schema: VectorSchema

    async def __coco_multi_vector_schema__(self) -> MultiVectorSchema:
        return self

    def __coco_memo_key__(self) -> object:
        return self.vector_schema


@runtime_checkable
class VectorSchemaProvider(Protocol):
    """What knows the schema of the vectors it makes, such as an embedder."""

    def __coco_vector_schema__(self) -> Awaitable[VectorSchema]: ...


@runtime_checkable
class MultiVectorSchemaProvider(Protocol):
    """What knows the schema of the multi-vectors it makes."""

    def __coco_multi_vector_schema__(self) -> Awaitable[MultiVectorSchema]: ...


async def get_vector_schema(obj: Any) -> VectorSchema | None:
    """The schema that ``obj`` provides; a context key stands for its value. None: it has none.

    Raises:
        RuntimeError: ``obj`` is a context key and no component is running.
    """
    if isinstance(obj, coco.ContextKey):
        obj = coco.use_context(obj)
    if isinstance(obj, type) or not isinstance(obj, VectorSchemaProvider):
        return None
    return await obj.__coco_vector_schema__()


async def get_multi_vector_schema(obj: Any) -> MultiVectorSchema | None:
    """As :func:`get_vector_schema`, for multi-vectors."""
    if isinstance(obj, coco.ContextKey):
        obj = coco.use_context(obj)
    if isinstance(obj, type) or not isinstance(obj, MultiVectorSchemaProvider):
        return None
    return await obj.__coco_multi_vector_schema__()
