"""The tree of paths below one component: what this execution mounts, against what is stored.

A component owns the paths below it down to, not into, other components. Each directory level
is loaded with one range read when it is first touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cocoindex.core.keys import StableKey, decode_key, decode_path, encode_key, encode_path
from cocoindex.core.keys import path_text as text_of
from cocoindex.engine import rows
from cocoindex.engine.rows import COMPONENT, DIRECTORY, Node, NodeKind
from cocoindex.errors import DuplicateError, UsageValueError

if TYPE_CHECKING:
    from cocoindex.engine.app_state import AppState
    from cocoindex.state.base import Section

Batch = list[tuple[bytes, bytes | None]]


class Level:
    """One directory level of the tree: a node, its stored children and its mounted ones."""

    __slots__ = ("found", "mounted", "node_id", "stored")

    def __init__(self, node_id: int, stored: dict[bytes, bytes]) -> None:
        self.node_id = node_id
        self.stored = stored
        """Existence rows, by encoded key. Most are mounted again, and never decoded."""
        self.mounted: dict[bytes, Level | None] = {}
        """By encoded key: the level below a directory, or None for a component."""
        self.found = 0
        """How many of ``mounted`` were stored and alive before."""

    def claim(self, key: bytes) -> bool:
        """Claim the path of a component; False if it is taken.

        Next comes its :meth:`MountTree.place`; or, if what is stored there stays as it is, just
        one more of :attr:`found`.
        """
        if key in self.mounted:
            return False
        self.mounted[key] = None
        return True

    def node(self, key: bytes) -> Node | None:
        """The stored node at ``key``."""
        row = self.stored.get(key)
        return None if row is None else rows.decode_node(row)

    def count(self, kind: int) -> int:
        """How many of the stored nodes are of a kind."""
        return sum(rows.kind_of(row) == kind for row in self.stored.values())

    def unmounted(self) -> list[tuple[bytes, Node]]:
        if self.found == len(self.stored):
            return []
        left = ((k, rows.decode_node(v)) for k, v in self.stored.items() if k not in self.mounted)
        return [(key, node) for key, node in left if node.is_live]

    def dead_directories(self) -> list[tuple[bytes, Node]]:
        if self.found == len(self.stored):
            return []
        nodes = ((key, rows.decode_node(row)) for key, row in self.stored.items())
        return [(key, node) for key, node in nodes if node.kind == NodeKind.DEAD_DIRECTORY]


class Place(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Where a mounted component stands."""

    node: Node
    parent_id: int
    key: bytes
    is_fresh: bool
    """Nothing can be stored for it yet."""


class Removed(msgspec.Struct, frozen=True):
    """A stored node that this execution did not mount (or mounts as a directory now)."""

    parent_id: int
    key: bytes
    node: Node
    relative_path: bytes
    demoted: bool = False


class EachCall:
    """One ``mount_each`` call: which of its stored children must not be judged as removed."""

    __slots__ = ("unlisted",)

    def __init__(self) -> None:
        self.unlisted: list[Callable[[Any], bool]] = []

    def is_unlisted(self, key: bytes) -> bool:
        return any(match(decode_key(key)) for match in self.unlisted)


class Withheld(NamedTuple):
    """Removals that the deletion guard did not let through."""

    relative_path: tuple[StableKey, ...]
    removed: int
    had: int


Guard = Callable[[int, int], bool]
"""``(removed, had) -> withhold``."""


class ExistenceDiff:
    """What an execution's commit does to the nodes below it."""

    def __init__(self) -> None:
        self.removed: list[Removed] = []
        self.hollow: Batch = []
        """The deletion of directories below which nothing stands."""
        self.withheld: list[Withheld] = []
        self.kept_any = False


