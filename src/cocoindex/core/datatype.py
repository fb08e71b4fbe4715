"""What a type annotation says, in the form connectors need it: kind, nullability, metadata."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import sys
import types
from typing import (
    Annotated,
    Any,
    Final,
    NamedTuple,
    NewType,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

__all__ = [
    "AnyType",
    "DataTypeInfo",
    "LeafType",
    "MappingType",
    "RecordFieldInfo",
    "RecordType",
    "SequenceType",
    "TypeVariant",
    "UnionType",
    "analyze_type_info",
    "is_namedtuple_type",
    "is_numpy_number_type",
    "is_pydantic_model",
    "is_record_type",
]


class AnyType(NamedTuple):
    """Anything goes."""


class LeafType(NamedTuple):
    """A type without parts that this module looks into."""


class SequenceType(NamedTuple):
    """A list, a sequence or a NumPy array of ``elem_type``."""

    elem_type: Any


class MappingType(NamedTuple):
    """A mapping from ``key_type`` to ``value_type``."""

    key_type: Any
    value_type: Any


class UnionType(NamedTuple):
    """One of several types, ``None`` left out."""

    variant_types: list[Any]


class RecordFieldInfo(NamedTuple):
    """One field of a record type.

    Attributes:
        name: its name.
        type_hint: its annotation, evaluated, ``Annotated`` kept.
        default_value: its default, or ``inspect.Parameter.empty``.
        description: the description of a pydantic field.
    """

    name: str
    type_hint: Any
    default_value: Any = inspect.Parameter.empty
    description: str | None = None


class RecordType(NamedTuple):
    """A dataclass, NamedTuple or pydantic model."""

    record_type: type

    @property
    def fields(self) -> list[RecordFieldInfo]:
        """The fields in the order of their definition."""
        if dataclasses.is_dataclass(self.record_type):
            return _dataclass_fields(self.record_type)
        if is_namedtuple_type(self.record_type):
            return _namedtuple_fields(self.record_type)
        return _pydantic_fields(self.record_type)


TypeVariant: TypeAlias = AnyType | SequenceType | MappingType | RecordType | UnionType | LeafType


class DataTypeInfo(NamedTuple):
    """What an annotation says.

    Attributes:
        core_type: the type without ``Annotated``, aliases, ``NewType`` and ``None``.
        base_type: ``core_type`` without its parameters.
        variant: what kind of type it is.
        nullable: whether ``None`` is allowed.
        annotations: the metadata of every ``Annotated`` around the type, innermost first.
    """

    core_type: Any
    base_type: Any
    variant: TypeVariant
    nullable: bool = False
    annotations: tuple[Any, ...] = ()


def analyze_type_info(t: Any) -> DataTypeInfo:
    """What the annotation ``t`` says; never fails for an annotation Python accepts."""
    core, annotations, nullable = _unwrap(t)
    base = get_origin(core) or core
    if base is Union:
        base = types.UnionType
    return DataTypeInfo(core, base, _variant(core, base), nullable, annotations)


def is_record_type(t: Any) -> bool:
    """Whether ``t`` is a dataclass, NamedTuple class or pydantic model class."""
    return isinstance(t, type) and (
        dataclasses.is_dataclass(t) or is_namedtuple_type(t) or is_pydantic_model(t)
    )


def is_namedtuple_type(t: Any) -> bool:
    """Whether ``t`` is a NamedTuple class."""
    return isinstance(t, type) and issubclass(t, tuple) and hasattr(t, "_fields")


def is_pydantic_model(t: Any) -> bool:
    """Whether ``t`` is a pydantic model class. Does not import pydantic."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(t, type) and issubclass(t, pydantic.BaseModel)


def is_numpy_number_type(t: Any) -> bool:
    """Whether ``t`` is a real NumPy number type such as ``np.float32``. Does not import NumPy."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(t, type):
        return False
    return issubclass(t, (numpy.integer, numpy.floating))


# --- Unwrapping ---------------------------------------------------------------------------


def _unwrap(t: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """The type inside, the metadata around it (innermost first), and whether it may be None."""
    if isinstance(t, NewType):
        return _unwrap(t.__supertype__)
    if (alias := _alias_value(t)) is not None:
        return _unwrap(alias)
    origin = get_origin(t)
    if origin is Annotated:
        inner, *metadata = get_args(t)
        core, annotations, nullable = _unwrap(inner)
        return core, (*annotations, *metadata), nullable
    if origin is Union or origin is types.UnionType:
        return _unwrap_union(t)
    return t, (), False


def _unwrap_union(t: Any) -> tuple[Any, tuple[Any, ...], bool]:
    args = get_args(t)
    kept = [arg for arg in args if arg is not type(None)]
    if len(kept) == len(args):
        return t, (), False
    if len(kept) == 1:
        core, annotations, _ = _unwrap(kept[0])
        return core, annotations, True
    return Union[tuple(kept)], (), True  # noqa: UP007 - made at run time


def _alias_value(t: Any) -> Any:
    """What a PEP 695 alias (``type X = …``, also parametrized) stands for, else ``None``."""
    if type(t).__name__ == "TypeAliasType":
        return t.__value__
    origin = get_origin(t)
    if type(origin).__name__ != "TypeAliasType":
        return None
    value: Any = origin.__value__
    return value[get_args(t)] if getattr(value, "__parameters__", ()) else value


# --- Variants -----------------------------------------------------------------------------

_SEQUENCES: Final = (list, collections.abc.Sequence, collections.abc.MutableSequence)
_MAPPINGS: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def _variant(core: Any, base: Any) -> TypeVariant:
    if core is Any or core is inspect.Parameter.empty:
        return AnyType()
    if base is types.UnionType:
        return UnionType(list(get_args(core)))
    if is_record_type(base):
        return RecordType(base)
    args = get_args(core)
    if base in _SEQUENCES:
        return SequenceType(args[0] if args else Any)
    if base in _MAPPINGS:
        return MappingType(*args) if args else MappingType(Any, Any)
    if _is_ndarray(base):
        return SequenceType(_element_type(args))
    return LeafType()


def _is_ndarray(base: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and base is numpy.ndarray


def _element_type(args: tuple[Any, ...]) -> Any:
    """``float32`` for the parameters of ``ndarray[shape, dtype[float32]]``."""
    dtype_args = get_args(args[1]) if len(args) == 2 else ()
    return dtype_args[0] if dtype_args else Any


# --- Fields -------------------------------------------------------------------------------


def _dataclass_fields(record_type: Any) -> list[RecordFieldInfo]:
    hints = get_type_hints(record_type, include_extras=True)
    return [
        RecordFieldInfo(field.name, hints[field.name], _dataclass_default(field))
        for field in dataclasses.fields(record_type)
    ]


def _dataclass_default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty


def _namedtuple_fields(record_type: Any) -> list[RecordFieldInfo]:
    hints = get_type_hints(record_type, include_extras=True)
    defaults = record_type._field_defaults
    return [
        RecordFieldInfo(name, hints.get(name, Any), defaults.get(name, inspect.Parameter.empty))
        for name in record_type._fields
    ]


def _pydantic_fields(record_type: Any) -> list[RecordFieldInfo]:
    hints = get_type_hints(record_type, include_extras=True)
    return [
        RecordFieldInfo(name, hints.get(name, info.annotation), _default(info), info.description)
        for name, info in record_type.model_fields.items()
    ]


def _default(info: Any) -> Any:
    return (
        inspect.Parameter.empty
        if info.is_required()
        else info.get_default(call_default_factory=True)
    )
