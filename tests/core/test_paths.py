from __future__ import annotations

import pickle
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoindex.core.keys import INT_MAX, INT_MIN, KeyFingerprint, Symbol, encode_path, path_text
from cocoindex.core.paths import (
    MAX_CANDIDATES,
    ROOT_PATH,
    StablePath,
    parse_path,
    parse_path_candidates,
    resolve_path,
)

NAMES = st.text(min_size=1) | st.sampled_from(["cocoindex/localfs", "a", "<lambda>", "a b", "1"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(INT_MIN, INT_MAX)
    | st.text()
    | st.text(alphabet='/"\\[],@b#1\n')
    | st.binary()
    | st.uuids()
    | NAMES.map(Symbol)
    | st.binary(min_size=16, max_size=16).map(KeyFingerprint)
)
KEYS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)
PATHS = st.lists(KEYS, max_size=4).map(tuple)


def has_slashed_symbol(keys: tuple[Any, ...]) -> bool:
    return any(isinstance(key, Symbol) and "/" in key.name for key in keys)


@given(PATHS)
def test_reading_inverts_the_text_form(keys: tuple[Any, ...]) -> None:
    if not has_slashed_symbol(keys):
        assert encode_path(parse_path(path_text(keys))) == encode_path(keys)


@given(PATHS)
def test_the_path_shown_is_among_the_candidates_and_is_found(keys: tuple[Any, ...]) -> None:
    wanted = encode_path(keys)
    prefixes = {encode_path(keys[:n]) for n in range(len(keys) + 1)}
    found = resolve_path(path_text(keys), lambda prefix: encode_path(prefix) in prefixes)
    assert found is not None
    assert encode_path(found) == wanted
    candidates = parse_path_candidates(path_text(keys))
    if len(candidates) < MAX_CANDIDATES:
        assert wanted in {encode_path(candidate) for candidate in candidates}


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("/", ()),
        ("", ()),
        ('/"files"/"a.txt"', ("files", "a.txt")),
        ("/files/a.txt", ("files", "a.txt")),
        ("/files/", ("files",)),
        ('/"a/b"/c', ("a/b", "c")),
        ('/"\\u{e9}\\n\\"\\x41"', ('é\n"A',)),
        ("/1/-2/true/false/null", (1, -2, True, False, None)),
        ("/01", ("01",)),
        ("/-0", ("-0",)),
        ("/99999999999999999999", ("99999999999999999999",)),
        ("/00000000-0000-0000-0000-000000000005", (UUID(int=5),)),
        ('/b"a/\\xff"', (b"a/\xff",)),
        ('/["t",2,[@a/b,null]]/x', (("t", 2, (Symbol("a/b"), None)), "x")),
        ('/@cocoindex/localfs/[null,"/out"]', (Symbol("cocoindex/localfs"), (None, "/out"))),
        ("/@a/@b", (Symbol("a"), Symbol("b"))),
        ('/@"x\\"y"/1', (Symbol('x"y'), 1)),
        ("/@", ("@",)),
        ('/say "hi"', ('say "hi"',)),
        ('/"open', ('"open',)),
        ("/[1,", ("[1,",)),
    ],
)
def test_reading_a_path(text: str, keys: tuple[Any, ...]) -> None:
    assert encode_path(parse_path(text)) == encode_path(keys)


def test_a_bare_word_is_a_string_first_and_then_the_other_types() -> None:
    assert parse_path_candidates("/1/true") == [("1", "true"), ("1", True), (1, "true"), (1, True)]
    assert parse_path_candidates("/@s") == [("@s",), (Symbol("s"),)]


def test_a_key_in_its_shown_form_is_not_a_bare_word() -> None:
    assert parse_path_candidates('/"1"/["a"]/b"x"') == [("1", ("a",), b"x")]


def test_the_stored_reading_wins() -> None:
    stored = {(), (1,), (1, "true")}
    assert resolve_path("/1/true", lambda keys: keys in stored) == (1, "true")
    assert resolve_path("/2", lambda keys: keys in stored) is None


def test_the_name_of_a_symbol_may_span_parts() -> None:
    candidates = parse_path_candidates("/@a/b/1")
    assert (Symbol("a/b"), 1) in candidates
    assert (Symbol("a/b/1"),) in candidates
    assert (Symbol("a"), "b", "1") in candidates


def test_an_empty_part_is_refused() -> None:
    for read in (parse_path, parse_path_candidates):
        with pytest.raises(ValueError, match="empty part"):
            read("/a//b")


def test_candidates_of_a_long_ambiguous_path_are_bounded() -> None:
    assert len(parse_path_candidates("/1" * 64)) == MAX_CANDIDATES


def test_a_path_is_built_key_by_key() -> None:
    path = ROOT_PATH / "files" / ["t", 1]
    assert path.parts() == ["files", ("t", 1)]
    assert path == ROOT_PATH.concat_part("files").concat_part(("t", 1))
    assert str(path) == repr(path) == '/"files"/["t",1]'
    assert str(StablePath()) == "/"


def test_wrapping_a_path_is_a_no_op() -> None:
    path = ROOT_PATH / "a"
    assert StablePath(path) == path
    assert hash(StablePath(path)) == hash(path)
    assert StablePath(["a"]) == path


def test_paths_equal_in_python_stay_apart() -> None:
    assert ROOT_PATH / 1 != ROOT_PATH / True
    assert len({ROOT_PATH / 1, ROOT_PATH / True, ROOT_PATH / "1", ROOT_PATH / b"1"}) == 4


@given(PATHS, PATHS)
def test_paths_sort_by_their_keys(a: tuple[Any, ...], b: tuple[Any, ...]) -> None:
    first, second = StablePath(a), StablePath(b)
    assert (first < second) == (encode_path(a) < encode_path(b))
    assert (first >= second) == (not first < second)


def test_a_path_pickles_and_decodes() -> None:
    path = ROOT_PATH / "a" / Symbol("s")
    assert pickle.loads(pickle.dumps(path)) == path
    assert StablePath.from_encoded(path.encoded) == path


def test_the_memo_key_is_the_text() -> None:
    assert (ROOT_PATH / "a").__coco_memo_key__() == '/"a"'


def test_paths_are_immutable_and_take_no_text() -> None:
    with pytest.raises(AttributeError):
        ROOT_PATH._keys = ()  # type: ignore[misc]
    with pytest.raises(ValueError, match="not text"):
        StablePath("/a")
    with pytest.raises(TypeError, match="Unsupported StableKey"):
        ROOT_PATH / 1.5  # type: ignore[operator]
