"""The form of an exported file: gzip over a magic line and length-prefixed msgpack frames.

Every length is checked before anything is read, and a long frame can hold nothing but one row,
so a hostile file costs no more memory than the limit for one row.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from typing import BinaryIO, Final, TypeVar

import msgspec

from cocoindex.errors import StoreFormatError

MAGIC: Final = b"cocoindex state export\n"
EXPORT_FORMAT: Final = 1
LARGEST_FRAME: Final = 1 << 21
"""Bytes of a frame with many rows. A row that does not fit has a frame of its own."""

_LENGTH = 8
_HEADER_LIMIT = 1 << 20
_CHUNK = 1 << 20
# msgspec passes bad UTF-8 and deep nesting on as Python's own errors.
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)

F = TypeVar("F", bound="Frame")


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a file is made of."""


class Header(Frame, frozen=True, tag="header"):
    """The first frame. Newer formats keep its first field."""

    format: int
    state_format: int
    release: str
    apps: list[str]


class AppFrame(Frame, frozen=True, tag="app"):
    """The rows that follow belong to this app."""

    name: str


class RowsFrame(Frame, frozen=True, tag="rows"):
    rows: list[tuple[bytes, bytes]]


class LongRow(Frame, frozen=True, tag="row"):
    key: bytes
    value: bytes


class End(Frame, frozen=True, tag="end"):
    """The last frame: how many rows there were, and the digest of all frames before."""

    rows: int
    digest: bytes


AnyFrame = AppFrame | RowsFrame | LongRow | End

_encode = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(Header).decode
_decode_any = msgspec.msgpack.Decoder(AnyFrame).decode
_decode_long = msgspec.msgpack.Decoder(LongRow).decode


class FrameWriter:
    def __init__(self, file: BinaryIO) -> None:
        # No time and no name inside: equal states make equal files.
        self._gzip = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)
        self._digest = hashlib.blake2b(digest_size=32)
        self._gzip.write(MAGIC)

    def write(self, frame: Frame) -> None:
        data = _encode(frame)
        self._digest.update(data)
        self._gzip.write(len(data).to_bytes(_LENGTH, "big") + data)

    def finish(self, rows: int) -> None:
        self.write(End(rows, self._digest.digest()))
        self._gzip.close()


class FrameReader:
    """Reads frames; every error is a ``StoreFormatError`` that names the file."""

    def __init__(self, file: BinaryIO, name: str, largest_row: int) -> None:
        self._gzip = gzip.GzipFile(fileobj=file, mode="rb")
        self._name = name
        self._largest_row = largest_row
        self._digest = hashlib.blake2b(digest_size=32)
        self.header = self._read_header()

    def _read_header(self) -> Header:
        try:
            magic = self._gzip.read(len(MAGIC))
        except _DAMAGED:
            magic = b""
        if magic != MAGIC:
            raise StoreFormatError(f"{self._name} is not a file made by 'cocoindex state export'")
        data = self._frame(_HEADER_LIMIT)
        self._check_format(data)
        try:
            return _decode_header(data)
        except _UNREADABLE as error:
            raise self.damaged(f"its header can't be read: {error}") from error

    def _check_format(self, data: bytes) -> None:
        try:
            tag, version, *_ = msgspec.msgpack.decode(data, type=list[object])
        except _UNREADABLE as error:
            raise self.damaged("its header can't be read") from error
        if tag != "header" or type(version) is not int or version < 1:
            raise self.damaged("its header can't be read")
        if version > EXPORT_FORMAT:
            raise StoreFormatError(
                f"{self._name} has export format {version}; this release of cocoindex reads up "
                f"to {EXPORT_FORMAT}. Upgrade cocoindex."
            )

    def read(self) -> AnyFrame:
        """The next frame. The end is checked against everything read before."""
        digest = self._digest.digest()
        data = self._frame(self._largest_row + LARGEST_FRAME)
        decode = _decode_long if len(data) > LARGEST_FRAME else _decode_any
        try:
            frame: AnyFrame = decode(data)
        except _UNREADABLE as error:
            raise self.damaged(f"a part can't be read: {error}") from error
        if isinstance(frame, End):
            self._check_end(frame, digest)
        return frame

    def _frame(self, limit: int) -> bytes:
        size = int.from_bytes(self._exactly(_LENGTH), "big")
        if size > limit:
            raise StoreFormatError(
                f"{self._name} is damaged, or holds a row of {size} bytes; the limit is "
                f"{self._largest_row}. If you trust the file, raise it with --max-row-bytes."
            )
        data = self._exactly(size)
        self._digest.update(data)
        return data

    def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = self._some(min(size, _CHUNK))
            if not part:
                raise self.damaged("it ends too early")
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _some(self, size: int) -> bytes:
        try:
            return self._gzip.read(size)
        except EOFError:
            return b""
        except _DAMAGED as error:
            raise self.damaged(str(error)) from error

    def _check_end(self, end: End, digest: bytes) -> None:
        if end.digest != digest:
            raise self.damaged("its checksum is wrong")
        try:
            more = self._gzip.read(1)
        except _DAMAGED as error:
            raise self.damaged(str(error)) from error
        if more:
            raise self.damaged("something follows its end")

    def damaged(self, why: str) -> StoreFormatError:
        return StoreFormatError(f"{self._name} is damaged: {why}. Export it again.")
