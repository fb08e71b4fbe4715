from __future__ import annotations

import datetime as dt
import enum
import pathlib
import pickle
import resource
import subprocess
import sys
import typing
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import numpy as np
import numpy.typing as npt
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoindex.core import serde
from cocoindex.core.sentinels import NonExistenceType
from cocoindex.core.serde import (
    deserialize,
    get_deserialize_fn,
    make_deserialize_fn,
    serialize,
    serialize_by_pickle,
    survives_generic_round_trip,
    unpickle_safe,
)
from cocoindex.errors import CocoIndexError, DeserializationError, SerializationError


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    size: int
    digest: bytes
    when: dt.datetime
    where: pathlib.PurePosixPath
    tags: frozenset[str] = frozenset()
    colour: Colour = Colour.RED
    vector: npt.NDArray[np.float32] | None = field(default=None, compare=False)


class Point(NamedTuple):
    x: int
    y: complex


class Shape(msgspec.Struct, tag=True):
    sides: int


class Model(pydantic.BaseModel):
    name: str
    when: dt.datetime
    numbers: set[int] = set()


class StrictModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    when: dt.datetime
    ident: UUID


@dataclass
class Holder:
    model: Model
    path: pathlib.Path


@serialize_by_pickle
class Money:
    def __init__(self, amount: Decimal, notes: dict[str, Any]) -> None:
        self.amount = amount
        self.notes = notes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"Money({self.amount})"

    __hash__ = None  # type: ignore[assignment]


@unpickle_safe
class Slotted:
    __slots__ = ("a", "b")
    b: Any

    def __init__(self, a: int) -> None:
        self.a = a


class Plain:
    pass


WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)

JSONISH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(alphabet=st.characters() | st.just("\ud800"))
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(JSONISH)
def test_plain_values_survive_without_a_type(value: Any) -> None:
    back = deserialize(serialize(value))
    assert back == value
    assert repr(back) == repr(value)


TYPED = (
    st.tuples(st.just(int), st.integers())
    | st.tuples(st.just(float), st.floats(allow_nan=False))
    | st.tuples(st.just(str), st.text())
    | st.tuples(st.just(bytes), st.binary())
    | st.tuples(st.just(UUID), st.uuids())
    | st.tuples(st.just(Decimal), st.decimals(allow_nan=False))
    | st.tuples(st.just(dt.date), st.dates())
    | st.tuples(st.just(dt.time), st.times())
    | st.tuples(st.just(dt.datetime), st.datetimes())
    | st.tuples(st.just(dt.timedelta), st.timedeltas())
    | st.tuples(st.just(complex), st.complex_numbers(allow_nan=False))
    | st.tuples(st.just(set[int]), st.sets(st.integers(-(2**63), 2**64 - 1)))
    | st.tuples(st.just(tuple[str, ...]), st.lists(st.text()).map(tuple))
    | st.tuples(st.just(dict[int, bytes]), st.dictionaries(st.integers(0, 9), st.binary()))
    | st.tuples(st.just(list[complex]), st.lists(st.complex_numbers(allow_nan=False)))
)


