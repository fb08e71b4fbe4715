"""Directories as source and target of whole apps: what the tests of this folder share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cocoindex as coco
from cocoindex.connectors import localfs

SOURCE = coco.ContextKey[Path]("localfs_world/source")
TARGET = coco.ContextKey[Path]("localfs_world/target")


class World:
    """A source and a target directory, and a log of what ran."""

    def __init__(self, env: coco.Environment, home: Path) -> None:
        self.env = env
        self.source, self.target = home / "source", home / "target"
        self.source.mkdir()
        env.context_provider.provide(SOURCE, self.source)
        env.context_provider.provide(TARGET, self.target)
        self.ran: list[str] = []
        self.read: list[str] = []

    def write(self, **files: str) -> None:
        """Source files, old enough that their times are trusted."""
        for name, text in files.items():
            path = self.source / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            os.utime(path, (1_000_000_000, 1_000_000_000))

    def result(self) -> dict[str, str | None]:
        if not self.target.exists():
            return {}
        return {
            path.relative_to(self.target).as_posix(): None if path.is_dir() else path.read_text()
            for path in sorted(self.target.rglob("*"))
        }

    def took(self) -> tuple[list[str], list[str]]:
        """What ran and which files were read since the last call, sorted."""
        ran, read = sorted(self.ran), sorted(self.read)
        self.ran.clear()
        self.read.clear()
        return ran, read


def copying_app(world: World, options: dict[str, Any] | None = None) -> coco.App[[], None]:
    """Copies every source file to the target in upper case, one memoized component each."""

    @coco.fn(memo=True, version=1)
    async def copy(file: localfs.File, target: localfs.DirTarget) -> None:
        world.ran.append(file.file_path.as_posix())
        text = await file.read_text()
        name = file.file_path.as_posix()
        target.declare_file(name, text.upper(), create_parent_dirs=True)

    async def main() -> None:
        target = await localfs.mount_dir_target(TARGET, fsync=False)
        walker = localfs.walk_dir(SOURCE, recursive=True, **(options or {}))
        await coco.mount_each(copy, walker.items(), target)

    return coco.App(coco.AppConfig("copying", environment=world.env), main)


def app_of(world: World, main: Callable[..., Any], name: str = "app") -> coco.App[[], Any]:
    return coco.App(coco.AppConfig(name, environment=world.env), main)
