"""Writing files, each in one step, and removing one entry."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, Final

from cocoindex.connectors.localfs._dirs import READ_FILE, Dir, os_error, regular
from cocoindex.connectors.localfs._entries import EntryAction
from cocoindex.connectors.localfs._temp import remove_leftovers, temp_name

__all__ = ["WAITERS", "Failure", "make_dir", "remove_dir", "remove_entry", "write_files"]

_log = logging.getLogger(__name__)

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_ATTEMPTS: Final = 5
_NOT_EMPTY: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST})
_sync_content: Final = getattr(os, "fdatasync", os.fsync)

WAITERS: Final = 4
"""Threads that wait for the disk. More would mostly wait for the interpreter."""

Failure = tuple[Dir, EntryAction, OSError]


def write_files(files: Iterable[tuple[Dir, EntryAction]], pool: Executor) -> list[Failure]:
    """Put the content of each under its name: whole, or not at all. Returns the failures.

    Step by step for all of them: so the disk has all content before the first wait for it,
    and most waits find their part done by an earlier one. ``pool`` is what waits.
    """
    failures: list[Failure] = []
    temps = [_Temp(directory, action) for directory, action in files]
    try:
        left = _each(_Temp.fill, failures, temps)
        left = _synced(left, failures, pool)
        _each(_Temp.place, failures, left)
    finally:
        # Whatever stopped a write, the half-written file must not stay.
        for temp in temps:
            temp.discard()
    return failures


def _each(
    step: Callable[[_Temp], None], failures: list[Failure], temps: Iterable[_Temp]
) -> list[_Temp]:
    """Take ``step`` with each; those that succeeded."""
    done = []
    for temp in temps:
        try:
            step(temp)
        except OSError as e:
            failures.append((temp.directory, temp.action, e))
        else:
            done.append(temp)
    return done


def _synced(temps: list[_Temp], failures: list[Failure], pool: Executor) -> list[_Temp]:
    """Wait for the disk to have each; those that it has.

    Several wait at a time: a disk that is told to keep what it has does so for all of them.
    """
    if len(temps) <= WAITERS:
        return _each(_Temp.sync, failures, temps)
    shares = [temps[at::WAITERS] for at in range(WAITERS)]
    before = len(failures)
    try:
        return list(chain.from_iterable(pool.map(partial(_each, _Temp.sync, failures), shares)))
    except RuntimeError:  # the system allows no more threads, or the process ends
        pool.shutdown(cancel_futures=True)  # no other thread may have them now
        del failures[before:]
        return _each(_Temp.sync, failures, temps)


class _Temp:
    """Content on its way to its name."""

    __slots__ = ("_fd", "_name", "_temp", "action", "directory")

    def __init__(self, directory: Dir, action: EntryAction) -> None:
        self.action = action
        self.directory = directory
        self._name = action.path.rpartition("/")[2]
        self._temp = ""
        self._fd = -1

    def fill(self) -> None:
        """Write the content beside its place."""
        action = self.action
        mode = _look_at_place(self.directory, self._name, action)
        temp = temp_name()
        self._fd = self.directory.open_file(temp, _CREATE, 0o666 if mode is None else mode)
        self._temp = temp
        _write_all(self._fd, action.content or b"")
        if mode is not None and hasattr(os, "fchmod"):
            os.fchmod(self._fd, mode)  # the process's umask may have taken bits away
        if action.options.fsync:
            _start_writing(self._fd)

    def sync(self) -> None:
        if self.action.options.fsync:
            _sync_content(self._fd)

    def place(self) -> None:
        self._close()
        _patiently(self.directory.replace, self._temp, self._name)
        self._temp = ""

    def discard(self) -> None:
        """Remove it unless it was placed."""
        # Why it was not placed is reported. A disk that is full, or gone, may say so once more
        # here; what can't be removed now is swept by a later process.
        with suppress(OSError):
            self._close()
        if self._temp:
            with suppress(OSError):
                self.directory.unlink(self._temp)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _look_at_place(directory: Dir, name: str, action: EntryAction) -> int | None:
    """Clear the place, or refuse it; the permission bits that the file is to have."""
    mode = action.options.mode
    status = directory.lstat(name)
    if status is None:
        return mode
    if stat.S_ISDIR(status.st_mode):
        _make_way(directory, name, action)
        return mode
    if action.fresh:
        _check_conflict(directory, name, status, action)
    if mode is None and stat.S_ISREG(status.st_mode):
        return status.st_mode & 0o777
    return mode


def _write_all(fd: int, content: bytes) -> None:
    written = os.write(fd, content)
    while written < len(content):
        written += os.write(fd, memoryview(content)[written:])


def _start_writing(fd: int) -> None:
    """Have the system write to the disk without waiting for it, where it can."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # advice; the sync that follows is what counts
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _make_way(directory: Dir, name: str, action: EntryAction) -> None:
    """Remove the directory that stands where a file is to be, if it is ours and empty."""
    if not action.was_dir:
        raise _os_error(errno.EISDIR, directory, name, "a directory of others is in the way")
    if not remove_dir(directory, name, purge=action.options.purge_foreign):
        raise _os_error(
            errno.ENOTEMPTY,
            directory,
            name,
            "it holds files that this app did not write, so no file can take its place",
        )


