"""The complete local file system example of the guide, started and killed as a program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

KILLED = 7


@pytest.fixture(params=["root", "files"])
def mode(request: pytest.FixtureRequest) -> str:
    """One component for all files, or one memoized component per file."""
    return str(request.param)


class Example:
    """Source and target directories of the example, and its runs."""

    def __init__(self, home: Path, mode: str, run_script: Callable[..., Any]) -> None:
        self.source, self.target = home / "source", home / "target"
        self.source.mkdir()
        self._args = (str(home / "db"), str(self.source), str(self.target), mode)
        self._run_script = run_script

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.source / name).write_text(text)

    def run(self) -> list[str]:
        """Run to the end; what was done to the target, sorted."""
        return self._lines(self._run_script("localfs", *self._args))

    def run_killed(self, crash: str) -> list[str]:
        """Run until the sink has handled the file ``crash``; the process dies there."""
        return self._lines(self._run_script("localfs", *self._args, crash, expect=KILLED))

    @staticmethod
    def _lines(done: Any) -> list[str]:
        return sorted(x for x in done.stdout.splitlines() if x.startswith(("write", "unlink")))

    def result(self) -> dict[str, str]:
        if not self.target.exists():
            return {}
        return {path.name: path.read_text() for path in self.target.iterdir()}


@pytest.fixture
def example(tmp_path: Path, mode: str, run_script: Callable[..., Any]) -> Example:
    return Example(tmp_path, mode, run_script)


def test_files_are_added_changed_and_deleted_across_restarts(example: Example) -> None:
    example.write(a="one", b="two")
    assert example.run() == ["write a", "write b"]
    assert example.result() == {"a": "ONE", "b": "TWO"}

    assert example.run() == []

    example.write(a="uno", c="three")
    assert example.run() == ["write a", "write c"]

    (example.source / "b").unlink()
    assert example.run() == ["unlink b"]
    assert example.result() == {"a": "UNO", "c": "THREE"}


def test_a_new_file_is_written_again_after_a_kill_between_sink_and_commit(
    example: Example,
) -> None:
    example.write(a="one")
    assert example.run_killed("a") == ["write a"]
    assert example.run() == ["write a"]
    assert example.run() == []


def test_a_new_file_is_removed_if_its_source_went_away_after_a_kill(example: Example) -> None:
    example.write(a="one")
    example.run_killed("a")
    (example.source / "a").unlink()
    assert example.run() == ["unlink a"]
    assert example.result() == {}
    assert example.run() == []


def test_going_back_to_the_old_content_after_a_kill_restores_it(example: Example) -> None:
    example.write(a="old")
    example.run()
    example.write(a="new")
    example.run_killed("a")
    assert example.result() == {"a": "NEW"}

    example.write(a="old")
    assert example.run() == ["write a"]
    assert example.result() == {"a": "OLD"}


def test_a_delete_that_was_killed_is_repeated(example: Example) -> None:
    example.write(a="one", b="two")
    example.run()
    (example.source / "a").unlink()
    example.run_killed("a")
    assert example.run() == ["unlink a"]
    assert example.run() == []
    assert example.result() == {"b": "TWO"}


def test_a_file_whose_delete_was_killed_comes_back_when_its_source_does(
    example: Example,
) -> None:
    example.write(a="one")
    example.run()
    (example.source / "a").unlink()
    example.run_killed("a")
    example.write(a="one")
    assert example.run() == ["write a"]
    assert example.result() == {"a": "ONE"}
    assert example.run() == []


def test_the_memoized_functions_run_only_for_changed_files(
    tmp_path: Path, run_script: Callable[..., Any]
) -> None:
    example = Example(tmp_path, "files", run_script)

    def processed() -> list[str]:
        out = run_script("localfs", *example._args).stdout
        return sorted(line for line in out.splitlines() if line.startswith("process"))

    example.write(a="one", b="two")
    assert processed() == ["process a", "process b"]
    assert processed() == []
    example.write(b="zwei")
    assert processed() == ["process b"]
