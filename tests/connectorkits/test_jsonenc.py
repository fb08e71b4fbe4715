from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoindex.connectorkits.jsonenc import dumps


@dataclass
class Inner:
    x: int
    when: dt.date


class Pair(NamedTuple):
    a: int
    b: Any


class Struct(msgspec.Struct):
    n: int
    inner: Inner


class Model(pydantic.BaseModel):
    n: int
    at: dt.datetime


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


SOME_ID = UUID("12345678-1234-5678-1234-567812345678")
DAY = dt.date(2024, 2, 29)

CASES = [
    (None, "null"),
    (True, "true"),
    (1, "1"),
    (1.5, "1.5"),
    ("ü\n", '"ü\\n"'),
    ([1, "a", None], '[1,"a",null]'),
    ((1, 2), "[1,2]"),
    ({3, 1, 2}, "[1,2,3]"),
    (frozenset({"b", "a"}), '["a","b"]'),
    ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
    ({1: "x", None: "y", False: "z"}, '{"1":"x","false":"z","null":"y"}'),
    ({SOME_ID: 1, DAY: 2}, f'{{"{SOME_ID}":1,"2024-02-29":2}}'),
    (Inner(5, DAY), '{"when":"2024-02-29","x":5}'),
    ([Inner(5, DAY)], '[{"when":"2024-02-29","x":5}]'),
    (Pair(1, Pair(2, None)), '{"a":1,"b":{"a":2,"b":null}}'),
    (Struct(1, Inner(2, DAY)), '{"inner":{"when":"2024-02-29","x":2},"n":1}'),
    (
        Model(n=1, at=dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
        '{"at":"2024-01-01T00:00:00Z","n":1}',
    ),
    (dt.datetime(2024, 1, 1, 2, 3, tzinfo=dt.UTC), '"2024-01-01T02:03:00+00:00"'),
    (dt.time(1, 2), '"01:02:00"'),
    (dt.timedelta(days=1, seconds=1.5), '"P1DT1.5S"'),
    (SOME_ID, f'"{SOME_ID}"'),
    (Decimal("1.10"), '"1.10"'),
    (Colour.RED, '"red"'),
    (Level.LOW, "1"),
    (b"\x00\xff", '"AP8="'),
    (np.int32(7), "7"),
    (np.float64(0.5), "0.5"),
    (np.bool_(True), "true"),
    (np.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
    ([0.5, 1.5], "[0.5,1.5]"),
    (2**70, str(2**70)),
    ({"n": -(2**70)}, f'{{"n":{-(2**70)}}}'),
]


@pytest.mark.parametrize(("value", "expected"), CASES)
def test_what_has_a_structure_keeps_it(value, expected):
    assert dumps(value) == expected


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (math.nan, r"\$"),
        ([1, math.inf], r"\$\[1\]"),
        ({"a": {"b": [0, -math.inf]}}, r"\$\.a\.b\[1\]"),
        (np.array([1.0, math.nan]), r"\$\[1\]"),
        ({"d": Decimal("NaN")}, r"\$\.d"),
    ],
)
def test_nan_and_infinities_are_refused_with_their_place(value, where):
    with pytest.raises(ValueError, match=rf"no NaN and no infinity \(at {where}\)"):
        dumps(value)


def test_nan_may_become_null():
    assert dumps([math.nan, 1.0, Decimal("NaN")], nan_as_null=True) == "[null,1.0,null]"


@pytest.mark.parametrize("value", [object(), {"a": object()}, {(1, 2): 3}, [1j], int, len])
def test_nothing_becomes_its_str(value):
    with pytest.raises(TypeError, match="JSON"):
        dumps(value)


def test_keys_that_would_be_one_are_refused():
    with pytest.raises(ValueError, match="same text"):
        dumps({1: "a", "1": "b"})


def test_what_contains_itself_is_refused():
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="contains itself"):
        dumps(loop)


def test_text_that_is_not_unicode_is_refused_without_being_quoted():
    with pytest.raises(ValueError, match="surrogate") as error:
        dumps(["secret\ud800"])
    assert "secret" not in str(error.value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(PLAIN)
def test_plain_values_come_back(value):
    assert json.loads(dumps(value)) == value
