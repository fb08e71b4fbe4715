from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import os
import pathlib
import re
import subprocess
import sys
import threading
import uuid
import zoneinfo
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoindex.core.memo_key import (
    NotMemoKeyable,
    fingerprint_object,
    fingerprint_value,
    memo_fingerprint,
    register_memo_key_function,
    register_not_memo_keyable,
    unregister_memo_key_function,
)
from cocoindex.core.sentinels import NON_EXISTENCE, MemoStateOutcome, NonExistenceType
from cocoindex.core.serde import serialize

key = memo_fingerprint
NAIVE = dt.datetime(2020, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None)


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Note:
    title: str
    body: Any = None


@dataclasses.dataclass
class Half:
    first: Any
    second: Any


@dataclasses.dataclass
class Memo:
    title: str
    body: Any = None


class Model(pydantic.BaseModel):
    a: int
    b: str = "x"


class Bag:
    def __init__(self, *items: str) -> None:
        self.items = set(items)


class Keyed:
    def __init__(self, key: Any, rest: Any = None) -> None:
        self.key = key
        self.rest = rest

    def __coco_memo_key__(self) -> object:
        return self.key


class Stated(Keyed):
    def __coco_memo_state__(self, prev_state: int | NonExistenceType) -> MemoStateOutcome:
        return MemoStateOutcome((self.rest, prev_state), memo_valid=True)


@pytest.fixture
def registry():
    types: list[type] = []

    def register(typ: type, key_fn: Callable[[Any], object], **kwargs: Any) -> None:
        types.append(typ)
        register_memo_key_function(typ, key_fn, **kwargs)

    yield register
    for typ in types:
        unregister_memo_key_function(typ)


# Scalars


def test_values_of_different_scalar_types_differ():
    values = [None, True, 1, 1.0, "1", b"1", 0, False, "", b"", key(1), (), 1j]
    assert len({key(v) for v in values}) == len(values)


def test_all_nans_are_equal_and_zeros_keep_their_sign():
    assert key(float("nan")) == key(-float("nan"))
    assert key(0.0) != key(-0.0)


@pytest.mark.parametrize("bits", [62, 63, 64, 127, 128, 20_000])
def test_integers_of_any_size_have_keys(bits):
    edge = 1 << bits
    around = [sign * edge + step for sign in (1, -1) for step in (-1, 0, 1)]
    assert len({key(value) for value in around}) == 6
    assert key(edge) == key(1 << bits)


def test_bytes_likes_are_bytes():
    assert key(b"ab") == key(bytearray(b"ab")) == key(memoryview(b"ab"))


def test_text_that_is_no_valid_unicode_has_a_key():
    assert key("\ud800") != key("\ud801")


# Containers


def test_lists_and_tuples_are_the_same_and_so_are_named_tuples():
    assert key([1, 2]) == key((1, 2)) == key(Point(1, 2)) == key(deque([1, 2]))


def test_within_sequences_scalars_of_subclasses_count_like_those_of_their_base():
    class Text(str):
        __slots__ = ()

    class Number(int): ...

    assert key([Text("a"), Number(1), bytearray(b"x")]) == key(("a", 1, b"x"))
    assert key([Text("a"), Number(2**70)]) == key(("a", 2**70))
    assert key([Text("\ud800"), 1]) == key(("\ud800", 1))


def test_sequences_of_scalars_are_told_apart():
    alike = ([76], [[]], ["L"], [b"L"], [True], [1], [1.0], [None], [], [2**64], [0xDEAD, ()], "L.")
    assert len({key(value) for value in alike}) == len(alike)


def test_text_is_no_sequence():
    assert key("ab") != key(["a", "b"])


def test_mappings_and_sets_have_no_order():
    assert key({"a": 1, 2: "b"}) == key({2: "b", "a": 1})
    assert key({"a": 1}) == key(OrderedDict(a=1)) == key(UserDict(a=1))
    assert key({1, "a", (2,)}) == key(frozenset({(2,), "a", 1}))
    assert key({(1, 2): "a", frozenset({3}): "b"}) == key({frozenset({3}): "b", (1, 2): "a"})


def test_containers_of_different_kinds_differ():
    assert len({key([]), key({}), key(set())}) == 3


