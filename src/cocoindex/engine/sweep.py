"""Deleting components that are not mounted any more, and everything below them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from cocoindex.core.keys import StableKey, Symbol, decode_path, path_text
from cocoindex.engine import rows
from cocoindex.engine.absent_providers import ProviderUnavailable
from cocoindex.engine.declarations import NO_DECLARATIONS
from cocoindex.engine.entry import Entry
from cocoindex.engine.exception_handlers import route
from cocoindex.engine.faults import BEFORE_DELETE, reach
from cocoindex.engine.loops import all_of
from cocoindex.engine.planner import plan
from cocoindex.engine.protocol import carry_out, prepare, settle
from cocoindex.engine.rows import Node, NodeKind, TombstoneRow
from cocoindex.engine.stats import DELETES, ERRORS, STARTS, StatsGroup
from cocoindex.engine.tree import Removed, hollow_removal, hollow_rows, removal_rows

if TYPE_CHECKING:
    from cocoindex.engine.execution import Execution
    from cocoindex.engine.run import Run

T = TypeVar("T")
Path = tuple[StableKey, ...]
WritableBatch = list[tuple[bytes, bytes | None]]

CHUNK = 1024
"""Deletions that run at the same time."""


async def any_in_chunks(items: Sequence[T], act: Callable[[T], Awaitable[bool]]) -> bool:
    """Do ``act`` for all items, many at a time; whether any of them says so."""
    any_did = False
    for start in range(0, len(items), CHUNK):
        any_did |= any(await all_of(map(act, items[start : start + CHUNK])))
    return any_did


async def sweep(run: Run, owner_id: int, owner_path: Path, swept_by: Execution) -> None:
    """Delete every tombstoned component of ``owner_id``."""

    def delete(row: tuple[bytes, bytes]) -> Awaitable[bool]:
        return Deletion(run, owner_path, *row, swept_by).run_guarded()

    tombstones = run.app.section.scan(rows.tombstone_prefix(owner_id))
    await any_in_chunks(tombstones, delete)
    # Once per directory, not per deletion: looking for what is left below one is a range read.
    for parent_id in {rows.decode_tombstone(value).parent_id for _, value in tombstones}:
        _remove_empty_directories(run, parent_id)


class Deletion:
    """The delete execution of one component."""

    def __init__(
        self,
        run: Run,
        owner_path: Path,
        tombstone_key: bytes,
        tombstone: bytes,
        swept_by: Execution,
    ) -> None:
        row: TombstoneRow = rows.decode_tombstone(tombstone)
        self._run = run
        self._tombstone_key = tombstone_key
        self._place = row
        self._swept_by = swept_by
        self.id = rows.unpack_id(tombstone_key)
        relative = decode_path(row.relative_path)
        self.path = owner_path + relative
        self._name = name_by(relative)
        self._counted = False
        self.obstacle: ProviderUnavailable | None = None
        """Why the component's own items can't be deleted yet."""
        self._own_left = False
        self._empties = False
        """Whether nothing stays below it."""
        self._is_swept = False
        """Whether everything below has been tried."""
        self._rest: WritableBatch = []
        """What remains to be written once everything else is gone."""

    def __str__(self) -> str:
        return path_text(self.path)

    @property
    def _stats(self) -> StatsGroup:
        return self._swept_by.stats

    async def run_guarded(self) -> bool:
        """Delete; a failure is reported, leaves the tombstone, and is tried again next time."""
        try:
            return await self._delete_or_report()
        except (KeyboardInterrupt, SystemExit) as error:  # must not reach the event loop
            self._run.cancel(error)
            return False

    async def _delete_or_report(self) -> bool:
        try:
            return await (self._finish() if self._is_swept else self._delete())
        except asyncio.CancelledError:
            if self._counted:
                self._stats.finish_cancelled(self._name)
            raise
        except ProviderUnavailable as error:
            self._defer()
            self.obstacle = error.with_traceback(None)  # many wait, and each would keep its frames
            self.obstacle.__context__ = None
            return False
        except Exception as error:  # noqa: BLE001 - reported like a failing component
            self._failed()
            await self._report(error)
            return False

    def _defer(self) -> None:
        """Try again at the end of the run: what this needs may happen until then."""
        self._run.deferred.append(self)
        self._swept_by.waits = True

    async def retry(self) -> bool:
        """Try again, because something else has been settled meanwhile."""
        self.obstacle = None
        gone = await self.run_guarded()
        if gone:
            _remove_empty_directories(self._run, self._place.parent_id)
        return gone

    def give_up(self) -> None:
        """The run is over: say what is left for a later one, and why."""
        error = self.obstacle
        if error is None:  # something below it is left; that has its own message
            return
        self._failed()
        self._run.warn_once(("unavailable", str(error)), "%s", error)

    @property
    def swept_by(self) -> int:
        """The component that deletes it."""
        return self._swept_by.id

    def _failed(self) -> None:
        self._swept_by.subtree_failed = True
        self._run.spoil_memos(self._swept_by.id)
        if not self._counted:
            self._stats.count(self._name, STARTS)
        self._stats.count(self._name, ERRORS)

    async def _report(self, error: Exception) -> None:
        from cocoindex.engine.exception_context import ExceptionContext

        run, owner = self._run, self._swept_by
        run.note_failure(str(self), self._name, error)
        is_mounted = owner.parent is not None
        context = ExceptionContext(
            env_name=run.env_name,
            stable_path=str(self),
            processor_name=self._name,
            mount_kind=owner.mount_kind if is_mounted else "delete_background",
            parent_stable_path=str(owner),
        )
        await route(owner.handlers if is_mounted else None, error, context)

    async def _delete(self) -> bool:
        reach(BEFORE_DELETE, self)
        section = self._run.app.section
        place_key = rows.existence_key(self._place.parent_id, self._place.key)
        raw = section.get(place_key)
        node = None if raw is None else rows.decode_node(raw)
        self._rest = [(self._tombstone_key, None)]
        if node is not None and node.kind == NodeKind.COMPONENT:  # mounted again meanwhile
            section.write(self._rest)
            return True
        if node is not None and not node.is_component:
            # Demoted: what is below belongs to the owner now. Only its own records go, and
            # what an earlier deletion of it, when it was no directory yet, had begun with.
            await self._delete_with_children([])
            gone = await self._finish()
            _remove_empty_directories(self._run, self.id)
            return gone
        self._rest.append((place_key, None))
        if node is None or not node.has_children:
            await self._delete_own(self._rest)
            return True
        self._rest.append((rows.node_key(self.id), None))
        self._empties = True
        await self._delete_with_children(_bury_children(self._run, self.id, node))
        return await self._finish()

    async def _delete_with_children(self, buried: WritableBatch) -> None:
        try:
            await self._delete_own(buried)
        except ProviderUnavailable:  # it may be waiting for what stands below it
            self._run.app.section.write([*buried, (rows.component_memo_key(self.id), None)])
            self._own_left = True
        await sweep(self._run, self.id, self.path, self._swept_by)
        self._is_swept = True

    async def _finish(self) -> bool:
        """Everything below has been tried."""
        if self._own_left:
            await self._delete_own([])
            self._own_left = False
        section = self._run.app.section
        if section.scan(rows.tombstone_prefix(self.id), limit=1):
            self._defer()
            return False
        # Whoever died in the middle of an update may have left directories without content.
        empty = hollow_rows(section, self.id) if self._empties else None
        section.write([*self._rest, *(empty or ())])
        return True

    async def _delete_own(self, also: WritableBatch) -> None:
        """Delete this component's own target states and records; commit ``also`` with them."""
        run = self._run
        submission = await prepare(
            lambda: plan(run, self._load(), NO_DECLARATIONS, set(), mode="delete"), where=self
        )
        self._stats.count(self._name, STARTS)
        self._counted = True
        # Nobody may reuse what is about to be deleted.
        submission.add_rows([(rows.component_memo_key(self.id), None)])

        def commit() -> None:
            batch = submission.take_rows()
            batch += settle(submission)
            batch += record_rows(run, self.id, submission.entry)
            # A handler may answer a deletion with a record; nobody is left to keep it.
            batch += [(rows.owner_key(path), None) for path in submission.entry.settled_paths()]
            run.app.section.write(batch + also)

        await carry_out(run, submission, commit, where=self)
        self._stats.count(self._name, DELETES)

    def _load(self) -> Entry:
        raw = self._run.app.section.get(rows.tracking_key(self.id))
        entry = Entry(self.id, raw, self._place.parent_id, self._place.key)
        self._name = entry.processor or self._name
        return entry


