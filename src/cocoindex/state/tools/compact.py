"""Rewriting a store without its free pages."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from cocoindex.errors import StoreError
from cocoindex.state import layout, registry
from cocoindex.state.open import open_store
from cocoindex.state.postgres.location import PostgresLocation

_DATA = "state.lmdb"
_LOCK = "state.lmdb-lock"
_COPY = "state.lmdb.compact"


class Compaction(NamedTuple):
    """Size of the file before and after, in bytes."""

    before: int
    after: int


def compact_store(location: str | os.PathLike[str] | PostgresLocation) -> Compaction:
    """Replace what holds the store at ``location`` by a compact copy, in one step.

    Needs as much free space as the store has data. A crash leaves the old file or the new one.
    In Postgres, every statement of others on the store waits meanwhile.

    Raises:
        StoreError: there is no store, somebody has it open, or it can't be copied.
        StoreFormatError: it is something else, damaged, or of a newer format.
    """
    if isinstance(location, PostgresLocation):
        return _compact_tables(location)
    directory = Path(location).absolute()
    data = directory / _DATA
    if not data.is_file():
        raise StoreError(f"there is no state store at {directory}")
    key = registry.reserve_directory(directory, "a compaction")
    try:
        with _exclusive(directory):
            before = data.stat().st_size
            _copy(data, directory / _COPY)
            _replace(directory / _COPY, data)
            _renew_lock_file(data)
            return Compaction(before, data.stat().st_size)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"can't compact the state store at {directory}: {error}") from error
    finally:
        registry.release(key)
        with suppress(OSError):
            (directory / _COPY).unlink(missing_ok=True)


def _compact_tables(location: PostgresLocation) -> Compaction:
    from cocoindex.state.postgres.store import PostgresStore

    store = open_store(location, holder="a compaction")
    assert isinstance(store, PostgresStore)
    try:
        before = store.info.used_bytes
        store.compact()
        return Compaction(before, store.info.used_bytes)
    finally:
        store.close()


def _copy(data: Path, copy: Path) -> None:
    import lmdb

    copy.unlink(missing_ok=True)
    try:
        with lmdb.open(str(data), subdir=False, readonly=True, lock=False, create=False) as env:
            with env.begin() as txn:
                layout.check_header(txn.get(layout.HEADER_KEY), str(data))
            entries = env.stat()["entries"]
            env.copy(str(copy), compact=True)
        with (
            lmdb.open(str(copy), subdir=False, readonly=True, lock=False, create=False) as env,
            env.begin() as txn,
        ):
            layout.check_header(txn.get(layout.HEADER_KEY), str(copy))
            if env.stat()["entries"] != entries:
                raise StoreError(f"the copy of {data} is not complete; nothing was changed")
    except lmdb.Error as error:
        raise StoreError(f"can't copy the state store {data}: {error}") from error


def _replace(copy: Path, data: Path) -> None:
    copy.chmod(data.stat().st_mode & 0o777)
    with copy.open("r+b") as file:
        os.fsync(file.fileno())
    copy.replace(data)
    if sys.platform != "win32":
        directory = os.open(data.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _renew_lock_file(data: Path) -> None:
    """Open and close the new file as its first user, still alone: whoever waits for the lock
    must not find the transaction number of the old file in it.
    """
    import lmdb

    lmdb.open(str(data), subdir=False, create=False).close()


@contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Keep every other process from having the store open.

    LMDB holds a shared lock on the first byte of its lock file for as long as a store is open,
    and waits for it when it opens one.
    """
    if sys.platform == "win32":
        yield  # there, a file that somebody has mapped can't be replaced
        return
    import fcntl

    with (directory / _LOCK).open("a+b") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
        except OSError as error:
            raise StoreError(
                f"the state store at {directory} is open in another process. Stop every update "
                "and every program that uses it, then compact it."
            ) from error
        yield
