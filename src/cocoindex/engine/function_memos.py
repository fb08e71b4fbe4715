"""Memoized calls inside one component: what is stored, what was reached, what to write."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import msgspec

from cocoindex.core.fingerprint import fingerprint_bytes
from cocoindex.engine import rows
from cocoindex.engine.dependencies import are_current, context_states
from cocoindex.engine.entry import Entry
from cocoindex.engine.frames import split
from cocoindex.engine.memo_pages import MemoPages, terms_of
from cocoindex.engine.rows import FunctionMemoRow, Terms
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
            # Whoever comes second, waiter or release, sees the other.
            self._settle()
            return self._future

    def release(self) -> None:
        self._released = True
        if self._future is not None:
            with _reservation_lock:
                self._settle()

    def _settle(self) -> None:
        if self._released and self._future is not None and not self._future.done():
            self._future.set_result(None)


class MemoEntry(msgspec.Struct):
    """A memoized call that this execution has reached."""

    row: FunctionMemoRow
    terms: Terms
    value: Any
    is_new: bool

    def renew(self, terms: Terms) -> None:
        """Something was found to be different from what is stored."""
        self.terms = terms
        self.row = msgspec.structs.replace(self.row, terms=rows.encode(terms))
        self.is_new = True


class FunctionMemos:
    """The function memos of one component during one execution.

    Used from the component's body, which may be on any thread; every step is a single
    dictionary operation, and equal calls are serialized by :meth:`reserve`.
    """

    def __init__(self, execution: Execution) -> None:
        run = execution.run
        self._execution = execution
        self._pages = MemoPages(None if execution.place.is_fresh else run.app.section, execution.id)
        self._stored = self._pages.memos
        self._rejected: set[bytes] = set()
        """Stored entries that can't be used, as calls of them have found."""
        if run.full_reprocess:
            self._stored = {fp: row for fp, row in self._stored.items() if _is_identity(row)}
        self._settled: dict[bytes, bool] | None = None
        self._reached: dict[bytes, MemoEntry] = {}
        self._kept: set[bytes] = set()
        """Stored entries that a reached one refers to."""
        self._running: dict[bytes, Reservation] = {}
        self._labels: dict[tuple[str, ...], bytes] = {}
        """Labels that are stored, and under which key."""

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

    def at_hand(self, key: CallKey, function: Function) -> MemoEntry | None:
        """The result of an equal call, if no state function has to be asked about it.

        Runs nothing of the user's and waits for nothing, so it needs no reservation.
        """
        entry = self._reached.get(key.fingerprint)
        if entry is None and (found := self.candidate(key, function)) is not None:
            row, terms = found
            if not (key.state_fns or terms.states or terms.context_states):
                entry = self.hit(row, terms, function)
        return entry

    def candidate(self, key: CallKey, function: Function) -> tuple[FunctionMemoRow, Terms] | None:
        """A stored entry that may be used if its state functions agree.

        Its dependencies are current, and the target states it covers tracked and settled. One of
        which that is not true is not looked at again.
        """
        row = self._stored.get(key.fingerprint)
        if row is None or row.fingerprint in self._rejected:
            return None
        terms = terms_of(row)
        if terms is None:
            _logger.warning("a stored memo of %s is unreadable", self._execution)
        elif are_current(self._execution.run, terms.deps, function.logic()) and (
            not (terms.declared or terms.refs) or self._covers_settled(row)
        ):
            return row, terms
        self._rejected.add(row.fingerprint)
        return None

    def _covers_settled(self, row: FunctionMemoRow) -> bool:
        return all(self._is_settled(path) for path in self._covered(row.fingerprint))

    def _covered(self, fingerprint: bytes) -> Iterator[bytes]:
        """Target paths declared by a call and the calls it made, transitively."""
        for _, terms in self._with_references(fingerprint):
            if terms is None:
                yield b""  # a reference is missing: never settled
            else:
                yield from terms.declared

    def _with_references(self, fingerprint: bytes) -> Iterator[tuple[bytes, Terms | None]]:
        seen = {fingerprint}
        pending = [fingerprint]
        while pending:
            current = pending.pop()
            terms = self._terms(current)
            yield current, terms
            if terms is not None and terms.refs:
                new = [ref for ref in split(terms.refs) if ref not in seen]
                seen.update(new)
                pending += new

    def _terms(self, fingerprint: bytes) -> Terms | None:
        entry = self._reached.get(fingerprint)
        if entry is not None:
            return entry.terms
        row = self._stored.get(fingerprint)
        return None if row is None else terms_of(row)

    def _is_settled(self, target_path: bytes) -> bool:
        if self._settled is None:
            execution = self._execution
            raw = execution.run.app.section.get(rows.tracking_key(execution.id))
            self._settled = Entry(execution.id, raw, 0, b"").settled_paths()
        return self._settled.get(target_path, False)

    # --- outcome -------------------------------------------------------------------------------

    def hit(self, row: FunctionMemoRow, terms: Terms, function: Function) -> MemoEntry | None:
        """Reuse a stored entry; None if its value can't be read any more."""
        try:
            value = function.decode_result(row.value)
        except DeserializationError as error:
            _logger.warning(
                "a memoized result of %s can't be read any more and is computed again: %s",
                function.name,
                error,
            )
            self._rejected.add(row.fingerprint)
            return None
        entry = MemoEntry(row, terms, value, False)
        self._reached[row.fingerprint] = entry
        if terms.refs or terms.declared:
            self._kept.update(ref for ref, _ in self._with_references(row.fingerprint))
        return entry

    def store(
        self, key: CallKey, function: Function, frame: Frame, value: Any, states: list[bytes]
    ) -> MemoEntry:
        """Remember a call that has just run.

        Raises:
            TypeError: its result can't be serialized.
        """
        try:
            payload = function.encode_result(value)
        except SerializationError as error:
            raise SerializationError(f"result of memoized {function.name}(): {error}") from error
        deps = frame.dependencies()
        labels = self._labels.get(key.labels) or self._note_labels(key)
        terms = Terms(
            deps,
            tuple(frame.declared),
            b"".join(frame.refs),
            tuple(states),
            context_states(self._execution.run, deps.context) if deps.context else [],
            labels,
            function.is_identity,
        )
        row = FunctionMemoRow(key.fingerprint, payload, rows.encode(terms), key.checksums())
        entry = self._reached[key.fingerprint] = MemoEntry(row, terms, value, True)
        return entry

    def _note_labels(self, key: CallKey) -> bytes:
        labels = self._labels[key.labels] = labels_key(key)
        self._execution.run.note_labels(labels, key)
        return labels

    # --- at commit -------------------------------------------------------------------------------

    def contained(self) -> set[bytes]:
        """Target paths covered by reused calls: they stay as they are."""
        covered: set[bytes] = set()
        for fingerprint in self._kept:
            terms = self._terms(fingerprint)
            if terms is not None:
                covered.update(terms.declared)
        return covered

    def commit_rows(self, robbed: AbstractSet[bytes]) -> Batch:
        """Write what is new, keep what was reused, delete everything else.

        Entries that cover a ``robbed`` path claim a target state that another component has
        taken meanwhile; they are deleted.
        """
        alive = self._kept | self._reached.keys()
        if robbed:
            alive = {fp for fp in alive if robbed.isdisjoint(self._covered(fp))}
        new = {
            fingerprint: entry.row
            for fingerprint, entry in self._reached.items()
            if entry.is_new and fingerprint in alive
        }
        return self._pages.changes(new, alive)

    @property
    def keeps_any(self) -> bool:
        return bool(self._reached or self._kept)

    def __len__(self) -> int:
        return len(self._reached)


def _is_identity(row: FunctionMemoRow) -> bool:
    terms = terms_of(row)
    return terms is not None and terms.is_identity


_label_keys: dict[tuple[str, ...], bytes] = {}


def labels_key(key: CallKey) -> bytes:
    """The key under which the labels of a call's parts are stored once."""
    known = _label_keys.get(key.labels)
    if known is None:
        known = _label_keys[key.labels] = fingerprint_bytes(rows.encode(key.labels))
    return known


__all__ = ["FunctionMemos", "MemoEntry", "Reservation", "labels_key"]
