"""What the handlers of the directory target decide, asked directly."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.connectorkits.fingerprint import fingerprint_bytes
from cocoindex.connectors.localfs import _handlers
from cocoindex.connectors.localfs._entries import (
    DEFAULTS,
    DirSpec,
    EntryRecord,
    FileSpec,
    Options,
    RootKey,
    Tree,
)
from cocoindex.connectors.localfs._handlers import EntryHandler, RootHandler
from cocoindex.connectors.localfs._standing import Standing
from cocoindex.connectors.localfs._writer import apply_actions

TREE = Tree("base", "out")


def file(content: bytes, **fields: Any) -> FileSpec:
    return FileSpec(content, fingerprint_bytes(content), fields.pop("parents", False), **fields)


def written(content: bytes, **fields: Any) -> EntryRecord:
    return EntryRecord(fingerprint_bytes(content), **fields)


def entries(options: Options = DEFAULTS, path: str = "") -> EntryHandler:
    return EntryHandler(TREE, path, options, set(), "", Standing(lambda: "nowhere"))


def test_a_file_is_written_unless_every_record_says_it_is_there() -> None:
    handler = entries()
    same, other = written(b"x"), written(b"y")
    assert handler.reconcile("f", file(b"x"), [same], False) is None
    for prev, missing in (([], True), ([same], True), ([other], False), ([same, other], False)):
        output = handler.reconcile("f", file(b"x"), prev, missing)
        assert output is not None
        assert output.action.op == "write"
        assert output.action.fresh == (not prev)
        assert output.tracking_record == same


def test_another_mode_is_a_change() -> None:
    handler = entries(Options(mode=0o600))
    assert handler.reconcile("f", file(b"x"), [written(b"x", mode=0o600)], False) is None
    assert handler.reconcile("f", file(b"x"), [written(b"x")], False) is not None


def test_a_directory_is_made_in_every_run() -> None:
    handler = entries()
    for prev, missing in (([], True), ([EntryRecord()], False)):
        output = handler.reconcile("d", DirSpec(False), prev, missing)
        assert output is not None
        assert output.action.op == "mkdir"
        assert output.tracking_record == EntryRecord()
        assert output.child_invalidation is None


def test_an_undeclared_entry_is_removed_as_what_it_was() -> None:
    handler = entries()
    cases = [([written(b"x")], True, False), ([EntryRecord()], False, True), ([], True, True)]
    for prev, was_file, was_dir in cases:
        output = handler.reconcile("e", coco.NON_EXISTENCE, prev, True)
        assert output is not None
        assert (output.action.was_file, output.action.was_dir) == (was_file, was_dir)
        assert output.tracking_record is coco.NON_EXISTENCE
    assert handler.reconcile("e", coco.NON_EXISTENCE, [], False) is None


def test_parents_are_remembered_and_pruned_up_to_the_directory() -> None:
    handler = entries(path="top")
    output = handler.reconcile("a/b/f", file(b"x", parents=True), [], True)
    assert output is not None
    assert output.tracking_record.parents
    gone = handler.reconcile("a/b/f", coco.NON_EXISTENCE, [output.tracking_record], False)
    assert gone is not None
    assert (gone.action.path, gone.action.prune) == ("top/a/b/f", 2)


def test_children_of_a_directory_are_deleted_before_it_unless_all_goes() -> None:
    for handler, key in ((entries(), "k"), (RootHandler(), RootKey(None, "/k"))):
        assert handler.reconcile_children_on_delete(key, EntryRecord())
        assert not handler.reconcile_children_on_delete(key, EntryRecord(purge=True))
        assert not handler.reconcile_children_on_delete(key, written(b""))


def test_the_child_handler_works_for_made_and_removed_directories() -> None:
    handler = entries(path="top")
    made = handler.reconcile("d", DirSpec(False), [], True)
    gone = handler.reconcile("d", coco.NON_EXISTENCE, [EntryRecord()], False)
    for output in (made, gone):
        assert output is not None
        child = _handlers.sink.child_handler(None, output.action)
        below = child.reconcile("f", file(b"x"), [], True)
        assert (below.action.tree, below.action.path) == (TREE, "top/d/f")


def test_actions_print_without_their_content() -> None:
    output = entries().reconcile("d/f", file(b"secret" * 100), [], True)
    assert output is not None
    assert repr(output.action) == "write(base:out/d/f, 600 bytes)"


@pytest.mark.parametrize(
    ("desired", "prev", "verb", "key"),
    [
        (file(b"x"), [], "create", "n"),
        (file(b"x"), [written(b"y")], "update", "n"),
        (file(b"x"), [EntryRecord()], "update", "n"),
        (DirSpec(False), [], "create", "n/"),
        (DirSpec(False), [EntryRecord()], "keep", "n/"),
        (DirSpec(False), [written(b"y")], "update", "n/"),
        (coco.NON_EXISTENCE, [written(b"y")], "delete", "n"),
        (coco.NON_EXISTENCE, [EntryRecord()], "delete", "n/"),
    ],
)
def test_actions_describe_themselves(
    desired: Any, prev: list[EntryRecord], verb: str, key: str
) -> None:
    output = entries().reconcile("n", desired, prev, False)
    assert output is not None
    assert output.action.__coco_describe__() == {
        "target": "base:out",
        "verb": verb,
        "key": key,
        "fields": (),
    }


def test_a_directory_that_may_be_missing_is_not_just_kept() -> None:
    output = entries().reconcile("d", DirSpec(False), [EntryRecord()], True)
    assert output is not None
    assert output.action.__coco_describe__()["verb"] == "update"


# --- roots ---


def test_a_relative_root_that_moved_is_written_anew_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = RootKey(None, "out")
    handler = RootHandler()
    first = handler.reconcile(key, DirSpec(True, DEFAULTS, "/one/out"), [], True)
    assert first is not None
    assert first.tracking_record.root == "/one/out"
    with caplog.at_level(logging.WARNING):
        again = handler.reconcile(
            key, DirSpec(True, DEFAULTS, "/one/out"), [first.tracking_record], False
        )
        assert not caplog.records
        moved = handler.reconcile(
            key, DirSpec(True, DEFAULTS, "/two/out"), [first.tracking_record], False
        )
    assert again is not None
    assert again.child_invalidation is None
    assert moved is not None
    assert moved.child_invalidation == "destructive"
    assert moved.action.tree == Tree(None, "/two/out")
    assert "/one/out" in caplog.text
    assert "/two/out" in caplog.text


def test_an_undeclared_relative_root_is_removed_where_it_was_made() -> None:
    output = RootHandler().reconcile(
        RootKey(None, "out"), coco.NON_EXISTENCE, [EntryRecord(root="/one/out")], False
    )
    assert output is not None
    assert output.action.tree == Tree(None, "/one/out")


def test_a_single_file_is_confined_to_its_directory() -> None:
    handler = RootHandler()
    for key, tree in (
        (RootKey("base", "a/f"), Tree("base", "a")),
        (RootKey("base", "f"), Tree("base", "")),
        (RootKey(None, "/f"), Tree(None, "/")),
        (RootKey(None, "/a/f"), Tree(None, "/a")),
    ):
        output = handler.reconcile(key, file(b"x"), [], True)
        assert output is not None
        assert (output.action.tree, output.action.path) == (tree, "f")
        assert handler.reconcile(key, file(b"x"), [written(b"x")], False) is None


# --- observe ---


class Context:
    def __init__(self, base: Path) -> None:
        self.base = base

    def get(self, key: str) -> Path:
        return self.base


async def test_observing_gives_the_records_that_the_entries_would_have(tmp_path: Path) -> None:
    handler = entries(Options(fsync=False, mode=0o640))
    declared: dict[str, Any] = {
        "f": file(b"x"),
        "d": DirSpec(False),
        "d/g": file(b"y", parents=True),
    }
    outputs = {key: handler.reconcile(key, spec, [], True) for key, spec in declared.items()}
    (tmp_path / "out").mkdir()
    context: Any = Context(tmp_path)
    apply_actions(context, [output.action for output in outputs.values() if output])
    records: Any = {key: output.tracking_record for key, output in outputs.items() if output}
    assert await handler.observe(context, [*declared, "gone", "no/where"]) == {
        **records,
        "gone": coco.NON_EXISTENCE,
        "no/where": coco.NON_EXISTENCE,
    }


async def test_observing_tells_changed_and_foreign_entries(tmp_path: Path) -> None:
    (tmp_path / "out/d").mkdir(parents=True)
    (tmp_path / "out/f").write_text("changed")
    (tmp_path / "out/link").symlink_to("f")
    handler, context = entries(), Context(tmp_path)
    expected = {"d": EntryRecord(), "f": written(b"changed")}
    found: Any = await handler.observe(context, ["d", "f", "link"])
    assert found == {**expected, "link": coco.NON_EXISTENCE}
    pages: Any = await handler.observe(context, None)
    assert [page async for page in pages] == [expected]
    nothing: Any = await entries(path="gone").observe(context, None)
    assert [page async for page in nothing] == []


async def test_roots_can_be_observed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    (tmp_path / "f").write_text("x")
    handler, context = RootHandler(), Context(tmp_path)
    keys = [RootKey("base", "out"), RootKey(None, "out"), RootKey("base", "f"), RootKey("b", "g")]
    found: Any = await handler.observe(context, keys)
    assert list(found.values()) == [
        EntryRecord(),
        EntryRecord(root=str(tmp_path / "out")),
        written(b"x"),
        coco.NON_EXISTENCE,
    ]
