"""What README, docs and examples show is run, or at least looked up, so that it can't rot."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import cocoindex as coco
from cocoindex import errors
from cocoindex.connectors import localfs

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FEATURES = ROOT / "examples/features"

_BLOCK = re.compile(r"^( *)```python[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_STATS = re.compile(r"^\[Stats\].*?\n\n", re.MULTILINE | re.DOTALL)
_INCLUDE = re.compile(r'^--8<-- "([^":]+)(?::([^"]+))?"$', re.MULTILINE)
_LINK = re.compile(r"\]\(([\w./-]+\.md|LICENSE)(?:#[^)]*)?\)")


def blocks(page: Path) -> list[str]:
    """The Python code of a page, as written there."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [textwrap.dedent(text) for _, text in found]


def typed_blocks(page: Path) -> list[str]:
    """Those that are not taken from a file."""
    return [text for text in blocks(page) if not _INCLUDE.search(text)]


def cocoindex(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in ``folder`` as a user would."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("COCOINDEX_")}
    return subprocess.run(
        [sys.executable, "-m", "cocoindex", *args],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def updated(folder: Path, *args: str, **env: str) -> str:
    """Output of an update that succeeds and has nothing to complain about."""
    done = cocoindex(folder, "update", "main.py", *args, **env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def stamps(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


# --- What pages refer to -------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_code_on_a_page_exists_and_parses(page: Path) -> None:
    for file, section in _INCLUDE.findall(page.read_text(encoding="utf-8")):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not section or f"[start:{section}]" in text, f"{page.name}: {file}:{section}"
    for text in typed_blocks(page):
        compile(text, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_names_of_ours_on_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\bcoco\.([A-Za-z_]+)", text):
        assert name == "" or hasattr(coco, name), f"coco.{name}"
    for name in re.findall(r"(?<!connectors[./])\blocalfs\.([A-Za-z_]+)", text):
        assert name == "md" or hasattr(localfs, name), f"localfs.{name}"
    for link in _LINK.findall(text):
        assert (page.parent / link).exists(), link


def test_every_error_class_is_explained() -> None:
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    for name in errors.__all__:
        row = next((line for line in text.splitlines() if line.startswith(f"| `{name}`")), None)
        if name == "CocoIndexError":
            continue
        assert row is not None, name
        for builtin in re.findall(r"`([A-Za-z]+)`", row.split("|")[2]):
            assert issubclass(getattr(errors, name), __builtins__[builtin]), (name, builtin)
        assert ("\\*" in row.split("|")[1]) == hasattr(coco, name), name


def test_every_variable_that_is_read_is_explained() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")
    )  # not what tests alone set
    names = set(re.findall(r'"(COCOINDEX_[A-Z_]+)"', code)) - {"COCOINDEX_TESTING"}
    assert {name for name in names if f"`{name}`" not in text} == set()


# --- Programs ------------------------------------------------------------------------------


def test_the_program_of_the_readme_works(tmp_path: Path) -> None:
    (program,) = blocks(ROOT / "README.md")
    (tmp_path / "main.py").write_text(program, encoding="utf-8")
    shutil.copytree(ROOT / "examples/hello/notes", tmp_path / "notes")
    assert "✅ publish: 2 total | 2 added" in updated(tmp_path)
    before = stamps(tmp_path / "pages")
    assert set(before) == {"rivers.txt", "trees.txt"}
    assert "Preview: planned target actions" in updated(tmp_path, "--preview")
    assert "✅ publish: 2 total | 2 unchanged" in updated(tmp_path)
    assert stamps(tmp_path / "pages") == before
    assert cocoindex(tmp_path, "drop", "main.py", "--force").returncode == 0
    assert not (tmp_path / "pages").exists()


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A copy of the examples: they write beside themselves."""
    ignored = shutil.ignore_patterns(".state", "pages", "__pycache__")
    return shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=ignored)


@pytest.mark.slow
def test_the_first_program_does_what_the_quickstart_says(examples: Path) -> None:
    hello = examples / "hello"
    pages, notes, program = hello / "pages", hello / "notes", hello / "main.py"

    def counts() -> str:
        line = [line for line in updated(hello).splitlines() if "publish:" in line][-1]
        return line.partition("total | ")[2]

    assert counts() == "2 added"
    before = stamps(pages)
    assert counts() == "2 unchanged"
    (notes / "trees.md").touch()
    assert counts() == "2 unchanged"
    rewrite(program, "    text = await", "    # why\n    text = await")
    assert counts() == "2 unchanged"
    assert stamps(pages) == before
    (notes / "trees.md").write_text("A birch.")
    assert counts() == "1 reprocessed, 1 unchanged"
    assert (pages / "trees.txt").read_text() == "2 words\n\nA birch."
    (notes / "lakes.md").write_text("A lake.")
    assert counts() == "1 added, 2 unchanged"
    (notes / "trees.md").unlink()
    assert counts() == "1 deleted, 2 unchanged"
    assert set(stamps(pages)) == {"lakes.txt", "rivers.txt"}
    rewrite(program, "} words\\n", "} words.\\n")
    assert counts() == "2 reprocessed"
    (pages / "lakes.txt").write_text("by hand")
    assert counts() == "2 unchanged"
    assert (pages / "lakes.txt").read_text() == "by hand"
    updated(hello, "--full-reprocess")
    assert (pages / "lakes.txt").read_text() == "2 words.\n\nA lake."
    shown = cocoindex(hello, "show", "main.py", "/publish/lakes.md").stdout
    assert '"lakes.txt"' in shown
    shutil.rmtree(hello / ".state")
    assert counts() == "2 added"
    mount_each = "    await coco.mount_each(publish, notes.items(), pages)\n"
    rewrite(program, mount_each, "")
    assert counts() == "2 deleted"
    assert stamps(pages) == {}


def test_the_target_of_the_tutorial_works(examples: Path) -> None:
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=examples / "custom_target",
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    page = (ROOT / "docs/custom-target.md").read_text(encoding="utf-8")
    assert f"```text\n{done.stdout}```" in page
    assert done.stderr == ""


EMBEDDED = "[[3.0], [5.0], [5.0], [3.0], [5.0]]\n4\n"
BATCHES = "embedding ['the']\nembedding ['quick', 'brown', 'fox']\nembedding ['jumps']\n"
FAILED = ["""/@import_row/"two" (import_row): invalid literal for int() with base 10: 'two'"""]

FIRST_AND_SECOND_RUN = {
    "batching": (BATCHES + EMBEDDED, EMBEDDED),
    "deadlines": ("no answer in time\n", "no answer in time\n"),
    "handlers": (f"1\n3\nfailed: {FAILED}\n", None),
    "guard": ("publishing a\npublishing b\npublishing c\n", None),
    "memo_keys": ("summarizing ids.py\n", ""),
    "stats": ("converting a.png\nconverting b.png\n2 of 2\n", "2 of 2\n"),
    "user_state": ("new: ['one', 'two', 'three']\n", "new: []\n"),
    "ids": (None, None),
}


def printed(tmp_path: Path, name: str, **env: str) -> tuple[str, int]:
    """What a program of ``examples/features`` prints itself, and the status."""
    program, db = str(FEATURES / f"{name}.py"), str(tmp_path / "db")
    done = cocoindex(tmp_path, "update", program, COCOINDEX_DB=db, **env)
    lines = _STATS.sub("", done.stdout).splitlines(keepends=True)
    return "".join(lines[1:]), done.returncode


@pytest.mark.parametrize("name", FIRST_AND_SECOND_RUN)
def test_a_feature_does_what_it_shows(tmp_path: Path, name: str) -> None:
    first, second = FIRST_AND_SECOND_RUN[name]
    in_order = sorted if name == "batching" else str  # its threads print at the same time
    once, status = printed(tmp_path, name)
    assert in_order(once) == in_order(once if first is None else first)
    assert status == (1 if name == "handlers" else 0)
    assert printed(tmp_path, name) == (once if second is None else second, status)


def test_every_feature_is_run() -> None:
    assert {path.stem for path in FEATURES.glob("*.py")} == set(FIRST_AND_SECOND_RUN)


def test_the_guard_withholds_until_approved(tmp_path: Path) -> None:
    program, db = str(FEATURES / "guard.py"), str(tmp_path / "db")
    statuses = [
        cocoindex(tmp_path, "update", program, *options, COCOINDEX_DB=db, **env).returncode
        for options, env in (((), {}), ((), {"EMPTY": "1"}), (("--allow-deletes",), {"EMPTY": "1"}))
    ]
    assert statuses == [0, 3, 0]
