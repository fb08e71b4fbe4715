"""``cocoindex state``: stores without a program."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cocoindex.state.open import open_store


@pytest.fixture(scope="module")
def made(read_only: Any) -> Path:
    """The store of a program that has run."""
    return Path(read_only.root, "store")


@pytest.fixture
def store(made: Path, project: Any) -> Path:
    """A copy of it in the working directory."""
    return Path(shutil.copytree(made, project.root / "store"))


def damage(store: Path, tag: bytes) -> None:
    opened = open_store(store)
    section = opened.section("Folders")
    section.write([(section.scan(tag)[0][0], None)])
    opened.close()


class TestDu:
    def test_it_shows_tables_functions_and_containers(self, here: Any, store: Path) -> None:
        done = here("state", "du", "store")
        assert done.returncode == 0
        lines = done.stdout.splitlines()
        assert lines[0].startswith("./store: ")
        assert any(line.startswith("Folders: ") for line in lines)
        assert any(line.endswith(" rows  process_file") for line in lines)
        assert any(line.endswith("2 target states  /@test/files") for line in lines)

    def test_it_is_data_too(self, here: Any, store: Path) -> None:
        found = json.loads(here("state", "du", f"lmdb:{store}", "--json").stdout)
        app = found["apps"]["Folders"]
        assert sum(table["rows"] for table in app["tables"].values()) == app["rows"]
        assert app["tables"]["owners"]["rows"] == 2

    def test_the_variable_names_the_store(
        self, here: Any, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COCOINDEX_DB", "store")
        assert here("state", "du").stdout.startswith("./store: ")


class TestFsck:
    def test_a_sound_store_is_ok(self, here: Any, store: Path) -> None:
        done = here("state", "fsck", "store")
        assert (done.returncode, done.stdout, done.stderr) == (0, "Folders: ok\n", "")

    def test_a_violation_exits_1_and_a_repair_mends_it(self, here: Any, store: Path) -> None:
        damage(store, b"O")
        done = here("state", "fsck", "store")
        assert done.returncode == 1
        head, title, finding, hint = done.stdout.splitlines()
        assert (head, title) == ("Folders: 1 violated", "  Violations:")
        assert finding.startswith("    I2 /@test/files/")
        assert "--repair" in hint

        done = here("state", "fsck", "store", "--repair")
        assert done.returncode == 0
        assert done.stdout.startswith("Folders: 1 repaired, ok\n  Repaired:\n    I2 /@test/files/")
        assert here("state", "fsck", "store").stdout == "Folders: ok\n"

    def test_what_can_not_be_repaired_exits_1(self, here: Any, store: Path) -> None:
        opened = open_store(store)
        opened.section("Folders").write([(b"Z", b"")])
        opened.close()
        done = here("state", "fsck", "store", "--repair", "--json")
        assert done.returncode == 1
        (app,) = json.loads(done.stdout)["apps"]
        assert (app["violations"], app["repaired"]) == (1, [])
        assert app["findings"][0]["invariant"] == "rows"

    def test_unfinished_work_is_shown_and_no_failure(self, folders: Any) -> None:
        assert folders.run("update", "main.py", "-q").returncode == 0
        folders.write("locked", "")
        (folders.root / "in" / "a.txt").unlink()
        assert folders.run("update", "main.py", "-q").returncode == 1
        done = folders.run("state", "fsck", "store")
        assert done.returncode == 0
        assert done.stdout.startswith("Folders: 2 unfinished\n  Left for the next update:\n    I6 ")

    def test_a_repair_is_refused_while_the_app_runs(self, folders: Any) -> None:
        assert folders.run("update", "main.py", "-q").returncode == 0
        program = folders.read("main.py").replace(
            "async def app_main():",
            "async def app_main():\n    print('running', flush=True); input()",
        )
        folders.write("main.py", program)
        with folders.start("update", "main.py", "-q") as running:
            assert running.stdout.readline() == "running\n"
            assert folders.run("state", "fsck", "store").returncode == 0
            done = folders.run("state", "fsck", "store", "--repair")
            running.communicate("\n", timeout=300)
        assert done.returncode == 1
        assert f"is being run by process {running.pid}" in done.stderr

    def test_one_app_can_be_chosen(self, here: Any, store: Path) -> None:
        assert here("state", "fsck", "store", "--app-name", "Folders").returncode == 0
        done = here("state", "fsck", "store", "--app-name", "Folder")
        assert done.returncode == 1
        assert done.stderr == (
            "Error: No app named 'Folder' has state here. Persisted apps: Folders\n"
        )


class TestMoving:
    def test_export_and_import(self, here: Any, store: Path) -> None:
        done = here("state", "export", "store", "file")
        assert done.returncode == 0
        assert done.stdout.startswith("Exported Folders (")
        done = here("state", "import", "new/store", "file")
        assert done.stdout.startswith("Imported Folders (")
        assert here("state", "fsck", "new/store").stdout == "Folders: ok\n"

        done = here("state", "import", "new/store", "file")
        assert done.returncode == 1
        assert "--force" in done.stderr
        assert here("state", "import", "new/store", "file", "--force").returncode == 0
        assert here("state", "export", "store", "file").returncode == 1
        assert here("state", "export", "store", "file", "-f").returncode == 0

    def test_an_update_over_imported_state_does_nothing(self, folders: Any) -> None:
        assert folders.run("update", "main.py", "-q").returncode == 0
        assert folders.run("state", "export", "store", "file").returncode == 0
        shutil.rmtree(folders.root / "store")
        assert folders.run("state", "import", "store", "file").returncode == 0
        done = folders.run("update", "main.py", "--preview", "--exit-code")
        assert (done.returncode, done.stderr) == (0, "")

    def test_copy(self, here: Any, store: Path) -> None:
        done = here("state", "copy", "lmdb:store", "lmdb:other")
        assert done.stdout.startswith("Copied Folders (")
        assert here("state", "fsck", "other").stdout == "Folders: ok\n"
        assert here("state", "copy", "store", "other").returncode == 1
        assert here("state", "copy", "store", "other", "-f").returncode == 0

    def test_compact(self, here: Any, store: Path) -> None:
        done = here("state", "compact", "store")
        assert done.returncode == 0
        assert done.stdout.startswith("./store: ")
        assert here("state", "fsck", "store").stdout == "Folders: ok\n"


class TestErrors:
    @pytest.mark.parametrize("command", ["du", "fsck", "compact", "export"])
    def test_a_store_that_is_not_there_is_not_made(
        self, here: Any, project: Any, command: str
    ) -> None:
        more = ["file"] if command == "export" else []
        done = here("state", command, "none", *more)
        assert (done.returncode, done.stderr) == (1, "Error: Database path does not exist: none\n")
        assert list(project.root.iterdir()) == []

    def test_other_kinds_of_store_are_named_without_their_password(self, here: Any) -> None:
        done = here("state", "du", "mysql://me:hunter2@host/db")
        assert done.returncode == 1
        assert "not available in this release" in done.stderr
        assert "hunter2" not in done.stderr

    def test_a_foreign_file_is_refused_before_a_store_is_made(
        self, here: Any, project: Any
    ) -> None:
        project.write("file", "hello")
        done = here("state", "import", "store", "file")
        assert done.returncode == 1
        assert done.stderr == "Error: file is not a file made by 'cocoindex state export'\n"

    def test_a_missing_file_is_named(self, here: Any) -> None:
        done = here("state", "import", "store", "none")
        assert (done.returncode, done.stderr) == (1, "Error: File does not exist: none\n")

    def test_usage(self, here: Any) -> None:
        assert here("state", "du").returncode == 2
        assert here("state", "fsk").returncode == 2
        assert "fsck" in here("state", "--help").stdout
