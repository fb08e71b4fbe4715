"""The run lease: only one process at a time runs an app.

A lease is a lock of the operating system on a small file, so it ends with the process that
holds it, however that ends. The file's content says who holds it, for the error message.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import msgspec

from cocoindex.errors import AlreadyRunningError, CocoIndexError, StoreError
from cocoindex.state.base import LeaseHolder

__all__ = ["Lease", "Leases"]

_POLL = 0.02
_WIN_LOCK_AT = 1 << 30
"""Windows locks bytes, not files, and nobody can read a locked byte: lock one far away."""


class Leases:
    """The leases that this process holds in one store."""

    def __init__(self, directory: Path, location: str) -> None:
        self._directory = directory
        self._location = location
        self._lock = threading.Lock()
        self._held: dict[str, tuple[int, int]] = {}  # app -> file descriptor, count

    def acquire(self, app: str, wait_seconds: float) -> Lease:
        """Take the lease now, or raise after ``wait_seconds``. Blocking."""
        deadline = time.monotonic() + wait_seconds
        while not self._try(app):
            left = deadline - time.monotonic()
            if left <= 0:
                self._refuse(app)
            time.sleep(min(_POLL, left))
        return Lease(self, app)

    def release(self, app: str) -> None:
        with self._lock:
            if app not in self._held:
                return  # the store was closed before
            fd, count = self._held[app]
            if count > 1:
                self._held[app] = (fd, count - 1)
            else:
                del self._held[app]
                _give_up(fd)

    def release_all(self) -> None:
        with self._lock:
            held, self._held = self._held, {}
            for fd, _ in held.values():
                _give_up(fd)

    def abandon(self) -> None:
        """In a forked child: drop the inherited locks without ending the parent's."""
        self._lock = threading.Lock()
        held, self._held = self._held, {}
        for fd, _ in held.values():
            # Else the child would keep the lease of a parent that has died.
            os.close(fd)

    def holder(self, app: str) -> LeaseHolder | None:
        """Who wrote their name into the lock file last; ``None`` if nobody did."""
        try:
            note = msgspec.json.decode(self._path(app).read_bytes())
            return LeaseHolder(note["pid"], note["host"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _path(self, app: str) -> Path:
        digest = hashlib.blake2b(app.encode(), digest_size=16).hexdigest()
        return self._directory / f"{digest}.lock"

    def _try(self, app: str) -> bool:
        with self._lock:
            if app in self._held:
                fd, count = self._held[app]
                self._held[app] = (fd, count + 1)
                return True
            taken = self._take(app)
            if taken is not None:
                self._held[app] = (taken, 1)
            return taken is not None

    def _take(self, app: str) -> int | None:
        path = self._path(app)
        try:
            self._directory.mkdir(exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        except OSError as cause:
            raise StoreError(f"can't create the lock file {path}: {cause.strerror}") from cause
        try:
            taken = _lock(fd)
            if taken:
                _sign(fd, app)
        except OSError as cause:
            os.close(fd)
            raise self._unsupported(cause) from cause
        if not taken:
            os.close(fd)
            return None
        return fd

    def _unsupported(self, cause: OSError) -> CocoIndexError:
        return StoreError(
            f"can't lock files in {self._directory}: {cause.strerror}. The state store needs a "
            "file system with working file locks; put db_path on a local disk."
        )

    def _refuse(self, app: str) -> NoReturn:
        holder = self.holder(app)
        who = "another process"
        if holder is not None:
            elsewhere = "" if holder.host == socket.gethostname() else f" on {holder.host}"
            who = f"process {holder.pid}{elsewhere}"
        raise AlreadyRunningError(
            f"app {app!r} in the state store at {self._location} is being run by {who}. Wait for "
            "it to end or stop it; AppConfig(lease_wait=...) waits by itself."
        )


class Lease:
    """A held lease. Leaving the ``with`` block, or :meth:`release`, gives it back."""

    def __init__(self, leases: Leases, app: str) -> None:
        self._leases = leases
        self._app = app
        self._held = True

    def release(self) -> None:
        """Give the lease back. Idempotent."""
        if self._held:
            self._held = False
            self._leases.release(self._app)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _sign(fd: int, app: str) -> None:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    note = {"pid": os.getpid(), "host": socket.gethostname(), "app": app, "started": started}
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, msgspec.json.encode(note))


if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> bool:
        os.lseek(fd, _WIN_LOCK_AT, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _give_up(fd: int) -> None:
        os.ftruncate(fd, 0)
        os.lseek(fd, _WIN_LOCK_AT, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
        os.close(fd)

else:
    import fcntl

    def _lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _give_up(fd: int) -> None:
        os.ftruncate(fd, 0)
        # Explicitly: a child forked meanwhile may still have the file open.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
