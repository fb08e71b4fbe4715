"""How each kind of finding is mended.

Every function takes the section last and returns rows to write. It looks at the section as it
is then, not as it was when the finding was made, so repairs may build on each other, and one
that is not needed any more returns nothing. The rule behind all of them: never forget a target
state that might exist; rather let the next update look once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from cocoindex.core.keys import Symbol, encode_key, key_segment
from cocoindex.engine import rows
from cocoindex.engine.fsck.survey import (
    COUNTER_SIZES,
    Survey,
    read_node,
    read_tracking,
    readable,
)
from cocoindex.engine.memo_pages import file_page
from cocoindex.engine.rows import Node, NodeKind, TombstoneRow, TrackingRow

if TYPE_CHECKING:
    from cocoindex.state.base import Batch, Section

Rows = list[tuple[bytes, bytes | None]]


def delete_rows(*keys: bytes) -> Callable[[Section], Batch]:
    return partial(_delete, keys)


def _delete(keys: tuple[bytes, ...], section: Section) -> Batch:  # noqa: ARG001 - as every repair
    return [(key, None) for key in keys]


def delete_below(prefix: bytes, section: Section) -> Batch:
    return [(key, None) for key in section.scan_keys(prefix)]


def forget_function_memo(prefix: bytes, fingerprint: bytes, section: Section) -> Batch:
    """``prefix``: of the component's pages; an earlier repair may have filed the memo anew."""
    for key, raw in section.scan(prefix):
        memos = readable(rows.decode_function_memos, raw) or ()
        left = [memo for memo in memos if memo.fingerprint != fingerprint]
        if len(left) < len(memos):
            return [(key, None), *([file_page(prefix, left)] if left else [])]
    return []


# --- counters ------------------------------------------------------------------------------------


def raise_counter(name: str, minimum: int, section: Section) -> Batch:
    return _raise(rows.counter_key(name), minimum, section)


def raise_sequence(key: bytes, minimum: int, section: Section) -> Batch:
    return _raise(rows.sequence_key(key), minimum, section)


def _raise(key: bytes, minimum: int, section: Section) -> Batch:
    raw = section.get(key)
    if raw is not None and len(raw) in COUNTER_SIZES and rows.unpack_id(raw) >= minimum:
        return []
    return [(key, rows.pack_id(minimum))]


# --- items and owners ----------------------------------------------------------------------------


def claim_item(component_id: int, path: bytes, section: Section) -> Batch:
    """Make the component the owner, unless the present owner tracks the item as well: then
    this one forgets it, as after a take-over.
    """
    row = _tracking(section, component_id)
    if row is None or path not in _paths(row):
        return []
    raw = section.get(rows.owner_key(path))
    owner_id = None if raw is None or len(raw) != 8 else rows.unpack_id(raw)
    owner = None if owner_id is None else _tracking(section, owner_id)
    if owner_id == component_id:
        return []
    if owner is None or path not in _paths(owner):
        return [(rows.owner_key(path), rows.pack_id(component_id))]
    for group in row.groups:
        target_path = rows.target_path_of(group.path)
        for item in list(group.items()):
            if target_path + key_segment(item.key) == path:
                group.forget(item.key)
    return [
        (rows.tracking_key(component_id), rows.encode(row)),
        *_forget_memos(section, component_id, row.parent_id),
    ]


def release_owner(path: bytes, section: Section) -> Batch:
    raw = section.get(rows.owner_key(path))
    owner = None if raw is None else _tracking(section, rows.unpack_id(raw))
    if owner is not None and path in _paths(owner):
        return []
    return [(rows.owner_key(path), None)]


def note_records(component_id: int, section: Section) -> Batch:
    """Let the tracking row say what the component has, so that its deletion finds it."""
    row = _tracking(section, component_id)
    if row is None:
        return []
    row.has_memos |= bool(section.scan(rows.function_memo_prefix(component_id), limit=1))
    row.has_state |= bool(section.scan(rows.user_state_prefix(component_id), limit=1))
    return [(rows.tracking_key(component_id), rows.encode(row))]


def _paths(row: TrackingRow) -> set[bytes]:
    return {
        rows.target_path_of(group.path) + key_segment(item.key)
        for group in row.groups
        for item in group.items()
    }


# --- the tree ------------------------------------------------------------------------------------


