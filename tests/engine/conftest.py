"""A bench for engine tests: run a body as the main function of one app, again and again."""

from __future__ import annotations

import gc
import inspect
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.testing.targets import MemoryTarget


class BodyLog:
    """Notes which bodies ran. Opaque, so it never counts towards a function's identity."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: list[str] = []

    def __call__(self, *names: str) -> None:
        self._names.extend(names)

    def take(self) -> list[str]:
        """Names in order of execution since the last ``take()``."""
        taken = self._names[:]
        self._names.clear()
        return taken

    def counted(self) -> dict[str, int]:
        return dict(Counter(self.take()))


class Bench:
    """One app on a store of its own, whose main body is given anew for every run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._copies = 0
        self.path = directory / "bench"
        self._env: coco.Environment | None = None
        self._app: coco.App[Any, Any] | None = None
        self._body: Callable[[], Any] = lambda: None
        self.exception_handler: Callable[..., Any] | None = None
        self.context: coco.ContextProvider | None = None
        self.app_options: dict[str, Any] = {}

    @property
    def env(self) -> coco.Environment:
        if self._env is None:
            self._env = coco.Environment(
                coco.Settings(db_path=self.path),
                name="bench",
                context_provider=self.context,
                exception_handler=self.exception_handler,
            )
        return self._env

    @property
    def app(self) -> coco.App[Any, Any]:
        if self._app is None:
            self._app = self.new_app("bench", self._main, **self.app_options)
        return self._app

    def new_app(
        self, name: str, main: Callable[..., Any], *args: Any, **options: Any
    ) -> coco.App[Any, Any]:
        return coco.App(coco.AppConfig(name=name, environment=self.env, **options), main, *args)

    async def _main(self) -> Any:
        result = self._body()
        return await result if inspect.isawaitable(result) else result

    def start(self, body: Callable[[], Any], **options: Any) -> coco.UpdateHandle[Any]:
        self._body = body
        return self.app.update(**options)

    async def run(self, body: Callable[[], Any], **options: Any) -> Any:
        """One update whose main function is ``body``."""
        return await self.start(body, **options)

    async def fails(self, body: Callable[[], Any], **options: Any) -> Exception:
        """One update that fails; returns the error."""
        with pytest.raises(Exception) as caught:
            await self.run(body, **options)
        return caught.value

    def reopen(self, path: Path | None = None) -> None:
        """Close everything; the next use opens ``path`` (default: the same store)."""
        self.close()
        self.path = path or self.path

    def copy_store(self) -> Path:
        """What a process that dies right now would leave behind."""
        self._copies += 1
        copy = self._directory / f"copy{self._copies}"
        shutil.copytree(self.path, copy)
        return copy

    def close(self) -> None:
        self._app = None
        if self._env is not None:
            self._env.close()
            self._env = None
        gc.collect()

    async def paths(self) -> list[str]:
        """Text of every stored component and directory path."""
        from cocoindex import inspect as store

        return [str(path) for path in await store.list_stable_paths(self.app)]

    async def owners(self) -> dict[str, str]:
        """Owner of every tracked target state, by readable path; asserts that none dangles."""
        from cocoindex import inspect as store

        entries = [entry async for entry in store.iter_target_states(self.app)]
        assert not [entry.readable_path for entry in entries if entry.dangling]
        return {entry.readable_path: str(entry.owner_component_path) for entry in entries}

    async def items(self, path: str = "/") -> dict[str, list[str]]:
        """State markers (``Existing``/``Deleted``) of every item of the component at ``path``."""
        from cocoindex import inspect as store

        async for detail in store.iter_stable_path_details(self.app):
            if str(detail.path) == path:
                return {
                    item.target_state_path: [state.state for state in item.states]
                    for item in detail.target_state_items
                }
        return {}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def ran() -> BodyLog:
    return BodyLog()


@pytest.fixture
def table() -> MemoryTarget:
    """A memory target whose tracking record is the value itself."""
    return MemoryTarget(record=lambda value: value)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a Python program in a process of its own, in ``tmp_path``.

    ``script(source, *argv, exit_code=0)``; the same source keeps the same file, so that memos
    of one program are those of the next.
    """

    def run(
        source: str, *argv: str, exit_code: int = 0, name: str = "program.py", **env: str
    ) -> subprocess.CompletedProcess[str]:
        (tmp_path / name).write_text(textwrap.dedent(source))
        done = subprocess.run(
            [sys.executable, name, *argv],
            cwd=tmp_path,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done

    return run
