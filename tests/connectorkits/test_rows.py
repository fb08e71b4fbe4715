from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoindex.connectorkits.rows import (
    Field,
    RowCodec,
    RowOptions,
    fingerprinter,
    key_part,
    key_value,
    size_of,
    zoned,
)

SECRET = "nobody may see this"


def codec(*fields, key=("id",), **options):
    return RowCodec(
        fields or (Field("id", False), Field("text"), Field("n", False, int)),
        key,
        title="Test",
        table="t",
        options=RowOptions(**options),
    )


@dataclass
class Row:
    id: int
    text: str | None
    n: int


class TupleRow(NamedTuple):
    id: int
    text: str | None
    n: int


class Model(pydantic.BaseModel):
    id: int
    text: str | None
    n: int


@pytest.mark.parametrize(
    "row",
    [
        Row(1, "a", 2),
        TupleRow(1, "a", 2),
        Model(id=1, text="a", n=2),
        {"n": 2, "text": "a", "id": 1},
        MappingProxyType({"n": 2, "text": "a", "id": 1}),
    ],
)
def test_rows_of_any_kind_are_encoded_alike(row):
    assert codec().encode(row) == ((1,), (1, "a", 2))


def test_a_dict_may_leave_nullable_columns_out():
    assert codec().encode({"id": 1, "n": 2}) == ((1,), (1, None, 2))


def test_encoders_see_every_value_but_none():
    made = codec(Field("id", False, str), Field("a", True, len)).encode({"id": 7, "a": "xyz"})
    assert made == ((7,), ("7", 3))
    assert codec(Field("id", False), Field("a", True, len)).encode({"id": 7, "a": None})[1] == (
        7,
        None,
    )


def test_one_column_is_enough():
    only = codec(Field("id", False))
    assert only.encode({"id": 1}) == ((1,), (1,))
    assert only.encode(MappingProxyType({"id": 1})) == ((1,), (1,))


def test_keys_have_the_order_of_the_key():
    made = codec(Field("a"), Field("b", key_encoder=str), Field("c"), key=("c", "b"))
    assert made.encode({"a": 1, "b": 2, "c": 3}) == ((3, "2"), (1, 2, 3))


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        ({"text": "a", "n": 1}, ValueError, "Test row is missing primary key column 'id'"),
        ({"id": None, "n": 1}, ValueError, "Test primary key column 'id' cannot be None"),
        (Row(None, "a", 1), ValueError, "Test primary key column 'id' cannot be None"),
        ({"id": 1, "text": "a"}, ValueError, r"table t, column 'n', row 1: missing, .* NOT NULL"),
        (Row(1, "a", None), ValueError, r"table t, column 'n', row 1: None, but .* NOT NULL"),
        ({"id": 1, "n": SECRET}, ValueError, r"table t, column 'n', row 1: .*\(ValueError\)"),
        ({"id": 1, "n": [SECRET]}, TypeError, r"table t, column 'n', row 1: .*\(TypeError\)"),
        ({"id": [SECRET], "n": 1}, TypeError, r"table t, column 'id': list can't be part"),
        (Decimal(1), TypeError, "has no attribute id, text, n"),
        (SECRET, TypeError, "a row must be a dict or a record, not str"),
        (None, TypeError, "not NoneType"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_without_its_values(row, error, message):
    with pytest.raises(error, match=message) as raised:
        codec().encode(row)
    assert SECRET not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_none_key_is_refused_though_its_encoder_would_take_it():
    made = codec(Field("id", key_encoder=str))
    with pytest.raises(ValueError, match="cannot be None"):
        made.encode({"id": None})


def test_bugs_of_encoders_are_not_hidden():
    def broken(_value):
        raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        codec(Field("id", encoder=broken)).encode({"id": 1})


def test_keys_that_are_no_columns_are_warned_of_once(caplog):
    made = codec()
    for _ in range(3):
        made.encode({"id": 1, "n": 1, "text": "x", "more": 1, "other": 2})
    assert len(caplog.messages) == 1
    assert "no columns: more, other" in caplog.messages[0]


def test_keys_that_are_no_columns_may_be_ignored_or_refused(caplog):
    row = {"id": 1, "n": 1, "more": 1}
    codec(extra="ignore").encode(row)
    assert caplog.messages == []
    with pytest.raises(ValueError, match="no columns: more"):
        codec(extra="error").encode(row)


@pytest.mark.parametrize("options", [{"extra": "x"}, {"naive_tz": "utc"}, {"naive_tz": 1}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match="must be"):
        RowOptions(**options)


# --- Keys ----------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


SOME_ID = UUID(int=5)
NOON = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (1, 1),
        ("a", "a"),
        (b"a", b"a"),
        (True, True),
        (SOME_ID, SOME_ID),
        (bytearray(b"a"), b"a"),
        (Colour.RED, "red"),
        (np.int32(5), 5),
        (NOON, "2024-01-01T12:00:00+00:00"),
        (NOON.astimezone(dt.timezone(dt.timedelta(hours=2))), "2024-01-01T12:00:00+00:00"),
        (dt.date(2024, 1, 1), "2024-01-01"),
        (dt.time(12), "12:00:00"),
        (Decimal("1.50"), "1.5"),
        (Decimal("1.5"), "1.5"),
        (Decimal(150), "150"),
        (Decimal("-0"), "0"),
        (0.1, "0.1"),
        (-0.0, "0.0"),
    ],
)
def test_anything_sensible_can_be_a_key(value, part):
    assert key_part(value) == part
    assert type(key_part(value)) is type(part)


