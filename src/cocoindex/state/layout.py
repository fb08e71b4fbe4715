"""How sections and their rows lie in one ordered map of short keys.

Every physical key starts with four bytes: 0 for the store's own rows, else the number of the
section. A number belongs to a name forever, so other processes may remember it.

A key of up to ``LONGEST`` bytes follows as it is. A longer one is cut to a stem and a digest,
which makes a physical key of exactly ``KEY_LIMIT`` bytes, and its value starts with the whole
key. All keys with one stem are neighbours, so sorting such a group restores the logical order.

Large values need nothing here: LMDB keeps a value of more than half a page on pages of its own
and only a page number beside the key, so hot pages stay small by themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import groupby

import msgspec

from cocoindex.errors import StoreFormatError
from cocoindex.state.base import FORMAT_VERSION

__all__ = [
    "FIRST_SECTION",
    "HEADER_KEY",
    "KEY_LIMIT",
    "LONGEST",
    "NAMES_PREFIX",
    "STEM",
    "check_header",
    "in_logical_order",
    "is_long",
    "name_key",
    "new_header",
    "number_of",
    "physical_key",
    "physical_row",
    "section_prefix",
    "whole_key",
]

Row = tuple[bytes, bytes]

KEY_LIMIT = 511
_NUMBER = 4
_DIGEST = 32
STEM = KEY_LIMIT - _NUMBER - _DIGEST
LONGEST = KEY_LIMIT - _NUMBER - 1
_LENGTH = 4

_OWN = bytes(_NUMBER)
FIRST_SECTION = bytes(_NUMBER - 1) + b"\1"
HEADER_KEY = _OWN + b"header"
NAMES_PREFIX = _OWN + b"name:"
_MAGIC = b"cocoindex state store\n"


def section_prefix(number: int) -> bytes:
    return number.to_bytes(_NUMBER, "big")


def name_key(number: int) -> bytes:
    """Where the name of section ``number`` is written down."""
    return NAMES_PREFIX + section_prefix(number)


def number_of(name_key: bytes) -> int:
    return int.from_bytes(name_key[len(NAMES_PREFIX) :], "big")


def physical_key(prefix: bytes, key: bytes) -> bytes:
    if len(key) <= LONGEST:
        return prefix + key
    digest = hashlib.blake2b(key, digest_size=_DIGEST).digest()
    return prefix + key[:STEM] + digest


def physical_row(prefix: bytes, key: bytes, value: bytes) -> Row:
    if len(key) <= LONGEST:
        return prefix + key, value
    return physical_key(prefix, key), len(key).to_bytes(_LENGTH, "big") + key + value


def is_long(physical: bytes) -> bool:
    return len(physical) == KEY_LIMIT


def whole_key(value: bytes) -> tuple[bytes, bytes]:
    """Key and value, out of the value of a long row."""
    end = _LENGTH + int.from_bytes(value[:_LENGTH], "big")
    if len(value) < end:
        raise StoreFormatError("a row with a long key is damaged")
    return value[_LENGTH:end], value[end:]


def in_logical_order(rows: Iterable[Row]) -> Iterator[Row]:
    """Physical rows in physical order -> logical rows in logical order."""
    for _, group in groupby(rows, key=lambda row: row[0][: _NUMBER + STEM]):
        yield from sorted(_logical(row) for row in group)


def _logical(row: Row) -> Row:
    return whole_key(row[1]) if is_long(row[0]) else (row[0][_NUMBER:], row[1])


def new_header() -> bytes:
    return _MAGIC + b'{"format": %d}' % FORMAT_VERSION


def check_header(header: bytes | None, path: str) -> None:
    """Raise ``StoreFormatError`` unless this release can read the store at ``path``."""
    if header is None or not header.startswith(_MAGIC):
        raise StoreFormatError(
            f"{path} is not a CocoIndex state store, or is damaged. Point db_path at another "
            "directory, or restore this one from a backup."
        )
    version = _format_of(header[len(_MAGIC) :])
    if version is None:
        raise StoreFormatError(
            f"the header of the state store {path} is damaged. Restore it from a backup, or "
            "delete the store and update again."
        )
    if version > FORMAT_VERSION:
        raise StoreFormatError(
            f"the state store {path} has format version {version}; this release of cocoindex "
            f"reads up to {FORMAT_VERSION}. Upgrade cocoindex, or use another db_path."
        )


def _format_of(header: bytes) -> int | None:
    try:
        version = msgspec.json.decode(header)["format"]
    except (ValueError, TypeError, KeyError):
        return None
    return version if type(version) is int and version > 0 else None
