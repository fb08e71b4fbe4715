from __future__ import annotations

import contextlib
import enum
import pickle
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoindex.core.keys import (
    INT_MAX,
    INT_MIN,
    MAX_NESTING,
    KeyFingerprint,
    Symbol,
    decode_key,
    decode_path,
    encode_key,
    encode_path,
    key_segment,
    key_text,
    normalize_key,
    path_text,
)
from cocoindex.errors import CocoIndexError, DeserializationError, InvalidKeyError

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(INT_MIN, INT_MAX)
    | st.integers(-300, 300)
    | st.text()
    | st.text(alphabet="\x00\x01\x02ab\ud800\U0001f600")
    | st.binary()
    | st.binary(max_size=4).map(lambda b: b.replace(b"a", b"\x00").replace(b"b", b"\x01"))
    | st.uuids()
    | st.text().map(Symbol)
    | st.binary(min_size=16, max_size=16).map(KeyFingerprint)
)
KEYS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)


def rank(key: Any) -> tuple[Any, ...]:
    """The total order of keys, written down independently of the encoding."""
    if key is None:
        return (0,)
    if isinstance(key, Symbol):
        return (1, key.name)
    for position, kind in enumerate((bool, int, str, bytes, UUID), start=2):
        if isinstance(key, kind):
            return (position, key)
    if isinstance(key, tuple):
        return (7, tuple(rank(item) for item in key))
    return (8, key.digest)


def same(a: Any, b: Any) -> bool:
    return rank(a) == rank(b) and repr(a) == repr(b)


@given(KEYS)
def test_a_key_survives_the_round_trip(key: Any) -> None:
    assert same(decode_key(encode_key(key)), key)


@given(KEYS, KEYS)
def test_encoded_keys_sort_like_keys(a: Any, b: Any) -> None:
    assert (encode_key(a) < encode_key(b)) == (rank(a) < rank(b))
    assert (encode_key(a) == encode_key(b)) == (rank(a) == rank(b))


@given(KEYS, KEYS)
def test_no_encoded_key_is_a_prefix_of_another(a: Any, b: Any) -> None:
    first, second = encode_key(a), encode_key(b)
    assert first == second or not second.startswith(first)


@given(st.lists(KEYS, max_size=4), st.lists(KEYS, max_size=4))
def test_paths_round_trip_and_sort_lexicographically(a: list[Any], b: list[Any]) -> None:
    assert same(decode_path(encode_path(a)), tuple(a))
    by_rank = [rank(k) for k in a] < [rank(k) for k in b]
    assert (encode_path(a) < encode_path(b)) == by_rank


@pytest.mark.parametrize(
    ("low", "high"), [("a", "a\0"), ("a\0", "a\x01"), ("a\x01", "a\x02"), ("", "\0")]
)
def test_nul_and_soh_keep_their_order(low: str, high: str) -> None:
    assert encode_key(low) < encode_key(high)
    assert encode_key(low.encode()) < encode_key(high.encode())


def test_keys_equal_in_python_stay_apart() -> None:
    keys = [True, 1, "1", b"1", Symbol("1"), (1,), (True,)]
    assert len({encode_key(key) for key in keys}) == len(keys)


@pytest.mark.parametrize("number", [INT_MIN, INT_MAX, -256, -255, -257, 255, 256, 2**63, 0, -1])
def test_ints_at_the_edges_survive(number: int) -> None:
    assert decode_key(encode_key(number)) == number


class Pair(NamedTuple):
    left: str
    right: Any


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


def test_lists_and_named_tuples_become_plain_tuples() -> None:
    normal = normalize_key(Pair("a", [1, Pair("b", None)]))
    assert normal == ("a", (1, ("b", None)))
    assert type(normal) is tuple
    assert type(normal[1]) is tuple
    assert encode_key(Pair("a", [1])) == encode_key(("a", (1,)))


def test_subclasses_become_the_plain_type() -> None:
    assert type(normalize_key(Colour.RED)) is str
    assert normalize_key(Colour.RED) == "red"
    assert type(normalize_key(Level.LOW)) is int
    assert encode_key(Level.LOW) == encode_key(1)