def name_by(keys: tuple[StableKey, ...]) -> str:
    """The name of a component that has failed whenever it ran, by its path if that tells."""
    names = [key.name.rpartition("/")[2] for key in keys if isinstance(key, Symbol)]
    return names[-1] if names else "<unknown>"


def record_rows(run: Run, component_id: int, entry: Entry) -> WritableBatch:
    """The deletion of everything stored for one component."""
    section = run.app.section
    keys = [rows.tracking_key(component_id)]
    if entry.has_memos:
        keys += section.scan_keys(rows.function_memo_prefix(component_id))
    if entry.has_state:
        keys += section.scan_keys(rows.user_state_prefix(component_id))
    return [(key, None) for key in keys]


def _bury_children(run: Run, component_id: int, node: Node) -> WritableBatch:
    """Turn every living node below a deleted component into a dead one with a tombstone."""
    batch: WritableBatch = []
    pending: list[tuple[int, bytes]] = [(node.id, b"")] if node.has_children else []
    while pending:
        level_id, path = pending.pop()
        for row_key, value in run.app.section.scan(rows.existence_prefix(level_id)):
            key, child = rows.child_key(row_key), rows.decode_node_below(level_id, value)
            if not child.is_live:
                continue
            batch += removal_rows(component_id, Removed(level_id, key, child, path + key))
            if child.kind == NodeKind.DIRECTORY:
                pending.append((child.id, path + key))
    return batch


def _remove_empty_directories(run: Run, node_id: int) -> None:
    """Remove dead directories above a deleted component, as far as nothing is left in them."""
    section = run.app.section
    while True:
        raw = section.get(rows.node_key(node_id))
        if raw is None:
            return
        parent_id, key = rows.decode_place(raw)
        place_key = rows.existence_key(parent_id, key)
        place = section.get(place_key)
        if place is None or rows.decode_node(place).kind != NodeKind.DEAD_DIRECTORY:
            return
        removal = hollow_removal(section, place_key, node_id)
        if removal is None:
            return
        section.write(removal)
        node_id = parent_id
