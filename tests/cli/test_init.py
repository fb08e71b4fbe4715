"""``cocoindex init``."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

import cocoindex

FILES = [".env", ".gitignore", "README.md", "data/hello.md", "main.py", "pyproject.toml"]


def files_of(project: Any) -> list[str]:
    paths = (path.relative_to(project.root).as_posix() for path in project.root.rglob("*"))
    return sorted(path for path in paths if (project.root / path).is_file())


def test_a_new_project_is_made_in_a_folder_of_its_name(project: Any, here: Any) -> None:
    done = here("init", "my-notes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Created CocoIndex project 'my-notes' in 'my-notes'\n\nNext steps:\n"
        "  1. cd my-notes\n  2. uv run cocoindex update main.py\n"
    )
    project.root /= "my-notes"
    assert files_of(project) == FILES
    about = tomllib.loads(project.read("pyproject.toml"))["project"]
    assert (about["name"], about["version"]) == ("my-notes", "0.1.0")
    assert about["requires-python"] == ">=3.11"
    assert about["dependencies"] == [f"cocoindex>={cocoindex.__version__}"]


def test_the_new_project_runs_as_it_is_and_then_only_what_changed(project: Any, here: Any) -> None:
    here("init", "notes")
    project.root /= "notes"
    assert "  notes [+]\n" in project.run("ls", "main.py").stdout
    done = project.run("update", "main.py")
    assert done.returncode == 0, done.stderr
    assert "✅ process_file: 1 total | 1 added" in done.stdout
    assert json.loads(project.read("out/hello.md.json"))[0] == "# Hello"
    project.write("data/sub/more.md", "one\n\ntwo\n")
    done = project.run("update", "main.py:notes")
    assert "✅ process_file: 2 total | 1 added, 1 unchanged" in done.stdout
    assert json.loads(project.read("out/sub/more.md.json")) == ["one", "two"]
    project.root.joinpath("data/sub/more.md").unlink()
    project.run("update", "main.py")
    assert not project.root.joinpath("out/sub/more.md.json").exists()


def test_without_a_name_the_folder_names_the_project(
    project: Any, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = here("init", "--dir", "here")
    assert done.stdout.startswith("Created CocoIndex project 'here' in 'here'\n")
    monkeypatch.chdir(project.root / "here")
    done = here("init", "-f")
    assert "  1. uv run cocoindex update main.py\n" in done.stdout


def test_a_name_with_other_characters_is_refused(here: Any) -> None:
    done = here("init", "my app")
    assert done.returncode == 2
    assert (
        "Invalid project name 'my app'. Project name must contain only alphanumeric characters, "
        "hyphens, and underscores."
    ) in done.stderr


def test_a_folder_with_files_is_written_to_only_after_a_yes(project: Any, here: Any) -> None:
    project.write("it/main.py", "mine")
    done = here("init", "it", answer="n\n")
    assert (done.returncode, done.stdout) == (0, "Init cancelled.\n")
    assert "These files would be overwritten: main.py\n" in done.stderr
    assert (
        "Directory 'it' already exists and is not empty. Continue and overwrite existing files? "
        "[y/N]"
    ) in done.stderr
    assert project.read("it/main.py") == "mine"
    assert here("init", "it", answer="y\n").returncode == 0
    assert project.read("it/main.py") != "mine"


def test_force_asks_nothing(project: Any, here: Any) -> None:
    project.write("it/main.py", "mine")
    assert here("init", "it", "--force").returncode == 0
    assert project.read("it/main.py") != "mine"
