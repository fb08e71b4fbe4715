"""Cutting what is to be written into requests of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, takewhile
from typing import TypeVar

__all__ = ["chunks"]

T = TypeVar("T")


def chunks(
    items: Sequence[T],
    *,
    rows: int,
    bytes: int | None = None,
    size_of: Callable[[T], int] | None = None,
) -> Iterator[list[T]]:
    """Consecutive parts of ``items``, none empty.

    Args:
        items: what to cut; order is kept.
        rows: most items in a part.
        bytes: most bytes in a part; an item that is larger gets a part of its own.
        size_of: bytes of an item; needed with ``bytes``.
    """
    start = 0
    while start < len(items):
        part = [*items[start : start + rows]]
        if bytes is not None and size_of is not None:
            sizes = list(map(size_of, part))
            if sum(sizes) > bytes:
                del part[_fitting(sizes, bytes) :]
        yield part
        start += len(part)


def _fitting(sizes: list[int], most: int) -> int:
    """How many of the first items fit; one in any case."""
    ends = accumulate(sizes)
    return max(1, sum(1 for _ in takewhile(lambda end: end <= most, ends)))
