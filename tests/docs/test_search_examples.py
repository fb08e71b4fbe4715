"""The programs on the pages about SQLite and Postgres, and what they find."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns(".state", "pages", "__pycache__", "*.sqlite*")
    return shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=ignored)


def run(home: Path, *arguments: str, **env: str) -> str:
    """Output of a program that has nothing to complain about, not even a deprecated call."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("COCOINDEX_")}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", *arguments],
        cwd=home,
        env={**kept, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def updated(home: Path, **env: str) -> str:
    (line,) = [
        line
        for line in run(home, "-m", "cocoindex", "update", "main.py", **env).splitlines()
        if "publish:" in line
    ]
    return line.partition("total | ")[2]


def check_search(home: Path, notes: Path, **env: str) -> None:
    """The words are found, in what is nearest too; and what is found follows the notes."""
    roses = "garden/roses.md: Roses want sun, and a soil that holds water."
    assert updated(home, **env) == "3 added"
    found = run(home, "search.py", "soil", **env).splitlines()
    assert found[0:3:2] == ["With these words:", "Nearest:"]
    assert found[1] == f"  {roses}"
    assert found[3].endswith(roses)
    assert found[3] < found[4] < found[5]  # by distance
    assert updated(home, **env) == "3 unchanged"
    (notes / "garden/roses.md").write_text("Peat is not good for them.")
    assert updated(home, **env) == "1 reprocessed, 2 unchanged"
    assert "garden" not in run(home, "search.py", "soil", **env).partition("Nearest:")[0]
    assert "  garden/roses.md: Peat" in run(home, "search.py", "peat", **env)


def test_notes_are_found_in_sqlite(examples: Path) -> None:
    pytest.importorskip("apsw")
    home = examples / "search_in_sqlite"
    check_search(home, home / "notes")


def test_notes_are_found_in_postgres(examples: Path, pg18: str) -> None:
    urls = {"POSTGRES_URL": pg18, "COCOINDEX_DATABASE_URL": pg18}
    notes = examples / "search_in_sqlite/notes"
    check_search(examples / "search_in_postgres", notes, **urls)


def test_pages_follow_a_table(examples: Path, pg18: str) -> None:
    home, url = examples / "pages_from_postgres", {"POSTGRES_URL": pg18}
    with psycopg.connect(pg18, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE products (id int PRIMARY KEY, name text, price numeric, updated_at int)"
        )
        connection.execute(
            "INSERT INTO products VALUES (1, 'tea', 5, 1), (2, 'pot', 15, 1), (3, 'cup', 12.5, 1)"
        )
        assert updated(home, **url) == "2 added"
        pages = {path.name: path.read_text() for path in (home / "pages").iterdir()}
        assert pages == {"2.txt": "pot: 15\n", "3.txt": "cup: 12.5\n"}
        connection.execute("UPDATE products SET price = 20, updated_at = 2 WHERE id = 1")
        assert updated(home, **url) == "1 added, 2 unchanged"
