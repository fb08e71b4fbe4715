"""A world whose updates are killed or starved, and what must hold in it all the time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("COCOINDEX_CRASH_ROUNDS", "1"))
"""How many times as long as usual the random tests of this directory go on."""

LINES = 400


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def derived(text: str) -> str:
    return f"{text}\n" * LINES + "END"


class Forks:
    """Updates in processes of their own; see ``forks.py``."""

    def __init__(self, log: Path, **environment: str) -> None:
        self._log = log
        self._environment = {**os.environ, **environment}
        self._server: subprocess.Popen[str] | None = None

    def _start(self) -> subprocess.Popen[str]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, HERE / "forks.py"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
            )

    def run(self, home: Path, **plan: Any) -> dict[str, Any]:
        server, self._server = self._server or self._start(), None
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            server.stdin.write(json.dumps({"home": str(home), **plan}) + "\n")
            server.stdin.flush()
            answer: dict[str, Any] = json.loads(server.stdout.readline())
        except BaseException:  # a late answer must not be taken for that of the next plan
            server.kill()
            server.communicate()
            raise
        self._server = server
        if answer["status"] > 0:
            raise AssertionError(self._log.read_text())
        return answer

    def close(self) -> None:
        if self._server is not None:
            self._server.communicate()


Rows = list[tuple[str, str, str]]


class Table(Protocol):
    """A table that the app fills, in a database where others have something, too."""

    def rows(self) -> Rows:
        """Name, text and digest; after a check of everything else in the database."""
        ...


class SqliteTable:
    def __init__(self, file: Path) -> None:
        self._file = file
        with contextlib.closing(sqlite3.connect(file)) as db, db:
            db.execute("CREATE TABLE theirs (x)")
            db.execute("INSERT INTO theirs VALUES ('foreign')")

    def rows(self) -> Rows:
        """Looks at a copy, and so neither needs anybody's lock nor tidies up what was left."""
        with tempfile.TemporaryDirectory() as folder:
            for file in self._file.parent.glob(f"{self._file.name}*"):
                if not file.name.endswith("-shm"):
                    shutil.copy(file, folder)
            with contextlib.closing(sqlite3.connect(Path(folder) / self._file.name)) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert db.execute("SELECT * FROM theirs").fetchall() == [("foreign",)]
                if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'notes'").fetchall():
                    return []
                return db.execute("SELECT name, text, digest FROM notes").fetchall()


class ServerTable:
    """On a server, which goes on when an update dies."""

    def __init__(self, url: str) -> None:
        self._url = url
        with psycopg.connect(url) as db:
            db.execute("CREATE TABLE theirs AS SELECT 'foreign' AS x")

    def rows(self) -> Rows:
        with psycopg.connect(self._url) as db:
            assert db.execute("SELECT * FROM theirs").fetchall() == [("foreign",)]
            if db.execute("SELECT to_regclass('notes')").fetchone() == (None,):
                return []
            return db.execute("SELECT name, text, digest FROM notes").fetchall()


