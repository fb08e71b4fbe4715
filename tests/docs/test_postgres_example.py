"""The page about a Postgres out of a wheel: its example, run by its one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_example_runs_with_nothing_installed(tmp_path: Path) -> None:
    home = Path(shutil.copytree(ROOT / "examples/notes_in_postgres", tmp_path / "example"))
    # Not below tmp_path, which the user that the server runs as may be unable to reach.
    with tempfile.TemporaryDirectory(prefix="coco-pg-test-") as pgdata:

        def updated() -> str:
            done = run(home, "-m", "cocoindex.testing.postgres", pgdata, "--", *update())
            assert (done.returncode, done.stderr) == (0, "")
            return done.stdout

        assert "publish: 2 total | 2 added" in updated()
        assert "publish: 2 total | 2 unchanged" in updated()
        (home / "notes/trees.md").unlink()
        assert "publish: 2 total | 1 deleted, 1 unchanged" in updated()


def test_its_rows_are_in_the_table(pg18: str) -> None:
    home = ROOT / "examples/notes_in_postgres"
    urls = {"POSTGRES_URL": pg18, "COCOINDEX_DATABASE_URL": pg18}
    done = run(home, *update()[1:], **urls)
    assert (done.returncode, done.stderr) == (0, "")
    with psycopg.connect(pg18) as connection:
        found = connection.execute("SELECT name, words FROM notes ORDER BY name").fetchall()
    assert found == [("rivers", 10), ("trees", 15)]


def update() -> list[str]:
    return [sys.executable, "-m", "cocoindex", "update", "main.py"]


def run(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("COCOINDEX_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=home,
        env={**kept, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
