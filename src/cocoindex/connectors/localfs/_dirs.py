"""Directories held open, so that what happens below them can't be led elsewhere.

A path is checked and then used; between the two a stranger may swap a directory for a link.
Where the system offers it, every step below a root is therefore taken relative to an open
directory and refuses links. Elsewhere each component is checked by path just before use,
which leaves a small window.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol, Self

__all__ = [
    "HAS_DIR_FDS",
    "READ_FILE",
    "Dir",
    "enter",
    "open_below",
    "open_root",
    "os_error",
    "regular",
]

HAS_DIR_FDS: Final = (
    hasattr(os, "O_DIRECTORY")
    and hasattr(os, "O_NOFOLLOW")
    and {os.open, os.stat, os.mkdir, os.unlink, os.rmdir, os.rename} <= os.supports_dir_fd
    and os.listdir in os.supports_fd
)
_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
READ_FILE: Final = os.O_RDONLY | _CLOEXEC | _BINARY | getattr(os, "O_NONBLOCK", 0)
"""For what was a regular file a moment ago: a FIFO swapped in since must not block the open."""
_ENTER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _CLOEXEC


# Nothing can have a name that is too long; it must be possible to give such a name up.
_NOTHING: Final = frozenset({errno.ENOENT, errno.ENAMETOOLONG})


class Dir(Protocol):
    """An open directory. Names are single components, and links are never followed."""

    path: str

    def enter(self, name: str) -> Dir: ...

    def lstat(self, name: str) -> os.stat_result | None:
        """None if there is nothing of that name."""
        ...

    def identity(self) -> tuple[int, int]: ...

    def names(self) -> list[str]: ...

    def open_file(self, name: str, flags: int, mode: int = 0o666) -> int: ...

    def mkdir(self, name: str) -> None: ...

    def replace(self, source: str, target: str) -> None: ...

    def unlink(self, name: str) -> None: ...

    def rmdir(self, name: str) -> None: ...

    def remove_tree(self, name: str) -> None: ...

    def sync(self) -> None:
        """Make renames, creations and removals in this directory durable."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class _Closing:
    __slots__ = ()

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class FdDir(_Closing):
    """A directory by its descriptor."""

    __slots__ = ("_fd", "path")

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self.path = path

    @classmethod
    def root(cls, path: str) -> FdDir:
        return cls(os.open(path, _ENTER), path)

    def enter(self, name: str) -> FdDir:
        fd = os.open(name, _ENTER | _NOFOLLOW, dir_fd=self._fd)
        return FdDir(fd, f"{self.path}/{name}")

    def lstat(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except OSError as e:
            if e.errno in _NOTHING:
                return None
            raise

    def identity(self) -> tuple[int, int]:
        found = os.fstat(self._fd)
        return found.st_dev, found.st_ino

    def names(self) -> list[str]:
        return os.listdir(self._fd)

    @contextmanager
    def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        with os.scandir(self._fd) as found:
            yield found

    def open_file(self, name: str, flags: int, mode: int = 0o666) -> int:
        return os.open(name, flags | _NOFOLLOW | _CLOEXEC, mode, dir_fd=self._fd)

    def mkdir(self, name: str) -> None:
        os.mkdir(name, dir_fd=self._fd)

    def replace(self, source: str, target: str) -> None:
        os.replace(source, target, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        os.unlink(name, dir_fd=self._fd)

    def rmdir(self, name: str) -> None:
        os.rmdir(name, dir_fd=self._fd)

    def remove_tree(self, name: str) -> None:
        shutil.rmtree(name, dir_fd=self._fd)

    def sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as e:
            # Some network file systems can't sync a directory; there is nothing to do then.
            if e.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise

    def close(self) -> None:
        os.close(self._fd)


class PathDir(_Closing):
    """A directory by its path, for systems without directory descriptors."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def root(cls, path: str) -> PathDir:
        with os.scandir(path):
            return cls(path)

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)

    def enter(self, name: str) -> PathDir:
        found = os.lstat(self._at(name))
        if not stat.S_ISDIR(found.st_mode) or os.path.islink(self._at(name)):
            raise os_error(errno.ENOTDIR, self._at(name))
        return PathDir(self._at(name))

    def lstat(self, name: str) -> os.stat_result | None:
        try:
            return os.lstat(self._at(name))
        except OSError as e:
            if e.errno in _NOTHING:
                return None
            raise

    def identity(self) -> tuple[int, int]:
        found = os.stat(self.path)
        return found.st_dev, found.st_ino

    def names(self) -> list[str]:
        return os.listdir(self.path)

    @contextmanager
    def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        with os.scandir(self.path) as found:
            yield found

    def open_file(self, name: str, flags: int, mode: int = 0o666) -> int:
        if os.path.islink(self._at(name)):
            raise os_error(errno.ELOOP, self._at(name))
        return os.open(self._at(name), flags | _CLOEXEC | _BINARY, mode)

    def mkdir(self, name: str) -> None:
        os.mkdir(self._at(name))

    def replace(self, source: str, target: str) -> None:
        os.replace(self._at(source), self._at(target))

    def unlink(self, name: str) -> None:
        os.unlink(self._at(name))

    def rmdir(self, name: str) -> None:
        os.rmdir(self._at(name))

    def remove_tree(self, name: str) -> None:
        shutil.rmtree(self._at(name))

    def sync(self) -> None:
        """Directories can't be synced by path."""


AnyDir = FdDir | PathDir


def open_root(path: str) -> AnyDir:
    """Open a root. Links on the way to it, and itself, are followed."""
    return FdDir.root(path) if HAS_DIR_FDS else PathDir.root(path)


def enter(root: str, relative: str) -> AnyDir:
    """Open ``relative`` (POSIX, normalised, may be empty) below ``root``, following no link.

    Raises:
        OSError: naming the component that does not exist, is no directory, or is a link.
    """
    current = open_root(root)
    for name in relative.split("/") if relative else ():
        with current:
            try:
                current = current.enter(name)
            except OSError as e:
                raise with_path(e, current, name) from None
    return current


def open_below(root: str, relative: str, flags: int = os.O_RDONLY) -> int:
    """Descriptor of the file ``relative`` below ``root``, following no link."""
    parent, _, name = relative.rpartition("/")
    with enter(root, parent) as directory:
        try:
            return directory.open_file(name, flags | _BINARY)
        except OSError as e:
            raise with_path(e, directory, name) from None


def regular(fd: int, path: str) -> int:
    """``fd`` if it is open on a regular file; else it is closed and ``OSError`` raised."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise os_error(errno.EINVAL, path, "it was a regular file when it was listed, and is none now")


def os_error(code: int, path: str, hint: str = "") -> OSError:
    """The subclass of ``OSError`` for ``code``, with a hint for the reader."""
    message = os.strerror(code)
    return OSError(code, f"{message}: {hint}" if hint else message, path)


def with_path(error: OSError, directory: Dir, name: str, hint: str = "") -> OSError:
    """``error`` with the whole path; a name relative to a descriptor tells a reader nothing."""
    if not hint and error.errno in (errno.ENOTDIR, errno.ELOOP):
        found = directory.lstat(name)
        if found is not None and stat.S_ISLNK(found.st_mode):
            hint = "symbolic links below the root are not followed"
    return os_error(error.errno or errno.EIO, f"{directory.path}/{name}", hint)
