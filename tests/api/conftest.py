"""A host for small apps, and a target that remembers what happened to it."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cocoindex as coco

sys.path.insert(0, str(Path(__file__).parent))  # for the helpers beside this file


class Host:
    """Runs an app; every update opens the store afresh, as a restarted process would."""

    def __init__(self, db_path: Path) -> None:
        self.db_path = db_path

    @contextlib.contextmanager
    def app(self, main: Callable[..., Any], *args: Any, **environment: Any) -> Iterator[Any]:
        env = coco.Environment(coco.Settings(db_path=self.db_path), **environment)
        try:
            yield coco.App(coco.AppConfig(name="api", environment=env), main, *args)
        finally:
            env.close()

    def update(self, main: Callable[..., Any], *args: Any, **options: Any) -> Any:
        with self.app(main, *args) as app:
            return app.update_blocking(**options)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "db")


@pytest.fixture
def container() -> Any:
    from contract_handlers import Annotated, Container

    return Container(Annotated())


_roots = itertools.count()


@pytest.fixture
def register() -> Callable[[Any], Any]:
    """Register a handler as a root provider under a name of its own."""

    def run(handler: Any) -> Any:
        return coco.register_root_target_states_provider(f"api/{next(_roots)}", handler)

    return run


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Run code in a fresh interpreter that finds what this one finds; its stdout."""

    def run(code: str, *args: str, **env: str) -> str:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("COCOINDEX_")}
        inherited["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *args],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**inherited, **env},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    return run
