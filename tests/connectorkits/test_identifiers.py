from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoindex.connectorkits import identifiers


@pytest.mark.parametrize("name", ["a", "_a", "A1_b", "select"])
def test_plain_names_are_fine(name):
    assert identifiers.check(name, "table name") == name


@pytest.mark.parametrize("name", ["", "1a", "a b", "a-b", 'a"', "ä", "a\n", "a;", "a\0"])
def test_other_names_are_refused_and_the_way_out_is_named(name):
    with pytest.raises(ValueError, match=r"Invalid table name: .*; quoted=True allows"):
        identifiers.check(name, "table name")


@pytest.mark.parametrize("name", ["a b", "1a", "ä", "a-b", "a.b", "日本"])
def test_quoted_names_may_be_anything_without_quotes(name):
    assert identifiers.check(name, "table name", quoted=True) == name


@pytest.mark.parametrize("name", ["", 'a"', "a'", "a`", "a\0", "a\\", "a\ud800"])
def test_quoted_names_without_quotes_and_nul(name):
    with pytest.raises(ValueError, match="Invalid"):
        identifiers.check(name, "table name", quoted=True)


def test_a_name_must_be_text():
    with pytest.raises(TypeError, match="expected a str"):
        identifiers.check(1, "table name")


def test_length_is_counted_in_bytes():
    assert identifiers.check("ä" * 31, "x", quoted=True, max_bytes=63)
    with pytest.raises(ValueError, match="64 bytes; 63 are possible"):
        identifiers.check("ä" * 32, "x", quoted=True, max_bytes=63)


def test_derived_names_are_joined():
    assert identifiers.derived("docs", "vector", "emb") == "docs__vector__emb"


@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=4))
def test_derived_names_fit_and_are_the_same_every_time(parts):
    name = identifiers.derived(*parts, max_bytes=63)
    assert len(name.encode()) <= 63
    assert name == identifiers.derived(*parts, max_bytes=63)


def test_long_derived_names_stay_different():
    names = {identifiers.derived("t" * 60, f"column{i}", max_bytes=63) for i in range(100)}
    assert len(names) == 100
    assert all(name.startswith("t" * 50) for name in names)


def test_quotes_are_doubled():
    assert identifiers.quote('a"b') == '"a""b"'
