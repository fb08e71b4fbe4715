"""A store in memory with a row of every kind, from the golden export."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cocoindex.state.base import Section
from cocoindex.state.memory import MemoryStore
from cocoindex.state.tools.archive import import_archive

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def load_builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_build_for_tools", GOLDEN / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Rich:
    """The golden apps in a store of their own."""

    def __init__(self) -> None:
        self.build = load_builder()
        self.program = self.build.load_program(self.build.PRESENT)
        self.export = self.build.PRESENT / self.build.EXPORT
        self.store = MemoryStore()
        import_archive(self.export, self.store)
        self._environments: list[Any] = []

    @property
    def section(self) -> Section:
        return self.store.section("golden")

    @property
    def other(self) -> Section:
        """The section of the app whose last update was interrupted."""
        return self.store.section("interrupted")

    def rows(self, tag: bytes = b"") -> dict[bytes, bytes]:
        return dict(self.section.scan(tag))

    def owned(self) -> set[bytes]:
        return set(self.rows(b"O"))

    def environment(self) -> Any:
        """An environment on the store, which would be closed with it: kept until the end."""
        self._environments.append(self.build.environment(self.program, None, self.store))
        return self._environments[-1]

    async def update(self, name: str = "golden") -> None:
        """One clean update; the store stays open."""
        env = self.environment()
        function = self.program.main if name == "golden" else self.program.interrupted
        arguments: tuple[Any, ...] = () if name == "golden" else (("a",),)
        app = self.build.coco.App(
            self.build.coco.AppConfig(name=name, environment=env), function, *arguments
        )
        await app.update()
        self.store.flush()


@pytest.fixture
def rich() -> Iterator[Rich]:
    rich = Rich()
    yield rich
    rich.store.close()
