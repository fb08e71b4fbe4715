"""Listing a directory tree. Runs on worker threads; knows nothing of events loops."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Final, Literal, NamedTuple, Self

from cocoindex.connectors.localfs._dirs import enter, open_below, os_error
from cocoindex.errors import UsageTypeError, UsageValueError
from cocoindex.resources._filelike import now_us
from cocoindex.resources._matchers import FilePathMatcher, TextMatcher

__all__ = ["Found", "Scan", "ScanOptions", "Unreadable"]

_log = logging.getLogger(__name__)

# Enough entries that a trip to a thread does not weigh, few enough to start work early.
_ENTRIES_PER_STEP: Final = 256
_ESCAPES_NAMED: Final = 10
# Gone between listing and looking, or a link to nothing or to itself.
_VANISHED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

_Identities = tuple[tuple[int, int], Any] | None  # linked list: one cell per ancestor


class _ScanFields(NamedTuple):
    recursive: bool = False
    matcher: FilePathMatcher | None = None
    on_error: Literal["raise", "skip"] = "raise"
    follow_symlinks: bool | None = None
    min_size: int | None = None
    max_size: int | None = None


class ScanOptions(_ScanFields):
    """What to take; see :func:`cocoindex.connectors.localfs.walk_dir`."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        new = super().__new__(cls, *args, **kwargs)
        if new.on_error not in ("raise", "skip"):
            raise UsageValueError(f'on_error must be "raise" or "skip", not {new.on_error!r}')
        for name, size in (("min_file_size", new.min_size), ("max_file_size", new.max_size)):
            if size is not None and size < 0:
                raise UsageValueError(f"{name} must not be negative, not {size}")
        return new


class Found(NamedTuple):
    """A regular file."""

    key: str
    """POSIX path below the root."""
    real: str
    """The path to open below the root: the key unless links were resolved."""
    size: int
    modified_us: int
    observed_us: int


class Unreadable(NamedTuple):
    """A directory that can't be listed, or an entry that can't be examined."""

    key: str
    error: OSError

    def covers(self, key: object) -> bool:
        """Whether the item ``key`` lies in the part that is unknown."""
        if not self.key:
            return True
        return isinstance(key, str) and (key == self.key or key.startswith(self.key + "/"))


class _Directory(NamedTuple):
    key: str
    real: str
    ancestors: _Identities


