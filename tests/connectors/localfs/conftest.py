"""A source and a target directory for whole apps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import cocoindex as coco
from cocoindex.connectors.localfs import source

sys.path.insert(0, str(Path(__file__).parent))  # for the helpers beside this file

from localfs_world import World


@pytest.fixture
def world(env: coco.Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(env, tmp_path)
    real = source.File._read_impl

    async def read_impl(file: source.File, size: int = -1) -> bytes:
        made.read.append(file.file_path.name)
        return await real(file, size)

    monkeypatch.setattr(source.File, "_read_impl", read_impl)
    return made