def _check_conflict(directory: Dir, name: str, status: os.stat_result, action: EntryAction) -> None:
    """Look closer at something that stands under a name declared for the first time."""
    _check_spelling(directory, name)
    if action.options.on_conflict == "overwrite":
        return
    # Equal content may be our own, from an attempt that was cut short.
    if not _has_content(directory, name, status, action.content or b""):
        raise _os_error(
            errno.EEXIST, directory, name, "a file of others is there (on_conflict='error')"
        )


def _check_spelling(directory: Dir, name: str) -> None:
    """Refuse a name that only a case-insensitive file system takes for another one."""
    names = directory.names()
    if name in names:
        return
    twin = next((n for n in names if n.casefold() == name.casefold()), None)
    if twin is not None:
        raise _os_error(
            errno.EEXIST,
            directory,
            name,
            f"collides with {twin!r} on this case-insensitive file system",
        )


def _has_content(directory: Dir, name: str, status: os.stat_result, content: bytes) -> bool:
    if not stat.S_ISREG(status.st_mode) or status.st_size != len(content):
        return False
    fd = regular(directory.open_file(name, READ_FILE), f"{directory.path}/{name}")
    with open(fd, "rb") as file:
        return file.read() == content


def make_dir(directory: Dir, name: str, action: EntryAction) -> bool:
    """Have a directory under ``name``; whether it had to be made."""
    status = directory.lstat(name)
    if status is not None and not stat.S_ISDIR(status.st_mode):
        if not (action.was_file and stat.S_ISREG(status.st_mode)):
            raise _os_error(
                errno.ENOTDIR, directory, name, "something else is where a directory is declared"
            )
        directory.unlink(name)
        status = None
    if status is not None:
        if action.fresh:
            _check_spelling(directory, name)
        return False
    directory.mkdir(name)
    return True


def remove_entry(directory: Dir, name: str, action: EntryAction) -> bool:
    """Remove what an earlier record says we put under ``name``; whether anything changed."""
    status = directory.lstat(name)
    if status is None:
        return False
    is_dir = stat.S_ISDIR(status.st_mode)
    if is_dir != action.was_dir and is_dir == action.was_file:
        kind = "directory" if is_dir else "file"
        _log.warning("%s/%s stays: a %s of others has replaced it", directory.path, name, kind)
        return False
    if not is_dir:
        _patiently(directory.unlink, name)
        return True
    if remove_dir(directory, name, purge=action.options.purge_foreign):
        return True
    _log.warning(
        "directory %s/%s stays: it holds files that this app did not write", directory.path, name
    )
    return False


def remove_dir(directory: Dir, name: str, *, purge: bool = False) -> bool:
    """Remove a directory if it is empty, or anyway with ``purge``; whether it is gone."""
    if purge:
        directory.remove_tree(name)
        return True
    for last_try in (False, True):
        try:
            directory.rmdir(name)
            return True
        except OSError as e:
            if e.errno not in _NOT_EMPTY:
                raise
        if not last_try:
            with directory.enter(name) as inner:
                remove_leftovers(inner)
    return False


def _patiently(call: Callable[..., Any], *args: str) -> None:
    """Repeat while the file is in use, a little later each time."""
    for attempt in range(_ATTEMPTS):
        try:
            call(*args)
            return
        except OSError as e:
            busy = e.errno == errno.EBUSY or getattr(e, "winerror", None) in (5, 32)
            if not busy or attempt == _ATTEMPTS - 1:
                raise
        time.sleep(0.01 * 2**attempt)


def _os_error(code: int, directory: Dir, name: str, hint: str) -> OSError:
    return os_error(code, f"{directory.path}/{name}", hint)
