"""What compiled code says: the names it uses, and a form of the whole for lack of a text."""

from __future__ import annotations

from functools import lru_cache
from opcode import EXTENDED_ARG, opmap
from types import CodeType
from typing import TYPE_CHECKING, Final

import msgspec

from cocoindex.core.memo_key import Canon, write

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Names", "code_form", "methods_called_on", "names_of", "nested_codes"]


class Names(msgspec.Struct, frozen=True):
    """Names that a code object, or code nested in it, uses.

    Attributes:
        globals: global names that are loaded, sorted since their order in the code depends on the
            version of Python. Without what Python itself puts into every module.
        rebound: names, global or enclosing, that are bound anew or deleted.
        attributes: ``(a, b)`` for each ``a.b`` on a global ``a``.
    """

    globals: tuple[str, ...]
    rebound: frozenset[str]
    attributes: tuple[tuple[str, str], ...]


def _ops(*names: str) -> frozenset[int]:
    # Codes above 255 are the compiler's own and never found in a finished function.
    return frozenset(opmap[name] for name in names if opmap.get(name, 256) < 256)


_LOAD_GLOBAL: Final = opmap["LOAD_GLOBAL"]  # its argument has a flag in the lowest bit
_LOAD_NAME: Final = _ops("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_REBIND_GLOBAL: Final = _ops("STORE_GLOBAL", "DELETE_GLOBAL")
_REBIND_CELL: Final = _ops("STORE_DEREF", "DELETE_DEREF")
_LOAD_CELL: Final = _ops("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
_LOAD_ATTR: Final = opmap["LOAD_ATTR"]
_LOAD_METHOD: Final = _ops("LOAD_METHOD")  # from 3.12 on a flag in the argument of LOAD_ATTR
_ATTR_SHIFT: Final = 0 if _LOAD_METHOD else 1
_NO_MEANING: Final = _ops("CACHE", "NOP", "RESUME", "COPY_FREE_VARS", "PRECALL", "PUSH_NULL")


_OF_EVERY_MODULE: Final = frozenset(
    {
        "__annotations__",
        "__builtins__",
        "__cached__",
        "__doc__",
        "__file__",
        "__loader__",
        "__name__",
        "__package__",
        "__path__",
        "__spec__",
    }
)


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """``code`` and every code object inside it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from nested_codes(const)


def _instructions(code: CodeType) -> Iterator[tuple[int, int]]:
    extended = 0
    raw = code.co_code
    for index in range(0, len(raw), 2):
        op, arg = raw[index], raw[index + 1] | extended
        extended = 0
        if op == EXTENDED_ARG:
            extended = arg << 8
        elif op not in _NO_MEANING:
            yield op, arg


def _cell_name(code: CodeType, index: int) -> str:
    own = code.co_varnames
    cells = tuple(name for name in code.co_cellvars if name not in own)
    return (own + cells + code.co_freevars)[index]


@lru_cache(maxsize=4096)  # closures of one factory share their code
def names_of(code: CodeType) -> Names:
    """Which names ``code`` uses, and how."""
    loaded: set[str] = set()
    rebound: set[str] = set()
    for inner in nested_codes(code):
        names = inner.co_names
        for op, arg in _instructions(inner):
            if op == _LOAD_GLOBAL:
                loaded.add(names[arg >> 1])
            elif op in _LOAD_NAME:
                loaded.add(names[arg])
            elif op in _REBIND_GLOBAL:
                rebound.add(names[arg])
            elif op in _REBIND_CELL:
                rebound.add(_cell_name(inner, arg))
    attributes = sorted(set(methods_called_on(code)))
    return Names(tuple(sorted(loaded - _OF_EVERY_MODULE)), frozenset(rebound), tuple(attributes))


def methods_called_on(code: CodeType) -> Iterator[tuple[str, str]]:
    """``(a, b)`` for each ``a.b`` where ``a`` is a global or enclosing name."""
    for inner in nested_codes(code):
        owner: str | None = None
        for op, arg in _instructions(inner):
            if owner is not None and (op == _LOAD_ATTR or op in _LOAD_METHOD):
                shift = _ATTR_SHIFT if op == _LOAD_ATTR else 0
                yield owner, inner.co_names[arg >> shift]
            if op == _LOAD_GLOBAL:
                owner = inner.co_names[arg >> 1]
            elif op in _LOAD_CELL:
                owner = _cell_name(inner, arg)
            else:
                owner = None


def code_form(code: CodeType) -> bytes:
    """Canonical bytes of compiled code, without positions and file names."""
    out = bytearray()
    _write_code(out, code)
    return bytes(out)


def _write_code(out: bytearray, code: CodeType) -> None:
    canon = Canon(None)
    out += b"c"
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    variables = (code.co_varnames, code.co_cellvars, code.co_freevars)
    write(out, (code.co_name, counts, code.co_code, code.co_names, variables), canon)
    write(out, code.co_exceptiontable, canon)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            _write_code(out, const)
        else:
            write(out, const, canon)
    out += b"."
