"""Deleting everything an app tracks (``App.drop``).

A drop in progress is one row: the root, marked. From the moment that it is on disk, each target
state of the app counts as one that may be gone, and no memo counts at all. So nothing has to be
written down before a sink is called, and afterwards only that the component is done: its
tracking row goes. Even that may come later: should the drop be killed before, the component is
deleted once more. Places, owner rows, memos and the like are left until all is done, when the
section is cleared in one stroke. A drop that does not come that far, because it is killed or
because something can't be deleted, is followed by taking stock (see ``stock``).

Existence rows are kept by the id of their parent, and a parent is older than its children. So one
pass over that table, page by page, meets everything after what is above it.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from cocoindex.core.keys import StableKey, decode_key, key_segment
from cocoindex.engine import rows
from cocoindex.engine.absent_providers import ProviderUnavailable
from cocoindex.engine.clearing import Clearing
from cocoindex.engine.declarations import NO_DECLARATIONS
from cocoindex.engine.entry import Entry, tracked_by
from cocoindex.engine.faults import (
    AFTER_COMMIT,
    AFTER_SINK,
    BEFORE_COMMIT,
    BEFORE_DELETE,
    BEFORE_PRECOMMIT,
    reach,
)
from cocoindex.engine.idset import IdSet
from cocoindex.engine.planner import plan
from cocoindex.engine.protocol import tell
from cocoindex.engine.rows import ItemGroup, Node, NodeKind, TrackingRow
from cocoindex.engine.run import Run
from cocoindex.engine.sinks import resolve_children
from cocoindex.engine.stats import DELETES, ERRORS, STARTS
from cocoindex.engine.stock import doubted, is_being_dropped, take_stock
from cocoindex.engine.submission import SinkActions, Submission, in_order
from cocoindex.engine.sweep import name_by
from cocoindex.errors import StoreFormatError

if TYPE_CHECKING:
    from cocoindex.engine.sinks import Children

CHUNK = 1024
"""Components whose actions go to the sinks together."""

CHUNK_BYTES = 4 * 1024 * 1024
"""Or fewer, if their tracking rows are larger than this."""

WRITE_SECONDS = 1.0
"""How long what was done may go unwritten: until then it is done again after an interruption."""

PAGE = 128
"""Nodes that are read at once, with their tracking rows."""


async def delete_everything(run: Run) -> None:
    """Delete all target states that the app tracks.

    What can't be deleted stays tracked; ``run.delete_error`` is the first reason.
    """
    section = run.app.section
    key = rows.existence_key(rows.ROOT_PARENT_ID, b"")
    if is_being_dropped(run):
        await take_stock(run, in_doubt=True)
    raw = section.get(key)
    if raw is None:
        return
    has_children = rows.decode_node(raw).has_children
    section.write([(key, Node(NodeKind.BEING_DROPPED, rows.ROOT_ID, has_children).encode())])
    if not await _Drop(run).delete_all():
        await take_stock(run, in_doubt=False)


class _Deletion(msgspec.Struct, eq=False):
    """One component on its way out. It leads back to the run, which keeps the first failure, whose
    traceback leads here again: so the collector has to know of it.
    """

    drop: _Drop
    place_key: bytes
    node: Node
    raw: bytes | None
    """Until it is committed."""
    name: str
    row: TrackingRow | None = None
    """``raw``, decoded. Until it is planned."""
    containers: tuple[bytes, ...] = ()
    """Target paths of its containers."""
    comes_last: bool = False
    """Whether what is below one of its containers has to be deleted first."""
    submission: Submission | None = None
    """If it takes the planner to delete it; until it is committed."""
    to_apply: list[SinkActions] = []
    """For the sinks that have not answered yet, in reverse order."""
    is_waiting: bool = False

    def entry(self, raw: bytes | None) -> Entry:
        return Entry(self.node.id, raw, *_place_of(self.place_key))

    def __str__(self) -> str:
        return self.drop.run.path_text_of(self.entry(None))

    def answered(self, children: Children | None, error: BaseException | None) -> None:
        """A sink has succeeded or failed."""
        self.drop.answered(self, children, error)

    def freed_rows(self) -> list[tuple[bytes, bytes | None]]:
        """What it has taken from others, and owner rows where they tell others that a container
        is gone with all that is in it.
        """
        batch = [] if self.submission is None else self.submission.take_rows()
        batch += [(rows.owner_key(path), None) for path in self.containers]
        return batch

    def doubt_rows(self) -> list[tuple[bytes, bytes | None]]:
        """Everything that its target states may be by now."""
        if self.submission is not None:
            return self.submission.precommit_rows()
        return [] if self.raw is None else doubted(rows.tracking_key(self.node.id), self.raw)


def _place_of(place_key: bytes) -> tuple[int, bytes]:
    return rows.unpack_id(rows.level_of(place_key)), rows.child_key(place_key)


class _Drop:
    """All passes over the tree of one app."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._section = run.app.section
        self._clearing = Clearing(run)
        self._failed = IdSet()
        self._is_complete = True
        self._is_first_pass = True
        self._chunk: list[_Deletion] = []
        self._chunk_bytes = 0
        self._level = b""
        """What the keys of the children that are being visited begin with."""
        self._chunk_has_parents = False
        """Whether something in the chunk must be gone before what stands below it."""
        self._acting: list[_Deletion] = []
        """What waits for sinks."""
        self._unanswered = 0
        self._answered: asyncio.Future[None]
        self._gone: list[tuple[bytes, bytes | None]] = []
        """What goes with components that are done, and is not written yet."""
        self._clock = asyncio.get_running_loop().time
        self._written_at = self._clock()
        self._begin_pass()

    def _begin_pass(self) -> None:
        self._done = 0
        self._postponed = 0
        self._waiting: Tally[str] = Tally()
        self._obstacle: ProviderUnavailable | None = None

    async def delete_all(self) -> bool:
        """Pass over the tree until nothing is left, or nothing more can be done about it;
        returns whether nothing is left.
        """
        while True:
            await self._pass()
            is_open = self._postponed or (self._waiting and self._done)
            if not is_open:
                break
            self._write()
            self._is_first_pass = False
            self._begin_pass()
        if self._obstacle is not None:
            self._give_up(self._obstacle)
        if not self._is_complete:  # else all rows go
            self._write()
        return self._is_complete

    def _give_up(self, obstacle: ProviderUnavailable) -> None:
        """Nothing in this process knows how to delete what still waits."""
        self._is_complete = False
        self.run.delete_error = self.run.delete_error or obstacle
        for name, count in self._waiting.items():
            self.run.stats.count(name, STARTS, count)
            self.run.stats.count(name, ERRORS, count)

    # --- one pass ------------------------------------------------------------------------------

    async def _pass(self) -> None:
        for page in rows.pages(self._section, b"E", PAGE):
            for deletion in self._open_all(page):
                if self._must_wait(deletion):
                    await self._apply()
                if self._plan(deletion) and self._is_due(deletion):
                    await self._apply()
        await self._apply()

    def _open_all(self, page: list[tuple[bytes, bytes]]) -> Iterator[_Deletion]:
        """Those of some nodes of which there is something to delete."""
        nodes = [rows.decode_node(value) for _, value in page]
        keys = [rows.tracking_key_below(value) for _, value in page]
        tracked = self._section.get_many(keys)
        takeovers = self.run.app.takeovers
        for (key, _), node, found in zip(page, nodes, tracked, strict=True):
            raw = found
            if self.run.app.takeovers != takeovers:  # one of this page may have lost items
                raw = self._section.get(rows.tracking_key(node.id))
            deletion = None
            if raw is None:
                # A component that has never committed anything has no records, and neither has
                # one that is done: only the first pass looks at it.
                if self._is_first_pass and node.is_component:
                    deletion = _Deletion(self, key, node, None, self._name_by_place(key))
            elif self._is_complete or node.id not in self._failed:
                deletion = self._open(key, node, raw)
            if deletion is not None:
                yield deletion

    def _open(self, key: bytes, node: Node, raw: bytes) -> _Deletion | None:
        try:
            row = tracked_by(node.id, raw)
        except StoreFormatError as error:
            deletion = _Deletion(self, key, node, raw, self._name_by_place(key))
            self.run.stats.count(deletion.name, STARTS)
            self._fail(deletion, error)
            return None
        deletion = _Deletion(self, key, node, raw, row.processor or self._name_by_place(key), row)
        for group in row.groups:
            if group.others:
                _note_containers(deletion, group)
        if deletion.comes_last and self._is_first_pass:
            self._postponed += 1
            return None
        return deletion

    def _must_wait(self, deletion: _Deletion) -> bool:
        """Whether those before it have to be gone before it is planned."""
        level = rows.level_of(deletion.place_key)
        is_next_level = level != self._level
        self._level = level
        if deletion.comes_last:  # it may take over what is below
            return True
        return is_next_level and self._chunk_has_parents

    def _is_due(self, latest: _Deletion) -> bool:
        """Add to the chunk; whether it is to be applied now."""
        self._chunk.append(latest)
        self._chunk_bytes += 0 if latest.raw is None else len(latest.raw)
        self._chunk_has_parents |= latest.node.has_children and bool(latest.to_apply)
        is_full = len(self._chunk) >= CHUNK or self._chunk_bytes >= CHUNK_BYTES
        return is_full or bool(latest.containers)

    def _name_by_place(self, place_key: bytes) -> str:
        """The name of a component that has failed whenever it ran."""
        keys: list[StableKey] = []
        parent_id, key = _place_of(place_key)
        while key:
            keys.append(decode_key(key))
            raw = self._section.get(rows.node_key(parent_id))
            if raw is None:
                break
            parent_id, key = rows.decode_place(raw)
            above = self._section.get(rows.existence_key(parent_id, key))
            if above is None or rows.decode_node(above).is_component:
                break
        return name_by(tuple(reversed(keys)))

    def _plan(self, deletion: _Deletion) -> bool:
        """Ask the handlers; whether there is something to apply, or to commit."""
        try:
            reach(BEFORE_DELETE, deletion)
            reach(BEFORE_PRECOMMIT, deletion)
            deletion.to_apply = self._actions_of(deletion)
        except ProviderUnavailable as error:
            self._waiting[deletion.name] += 1
            self._obstacle = self._obstacle or error
            return False
        except Exception as error:  # noqa: BLE001 - of a handler; the rest is deleted all the same
            self.run.stats.count(deletion.name, STARTS)
            self._fail(deletion, error)
            return False
        self.run.stats.count(deletion.name, STARTS)
        return True

    def _actions_of(self, deletion: _Deletion) -> list[SinkActions]:
        """In reverse order of their sinks."""
        row, deletion.row = deletion.row, None
        if row is None or not row.groups:
            return []
        actions = self._clearing.actions_of(row)
        if actions is not None:
            return actions if len(actions) <= 1 else in_order(actions)[::-1]
        self._write()  # what it may take over from others is there
        entry = deletion.entry(deletion.raw)
        submission = plan(self.run, entry, NO_DECLARATIONS, set(), mode="delete")
        deletion.submission = submission
        return submission.sinks()[::-1]

    # --- applying ------------------------------------------------------------------------------

    async def _apply(self) -> None:
        """Delete the target states of the chunk."""
        chunk, self._chunk = self._chunk, []
        self._chunk_bytes, self._chunk_has_parents = 0, False
        acting = [deletion for deletion in chunk if deletion.to_apply]
        for deletion in chunk:
            if not deletion.to_apply:
                self._commit_or_fail(deletion)
        if acting:
            await self._call_sinks(acting)
        if self._clock() - self._written_at > WRITE_SECONDS:
            self._write()
        await asyncio.sleep(0)  # most of an app may stand in a container that is gone by now
        if self.run.has_much_pending():
            await self._section.flushed()

    async def _call_sinks(self, acting: list[_Deletion]) -> None:
        self._acting, self._unanswered = acting, len(acting)
        self._answered = asyncio.get_running_loop().create_future()
        try:
            for deletion in acting:
                deletion.is_waiting = True
                self._call_next(deletion)
            await self._answered
        except BaseException:
            self._let_go()
            raise

    def _let_go(self) -> None:
        """Call no sink any more. What is called already may still act."""
        for deletion in self._acting:
            if deletion.is_waiting:
                deletion.is_waiting = False
                self.run.stats.finish_cancelled(deletion.name)

    def _call_next(self, deletion: _Deletion) -> None:
        run = self.run
        run.sinks.apply(deletion.to_apply[-1], self._section, run.stats, deletion, deletion)

    def answered(
        self, deletion: _Deletion, children: Children | None, error: BaseException | None
    ) -> None:
        """A sink has succeeded or failed with the actions of a component."""
        try:
            if error is None:
                error = self._advance(deletion, children)
            if error is not None:
                self._fail_midway(deletion, error)
        except BaseException as fatal:  # noqa: BLE001 - raised where the sinks are waited for
            self._let_go()  # at once: else a sink might be called before that
            tell(self._answered, fatal)
            return
        if not deletion.is_waiting:
            self._unanswered -= 1
            if not self._unanswered:
                tell(self._answered, None)

    def _advance(self, deletion: _Deletion, children: Children | None) -> BaseException | None:
        """Go on after a sink has succeeded; returns what failed."""
        try:
            resolve_children(deletion.to_apply.pop(), children)
            reach(AFTER_SINK, deletion)
            if deletion.to_apply:
                self._call_next(deletion)
            else:
                self._commit(deletion)
        except BaseException as error:  # noqa: BLE001 - told to whom it concerns
            return error
        return None

    def _commit_or_fail(self, deletion: _Deletion) -> None:
        try:
            self._commit(deletion)
        except Exception as error:  # noqa: BLE001 - one component's
            self._fail_midway(deletion, error)

    def _commit(self, deletion: _Deletion) -> None:
        reach(BEFORE_COMMIT, deletion)
        self._gone.append((rows.tracking_key(deletion.node.id), None))
        if deletion.submission is not None:
            self._gone += deletion.freed_rows()
            self._write()  # others may ask whether its containers are there
        deletion.submission = deletion.raw = None
        reach(AFTER_COMMIT, deletion)
        deletion.is_waiting = False
        self.run.stats.count(deletion.name, DELETES)
        self._done += 1

    def _write(self) -> None:
        """Note in the store which components are done."""
        if self._gone:
            self._section.write(self._gone)
            self._gone = []
        self._written_at = self._clock()

    def _fail_midway(self, deletion: _Deletion, error: BaseException) -> None:
        """Its sinks may have been called."""
        if isinstance(error, Exception):
            self._section.write(deletion.doubt_rows())
        self._fail(deletion, error)

    def _fail(self, deletion: _Deletion, error: BaseException) -> None:
        """It stays tracked, with all that its target states may be now."""
        if not isinstance(error, Exception):
            raise error
        run = self.run
        deletion.is_waiting = False
        self._failed.add(deletion.node.id)
        self._is_complete = False
        run.stats.count(deletion.name, ERRORS)
        run.delete_error = run.delete_error or error
        run.note_failure(str(deletion), deletion.name, error)


def _note_containers(deletion: _Deletion, group: ItemGroup) -> None:
    target_path = rows.target_path_of(group.path)
    for item in group.others:
        if item.is_container:
            deletion.containers += (target_path + key_segment(item.key),)
            deletion.comes_last |= item.children_first
