"""Processes that start at once create a table once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

import cocoindex as coco

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("two_processes.py")


def started(kind, database, state):
    """Three programs that are let go together."""
    source = str(Path(coco.__file__).parents[1])
    programs = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), kind, str(database), str(state / str(i)), str(i)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": source},
            text=True,
        )
        for i in range(3)
    ]
    for program in programs:
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        program.stdin.write("\n")
        program.stdin.flush()
    for program in programs:
        _, errors = program.communicate(timeout=60)
        assert program.returncode == 0, errors


def test_in_one_file(tmp_path):
    started("sqlite", tmp_path / "db.sqlite", tmp_path)
    with closing(sqlite3.connect(tmp_path / "db.sqlite")) as db:
        assert db.execute("SELECT * FROM t ORDER BY id").fetchall() == [(i, "x") for i in range(3)]


async def test_on_one_server(pg, tmp_path):
    started("postgres", pg, tmp_path)
    connection = await asyncpg.connect(pg)
    rows = await connection.fetch("SELECT * FROM kb.t ORDER BY id")
    await connection.close()
    assert [tuple(row) for row in rows] == [(i, "x") for i in range(3)]
