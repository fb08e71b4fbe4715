# ruff: noqa: ARG001 - forms share one signature
"""The canonical form of a value: tagged bytes, equal exactly for values that count as equal.

Every form is self-delimiting and starts with a one-byte tag; ``.`` ends a run of forms and is no
tag, so concatenations are unambiguous. This module has the scalars and the containers;
``canonical_types`` has the rest; ``memo_key`` decides which form a type gets.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from math import nan
from typing import Any, Final, TypeAlias

import msgspec

from cocoindex.core.fingerprint import Fingerprint

__all__ = [
    "SCALARS",
    "WRITERS",
    "Canon",
    "Mode",
    "NotPlainData",
    "StateFn",
    "Writer",
    "canonical_module",
    "plain_form",
    "type_name_form",
    "write",
    "write_mapping",
    "write_sequence",
    "write_set",
]


class StateFn(msgspec.Struct, frozen=True):
    """A state function met while canonicalizing a value.

    Attributes:
        call: takes the previous state, or ``NON_EXISTENCE``; returns a ``MemoStateOutcome`` or
            an awaitable of one.
        decode: reads a stored state back as the type that ``call`` says it takes.
    """

    call: Callable[[Any], Any]
    decode: Callable[[bytes], Any]


class Mode(Enum):
    """Which values have a form."""

    ANY = 0
    """Arguments: everything that rules 1-11 of the memo key cover."""
    DATA = 1
    """Plain data only; otherwise :class:`NotPlainData`."""
    CAPTURED = 2
    """Plain data, and functions by their code."""


class NotPlainData(Exception):
    """The value, or a part of it, is no plain data. Never leaves the package."""


class Canon:
    """What is known while one value is written: visited objects and state functions."""

    __slots__ = ("alive", "mode", "seen", "state_fns")

    def __init__(self, state_fns: list[StateFn] | None, mode: Mode = Mode.ANY) -> None:
        self.seen: dict[int, int] = {}
        # Keeps every visited object alive, temporaries included, so that no id is used twice.
        self.alive: list[object] = []
        self.state_fns = state_fns
        self.mode = mode

    def visited(self, out: bytearray, value: object) -> bool:
        """Write a back-reference if ``value`` was visited before; else remember it."""
        ordinal = self.seen.get(id(value))
        if ordinal is not None:
            out += b"r%d;" % ordinal
            return True
        self.seen[id(value)] = len(self.alive)
        self.alive.append(value)
        return False

    def detached(self) -> Canon:
        """A copy whose visits don't show here: for parts whose order must not matter."""
        copy = Canon(None if self.state_fns is None else [], self.mode)
        copy.seen = dict(self.seen)
        copy.alive = list(self.alive)
        return copy


Writer: TypeAlias = Callable[[bytearray, Any, Canon], None]


class Writers(dict[type, Writer]):
    """Form of each exact type met so far; finds that of a new one through ``resolve``."""

    resolve: Callable[[type], Writer]

    def __missing__(self, cls: type) -> Writer:
        writer = self[cls] = self.resolve(cls)
        return writer


WRITERS: Final = Writers()


def write(out: bytearray, value: object, canon: Canon) -> None:
    """Append the canonical form of ``value``."""
    WRITERS[type(value)](out, value, canon)


def canonical_module(name: str) -> str:
    """``name``, or for the main script the name under which other programs import it."""
    if name not in ("__main__", "__mp_main__"):
        return name
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    if not file:
        return "__main__"
    base: str = file.replace("\\", "/").rsplit("/", 1)[-1]
    return base.rsplit(".", 1)[0] if "." in base[1:] else base


def type_name_form(cls: type) -> bytes:
    """Form of a class's name, for use inside other forms."""
    return _str_form(canonical_module(cls.__module__)) + _str_form(cls.__qualname__)


