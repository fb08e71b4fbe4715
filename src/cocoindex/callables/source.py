"""What a function's body says: a digest of its syntax tree, blind to form.

Comments, layout, docstrings and decorators don't count. The text is taken from the file when the
function is decorated, and parsed when a digest is first needed: the function alone, or the whole
file where that is not enough (lambdas). Without text the compiled code counts instead, constants
and nested code included.
"""

from __future__ import annotations

import ast
import linecache
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard

import msgspec

from cocoindex.callables.bytecode import code_form, methods_called_on, nested_codes
from cocoindex.callables.mutation import MUTATING_METHODS, mutated_names
from cocoindex.core.fingerprint import Domain
from cocoindex.core.memo_key import Canon, write

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["Body", "SourceFile", "body_of", "source_file"]

_AnyFunction: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_domain: Final = Domain("coco.body")
_started: Final = time.time()
_PLAIN: Final = Canon(None)
"""For names and numbers, which leave nothing in it."""
_SKIPPED_FIELDS: Final = frozenset({"type_comment", "kind", "ctx"})


class Body(msgspec.Struct, frozen=True):
    """What the analysis of one code object found.

    Attributes:
        digest: of the syntax tree, or of the code.
        mutated: names whose object the body changes in place.
    """

    digest: bytes
    mutated: frozenset[str]


