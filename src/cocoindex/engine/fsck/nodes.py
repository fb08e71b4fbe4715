"""The tree of components: existence rows, names by id, tombstones (I1, I5, I6)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from cocoindex.core.keys import decode_key, decode_path
from cocoindex.engine import rows
from cocoindex.engine.fsck import repair
from cocoindex.engine.fsck.finding import Finding, unfinished, violation
from cocoindex.engine.fsck.survey import Survey, read_node, read_tombstone, readable
from cocoindex.engine.rows import Node, NodeKind


class _Parent(NamedTuple):
    """The node above a run of existence rows."""

    id: int
    problem: str | None
    kind: int


def collect_tombstones(survey: Survey) -> None:
    for key, _ in survey.scan(b"T"):
        if len(key) == 17:
            survey.tombstoned.add(rows.unpack_id(key))


# --- existence rows ------------------------------------------------------------------------------


def check_existence(survey: Survey) -> Iterator[Finding]:
    parent = _Parent(-1, None, NodeKind.COMPONENT)
    largest = 0
    for row_key, value in survey.scan(b"E"):
        node = read_node(value)
        key = rows.child_key(row_key)
        if node is None or len(row_key) < 9:
            yield violation("rows", f"existence row #{row_key.hex()}", "can't be read")
            continue
        if (parent_id := int.from_bytes(row_key[1:9], "big")) != parent.id:
            parent = _parent(survey, parent_id)
            yield from _parent_findings(survey, parent, key)
        yield from _node_findings(survey, parent, key, node)
        largest = max(largest, node.id)
        survey.nodes.add(node.id)
        if node.is_component:
            survey.components.add(node.id)
    if largest >= survey.node_limit:
        yield violation(
            "I5",
            "counter node",
            f"ids up to {largest} are in use, but the next one given out is {survey.node_limit}",
            "raise the counter",
            partial(repair.raise_counter, "node", largest + 1),
        )


def _parent(survey: Survey, parent_id: int) -> _Parent:
    """The node that existence rows lie below, and what is wrong with it."""
    if parent_id == rows.ROOT_PARENT_ID:
        return _Parent(parent_id, None, NodeKind.COMPONENT)
    place = survey.place_of(parent_id)
    if place is None:
        return _Parent(parent_id, "the name of the node above is missing", NodeKind.COMPONENT)
    node = survey.node_at(*place)
    if node is None or node.id != parent_id or place[0] >= parent_id:
        return _Parent(
            parent_id, "the node above has no existence row of its own", NodeKind.COMPONENT
        )
    problem = None if node.has_children else "the node above is not marked as having children"
    return _Parent(parent_id, problem, node.kind)


def _parent_findings(survey: Survey, parent: _Parent, key: bytes) -> Iterator[Finding]:
    if parent.problem is not None:
        yield violation(
            "I1",
            survey.path_at(parent.id, key),
            parent.problem,
            "attach what is below to its place, or remove it at the next update",
            partial(repair.reattach, parent.id),
        )


def _node_findings(survey: Survey, parent: _Parent, key: bytes, node: Node) -> Iterator[Finding]:
    is_root = parent.id == rows.ROOT_PARENT_ID
    where = partial(survey.path_at, parent.id, key)
    is_strange = bool(key) or node.id != rows.ROOT_ID if is_root else _is_dropped(node)
    if is_strange or node.id <= parent.id:
        yield violation("I1", where(), f"node #{node.id} can't stand here")
        return
    if not is_root and readable(_is_key, key) is None:
        yield violation("rows", where(), "its key can't be read")
    if node.id in survey.nodes:
        yield violation("I5", where(), f"its id {node.id} is used twice")
        return
    if node.kind == NodeKind.DEAD_COMPONENT and node.id not in survey.tombstoned:
        yield violation(
            "I6",
            where(),
            "was unmounted, but has no tombstone, so nothing would clean it up",
            "add the tombstone",
            partial(repair.bury, parent.id, key),
        )
    if node.kind == NodeKind.DEAD_DIRECTORY and _is_empty(survey, node):
        yield unfinished(
            "I6",
            where(),
            "an unmounted directory with nothing below it",
            "remove it",
            partial(repair.remove_empty_directory, parent.id, key),
        )
    if node.is_live and parent.kind == NodeKind.DEAD_DIRECTORY:
        yield violation(
            "I6",
            where(),
            "is mounted below a directory that was unmounted",
            "mount the directory again; the next update decides",
            partial(repair.revive_directory, parent.id),
        )


def is_being_dropped(survey: Survey) -> bool:
    root = survey.node_at(rows.ROOT_PARENT_ID, b"")
    return root is not None and _is_dropped(root)


def _is_dropped(node: Node) -> bool:
    return node.kind == NodeKind.BEING_DROPPED


def _is_key(key: bytes) -> bool:
    decode_key(key)
    return True


def _is_empty(survey: Survey, node: Node) -> bool:
    return next(survey.snapshot.scan(rows.existence_prefix(node.id)), None) is None


def check_names(survey: Survey) -> Iterator[Finding]:
    for row_key, _ in survey.scan(b"N"):
        node_id = rows.unpack_id(row_key)
        place = survey.place_of(node_id)
        if len(row_key) != 9 or place is None:
            yield violation("rows", f"name row #{row_key.hex()}", "can't be read")
        elif node_id not in survey.nodes:
            yield violation(
                "I1",
                survey.path_at(*place),
                "a node without existence row still has its name",
                "remove the name",
                repair.delete_rows(row_key),
            )
        elif (node := survey.node_at(*place)) is None or node.id != node_id:
            yield violation(
                "I1",
                survey.path_at(*place),
                f"node #{node_id} has the name of another place",
                "correct the name",
                partial(repair.reattach, node_id),
            )


# --- tombstones ----------------------------------------------------------------------------------


def check_tombstones(survey: Survey) -> Iterator[Finding]:
    for row_key, value in survey.scan(b"T"):
        row = readable(read_tombstone, value)
        if len(row_key) != 17 or row is None or readable(decode_path, row.relative_path) is None:
            yield violation("rows", f"tombstone #{row_key.hex()}", "can't be read")
            continue
        owner_id, dead_id = rows.unpack_id(row_key[:9]), rows.unpack_id(row_key)
        where = survey.path_at(row.parent_id, row.key)
        node = survey.node_at(row.parent_id, row.key)
        if node is not None and node.id != dead_id:
            yield violation(
                "I6",
                where,
                f"the tombstone of component #{dead_id} is at the place of #{node.id}",
                "move it",
                partial(repair.rewrite_tombstone, row_key),
            )
        elif not _is_swept(survey, owner_id):
            yield violation(
                "I6",
                where,
                f"its tombstone belongs to component #{owner_id}, which will never sweep it",
                "move it",
                partial(repair.rewrite_tombstone, row_key),
            )
        else:
            yield unfinished("I6", where, "waits to be cleaned up by the next update")
            yield from _memos_over_tombstone(survey, owner_id, where)


def _is_swept(survey: Survey, owner_id: int) -> bool:
    """Whether some update will look at the tombstones of ``owner_id``."""
    if owner_id in survey.tombstoned or owner_id == rows.ROOT_PARENT_ID:
        return True
    return owner_id in survey.components


def _memos_over_tombstone(survey: Survey, owner_id: int, where: str) -> Iterator[Finding]:
    if owner_id == rows.ROOT_PARENT_ID:
        return
    place = survey.place_of(owner_id)
    for node_id in survey.lineage(owner_id, 0 if place is None else place[0]):
        key = rows.component_memo_key(node_id)
        if survey.snapshot.get(key) is not None and node_id not in survey.reported:
            survey.reported.add(node_id)
            yield violation(
                "I4",
                survey.path_of(node_id),
                f"its memo covers {where}, which waits to be cleaned up",
                "remove the memo",
                repair.delete_rows(key),
            )
