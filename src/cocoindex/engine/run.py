"""One run of an app: its settings, what is live in it, and how it is cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cocoindex.core.keys import StableKey, Symbol, decode_key, encode_path
from cocoindex.core.keys import path_text as text_of
from cocoindex.engine import rows
from cocoindex.engine.app_state import AppState
from cocoindex.engine.entry import Entry
from cocoindex.engine.exception_handlers import HandlerChain
from cocoindex.engine.execution import Provider
from cocoindex.engine.lanes import Lanes
from cocoindex.engine.limits import DEFAULT_LIMITS, Limits
from cocoindex.engine.providers import root_provider
from cocoindex.engine.stats import StatsGroup
from cocoindex.engine.turns import Turn

if TYPE_CHECKING:
    from cocoindex.engine.context_values import ContextProvider
    from cocoindex.engine.function import CallKey
    from cocoindex.engine.guard import DeletionGuard
    from cocoindex.engine.leftovers import Undecided
    from cocoindex.engine.sinks import Sinks
    from cocoindex.engine.sweep import Deletion
    from cocoindex.engine.threaded import ThreadedBody

_logger = logging.getLogger("cocoindex.engine")

MAX_FAILURES_KEPT = 100

MAX_PENDING_BYTES = 16 * 1024 * 1024
"""Rows that wait for the disk; beyond this, components that write more wait too."""


class Failure(msgspec.Struct, frozen=True):
    """A component that failed in a run."""

    path: str
    processor: str
    message: str


class Decided(IntEnum):
    """How a component has come to say what it declares in a run."""

    EXECUTED = 1
    REUSED = 2


# Before Python 3.12, a member is looked up ten times as fast in a module as in its class.
EXECUTED: Final = Decided.EXECUTED
REUSED: Final = Decided.REUSED


class RunOptions(msgspec.Struct, frozen=True):
    """What the caller of an update or drop has asked for."""

    full_reprocess: bool = False
    preview: bool = False
    is_drop: bool = False
    guard: DeletionGuard | None = None
    limits: Limits = DEFAULT_LIMITS


class Run:
    """State of one update, preview or drop. Belongs to the environment's loop."""

    def __init__(
        self,
        app: AppState,
        options: RunOptions,
        *,
        env_name: str,
        context_provider: ContextProvider,
        sinks: Sinks,
        handlers: HandlerChain | None,
    ) -> None:
        self.app = app.scratch() if options.preview else app
        self.limiter = app.limiter  # the app gets a new one when its loop is closed
        self.full_reprocess = options.full_reprocess
        self.is_preview = options.preview
        self.is_drop = options.is_drop
        self.guard = options.guard
        self.limits = options.limits
        self.env_name = env_name
        self.context_provider = context_provider
        self.sinks = sinks
        self.handlers = handlers
        self.stats = StatsGroup()
        self.planned_actions: list[Any] = []
        self.withheld: list[tuple[str, int, int]] = []
        self.failures: list[Failure] = []
        self.failure_count = 0
        self.delete_error: BaseException | None = None
        """Why a drop could not delete everything: its first failure."""
        self.spoiled: set[int] = set()
        """Components (and their ancestors) that must run again: they lost a target state after
        they were done, or what they don't declare any more could not be deleted.
        """
        self.held_memos: dict[int, bytes] = {}
        """Memos of components with something that waits, by id; written once it is decided."""
        self.undecided: dict[int, Undecided] = {}
        """Components with undeclared items that wait for what becomes of their container."""
        self.deferred: list[Deletion] = []
        """Deletions that wait for what becomes of a container, or for others below them."""
        self._providers: dict[bytes, Provider] = {}
        self._most_pending = options.limits.bytes_in_flight or MAX_PENDING_BYTES
        self._decided = bytearray()
        self._warned: set[Any] = set()
        self.lanes = Lanes(self)
        self.turn = Turn(self)
        self.threaded: set[ThreadedBody] = set()
        """Bodies on threads (or on their way there) that no task waits for."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._starting: set[asyncio.Task[Any]] = set()
        self.cancelled_by: BaseException | None = None

    # --- providers -----------------------------------------------------------------------------

    def add_provider(self, provider: Provider) -> None:
        """A container is declared in this run."""
        self._providers[provider.target_path] = provider

    def is_live(self, provider: Provider) -> bool:
        """Whether ``provider`` belongs to this run (root providers belong to every one)."""
        return provider.generation is None or self._providers.get(provider.target_path) is provider

    def find_provider(self, encoded_path: bytes) -> Provider | None:
        """The provider with this key chain that is live in this run."""
        found = self._providers.get(rows.target_path_of(encoded_path))
        if found is not None:
            return found
        keys = rows.provider_keys(encoded_path)
        if len(keys) == 1:
            return root_provider(keys[0])
        return self._find_attachment(keys)

    def _find_attachment(self, keys: tuple[StableKey, ...]) -> Provider | None:
        last = keys[-1]
        if not isinstance(last, Symbol):
            return None
        parent = self.find_provider(encode_path(keys[:-1]))
        if parent is None or parent.info is None:
            return None
        return parent.find_attachment(last.name)

    def generation_of(self, target_path: bytes) -> tuple[int, int] | None:
        provider = self._providers.get(target_path)
        return None if provider is None else provider.generation

    # --- who is who ----------------------------------------------------------------------------

    def mark_decided(self, component_id: int, how: Decided) -> None:
        """A component has said what it declares in this run."""
        if component_id >= len(self._decided):
            self.app.check_node_id(component_id)
            self._decided.extend(bytes(max(component_id + 1 - len(self._decided), 4096)))
        self._decided[component_id] = how

    def has_decided(self, component_id: int) -> bool:
        """Whether a component has executed, or something above it was reused with it."""
        return self._decision(component_id) is not None or self.was_reused(component_id)

    def was_reused(self, component_id: int) -> bool:
        """Whether a component was reused in this run, by itself or with one above it."""
        return any(self._decision(n) is REUSED for n in self.lineage(component_id))

    def has_much_pending(self) -> bool:
        """Whether so much waits for the disk that whoever adds to it has to wait."""
        return self.app.section.pending_bytes > self._most_pending

    def begin_second_pass(self) -> None:
        """The tree is walked again: nobody has said anything yet."""
        self._decided = bytearray()
        self.undecided = {}
        self.deferred = []
        self.withheld = []
        self.failures = []
        self.failure_count = 0
        self.spoiled = set()

    def _decision(self, component_id: int) -> Decided | None:
        if component_id >= len(self._decided) or not self._decided[component_id]:
            return None
        return Decided(self._decided[component_id])

    def entry_of(self, component_id: int) -> Entry:
        """A component's tracking entry as it is now."""
        raw = self.app.section.get(rows.tracking_key(component_id))
        return Entry(component_id, raw, rows.ROOT_PARENT_ID, b"")

    def lineage(self, component_id: int) -> Iterator[int]:
        """The component and the nodes above it, by id."""
        return (node_id for node_id, _ in self._places(self.entry_of(component_id)))

    def _places(self, entry: Entry) -> Iterator[tuple[int, bytes]]:
        node_id, parent_id, key = entry.component_id, entry.parent_id, entry.key
        while True:
            yield node_id, key
            if parent_id == rows.ROOT_PARENT_ID:
                return
            node_id = parent_id
            raw = self.app.section.get(rows.node_key(node_id))
            if raw is None:
                return
            parent_id, key = rows.decode_place(raw)
            if parent_id >= node_id:
                return  # damaged: a parent is older than its children

    def path_text(self, component_id: int) -> str:
        return self.path_text_of(self.entry_of(component_id))

    def path_text_of(self, entry: Entry) -> str:
        keys = [key for _, key in self._places(entry) if key]
        return text_of([decode_key(key) for key in reversed(keys)])

    def spoil_memos(self, component_id: int) -> None:
        """Store no memo of a component and of what is above it in this run."""
        self.spoiled.update(self.lineage(component_id))

    def forget_memos_around(self, component_id: int) -> None:
        """Let the next run execute a component and everything above it."""
        keys = map(rows.component_memo_key, self.lineage(component_id))
        self.app.section.write([(key, None) for key in keys])

    # --- notes ---------------------------------------------------------------------------------

    def note_labels(self, key: bytes, call: CallKey) -> None:
        """Store the readable names of a call's parts, once per app."""
        if self.app.is_new_label(key):
            self.app.section.write([(rows.label_key(key), rows.encode(call.labels))])

    def note_context(self, fingerprint: bytes, name: str) -> None:
        """Store which context key a value fingerprint belongs to, once per app."""
        if self.app.is_new_label(fingerprint):
            label = rows.encode((f"context {name}",))
            self.app.section.write([(rows.label_key(fingerprint), label)])

    def note_withheld(self, path: tuple[StableKey, ...], removed: int, had: int) -> None:
        self.withheld.append((text_of(path), removed, had))

    def note_failure(self, path: str, processor: str, error: BaseException) -> None:
        self.failure_count += 1
        if len(self.failures) < MAX_FAILURES_KEPT:
            self.failures.append(Failure(path, processor, _told(error)))

    def warn_once(self, key: Any, message: str, *args: object) -> None:
        if key not in self._warned:
            self._warned.add(key)
            _logger.warning(message, *args)

    # --- tasks ---------------------------------------------------------------------------------

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``coro`` as a task that a cancellation of this run reaches."""
        task = self.start_task(self._registered(coro))
        task.add_done_callback(lambda _: coro.close())  # if it never came to its first step
        return task

    async def _registered(self, coro: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self.begin_task(task)
        try:
            self.check_not_cancelled()
            return await coro
        finally:
            self.end_task(task)

    def start_task(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task for a ``coro`` that calls :meth:`begin_task` first and :meth:`end_task` last.

        A run cancels it only in between: a task that is cancelled before its first step never
        comes to clean up after itself. Others may do that all the same, such as ``asyncio.run``
        at its end.
        """
        task = asyncio.get_running_loop().create_task(coro)
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return task

    def begin_task(self, task: asyncio.Task[Any]) -> None:
        self._starting.discard(task)
        self._tasks.add(task)

    def end_task(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)

    async def ended(self) -> None:
        """Wait until no task of this run is left (but the caller's own)."""
        own = asyncio.current_task()
        while others := {task for task in self._tasks | self._starting if task is not own}:
            await asyncio.wait(others)

    def check_not_cancelled(self) -> None:
        """Raise ``CancelledError`` if this run is being cancelled."""
        if self.cancelled_by is not None:
            raise asyncio.CancelledError

    def cancel(self, cause: BaseException) -> None:
        """Cancel everything that runs; ``cause`` is what the caller of the run gets."""
        if self.cancelled_by is None:
            self.cancelled_by = cause
        # Tasks hear of it in their next turn. What has no task is told here, in the order in which
        # a component passes on: nothing that is ended may begin to be applied.
        for task in list(self._tasks):
            task.cancel()
        for body in list(self.threaded):
            body.cancel()
        self.turn.cancel()
        for applying in list(self.app.in_flight.values()):
            if applying.run is self:  # else this one has not begun, and waits for another
                applying.cancel()


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - of a user's __str__: what has failed must end all the same
        return f"{type(error).__name__} (its text can't be told)"


__all__ = ["Failure", "Run", "RunOptions"]
