from __future__ import annotations

import collections.abc
import inspect
import sys
import typing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, Union
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pydantic
import pytest
from typing_extensions import TypeAliasType

from cocoindex.core.datatype import (
    AnyType,
    LeafType,
    MappingType,
    RecordType,
    SequenceType,
    UnionType,
    analyze_type_info,
    is_namedtuple_type,
    is_numpy_number_type,
    is_pydantic_model,
    is_record_type,
)


@dataclass
class Row:
    a: int
    b: Annotated[str | None, "note"] = None
    c: list[int] = field(default_factory=list)


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Model(pydantic.BaseModel):
    a: Annotated[int, "note"]
    b: str = pydantic.Field("x", description="what b is")


Name = NewType("Name", str)
T = typing.TypeVar("T")
Alias = TypeAliasType("Alias", Annotated[int, "alias"])
ListOf = TypeAliasType("ListOf", list[T], type_params=(T,))  # type: ignore[valid-type, misc]


@pytest.mark.parametrize(
    ("annotation", "core", "base", "variant"),
    [
        (int, int, int, LeafType()),
        (Any, Any, Any, AnyType()),
        (None, None, None, LeafType()),
        (UUID, UUID, UUID, LeafType()),
        (list[int], list[int], list, SequenceType(int)),
        (list, list, list, SequenceType(Any)),
        (typing.Sequence[int], typing.Sequence[int], collections.abc.Sequence, SequenceType(int)),
        (dict[str, int], dict[str, int], dict, MappingType(str, int)),
        (typing.Mapping, typing.Mapping, collections.abc.Mapping, MappingType(Any, Any)),
        (tuple[int, str], tuple[int, str], tuple, LeafType()),
        (set[int], set[int], set, LeafType()),
        (Literal["a"], Literal["a"], Literal, LeafType()),
        (int | str, int | str, type(int | str), UnionType([int, str])),
        (Union[int, str], Union[int, str], type(int | str), UnionType([int, str])),  # noqa: UP007
        (Row, Row, Row, RecordType(Row)),
        (Pair, Pair, Pair, RecordType(Pair)),
        (Model, Model, Model, RecordType(Model)),
        (np.ndarray, np.ndarray, np.ndarray, SequenceType(Any)),
        (npt.NDArray[np.float32], npt.NDArray[np.float32], np.ndarray, SequenceType(np.float32)),
        (np.float32, np.float32, np.float32, LeafType()),
        (Name, str, str, LeafType()),
        (ListOf[int], list[int], list, SequenceType(int)),
    ],
    ids=str,
)
def test_the_kind_of_a_type(annotation: Any, core: Any, base: Any, variant: Any) -> None:
    info = analyze_type_info(annotation)
    assert (info.core_type, info.base_type, info.variant) == (core, base, variant)
    assert not info.nullable
    assert info.annotations == ()


def test_none_in_a_union_means_nullable() -> None:
    for annotation in (int | None, Optional[int], Union[None, int]):  # noqa: UP007, UP045
        info = analyze_type_info(annotation)
        assert (info.core_type, info.nullable) == (int, True)
    info = analyze_type_info(int | str | None)
    assert (info.core_type, info.nullable) == (int | str, True)
    assert info.variant == UnionType([int, str])


def test_metadata_is_collected_through_every_wrapper() -> None:
    assert analyze_type_info(Annotated[Annotated[int, 1], 2]).annotations == (1, 2)
    assert analyze_type_info(Annotated[Annotated[int, 1] | None, 2]).annotations == (1, 2)
    assert analyze_type_info(Annotated[Alias, 2]).annotations == ("alias", 2)
    info = analyze_type_info(Alias | None)
    assert (info.core_type, info.annotations, info.nullable) == (int, ("alias",), True)


def test_metadata_of_elements_stays_with_them() -> None:
    info = analyze_type_info(list[Annotated[int, 1]])
    assert info.variant == SequenceType(Annotated[int, 1])
    assert info.annotations == ()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement is newer")
def test_the_type_statement_is_unwrapped() -> None:
    space: dict[str, Any] = {}
    exec("type X = int | None\ntype Y[T] = dict[str, T]", space)
    assert analyze_type_info(space["X"]).nullable
    assert analyze_type_info(space["Y"][int]).variant == MappingType(str, int)


def test_fields_of_records() -> None:
    empty = inspect.Parameter.empty
    assert analyze_type_info(Row).variant.fields == [
        ("a", int, empty, None),
        ("b", Annotated[str | None, "note"], None, None),
        ("c", list[int], [], None),
    ]
    assert RecordType(Pair).fields == [("left", int, empty, None), ("right", str, "r", None)]
    assert RecordType(Model).fields == [
        ("a", Annotated[int, "note"], empty, None),
        ("b", str, "x", "what b is"),
    ]


def test_record_types() -> None:
    assert [is_record_type(t) for t in (Row, Pair, Model, int, dict, Row(1), list[int])] == [
        True, True, True, False, False, False, False,
    ]  # fmt: skip
    assert [is_namedtuple_type(t) for t in (Pair, tuple, Row)] == [True, False, False]
    assert [is_pydantic_model(t) for t in (Model, Row, 1)] == [True, False, False]


def test_numpy_number_types() -> None:
    numbers = (np.float32, np.int64, np.uint8, int, np.bool_, np.str_, np.complex64, 1)
    assert [is_numpy_number_type(t) for t in numbers] == [True] * 3 + [False] * 5