def test_nesting_is_unambiguous():
    assert key([[1], 2]) != key([[1, 2]])
    assert key(["a", "bc"]) != key(["ab", "c"])
    assert key([[], [[]]]) != key([[[]], []])


def test_cycles_have_keys():
    first: list[Any] = [1]
    first.append(first)
    second: list[Any] = [1]
    second.append(second)
    assert key(first) == key(second)
    assert key(first) != key([1, [1]])


def test_sharing_inside_mappings_does_not_depend_on_order():
    shared = [1]
    assert key({"a": shared, "b": shared}) == key({"b": shared, "a": shared})


def test_sharing_of_tuples_does_not_matter():
    one, two = (tuple(range(3)) for _ in range(2))
    assert key([one, one]) == key([one, two])


def test_a_set_whose_member_refers_back_to_it_has_a_key():
    member = Bag()
    member.items = {member}
    assert key(member) == key(member)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def rebuilt(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(rebuilt(item) for item in value)
    if isinstance(value, dict):
        return {name: rebuilt(value[name]) for name in reversed(value)}
    return value


@given(json)
def test_a_rebuilt_value_has_the_same_key(value):
    assert key(value) == key(rebuilt(value))


# Objects


def test_dataclasses_are_told_apart_by_class_and_fields():
    assert key(Note("a")) == key(Note("a"))
    assert key(Note("a")) != key(Note("b"))
    assert key(Note("a")) != key(Memo("a"))


def test_a_field_that_was_never_set_has_a_place():
    half = Half("a", 1)
    del half.second
    assert key(half) not in {key(Half("a", None)), key(Half("a", 1))}


def test_pydantic_models_count_all_fields_also_unset_ones():
    assert key(Model(a=1)) == key(Model(a=1, b="x"))
    assert key(Model(a=1)) != key(Model(a=2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (uuid.UUID(int=1), uuid.UUID(int=2)),
        (NAIVE, NAIVE.replace(fold=1)),
        (NAIVE, dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
        (
            dt.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
            dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        ),
        (dt.date(2020, 1, 1), NAIVE),
        (dt.time(1), dt.time(2)),
        (dt.timedelta(1), dt.timedelta(2)),
        (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
        (pathlib.Path("a/b"), pathlib.Path("a/c")),
        (pathlib.Path("a"), "a"),
        (Color.RED, Color.BLUE),
        (Color.RED, "r"),
        (1j, 2j),
        (range(3), range(4)),
        (range(3), [0, 1, 2]),
        (re.compile("a"), re.compile("a", re.IGNORECASE)),
        (int, float),
        (Note, Memo),
        (len, max),
        (test_containers_of_different_kinds_differ, rebuilt),
        (np.array([1, 2]), np.array([1, 3])),
        (np.array([1, 2]), np.array([[1, 2]])),
        (np.array([1, 2], "int32"), np.array([1, 2], "int64")),
        (np.int32(1), np.int64(1)),
        (np.array(["a", {}], object), np.array(["b", {}], object)),
    ],
)
def test_well_known_values_are_told_apart(one, other):
    assert key(one) == key(one)
    assert key(one) != key(other)


def test_paths_are_the_same_on_every_platform():
    assert key(pathlib.PureWindowsPath("a\\b")) != key(pathlib.PurePosixPath("a\\b"))
    assert key(pathlib.PosixPath("a/b") if os.name == "posix" else pathlib.Path("a/b")) == key(
        pathlib.Path("a/b")
    )


def test_other_objects_are_taken_apart_and_their_sets_have_no_order():
    assert key(Bag("a", "b", "c")) == key(Bag("c", "b", "a"))
    assert key(Bag("a")) != key(Bag("b"))


def test_whether_equal_text_is_one_object_does_not_matter():
    text = "some text"
    copy = " ".join(text.split())
    assert copy is not text
    assert key(Bag(text)) == key(Bag(copy))
    assert key([Note(text, text)]) == key([Note(text, copy)])


class Unpicklable:
    def __reduce_ex__(self, protocol):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value", [threading.Lock(), (i for i in ()), Unpicklable(), sys, [threading.Lock()]]
)
def test_what_cannot_be_keyed_is_a_type_error_that_says_what_to_do(value):
    with pytest.raises(TypeError, match=r"Unsupported type for memoization key.*register"):
        key(value)


def test_the_key_of_a_coroutine_asks_for_its_await():
    async def read():
        return "text"

    forgotten = read()
    with pytest.raises(TypeError, match=r"<class 'coroutine'>: forgot `await`\?"):
        key(forgotten)
    forgotten.close()


def test_instances_of_local_classes_have_no_key():
    class Local:
        pass

    with pytest.raises(TypeError, match="Unsupported type for memoization key"):
        key(Local())


def test_fingerprint_object_is_the_same_as_bytes():
    assert fingerprint_object([1, "a"]) == key([1, "a"]).as_bytes()


# Keys of the user's own


def test_an_object_is_identified_by_its_memo_key():
    assert key(Keyed(1, "a")) == key(Keyed(1, "b"))
    assert key(Keyed(1)) != key(Keyed(2))
    assert key(Keyed(1)) != key(1)


def test_a_class_with_a_memo_key_is_itself_keyed_by_name():
    assert key(Keyed) != key(Stated)


def test_a_state_method_changes_the_key():
    class Plain(Keyed):
        pass

    before = key(Plain(1))
    unregister_memo_key_function(Plain)  # forget what was resolved
    Plain.__coco_memo_state__ = Stated.__coco_memo_state__
    assert key(Plain(1)) != before


def test_a_registered_key_function_serves_subclasses(registry):
    class Base:
        def __init__(self, name):
            self.name = name

    class Derived(Base):
        pass

    registry(Base, lambda value: value.name)
    assert key(Base("a")) == key(Derived("a"))
    assert key(Base("a")) != key(Base("b"))


def test_the_most_specific_and_the_last_registration_win(registry):
    class Base:
        pass

    class Derived(Base):
        pass

    registry(Base, lambda _: "base")
    registry(Derived, lambda _: "derived")
    assert key(Base()) != key(Derived())
    before = key(Derived())
    registry(Derived, lambda _: "again")
    assert key(Derived()) != before


def test_unregistering_what_is_not_registered_is_fine():
    unregister_memo_key_function(Note)


def test_the_objects_own_key_wins_over_a_registered_one(registry):
    registry(Keyed, lambda _: "registered")
    assert key(Keyed(1)) != key(Keyed(2))


def test_types_that_are_not_keyable_are_refused_also_when_nested():
    class Session(NotMemoKeyable):
        __slots__ = ()

    class Connection:
        pass

    register_not_memo_keyable(Connection)
    try:
        for value in (Session(), [Session()], Connection(), {"a": Connection()}):
            with pytest.raises(TypeError, match="cannot be used as a memoization key"):
                key(value)
    finally:
        unregister_memo_key_function(Connection)


# State functions


def test_state_functions_are_collected_in_order_from_everywhere():
    states: list[Any] = []
    value = [Stated(1, "a"), {"z": Stated(2, "c"), "b": Note("t", Stated(3, "b"))}]
    fingerprint_value(value, states)
    assert [s.call(NON_EXISTENCE).state[0] for s in states] == ["a", "b", "c"]


def test_state_functions_inside_sets_have_a_stable_order():
    def labels(values):
        states: list[Any] = []
        fingerprint_value(values, states)
        return [s.call(None).state[0] for s in states]

    items = [Stated(i, i) for i in range(20)]
    other_order = sorted(items, key=id, reverse=True)
    assert labels(set(items)) == labels(set(other_order))
    assert sorted(labels(set(items))) == list(range(20))


def test_a_state_is_read_as_the_type_that_the_method_takes():
    @dataclasses.dataclass
    class Seen:
        at: int

    class File(Keyed):
        def __coco_memo_state__(self, prev_state):
            return MemoStateOutcome(prev_state)

    File.__coco_memo_state__.__annotations__["prev_state"] = Seen | NonExistenceType
    states: list[Any] = []
    fingerprint_value(File("f"), states)
    assert states[0].decode(serialize(Seen(3))) == Seen(3)


def test_a_registered_state_function_gets_object_and_state(registry):
    class Plain:
        name = "n"

    def state(value: Plain, prev: tuple[int, ...] | NonExistenceType) -> MemoStateOutcome:
        return MemoStateOutcome((value.name, prev))

    registry(Plain, lambda v: v.name, state_fn=state)
    states: list[Any] = []
    fingerprint_value(Plain(), states)
    assert states[0].call(5).state == ("n", 5)


def test_an_object_with_only_a_state_method_is_keyed_as_usual():
    states: list[Any] = []
    value = StatedNote("a")
    fingerprint_value([value, StatedNote("b")], states)
    assert len(states) == 2
    assert key(StatedNote("a")) == key(StatedNote("a")) != key(StatedNote("b"))


@dataclasses.dataclass
class StatedNote:
    title: str

    def __coco_memo_state__(self, prev_state):
        return MemoStateOutcome(1)


# Stability


GOLDEN = {
    "None": "e10dae842ad17750daa56c042e3ba697",
    "True": "626c7079e07508b2e63526f30a37cb15",
    "1": "ffe040fc7e946efe1f3e3038facad85c",
    "1.0": "b7f4d1dd566d1995efad4be55dd1cf4f",
    "'1'": "8a2fb41d17190d988db1f7f7202ec24f",
    "b'1'": "bfb70c4f6947c4584e7e591b5f7a7c40",
    "float('nan')": "d4a98b7ea5152c87b7a425f861f50221",
    "2**80": "5fff0530329bace26caa328f4950c449",
    "-2**80": "83f5b69d129d5300a537f24bebaa079c",
    "[1, 'a', (None, b'x')]": "4f1aacfae693ba192edc534716396d94",
    "{'b': 1, 'a': [2], 3: {4}}": "12c41c903af80a199cfe2337587f5086",
    "frozenset({'a', 'b', (1, 2)})": "2676b9fc47e7973e1cbe7f73e77f24a2",
    "uuid.UUID(int=3)": "b1395e1775e7189d26475889a8a983b8",
    "dt.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)": "22c6ac4d9b69eb01bd684ba92ec274e9",
    "dt.datetime(2020, 1, 2, tzinfo=zoneinfo.ZoneInfo('UTC'))": "08504f9e500ea7d1148ca90019524bd7",
    "dt.date(2020, 1, 2)": "28327d51e2d324f12d3e7061c6c518ea",
    "dt.timedelta(days=1, microseconds=5)": "96487f9b17ebfcdf80734666522b28d3",
    "decimal.Decimal('1.50')": "608b36d569fe79d76a0db9200928c42b",
    "pathlib.PurePosixPath('a/b')": "80c55ce01f7fa5e4421d10e2c40989ab",
    "pathlib.Path('a/b')": "93da8ca5f0e8267b5d8a082a429739cf",
    "re.compile('a+', re.I)": "b58950dc085bf803d36ab1168c9a94eb",
    "1 + 2j": "313a6f3fdbc7b00016d332ab6762f8d3",
    "range(1, 9, 2)": "78b0acba4f6fb7469d3fea6cb1366894",
    "int": "b274205110756d6103aa14b1c1d711c1",
    "collections.OrderedDict(a=1)": "6fbe76292ba4d46be890f855be498441",
    "len": "6402638f953c4265ff3cbd06173bdbf4",
    "fractions.Fraction(1, 3)": "38e490458a9d683eb5b57ccf8f2e0a23",
    "np.array([[1.5, 2.5]], dtype='<f4')": "daa908d08ab6cb0dac666ba6359a3a46",
    "np.int64(5)": "85edd870d493d81ce89372469a44ae48",
    "memo_fingerprint(1)": "4fd2ae23215dc9f04a32a42a37b9fe33",
}
"""Keys are for ever: a change here recomputes everybody's memos. It must be deliberate, bump the
format version of the store, and be in the changelog."""

SCRIPT = """
import collections, datetime as dt, decimal, fractions, pathlib, re, sys, uuid, zoneinfo
import numpy as np
from cocoindex.core.memo_key import memo_fingerprint
for line in sys.stdin:
    print(memo_fingerprint(eval(line)).as_bytes().hex())
"""


@pytest.mark.parametrize("seed", ["0", "4711"])
def test_keys_are_golden(seed):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input="\n".join(GOLDEN),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert dict(zip(GOLDEN, done.stdout.split(), strict=True)) == GOLDEN
