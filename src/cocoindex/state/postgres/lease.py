"""The run lease: a row with an expiry, and an epoch that fences whoever had it before.

A holder renews its lease long before it expires, and stops trusting it well before a successor
may begin: so two processes never apply actions at the same time, whatever the network does.
A lease whose holder is known to be gone is taken over at once, others when they expire.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from cocoindex.errors import AlreadyRunningError, StoreError
from cocoindex.state.postgres import process

if TYPE_CHECKING:
    from psycopg import Connection

    from cocoindex.state.postgres.connections import Connections
    from cocoindex.state.postgres.schema import Statements

__all__ = ["Fence", "LeaseTimes", "Leases", "clock"]

_POLL = 0.1
_RETRY = 1.0
_RELEASE_PATIENCE = 2.0

_log = logging.getLogger(__name__)


def clock() -> float:
    """Seconds that pass also while the machine sleeps, where it can tell."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class LeaseTimes(NamedTuple):
    """In seconds: how long a lease is, how often it is renewed, how long it can be trusted."""

    length: float = 30.0
    renewal: float = 10.0
    trust: float = 20.0


class Holder(NamedTuple):
    """What the row of a section says."""

    epoch: int
    seq: int
    pid: int | None
    host: str | None
    process: str | None
    seconds_left: float | None

    @property
    def is_live(self) -> bool:
        return self.seconds_left is not None and self.seconds_left > 0

    def __str__(self) -> str:
        if self.pid is None:
            return "another process"
        elsewhere = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"process {self.pid}{elsewhere}"


class Fence:
    """The right of this process to write to one section.

    Attributes:
        section: its number; 0 as long as it is not known.
        lock: held while a batch is written, and while epoch and number change.
        epoch: ``None`` as long as nothing was written and no lease was taken.
        seq: number of the last batch written under the epoch.
        count: how often the lease is held.
        renewed: when the lease was known to be ours last.
        is_lost: somebody else has it.
        is_unsure: a batch may still be written late; a new epoch makes sure it is not.
    """

    __slots__ = (
        *("app", "count", "epoch", "is_lost", "is_unsure", "lock"),
        *("renewed", "section", "seq"),
    )

    def __init__(self, app: str) -> None:
        self.app = app
        self.section = 0
        self.lock = threading.Lock()
        self.epoch: int | None = None
        self.seq = 0
        self.count = 0
        self.renewed = 0.0
        self.is_lost = False
        self.is_unsure = False

    def begin(self, epoch: int) -> None:
        self.epoch, self.seq = epoch, 0
        self.is_lost = self.is_unsure = False


