"""Cutting what is to be written into requests of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice, takewhile
from typing import TypeVar

__all__ = ["chunks"]

T = TypeVar("T")


def chunks(
    items: Sequence[T],
    *,
    rows: int,
    bytes: int | None = None,
    sizes: Sequence[int] | None = None,
) -> Iterator[list[T]]:
    """Consecutive parts of ``items``, none empty.

    Args:
        items: what to cut; order is kept.
        rows: most items in a part.
        bytes: most bytes in a part; an item that is larger gets a part of its own.
        sizes: bytes of each item; needed with ``bytes``.
    """
    start = 0
    while start < len(items):
        end = min(start + rows, len(items))
        if sizes is not None and bytes is not None:
            end = start + _fitting(islice(sizes, start, end), bytes)
        yield [*items[start:end]]
        start = end


def _fitting(sizes: Iterable[int], most: int) -> int:
    """How many of the first items fit; one in any case."""
    ends = accumulate(sizes)
    return max(1, sum(1 for _ in takewhile(lambda end: end <= most, ends)))
