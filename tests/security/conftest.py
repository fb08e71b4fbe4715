"""A sandbox: an app, a directory target in it, and a victim outside that must stay as it is."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.connectors import localfs

TARGET = coco.ContextKey[Path]("security/target")
SOURCE = coco.ContextKey[Path]("security/source")


def picture(root: Path) -> dict[str, Any]:
    """Everything below ``root``: kind, content, mode, and where links lead."""
    found: dict[str, Any] = {}
    for folder, dirs, files in os.walk(root):
        for name in (*dirs, *files):
            path = Path(folder, name)
            status = path.lstat()
            if path.is_symlink():
                content: Any = str(path.readlink())
            else:
                content = path.read_bytes() if path.is_file() else None
            found[str(path.relative_to(root))] = (status.st_mode, content)
    return found


class Sandbox:
    """``target`` and ``source`` of the app; ``victim`` is none of its business."""

    source_key = SOURCE
    target_key = TARGET

    def __init__(self, env: coco.Environment, home: Path) -> None:
        self.env = env
        self.home = home
        self.target, self.source = home / "target", home / "source"
        self.victim = home / "victim"
        self.source.mkdir()
        (self.victim / "sub").mkdir(parents=True)
        for name in ("a.txt", "sub/a.txt", "sub/b.txt"):
            (self.victim / name).write_text(f"secret of {name}")
        env.context_provider.provide(TARGET, self.target)
        env.context_provider.provide(SOURCE, self.source)
        self._before = picture(self.victim)
        self._body: Callable[[], Any] = lambda: None
        self.app: coco.App[[], None] = coco.App(coco.AppConfig("sandbox", env), self._main)

    async def _main(self) -> None:
        result = self._body()
        if inspect.isawaitable(result):
            await result

    async def run(self, body: Callable[[], Any]) -> None:
        self._body = body
        await self.app.update()

    async def declare(self, files: dict[str, str], **options: Any) -> None:
        """One update whose target is exactly ``files``."""

        async def body() -> None:
            target = await localfs.mount_dir_target(TARGET, **options)
            for name, content in files.items():
                target.declare_file(name, content, create_parent_dirs=True)

        await self.run(body)

    def inside(self) -> dict[str, str]:
        """Content of the regular files in the target, links not followed."""
        return {
            name: content.decode()
            for name, (_, content) in picture(self.target).items()
            if isinstance(content, bytes)
        }

    def check_victim(self) -> None:
        assert picture(self.victim) == self._before


@pytest.fixture
async def sandbox(env: coco.Environment, tmp_path: Path) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(env, tmp_path)
    yield sandbox
    sandbox.check_victim()
