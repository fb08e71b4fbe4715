"""128-bit digests: how two values, calls or pieces of code are told apart."""

from __future__ import annotations

import uuid
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Final, Union, final

from cocoindex.errors import UsageTypeError, UsageValueError

__all__ = [
    "FINGERPRINT_SIZE",
    "Domain",
    "Fingerprint",
    "Fingerprintable",
    "fingerprint_bytes",
    "fingerprint_str",
]

FINGERPRINT_SIZE: Final = 16
"""Bytes in every fingerprint."""


@final
class Fingerprint:
    """An immutable 16-byte digest; equal digests are equal and hash alike."""

    __slots__ = ("_raw",)
    _raw: bytes

    def __init__(self, raw: bytes) -> None:
        """Wrap ``raw``, exactly 16 bytes. Raises ``TypeError`` or ``ValueError`` otherwise."""
        if not isinstance(raw, bytes):
            raise UsageTypeError(f"a fingerprint is made of bytes, not {type(raw).__name__}")
        if len(raw) != FINGERPRINT_SIZE:
            raise UsageValueError(f"a fingerprint has {FINGERPRINT_SIZE} bytes, not {len(raw)}")
        self._raw = raw

    def as_bytes(self) -> bytes:
        """The 16 bytes."""
        return self._raw

    def to_base64(self) -> str:
        """The 16 bytes in standard base64."""
        return b64encode(self._raw).decode("ascii")

    def __bytes__(self) -> bytes:
        return self._raw

    def __str__(self) -> str:
        return "#" + self._raw.hex()

    def __repr__(self) -> str:
        return f"Fingerprint({self})"

    def __eq__(self, other: object) -> bool:
        if type(other) is Fingerprint:
            return self._raw == other._raw
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._raw)

    def __reduce__(self) -> tuple[type[Fingerprint], tuple[bytes]]:
        return Fingerprint, (self._raw,)


Fingerprintable = Union[  # noqa: UP007 - strings don't combine with |
    None,
    bool,
    int,
    float,
    str,
    bytes,
    uuid.UUID,
    Fingerprint,
    Sequence["Fingerprintable"],
    Mapping["Fingerprintable", "Fingerprintable"],
    set["Fingerprintable"],
]
"""The values that every canonical form is built from."""


@final
class Domain:
    """Hashing for one purpose: equal bytes hashed in two domains give unrelated digests."""

    __slots__ = ("_new",)

    def __init__(self, name: str) -> None:
        """``name``: at most 16 ASCII characters."""
        # Copying a prepared state is a third cheaper than constructing one.
        self._new = blake2b(digest_size=FINGERPRINT_SIZE, person=name.encode("ascii")).copy

    def digest(self, data: bytes | bytearray) -> bytes:
        """The 16-byte digest of ``data`` in this domain."""
        hasher = self._new()
        hasher.update(data)
        return hasher.digest()

    def hasher_behind(self, prefix: bytes) -> Callable[[], blake2b]:
        """Makes hashers for this domain that were given ``prefix`` already."""
        base = self._new()
        base.update(prefix)
        return base.copy


def fingerprint_bytes(data: bytes | bytearray | memoryview) -> bytes:
    """16-byte digest of the raw content of ``data``."""
    return blake2b(data, digest_size=FINGERPRINT_SIZE).digest()


def fingerprint_str(s: str) -> bytes:
    """16-byte digest of the UTF-8 form of ``s``."""
    return fingerprint_bytes(s.encode("utf-8", "surrogatepass"))