def bury(parent_id: int, key: bytes, section: Section) -> Batch:
    """A tombstone for the node at a place, at the component above that sweeps it."""
    node = _node(section, parent_id, key)
    return [] if node is None else _tombstone(section, node.id, parent_id, key)


def revive_directory(node_id: int, section: Section) -> Batch:
    survey = _Reader(section)
    place = survey.place_of(node_id)
    node = None if place is None else _node(section, *place)
    if place is None or node is None or node.kind != NodeKind.DEAD_DIRECTORY:
        return []
    alive = Node(NodeKind.DIRECTORY, node.id, node.has_children)
    return [
        (rows.existence_key(*place), alive.encode()),
        *_forget_memos(section, node_id, place[0]),
    ]


def remove_empty_directory(parent_id: int, key: bytes, section: Section) -> Batch:
    node = _node(section, parent_id, key)
    if node is None or node.kind != NodeKind.DEAD_DIRECTORY:
        return []
    if section.scan(rows.existence_prefix(node.id), limit=1):
        return []
    return [(rows.existence_key(parent_id, key), None), (rows.node_key(node.id), None)]


def rewrite_tombstone(tombstone_key: bytes, section: Section) -> Batch:
    """Replace a tombstone that does not lead to its component by one that does."""
    dead_id = rows.unpack_id(tombstone_key)
    place = _find_place(section, dead_id)
    remove: Rows = [(tombstone_key, None)]
    if place is not None:
        node = _node(section, *place)
        if node is None or node.kind == NodeKind.COMPONENT:
            return remove
        return [*remove, *_tombstone(section, dead_id, *place)]
    if section.get(rows.tracking_key(dead_id)) is None:
        return remove
    return [*remove, *adopt_orphan(dead_id, section)]


def adopt_orphan(component_id: int, section: Section) -> Batch:
    """A dead node with a tombstone for records that have lost theirs: the next update deletes
    what they track, as it would have done.
    """
    row = _tracking(section, component_id)
    if row is None:
        return []
    if component_id == rows.ROOT_ID:
        return reattach(component_id, section)
    survey = _Reader(section)
    place = (row.parent_id, row.key)
    if (node := _node(section, *place)) is not None and node.id == component_id:
        return []  # mended meanwhile
    reachable = rows.ROOT_ID in survey.lineage(component_id, row.parent_id)
    if not reachable or not row.key or section.get(rows.existence_key(*place)) is not None:
        place = _lost_place(component_id)
    row.parent_id, row.key = place
    row.has_memos = row.has_state = True
    dead = Node(NodeKind.DEAD_COMPONENT, component_id, _has_children(section, component_id))
    return [
        (rows.tracking_key(component_id), rows.encode(row)),
        *_stand(section, place, dead),
        *_tombstone(section, component_id, *place),
    ]


def correct_place(component_id: int, section: Section) -> Batch:
    row, place = _tracking(section, component_id), _find_place(section, component_id)
    if row is None or place is None:
        return []
    row.parent_id, row.key = place
    return [(rows.tracking_key(component_id), rows.encode(row))]


def reattach(node_id: int, section: Section) -> Batch:
    """Make the way from a node's children to the root whole again, or give them up."""
    place = _find_place(section, node_id)
    if place is not None:
        node = _node(section, *place)
        return [] if node is None else _stand(section, place, node)
    if node_id != rows.ROOT_ID and not _has_children(section, node_id):
        return [(rows.node_key(node_id), None)]
    place = _free_place(section, node_id)
    if place is not None:
        is_component = section.get(rows.tracking_key(node_id)) is not None
        kind = NodeKind.COMPONENT if is_component else NodeKind.DIRECTORY
        return [
            *_stand(section, place, Node(kind, node_id, True)),
            *_forget_memos(section, node_id, place[0]),
        ]
    lost = _lost_place(node_id)
    dead = Node(NodeKind.DEAD_COMPONENT, node_id, True)
    return [*_stand(section, lost, dead), *_tombstone(section, node_id, *lost)]


def _free_place(section: Section, node_id: int) -> tuple[int, bytes] | None:
    """Where a node without existence row stood, if nothing else stands there now."""
    if node_id == rows.ROOT_ID:
        return rows.ROOT_PARENT_ID, b""
    place = _Reader(section).place_of(node_id)
    if place is None or not place[1] or not rows.ROOT_ID <= place[0] < node_id:
        return None
    is_reachable = rows.ROOT_ID in _Reader(section).lineage(node_id, place[0])
    return place if is_reachable and _node(section, *place) is None else None


