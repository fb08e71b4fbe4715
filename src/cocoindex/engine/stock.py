"""Taking stock: after a drop that did not come to its end, say again what is tracked.

While an app is being dropped, hardly anything is written down (see ``dropping``): the records of a
component go some time after its target states are gone, and all else in one stroke at the end. If
there is no such end, this finds what is left. It goes over the store once, in batches, and may be
interrupted: the root is marked until it is done.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from cocoindex.engine import rows
from cocoindex.engine.faults import FaultPoint, reach
from cocoindex.engine.idset import IdSet
from cocoindex.engine.rows import ABSENT, Item, ItemGroup, Node, NodeKind
from cocoindex.errors import StoreFormatError

if TYPE_CHECKING:
    from cocoindex.engine.run import Run

Row = tuple[bytes, bytes]
Batch = list[tuple[bytes, bytes | None]]

BREATH = 256
"""Nodes that are looked at before others on the loop have their turn."""


def is_being_dropped(run: Run) -> bool:
    """Whether a drop of the app has begun, and nobody has taken stock since."""
    raw = run.app.section.get(rows.existence_key(rows.ROOT_PARENT_ID, b""))
    return raw is not None and rows.decode_node(raw).kind == NodeKind.BEING_DROPPED


async def take_stock(run: Run, *, in_doubt: bool) -> None:
    """Leave only components whose target states may still be there, and what belongs to them.

    With ``in_doubt``, after an interruption, any of these may be gone all the same. Else what is
    tracked is true: the drop has failed to delete just that.
    """
    await _Stock(run, in_doubt).take()


class _Stock:
    def __init__(self, run: Run, in_doubt: bool) -> None:
        self._run = run
        self._section = run.app.section
        self._in_doubt = in_doubt
        self._left = IdSet()
        """Components that still have records."""

    async def take(self) -> None:
        await self._rewrite(b"K", self._tracking)
        await self._rewrite(b"C", lambda row: [(row[0], None)])  # each covers all that was below
        for tag in b"F", b"U":
            await self._rewrite(tag, lambda row: self._unless_left(row, row[0][1:9]))
        await self._rewrite(rows.OWNER, lambda row: self._unless_left(row, row[1]))
        await self._rewrite(b"E", self._childless)
        await self._prune()
        await self._rewrite(b"T", self._tombstone)
        self._section.write(self._root())

    async def _rewrite(self, tag: bytes, replace: Callable[[Row], Batch]) -> None:
        """Write what ``replace`` says, for each row of a table."""
        reach(FaultPoint.TAKING_STOCK, tag.decode())
        for page in rows.pages(self._section, tag):
            batch = [changed for row in page for changed in replace(row)]
            if batch:
                self._section.write(batch)
            await self._not_too_much()

    async def _not_too_much(self) -> None:
        await asyncio.sleep(0)  # others on the loop have their turn
        if self._run.has_much_pending():
            await self._section.flushed()

    def _tracking(self, row: Row) -> Batch:
        key, value = row
        self._left.add(rows.unpack_id(key))
        return doubted(key, value) if self._in_doubt else []

    def _unless_left(self, row: Row, component_id: bytes) -> Batch:
        return [] if rows.unpack_id(component_id) in self._left else [(row[0], None)]

    def _childless(self, row: Row) -> Batch:
        """A node without records and children is done. Others are for :meth:`_prune`."""
        key, value = row
        try:
            node = rows.decode_node(value)
        except StoreFormatError:  # for whoever comes to it
            return []
        if node.has_children or node.id in self._left or node.id == rows.ROOT_ID:
            return []
        return [(key, None)]

    def _tombstone(self, row: Row) -> Batch:
        """A tombstone goes if nothing of its component is left, neither records nor place."""
        key, value = row
        if rows.unpack_id(key) in self._left:
            return []
        stone = rows.decode_tombstone(value)
        raw = self._section.get(rows.existence_key(stone.parent_id, stone.key))
        is_dead = raw is not None and rows.decode_node(raw).kind == NodeKind.DEAD_COMPONENT
        return [] if is_dead else [(key, None)]

    async def _prune(self) -> None:
        """Remove the nodes below which nothing is left, from the bottom up: what stands below
        another node is younger.
        """
        reach(FaultPoint.TAKING_STOCK, "N")
        parents = array("Q")
        for page in rows.pages(self._section, b"N"):
            parents.extend(rows.unpack_id(key) for key, _ in page)
        for count, node_id in enumerate(reversed(parents), 1):
            if node_id != rows.ROOT_ID and node_id not in self._left:
                self._remove_if_empty(node_id)
            if count % BREATH == 0:
                await self._not_too_much()

    def _remove_if_empty(self, node_id: int) -> None:
        if self._section.scan(rows.existence_prefix(node_id), limit=1):
            return
        place = self._section.get(rows.node_key(node_id))
        if place is not None:
            parent_id, key = rows.decode_place(place)
            gone = [rows.existence_key(parent_id, key), rows.node_key(node_id)]
            self._section.write([(row_key, None) for row_key in gone])

    def _root(self) -> Batch:
        key = rows.existence_key(rows.ROOT_PARENT_ID, b"")
        raw = self._section.get(key)
        has_children = raw is not None and rows.decode_node(raw).has_children
        return [(key, Node(NodeKind.COMPONENT, rows.ROOT_ID, has_children).encode())]


def doubted(key: bytes, value: bytes) -> Batch:
    """A tracking row, with all that it tracks possibly gone."""
    try:
        row = rows.decode_tracking(value)
    except StoreFormatError:  # for the component to stumble over, when it comes to it
        return []
    for group in row.groups:
        _doubt(group)
    return [(key, rows.encode(row))]


def _doubt(group: ItemGroup) -> None:
    group.unsure = {**group.settled, **group.unsure}
    group.settled = {}
    group.others = [_doubted_item(item) for item in group.others]


def _doubted_item(item: Item) -> Item:
    if not item.has_absent:
        item.states = (ABSENT, *item.states)
    return item
