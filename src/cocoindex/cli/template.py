"""The files of a new project."""

from __future__ import annotations

_MAIN = '''\
"""Keeps ./out in step with ./data: one JSON file with the paragraphs of every Markdown file."""

import json
import pathlib
from collections.abc import Iterator

import cocoindex as coco
from cocoindex.connectors import localfs
from cocoindex.resources.file import FileLike, PatternFilePathMatcher


@coco.lifespan
def lifespan(builder: coco.EnvironmentBuilder) -> Iterator[None]:
    # Where CocoIndex remembers what it has done. What your functions share goes here, too:
    # create a client, builder.provide(KEY, client), then coco.use_context(KEY) anywhere.
    builder.settings.db_path = pathlib.Path("./cocoindex.db")
    yield


@coco.fn
def split(text: str) -> list[str]:
    """The paragraphs of a text."""
    return [part.strip() for part in text.split("\\n\\n") if part.strip()]


# Runs only for files that are new or changed, or when you edit it or what it calls.
@coco.fn(memo=True)
async def process_file(file: FileLike, source: pathlib.Path, out: localfs.DirTarget) -> None:
    paragraphs = split(await file.read_text())
    name = file.file_path.relative_to(source).as_posix()
    content = json.dumps(paragraphs, indent=2, ensure_ascii=False) + "\\n"
    out.declare_file(f"{name}.json", content, create_parent_dirs=True)


@coco.fn
async def app_main(source: pathlib.Path, target: pathlib.Path) -> None:
    # Step 1: declare the targets. What is no longer declared is removed.
    out = await localfs.mount_dir_target(target)

    # Step 2: enumerate the inputs.
    files = localfs.walk_dir(
        source,
        recursive=True,
        path_matcher=PatternFilePathMatcher(included_patterns=["**/*.md"]),
    )

    # Step 3: mount one component per input. It owns what it declares: when its input goes
    # away, so do its outputs.
    await coco.mount_each(process_file, files.items(), source, out)


app = coco.App(
    "@NAME@",
    app_main,
    source=pathlib.Path("./data"),
    target=pathlib.Path("./out"),
)
'''

_SAMPLE = """\
# Hello

This file is the first input. Every paragraph of it becomes an item in `out/hello.md.json`.

Change a paragraph and run the update again: only this file is processed. Add a file beside it,
and only the new one is. Delete one, and its output goes away.
"""

_PYPROJECT = """\
[project]
name = "@NAME@"
version = "0.1.0"
description = "A CocoIndex project"
requires-python = ">=3.11"
dependencies = ["cocoindex>=@VERSION@"]
"""

_README = """\
# @NAME@

    uv run cocoindex update main.py

brings `out/` in step with `data/`. Run it again after any change: only what changed is worked on.
`uv run cocoindex update main.py --preview` says what would be done, and
`uv run cocoindex show main.py` lists what is known.

| File | |
|---|---|
| `main.py` | the program: what the targets are made of |
| `data/` | inputs |
| `out/` | outputs; written by the program |
| `cocoindex.db/` | what CocoIndex remembers between runs |
| `.env` | environment variables of the program |
| `pyproject.toml` | dependencies |
"""

_ENV = "COCOINDEX_DB=./cocoindex.db\n"

_GITIGNORE = "/cocoindex.db/\n/out/\n.env\n.venv/\n__pycache__/\n"


def project_files(name: str) -> dict[str, str]:
    """Path and content of every file of a new project called ``name``."""
    from cocoindex import __version__

    def filled(text: str) -> str:
        return text.replace("@NAME@", name).replace("@VERSION@", __version__)

    return {
        "main.py": filled(_MAIN),
        "data/hello.md": _SAMPLE,
        "pyproject.toml": filled(_PYPROJECT),
        "README.md": filled(_README),
        ".env": _ENV,
        ".gitignore": _GITIGNORE,
    }
