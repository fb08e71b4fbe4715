"""A file of some backend, read on demand, and how a memo sees it.

A memo over a file asks two questions: is it the same file (its path), and does it still have
the same content? The second is answered from size and modification time where possible. A
modification time is believed only if it was at least two seconds old when it was seen: on a
coarse clock a later write may leave it as it was.
"""

from __future__ import annotations

import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, ClassVar, Final, Generic, NamedTuple, Protocol, TypeAlias

import cocoindex as coco
from cocoindex.core.fingerprint import FINGERPRINT_SIZE, fingerprint_bytes
from cocoindex.core.sentinels import MemoStateOutcome, NonExistenceType
from cocoindex.errors import UsageValueError
from cocoindex.resources._paths import FilePath, ResolvedPath
from cocoindex.resources._text import decode

__all__ = ["FileLike", "FileMetadata", "FileReader", "FileState", "from_microseconds"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CLOCK_GRAIN_US: Final = 2_000_000
_BLOCK: Final = 1 << 20


class FileMetadata(NamedTuple):
    """What a backend says about a file.

    Attributes:
        size: bytes.
        modified_time: aware, UTC.
        content_fingerprint: what the backend knows for free (ETag, blob id), or None.
    """

    size: int
    modified_time: datetime
    content_fingerprint: bytes | None = None


class FileState(NamedTuple):
    """What a memo remembers of a file.

    Attributes:
        modified_us: modification time, microseconds since 1970.
        size: bytes.
        fingerprint: of the content; empty if the file changed while it was read.
        native: the fingerprint is the backend's own.
        settled: the modification time was old enough to be trusted.
    """

    modified_us: int
    size: int
    fingerprint: bytes
    native: bool
    settled: bool


_Facts: TypeAlias = tuple[int, int, bytes | None]
"""Modification time (µs), size and native fingerprint."""


class FileReader(Protocol):
    """An open file."""

    async def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes at most, or the rest; empty at the end."""
        ...

    async def close(self) -> None: ...


class FileLike(ABC, Generic[ResolvedPath]):
    """A file that a source found. Nothing is read before it is asked for.

    A backend implements :meth:`_fetch_metadata` and :meth:`_read_impl`; it may override
    :meth:`_open_impl` to read without holding the whole content.

    Attributes:
        content_cache_limit: content of more bytes than this is not kept in memory.
    """

    __slots__ = (
        "_content",
        "_file_path",
        "_fingerprint",
        "_metadata",
        "_observed_us",
        "_reader",
    )

    content_cache_limit: ClassVar[int] = 64 * 1024 * 1024

    def __init__(
        self, file_path: FilePath[ResolvedPath], *, _metadata: FileMetadata | None = None
    ) -> None:
        self._file_path = file_path
        self._metadata = _metadata
        self._observed_us = now_us() if _metadata is not None else 0
        # A list of one, so that the end of the reading component can empty it.
        self._content: list[bytes] | None = None
        self._reader: weakref.ref[Any] | None = None
        self._fingerprint: bytes | None = None

    @abstractmethod
    async def _fetch_metadata(self) -> FileMetadata:
        """Ask the backend for size, modification time and, if free, a fingerprint."""

    @abstractmethod
    async def _read_impl(self, size: int = -1) -> bytes:
        """The first ``size`` bytes, or everything for a negative size."""

    async def _open_impl(self) -> FileReader:
        return _MemoryReader(await self.read())

    async def _compute_content_fingerprint(self) -> bytes:
        if await self.size() <= self.content_cache_limit:
            return fingerprint_bytes(await self.read())
        digest = blake2b(digest_size=FINGERPRINT_SIZE)
        async for block in self.iter_bytes():
            digest.update(block)
        return digest.digest()

    @property
    def file_path(self) -> FilePath[ResolvedPath]:
        return self._file_path

    async def metadata(self) -> FileMetadata:
        """Size, modification time and native fingerprint; asked of the backend once."""
        metadata = self._metadata
        if metadata is None:
            self._observed_us = now_us()
            metadata = self._metadata = await self._fetch_metadata()
        return metadata

    async def size(self) -> int:
        """Bytes."""
        return (await self.metadata()).size

    async def read(self, size: int = -1) -> bytes:
        """The first ``size`` bytes, or everything for a negative size.

        Raises:
            FileNotFoundError: the file went away since it was listed.
        """
        if size == 0:
            return b""
        content = self._cached()
        if content is None:
            content = await self._read_impl(size)
            if size < 0:
                self._keep(content)
        return content if size < 0 else content[:size]

    async def read_text(self, encoding: str | None = None, errors: str = "replace") -> str:
        """The content as text: by ``encoding``, else by byte order mark, else UTF-8.

        Raises:
            UnicodeDecodeError: it does not decode and ``errors`` is ``"strict"``.
        """
        return decode(await self.read(), encoding, errors)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[FileReader]:
        """Read in pieces: ``async with file.open() as f: await f.read(n)``. Not cached."""
        content = self._cached()
        reader = await self._open_impl() if content is None else _MemoryReader(content)
        try:
            yield reader
        finally:
            await reader.close()

    async def iter_bytes(self, block_size: int = _BLOCK) -> AsyncIterator[bytes]:
        """The content in blocks of ``block_size`` bytes. Not cached."""
        if block_size < 1:
            raise UsageValueError(f"block_size must be at least 1, not {block_size}")
        async with self.open() as reader:
            while block := await reader.read(block_size):
                yield block

    async def content_fingerprint(self) -> bytes:
        """The backend's fingerprint if it has one, else one of the content; cached."""
        native = (await self.metadata()).content_fingerprint
        if native is not None:
            return native
        if self._fingerprint is None:
            self._fingerprint = await self._compute_content_fingerprint()
        return self._fingerprint

    def _cached(self) -> bytes | None:
        box = self._content
        return box[0] if box else None

    def _keep(self, content: bytes) -> None:
        """Cache ``content`` until the component that read it ends."""
        if len(content) > self.content_cache_limit:
            return
        box = self._content = [content]
        component = _current_component()
        if component is not None:
            self._reader = weakref.ref(component, _emptier(box))

    # --- memo protocol ---

    def __coco_memo_key__(self) -> object:
        return self._file_path.__coco_memo_key__()

    def __coco_memo_state__(
        self, prev_state: FileState | NonExistenceType
    ) -> MemoStateOutcome | Awaitable[MemoStateOutcome]:
        """Whether the content is what it was; without I/O if the metadata decides, or if the
        content is at hand.
        """
        known = self._known_facts()
        if known is not None:
            if isinstance(prev_state, tuple):
                prev = prev_state if type(prev_state) is FileState else FileState(*prev_state)
                outcome = _decide(prev, known)
                if outcome is not None:
                    return outcome
            elif (fingerprint := self._fingerprint_at_hand(known)) is not None:
                return self._outcome(known, None, fingerprint)
        return self._memo_state_by_content(prev_state)

    def _known_facts(self) -> _Facts | None:
        """What is known of the file, if no I/O is needed."""
        return None if self._metadata is None else _facts_of(self._metadata)

    async def _memo_state_by_content(
        self, prev_state: FileState | NonExistenceType
    ) -> MemoStateOutcome:
        metadata = await self.metadata()
        known = _facts_of(metadata)
        prev = FileState(*prev_state) if isinstance(prev_state, tuple) else None
        if prev is not None:
            outcome = _decide(prev, known)
            if outcome is not None:
                return outcome
        fingerprint = await self.content_fingerprint()
        if prev is None and known[2] is None and await self._moved_on(metadata):
            fingerprint = b""
        return self._outcome(known, prev, fingerprint)

    def _fingerprint_at_hand(self, known: _Facts) -> bytes | None:
        """:meth:`content_fingerprint`, if that needs no I/O."""
        if known[2] is not None:
            return known[2]
        content, kind = self._cached(), type(self)
        own = FileLike._compute_content_fingerprint
        if content is None or kind._compute_content_fingerprint is not own:  # noqa: SLF001 - ours
            return None
        if self._fingerprint is None:
            self._fingerprint = fingerprint_bytes(content)
        return self._fingerprint

    def _outcome(
        self, known: _Facts, prev: FileState | None, fingerprint: bytes
    ) -> MemoStateOutcome:
        modified_us, size, native = known
        settled = _is_settled(modified_us, self._observed_us)
        state = FileState(modified_us, size, fingerprint, native is not None, settled)
        return MemoStateOutcome(state, prev is not None and _same_content(prev, state))

    async def _moved_on(self, seen: FileMetadata) -> bool:
        """Whether an uncached file changed since it was listed.

        The body may then have read something other than what was fingerprinted after it.
        """
        return self._cached() is None and await self._fetch_metadata() != seen


def _facts_of(metadata: FileMetadata) -> _Facts:
    return to_microseconds(metadata.modified_time), metadata.size, metadata.content_fingerprint


def _same_content(prev: FileState, now: FileState) -> bool:
    return (
        prev.fingerprint == now.fingerprint != b""
        and prev.native == now.native
        and prev.size == now.size
    )


def _decide(prev: FileState, known: _Facts) -> MemoStateOutcome | None:
    """The outcome if metadata suffices: a native fingerprint, or an unchanged trusted time."""
    modified_us, size, native = known
    if native is not None:
        state = FileState(modified_us, size, native, True, True)
        return MemoStateOutcome(state, _same_content(prev, state))
    if (
        prev.settled
        and prev.modified_us == modified_us
        and prev.size == size
        and not prev.native
        and prev.fingerprint
    ):
        return MemoStateOutcome(prev, True)
    return None


def _is_settled(modified_us: int, observed_us: int) -> bool:
    return abs(observed_us - modified_us) >= _CLOCK_GRAIN_US


def now_us() -> int:
    """Wall clock, microseconds since 1970."""
    return time.time_ns() // 1000


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970; a naive ``moment`` is taken as UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """The aware UTC time."""
    return _EPOCH + timedelta(microseconds=microseconds)


class _MemoryReader:
    """Reads from content that is in memory anyway."""

    __slots__ = ("_at", "_content")

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    async def read(self, size: int = -1) -> bytes:
        end = None if size < 0 else self._at + size
        block = self._content[self._at : end]
        self._at += len(block)
        return block

    async def close(self) -> None:
        pass


def _emptier(box: list[bytes]) -> Callable[[object], None]:
    return lambda _: box.clear()


def _current_component() -> Any:
    """What lives as long as the running component does, or None outside of one."""
    try:
        context = coco.get_component_context()
    except RuntimeError:
        return None
    # The context itself is one of several short-lived views.
    return context.execution
