"""The deletion guard at the command line: message, status, approval, preview."""

from __future__ import annotations

import json
from typing import Any

import pytest

MOUNTS = """    for path in files:
        subpath = coco.component_subpath("files", path.name)
        await coco.mount(subpath, process_file, path.name, path.read_text())
"""
GUARDED_MOUNTS = """    async def process(path):
        await process_file(path.name, path.read_text())

    items = [(path.name, path) for path in files]
    await coco.mount_each(coco.component_subpath("files"), process, items)
"""
GUARD = ", deletion_guard=coco.DeletionGuard(0.5, 2)"


@pytest.fixture
def emptied(folders: Any) -> Any:
    """A program that has written four files, and whose folder is empty now but for one."""
    program = folders.read("main.py")
    assert MOUNTS in program
    program = program.replace(MOUNTS, GUARDED_MOUNTS).replace(
        'coco.App("Folders", ', f'coco.App(coco.AppConfig("Folders"{GUARD}), '
    )
    folders.write("main.py", program)
    for name in "abcd":
        folders.write(f"in/{name}.txt", name)
    assert folders.run("update", "main.py", "-q").returncode == 0
    for name in "bcd":
        (folders.root / "in" / f"{name}.txt").unlink()
    return folders


def outputs(project: Any) -> list[str]:
    return sorted(path.name for path in (project.root / "out").iterdir())


def test_withheld_removals_exit_3_and_say_how_to_approve(emptied: Any) -> None:
    done = emptied.run("update", "main.py", "-q")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(
        'Error: deletion guard: withheld the removal of 3 of 4 children below /"files".'
    )
    assert "--allow-deletes" in done.stderr
    assert outputs(emptied) == ["a.txt", "b.txt", "c.txt", "d.txt"]

    done = emptied.run("update", "main.py", "-q", "--allow-deletes")
    assert (done.returncode, done.stderr) == (0, "")
    assert outputs(emptied) == ["a.txt"]


def test_a_failure_as_well_exits_1(emptied: Any) -> None:
    emptied.write("in/a.txt", "bad")
    done = emptied.run("update", "main.py", "-q")
    assert done.returncode == 1
    assert "withheld the removal of 3 of 4" in done.stderr
    assert "1 component(s) failed" in done.stderr


def test_the_variable_turns_it_off_for_apps_that_set_nothing(emptied: Any) -> None:
    program = emptied.read("main.py").replace(GUARD, "")
    emptied.write("main.py", program)
    done = emptied.run("update", "main.py", "-q", COCOINDEX_DELETION_GUARD="0.5:2")
    assert done.returncode == 3
    done = emptied.run("update", "main.py", "-q", COCOINDEX_DELETION_GUARD="off")
    assert done.returncode == 0
    assert outputs(emptied) == ["a.txt"]
    done = emptied.run("update", "main.py", "-q", COCOINDEX_DELETION_GUARD="sometimes")
    assert done.returncode == 1
    assert "COCOINDEX_DELETION_GUARD='sometimes'" in done.stderr


def test_a_preview_lists_withheld_removals_apart(emptied: Any) -> None:
    done = emptied.run("update", "main.py", "--preview", "--exit-code")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1:] == [
        "Preview: planned target actions",
        "  No target actions planned.",
        "Withheld by the deletion guard (--allow-deletes approves):",
        '  removal of 3 of 4 children below /"files"',
    ]
    done = emptied.run("update", "main.py", "--preview", "--json")
    assert json.loads(done.stdout)["withheld"] == [{"path": '/"files"', "removed": 3, "had": 4}]

    done = emptied.run("update", "main.py", "--preview", "--allow-deletes")
    assert done.stdout.count("('delete'") == 3
    assert "Withheld" not in done.stdout


def test_a_drop_is_not_guarded(emptied: Any) -> None:
    done = emptied.run("drop", "main.py", "-f", "-q")
    assert done.returncode == 0
    assert outputs(emptied) == []
