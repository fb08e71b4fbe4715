"""A set of ids that costs about a bit per id."""

from __future__ import annotations

_PAGE = 12
_MASK = (1 << _PAGE) - 1


class IdSet:
    """Ids are dense, so whole pages of them are kept as one integer each."""

    __slots__ = ("_pages",)

    def __init__(self) -> None:
        self._pages: dict[int, int] = {}

    def add(self, value: int) -> None:
        page = value >> _PAGE
        self._pages[page] = self._pages.get(page, 0) | (1 << (value & _MASK))

    def __contains__(self, value: int) -> bool:
        return bool(self._pages.get(value >> _PAGE, 0) >> (value & _MASK) & 1)
