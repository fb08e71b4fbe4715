"""What compiled code says: the names it uses, and a form of the whole for lack of a text."""

from __future__ import annotations

from opcode import EXTENDED_ARG, opmap
from types import CodeType
from typing import TYPE_CHECKING, Final, NamedTuple

from cocoindex.core.memo_key import Canon, write

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Names", "code_form", "methods_called_on", "names_of", "nested_codes"]


class Names(NamedTuple):
    """Names that a code object, or code nested in it, uses.

    Attributes:
        globals: global names that are loaded, in order of first use.
        rebound: names, global or enclosing, that are bound anew or deleted.
        attributes: ``(a, b)`` for each ``a.b`` on a global ``a``.
    """

    globals: tuple[str, ...]
    rebound: frozenset[str]
    attributes: tuple[tuple[str, str], ...]


def _ops(*names: str) -> frozenset[int]:
    return frozenset(opmap[name] for name in names if name in opmap)


_LOAD_GLOBAL: Final = opmap["LOAD_GLOBAL"]  # its argument has a flag in the lowest bit
_LOAD_NAME: Final = _ops("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_REBIND_GLOBAL: Final = _ops("STORE_GLOBAL", "DELETE_GLOBAL")
_REBIND_CELL: Final = _ops("STORE_DEREF", "DELETE_DEREF")
_LOAD_CELL: Final = _ops("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
_LOAD_ATTR: Final = opmap["LOAD_ATTR"]
_LOAD_METHOD: Final = opmap.get("LOAD_METHOD")  # part of LOAD_ATTR from 3.12 on
_ATTR_SHIFT: Final = 1 if _LOAD_METHOD is None else 0
_NO_MEANING: Final = _ops("CACHE", "NOP", "RESUME", "COPY_FREE_VARS", "PRECALL", "PUSH_NULL")


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


def names_of(code: CodeType) -> Names:
    """Which names ``code`` uses, and how."""
    loaded: dict[str, None] = {}
    rebound: set[str] = set()
    for inner in nested_codes(code):
        names = inner.co_names
        for op, arg in _instructions(inner):
            if op == _LOAD_GLOBAL:
                loaded[names[arg >> 1]] = None
            elif op in _LOAD_NAME:
                loaded[names[arg]] = None
            elif op in _REBIND_GLOBAL:
                rebound.add(names[arg])
            elif op in _REBIND_CELL:
                rebound.add(_cell_name(inner, arg))
    attributes = tuple(dict.fromkeys(methods_called_on(code)))
    return Names(tuple(loaded), frozenset(rebound), attributes)


def methods_called_on(code: CodeType) -> Iterator[tuple[str, str]]:
    """``(a, b)`` for each ``a.b`` where ``a`` is a global or enclosing name."""
    for inner in nested_codes(code):
        owner: str | None = None
        for op, arg in _instructions(inner):
            if owner is not None and op in (_LOAD_ATTR, _LOAD_METHOD):
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
