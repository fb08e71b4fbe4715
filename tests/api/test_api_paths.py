"""Keys, symbols, paths and typestates."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

import cocoindex as coco

UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")


def test_the_root_path_is_the_empty_path() -> None:
    assert coco.StablePath() == coco.ROOT_PATH
    assert str(coco.ROOT_PATH) == "/"
    assert coco.ROOT_PATH.parts() == []


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1, "1"),
        (-5, "-5"),
        ("a", '"a"'),
        ('q"\\', '"q\\"\\\\"'),
        ("né", '"né"'),
        (b"x\x00", 'b"x\\x00"'),
        (UUID, str(UUID)),
        (("t", 2), '["t",2]'),
        ((), "[]"),
        (coco.Symbol("s"), "@s"),
    ],
)
def test_a_key_has_its_text_form(key: Any, text: str) -> None:
    path = coco.ROOT_PATH / key
    assert str(path) == f"/{text}"
    assert repr(path) == str(path)


def test_keys_join_to_a_path_and_come_back_as_parts() -> None:
    keys: list[Any] = ["a", 1, b"x", None, True, coco.Symbol("s"), ("t", 2)]
    path = coco.StablePath()
    for key in keys:
        path = path / key
    assert str(path) == '/"a"/1/b"x"/null/true/@s/["t",2]'
    assert path.parts() == keys
    assert isinstance(path.parts(), list)


def test_concat_part_is_the_slash() -> None:
    assert coco.ROOT_PATH.concat_part("a") == coco.ROOT_PATH / "a"


def test_wrapping_a_path_again_changes_nothing() -> None:
    path = coco.ROOT_PATH / "a" / 1
    assert coco.StablePath(path) == path


def test_paths_are_values() -> None:
    one, two = coco.ROOT_PATH / "a", coco.ROOT_PATH / "a"
    assert one == two
    assert hash(one) == hash(two)
    assert one != coco.ROOT_PATH / "b"
    assert one != '/"a"'


def test_a_path_is_not_changed_by_extending_it() -> None:
    base = coco.ROOT_PATH / "a"
    _ = base / "b"
    assert base.parts() == ["a"]


def test_the_types_of_keys_are_part_of_their_identity() -> None:
    paths = {coco.ROOT_PATH / key for key in (True, 1, "a", b"a", coco.Symbol("a"), ("a",))}
    assert len(paths) == 6


def test_lists_and_named_tuples_count_as_tuples() -> None:
    from typing import NamedTuple

    class Pair(NamedTuple):
        a: int
        b: str

    assert coco.ROOT_PATH / [1, "x"] == coco.ROOT_PATH / (1, "x")
    assert coco.ROOT_PATH / Pair(1, "x") == coco.ROOT_PATH / (1, "x")


@pytest.mark.parametrize("key", [1.5, object(), {"a": 1}, ("ok", 1.5)])
def test_other_types_are_refused_naming_the_supported_ones(key: Any) -> None:
    with pytest.raises(TypeError, match="Unsupported StableKey Python type") as caught:
        _ = coco.ROOT_PATH / key
    assert isinstance(caught.value, coco.CocoIndexError)
    assert "bytes" in str(caught.value)


@pytest.mark.parametrize("key", [-(2**63), 2**64 - 1, 0])
def test_ints_of_64_bits_are_supported(key: int) -> None:
    assert (coco.ROOT_PATH / key).parts() == [key]


@pytest.mark.parametrize("key", [2**200, -(2**200)])
def test_an_int_is_kept_exactly_or_refused_by_name(key: int) -> None:
    try:
        path = coco.ROOT_PATH / key
    except (ValueError, OverflowError) as error:
        assert str(key)[:10] in str(error)  # noqa: PT017  (either outcome is fine)
    else:
        assert path.parts() == [key]


def test_a_symbol_is_a_value_named_in_its_repr() -> None:
    symbol = coco.Symbol("s")
    assert symbol.name == "s"
    assert repr(symbol) == "Symbol(s)"
    assert symbol == coco.Symbol("s")
    assert hash(symbol) == hash(coco.Symbol("s"))
    assert symbol != "s"
    assert symbol != coco.Symbol("t")


def test_a_component_subpath_shows_its_keys() -> None:
    subpath = coco.component_subpath("a", 1)
    assert isinstance(subpath, coco.ComponentSubpath)
    assert repr(subpath) == "ComponentSubpath('a', 1)"
    assert list(subpath.parts) == ["a", 1]
    assert repr(subpath / "b") == "ComponentSubpath('a', 1, 'b')"
    assert list(subpath.parts) == ["a", 1]


def test_subpath_blocks_nest_and_can_be_entered_again(host: Any) -> None:
    where: list[str] = []

    async def leaf() -> None:
        where.append(str(coco.get_component_context()))

    async def main() -> None:
        block = coco.component_subpath("x")
        with block:
            with block:
                await coco.use_mount(coco.component_subpath(1), leaf)
            await coco.use_mount(coco.component_subpath(2), leaf)
        await coco.use_mount(coco.component_subpath(3), leaf)
        with coco.component_subpath():
            await coco.use_mount(coco.component_subpath(4), leaf)
        with block:
            await coco.use_mount(coco.component_subpath(5), leaf)

    host.update(main)
    assert where == ['/"x"/"x"/1', '/"x"/2', "/3", "/4", '/"x"/5']


def test_sentinels_are_singletons_told_by_identity() -> None:
    import copy
    import pickle

    assert repr(coco.NON_EXISTENCE) == "NON_EXISTENCE"
    assert coco.NonExistenceType() is coco.NON_EXISTENCE
    assert coco.is_non_existence(coco.NON_EXISTENCE)
    assert not coco.is_non_existence(None)
    assert pickle.loads(pickle.dumps(coco.NON_EXISTENCE)) is coco.NON_EXISTENCE
    assert copy.deepcopy(coco.NON_EXISTENCE) is coco.NON_EXISTENCE
    assert (int | coco.NonExistenceType) is not None