class MountTree:
    """Existence bookkeeping of one execution."""

    __slots__ = ("_app", "_own", "each", "root")

    def __init__(self, app: AppState, own: Place) -> None:
        self._app = app
        self._own = own
        self.root: Level | None = None
        self.each: dict[bytes, EachCall] = {}

    def claim(self, keys: Sequence[StableKey], where: Callable[[], str]) -> Place:
        """Mount a component at ``keys`` below this one.

        Raises:
            ValueError: the path is empty or collides with another mount of this execution.
        """
        if not keys:
            raise UsageValueError(f"Path is empty: a component below {where()} needs a subpath")
        level, encoded = self.level(keys[:-1], where), encode_key(keys[-1])
        if not level.claim(encoded):
            raise self.taken(keys, where)
        return self.place(level, encoded)

    def level(self, keys: Sequence[StableKey], where: Callable[[], str]) -> Level:
        """The directory level at ``keys``; raises like :meth:`claim`."""
        level = self._root_level()
        for position, key in enumerate(keys):
            level = self._enter(level, key, keys[: position + 1], where)
        return level

    def taken(self, keys: Sequence[StableKey], where: Callable[[], str]) -> DuplicateError:
        """What to raise about a path that is taken."""
        return DuplicateError(
            f"component path {_text(where, keys)} already exists: "
            "it was mounted, or used as a directory, earlier in this run"
        )

    def each_call(self, keys: Sequence[StableKey]) -> EachCall:
        """Note that ``mount_each`` is called with this path (even if it lists nothing)."""
        return self.each.setdefault(encode_path(keys), EachCall())

    # --- existence rows ----------------------------------------------------------------------

    def _load(self, node: Node) -> Level:
        if not node.has_children:
            return Level(node.id, {})
        found = self._app.section.scan(rows.existence_prefix(node.id))
        stored = {rows.child_key(key): value for key, value in found}
        rows.check_nodes(node.id, stored.values())
        return Level(node.id, stored)

    def _root_level(self) -> Level:
        if self.root is None:
            own = self._own
            raw = self._app.section.get(rows.existence_key(own.parent_id, own.key))
            node = own.node if raw is None else rows.decode_node(raw)
            self.root = self._load(node)
            if not node.has_children:
                self._write_parent(own.parent_id, own.key, node)
        return self.root

    def _enter(
        self, level: Level, key: StableKey, path: Sequence[StableKey], where: Callable[[], str]
    ) -> Level:
        encoded = encode_key(key)
        if encoded in level.mounted:
            below = level.mounted[encoded]
            if below is None:
                raise UsageValueError(
                    f"path {_text(where, path)} is not a directory: "
                    "it was mounted as a component in this run"
                )
            return below
        below = level.mounted[encoded] = self._load(self._ensure_directory(level, encoded))
        return below

    def place(self, level: Level, key: bytes) -> Place:
        """The place of a component whose path was claimed."""
        stored = level.node(key)
        if stored is None:  # its own rows will name it; without any, it leaves no trace
            node = Node(COMPONENT, self._app.new_node_id())
            return Place(node, level.node_id, key, True)
        level.found += stored.is_live
        if stored.kind == COMPONENT:
            return Place(stored, level.node_id, key, False)
        node = Node(COMPONENT, stored.id, stored.has_children)
        self._app.section.write([(rows.existence_key(level.node_id, key), node.encode())])
        return Place(node, level.node_id, key, False)

    def _ensure_directory(self, level: Level, key: bytes) -> Node:
        """The node of a directory, as it was stored before (which tells what to load).

        A component that becomes a directory keeps its kind until this execution commits.
        """
        stored = level.node(key)
        if stored is None:
            node = Node(DIRECTORY, self._app.new_node_id())
            self._write_parent(level.node_id, key, node)
            return node
        level.found += stored.is_live
        if stored.kind == COMPONENT:  # what stood here must not be reused as it was
            self._app.section.write([(rows.component_memo_key(stored.id), None)])
        node = stored if stored.is_live else Node(DIRECTORY, stored.id, True)
        if node is not stored or not stored.has_children:
            self._write_parent(level.node_id, key, node)
        return stored

    def _write_parent(self, parent_id: int, key: bytes, node: Node) -> None:
        """Rows of a node that gets children: its own, marked so, and its name by id."""
        marked = Node(node.kind, node.id, True)
        self._app.section.write(
            [
                (rows.existence_key(parent_id, key), marked.encode()),
                (rows.node_key(node.id), rows.place_row(parent_id, key)),
            ]
        )

    # --- existence diff ----------------------------------------------------------------------

    def diff(self, guard: Guard | None) -> ExistenceDiff:
        """Stored nodes that were not mounted, at any depth down to other components."""
        found = ExistenceDiff()
        if self.root is None:
            if not self._own.node.has_children:
                return found
            self.root = self._load(self._own.node)
        self._diff_level(self.root, b"", guard, found)
        return found

    def _diff_level(
        self, level: Level, path: bytes, guard: Guard | None, found: ExistenceDiff
    ) -> bool:
        """Collect removals below ``level``; return whether something unmounted was kept."""
        kept_any = False
        for key, below in level.mounted.items():
            if below is None:
                continue
            node = level.node(key)
            if node is not None and node.kind == COMPONENT:
                found.removed.append(Removed(level.node_id, key, node, path + key, True))
            kept_any |= self._diff_level(below, path + key, guard, found)
        for key, node in level.dead_directories():
            self._is_hollow(level, key, node, found)
        gone = level.unmounted()
        if gone:
            kept_any |= self._diff_unmounted(level, gone, path, guard, found)
        return kept_any

    def _diff_unmounted(
        self,
        level: Level,
        gone: list[tuple[bytes, Node]],
        path: bytes,
        guard: Guard | None,
        found: ExistenceDiff,
    ) -> bool:
        kept = self._kept_by_call(level, gone, path, guard, found)
        for key, node in gone:
            if key in kept or self._is_hollow(level, key, node, found):
                continue
            if node.kind == COMPONENT:
                found.removed.append(Removed(level.node_id, key, node, path + key))
            elif self._diff_level(self._load(node), path + key, guard, found):
                kept = kept | {key}
            else:
                found.removed.append(Removed(level.node_id, key, node, path + key))
        found.kept_any |= bool(kept)
        return bool(kept)

    def _is_hollow(self, level: Level, key: bytes, node: Node, found: ExistenceDiff) -> bool:
        """Whether a node is a directory without any component below it, which can go at once."""
        if node.is_component:
            return False
        place_key = rows.existence_key(level.node_id, key)
        removal = hollow_removal(self._app.section, place_key, node.id)
        found.hollow += removal or ()
        return removal is not None

    def _kept_by_call(
        self,
        level: Level,
        gone: list[tuple[bytes, Node]],
        path: bytes,
        guard: Guard | None,
        found: ExistenceDiff,
    ) -> set[bytes]:
        call = self.each.get(path)
        if call is None:
            return set()
        children = [key for key, node in gone if node.kind == COMPONENT]
        kept = {key for key in children if call.unlisted and call.is_unlisted(key)}
        removed = len(children) - len(kept)
        had = level.count(COMPONENT)
        if guard is not None and guard(removed, had):
            found.withheld.append(Withheld(decode_path(path), removed, had))
            return set(children)
        return kept


