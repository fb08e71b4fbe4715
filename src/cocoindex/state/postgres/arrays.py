"""Many byte strings as one parameter.

The driver's own conversion of lists costs several times as much, and commits are full of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from struct import Struct
from typing import Any

__all__ = ["ByteStrings", "register"]

_BYTEA, _BYTEA_ARRAY = 17, 1001
_HEADER = Struct("!iiIii")
_LENGTH = Struct("!i")


class ByteStrings:
    """A ``bytea[]``, in the form in which the server takes it."""

    __slots__ = ("data",)

    def __init__(self, items: Sequence[bytes]) -> None:
        header = _HEADER.pack(1, 0, _BYTEA, len(items), 1)
        pack = _LENGTH.pack
        self.data = header + b"".join(chain.from_iterable((pack(len(i)), i) for i in items))


def register(adapters: Any) -> None:
    """Teach a connection (its ``adapters``) to send :class:`ByteStrings`."""
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    class ByteStringsDumper(Dumper):
        format = Format.BINARY
        oid = _BYTEA_ARRAY

        def dump(self, obj: ByteStrings) -> bytes:
            return obj.data

    adapters.register_dumper(ByteStrings, ByteStringsDumper)
