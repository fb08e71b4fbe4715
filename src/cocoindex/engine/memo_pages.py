"""Function memos in the store: several make a row, so that many small calls cost one write.

A row, called a page here, fits on a page of the store unless a single memo doesn't, and is written
as a whole. It is filed under the fingerprint of its first memo, so no two pages of a component
share a key.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cocoindex.engine import rows

if TYPE_CHECKING:
    from cocoindex.engine.rows import FunctionMemoRow, Terms
    from cocoindex.state.base import Batch, Section

_logger = logging.getLogger("cocoindex.engine")

_PAGE_BYTES: Final = 4000
"""What fits on a page of the store beside its head."""

_FRAME_BYTES: Final = 32
"""At most so much of an encoded memo is no content."""

_LONGEST_SHARED: Final = 512
"""Longer terms list target states of their own; they are no other call's."""


def terms_of(row: FunctionMemoRow) -> Terms | None:
    """The terms of a stored call; None if they are damaged."""
    decode = _shared_terms if len(row.terms) <= _LONGEST_SHARED else rows.decode_terms
    try:
        return decode(row.terms)
    except ValueError:
        return None


_shared_terms: Final = lru_cache(maxsize=1024)(rows.decode_terms)


def file_page(prefix: bytes, page: list[FunctionMemoRow]) -> tuple[bytes, bytes]:
    """The row of the store for some memos of the component whose rows start with ``prefix``."""
    return prefix + page[0].fingerprint, rows.encode(page)


class MemoPages:
    """The pages of one component as they are stored.

    Attributes:
        memos: all of them, by fingerprint.
    """

    __slots__ = ("_misfiled", "_pages", "_prefix", "memos")

    def __init__(self, section: Section | None, component_id: int) -> None:
        """Reads all of them; none, if there is no ``section`` to read from."""
        self._prefix = rows.function_memo_prefix(component_id)
        self._pages: dict[bytes, list[FunctionMemoRow]] = {}
        self._misfiled: set[bytes] = set()
        """Keys of pages that are damaged, or have a key of another page."""
        for key, raw in () if section is None else section.scan(self._prefix):
            self._read(key, raw)
        self.memos = {row.fingerprint: row for page in self._pages.values() for row in page}

    def _read(self, key: bytes, raw: bytes) -> None:
        try:
            page = rows.decode_function_memos(raw)
        except ValueError as error:
            page = []
            _logger.warning(
                "stored memos of component %d are unreadable: %s", rows.unpack_id(key[:9]), error
            )
        self._pages[key] = page
        if not page or key != self._prefix + page[0].fingerprint:
            self._misfiled.add(key)

    def changes(self, new: dict[bytes, FunctionMemoRow], alive: AbstractSet[bytes]) -> Batch:
        """What to write so that the ``new`` memos and stored ones in ``alive`` are all there are.

        Pages on which nothing changes stay as they are; what is left of the others moves in with
        the new memos.
        """
        if not new and not self._misfiled and self.memos.keys() <= alive:
            return []
        batch: dict[bytes, bytes | None] = {}
        moving = list(new.values())
        for key, page in self._pages.items():
            kept = [row for row in page if row.fingerprint in alive and row.fingerprint not in new]
            if len(kept) < len(page) or key in self._misfiled:
                batch[key] = None
                moving += kept
        batch.update(file_page(self._prefix, page) for page in _pages_of(moving))
        return list(batch.items())


def _pages_of(memos: Iterable[FunctionMemoRow]) -> Iterator[list[FunctionMemoRow]]:
    page: list[FunctionMemoRow] = []
    size = 0
    for row in memos:
        needed = len(row.value) + len(row.terms) + len(row.parts) + _FRAME_BYTES
        if page and size + needed > _PAGE_BYTES:
            yield page
            page, size = [], 0
        page.append(row)
        size += needed
    if page:
        yield page