class SourceFile:
    """The text of one file as it was when first asked for."""

    __slots__ = ("_functions", "lines", "modified", "name", "previous")

    def __init__(
        self, name: str, lines: list[str], modified: float, previous: SourceFile | None
    ) -> None:
        self.name = name
        self.lines = lines
        self.modified = modified
        self.previous = previous
        if previous is not None:
            previous.previous = None  # one step back is enough
        self._functions: dict[tuple[str, int], list[_AnyFunction]] | None = None

    def function(self, code: CodeType) -> _AnyFunction | None:
        """The syntax tree of the function compiled to ``code``, or None."""
        if self._may_have_changed() and not self._compiles_to(code):
            return self.previous.function(code) if self.previous is not None else None
        if self._functions is None and (alone := self._parsed_alone(code)) is not None:
            return alone
        found = self._index().get((code.co_name, code.co_firstlineno), [])
        if len(found) > 1:
            found = _surrounding(found, code)
        return found[0] if len(found) == 1 else None

    def _may_have_changed(self) -> bool:
        """Whether the file was written while this process ran, maybe after it was imported."""
        return self.previous is not None or self.modified >= _started

    def _compiles_to(self, code: CodeType) -> bool:
        try:
            module = compile("".join(self.lines), self.name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return False
        return any(code == other for other in nested_codes(module))

    def _parsed_alone(self, code: CodeType) -> _AnyFunction | None:
        """The function parsed without the rest of its file; None if that takes the rest."""
        first = code.co_firstlineno - 1
        if not 0 <= first < len(self.lines):
            return None
        indent = _indent(self.lines[first])
        text = "".join(self.lines[first : self._end(code, indent)])
        try:
            # Cut off too early, inside brackets or a text over several lines, it does not parse.
            node = ast.parse(f"if 1:\n{text}" if indent else text).body[0]
        except (SyntaxError, ValueError, IndexError):
            return None
        if indent and isinstance(node, ast.If):
            node = node.body[0]
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return None
        return node if node.name == code.co_name else None

    def _end(self, code: CodeType, indent: int) -> int:
        """The number of the line before which a function with this indentation ends."""
        after = max(
            last or 0 for inner in nested_codes(code) for _, last, _, _ in inner.co_positions()
        )
        for number, line in enumerate(islice(self.lines, after, None), after):
            if _indent(line) <= indent and line.strip() and not line.lstrip().startswith("#"):
                return number
        return len(self.lines)

    def _index(self) -> dict[tuple[str, int], list[_AnyFunction]]:
        if self._functions is None:
            functions: dict[tuple[str, int], list[_AnyFunction]] = {}
            for node in ast.walk(self._parse()):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                    functions.setdefault((node.name, first), []).append(node)
                elif isinstance(node, ast.Lambda):
                    functions.setdefault(("<lambda>", node.lineno), []).append(node)
            self._functions = functions  # whole: other threads may be looking
        return self._functions

    def _parse(self) -> ast.Module:
        try:
            return ast.parse("".join(self.lines))
        except (SyntaxError, ValueError):
            return ast.Module(body=[], type_ignores=[])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _surrounding(found: list[_AnyFunction], code: CodeType) -> list[_AnyFunction]:
    """Those of several functions on one line that span the columns of ``code``, innermost."""
    spans = [
        (line, column, end_line or line, end_column)
        for line, end_line, column, end_column in code.co_positions()
        if line is not None and column is not None and end_column is not None
    ]
    if not spans:
        return []
    # The first instructions of a function stand for its head and have column 0.
    start = min((s[0], s[1]) for s in spans if s[1] or len(spans) == 1)
    end = max((s[2], s[3]) for s in spans)
    fitting = [
        node
        for node in found
        if (node.lineno, node.col_offset) <= start
        and end <= (node.end_lineno or 0, node.end_col_offset or 0)
    ]
    return sorted(fitting, key=lambda node: (-node.lineno, -node.col_offset))[:1]


_files: Final[dict[str, SourceFile]] = {}


def source_file(filename: str, module_globals: dict[str, Any] | None) -> SourceFile | None:
    """The text that ``filename`` has now, or None if there is none."""
    linecache.checkcache(filename)
    lines = linecache.getlines(filename, module_globals)
    if not lines:
        return None
    known = _files.get(filename)
    if known is not None and known.lines is lines:
        return known
    try:
        modified = Path(filename).stat().st_mtime
    except (OSError, ValueError):
        modified = 0.0  # text from a loader or a shell: it can't change under us
    _files[filename] = file = SourceFile(filename, lines, modified, known)
    return file


_bodies: Final[dict[int, tuple[CodeType, SourceFile | None, Body]]] = {}
_MAX_BODIES: Final = 8192


def body_of(code: CodeType, file: SourceFile | None) -> Body:
    """Analyse ``code``, given the text of its file at the time it was made."""
    known = _bodies.get(id(code))
    if known is not None and known[0] is code and known[1] is file:
        return known[2]
    node = file.function(code) if file is not None else None
    body = _body_of_code(code) if node is None else Body(_digest(node), mutated_names(node))
    if len(_bodies) >= _MAX_BODIES:
        _bodies.clear()
    _bodies[id(code)] = (code, file, body)
    return body


def _body_of_code(code: CodeType) -> Body:
    mutated = frozenset(
        name for name, method in methods_called_on(code) if method in MUTATING_METHODS
    )
    return Body(_domain.digest(b"code" + code_form(code)), mutated)


def _digest(node: _AnyFunction) -> bytes:
    out = bytearray(b"tree")
    _write_node(out, node)
    return _domain.digest(out)


def _write_node(out: bytearray, node: ast.AST) -> None:
    out += b"("
    _write_text(out, type(node).__name__)
    if isinstance(node, ast.Constant):
        write(out, node.value, Canon(None))
    else:
        # Fields that are absent and fields that are empty look alike, so that fields which a
        # newer Python adds to every node don't change anything.
        for field in node._fields:
            value = _field(node, field)
            if value is not None and value != []:
                _write_text(out, field)
                _write_value(out, value)
    out += b")"


def _field(node: ast.AST, field: str) -> Any:
    if field in _SKIPPED_FIELDS:
        return None
    value: Any = getattr(node, field, None)
    if isinstance(node, ast.JoinedStr):
        return _without_seams(value)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        if field == "decorator_list":
            return None
        if field == "body" and _is_docstring(value[0]):
            return value[1:]
    return value


def _without_seams(parts: list[ast.expr]) -> list[ast.expr]:
    """Parts of an f-string with neighbouring texts joined: Pythons differ in where they cut."""
    joined: list[ast.expr] = []
    for part in parts:
        last = joined[-1] if joined else None
        if _is_text(part) and not part.value:
            continue
        if _is_text(part) and _is_text(last):
            joined[-1] = ast.Constant(str(last.value) + str(part.value))
        else:
            joined.append(part)
    return joined


def _is_text(node: ast.AST | None) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and _is_text(node.value)


def _write_value(out: bytearray, value: Any) -> None:
    if isinstance(value, ast.AST):
        _write_node(out, value)
    elif isinstance(value, list):
        out += b"["
        for item in value:
            _write_value(out, item)
        out += b"]"
    else:  # an identifier or a number, or None between keyword defaults
        write(out, value, _PLAIN)


def _write_text(out: bytearray, text: str) -> None:
    write(out, text, _PLAIN)
