"""The fragments of the guide's "Key data types" evaluate and work together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cocoindex as coco


@pytest.fixture
def program(load: Callable[[str], ModuleType], tmp_path: Path) -> ModuleType:
    module = load("key_types")
    module.handler.base = tmp_path / "out"
    module.handler.base.mkdir()
    return module


@pytest.fixture
def files(tmp_path: Path) -> Callable[[], dict[str, str]]:
    return lambda: {p.name: p.read_text() for p in sorted((tmp_path / "out").iterdir())}


def test_fingerprints_are_16_bytes_and_content_based(program: ModuleType) -> None:
    prints = program.fingerprints(b"x", "x", {"a": [1, 2]})
    assert [type(fp) for fp in prints] == [bytes] * 3
    assert [len(fp) for fp in prints] == [16] * 3
    assert prints == program.fingerprints(b"x", "x", {"a": [1, 2]})
    assert prints != program.fingerprints(b"y", "y", {"a": [2, 1]})


def test_a_container_and_a_plain_entry_share_one_sink(
    program: ModuleType, host: Any, files: Any
) -> None:
    async def main() -> None:
        program.leaflet(b"plain")
        await program.book("title", {"one": b"1", "two": b"2"}, {})

    host.update(main)
    assert files() == {"leaflet": "plain", "book": "title", "book.one": "1", "book.two": "2"}


def test_children_and_attachments_follow_what_is_declared(
    program: ModuleType, host: Any, files: Any
) -> None:
    host.update(program.book, "t", {"one": b"1", "two": b"2"}, {"names": "N", "x": "X"})
    assert files() == {
        "book": "t", "book.one": "1", "book.two": "2", "book@names": "N", "book@x": "X"
    }  # fmt: skip

    host.update(program.book, "t", {"one": b"1!"}, {"names": "N2"})
    assert files() == {"book": "t", "book.one": "1!", "book@names": "N2"}


def test_an_attachment_and_a_child_may_have_the_same_key(
    program: ModuleType, host: Any, files: Any
) -> None:
    host.update(program.book, "t", {"one": b"child"}, {"one": "attachment"})
    assert files() == {"book": "t", "book.one": "child", "book@one": "attachment"}
    host.update(program.book, "t", {}, {"one": "attachment"})
    assert files() == {"book": "t", "book@one": "attachment"}


def test_attachments_go_away_when_the_program_no_longer_asks_for_them(
    program: ModuleType, host: Any, files: Any
) -> None:
    host.update(program.book, "t", {"one": b"1"}, {"names": "N"})
    host.update(program.book, "t", {"one": b"1"}, {})
    assert files() == {"book": "t", "book.one": "1"}


def test_asking_twice_for_an_attachment_gives_the_same_provider(
    program: ModuleType, host: Any
) -> None:
    async def main() -> None:
        child = await program.book("t", {}, {})
        assert child.attachment("vector_index") is child.attachment("vector_index")

    host.update(main)


def test_an_attachment_type_the_handler_does_not_know_is_refused(
    program: ModuleType, host: Any
) -> None:
    async def main() -> None:
        child = await program.book("t", {}, {})
        with pytest.raises(ValueError, match="does not support attachment type"):
            child.attachment("fulltext")

    host.update(main)


def test_a_handler_without_attachment_method_supports_none(program: ModuleType, host: Any) -> None:
    def main() -> None:
        with pytest.raises(ValueError, match="does not support attachment type"):
            program.provider.attachment("vector_index")

    host.update(main)


def test_spec_may_be_passed_by_position_as_spec_or_as_value(
    program: ModuleType, host: Any, files: Any
) -> None:
    entry = program._Entry

    def main() -> None:
        for state in (
            program.provider.target_state("a", entry(b"a", False)),
            program.provider.target_state(key="b", spec=entry(b"b", False)),
            program.provider.target_state(key="c", value=entry(b"c", False)),
        ):
            assert isinstance(state, coco.TargetState)
            coco.declare_target_state(state)

    host.update(main)
    assert files() == {"a": "a", "b": "b", "c": "c"}


def test_the_default_of_the_base_class_is_no_attachments() -> None:
    class Handler(coco.TargetHandler[str, bytes, bytes]):
        def reconcile(self, key: Any, desired: Any, prev: Any, missing: Any, /) -> None:
            return None

    handler: Any = Handler()
    attachment = getattr(handler, "attachment", None)
    assert attachment is None or attachment("vector_index") is None