class Tag(bytes):
    pass


def test_a_bytes_subclass_becomes_bytes() -> None:
    assert type(normalize_key(Tag(b"x"))) is bytes
    assert type(normalize_key((Tag(b"x"),))[0]) is bytes  # type: ignore[index]


@pytest.mark.parametrize("bad", [1.5, object(), {"a": 1}, {1}, bytearray(b"x")])
def test_an_unsupported_type_is_refused_with_the_supported_ones(bad: Any) -> None:
    for key in (bad, ("a", [bad])):
        for call in (normalize_key, encode_key):
            with pytest.raises(TypeError, match="Unsupported StableKey Python type") as caught:
                call(key)
            assert "Symbol" in str(caught.value)
            assert isinstance(caught.value, CocoIndexError)


@pytest.mark.parametrize(
    "number", [INT_MIN - 1, INT_MAX + 1, 1 << 20_000], ids=["low", "high", "huge"]
)
def test_an_int_out_of_range_is_refused_naming_the_key(number: int) -> None:
    for key in (number, ("row", number)):
        with pytest.raises(InvalidKeyError, match="outside") as caught:
            encode_key(key)
        assert isinstance(caught.value, (ValueError, OverflowError))
    with pytest.raises(OverflowError, match="row"):
        normalize_key(["row", 2**64])


def test_a_list_within_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidKeyError, match="nested deeper"):
        encode_key(endless)


def test_the_deepest_allowed_key_round_trips() -> None:
    key: Any = "x"
    for _ in range(MAX_NESTING):
        key = (key,)
    assert decode_key(encode_key(key)) == key


@given(st.binary(max_size=30))
def test_foreign_bytes_give_a_clean_error_or_a_key(data: bytes) -> None:
    for decode in (decode_key, decode_path):
        with contextlib.suppress(DeserializationError):
            decode(data)


@pytest.mark.parametrize(
    "data", [b"", b"0a", b"0a\0x", b"3", b"3" * 5000, b"2abc", b"\x20\x00", b"\x07", b"0\xff\0"]
)
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DeserializationError):
        decode_key(data)


@given(KEYS)
def test_a_segment_has_16_bytes_and_short_keys_are_readable_in_it(key: Any) -> None:
    encoded = encode_key(key)
    segment = key_segment(encoded)
    assert len(segment) == 16
    if len(encoded) <= 15:
        assert segment[1 : 1 + segment[0]] == encoded
    else:
        assert segment[0] == 0xFF


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (-5, "-5"),
        ("a", '"a"'),
        ("é😀'", '"é😀\'"'),
        ('q"\\\n\0', '"q\\"\\\\\\n\\u{0}"'),
        (b"x", 'b"x"'),
        (b'"\\\n\x00\xff', 'b"\\"\\\\\\n\\x00\\xff"'),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (("t", 2, ()), '["t",2,[]]'),
        (Symbol("cocoindex/localfs"), "@cocoindex/localfs"),
        (Symbol('a"b'), '@"a\\"b"'),
        (KeyFingerprint(bytes(16)), "#" + "0" * 32),
    ],
)
def test_text_form(key: Any, text: str) -> None:
    assert key_text(key) == text


def test_path_text() -> None:
    assert path_text(()) == "/"
    keys = ("a", 1, b"x", None, True, Symbol("s"), ("t", 2))
    assert path_text(keys) == '/"a"/1/b"x"/null/true/@s/["t",2]'


def test_symbols_are_equal_by_name_and_never_to_strings() -> None:
    assert Symbol("a") == Symbol("a")
    assert hash(Symbol("a")) == hash(Symbol("a"))
    assert Symbol("a") != Symbol("b")
    assert Symbol("a") != "a"
    assert repr(Symbol("a b")) == "Symbol(a b)"
    assert pickle.loads(pickle.dumps(Symbol("a"))) == Symbol("a")


def test_symbols_are_immutable_and_named_by_strings() -> None:
    with pytest.raises(AttributeError):
        Symbol("a").name = "b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Symbol(1)  # type: ignore[arg-type]
