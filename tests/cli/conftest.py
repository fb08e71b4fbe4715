"""A program in a folder, and the command line run on it as a user would."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from cocoindex.cli import program

SRC = Path(__file__).resolve().parents[2] / "src"

# A program with one target, a folder called ``out``, and one component per file in ``in``.
FOLDERS = """
import pathlib
import cocoindex as coco

class Files:
    def reconcile(self, key, desired, prev, maybe_missing, /):
        if coco.is_non_existence(desired):
            return coco.TargetReconcileOutput(("delete", key, None), SINK, coco.NON_EXISTENCE)
        if not maybe_missing and all(p == desired for p in prev):
            return None
        return coco.TargetReconcileOutput(("write", key, desired), SINK, desired)

def apply(context_provider, actions):
    for verb, key, content in actions:
        path = pathlib.Path("out") / key
        if verb == "delete":
            if pathlib.Path("locked").exists():
                raise PermissionError(f"{key} is locked")
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)

SINK = coco.TargetActionSink.from_fn(apply)
FILES = coco.register_root_target_states_provider("test/files", Files())

@coco.lifespan
def lifespan(builder):
    builder.settings.db_path = pathlib.Path("store")
    yield

@coco.fn(memo=True)
async def process_file(name, content):
    if content == "bad":
        raise ValueError(f"{name} is bad")
    coco.declare_target_state(FILES.target_state(name, content.upper()))

@coco.fn
async def app_main():
    files = sorted(pathlib.Path("in").iterdir())
    for path in files:
        subpath = coco.component_subpath("files", path.name)
        await coco.mount(subpath, process_file, path.name, path.read_text())

app = coco.App("Folders", app_main)
"""

Result = subprocess.CompletedProcess[str]


def clean_environ(**changes: str) -> dict[str, str]:
    """The environment without settings of the shell, so that a child finds this package."""
    dropped = ("COCOINDEX_", "NO_COLOR", "COLUMNS")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    path = os.pathsep.join(filter(None, (str(SRC), os.environ.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", **changes}


class Project:
    """A folder with a program in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def read(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    @staticmethod
    def command() -> list[str]:
        return [sys.executable, "-m", "cocoindex"]

    @staticmethod
    def environ(**changes: str) -> dict[str, str]:
        return clean_environ(**changes)

    def run(self, *args: str, answer: str = "", **env: str) -> Result:
        """Run ``cocoindex`` to its end; ``answer`` is its standard input."""
        return subprocess.run(
            [*self.command(), *args],
            cwd=self.root,
            env=clean_environ(**env),
            input=answer,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start ``cocoindex`` and leave it running."""
        return subprocess.Popen(
            [*self.command(), *args],
            cwd=self.root,
            env=clean_environ(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def with_folders(root: Path) -> Project:
    project = Project(root)
    project.write("main.py", FOLDERS)
    project.write("in/a.txt", "alpha")
    project.write("in/b.txt", "beta")
    return project


@pytest.fixture
def folders(tmp_path: Path) -> Project:
    """A project with the folders program and two inputs."""
    return with_folders(tmp_path)


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same after an update, for tests that only look."""
    project = with_folders(tmp_path_factory.mktemp("folders"))
    assert project.run("update", "main.py", "-q").returncode == 0
    return project


@pytest.fixture
def here(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run ``cocoindex`` within this process: fast, for commands that need no engine."""
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(sys, "path", list(sys.path))
    root = logging.getLogger()
    before = (list(root.handlers), root.level)

    def run(*args: str, answer: str = "") -> Result:
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        try:
            status = program.run(args)
        finally:
            root.handlers[:], root.level = before
        return Result(args, status, *capsys.readouterr())

    return run


@pytest.fixture
def run_python() -> Callable[..., Result]:
    """Run a fresh interpreter that finds this package."""

    def run(*args: str, **env: str) -> Result:
        return subprocess.run(
            [sys.executable, *args],
            env=clean_environ(**env),
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )

    return run