@given(TYPED)
def test_typed_values_survive(case: tuple[Any, Any]) -> None:
    hint, value = case
    back = deserialize(serialize(value), hint)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Record, Record("a", 1, b"\0", WHEN, pathlib.PurePosixPath("x/y"), frozenset({"t"}))),
        (Point, Point(1, 2 + 3j)),
        (Shape, Shape(3)),
        (Model, Model(name="a", when=WHEN, numbers={1})),
        (Model | None, Model(name="a", when=WHEN)),
        (Model | None, None),
        (StrictModel, StrictModel(when=WHEN, ident=UUID(int=7))),
        (list[Model], [Model(name="a", when=WHEN)]),
        (Holder, Holder(Model(name="a", when=WHEN), pathlib.Path("p"))),
        (Colour, Colour.RED),
        (pathlib.Path, pathlib.Path("a/b")),
        (pathlib.Path | str, pathlib.Path("a/b")),
        (pathlib.PureWindowsPath, pathlib.PureWindowsPath("c:\\a")),
        (type, int),
        (type, type(None)),
        (type, np.float32),
        (Money, Money(Decimal("1.5"), {"a": {1, 2}, "w": WHEN, "u": UUID(int=1)})),
        (dict[str, Money], {"a": Money(Decimal(1), {"p": pathlib.Path("x"), "n": None})}),
        (np.dtype, np.dtype("<f4")),
        (None, None),
    ],
    ids=lambda case: getattr(case, "__name__", None),
)
def test_a_value_comes_back_as_its_declared_type(hint: Any, value: Any) -> None:
    back = make_deserialize_fn(hint)(serialize(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        np.arange(10)[::2],
        np.array([]),
        np.zeros((0, 5), dtype=np.int8),
        np.array(3.5),
        np.array([1, "a", None], dtype=object),
        np.asfortranarray(np.array([[1, "a"], [None, 2]], dtype=object)),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.array([1, 2], dtype="m8[25us]"),
        np.array(["ab", "c"]),
        np.array([b"ab", b"c"]),
        np.array([1, 2], dtype=">i2"),
        np.array([True, False]),
        np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", ">f8")]),
        np.array([(1, 2.5)], dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        np.zeros(2, dtype=[("m", "f4", (2, 2))]),
    ],
    ids=lambda a: f"{a.dtype}-{a.shape}",
)
def test_arrays_survive_alone_and_nested(array: np.ndarray) -> None:
    for back in (
        deserialize(serialize(array), np.ndarray),
        deserialize(serialize({"v": array}), dict[str, npt.NDArray[Any]])["v"],
    ):
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert back.flags["F_CONTIGUOUS"] == array.flags["F_CONTIGUOUS"] or array.ndim == 1
        np.testing.assert_array_equal(back, array)


def test_an_array_read_back_can_be_written_to() -> None:
    back = deserialize(serialize(np.zeros(3)))
    back[0] = 1
    assert back[0] == 1


@pytest.mark.parametrize(
    ("value", "route"),
    [
        (1, 0x01),
        ([1], 0x01),
        (Shape(3), 0x01),
        (UUID(int=1), 0x01),
        (Model(name="a", when=WHEN), 0x02),
        (1j, 0x80),
        (pathlib.PurePosixPath("a"), 0x80),
        (int, 0x80),
        (np.zeros(2), 0x80),
        (np.dtype("i4"), 0x80),
    ],
    ids=str,
)
def test_the_first_byte_says_the_route(value: Any, route: int) -> None:
    assert serialize(value)[0] == route


def test_what_msgpack_has_no_room_for_is_still_lossless() -> None:
    values = [2**70, ["\ud800", {"a": -(2**64)}], {"k": {2**99}}]
    assert [deserialize(serialize(value)) for value in values] == values
    assert deserialize(serialize(2**70), int) == 2**70


class Options(typing.TypedDict):
    size: int


@pytest.mark.parametrize(
    ("hint", "value"),
    [(float, 2**70), (Options, {"size": 2**70}), (dict[str, int] | None, {"a": 2**70})],
    ids=str,
)
def test_such_values_fit_the_types_they_fit_anyway(hint: Any, value: Any) -> None:
    assert deserialize(serialize(value), hint) == value


@pytest.mark.parametrize("value", [Plain(), [Plain()], {"a": (Plain(),)}, np.float64(1.0)])
def test_what_cannot_be_written_is_named(value: Any) -> None:
    name = "float64" if isinstance(value, np.floating) else "Plain"
    with pytest.raises(SerializationError, match=f"Cannot serialize {name}") as caught:
        serialize(value, source_label="return value of m.f()")
    assert "return value of m.f()" in str(caught.value)
    assert isinstance(caught.value, NotImplementedError)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, CocoIndexError)


def test_a_value_within_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(SerializationError, match="in itself"):
        serialize(endless)


def test_what_pickle_refuses_is_a_serialization_error() -> None:
    with pytest.raises(SerializationError, match="by pickle"):
        serialize(Money(Decimal(1), {"f": lambda: 1}))


def test_a_number_out_of_range_inside_a_record_is_a_serialization_error() -> None:
    with pytest.raises(SerializationError, match="Cannot serialize Shape"):
        serialize(Shape(2**70))


def test_without_a_type_a_record_comes_back_generic() -> None:
    assert deserialize(serialize(Shape(3))) == {"type": "Shape", "sides": 3}
    assert deserialize(serialize(Point(1, 2j))) == [1, 2j]
    when = deserialize(serialize(Model(name="a", when=WHEN)))
    assert when == {"name": "a", "when": "2026-01-02T03:04:05.678901Z", "numbers": []}


def test_failures_name_the_hint_and_the_source() -> None:
    read = make_deserialize_fn(int, "return type of m.f()")
    for payload in (
        serialize("a"),
        serialize(pathlib.Path("x")),
        b"\x01\xc1",
        b"\x07",
        b"",
        b"\x02\xc1",
    ):
        with pytest.raises(DeserializationError) as caught:
            read(payload)
        assert "int" in str(caught.value)
        assert "return type of m.f()" in str(caught.value)
        assert isinstance(caught.value, ValueError)


def test_an_unknown_routing_byte_is_named() -> None:
    with pytest.raises(DeserializationError, match="routing byte: 0x7"):
        deserialize(b"\x07abc")


def test_a_union_of_classes_fails_only_when_such_a_payload_is_read() -> None:
    read = make_deserialize_fn(pathlib.Path | Money | str)
    assert read(serialize(pathlib.Path("x"))) == pathlib.Path("x")
    with pytest.raises(DeserializationError, match="tagged"):
        read(serialize("a"))


def test_tagged_structs_may_share_a_union() -> None:
    class Other(msgspec.Struct, tag=True):
        n: int

    assert deserialize(serialize(Other(1)), Shape | Other) == Other(1)


