"""Directories above declared files: whose they are, and what leads out of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import cocoindex as coco
from cocoindex.connectors import localfs

BASE = coco.ContextKey[Path]("test_localfs_parents/base")

Declare = Callable[..., Awaitable[None]]


@pytest.fixture
def base(env: coco.Environment, tmp_path: Path) -> Path:
    base = tmp_path / "base"
    base.mkdir()
    env.context_provider.provide(BASE, base)
    return base


def folders(base: Path) -> set[str]:
    return {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_dir()}


@pytest.fixture(params=["directory target", "single files"])
def declare(env: coco.Environment, base: Path, request: pytest.FixtureRequest) -> Declare:
    """One update after which exactly these files are declared, parents and all."""
    names: list[str] = []

    async def in_directory() -> None:
        target = await localfs.mount_dir_target(BASE, fsync=False)
        for name in names:
            target.declare_file(name, name, create_parent_dirs=True)

    def one_by_one() -> None:
        for name in names:
            path = localfs.FilePath(name, base_dir=BASE)
            localfs.declare_file(path, name, create_parent_dirs=True)

    body = in_directory if request.param == "directory target" else one_by_one
    app = coco.App(coco.AppConfig("parents", environment=env), body)

    async def update(*wanted: str) -> None:
        names[:] = wanted
        await app.update()

    return update


async def test_parents_that_were_made_go_when_they_are_empty(base: Path, declare: Declare) -> None:
    await declare("a/b/x", "a/y")
    await declare("a/b/x", "a/b/z", "a/y")
    assert folders(base) == {"a", "a/b"}
    await declare("a/b/z", "a/y")
    await declare("a/y")
    assert folders(base) == {"a"}
    await declare()
    assert folders(base) == set()


async def test_parents_that_stood_there_empty_stay(base: Path, declare: Declare) -> None:
    (base / "theirs" / "deep").mkdir(parents=True)
    await declare("theirs/deep/x", "theirs/deep/y", "theirs/deep/ours/z")
    await declare("theirs/deep/x")
    assert folders(base) == {"theirs", "theirs/deep"}
    await declare()
    assert folders(base) == {"theirs", "theirs/deep"}


async def test_parents_that_hold_what_others_put_there_stay(base: Path, declare: Declare) -> None:
    await declare("ours/x")
    (base / "ours" / "theirs").write_text("y")
    await declare()
    assert (base / "ours" / "theirs").read_text() == "y"


async def test_a_change_of_content_does_not_forget_whose_parents_are(
    env: coco.Environment, base: Path
) -> None:
    (base / "theirs").mkdir()
    texts = ["", "two", "one"]

    async def main() -> None:
        target = await localfs.mount_dir_target(BASE, fsync=False)
        if text := texts.pop():
            target.declare_file("theirs/x", text, create_parent_dirs=True)

    app = coco.App(coco.AppConfig("parents", environment=env), main)
    while texts:
        await app.update()
    assert folders(base) == {"theirs"}


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x"])
async def test_a_path_that_leads_out_of_its_base_is_refused(
    env: coco.Environment, base: Path, path: str
) -> None:
    file_path = localfs.FilePath(path, base_dir=BASE)
    message = f"path '{path}' leads out of its base_dir, the value of context key '{BASE.key}'"

    def single() -> None:
        localfs.declare_file(file_path, "x")

    async def directory() -> None:
        await localfs.mount_dir_target(file_path)

    for body in (single, directory):
        with pytest.raises(ValueError, match=message):
            await coco.App(coco.AppConfig(body.__name__, environment=env), body).update()
    assert list(base.parent.glob("x*")) == []
    assert list(base.iterdir()) == []
