"""One LMDB environment: opening it, short transactions, growing it, and its errors.

Growing means mapping the file anew, which must not happen while somebody reads from the map.
Hence two locks:

* ``gate`` is held by everything that reads from the map, for microseconds to a few milliseconds.
* ``_writing`` is held from the begin to the end of a write transaction. Remapping needs both, in
  the order ``_writing``, ``gate``, so that neither a reader nor a writer is under way.

A snapshot keeps a read transaction open for longer, but touches the map only inside the gate.
Remapping ends it, so whoever holds one is told before (``before_remap``, inside the gate) and
continues on a copy. So snapshots block neither writers nor growth. While one is open, pages it may
still need are not used again.
"""

from __future__ import annotations

import errno
import mmap
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import lmdb

from cocoindex.errors import CocoIndexError, StoreError, StoreFormatError, StoreFullError
from cocoindex.state.layout import KEY_LIMIT

if TYPE_CHECKING:
    Txn = lmdb.Transaction[bytes]

__all__ = ["LmdbFile"]

T = TypeVar("T")

_READERS = 4096
_READER_WAIT = 10.0
_PAGE = 4096
_HEADROOM = 64 * _PAGE
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_SPACE = 1 << 20
_FOREIGN = (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError)
_DAMAGED = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError)


class LmdbFile:
    def __init__(self, path: Path, map_size: int, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self.gate = threading.Lock()
        self._writing = threading.Lock()
        self.abandoned = False
        self.before_remap: list[Callable[[], None]] = []
        self._env: lmdb.Environment = self._open(-(-map_size // _PAGE) * _PAGE)
        self._env.reader_check()

    def _open(self, map_size: int) -> lmdb.Environment:
        try:
            env = self._open_mapped(map_size)
        except lmdb.Error as cause:
            self._raise(cause)
        except OSError as cause:
            raise StoreError(f"can't open the state store {self.path}: {cause}") from cause
        if env.max_key_size() < KEY_LIMIT:
            env.close()
            raise StoreError(f"this build of LMDB has no keys of {KEY_LIMIT} bytes")
        return env

    def _open_mapped(self, map_size: int) -> lmdb.Environment:
        while True:
            try:
                return lmdb.open(
                    str(self.path),
                    subdir=False,
                    map_size=map_size,
                    readonly=self.read_only,
                    create=not self.read_only,
                    mode=0o644,
                    readahead=False,
                    meminit=False,
                    max_readers=_READERS,
                    max_spare_txns=2,
                )
            except lmdb.MemoryError:
                # Little address space (ulimit -v, 32 bits): start smaller, it grows when needed.
                if map_size < 1 << 20:
                    raise
                map_size //= 2

    def begin(self) -> Txn:
        """A read transaction. Call it, use it and end it with ``gate`` held."""
        return self._env.begin()

    def read(self, reader: Callable[[Txn], T]) -> T:
        """What ``reader`` returns, from one short read transaction, inside the gate."""
        deadline = time.monotonic() + _READER_WAIT
        while True:
            try:
                with self.gate, self._env.begin() as txn:
                    return reader(txn)
            except lmdb.MapResizedError:
                self._adopt_size()
            except lmdb.ReadersFullError as cause:
                if time.monotonic() > deadline:
                    self._raise(cause)
                self._free_readers()
            except lmdb.Error as cause:
                self._raise(cause)

    def write(self, writer: Callable[[Txn], T], need: int = 0) -> T:
        """Run ``writer`` in one durable transaction, again from the start after a growth.

        ``need``: about how many bytes it will write.
        """
        with self._writing:
            while True:
                try:
                    self._grow_if_near(need)
                    with self._env.begin(write=True) as txn:
                        return writer(txn)
                except lmdb.MapFullError as cause:
                    self._grow(need, cause)
                except lmdb.MapResizedError:
                    self._remap(0)
                except lmdb.Error as cause:
                    self._raise(cause)

    def empty(self, txn: Txn) -> None:
        """Delete all rows, which takes a look at each page of them only."""
        txn.drop(self._env.open_db(txn=txn), delete=False)

    def sizes(self) -> tuple[int, int]:
        """Bytes in use (including free pages), bytes mapped."""
        with self.gate:
            info = self._env.info()
            return (info["last_pgno"] + 1) * self._env.stat()["psize"], info["map_size"]

    def close(self) -> None:
        with self._writing, self.gate:
            self._env.close()

    def abandon(self) -> None:
        """In a forked child: leave everything to the parent. Its locks may be taken forever.

        Ending an inherited transaction would free the parent's place in the reader table, which
        is shared memory; dropping it is harmless.
        """
        self.abandoned = True
        self.gate = threading.Lock()
        self._writing = threading.Lock()

    def _grow_if_near(self, need: int) -> None:
        used, size = self.sizes()
        if used + 2 * need + _HEADROOM > size:
            self._grow(need, None)

    def _grow(self, need: int, cause: lmdb.Error | None) -> None:
        used, size = self.sizes()
        wanted = size * 2
        while wanted < used + 2 * need + _HEADROOM:
            wanted *= 2
        if not _can_map(wanted):
            raise StoreFullError(
                f"can't grow the state store {self.path} beyond {size} bytes: no address space "
                "left. Raise the limit (ulimit -v)."
            ) from cause
        self._remap(wanted)

    def _remap(self, size: int) -> None:
        with self.gate:
            for prepare in list(self.before_remap):
                prepare()
            self._env.set_mapsize(size)

    def _adopt_size(self) -> None:
        with self._writing:
            self._remap(0)

    def _free_readers(self) -> None:
        with self.gate:
            self._env.reader_check()
        time.sleep(0.001)

    def _disk_is_full(self) -> bool:
        import shutil

        return shutil.disk_usage(self.path).free < _NO_SPACE

    def _raise(self, cause: lmdb.Error) -> NoReturn:
        raise self.translate(cause) from cause

    def translate(self, cause: lmdb.Error) -> CocoIndexError:
        """Our error for one of LMDB's."""
        # LMDB calls a write that came out short an I/O error.
        if cause.code in _FULL or (cause.code == errno.EIO and self._disk_is_full()):
            return StoreFullError(
                f"no space left for the state store {self.path} ({cause}). What was not written "
                "yet is discarded; free some space and update again."
            )
        if cause.code == errno.EIO:
            return StoreError(
                f"can't write to the state store {self.path}: {cause}. Is the disk broken, or a "
                "quota or limit of the file size reached?"
            )
        if isinstance(cause, _FOREIGN):
            return StoreFormatError(
                f"{self.path} is not a CocoIndex state store, or is damaged ({cause}). Restore "
                "it from a backup, or move it away and update again."
            )
        if isinstance(cause, _DAMAGED):
            return StoreError(f"the state store {self.path} is damaged: {cause}")
        return StoreError(f"the state store {self.path} failed: {cause}")


def _can_map(size: int) -> bool:
    """Try before LMDB does: it has given up the old map when it finds that the new one fails."""
    if sys.platform == "win32":
        return True
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        mmap.mmap(-1, size, flags=flags, prot=mmap.PROT_READ).close()
    except (OSError, OverflowError):
        return False
    return True
