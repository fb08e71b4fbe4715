"""Programs, and state tools, whose store is in Postgres."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.engine.settings import get_default_db_path

SAID_BY_THE_PROGRAM = '    builder.settings.db_path = pathlib.Path("store")\n'


class Program:
    """A program that leaves it to the environment where its state is, and the state tools."""

    def __init__(self, folders: Any, here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = folders.root
        self._folders, self._here, self._monkeypatch = folders, here, monkeypatch
        self._env: dict[str, str] = {}

    def set(self, name: str, value: str) -> None:
        self._env[name] = value
        self._monkeypatch.setenv(name, value)

    def unset(self, name: str) -> None:
        del self._env[name]
        self._monkeypatch.delenv(name)

    def run(self, *args: str) -> Any:
        if args[0] == "state" or "--db" in args:
            return self._here(*args)
        return self._folders.run(*args, **self._env)


@pytest.fixture
def folders(folders: Any, here: Any, pg18: str, monkeypatch: pytest.MonkeyPatch) -> Program:
    text = folders.read("main.py")
    assert SAID_BY_THE_PROGRAM in text
    folders.write("main.py", text.replace(SAID_BY_THE_PROGRAM, ""))
    program = Program(folders, here, monkeypatch)
    program.set("COCOINDEX_DATABASE_URL", pg18)
    return program


def shown(url: str) -> str:
    """The URL as it may be printed."""
    return re.sub(r"//.*@", "//", url)


def password(url: str) -> str:
    return url.split(":")[2].split("@", maxsplit=1)[0]


def test_a_program_keeps_its_state_there(folders: Program, pg18: str) -> None:
    assert folders.run("ls", "main.py").stdout.startswith(
        f"default ({shown(pg18)}):\n  Folders [+]"
    )
    assert folders.run("update", "main.py", "-q").returncode == 0
    assert folders.run("ls", "main.py").stdout == f"default ({shown(pg18)}):\n  Folders\n"
    done = folders.run("update", "main.py", "--preview", "--exit-code")
    assert (done.returncode, done.stderr) == (0, "")
    assert folders.run("drop", "main.py", "-f", "-q").returncode == 0
    assert folders.run("ls", "--db", pg18).stdout == "No persisted apps found in the database.\n"
    assert not (folders.root / "store").exists()


def test_the_schema_of_the_settings_is_made_and_used(folders: Program, pg18: str) -> None:
    folders.set("COCOINDEX_DATABASE_SCHEMA_NAME", "my state")
    assert folders.run("update", "main.py", "-q").returncode == 0
    assert "Folders" in folders.run("ls", "--db", f"{pg18}?schema=my%20state").stdout
    assert folders.run("state", "fsck").stdout == "Folders: ok\n"
    folders.unset("COCOINDEX_DATABASE_SCHEMA_NAME")
    assert folders.run("state", "fsck").returncode == 1


def test_a_directory_wins_over_the_database(folders: Program, pg18: str) -> None:
    folders.set("COCOINDEX_DB", "store")
    assert folders.run("update", "main.py", "-q").returncode == 0
    assert (folders.root / "store").exists()
    assert folders.run("ls", "--db", pg18).returncode == 1


def test_the_state_tools_take_its_url(folders: Program, pg18: str) -> None:
    assert folders.run("update", "main.py", "-q").returncode == 0
    assert folders.run("state", "du", pg18).stdout.startswith(f"{shown(pg18)}: ")
    found = json.loads(folders.run("state", "du", "--json").stdout)
    assert found["apps"]["Folders"]["tables"]["owners"]["rows"] == 2
    assert folders.run("state", "fsck", pg18).stdout == "Folders: ok\n"
    assert folders.run("state", "fsck", pg18, "--repair").stdout.startswith("Folders: 0 repaired")
    assert folders.run("state", "compact", pg18).returncode == 0
    assert folders.run("state", "export", pg18, "one").returncode == 0
    assert folders.run("state", "import", pg18, "one").returncode == 1
    assert folders.run("state", "import", pg18, "one", "--force").returncode == 0
    assert folders.run("state", "export", pg18, "two").returncode == 0
    assert folders.root.joinpath("one").read_bytes() == folders.root.joinpath("two").read_bytes()
    assert folders.run("update", "main.py", "--preview", "--exit-code").returncode == 0


def test_state_moves_between_a_directory_and_a_database(folders: Program, pg18: str) -> None:
    there, back = f"{pg18}?schema=there", "lmdb:back"
    assert folders.run("update", "main.py", "-q").returncode == 0
    assert folders.run("state", "export", pg18, "original").returncode == 0
    for source, target in ((pg18, "first"), ("first", there), (there, back)):
        done = folders.run("state", "copy", source, target)
        assert done.stdout.startswith("Copied Folders (")
        assert password(pg18) not in done.stdout
    assert folders.run("state", "copy", back, there).returncode == 1
    assert folders.run("state", "copy", back, there, "--force").returncode == 0
    for store in ("first", there, back):
        assert folders.run("state", "fsck", store).stdout == "Folders: ok\n"
        assert folders.run("state", "export", store, "copy", "-f").returncode == 0
        assert (folders.root / "copy").read_bytes() == (folders.root / "original").read_bytes()


def test_what_fails_names_the_host_and_no_password(folders: Program) -> None:
    url = "postgresql://me:hunter2@127.0.0.1:1/db"
    folders.set("COCOINDEX_DATABASE_URL", url)
    for command in (("ls", "--db", url), ("state", "du", url), ("update", "main.py")):
        done = folders.run(*command)
        assert done.returncode == 1
        assert "Failed to connect to database at 127.0.0.1:1" in done.stderr
        assert "hunter2" not in done.stderr + done.stdout


def test_there_is_no_store_in_an_empty_database(folders: Program, pg18: str) -> None:
    done = folders.run("state", "du", pg18)
    assert done.returncode == 1
    assert "there is no state store at" in done.stderr
    assert password(pg18) not in done.stderr


class TestSettings:
    def test_the_environment_fills_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {
            "COCOINDEX_DATABASE_URL": "postgresql://u:p@host/db",
            "COCOINDEX_DATABASE_USER": "someone",
            "COCOINDEX_DATABASE_PASSWORD": "hunter2",
            "COCOINDEX_DATABASE_MAX_CONNECTIONS": "7",
            "COCOINDEX_DATABASE_MIN_CONNECTIONS": "2",
            "COCOINDEX_DATABASE_SCHEMA_NAME": "state",
        }.items():
            monkeypatch.setenv(name, value)
        settings = coco.Settings.from_env()
        expected = coco.DatabaseConnectionSpec(
            "postgresql://u:p@host/db", "someone", "hunter2", max_connections=7, min_connections=2
        )
        assert settings.database == expected
        assert settings.db_schema_name == "state"
        location: Any = settings.store_location()
        assert (location.user, location.password) == ("someone", "hunter2")
        assert "hunter2" not in repr(settings)
        assert "u:p" not in repr(settings)

    def test_without_a_url_there_is_no_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COCOINDEX_DATABASE_USER", "someone")
        assert coco.Settings.from_env().database is None

    def test_a_bad_number_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COCOINDEX_DATABASE_MAX_CONNECTIONS", "many")
        with pytest.raises(
            ValueError,
            match="failed to parse environment variable COCOINDEX_DATABASE_MAX_CONNECTIONS: many",
        ):
            coco.Settings.from_env()

    def test_a_url_is_no_directory(self) -> None:
        with pytest.raises(ValueError, match="database=DatabaseConnectionSpec"):
            coco.Settings("postgresql://host/db")

    def test_nor_is_it_one_in_the_variable_for_directories(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = coco.Settings()
        settings.db_path = "postgresql://host/db"  # type: ignore[assignment]
        with pytest.raises(ValueError, match="db_path is the directory"):
            settings.store_location()
        monkeypatch.setenv("COCOINDEX_DB", "postgresql://host/db")
        with pytest.raises(ValueError, match="COCOINDEX_DB is the directory"):
            get_default_db_path()

    def test_an_environment_uses_them(self, pg18: str) -> None:
        database = coco.DatabaseConnectionSpec(pg18)
        environment = coco.Environment(coco.Settings(database=database, db_schema_name="mine"))
        assert environment.store.location == f"{shown(pg18)}?schema=mine"
        with pytest.raises(RuntimeError, match="already open in this process"):
            coco.Environment(coco.Settings(database=database, db_schema_name="mine"))
        environment.close()

    def test_a_spec_that_cannot_be_read_is_not_shown(self) -> None:
        assert "hunter2" not in repr(coco.DatabaseConnectionSpec("postgresql://u:a/hunter2@h/d"))
