from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict

import numpy as np
import pydantic
import pytest
from numpy.typing import NDArray

import cocoindex as coco
from cocoindex.connectorkits.columns import Mapped, TypeMapping, resolve
from cocoindex.connectorkits.tables import ColumnDef, TableSchema
from cocoindex.connectors import localfs
from cocoindex.resources.schema import MultiVectorSchema, VectorSchema


class MyType(NamedTuple):
    name: str
    encoder: Any = None


TYPES = TypeMapping(
    leaf={int: Mapped("int"), str: Mapped("text", str.upper), "float32": Mapped("real")},
    json=Mapped("json", repr),
    vector=lambda schema: Mapped(f"vector({schema.size})", len),
    annotation=MyType,
)


class Schema(TableSchema[Any]):
    types = TYPES


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Mixed(Enum):
    A = 1
    B = "b"


class Dictionary(TypedDict):
    a: int


UserId = NewType("UserId", int)
VECTOR = VectorSchema(3)


class Embedder:
    async def __coco_vector_schema__(self):
        return VECTOR


EMBEDDER = coco.ContextKey[Embedder]("tests/columns/embedder")


async def column(hint, overrides=None):
    (found,) = await resolve(make_dataclass("R", [("c", hint)]), TYPES, overrides)
    return found


@pytest.mark.parametrize(
    ("hint", "expected", "nullable"),
    [
        (int, "int", False),
        (int | None, "int", True),
        (UserId, "int", False),
        (np.float32, "real", False),
        (Colour, "text", False),
        (Mixed, "json", False),
        (Literal["a", "b"], "text", False),
        (Literal["a", 1], "json", False),
        (bytes, "json", False),
        (list[int], "json", False),
        (dict[str, Any], "json", False),
        (Dictionary, "json", False),
        (int | str, "json", False),
        (Any, "json", True),
        (Annotated[int, MyType(" special ")], "special", False),
        (Annotated[int | None, MyType("special")], "special", True),
        (Annotated[int, "a note"], "int", False),
        (Annotated[NDArray[np.float32], VECTOR], "vector(3)", False),
        (Annotated[NDArray[np.float32] | None, VECTOR], "vector(3)", True),
        (Annotated[list[float], VECTOR], "vector(3)", False),
        (Annotated[tuple[float, ...], VECTOR], "vector(3)", False),
        (Annotated[NDArray[np.float32], Embedder()], "vector(3)", False),
    ],
)
async def test_the_column_of_an_annotation(hint, expected, nullable):
    found = await column(hint)
    assert (found.name, found.type, found.nullable) == ("c", expected, nullable)


async def test_a_context_key_stands_for_its_value(tmp_path):
    found = []

    async def main():
        found.append(await column(Annotated[NDArray[np.float32], EMBEDDER]))

    environment = coco.Environment(coco.Settings(db_path=tmp_path / "db"))
    environment.context_provider.provide(EMBEDDER, Embedder())
    await coco.App(coco.AppConfig("columns", environment), main).update()
    environment.close()
    assert found[0].type == "vector(3)"


async def test_enums_are_encoded_by_value():
    encoder = (await column(Colour)).encoder
    assert encoder(Colour.RED) == "RED"
    assert encoder("blue") == "BLUE"


async def test_overrides_come_before_annotations():
    hint = Annotated[int, MyType("special")]
    assert (await column(hint, {"c": MyType("mine")})).type == "mine"
    assert (await column(NDArray[np.float32], {"c": VECTOR})).type == "vector(3)"


async def test_unknown_overrides_are_warned_of(caplog):
    await column(int, {"d": MyType("x"), "e": MyType("x")})
    assert "no fields d, e" in caplog.text


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        (NDArray[np.float32], "is required for NumPy ndarray type"),
        (Annotated[str, VECTOR], "needs a NumPy ndarray"),
        (Annotated[NDArray[np.float32], MultiVectorSchema(VECTOR)], "multi-vectors"),
    ],
)
async def test_vectors_and_their_schemas_belong_together(hint, message):
    with pytest.raises(ValueError, match=message) as error:
        await column(hint)
    assert "R.c" in str(error.value)


@dataclass
class Note:
    name: str
    words: int
    tags: list[str] | None = None


class NoteTuple(NamedTuple):
    name: str
    words: int
    tags: list[str] | None = None


class NoteModel(pydantic.BaseModel):
    name: str
    words: int
    tags: list[str] | None = None


@pytest.mark.parametrize("cls", [Note, NoteTuple, NoteModel])
async def test_a_schema_of_any_record_class(cls):
    schema = await Schema.from_class(cls, ["words"])
    assert schema.columns == {
        "name": ColumnDef("text", False, str.upper),
        "words": ColumnDef("int", False),
        "tags": ColumnDef("json", True, repr),
    }
    assert schema.primary_key == ["words"]
    assert schema.row_type is cls


@pytest.mark.parametrize("cls", [int, dict, "Note", None, list[int]])
async def test_other_classes_are_refused(cls):
    with pytest.raises(TypeError, match="record_type must be a record type"):
        await Schema.from_class(cls, ["id"])


def test_key_columns_are_never_nullable():
    schema = Schema({"a": ColumnDef("int"), "b": ColumnDef("int")}, ["a"])
    assert [column.nullable for column in schema.columns.values()] == [False, True]


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ([], ValueError, "at least one column"),
        (["x"], ValueError, r"Primary key column 'x' not found in columns: \['a'\]"),
        (["a", "a"], ValueError, "twice"),
        ("a", TypeError, r"\['a'\]"),
    ],
)
def test_keys_must_be_columns(key, error, message):
    with pytest.raises(error, match=message):
        Schema({"a": ColumnDef("int")}, key)


@pytest.mark.parametrize("kind", [Path, PurePosixPath | None, localfs.FilePath])
async def test_paths_are_refused_with_what_to_do(kind):
    """The tables of types have none for them, and JSON neither."""
    cls = make_dataclass("Note", [("name", str), ("path", kind)])
    with pytest.raises(
        TypeError, match=r"Note.path: \w+ has no column type: make it a str"
    ) as told:
        await resolve(cls, TYPES)
    assert "Annotated[…, MyType(…, str)]" in str(told.value)
    given = make_dataclass("Note", [("path", Annotated[Path, MyType("text", str)])])
    assert [column.type for column in await resolve(given, TYPES)] == ["text"]
