"""Finding the syntax tree of a function, without parsing the rest of its file."""

from __future__ import annotations

import ast

import pytest

from cocoindex.callables.bytecode import nested_codes
from cocoindex.callables.source import SourceFile

PROGRAM = '''\
import functools

def plain(x):  # a comment
    return x

def one_line(): return 1
def next_line(): return 2

def only_text():
    """Says
something at the margin."""

@functools.cache
@functools.wraps(
    plain,
    assigned=(),
)
# between
def decorated(
    a,
    b=(
1,
    ),
):
    text = """
def plain(y):
    return "not this"
"""
# at the margin
    return f"""{a}
{b}""" + text

class Tabs:
\tdef tabs(self):
\t\tdef nested():
\t\t\treturn self
\t\t# after it
\t\treturn nested

class Outer:
    class Inner:
        def inner(self):
            pass
    async def method(self):
        async with self: return (
    1
        )
    other = 1

if True:
    def branch():
        x = 1 + \\
2
        return x
else:
    def branch_of_another_name(): ...

def many(): return [y for y in range(3)]; pass

def last():
    if plain:
        pass
    # the end'''


def _codes() -> list[tuple[str, int]]:
    codes = nested_codes(compile(PROGRAM, "program.py", "exec"))
    return [(c.co_name, c.co_firstlineno) for c in codes if c.co_name.isidentifier()]


def _tree(name: str) -> str:
    """The tree of the only function with this name in the whole program."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    trees = [n for n in ast.walk(ast.parse(PROGRAM)) if isinstance(n, kinds) and n.name == name]
    [tree] = trees
    return ast.dump(tree)


FUNCTIONS = [(name, line) for name, line in _codes() if name not in {"Tabs", "Outer", "Inner"}]


@pytest.mark.parametrize(("name", "line"), FUNCTIONS)
def test_a_function_means_what_it_means_in_its_file(name: str, line: int) -> None:
    codes = nested_codes(compile(PROGRAM, "program.py", "exec"))
    [code] = [c for c in codes if (c.co_name, c.co_firstlineno) == (name, line)]
    file = SourceFile("program.py", PROGRAM.splitlines(keepends=True), 0.0, None)
    found = file.function(code)
    assert found is not None
    assert ast.dump(found) == _tree(name)


def test_the_rest_of_the_file_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda text: parsed.append(text) or parse(text))
    file = SourceFile("program.py", PROGRAM.splitlines(keepends=True), 0.0, None)
    codes = {c.co_name: c for c in nested_codes(compile(PROGRAM, "program.py", "exec"))}
    for name in ("plain", "decorated", "tabs", "branch"):
        assert file.function(codes[name]) is not None
    assert [PROGRAM in text for text in parsed] == [False] * 4


def test_a_text_that_is_not_that_of_the_code_is_not_taken_for_it() -> None:
    code = next(
        c for c in nested_codes(compile("def f(): ...", "p.py", "exec")) if c.co_name == "f"
    )
    for text in ("def g(): ...", "f = 1", "", "def f(", "@f\n"):
        assert SourceFile("p.py", text.splitlines(keepends=True), 0.0, None).function(code) is None