def hollow_rows(section: Section, node_id: int) -> Batch | None:
    """The deletion of everything below a node; None if a component is, or was, among it."""
    batch: Batch = []
    pending = [node_id]
    while pending:
        node_id = pending.pop()
        if section.get(rows.tracking_key(node_id)) is not None:
            return None  # a component once, and its records are still to be deleted
        for row_key, value in section.scan(rows.existence_prefix(node_id)):
            node = rows.decode_node_below(node_id, value)
            if node.is_component:
                return None
            batch += [(row_key, None), (rows.node_key(node.id), None)]
            pending.append(node.id)
    return batch


def hollow_removal(section: Section, place_key: bytes, node_id: int) -> Batch | None:
    """The deletion of a directory, if it is hollow (see :func:`hollow_rows`)."""
    below = hollow_rows(section, node_id)
    return None if below is None else [(place_key, None), (rows.node_key(node_id), None), *below]


def removal_rows(owner_id: int, removed: Removed) -> Batch:
    """Rows that turn a removed node into a dead one with a tombstone at ``owner_id``."""
    place = rows.existence_key(removed.parent_id, removed.key)
    node = removed.node
    if node.kind == DIRECTORY:
        return [(place, Node(NodeKind.DEAD_DIRECTORY, node.id, node.has_children).encode())]
    kind = DIRECTORY if removed.demoted else NodeKind.DEAD_COMPONENT
    tombstone = rows.TombstoneRow(removed.parent_id, removed.key, removed.relative_path)
    has_children = node.has_children or removed.demoted
    return [
        (place, Node(kind, node.id, has_children).encode()),
        (rows.tombstone_key(owner_id, node.id), rows.encode(tombstone)),
    ]


def _text(where: Callable[[], str], keys: Sequence[StableKey]) -> str:
    base = where()
    return ("" if base == "/" else base) + text_of(keys)
