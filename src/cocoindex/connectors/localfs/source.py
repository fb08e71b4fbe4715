"""Files of a directory as a source."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final, Literal, Protocol

import cocoindex as coco
from cocoindex.connectorkits.sources import Unlisted
from cocoindex.connectors.localfs._dirs import READ_FILE, open_below, regular
from cocoindex.connectors.localfs._hops import in_thread
from cocoindex.connectors.localfs._scan import Found, Scan, ScanOptions, Unreadable
from cocoindex.connectors.localfs.path import FilePath, to_file_path
from cocoindex.errors import UsageValueError
from cocoindex.resources._filelike import FileLike, FileMetadata, from_microseconds, now_us
from cocoindex.resources._matchers import FilePathMatcher

__all__ = ["DirWalker", "File", "walk_dir"]

_OWN_TRIP_BYTES: Final = 1 << 20
_AT_ONCE_BYTES: Final = 1 << 16
_LONG: Final = 0.0005
"""Seconds: several times what a trip to a thread costs."""
_PATIENCE: Final = 4
_BLOCK: Final = 1 << 20


class RateLimit(Protocol):
    """A budget of reads, such as ``cocoindex.resources.rate_limit.RateLimiter``."""

    async def acquire(self, n: int = 1) -> None: ...


class _Origin:
    """What the files of one walk share.

    Attributes:
        tells_cached: reading can be told not to wait for a disk.
        slow: how many of the last tries to read at once took long, without one that did not.
    """

    __slots__ = (
        "confined",
        "limiter",
        "path",
        "path_text",
        "root",
        "slots",
        "slow",
        "tells_cached",
    )

    def __init__(
        self,
        path: FilePath,
        root: str,
        *,
        confined: bool,
        limiter: RateLimit | None,
        prefetch: int | None,
    ) -> None:
        self.path = path
        self.path_text = path.as_posix()
        self.root = root
        self.confined = confined
        self.limiter = limiter
        self.slots = None if prefetch is None else asyncio.Semaphore(prefetch)
        self.tells_cached = hasattr(os, "RWF_NOWAIT")
        self.slow = 0

    def note_time(self, seconds: float) -> None:
        """Give up reading at once where opening a file takes long (a network may be in between)."""
        self.slow = self.slow + 1 if seconds > _LONG else 0
        if self.slow >= _PATIENCE:
            self.tells_cached = False


class File(FileLike[Path]):
    """A local file.

    Args:
        file_path: where it is; it is read when asked for.
    """

    __slots__ = ("_modified_us", "_origin", "_relative", "_size")

    def __init__(self, file_path: FilePath, *, _stat: os.stat_result | None = None) -> None:
        super().__init__(file_path)
        self._origin: _Origin | None = None
        self._relative = ""
        self._size = -1
        self._modified_us = 0
        if _stat is not None:
            self._size = _stat.st_size
            self._modified_us = _stat.st_mtime_ns // 1000
            self._observed_us = now_us()

    def _set_listed(self, origin: _Origin, found: Found) -> None:
        self._origin = origin
        self._relative = found.real
        self._size = found.size
        self._modified_us = found.modified_us
        self._observed_us = found.observed_us

    async def metadata(self) -> FileMetadata:
        """Size and modification time; a listed file knows them already."""
        if self._metadata is None and self._size >= 0:
            self._metadata = FileMetadata(self._size, from_microseconds(self._modified_us))
        return self._metadata or await super().metadata()

    def _known_facts(self) -> tuple[int, int, bytes | None] | None:
        if self._size >= 0:
            return self._modified_us, self._size, None
        return super()._known_facts()

    def _opener(self) -> _Opener:
        """How to open this file from any thread; asks the context, so call it on the loop."""
        origin = self._origin
        if origin is None:
            return partial(_open_path, str(self._file_path.resolve()))
        if origin.confined:
            return partial(_open_confined, origin.root, self._relative)
        return partial(_open_listed, f"{origin.root}/{self._relative}")

    async def _fetch_metadata(self) -> FileMetadata:
        found = await in_thread(partial(_stat_open, self._opener()))
        return FileMetadata(found.st_size, from_microseconds(found.st_mtime_ns // 1000))

    async def _read_impl(self, size: int = -1) -> bytes:
        origin = self._origin
        if origin is not None and origin.limiter is not None:
            await origin.limiter.acquire()
        if origin is not None and origin.slots is not None:
            async with origin.slots:
                return await self._read_now(size)
        return await self._read_now(size)

    async def _read_now(self, size: int) -> bytes:
        content = self._read_at_once() if size < 0 else None
        if content is None:
            content = await self._run(partial(_read_file, self._opener(), size, self._size))
        return content

    def _read_at_once(self) -> bytes | None:
        """The content of a small file that is in memory: a trip to a thread costs ten times more.

        None where it may have to be waited for.
        """
        origin, size = self._origin, self._size
        if origin is None or not origin.tells_cached or size > _AT_ONCE_BYTES:
            return None
        started = perf_counter()
        fd = self._opener()()
        try:
            return _read_cached(fd, size)
        except BlockingIOError:
            return None
        except OSError:
            # File systems, kernels and sandboxes refuse this in many ways. Whether anything is
            # wrong with the file, reading it the usual way will tell.
            origin.tells_cached = False
            return None
        finally:
            os.close(fd)
            origin.note_time(perf_counter() - started)

    async def _run(self, read: partial[bytes]) -> bytes:
        # A large file must not hold up the small ones that share its trip.
        if self._size > _OWN_TRIP_BYTES:
            return await asyncio.to_thread(read)
        return await in_thread(read)

    async def _open_impl(self) -> _LocalReader:
        return _LocalReader(await asyncio.to_thread(self._opener()))


def _listed_file(origin: _Origin, found: Found) -> File:
    file = File(origin.path.below(origin.path_text, found.key))
    file._set_listed(origin, found)  # noqa: SLF001 - made here, not part of the public class
    return file


class _Opener(Protocol):
    def __call__(self) -> int: ...


class _LocalReader:
    """Reads an open descriptor, block by block, off the event loop."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def read(self, size: int = -1) -> bytes:
        return await asyncio.to_thread(_read_up_to, self._fd, size)

    async def close(self) -> None:
        os.close(self._fd)