def test_a_hint_may_be_found_late() -> None:
    asked = []

    def late() -> Any:
        asked.append(1)
        return tuple[int, ...]

    read = make_deserialize_fn(late)
    assert asked == []
    assert [read(serialize((1, 2))), read(serialize(()))] == [(1, 2), ()]
    assert asked == [1]


def test_the_sentinel_in_a_hint_is_ignored() -> None:
    assert deserialize(serialize(Shape(3)), Shape | NonExistenceType) == Shape(3)
    read = make_deserialize_fn(typing.Union[Money, None, NonExistenceType])  # noqa: UP007
    assert read(serialize(None)) is None


def test_deserializers_are_remembered() -> None:
    assert get_deserialize_fn(int) is get_deserialize_fn(int)
    assert get_deserialize_fn(typing.Annotated[int, []])(serialize(1)) == 1


def test_payloads_may_be_views() -> None:
    for value in (1, 1j, Model(name="a", when=WHEN)):
        assert deserialize(memoryview(serialize(value)), type(value)) == value


@pytest.mark.parametrize("hint", [Any, list[Any], tuple[int, ...], dict[str, Any], set[int]])
def test_hostile_msgpack_gives_a_clean_error_within_bounded_memory(hint: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for payload in (
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x64",
        b"\x81\xdd\x0f\xff\xff\xff",
        b"\xdc\xff\xff" * 10_000,
        b"\x91" * 100_000,
        b"\x81" * 100_000,
        b"\xc7\x01\x65\x00",
        b"\xc7\x02\x64\x80\x05",
    ):
        for route in (b"\x01", b"\x02"):
            with pytest.raises(DeserializationError):
                deserialize(route + payload, hint)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 128 * 1024


def test_a_user_error_while_reading_is_a_deserialization_error() -> None:
    @dataclass
    class Picky:
        n: int

        def __post_init__(self) -> None:
            if self.n == 2:
                raise KeyError("no twos")

    payload = serialize({"n": 2})
    with pytest.raises(DeserializationError, match="no twos"):
        deserialize(payload, Picky)


def test_a_forbidden_global_is_the_cause() -> None:
    hostile = pickle.dumps(subprocess.Popen)
    nested = b"\x01" + msgspec.msgpack.encode([msgspec.msgpack.Ext(100, hostile)])
    for payload in (hostile, nested):
        for hint in (Any, list[Any]):
            with pytest.raises(
                DeserializationError, match="Failed to deserialize pickle"
            ) as caught:
                deserialize(payload, hint)
            assert isinstance(caught.value.__cause__, pickle.UnpicklingError)
            assert "Forbidden global during unpickling: subprocess.Popen" in str(
                caught.value.__cause__
            )


def test_registered_classes_may_be_nested() -> None:
    slotted = Slotted(1)
    slotted.b = [Decimal("1.1"), OrderedDict(a=1), deque([1], maxlen=3)]
    back = deserialize(serialize([slotted]))[0]
    assert (back.a, back.b) == (1, slotted.b)
    assert back.b[2].maxlen == 3


def test_registering_a_record_by_pickle_warns() -> None:
    with pytest.warns(UserWarning, match="no effect"):

        @serialize_by_pickle
        @dataclass
        class Odd:
            n: int

    assert unpickle_safe(Plain) is Plain or True


def test_strict_mode_refuses_what_could_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Secretive:
        pass

    monkeypatch.setattr(serde, "_strict", False)
    value = Money(Decimal(1), {"e": Colour.RED})
    assert serialize(value)
    serde.enable_strict_serialize()
    with pytest.raises(SerializationError, match="Forbidden global"):
        serialize(value)
    assert serialize(Money(Decimal(1), {}))


@pytest.mark.parametrize(
    ("value", "survives"),
    [
        (1, True),
        ({"a": [1, None, b"x"]}, True),
        ({(1, "a"): 1}, True),
        ([pathlib.Path("x"), 1j, np.zeros(2)], True),
        (Money(Decimal(1), {}), True),
        ((1, 2), False),
        ([{1}], False),
        (Shape(1), False),
        ([Point(1, 2)], False),
        (UUID(int=1), False),
        (WHEN.replace(tzinfo=None), False),
        (Model(name="a", when=WHEN), False),
        (Colour.RED, False),
    ],
    ids=str,
)
def test_whether_a_value_needs_its_type_is_known(value: Any, survives: bool) -> None:
    assert survives_generic_round_trip(value) is survives
    back = deserialize(serialize(value))
    assert (type(back) is type(value)) or not survives


def test_plain_values_load_neither_numpy_nor_pydantic() -> None:
    code = (
        "import sys; from cocoindex.core.serde import *; "
        "from dataclasses import make_dataclass; D = make_dataclass('D', [('a', int)]); "
        "deserialize(serialize(D(1)), D); deserialize(serialize([1, 1j])); "
        "assert not {'numpy', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
