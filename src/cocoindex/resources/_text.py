"""Bytes to text, by byte order mark."""

from __future__ import annotations

import codecs
from typing import Final

__all__ = ["decode"]

# UTF-32 LE starts with the mark of UTF-16 LE, so the longer marks come first.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)


def decode(data: bytes, encoding: str | None = None, errors: str = "replace") -> str:
    """Decode with ``encoding``, else as the byte order mark says, else as UTF-8.

    The mark is never part of the result.
    """
    if encoding is not None:
        return data.decode(encoding, errors).removeprefix("\ufeff")
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(codec, errors)
    return data.decode("utf-8", errors)
