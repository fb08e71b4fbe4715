"""Programs written after the guide's container targets keep working."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cocoindex as coco


@pytest.fixture
def dirs(load: Callable[[str], ModuleType]) -> ModuleType:
    program = load("dirs")
    program.seen.clear()
    return program


def files_in(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.fixture
def sync(dirs: ModuleType, host: Any, tmp_path: Path) -> Any:
    """Update with these files; what was reconciled below the directory, by name."""

    def run(files: dict[str, bytes], spec: Any = None) -> dict[str, tuple[list[Any], bool]]:
        dirs.seen.clear()
        path = tmp_path / "out"
        if spec is None:
            host.update(dirs.keep_files, path, files)
        else:
            host.update(dirs.keep_files_with, path, files, spec)
        return {
            key: (records, missing)
            for key, _, records, missing in dirs.seen
            if isinstance(key, str)
        }

    return run


def test_a_directory_and_its_files_are_created(sync: Any, tmp_path: Path) -> None:
    sync({"a.txt": b"A", "b.txt": b"B"})
    assert files_in(tmp_path / "out") == {"a.txt": b"A", "b.txt": b"B"}


def test_files_are_changed_and_removed_inside_a_directory_that_stays(
    sync: Any, tmp_path: Path
) -> None:
    sync({"a.txt": b"A", "b.txt": b"B"})
    (tmp_path / "out" / "foreign.txt").write_bytes(b"not ours")
    sync({"a.txt": b"A2"})
    assert files_in(tmp_path / "out") == {"a.txt": b"A2", "foreign.txt": b"not ours"}


def test_an_unchanged_file_is_not_written_again(sync: Any, tmp_path: Path) -> None:
    sync({"a.txt": b"A"})
    (tmp_path / "out" / "a.txt").write_bytes(b"changed by somebody else")
    sync({"a.txt": b"A"})
    assert files_in(tmp_path / "out") == {"a.txt": b"changed by somebody else"}


def test_the_directory_goes_away_with_all_its_files_in_one_action(
    dirs: ModuleType, sync: Any, host: Any, tmp_path: Path
) -> None:
    sync({"a.txt": b"A"})
    dirs.seen.clear()
    host.update(lambda: None)
    assert not (tmp_path / "out").exists()
    [(key, desired, records, _)] = dirs.seen
    assert key == (str(tmp_path / "out"),)
    assert coco.is_non_existence(desired)
    assert records == [dirs._DirTrackingRecord(1, "utf-8")]


def test_the_component_returns_the_very_object_the_function_built(
    dirs: ModuleType, host: Any, tmp_path: Path
) -> None:
    built: list[Any] = []

    @coco.fn
    def build() -> Any:
        built.append(dirs.DirTarget(coco.declare_target_state_with_child(state)))
        return built[0]

    state = dirs._root_provider.target_state(dirs._DirKey(str(tmp_path / "x")), dirs._DirSpec())

    async def main() -> None:
        target = await coco.use_mount(coco.component_subpath("dir"), build)
        assert target is built[0]
        target.declare_file("a.txt", b"A")

    host.update(main)
    assert files_in(tmp_path / "x") == {"a.txt": b"A"}


def test_mount_target_does_the_same_in_one_call(
    dirs: ModuleType, sync: Any, tmp_path: Path
) -> None:
    sync({"a.txt": b"A"}, dirs._DirSpec())
    assert files_in(tmp_path / "out") == {"a.txt": b"A"}


def test_an_unannotated_handler_gets_key_and_records_of_its_base_class(
    dirs: ModuleType, sync: Any, tmp_path: Path
) -> None:
    sync({"a.txt": b"A"}, dirs._DirSpec())
    records = sync({"a.txt": b"A"}, dirs._DirSpec())
    [(key, _, dir_records, missing), *_] = dirs.seen
    assert type(key) is dirs._DirKey
    assert key.path == str(tmp_path / "out")
    assert dir_records == [dirs._DirTrackingRecord(1, "utf-8")]
    assert not missing
    [record] = records["a.txt"][0]
    assert type(record) is dirs._EntryTrackingRecord


def test_a_destructive_change_makes_every_file_new(
    dirs: ModuleType, sync: Any, tmp_path: Path
) -> None:
    sync({"a.txt": b"A", "b.txt": b"B"}, dirs._DirSpec(layout=1))
    assert sync({"a.txt": b"A"}, dirs._DirSpec(layout=2)) == {"a.txt": ([], True)}
    assert files_in(tmp_path / "out") == {"a.txt": b"A"}


def test_files_are_tracked_as_usual_after_a_destructive_change(
    dirs: ModuleType, sync: Any, tmp_path: Path
) -> None:
    sync({"a.txt": b"A", "b.txt": b"B"}, dirs._DirSpec(layout=1))
    sync({"a.txt": b"A", "b.txt": b"B"}, dirs._DirSpec(layout=2))
    after = sync({"a.txt": b"A"}, dirs._DirSpec(layout=2))
    assert {name: missing for name, (_, missing) in after.items()} == {
        "a.txt": False,
        "b.txt": False,
    }
    assert files_in(tmp_path / "out") == {"a.txt": b"A"}


def test_a_lossy_change_writes_every_file_again_once(
    dirs: ModuleType, sync: Any, tmp_path: Path
) -> None:
    sync({"a.txt": b"A", "b.txt": b"B"}, dirs._DirSpec(encoding="utf-8"))
    for name in ("a.txt", "b.txt"):
        (tmp_path / "out" / name).write_bytes(b"lost")

    lossy = sync({"a.txt": b"A", "b.txt": b"B2"}, dirs._DirSpec(encoding="latin-1"))
    assert [(len(records), missing) for records, missing in lossy.values()] == [(1, True)] * 2
    assert files_in(tmp_path / "out") == {"a.txt": b"A", "b.txt": b"B2"}

    after = sync({"a.txt": b"A", "b.txt": b"B2"}, dirs._DirSpec(encoding="latin-1"))
    assert [(len(records), missing) for records, missing in after.values()] == [(1, False)] * 2


def test_directories_of_one_program_are_independent(
    dirs: ModuleType, host: Any, tmp_path: Path
) -> None:
    def main(names: list[str]) -> Any:
        async def run() -> None:
            for name in names:
                with coco.component_subpath(name):
                    await dirs.keep_files(tmp_path / name, {"f": name.encode()})

        return run

    host.update(main(["x", "y"]))
    host.update(main(["y"]))
    assert not (tmp_path / "x").exists()
    assert files_in(tmp_path / "y") == {"f": b"y"}