def _lost_place(node_id: int) -> tuple[int, bytes]:
    """Where nodes go that have lost their place: below the root, until the next update."""
    return rows.ROOT_ID, encode_key((Symbol("cocoindex/lost"), node_id))


def _stand(section: Section, place: tuple[int, bytes], node: Node) -> Rows:
    """Existence and name rows of a node at a place, and the mark at the one above."""
    has_children = node.has_children or _has_children(section, node.id)
    batch: Rows = [(rows.existence_key(*place), Node(node.kind, node.id, has_children).encode())]
    if has_children:
        batch.append((rows.node_key(node.id), rows.place_row(*place)))
    if place[0] == rows.ROOT_ID:
        root = _node(section, rows.ROOT_PARENT_ID, b"") or Node(NodeKind.COMPONENT, rows.ROOT_ID)
        marked = Node(root.kind, rows.ROOT_ID, True)
        batch.append((rows.existence_key(rows.ROOT_PARENT_ID, b""), marked.encode()))
        batch.append((rows.node_key(rows.ROOT_ID), rows.pack_id(rows.ROOT_PARENT_ID)))
    return batch


def _tombstone(section: Section, dead_id: int, parent_id: int, key: bytes) -> Rows:
    owner_id, relative = _sweeper(section, parent_id, key)
    row = TombstoneRow(parent_id, key, relative)
    above = _Reader(section).place_of(owner_id)
    return [
        (rows.tombstone_key(owner_id, dead_id), rows.encode(row)),
        *_forget_memos(section, owner_id, rows.ROOT_PARENT_ID if above is None else above[0]),
    ]


def _sweeper(section: Section, parent_id: int, key: bytes) -> tuple[int, bytes]:
    """The nearest component above a place, and the path from there."""
    survey = _Reader(section)
    relative = key
    while parent_id > rows.ROOT_ID:
        place = survey.place_of(parent_id)
        node = None if place is None else _node(section, *place)
        if place is None or node is None or place[0] >= parent_id:
            break
        if node.is_component:
            return parent_id, relative
        parent_id, relative = place[0], place[1] + relative
    return rows.ROOT_ID, relative


def _forget_memos(section: Section, node_id: int, parent_id: int) -> Rows:
    """No memo may hide from the next update what it has to do below ``node_id``."""
    keys = [rows.component_memo_key(up) for up in _Reader(section).lineage(node_id, parent_id)]
    return [(key, None) for key in keys if section.get(key) is not None]


def _find_place(section: Section, node_id: int) -> tuple[int, bytes] | None:
    """Where a node stands, by what says so first: its name, its records, or a search."""
    guesses = [_Reader(section).place_of(node_id)]
    row = _tracking(section, node_id)
    if row is not None:
        guesses.append((row.parent_id, row.key))
    for place in guesses:
        node = None if place is None else _node(section, *place)
        if node is not None and node.id == node_id:
            return place
    for key, value in chain.from_iterable(rows.pages(section, b"E")):
        node = read_node(value)
        if node is not None and node.id == node_id and len(key) >= 9:
            return rows.unpack_id(rows.level_of(key)), rows.child_key(key)
    return None


def _has_children(section: Section, node_id: int) -> bool:
    return bool(section.scan(rows.existence_prefix(node_id), limit=1))


def _node(section: Section, parent_id: int, key: bytes) -> Node | None:
    raw = section.get(rows.existence_key(parent_id, key))
    return None if raw is None else read_node(raw)


def _tracking(section: Section, component_id: int) -> TrackingRow | None:
    raw = section.get(rows.tracking_key(component_id))
    return None if raw is None else readable(read_tracking, raw)


class _Reader(Survey):
    """The readers of a survey, on the section as it is now."""

    def __init__(self, section: Section) -> None:
        super().__init__(_Now(section))


class _Now:
    """A section in the shape of a snapshot."""

    def __init__(self, section: Section) -> None:
        self._section = section

    def get(self, key: bytes) -> bytes | None:
        return self._section.get(key)

    def scan(self, prefix: bytes, *, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._section.scan(prefix, start=start))
