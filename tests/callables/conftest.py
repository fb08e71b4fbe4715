from __future__ import annotations

import importlib.util
import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from cocoindex.core import logic

PRELUDE = "from cocoindex import fn\n"


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., ModuleType]]:
    """Loads a text as a fresh module: each time as if by a new process."""
    before = dict(sys.modules)
    versions = itertools.count()

    def load_text(text: str, name: str = "program") -> ModuleType:
        directory = tmp_path / str(next(versions))
        directory.mkdir()
        file = directory / f"{name}.py"
        file.write_text(PRELUDE + textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    yield load_text
    for name in sys.modules.keys() - before.keys():
        if not name.startswith("cocoindex."):  # ours are loaded once, whoever uses them first
            del sys.modules[name]


@pytest.fixture(autouse=True)
def a_new_run() -> None:
    logic.new_run()
