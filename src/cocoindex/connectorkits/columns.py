"""Columns from a record class, by three tables: leaf types, JSON, vectors."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NamedTuple, get_args, get_origin

import cocoindex as coco
from cocoindex.connectorkits.jsonenc import dumps
from cocoindex.core.datatype import (
    AnyType,
    DataTypeInfo,
    RecordFieldInfo,
    RecordType,
    SequenceType,
    analyze_type_info,
    is_numpy_number_type,
    is_record_type,
)
from cocoindex.errors import UsageTypeError, UsageValueError
from cocoindex.resources.schema import (
    MultiVectorSchemaProvider,
    VectorSchema,
    get_vector_schema,
)

__all__ = ["Column", "Encoder", "Mapped", "TypeMapping", "enum_value", "resolve"]

_log = logging.getLogger(__name__)

Encoder = Callable[[Any], Any]
"""From a value, never ``None``, to what is stored."""


class Mapped(NamedTuple):
    """What a Python type becomes: the column's type, and the encoder of its values if any."""

    type: Any
    encoder: Encoder | None = None


class Column(NamedTuple):
    """A column as a record class describes it.

    Attributes:
        name: of the field.
        type: the connector's column type.
        nullable: whether ``None`` may be stored.
        encoder: of values that are not ``None``; ``None`` to store them as they are.
        info: what the annotation says.
        vector: the schema of a vector column.
    """

    name: str
    type: Any
    nullable: bool
    encoder: Encoder | None
    info: DataTypeInfo
    vector: VectorSchema | None = None


@dataclass(frozen=True, slots=True)
class TypeMapping:
    """A connector's tables of types.

    Attributes:
        leaf: by Python type; NumPy numbers by the name of their dtype (``"float32"``).
        json: for everything that is no leaf.
        vector: from a vector's schema.
        annotation: class of the connector's type annotations; its instances are tuples that
            start with column type and encoder.
    """

    leaf: Mapping[Any, Mapped]
    json: Mapped
    vector: Callable[[VectorSchema], Mapped]
    annotation: type[tuple[Any, ...]] | None = None


async def resolve(
    record_type: Any, types: TypeMapping, overrides: Mapping[str, Any] | None = None
) -> list[Column]:
    """The columns of a record class, in the order of its fields.

    Per field, the first that applies: a type annotation of the connector, a vector schema, the
    leaf table, JSON. ``overrides`` by field name come before annotations.

    Raises:
        TypeError: ``record_type`` is no dataclass, NamedTuple or pydantic model.
        ValueError: a vector without schema, or a schema on something that is no vector.
    """
    if not is_record_type(record_type):
        raise UsageTypeError(
            "record_type must be a record type (dataclass, NamedTuple or pydantic model), "
            f"not {record_type!r}"
        )
    overrides = overrides or {}
    fields = RecordType(record_type).fields
    unknown = [name for name in overrides if name not in {field.name for field in fields}]
    if unknown:
        _log.warning(
            "%s has no fields %s: these column overrides have no effect",
            record_type.__qualname__,
            ", ".join(unknown),
        )
    where = record_type.__qualname__
    return [await _column(field, types, overrides.get(field.name), where) for field in fields]


async def _column(field: RecordFieldInfo, types: TypeMapping, override: Any, where: str) -> Column:
    info = analyze_type_info(field.type_hint)
    hints = (*(() if override is None else (override,)), *info.annotations)
    nullable = info.nullable or isinstance(info.variant, AnyType)

    annotation = types.annotation
    given = next((h for h in hints if annotation is not None and isinstance(h, annotation)), None)
    if given is not None:
        name = given[0].strip() if isinstance(given[0], str) else given[0]
        return Column(field.name, name, nullable, given[1], info)

    where = f"{where}.{field.name}"
    vector = await _vector_schema(hints, where)
    if vector is not None:
        _check_holds_vectors(info, where)
        mapped = types.vector(vector)
        return Column(field.name, *_pair(mapped, nullable), info, vector)
    if _is_array(info):
        raise UsageValueError(f"{where}: VectorSchemaProvider is required for NumPy ndarray type.")
    mapped = leaf_type(info, types.leaf) or types.json
    if mapped is types.json:
        _check_has_json(info, where, types.annotation)
    return Column(field.name, *_pair(mapped, nullable), info)


def _check_has_json(info: DataTypeInfo, where: str, annotation: Any) -> None:
    """Refuse early what would be refused at the first row. Paths are what people try."""
    core = info.core_type
    if isinstance(core, type) and issubclass(core, os.PathLike):
        own = "" if annotation is None else f", or say Annotated[…, {annotation.__name__}(…, str)]"
        raise UsageTypeError(
            f"{where}: {core.__name__} has no column type: make it a str, such as "
            f"path.as_posix(){own}"
        )


def _pair(mapped: Mapped, nullable: bool) -> tuple[Any, bool, Encoder | None]:
    return mapped.type, nullable, mapped.encoder


async def _vector_schema(hints: tuple[Any, ...], where: str) -> VectorSchema | None:
    for hint in hints:
        provider = coco.use_context(hint) if isinstance(hint, coco.ContextKey) else hint
        schema = await get_vector_schema(provider)
        if schema is not None:
            return schema
        if isinstance(provider, MultiVectorSchemaProvider) and not isinstance(provider, type):
            raise UsageValueError(f"{where}: multi-vectors can't be stored in a column")
    return None


def _is_array(info: DataTypeInfo) -> bool:
    return getattr(info.base_type, "__name__", "") == "ndarray"


def _check_holds_vectors(info: DataTypeInfo, where: str) -> None:
    if _is_array(info) or isinstance(info.variant, (AnyType, SequenceType)):
        return
    origin = get_origin(info.core_type)
    if origin is tuple or info.core_type is tuple:
        return
    if getattr(info.base_type, "__module__", "").partition(".")[0] == "torch":
        return
    raise UsageValueError(
        f"{where}: a vector schema needs a NumPy ndarray or a sequence of numbers, "
        f"not {info.core_type!r}"
    )


def leaf_type(info: DataTypeInfo, leaf: Mapping[Any, Mapped]) -> Mapped | None:
    """The entry of a leaf table for a type; enums and literals by the type of their values."""
    core = info.core_type
    if is_numpy_number_type(core):
        import numpy as np

        return leaf.get(np.dtype(core).name)
    if isinstance(core, type):
        if core in leaf:
            return leaf[core]
        if core.__module__ == "numpy":
            return leaf.get({"bool": bool, "bool_": bool, "str_": str}.get(core.__name__))
        if issubclass(core, Enum):
            return _by_value(leaf, [member.value for member in core], enum_value)
        return None
    if get_origin(core) is Literal:
        return _by_value(leaf, [*get_args(core)], enum_value)
    return None


def _by_value(leaf: Mapping[Any, Mapped], values: list[Any], of: Encoder) -> Mapped | None:
    kinds = {type(of(value)) for value in values}
    found = leaf.get(kinds.pop()) if len(kinds) == 1 else None
    if found is None:
        return None
    inner = found.encoder
    if inner is None:
        return Mapped(found.type, of)
    return Mapped(found.type, lambda value: inner(of(value)))


def enum_value(value: Any) -> Any:
    """The value of an enum member; anything else as it is."""
    return value.value if isinstance(value, Enum) else value


def json_text(value: Any) -> str:
    """Encoder of JSON columns that hold text."""
    return dumps(value)