class Leases:
    """The leases that this process holds in one store, and the thread that renews them."""

    def __init__(
        self, connections: Connections, statements: Statements, location: str, times: LeaseTimes
    ) -> None:
        self._connections = connections
        self._statements = statements
        self._location = location
        self._times = times
        self._token = uuid.uuid4().hex
        self._process = f"{process.identity()} {self._token}"
        self._lock = threading.Lock()
        self._held: dict[int, Fence] = {}
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    # Taking and giving back

    def acquire(self, fence: Fence, wait_seconds: float) -> None:
        """Take the lease now, or raise ``AlreadyRunningError`` after ``wait_seconds``."""
        deadline = time.monotonic() + wait_seconds
        while not self._try(fence, is_last=time.monotonic() >= deadline):
            time.sleep(_POLL)

    def _try(self, fence: Fence, *, is_last: bool) -> bool:
        with fence.lock:
            if fence.count == 0:
                started = clock()
                epoch = self._connections.run(lambda connection: self._take(connection, fence))
                if isinstance(epoch, Holder):
                    if is_last:
                        raise self._refused(fence, epoch)
                    return False
                fence.begin(epoch)
                fence.renewed = started
                self._watch(fence)
            fence.count += 1
            return True

    def begin_writing(self, fence: Fence) -> None:
        """Give ``fence`` a new epoch, under the lease if it is held. Its lock is held.

        Raises:
            StoreError: another process has the lease.
        """
        take = self._take if fence.count else self._claim
        epoch = self._connections.run(lambda connection: take(connection, fence))
        if not isinstance(epoch, Holder):
            fence.begin(epoch)
        elif fence.count:
            raise self.lost(fence, epoch)
        else:
            raise StoreError(
                f"app {fence.app!r} in the state store at {self._location} is being run by "
                f"{epoch}. Nothing was written."
            )

    def _claim(self, connection: Connection[Any], fence: Fence) -> int | Holder:
        row = connection.execute(self._statements["claim"], [fence.section]).fetchone()
        return int(row[0]) if row is not None else self.holder(connection, fence)

    def _take(self, connection: Connection[Any], fence: Fence) -> int | Holder:
        """The new epoch, or who has the lease."""
        taken = self._update(connection, fence, dead=-1)
        if taken is not None:
            return taken
        holder = self.holder(connection, fence)
        who, _, token = (holder.process or "").rpartition(" ")
        # Our own token: an answer that was lost, together with its connection.
        if token == self._token or process.is_gone(who):
            taken = self._update(connection, fence, dead=holder.epoch)
        return holder if taken is None else taken

    def _update(self, connection: Connection[Any], fence: Fence, *, dead: int) -> int | None:
        values = {
            "section": fence.section,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "process": self._process,
            "lease": self._times.length,
            "dead": dead,
        }
        row = connection.execute(self._statements["acquire"], values).fetchone()
        return None if row is None else int(row[0])

    def holder(self, connection: Connection[Any], fence: Fence) -> Holder:
        row = connection.execute(self._statements["holder"], [fence.section]).fetchone()
        if row is None:
            raise StoreError(
                f"the state store at {self._location} has lost its record of app {fence.app!r}"
            )
        return Holder(*row)

    def _refused(self, fence: Fence, holder: Holder) -> AlreadyRunningError:
        until = ""
        if holder.seconds_left is not None:
            until = (
                f" If it has died, the lease ends within {max(1, round(holder.seconds_left))} s."
            )
        return AlreadyRunningError(
            f"app {fence.app!r} in the state store at {self._location} is being run by {holder}. "
            f"Wait for it to end or stop it; AppConfig(lease_wait=...) waits by itself.{until}"
        )

    def release(self, fence: Fence) -> None:
        """Give back one use of the lease; the last one ends it."""
        with fence.lock:
            if fence.count == 0:
                return  # the store was closed before
            fence.count -= 1
            if fence.count == 0:
                self._end(fence)

    def release_all(self) -> None:
        """End every lease and the thread that renews them."""
        self._stop.set()
        for fence in list(self._held.values()):
            with fence.lock:
                fence.count = 0
                self._end(fence)
        if self._thread is not None:
            self._thread.join()

    def _end(self, fence: Fence) -> None:
        with self._lock:
            self._held.pop(fence.section, None)
        statement, values = self._statements["release"], [fence.section, fence.epoch]
        try:
            self._connections.run(
                lambda connection: connection.execute(statement, values),
                patience=_RELEASE_PATIENCE,
            )
        except StoreError as error:
            _log.warning(
                "the lease of app %r could not be given back; it ends by itself within %d s: %s",
                *(fence.app, self._times.length, error),
            )

    # Keeping

    def check(self, fence: Fence) -> None:
        """Raise ``StoreError`` if the lease is held but can't be trusted any more."""
        if fence.count == 0:
            return
        if fence.is_lost:
            raise self.lost(fence)
        silent = clock() - fence.renewed
        if silent > self._times.trust:
            raise StoreError(
                f"the lease of app {fence.app!r} in the state store at {self._location} could not "
                f"be renewed for {silent:.0f} s: the database can't be reached. Nothing more is "
                "done; update again."
            )

    def lost(self, fence: Fence, holder: Holder | None = None) -> StoreError:
        fence.is_lost = True
        return StoreError(
            f"app {fence.app!r} in the state store at {self._location} was taken over by "
            f"{holder or 'another process'}, because its lease was not renewed in time. Nothing "
            "more was written here."
        )

    def renew(self) -> None:
        """Extend every lease held. One that is not ours any more is marked as lost."""
        with self._lock:
            held = [(fence, fence.epoch) for fence in self._held.values()]
        if not held:
            return
        started = clock()
        values = {
            "sections": [fence.section for fence, _ in held],
            "epochs": [epoch for _, epoch in held],
            "lease": self._times.length,
        }
        with self._connections.use() as connection:
            ours = {row[0] for row in connection.execute(self._statements["renew"], values)}
        for fence, epoch in held:
            if fence.section in ours:
                fence.renewed = max(fence.renewed, started)
            elif fence.count and fence.epoch == epoch:
                fence.is_lost = True

    def _watch(self, fence: Fence) -> None:
        with self._lock:
            self._held[fence.section] = fence
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._renew_forever, name="cocoindex-lease", daemon=True
                )
                self._thread.start()

    def _renew_forever(self) -> None:
        import psycopg

        pause = self._times.renewal
        while not self._stop.wait(pause):
            # Until it works again: a holder notices by itself how long that takes.
            pause = min(_RETRY, self._times.renewal)
            with suppress(psycopg.Error, StoreError):
                self.renew()
                pause = self._times.renewal

    def abandon(self) -> None:
        """In a forked child: the leases are the parent's."""
        for fence in self._held.values():
            fence.lock = threading.Lock()
            fence.count = 0
        self._lock = threading.Lock()
        self._held = {}
        self._thread = None