def _open_path(path: str) -> int:
    return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))


def _open_listed(path: str) -> int:
    return regular(os.open(path, READ_FILE), path)


def _open_confined(root: str, relative: str) -> int:
    return regular(open_below(root, relative, READ_FILE), f"{root}/{relative}")


def _stat_open(opener: _Opener) -> os.stat_result:
    fd = opener()
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _read_file(opener: _Opener, size: int, listed: int) -> bytes:
    """``listed``: how long the file was when it was found; negative if that is not known."""
    fd = opener()
    try:
        if size >= 0:
            return _read_up_to(fd, size)
        expected = listed if listed >= 0 else os.fstat(fd).st_size
        # One byte more than there should be: a file that gives less has no more, and is spared
        # the call that would say so.
        content = os.read(fd, expected + 1)
        return content if len(content) == expected else content + _read_up_to(fd, -1)
    finally:
        os.close(fd)


def _read_cached(fd: int, listed: int) -> bytes | None:
    """The content if the system has all of it in memory and it is as long as it was.

    Raises:
        BlockingIOError: not in memory.
        OSError: the system, or the file system, can't tell.
    """
    buffer = bytearray(listed + 1)
    length = os.preadv(fd, [buffer], 0, os.RWF_NOWAIT)
    return bytes(memoryview(buffer)[:length]) if length == listed else None


def _read_up_to(fd: int, size: int) -> bytes:
    """``size`` bytes or, if it is negative, up to the end."""
    blocks: list[bytes] = []
    left = size
    while left != 0:
        block = os.read(fd, _BLOCK if left < 0 else left)
        if not block:
            break
        blocks.append(block)
        left -= len(block) if left > 0 else 0
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


