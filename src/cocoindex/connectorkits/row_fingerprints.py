"""What tells encoded rows apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Final

import msgspec

from cocoindex.core.fingerprint import Domain
from cocoindex.core.memo_key import fingerprint_object

__all__ = ["fingerprinter"]

Fields = tuple[Any, ...]

Layout = tuple[Callable[[], blake2b], Callable[[Fields], Any]]
"""What makes a hasher for the picked fields of a row, and what picks them."""

_domain: Final = Domain("coco.row")


def fingerprinter(names: Sequence[str]) -> Callable[[Fields], bytes]:
    """A function from encoded fields to 16 bytes.

    Fields that are ``None`` don't count, nor does the order of columns: adding a nullable column
    changes no fingerprint.
    """
    encode = msgspec.msgpack.Encoder().encode
    by_absent: dict[tuple[bool, ...], Layout] = {}

    def layout(absent: tuple[bool, ...]) -> Layout:
        """For rows with these fields absent; the names of the others belong to the digest."""
        order = [i for i in sorted(range(len(names)), key=names.__getitem__) if not absent[i]]
        found = _domain.hasher_behind(encode([names[i] for i in order])), _picker(order)
        if len(by_absent) < _MOST_LAYOUTS:
            by_absent[absent] = found
        return found

    complete = layout((False,) * len(names))

    def fingerprint(fields: Fields) -> bytes:
        try:
            if None in fields:
                absent = tuple([value is None for value in fields])
                make_hasher, pick = by_absent.get(absent) or layout(absent)
            else:
                make_hasher, pick = complete
            hasher = make_hasher()
            hasher.update(encode(pick(fields)))
            return hasher.digest()
        except (TypeError, ValueError, OverflowError):  # made by a user's own encoder
            known = zip(names, fields, strict=True)
            return fingerprint_object({n: v for n, v in known if v is not None})

    return fingerprint


_MOST_LAYOUTS: Final = 1_000
"""Rows of wide, sparse tables may be without fields in very many ways."""


def _picker(order: list[int]) -> Callable[[Fields], Any]:
    if len(order) > 1:
        return itemgetter(*order)
    return lambda fields: tuple(fields[i] for i in order)