@pytest.mark.parametrize("value", [math.nan, math.inf, Decimal("NaN")])
def test_numbers_that_equal_nothing_are_no_keys(value):
    with pytest.raises(ValueError, match="primary key"):
        key_part(value)


@pytest.mark.parametrize("value", [[1], {}, object(), 1j])
def test_other_values_are_no_keys(value):
    with pytest.raises(TypeError, match="primary key"):
        key_part(value)


KEYS = st.one_of(
    st.integers(), st.text(), st.dates(), st.times(), st.binary(),
    st.datetimes(timezones=st.just(dt.UTC)), st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip


@given(KEYS)
def test_a_value_comes_back_from_its_key(value):
    assert key_value(key_part(value), type(value)) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_a_decimal_comes_back_from_its_key(value):
    assert key_value(key_part(value), Decimal) == value


# --- Fingerprints --------------------------------------------------------------------------

VALUES = st.none() | st.integers() | st.text() | st.floats() | st.binary() | st.booleans()
ROWS = st.dictionaries(st.sampled_from("abcdef"), VALUES, min_size=1)


def digest(row: Mapping[str, object]) -> bytes:
    return fingerprinter([*row])(tuple(row.values()))


@given(ROWS, st.randoms())
def test_neither_order_nor_empty_columns_count(row, random):
    items = [*row.items(), ("new", None)]
    random.shuffle(items)
    assert digest(dict(items)) == digest(row)


@given(ROWS, ROWS)
def test_different_rows_have_different_fingerprints(one, other):
    def shape(row):
        return {(n, type(v).__name__, repr(v)) for n, v in row.items() if v is not None}

    assert (digest(one) == digest(other)) == (shape(one) == shape(other))


def test_a_value_does_not_pass_for_another_column_s():
    assert digest({"a": "x", "b": None}) != digest({"a": None, "b": "x"})
    assert digest({"a": 1}) != digest({"a": "1"})
    assert digest({"a": b"1"}) != digest({"a": "1"})


def test_what_a_user_s_encoder_makes_can_be_fingerprinted():
    array = np.array([1.0, 2.0])
    assert digest({"a": array}) == digest({"a": array.copy()})
    assert digest({"a": array}) != digest({"a": array * 2})
    assert digest({"a": array, "b": None}) == digest({"a": array})
    assert digest({"a": 2**100}) != digest({"a": 2**100 + 1})


def test_fingerprints_are_the_same_in_every_release():
    assert digest({"id": 1, "text": "a", "none": None}).hex() == "97b370dc6ddd6db2e6965bee13c75e3b"


def test_sizes_are_about_right():
    assert size_of(("abc", b"12", 5, None)) == 5 + 4 * 16
    assert size_of(None) > 0


# --- Time zones ----------------------------------------------------------------------------

NAIVE = dt.datetime(2024, 7, 1, 12)  # noqa: DTZ001 - that is its point
BERLIN = dt.timezone(dt.timedelta(hours=2))


def test_aware_times_become_utc():
    encode = zoned("error", lambda: None)
    assert encode(NAIVE.replace(tzinfo=BERLIN)).isoformat() == "2024-07-01T10:00:00+00:00"


def test_naive_times_are_read_as_said():
    warned = []
    assert zoned(BERLIN, lambda: None)(NAIVE).isoformat() == "2024-07-01T10:00:00+00:00"
    local = NAIVE.astimezone(dt.UTC)
    assert zoned("local", lambda: warned.append(1))(NAIVE) == local
    assert warned == []
    assert zoned(None, lambda: warned.append(1))(NAIVE) == local
    assert warned == [1]
    with pytest.raises(ValueError, match="naive_tz"):
        zoned("error", lambda: None)(NAIVE)