class DirWalker:
    """The files of a directory, as :func:`walk_dir` was told to find them.

    Iterate over it for :class:`File` objects, or give ``items()`` to ``mount_each``.
    """

    __slots__ = ("_options", "_path", "_prefetch", "_rate_limit")

    def __init__(
        self,
        path: FilePath,
        options: ScanOptions,
        rate_limit: RateLimit | None,
        prefetch: int | None,
    ) -> None:
        self._path = path
        self._options = options
        self._rate_limit = rate_limit
        self._prefetch = prefetch

    async def __aiter__(self) -> AsyncIterator[File]:
        failure: OSError | None = None
        async for batch in self._walk():
            for found in batch:
                if isinstance(found, OSError):
                    failure = failure or found
                elif isinstance(found, tuple):
                    yield found[1]
        if failure is not None:
            raise failure

    async def items(self) -> AsyncIterator[tuple[str, File]]:
        """``(key, file)`` pairs; the key is the POSIX path below the root.

        With ``on_error="skip"`` an :class:`~cocoindex.connectorkits.sources.Unlisted` stands
        for each part that could not be read.
        """
        async for batch in self._walk():
            for found in batch:
                if type(found) is tuple or not isinstance(found, OSError):
                    yield found  # type: ignore[misc]  # Unlisted is part of mount_each's contract

    async def _walk(self) -> AsyncIterator[Iterable[tuple[str, File] | Unlisted | OSError]]:
        base = self._path.base_dir
        anchor = None if base is None else coco.use_context(base)
        scan = await asyncio.to_thread(Scan, self._path.path, anchor, self._options)
        origin = _Origin(
            self._path,
            scan.root,
            confined=self._options.follow_symlinks is False,
            limiter=self._rate_limit,
            prefetch=self._prefetch,
        )
        try:
            while not scan.done:
                yield self._listed(origin, await asyncio.to_thread(scan.step))
        finally:
            scan.report_escapes()

    def _listed(
        self, origin: _Origin, found: Iterable[Found | Unreadable]
    ) -> Iterable[tuple[str, File] | Unlisted | OSError]:
        for entry in found:
            if type(entry) is Found:
                yield entry.key, _listed_file(origin, entry)
                continue
            assert isinstance(entry, Unreadable)
            if self._options.on_error == "raise":
                raise entry.error
            yield Unlisted(entry.covers)
            yield entry.error


def walk_dir(
    path: FilePath | Path | coco.ContextKey[Path],
    *,
    live: bool = False,
    recursive: bool = False,
    path_matcher: FilePathMatcher | None = None,
    rescan_interval: timedelta | None = timedelta(hours=1),
    on_error: Literal["raise", "skip"] = "raise",
    follow_symlinks: bool | None = None,
    min_file_size: int | None = None,
    max_file_size: int | None = None,
    poll_interval: timedelta | None = None,
    rate_limit: RateLimit | None = None,
    prefetch: int | None = None,
) -> DirWalker:
    """Find the regular files of a directory, depth first and sorted by name.

    Args:
        path: the directory; a context key stands for the directory it provides.
        live: watch for changes (not available in this release).
        recursive: enter subdirectories.
        path_matcher: which files to take and directories to enter; None takes everything.
        rescan_interval: how often live watching lists everything anew.
        on_error: what to do about a directory or file that can't be read: raise, or keep
            what is known below it and log a warning.
        follow_symlinks: what to do about links that lead out of the directory: False stays
            inside, True follows, None follows with a warning.
        min_file_size: bytes; smaller files count as absent.
        max_file_size: bytes; larger files count as absent.
        poll_interval: poll this often instead of asking the system for events when live.
        rate_limit: budget of content reads.
        prefetch: most content reads at a time; None leaves it to the worker threads.

    Raises:
        ValueError: an option is out of range. Iterating raises it if the path is not a
            directory.
        OSError: from iterating: something could not be read.
    """
    if live:
        raise UsageValueError("walk_dir: live watching is not available in this release")
    _check_positive("rescan_interval", rescan_interval)
    _check_positive("poll_interval", poll_interval)
    if prefetch is not None and prefetch < 1:
        raise UsageValueError(f"walk_dir: prefetch must be at least 1, not {prefetch}")
    options = ScanOptions(
        recursive, path_matcher, on_error, follow_symlinks, min_file_size, max_file_size
    )
    return DirWalker(to_file_path(path), options, rate_limit, prefetch)


def _check_positive(name: str, interval: timedelta | None) -> None:
    if interval is not None and interval <= timedelta(0):
        raise UsageValueError(f"walk_dir: {name} must be positive, not {interval}")
