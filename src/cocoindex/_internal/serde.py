"""Alias for programs that import from here: how persisted values are written and read."""

from cocoindex.core.serde import (
    deserialize,
    enable_strict_serialize,
    get_deserialize_fn,
    make_deserialize_fn,
    serialize,
    serialize_by_pickle,
    unpickle_safe,
)
from cocoindex.errors import DeserializationError

__all__ = [
    "DeserializationError",
    "deserialize",
    "enable_strict_serialize",
    "get_deserialize_fn",
    "make_deserialize_fn",
    "serialize",
    "serialize_by_pickle",
    "unpickle_safe",
]
