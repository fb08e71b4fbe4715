from __future__ import annotations

import os
import pickle
from pathlib import Path, PurePath

import pytest

import cocoindex as coco
from cocoindex.connectors.localfs import FilePath

BASE = coco.ContextKey[Path]("test_file_paths/base")
OTHER = coco.ContextKey[Path]("test_file_paths/other")


def test_parts_are_those_of_the_path() -> None:
    path = FilePath("a/b.tar.gz", base_dir=BASE)
    assert path.path == PurePath("a/b.tar.gz")
    assert (path.name, path.stem, path.suffix) == ("b.tar.gz", "b.tar", ".gz")
    assert path.suffixes == [".tar", ".gz"]
    assert path.parts == ("a", "b.tar.gz")
    assert path.as_posix() == str(path) == "a/b.tar.gz"
    assert path.match("*.gz")
    assert not path.is_absolute()
    assert path.base_dir is BASE


def test_derived_paths_keep_class_and_base() -> None:
    path = FilePath("a/b.txt", base_dir=BASE)
    derived = {
        path.parent: "a",
        path.with_name("c"): "a/c",
        path.with_stem("c"): "a/c.txt",
        path.with_suffix(".md"): "a/b.md",
        path.with_segments("x", "y"): "x/y",
        path.joinpath("c", "d"): "a/b.txt/c/d",
        path / "c": "a/b.txt/c",
        "x" / path: "x/a/b.txt",
    }
    for made, text in derived.items():
        assert made == FilePath(text, base_dir=BASE)
    assert path.parents == (FilePath("a", base_dir=BASE), FilePath(base_dir=BASE))


def test_equality_and_hash_go_by_base_and_path() -> None:
    assert FilePath("a//b/./c") == FilePath("a/b/c")
    assert hash(FilePath("a", base_dir=BASE)) == hash(FilePath("a", base_dir=BASE))
    assert FilePath("a") != FilePath("a", base_dir=BASE)
    assert FilePath("a", base_dir=BASE) != FilePath("a", base_dir=OTHER)
    assert FilePath("a") != PurePath("a")


def test_order_puts_no_base_first_then_goes_by_path() -> None:
    ordered = [
        FilePath("z"),
        FilePath("a", base_dir=BASE),
        FilePath("a/b", base_dir=BASE),
        FilePath("a.b", base_dir=BASE),
        FilePath("a", base_dir=OTHER),
    ]
    shuffled = [ordered[i] for i in (3, 0, 4, 2, 1)]
    assert sorted(shuffled) == ordered
    assert FilePath("a") < FilePath("b") <= FilePath("b")
    assert FilePath("b") > FilePath("a") >= FilePath("a")


def test_relative_to_gives_a_plain_path() -> None:
    path = FilePath("a/b", base_dir=BASE)
    for other in ("a", PurePath("a"), FilePath("a", base_dir=BASE)):
        assert path.is_relative_to(other)
        assert path.relative_to(other) == PurePath("b")
    assert not path.is_relative_to(FilePath("a"))
    with pytest.raises(ValueError, match="different base"):
        path.relative_to(FilePath("a"))


def test_repr_names_the_base() -> None:
    pure = repr(PurePath("a"))
    assert repr(FilePath("a")) == f"FilePath({pure})"
    expected = f"FilePath({pure}, base_dir_key='test_file_paths/base')"
    assert repr(FilePath("a", base_dir=BASE)) == expected


def test_the_memo_key_is_base_name_and_path() -> None:
    assert FilePath("a/b").__coco_memo_key__() == "a/b"
    key = FilePath("a/b", base_dir=BASE).__coco_memo_key__()
    assert key == ("test_file_paths/base", "a/b")


def test_a_path_without_base_resolves_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert FilePath("a/../b").resolve() == tmp_path.resolve() / "b"
    assert os.fspath(FilePath("b")) == str(tmp_path.resolve() / "b")


def test_a_listed_path_equals_a_constructed_one() -> None:
    root = FilePath("r", base_dir=BASE)
    child = root.below(root.as_posix(), "a/b.txt")
    assert child == FilePath("r/a/b.txt", base_dir=BASE)
    assert child.path == PurePath("r/a/b.txt")
    assert FilePath(".").below(".", "a") == FilePath("a")
    assert FilePath("/").below("/", "a") == FilePath("/a")


def test_paths_without_base_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(FilePath("a/b"))) == FilePath("a/b")


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="must be a str or a pathlib path"):
        FilePath(3)
    with pytest.raises(TypeError):
        FilePath("a") / 3
