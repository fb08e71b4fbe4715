"""What the passes of a check learn from each other, and how they read damaged rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from cocoindex.core.keys import decode_key, path_text
from cocoindex.engine import rows
from cocoindex.engine.idset import IdSet
from cocoindex.engine.rows import Node, NodeKind, TrackingRow
from cocoindex.state.base import SectionSnapshot

T = TypeVar("T")

COUNTER_SIZES: Final = (8, 16)
"""Bytes of a counter's row: the next id, after the mark of who has reserved last, if any."""

_LARGEST_ID = (1 << 64) - 1


class Survey:
    """One snapshot, and sets of ids found in it: memory of a few bits per component."""

    def __init__(self, snapshot: SectionSnapshot) -> None:
        self.snapshot = snapshot
        self.node_limit = rows.ROOT_ID + 1
        self.provider_limit = 1
        self.sequence_limit = 1
        self.nodes = IdSet()
        self.components = IdSet()
        self.tombstoned = IdSet()
        self.entries = IdSet()
        self.memoized = IdSet()
        self.with_memos = IdSet()
        self.with_state = IdSet()
        self.unsettled = IdSet()
        self.reported = IdSet()
        """Components whose memo is reported already."""

    def scan(self, tag: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self.snapshot.scan(tag)

    def node_at(self, parent_id: int, key: bytes) -> Node | None:
        """The existence row at a place; ``None`` if there is none that can be read."""
        raw = self.snapshot.get(rows.existence_key(parent_id, key))
        return None if raw is None else read_node(raw)

    def place_of(self, node_id: int) -> tuple[int, bytes] | None:
        """Parent id and key of a node that has children, by its name row."""
        raw = self.snapshot.get(rows.node_key(node_id))
        return None if raw is None or len(raw) < 8 else rows.decode_place(raw)

    def lineage(self, node_id: int, parent_id: int) -> Iterator[int]:
        """A node and what is above it; ends early where the chain is broken."""
        yield node_id
        while parent_id != rows.ROOT_PARENT_ID:
            yield parent_id
            place = self.place_of(parent_id)
            if place is None or place[0] >= parent_id:
                return
            parent_id = place[0]

    def path_at(self, parent_id: int, key: bytes) -> str:
        """Readable path of a place; ``…`` stands for what is not known."""
        keys = [key]
        while parent_id != rows.ROOT_PARENT_ID:
            place = self.place_of(parent_id)
            # A parent is older than its children: else the names go round in a circle.
            if place is None or place[0] >= parent_id:
                return "…" + key_chain_text(keys)
            parent_id = place[0]
            keys.append(place[1])
        return key_chain_text(keys)

    def path_of(self, component_id: int) -> str:
        """Readable path of a component by its id; ``component #id`` if it is not known."""
        row = self.tracking(component_id)
        if row is not None:
            return self.path_at(row.parent_id, row.key)
        place = self.place_of(component_id)
        return f"component #{component_id}" if place is None else self.path_at(*place)

    def tracking(self, component_id: int) -> TrackingRow | None:
        raw = self.snapshot.get(rows.tracking_key(component_id))
        return None if raw is None else readable(read_tracking, raw)


def readable(decode: Callable[[bytes], T], raw: bytes) -> T | None:
    """What ``decode`` makes of ``raw``; ``None`` if it is damaged."""
    try:
        return decode(raw)
    except (ValueError, IndexError):
        return None


def read_node(raw: bytes) -> Node | None:
    if len(raw) != 9 or not NodeKind.COMPONENT <= raw[0] & 0x0F <= NodeKind.BEING_DROPPED:
        return None
    return rows.decode_node(raw)


def read_tracking(raw: bytes) -> TrackingRow:
    row = rows.decode_tracking(raw)
    if not 0 <= row.parent_id <= _LARGEST_ID:
        raise ValueError("parent id out of range")
    for group in row.groups:
        rows.target_path_of(group.path)
        for item in group.items():
            decode_key(item.key)
    return row


def read_tombstone(raw: bytes) -> rows.TombstoneRow:
    row = rows.decode_tombstone(raw)
    if not 0 <= row.parent_id <= _LARGEST_ID:
        raise ValueError("parent id out of range")
    return row


def key_chain_text(keys: list[bytes]) -> str:
    """Text of encoded keys, innermost first; the root's empty key is left out."""
    decoded = [readable(decode_key, key) for key in keys if key]
    return path_text(list(reversed(decoded)))


def target_text(group_path: bytes, key: bytes) -> str:
    return path_text((*rows.provider_keys(group_path), decode_key(key)))


def hex_path(target_path: bytes) -> str:
    return "".join(f"/#{target_path[i : i + 16].hex()}" for i in range(0, len(target_path), 16))