class World:
    """Sources that change, targets that must follow, and things of others in between."""

    def __init__(self, home: Path, seed: int, url: str = "") -> None:
        """``url``: of the server that has the table."""
        self.home = home
        self.url = url
        self.rng = random.Random(seed)
        self.seed = seed
        self.texts: dict[str, str] = {}
        self.ever: dict[str, set[str]] = {}
        self._edits = 0
        for name in ("source", "rows", "out/sub"):
            (home / name).mkdir(parents=True)
        self._foreign = {
            home / "out" / "FOREIGN.md": "mine",
            home / "out" / "sub" / "FOREIGN.md": "mine too",
            home / "rows" / "FOREIGN": "also mine",
        }
        for path, text in self._foreign.items():
            path.write_text(text)
        self.table: Table = ServerTable(url) if url else SqliteTable(home / "db.sqlite")

    # --- the source ---

    def write(self, name: str, text: str) -> None:
        path = self.home / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.texts[name] = text
        self.ever.setdefault(name, set()).add(text)

    def remove(self, name: str) -> None:
        path = self.home / "source" / name
        path.unlink()
        if path.parent.name.startswith("d") and not any(path.parent.iterdir()):
            path.parent.rmdir()
        del self.texts[name]

    def edit(self, times: int = 4) -> None:
        """Add, change, touch, rename and delete a few source files."""
        for _ in range(times):
            self._edits += 1
            kind = self.rng.choice(("add", "add", "change", "change", "touch", "rename", "delete"))
            if kind == "add" or not self.texts:
                folder = self.rng.choice(("", "", "sub/", "deep/er/"))
                self.write(f"{folder}f{self.rng.randrange(12)}", f"text {self._edits}")
                continue
            name = self.rng.choice(sorted(self.texts))
            if kind == "touch":
                os.utime(self.home / "source" / name)
                continue
            text = self.texts[name]
            if kind != "change":
                self.remove(name)
            if kind == "change":
                self.write(name, f"text {self._edits}")
            elif kind == "rename":
                self.write(f"r{self._edits % 5}", text)

    def update(self, forks: Forks, **plan: Any) -> dict[str, Any]:
        return forks.run(self.home, url=self.url, **plan)

    # --- what must hold ---

    def outside(self) -> tuple[dict[str, str], dict[str, str]]:
        """Files of the targets that make them, without what others put there."""
        out = self.home / "out"
        files = {
            path.relative_to(out).as_posix(): path.read_text()
            for path in out.rglob("*")
            if path.is_file() and path not in self._foreign
        }
        rows = {
            path.name: path.read_text()
            for path in (self.home / "rows").iterdir()
            if path not in self._foreign and not path.name.startswith("new-")
        }
        return files, rows

    def expected(self) -> tuple[dict[str, str], dict[str, str]]:
        files = {f"{name}.txt": derived(text) for name, text in self.texts.items()}
        rows = {name.replace("/", "%"): digest_of(text) for name, text in self.texts.items()}
        return files, rows

    def check_unharmed(self) -> None:
        """No torn file, nothing of others touched; at any moment."""
        for path, text in self._foreign.items():
            assert path.read_text() == text, path
        for name, content in self.outside()[0].items():
            if "/.cocoindex-" in f"/{name}":
                continue
            text = content.partition("\n")[0]
            assert content == derived(text), f"{name} is torn"
            assert text in self.ever[name.removesuffix(".txt")], name
        for name, text, digest in self.table.rows():
            assert digest == digest_of(text), f"the row of {name} is torn"
            assert text in self.ever[name], name

    def check_died_or_ended(self, report: dict[str, Any]) -> bool:
        """Whether the update was killed; if not, it must have ended well."""
        self.check_unharmed()
        died: bool = report["status"] < 0
        if not died:
            self.check_converged(report)
        return died

    def check_converged(self, report: dict[str, Any]) -> None:
        """The outside is what a build from nothing would make; nothing else is left."""
        assert (report["status"], report["error"]) == (0, None)
        assert report["wrong"] == []
        self.check_unharmed()
        files, rows = self.outside()
        wanted_files, wanted_rows = self.expected()
        assert sorted(files) == sorted(wanted_files)
        assert files == wanted_files
        assert rows == wanted_rows
        notes = sorted((name, text, digest_of(text)) for name, text in self.texts.items())
        assert sorted(self.table.rows()) == notes
        self._check_folders()

    def check_recovers(self, forks: Forks) -> None:
        """A clean update puts everything right; one more finds nothing to do."""
        self.check_converged(self.update(forks))
        logged = self.logged()
        again = self.update(forks)
        self.check_converged(again)
        assert (again["ran"], self.logged()) == ([], logged)

    def _check_folders(self) -> None:
        out = self.home / "out"
        kept = {parent for name in self.expected()[0] for parent in (out / name).parents}
        kept |= {parent for path in self._foreign for parent in path.parents}
        assert [path for path in out.rglob("*") if path.is_dir() and path not in kept] == []

    def logged(self) -> int:
        log = self.home / "actions.log"
        return log.stat().st_size if log.exists() else 0

    def twin(self, home: Path) -> World:
        """Another world with the same sources and nothing derived yet."""
        twin = World(home, self.seed)
        shutil.rmtree(home / "source")
        shutil.copytree(self.home / "source", home / "source")
        twin.texts, twin.ever = self.texts, self.ever
        return twin


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    forks = Forks(tmp_path_factory.mktemp("forks") / "log")
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def c_forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """The same, able to have system calls of databases fail; needs a C compiler and Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler, to stand between databases and the system")
    made = tmp_path_factory.mktemp("shim")
    shim = made / "shim.so"
    build = [compiler, "-shared", "-fPIC", "-O1", "-o", str(shim), str(HERE / "shim.c"), "-ldl"]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the C compiler makes no shared library here: {done.stderr[:200]}")
    forks = Forks(made / "log", LD_PRELOAD=str(shim))
    yield forks
    forks.close()


@pytest.fixture
def make_world(tmp_path: Path) -> Any:
    def make(seed: int, name: str = "home", url: str = "") -> World:
        return World(tmp_path / f"{name}-{seed}", seed, url)

    return make


@pytest.fixture
def rounds() -> int:
    return ROUNDS
