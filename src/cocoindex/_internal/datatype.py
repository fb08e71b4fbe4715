"""Alias for programs that import from here: what a Python type means to a connector."""

from cocoindex.core.datatype import (
    AnyType,
    DataTypeInfo,
    LeafType,
    MappingType,
    RecordFieldInfo,
    RecordType,
    SequenceType,
    UnionType,
    analyze_type_info,
    is_namedtuple_type,
    is_numpy_number_type,
    is_pydantic_model,
    is_record_type,
)
from cocoindex.core.type_check import TypeChecker

__all__ = [
    "AnyType",
    "DataTypeInfo",
    "LeafType",
    "MappingType",
    "RecordFieldInfo",
    "RecordType",
    "SequenceType",
    "TypeChecker",
    "UnionType",
    "analyze_type_info",
    "is_namedtuple_type",
    "is_numpy_number_type",
    "is_pydantic_model",
    "is_record_type",
]