class Scan:
    """One pass over a tree, in steps.

    Args:
        path: the root, below ``anchor`` if there is one.

    Raises:
        ValueError: the root is not a directory.
    """

    def __init__(self, path: PurePath, anchor: Any, options: ScanOptions) -> None:
        self._options = options
        self.root = os.path.realpath(path if anchor is None else os.path.join(anchor, path))
        if not stat.S_ISDIR(_root_mode(self.root)):
            raise UsageValueError(f"Path is not a directory: {self.root}")
        self._confined = options.follow_symlinks is False
        self._takes_dir, self._takes_file = _questions(options.matcher)
        self._stack = [_Directory("", "", None)]
        self._escapes: list[str] = []

    @property
    def done(self) -> bool:
        return not self._stack

    def step(self) -> list[Found | Unreadable]:
        """List the next directories. After an unreadable one the caller may stop or go on."""
        found: list[Found | Unreadable] = []
        while self._stack and len(found) < _ENTRIES_PER_STEP:
            self._list(self._stack.pop(), found)
        return found

    def report_escapes(self) -> None:
        """Warn once about the links that led out of the root."""
        if not self._escapes or self._options.follow_symlinks is not None:
            return
        named = ", ".join(self._escapes[:_ESCAPES_NAMED])
        more = len(self._escapes) - _ESCAPES_NAMED
        _log.warning(
            "%s: followed symbolic links that lead out of the directory: %s%s. Pass "
            "follow_symlinks=True to accept this, False to stay inside.",
            self.root,
            named,
            f" and {more} more" if more > 0 else "",
        )

    def _path(self, real: str) -> str:
        return f"{self.root}/{real}" if real else self.root

    def _list(self, directory: _Directory, found: list[Found | Unreadable]) -> None:
        try:
            identity, entries = self._entries(directory)
        except OSError as e:
            if directory.key and e.errno in _VANISHED:
                return
            self._unreadable(directory.key, directory.real, e, found)
            return
        if _on_chain(directory.ancestors, identity):
            return
        below: list[_Directory] = []
        for entry in entries:
            self._examine(directory, entry, (identity, directory.ancestors), found, below)
        below.reverse()
        self._stack += below

    def _entries(self, directory: _Directory) -> tuple[tuple[int, int], list[os.DirEntry[str]]]:
        if self._confined:
            with enter(self.root, directory.real) as opened, opened.entries() as listing:
                # A descriptor lists names only for as long as it is open, stats included.
                return opened.identity(), sorted(map(_looked_at, listing), key=_name)
        path = self._path(directory.real)
        status = os.stat(path)
        with os.scandir(path) as listing:
            return (status.st_dev, status.st_ino), sorted(listing, key=_name)

    def _examine(
        self,
        directory: _Directory,
        entry: os.DirEntry[str],
        chain: _Identities,
        found: list[Found | Unreadable],
        below: list[_Directory],
    ) -> None:
        name = entry.name
        key = f"{directory.key}/{name}" if directory.key else name
        real = f"{directory.real}/{name}" if directory.real else name
        try:
            if entry.is_symlink():
                self._examine_link(key, real, chain, found, below)
            elif entry.is_dir(follow_symlinks=False):
                if self._options.recursive and self._takes_dir(key):
                    below.append(_Directory(key, real, chain))
            elif entry.is_file(follow_symlinks=False) and self._takes_file(key):
                self._take(key, real, entry.stat(follow_symlinks=False), found)
        except OSError as e:
            if e.errno not in _VANISHED:
                self._unreadable(key, real, e, found)

    def _examine_link(
        self,
        key: str,
        real: str,
        chain: _Identities,
        found: list[Found | Unreadable],
        below: list[_Directory],
    ) -> None:
        target = os.path.realpath(self._path(real))
        inside = target.startswith(self.root.rstrip("/" + os.sep) + os.sep) or target == self.root
        if self._confined:
            if not inside:
                return
            real = os.path.relpath(target, self.root).replace(os.sep, "/")
            real = "" if real == "." else real
        status = self._stat_target(real)
        if stat.S_ISDIR(status.st_mode):
            if not (self._options.recursive and self._takes_dir(key)):
                return
            below.append(_Directory(key, real, chain))
        elif stat.S_ISREG(status.st_mode) and self._takes_file(key):
            self._take(key, real, status, found)
        else:
            return
        if not inside:
            self._escapes.append(f"{key} -> {target}")

    def _stat_target(self, real: str) -> os.stat_result:
        if not self._confined or not real:
            return os.stat(self._path(real))
        # Not blocking, lest a FIFO swapped in just now holds the scan.
        fd = open_below(self.root, real, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def _take(
        self, key: str, real: str, status: os.stat_result, found: list[Found | Unreadable]
    ) -> None:
        size = status.st_size
        options = self._options
        if options.min_size is not None and size < options.min_size:
            return
        if options.max_size is not None and size > options.max_size:
            return
        found.append(Found(key, real, size, status.st_mtime_ns // 1000, now_us()))

    def _unreadable(
        self, key: str, real: str, error: OSError, found: list[Found | Unreadable]
    ) -> None:
        path = self._path(real)
        named = os_error(error.errno or errno.EIO, path, "can't list or examine it")
        named.__cause__ = error
        if self._options.on_error == "skip":
            _log.warning("%s; everything known below it is kept", named)
        found.append(Unreadable(key, named))


class _Looked:
    """A directory entry whose status was taken while the directory was open."""

    __slots__ = ("_status", "name")

    def __init__(self, name: str, status: os.stat_result | OSError) -> None:
        self.name = name
        self._status = status

    def stat(self, **_: bool) -> os.stat_result:
        if isinstance(self._status, OSError):
            raise self._status
        return self._status

    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.stat().st_mode)

    def is_dir(self, **_: bool) -> bool:
        return stat.S_ISDIR(self.stat().st_mode)

    def is_file(self, **_: bool) -> bool:
        return stat.S_ISREG(self.stat().st_mode)


def _looked_at(entry: os.DirEntry[str]) -> Any:
    try:
        return _Looked(entry.name, entry.stat(follow_symlinks=False))
    except OSError as e:
        return _Looked(entry.name, e)


def _name(entry: Any) -> str:
    name: str = entry.name
    return name


def _on_chain(chain: _Identities, identity: tuple[int, int]) -> bool:
    while chain is not None:
        if chain[0] == identity:
            return True
        chain = chain[1]
    return False


def _root_mode(root: str) -> int:
    try:
        return os.stat(root).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UsageValueError(f"Path is not a directory: {root} (it does not exist)") from None


def _questions(
    matcher: FilePathMatcher | None,
) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
    """How to ask about a directory and about a file, by POSIX text."""
    if matcher is None:
        return _yes, _yes
    if isinstance(matcher, TextMatcher):
        return matcher.includes_dir, matcher.includes_file
    if not isinstance(matcher, FilePathMatcher):
        raise UsageTypeError(
            "path_matcher must have is_dir_included() and is_file_included(); "
            f"{type(matcher).__name__} does not"
        )
    asked = matcher
    return (
        lambda key: asked.is_dir_included(PurePath(key)),
        lambda key: asked.is_file_included(PurePath(key)),
    )


def _yes(_: str) -> bool:
    return True
