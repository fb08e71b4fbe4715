"""From Python source to an outline: what a module defines, and what it says about itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Entry:
    """One class or function of a module."""

    depth: int
    text: str
    summary: str


@dataclass(frozen=True, slots=True)
class Outline:
    """A module at a glance."""

    summary: str
    entries: tuple[Entry, ...]


def outline_source(source: bytes) -> Outline:
    """Parse ``source`` and list its public classes and functions.

    Raises:
        SyntaxError: the source is not Python of this interpreter's version.
    """
    module = ast.parse(source)
    return Outline(first_line(module), tuple(_entries(module.body, depth=0)))


def _entries(body: list[ast.stmt], depth: int) -> Iterator[Entry]:
    for node in body:
        if isinstance(node, FunctionNode) and _is_public(node.name):
            yield Entry(depth, _signature(node), first_line(node))
        elif isinstance(node, ast.ClassDef) and _is_public(node.name):
            yield Entry(depth, _class_line(node), first_line(node))
            yield from _entries(node.body, depth + 1)


def _is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__init__"


def first_line(node: ast.Module | ast.ClassDef | FunctionNode) -> str:
    """The first line of a docstring, or an empty string."""
    text = ast.get_docstring(node) or ""
    return text.strip().partition("\n")[0].strip()


def _signature(node: FunctionNode) -> str:
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{word} {node.name}({ast.unparse(node.args)}){returns}"


def _class_line(node: ast.ClassDef) -> str:
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    return f"class {node.name}({bases})" if bases else f"class {node.name}"


def module_name(path: str) -> str:
    """``json/decoder.py`` is ``json.decoder``; ``json/__init__.py`` is ``json``."""
    dotted = path.removesuffix(".py").replace("/", ".")
    return dotted.removesuffix(".__init__")


def to_markdown(name: str, outline: Outline) -> str:
    """The page of one module."""
    lines = [f"# {name}", ""]
    if outline.summary:
        lines += [outline.summary, ""]
    for entry in outline.entries:
        tail = f": {entry.summary}" if entry.summary else ""
        lines.append(f"{'  ' * entry.depth}- `{entry.text}`{tail}")
    return "\n".join(lines).rstrip() + "\n"
