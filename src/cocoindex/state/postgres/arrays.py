"""Many byte strings, or many times the same number, as one parameter.

The driver's own conversion of lists costs several times as much, and commits are full of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from struct import Struct
from typing import Any

__all__ = ["ByteStrings", "Numbers", "register"]

_BYTEA, _BYTEA_ARRAY = 17, 1001
_INT, _INT_ARRAY = 23, 1007
_HEADER = Struct("!iiIii")
_LENGTH = Struct("!i")
_NUMBER = Struct("!ii")


class ByteStrings:
    """A ``bytea[]``, in the form in which the server takes it."""

    __slots__ = ("data",)

    def __init__(self, items: Sequence[bytes]) -> None:
        header = _HEADER.pack(1, 0, _BYTEA, len(items), 1)
        pack = _LENGTH.pack
        self.data = header + b"".join(chain.from_iterable((pack(len(i)), i) for i in items))


class Numbers:
    """An ``integer[]`` with runs of equal numbers: ``(number, how often)``."""

    __slots__ = ("data",)

    def __init__(self, runs: Sequence[tuple[int, int]]) -> None:
        count = sum(times for _, times in runs)
        header = _HEADER.pack(1, 0, _INT, count, 1)
        self.data = header + b"".join(_NUMBER.pack(4, number) * times for number, times in runs)


def register(adapters: Any) -> None:
    """Teach a connection (its ``adapters``) to send these arrays."""
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    class ArrayDumper(Dumper):
        format = Format.BINARY

        def dump(self, obj: ByteStrings | Numbers) -> bytes:
            return obj.data

    class ByteStringsDumper(ArrayDumper):
        oid = _BYTEA_ARRAY

    class NumbersDumper(ArrayDumper):
        oid = _INT_ARRAY

    adapters.register_dumper(ByteStrings, ByteStringsDumper)
    adapters.register_dumper(Numbers, NumbersDumper)
