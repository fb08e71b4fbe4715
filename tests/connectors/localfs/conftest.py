"""A source and a target directory for whole apps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.connectors.localfs import source

sys.path.insert(0, str(Path(__file__).parent))  # for the helpers beside this file

from localfs_world import World


@pytest.fixture
def world(env: coco.Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(env, tmp_path)
    real = source._read_file

    def read_file(opener: Any, *args: Any) -> bytes:
        made.read.append(Path(opener.args[0]).name)
        return real(opener, *args)

    monkeypatch.setattr(source, "_read_file", read_file)
    return made
