"""Directories as the target of whole apps."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any

import pytest
from localfs_world import TARGET, World, app_of, copying_app

import cocoindex as coco
from cocoindex.connectors import localfs


async def test_the_target_follows_declarations(world: World) -> None:
    declared: dict[str, str] = {}

    async def main() -> None:
        target = await localfs.mount_dir_target(TARGET)
        for name, text in declared.items():
            target.declare_file(name, text)

    app = app_of(world, main)
    declared.update(a="1", b="2")
    await app.update()
    assert world.result() == {"a": "1", "b": "2"}
    first = (world.target / "a").stat()
    declared.update(b="3")
    await app.update()
    assert world.result() == {"a": "1", "b": "3"}
    assert (world.target / "a").stat().st_ino == first.st_ino
    del declared["a"]
    await app.update()
    assert world.result() == {"b": "3"}


async def test_names_that_lead_out_are_refused_at_the_declaration(world: World) -> None:
    async def main(name: str) -> None:
        target = await localfs.mount_dir_target(TARGET)
        target.declare_file(name, "x")

    for number, name in enumerate(("../x", "/etc/x", "", "a/../../x", "a\0")):
        config = coco.AppConfig(f"app{number}", environment=world.env)
        with pytest.raises(ValueError):
            await coco.App(config, main, name).update()
    assert world.result() == {}
    assert not (world.target.parent / "x").exists()


async def test_two_spellings_of_one_name_are_one_declaration(world: World) -> None:
    async def main() -> None:
        target = await localfs.mount_dir_target(TARGET)
        target.declare_file("a//b", "x", create_parent_dirs=True)
        target.declare_file("./a/b", "y")

    with pytest.raises(ValueError, match="already declared"):
        await app_of(world, main).update()


async def nested(target: localfs.DirTarget, name: str) -> localfs.DirTarget:
    return await coco.use_mount(coco.component_subpath(name), target.declare_dir_target, name)


async def test_directories_nest(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with_nested = True

    async def main() -> None:
        target = await localfs.mount_dir_target(TARGET)
        target.declare_file("top", "0")
        if with_nested:
            outer = await nested(target, "outer")
            inner = await nested(outer, "inner")
            outer.declare_file("x", "1")
            inner.declare_file("y", "2")
            inner.declare_file("p/z", "3", create_parent_dirs=True)

    app = app_of(world, main)
    await app.update()
    everything = {
        "top": "0",
        "outer": None,
        "outer/x": "1",
        "outer/inner": None,
        "outer/inner/y": "2",
        "outer/inner/p": None,
        "outer/inner/p/z": "3",
    }
    assert world.result() == everything
    await app.update()
    assert world.result() == everything
    (world.target / "outer/inner/theirs").write_text("foreign")
    with_nested = False
    with caplog.at_level(logging.WARNING):
        await app.update()
    assert world.result() == {
        "top": "0",
        "outer": None,
        "outer/inner": None,
        "outer/inner/theirs": "foreign",
    }
    assert "outer/inner stays" in caplog.text


async def test_a_nested_directory_goes_with_its_content(world: World) -> None:
    with_nested = True

    async def main() -> None:
        target = await localfs.mount_dir_target(TARGET)
        if with_nested:
            outer = await nested(target, "outer")
            (await nested(outer, "inner")).declare_file("y", "2")

    app = app_of(world, main)
    await app.update()
    with_nested = False
    await app.update()
    assert world.result() == {}


@pytest.mark.parametrize(
    "as_file",
    [
        True,
        False,
    ],
)
async def test_files_and_directories_switch_in_one_run(world: World, as_file: bool) -> None:

    async def main() -> None:
        target = await localfs.mount_dir_target(TARGET)
        if as_file:
            target.declare_file("x", "file")
        else:
            (await nested(target, "x")).declare_file("y", "inside")

    app = app_of(world, main)
    await app.update()
    as_file = not as_file
    for _ in range(2):
        await app.update()
        expected = {"x": "file"} if as_file else {"x": None, "x/y": "inside"}
        assert world.result() == expected


async def test_dropping_the_app_leaves_nothing_of_it(world: World) -> None:
    world.write(a="one", sub__b="two")
    app = copying_app(world)
    await app.update()
    await app.drop()
    assert not world.target.exists()
    await app.update()
    assert world.result() == {"a": "ONE", "sub": None, "sub/b": "TWO"}
    (world.target / "theirs").write_text("foreign")
    await app.drop()
    assert world.result() == {"theirs": "foreign"}


async def test_foreign_files_are_purged_on_request(world: World) -> None:
    async def main() -> None:
        target = await localfs.mount_dir_target(TARGET, purge_foreign=True)
        target.declare_file("x", "1")

    app = app_of(world, main)
    await app.update()
    (world.target / "theirs").write_text("foreign")
    await app.drop()
    assert not world.target.exists()


async def test_single_files_are_written_and_removed(world: World) -> None:
    names = ["one.txt", "sub/two.txt"]

    def main() -> None:
        for name in names:
            path = localfs.FilePath(name, base_dir=TARGET)
            localfs.declare_file(path, b"x", create_parent_dirs=True)

    app = app_of(world, main)
    await app.update()
    assert world.result() == {"one.txt": "x", "sub": None, "sub/two.txt": "x"}
    names.pop()
    await app.update()
    assert world.result() == {"one.txt": "x"}


async def test_a_relative_target_that_moved_is_written_anew(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = ["a", "b"]

    async def main() -> None:
        target = await localfs.mount_dir_target(Path("out"))
        for name in names:
            target.declare_file(name, "ours")

    app = app_of(world, main)
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    await app.update()
    await app.update()
    assert not caplog.records
    monkeypatch.chdir(tmp_path / "two")
    (tmp_path / "two/out").mkdir()
    (tmp_path / "two/out/b").write_text("theirs")
    names.remove("b")
    await app.update()
    assert (tmp_path / "two/out/a").read_text() == "ours"
    assert (tmp_path / "two/out/b").read_text() == "theirs"
    assert sorted(p.name for p in (tmp_path / "one/out").iterdir()) == ["a", "b"]
    assert str(tmp_path / "one/out") in caplog.text
    assert str(tmp_path / "two/out") in caplog.text


async def test_one_failing_file_fails_its_component_only(world: World) -> None:
    world.write(a="one", b="two", c="three")
    app = copying_app(world)
    world.target.mkdir()
    (world.target / "b").mkdir()
    await app.update()
    assert world.result() == {"a": "ONE", "b": None, "c": "THREE"}
    (world.target / "b").rmdir()
    world.took()
    await app.update()
    assert world.took()[0] == ["b"]
    assert world.result() == {"a": "ONE", "b": "TWO", "c": "THREE"}


async def test_preview_lists_actions_and_writes_nothing(world: World) -> None:
    world.write(a="one", b="two")
    app = copying_app(world)
    planned = await app.update(preview=True)
    assert sorted(map(repr, planned)) == [
        "mkdir(localfs_world/target:.)",
        "write(localfs_world/target:./a, 3 bytes)",
        "write(localfs_world/target:./b, 3 bytes)",
    ]
    assert world.result() == {}


async def test_a_preview_names_the_real_target_and_keeps_what_stands(world: World) -> None:
    world.write(a="one")
    app = copying_app(world)

    async def described() -> list[tuple[str, str, str]]:
        actions = [a.__coco_describe__() for a in await app.update(preview=True)]
        return [(a["target"], a["verb"], a["key"]) for a in actions]

    target = str(world.target)
    assert await described() == [(target, "create", "./"), (target, "create", "a")]
    await app.update()
    assert await described() == [(target, "keep", "./")]


async def test_a_full_reprocess_writes_everything_again(world: World) -> None:
    world.write(a="one")
    app = copying_app(world)
    await app.update()
    (world.target / "a").unlink()
    await app.update()
    assert world.result() == {}
    await app.update(full_reprocess=True)
    assert world.result() == {"a": "ONE"}


async def test_declaring_on_a_pending_target_is_an_error(world: World) -> None:
    def main() -> None:
        localfs.declare_dir_target(TARGET).declare_file("x", "1")

    with pytest.raises(RuntimeError):
        await app_of(world, main).update()


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
async def test_a_mount_that_nobody_awaits_fails_and_deletes_nothing(world: World) -> None:
    forgotten = False

    async def main() -> None:
        target = localfs.mount_dir_target(TARGET)
        if not forgotten:
            (await target).declare_file("x", "1")

    app = app_of(world, main)
    await app.update()
    forgotten = True
    with pytest.raises(RuntimeError, match="without awaiting it"):
        await app.update()
    del app
    gc.collect()  # while the warning is expected
    assert world.result() == {"x": "1"}


async def test_a_declared_target_can_be_handed_up_by_use_mount(world: World) -> None:
    async def main() -> None:
        path = coco.component_subpath("t")
        target = await coco.use_mount(path, localfs.declare_dir_target, TARGET, mode=0o600)
        target.declare_file("x", "1")

    await app_of(world, main).update()
    assert world.result() == {"x": "1"}
    assert (world.target / "x").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("options", [{"mode": 0o7777}, {"on_conflict": "maybe"}])
def test_target_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        localfs.dir_target(Path("x"), **options)


def test_a_forgotten_await_is_named(tmp_path: Path) -> None:
    file = localfs.File(localfs.FilePath(tmp_path / "x"))
    with pytest.raises(TypeError, match=r"FileLike.read_text\(\): forgot `await`"):
        localfs.declare_file(tmp_path / "y", file.read_text())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="forgot `await`"):
        localfs.walk_dir(file.read())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="forgot `await`"):
        localfs.FilePath(file.read())  # type: ignore[arg-type]


def test_content_of_other_types_is_refused() -> None:
    with pytest.raises(TypeError, match="content must be bytes or str"):
        localfs.declare_file(Path("x"), 3)
    with pytest.raises(ValueError, match="names no file"):
        localfs.declare_file(Path(), "x")


def test_the_public_surface_is_exactly_this() -> None:
    assert sorted(localfs.__all__) == [
        "DirTarget",
        "DirWalker",
        "File",
        "FilePath",
        "declare_dir_target",
        "declare_file",
        "dir_target",
        "mount_dir_target",
        "walk_dir",
    ]
