"""Directories as the source of whole apps."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from localfs_world import SOURCE, TARGET, World, app_of, copying_app

import cocoindex as coco
from cocoindex.connectors import localfs
from cocoindex.connectors.localfs import _scan


async def test_an_unchanged_second_run_reads_nothing(world: World) -> None:
    world.write(a="one", b="two", sub__c="three")
    app = copying_app(world)
    await app.update()
    assert world.result() == {"a": "ONE", "b": "TWO", "sub": None, "sub/c": "THREE"}
    assert world.took() == (["a", "b", "sub/c"], ["a", "b", "c"])
    await app.update()
    assert world.took() == ([], [])


async def test_a_touched_file_is_hashed_once_and_keeps_its_memo(world: World) -> None:
    world.write(a="one", b="two")
    app = copying_app(world)
    await app.update()
    world.took()
    os.utime(world.source / "a", (1_100_000_000, 1_100_000_000))
    await app.update()
    assert world.took() == ([], ["a"])
    await app.update()
    assert world.took() == ([], [])


async def test_a_file_of_another_length_is_processed_though_its_time_is_the_same(
    world: World,
) -> None:
    world.write(a="one", b="two")
    app = copying_app(world)
    await app.update()
    world.took()
    world.write(a="longer")
    await app.update()
    assert world.took()[0] == ["a"]
    assert world.result() == {"a": "LONGER", "b": "TWO"}


async def test_removed_files_and_the_parents_made_for_them_go(world: World) -> None:
    world.write(a="one", sub__dir__b="two")
    app = copying_app(world)
    await app.update()
    assert world.result() == {"a": "ONE", "sub": None, "sub/dir": None, "sub/dir/b": "TWO"}
    shutil.rmtree(world.source / "sub")
    await app.update()
    assert world.result() == {"a": "ONE"}


async def test_moving_the_trees_keeps_memos_and_tracking(world: World, tmp_path: Path) -> None:
    world.write(a="one", b="two")
    app = copying_app(world)
    await app.update()
    world.took()
    for key, name in ((SOURCE, "source"), (TARGET, "target")):
        (tmp_path / name).rename(tmp_path / f"moved-{name}")
        world.env.context_provider.provide(key, tmp_path / f"moved-{name}")
    await app.update()
    assert world.took() == ([], [])
    (tmp_path / "moved-source/b").unlink()
    await app.update()
    assert [p.name for p in (tmp_path / "moved-target").iterdir()] == ["a"]


async def test_an_unreadable_directory_deletes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write(a="one", sub__b="two", sub__c="three", sub__d__e="four")
    options: dict[str, Any] = {}
    app = copying_app(world, options)
    await app.update()
    before = world.result()
    real = os.scandir
    denied = str(world.source / "sub")

    def scandir(path: Any) -> Any:
        if path == denied:
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    with monkeypatch.context() as patched:
        patched.setattr(_scan.os, "scandir", scandir)
        with pytest.raises(PermissionError, match="sub"):
            await app.update()
        assert world.result() == before
        options["on_error"] = "skip"
        (world.source / "a").unlink()
        await app.update()
        assert {**world.result(), "a": "ONE"} == before
    (world.source / "sub/c").unlink()
    await app.update()
    assert set(world.result()) == {"sub", "sub/b", "sub/d", "sub/d/e"}


async def test_a_constructed_file_behaves_like_a_listed_one(world: World) -> None:
    world.write(a="one")

    @coco.fn(memo=True, version=1)
    async def shout(file: localfs.File) -> str:
        world.ran.append("shout")
        return (await file.read_text()).upper()

    async def main() -> str:
        return await shout(localfs.File(localfs.FilePath("a", base_dir=SOURCE)))

    app = app_of(world, main)
    assert await app.update() == "ONE"
    assert await app.update() == "ONE"
    assert world.took() == (["shout"], ["a"])
    world.write(a="uno!")
    assert await app.update() == "UNO!"


async def test_content_is_dropped_when_the_component_that_read_it_ends(world: World) -> None:
    world.write(a="one")
    file = localfs.File(localfs.FilePath(world.source / "a"))

    async def read_twice() -> None:
        await file.read()
        await file.read()

    async def main() -> None:
        await coco.use_mount(coco.component_subpath("x"), read_twice)

    await app_of(world, main).update()
    assert world.took()[1] == ["a"]
    gc.collect()
    await file.read()
    assert world.took()[1] == ["a"]
