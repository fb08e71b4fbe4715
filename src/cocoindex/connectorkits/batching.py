"""Cutting what is to be written into requests of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["chunks"]

T = TypeVar("T")


def chunks(
    items: Iterable[T],
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
    part: list[T] = []
    size = 0
    for item in items:
        added = size_of(item) if size_of is not None else 0
        if part and (len(part) >= rows or (bytes is not None and size + added > bytes)):
            yield part
            part, size = [], 0
        part.append(item)
        size += added
    if part:
        yield part
