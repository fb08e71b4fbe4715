"""Memoized calls inside one component: what is stored, what was reached, what to write."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from cocoindex.core.fingerprint import fingerprint_bytes
from cocoindex.engine import rows
from cocoindex.engine.dependencies import context_states
from cocoindex.engine.entry import Entry
from cocoindex.engine.frames import split
from cocoindex.engine.rows import FunctionMemoRow
from cocoindex.errors import DeserializationError, SerializationError

if TYPE_CHECKING:
    from cocoindex.engine.execution import Execution
    from cocoindex.engine.frames import Frame
    from cocoindex.engine.function import CallKey, Function
    from cocoindex.state.base import Batch

_logger = logging.getLogger("cocoindex.engine")


_reservation_lock = threading.Lock()


class Reservation:
    """A call in progress. Its future is made only if somebody waits for it.

    Attributes:
        loop: the event loop that has to go on for the call to end, if so.
    """

    __slots__ = ("_future", "_released", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop
        self._future: concurrent.futures.Future[None] | None = None
        self._released = False

    def waiter(self) -> concurrent.futures.Future[None]:
        with _reservation_lock:
            if self._future is None:
                self._future = concurrent.futures.Future()
                self._future.set_running_or_notify_cancel()  # waiters can't cancel it
                if self._released:
                    self._future.set_result(None)
            return self._future

    def release(self) -> None:
        with _reservation_lock:
            self._released = True
            if self._future is not None:
                self._future.set_result(None)


class MemoEntry:
    """A memoized call that this execution has reached."""

    __slots__ = ("is_new", "row", "value")

    def __init__(self, row: FunctionMemoRow, value: Any, *, is_new: bool) -> None:
        self.row = row
        self.value = value
        self.is_new = is_new


class FunctionMemos:
    """The function memos of one component during one execution.

    Used from the component's body, which may be on any thread; every step is a single
    dictionary operation, and equal calls are serialized by :meth:`reserve`.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._obsolete: list[bytes] = []
        """Stored entries that a full reprocess does not look at."""
        self._stored = self._load()
        self._settled: dict[bytes, bool] | None = None
        self._reached: dict[bytes, MemoEntry] = {}
        self._kept: set[bytes] = set()
        """Stored entries that a reached one refers to."""
        self._running: dict[bytes, Reservation] = {}

    def _load(self) -> dict[bytes, bytes]:
        execution = self._execution
        if execution.place.is_fresh:
            return {}
        prefix = rows.function_memo_prefix(execution.id)
        found = {key[-16:]: value for key, value in execution.run.app.section.scan(prefix)}
        if not execution.run.full_reprocess:
            return found
        kept = {fp: raw for fp, raw in found.items() if rows.decode_function_memo(raw).is_identity}
        self._obsolete = [fp for fp in found if fp not in kept]
        return kept

    # --- one call at a time --------------------------------------------------------------------

    def reserve(
        self, fingerprint: bytes, loop: asyncio.AbstractEventLoop | None = None
    ) -> Reservation | None:
        """Become the one that runs this call (None), or get what to wait for."""
        mine = Reservation(loop)
        winner = self._running.setdefault(fingerprint, mine)
        return None if winner is mine else winner

    def release(self, fingerprint: bytes) -> None:
        self._running.pop(fingerprint).release()

    # --- lookup --------------------------------------------------------------------------------

    def reached(self, fingerprint: bytes) -> MemoEntry | None:
        """The result of an equal call earlier in this execution."""
        return self._reached.get(fingerprint)

    def candidate(self, fingerprint: bytes) -> FunctionMemoRow | None:
        """A stored entry whose covered target states are all tracked and settled."""
        row = self._stored_row(fingerprint)
        if row is None or not all(self._is_settled(path) for path in self._covered(fingerprint)):
            return None
        return row

    def _stored_row(self, fingerprint: bytes) -> FunctionMemoRow | None:
        raw = self._stored.get(fingerprint)
        if raw is None:
            return None
        try:
            return rows.decode_function_memo(raw)
        except ValueError as error:
            _logger.warning("a stored memo of %s is unreadable: %s", self._execution, error)
            del self._stored[fingerprint]
            return None

    def _covered(self, fingerprint: bytes) -> Iterator[bytes]:
        """Target paths declared by a stored call and the calls it made, transitively."""
        for _, row in self._with_references(fingerprint):
            if row is None:
                yield b""  # a reference is missing: never settled
            else:
                yield from row.declared

    def _with_references(
        self, fingerprint: bytes
    ) -> Iterator[tuple[bytes, FunctionMemoRow | None]]:
        seen = {fingerprint}
        pending = [fingerprint]
        while pending:
            current = pending.pop()
            entry = self._reached.get(current)
            row = entry.row if entry is not None else self._stored_row(current)
            yield current, row
            if row is not None and row.refs:
                new = [ref for ref in split(row.refs) if ref not in seen]
                seen.update(new)
                pending += new

    def _is_settled(self, target_path: bytes) -> bool:
        if self._settled is None:
            execution = self._execution
            raw = execution.run.app.section.get(rows.tracking_key(execution.id))
            self._settled = Entry(execution.id, raw, 0, b"").settled_paths()
        return self._settled.get(target_path, False)

    # --- outcome -------------------------------------------------------------------------------

    def hit(
        self, fingerprint: bytes, row: FunctionMemoRow, function: Function, *, changed: bool
    ) -> MemoEntry | None:
        """Reuse a stored entry; None if its value can't be read any more."""
        try:
            value = function.decode_result(row.value)
        except DeserializationError as error:
            _logger.warning(
                "a memoized result of %s can't be read any more and is computed again: %s",
                function.name,
                error,
            )
            return None
        entry = self._reached[fingerprint] = MemoEntry(row, value, is_new=changed)
        self._kept.update(ref for ref, _ in self._with_references(fingerprint))
        return entry

    def store(
        self, key: CallKey, function: Function, frame: Frame, value: Any, states: list[bytes]
    ) -> MemoEntry:
        """Remember a call that has just run.

        Raises:
            TypeError: its result can't be serialized.
        """
        deps = frame.dependencies()
        try:
            payload = function.encode_result(value)
        except SerializationError as error:
            raise SerializationError(f"result of memoized {function.name}(): {error}") from error
        row = FunctionMemoRow(
            payload,
            deps,
            list(frame.declared),
            b"".join(frame.refs),
            states,
            context_states(self._execution.run, deps.context),
            labels_key(key),
            key.digests(),
            function.is_identity,
        )
        entry = self._reached[key.fingerprint] = MemoEntry(row, value, is_new=True)
        self._execution.run.note_labels(labels_key(key), key)
        return entry

    # --- at commit -------------------------------------------------------------------------------

    def contained(self) -> set[bytes]:
        """Target paths covered by reused calls: they stay as they are."""
        covered: set[bytes] = set()
        for fingerprint in self._kept:
            row = self._stored_row(fingerprint)
            if row is not None:
                covered.update(row.declared)
        return covered

    def commit_rows(self, robbed: AbstractSet[bytes]) -> Batch:
        """Write what is new, keep what was reused, delete everything else.

        Entries that cover a ``robbed`` path claim a target state that another component has
        taken meanwhile; they are deleted.
        """
        prefix = rows.function_memo_prefix(self._execution.id)
        batch: list[tuple[bytes, bytes | None]] = []
        alive = self._kept | self._reached.keys()
        if robbed:
            alive = {fp for fp in alive if robbed.isdisjoint(self._covered(fp))}
        for fingerprint, entry in self._reached.items():
            if entry.is_new and fingerprint in alive:
                batch.append((prefix + fingerprint, rows.encode(entry.row)))
        batch += [(prefix + fp, None) for fp in self._stored if fp not in alive]
        batch += [(prefix + fp, None) for fp in self._obsolete if fp not in alive]
        return batch

    @property
    def keeps_any(self) -> bool:
        return bool(self._reached or self._kept)

    def __len__(self) -> int:
        return len(self._reached)


_label_keys: dict[tuple[str, ...], bytes] = {}


def labels_key(key: CallKey) -> bytes:
    """The key under which the labels of a call's parts are stored once."""
    known = _label_keys.get(key.labels)
    if known is None:
        known = _label_keys[key.labels] = fingerprint_bytes(rows.encode(key.labels))
    return known


__all__ = ["FunctionMemos", "MemoEntry", "Reservation", "labels_key"]
