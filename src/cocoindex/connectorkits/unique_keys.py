"""Finding keys that come twice in a listing, without keeping them."""

from __future__ import annotations

from array import array
from hashlib import blake2b
from struct import unpack
from typing import Any

from cocoindex.core.keys import encode_key

__all__ = ["UniqueKeys"]

_FIRST_SLOTS = 1024


class UniqueKeys:
    """Notes keys by 16 bytes each, however long they are.

    A table of digests with open addressing, at most two thirds full: 30 to 60 bytes a key, where
    a ``dict`` of keys takes some hundred and keeps what they are made of alive.
    """

    __slots__ = ("_count", "_digests", "_numbers")

    def __init__(self) -> None:
        self._count = 0
        self._make(_FIRST_SLOTS)

    def add(self, key: Any) -> int | None:
        """Note the next key. If it was noted before: as which one, counted from 1.

        Raises:
            TypeError: it is no stable key.
        """
        high, low = unpack("=QQ", blake2b(encode_key(key), digest_size=16).digest())
        high |= 1  # a zero says that a slot is free
        slot = self._slot(high, low)
        if self._digests[2 * slot]:
            return self._numbers[slot]
        self._count += 1
        self._put(slot, high, low, self._count)
        if self._count * 3 > len(self._numbers) * 2:
            self._grow()
        return None

    def _make(self, slots: int) -> None:
        self._digests = array("Q", bytes(16 * slots))
        self._numbers = array("I", bytes(4 * slots))

    def _slot(self, high: int, low: int) -> int:
        """Where a digest stands, or would stand."""
        digests, mask = self._digests, len(self._numbers) - 1
        slot = low & mask
        while (found := digests[2 * slot]) and (found != high or digests[2 * slot + 1] != low):
            slot = (slot + 1) & mask
        return slot

    def _put(self, slot: int, high: int, low: int, number: int) -> None:
        self._digests[2 * slot], self._digests[2 * slot + 1] = high, low
        self._numbers[slot] = number

    def _grow(self) -> None:
        digests, numbers = self._digests, self._numbers
        self._make(2 * len(numbers))
        for slot, number in enumerate(numbers):
            if number:
                high, low = digests[2 * slot], digests[2 * slot + 1]
                self._put(self._slot(high, low), high, low, number)