def _str_form(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"s%d:%b" % (len(data), data)


# Scalars


def _write_none(out: bytearray, value: None, canon: Canon) -> None:
    out += b"N"


def _write_bool(out: bytearray, value: bool, canon: Canon) -> None:
    out += b"T" if value else b"F"


def _write_int(out: bytearray, value: int, canon: Canon) -> None:
    if -(1 << 63) <= value < 1 << 63:
        out += b"i%d;" % value
    else:  # decimal digits of huge integers are slow, and limited by the interpreter
        size = value.bit_length() // 8 + 1
        out += b"I%d:" % size + int(value).to_bytes(size, "big", signed=True)


def _write_float(out: bytearray, value: float, canon: Canon) -> None:
    out += b"f" + struct.pack(">d", value if value == value else nan)  # noqa: PLR0124 - NaN


def _write_str(out: bytearray, value: str, canon: Canon) -> None:
    data = value.encode("utf-8", "surrogatepass")
    out += b"s%d:%b" % (len(data), data)


def _write_bytes(out: bytearray, value: bytes | bytearray, canon: Canon) -> None:
    out += b"b%d:" % len(value)
    out += value


def _write_memoryview(out: bytearray, value: memoryview, canon: Canon) -> None:
    _write_bytes(out, value.tobytes(), canon)


def _write_fingerprint(out: bytearray, value: Fingerprint, canon: Canon) -> None:
    out += b"h" + value.as_bytes()


SCALARS: Final[dict[type, Writer]] = {
    type(None): _write_none,
    bool: _write_bool,
    int: _write_int,
    float: _write_float,
    str: _write_str,
    bytes: _write_bytes,
    Fingerprint: _write_fingerprint,
    bytearray: _write_bytes,
    memoryview: _write_memoryview,
}
"""Rules 1 and 2: forms that need no :class:`Canon`. Subclasses share the form of their base."""

WRITERS.update(SCALARS)


# Containers


_EXACT: Final[dict[type, Callable[[Any], Any]]] = {
    type(None): lambda value: value,
    bool: lambda value: value,
    int: int.__index__,
    str: str.__str__,
    bytes: bytes,
    bytearray: bytes,
    memoryview: bytes,
}
_EXACT_BY_WRITER: Final = {SCALARS[kind]: exact for kind, exact in _EXACT.items()}
_PLAIN: Final = frozenset((type(None), bool, int, str, bytes))

_encode: Final = msgspec.msgpack.Encoder().encode


def plain_form(value: Sequence[Any]) -> bytes | None:
    """Form of a sequence of nothing but ``None``, booleans, integers, text and bytes, such as a
    row: written in one call. ``None`` for other sequences, and for huge integers and lone
    surrogates in it.

    Its first byte is no tag of another form.
    """
    if not _PLAIN.issuperset(map(type, value)):
        exact = [_EXACT_BY_WRITER.get(WRITERS[type(item)]) for item in value]
        if None in exact:
            return None
        value = [to_exact(item) for to_exact, item in zip(exact, value, strict=True) if to_exact]
    try:
        return _encode(value if isinstance(value, (tuple, list)) else list(value))
    except (OverflowError, UnicodeEncodeError):
        return None


def exact_form(value: list[Any] | tuple[Any, ...]) -> bytes | None:
    """:func:`plain_form` where all is of exactly such types, else None."""
    if not _PLAIN.issuperset(map(type, value)):
        return None
    try:
        return _encode(value)
    except (OverflowError, UnicodeEncodeError):
        return None


def write_sequence(out: bytearray, value: Sequence[Any], canon: Canon) -> None:
    """Form of a list, a tuple or any other sequence."""
    # A tuple is a value: whether two places share one must not matter, and a cycle always
    # leads through something mutable.
    if not isinstance(value, tuple) and canon.visited(out, value):
        return
    plain = plain_form(value)
    if plain is not None:
        out += plain
        return
    out += b"L"
    for item in value:
        WRITERS[type(item)](out, item, canon)
    out += b"."


def write_mapping(out: bytearray, value: Mapping[Any, Any], canon: Canon) -> None:
    """Form of a mapping, whatever its order."""
    if canon.visited(out, value):
        return
    out += b"M"
    for form, key in _sorted_forms(value, canon):
        out += form
        write(out, value[key], canon)
    out += b"."


def write_set(out: bytearray, value: AbstractSet[Any], canon: Canon) -> None:
    """Form of a set, whatever its order."""
    if canon.visited(out, value):
        return
    out += b"S"
    for form, _ in _sorted_forms(value, canon):
        out += form
    out += b"."


def _sorted_forms(items: Iterable[Any], canon: Canon) -> list[tuple[bytes, Any]]:
    forms: list[tuple[bytes, Any]] = []
    states: dict[int, list[StateFn]] = {}
    for item in items:
        part = bytearray()
        scalar = SCALARS.get(type(item))
        if scalar is not None:
            scalar(part, item, canon)
        else:
            inner = canon.detached()
            write(part, item, inner)
            canon.alive.append(item)
            if inner.state_fns:
                states[id(item)] = inner.state_fns
        forms.append((bytes(part), item))
    forms.sort(key=_form)
    if states and canon.state_fns is not None:
        for _, item in forms:
            canon.state_fns.extend(states.get(id(item), ()))
    return forms


def _form(pair: tuple[bytes, Any]) -> bytes:
    return pair[0]
