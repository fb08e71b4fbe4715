"""Programs taken from the guide, and a host that runs them as a user would."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cocoindex as coco

PROGRAMS = Path(__file__).parent / "programs"


@functools.cache
def load_program(name: str) -> ModuleType:
    """Import ``programs/<name>.py`` once: its root providers are registered process-wide."""
    spec = importlib.util.spec_from_file_location(f"compat_program_{name}", PROGRAMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Host:
    """Runs an app; every update opens the store afresh, as a restarted process would."""

    def __init__(self, db_path: Path) -> None:
        self.db_path = db_path

    @contextlib.contextmanager
    def app(self, main: Callable[..., Any], *args: Any) -> Iterator[Any]:
        environment = coco.Environment(coco.Settings(db_path=self.db_path))
        try:
            config = coco.AppConfig(name="compat", environment=environment)
            yield coco.App(config, main, *args)
        finally:
            environment.close()

    def update(self, main: Callable[..., Any], *args: Any, **options: Any) -> Any:
        with self.app(main, *args) as app:
            return app.update_blocking(**options)

    def drop(self, main: Callable[..., Any]) -> None:
        with self.app(main) as app:
            app.drop_blocking()


@pytest.fixture
def load() -> Callable[[str], ModuleType]:
    return load_program


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "db")


@pytest.fixture
def run_script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``programs/<name>.py`` in a process of its own."""

    def run(name: str, *args: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", str(PROGRAMS / f"{name}.py"), *args],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        assert done.returncode == expect, done.stderr
        assert done.stderr == ""
        return done

    return run
