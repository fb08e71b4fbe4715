"""Keep a folder of Markdown outlines in step with a tree of Python files.

    cocoindex update main.py

Each module becomes one page, and one index page lists them all. OUTLINE_SOURCE and OUTLINE_OUT
say where to read and where to write; without them it is this interpreter's standard library.
"""

from __future__ import annotations

import ast
import os
import pathlib
import sysconfig
from collections.abc import Iterator

import cocoindex as coco
from cocoindex.connectors import localfs
from cocoindex.resources.file import FileLike, PatternFilePathMatcher
from outline import first_line, module_name, outline_source, to_markdown

HERE = pathlib.Path(__file__).parent
SOURCE = coco.ContextKey[pathlib.Path]("outline/source")
OUT = coco.ContextKey[pathlib.Path]("outline/out")

PYTHON_FILES = PatternFilePathMatcher(
    included_patterns=["**/*.py"],
    excluded_patterns=[
        "**/{test,tests,idle_test,idlelib,lib2to3,turtledemo,__pycache__}",
        "**/{site-packages,dist-packages}",
    ],
)


@coco.lifespan
def lifespan(builder: coco.EnvironmentBuilder) -> Iterator[None]:
    stdlib = sysconfig.get_path("stdlib")
    builder.settings.db_path = pathlib.Path(
        os.environ.get("COCOINDEX_DB") or HERE / ".state/cocoindex.db"
    )
    builder.provide(SOURCE, pathlib.Path(os.environ.get("OUTLINE_SOURCE", stdlib)))
    builder.provide(OUT, pathlib.Path(os.environ.get("OUTLINE_OUT", HERE / ".state/outlines")))
    yield


# Helpers are not part of a memo's identity by themselves. Saying that the outlines depend on the
# text of outline.py makes every edit there outline every module again.
OUTLINE_CODE = (HERE / "outline.py").read_text(encoding="utf-8")


@coco.fn(memo=True, deps=OUTLINE_CODE)
async def outline_module(file: FileLike, out: localfs.DirTarget) -> None:
    """One component per source file: it owns the page of its module."""
    name = module_name(file.file_path.path.as_posix())
    out.declare_file(f"modules/{name}.md", _page(name, await file.read()), create_parent_dirs=True)


@coco.fn
def _page(name: str, source: bytes) -> str:
    try:
        return to_markdown(name, outline_source(source))
    except SyntaxError as error:
        return f"# {name}\n\nCan't be parsed: {error.msg}, line {error.lineno}.\n"


@coco.fn(memo=True, deps=OUTLINE_CODE)
async def summarize(file: FileLike) -> str:
    """What the index says about a module. A memoized call: only new content is parsed again."""
    try:
        return first_line(ast.parse(await file.read()))
    except SyntaxError:
        return ""


@coco.fn
async def write_index(out: localfs.DirTarget) -> None:
    """One component that looks at all files and owns the index page."""
    lines = ["# Modules", ""]
    async for file in _walk():
        name = module_name(file.file_path.path.as_posix())
        summary = await summarize(file)
        tail = f": {summary}" if summary else ""
        lines.append(f"- [{name}](modules/{name}.md){tail}")
    out.declare_file("index.md", "\n".join(lines) + "\n")


def _walk() -> localfs.DirWalker:
    return localfs.walk_dir(SOURCE, recursive=True, path_matcher=PYTHON_FILES)


@coco.fn
async def app_main() -> None:
    out = await localfs.mount_dir_target(OUT)
    await coco.mount_each(outline_module, _walk().items(), out)
    await coco.mount(write_index, out)


app = coco.App("StdlibOutline", app_main)
