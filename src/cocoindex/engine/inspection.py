"""Reading an app's persisted state: paths, details, target states. Snapshots only."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from cocoindex.core.keys import (
    StableKey,
    decode_key,
    decode_path,
    encode_key,
    key_segment,
    path_text,
)
from cocoindex.core.paths import StablePath
from cocoindex.engine import rows
from cocoindex.engine.rows import Item, Node
from cocoindex.errors import StoreFormatError
from cocoindex.state.base import SectionSnapshot

Keys = tuple[StableKey, ...]


class StablePathNodeType(StrEnum):
    """What stands at a path."""

    DIRECTORY = "Directory"
    COMPONENT = "Component"

    @classmethod
    def directory(cls) -> StablePathNodeType:
        return cls.DIRECTORY

    @classmethod
    def component(cls) -> StablePathNodeType:
        return cls.COMPONENT


class StablePathInfo(NamedTuple):
    """A path of an app and what stands there."""

    path: StablePath
    node_type: StablePathNodeType


class StateSummary(NamedTuple):
    """One possible state of a target state: ``Existing`` or ``Deleted``."""

    version: int
    state: str


class ProviderGeneration(NamedTuple):
    """Generation of a container's child provider."""

    provider_id: int
    provider_schema_version: int


class TargetStateItem(NamedTuple):
    """One tracked target state of a component."""

    target_state_path: str
    fingerprint_path: str
    key: StableKey
    states: list[StateSummary]
    provider_schema_version: int
    provider_generation: ProviderGeneration | None


class StablePathDetail(NamedTuple):
    """Everything stored about one path."""

    path: StablePath
    node_type: StablePathNodeType
    version: int
    processor_name: str
    target_state_count: int
    has_memoization: bool
    target_state_items: list[TargetStateItem]


class TargetStateEntry(NamedTuple):
    """One owned target path.

    ``dangling``: its owner does not track it (an inconsistency).
    """

    fingerprint_path: str
    readable_path: str
    readable_segments: list[str]
    owner_component_path: str
    dangling: bool


class _Place(NamedTuple):
    keys: Keys
    node: Node


def walk(snapshot: SectionSnapshot) -> Iterator[_Place]:
    """Every node, depth-first in key order; directories only with something below them."""
    raw = snapshot.get(rows.existence_key(rows.ROOT_PARENT_ID, b""))
    if raw is None:
        return
    root = rows.decode_node(raw)
    yield _Place((), root)
    yield from _walk_below(snapshot, (), root)


def _walk_below(snapshot: SectionSnapshot, keys: Keys, node: Node) -> Iterator[_Place]:
    if not node.has_children:
        return
    for row_key, value in snapshot.scan(rows.existence_prefix(node.id)):
        child = rows.decode_node(value)
        if child.id <= node.id:
            raise StoreFormatError(
                f"the component tree below {path_text(keys)} is damaged. Check the store with "
                "'cocoindex state fsck'."
            )
        path = (*keys, decode_key(rows.child_key(row_key)))
        below = _walk_below(snapshot, path, child)
        if not child.is_component:
            first = next(below, None)
            if first is None:
                continue
            yield _Place(path, child)
            yield first
        else:
            yield _Place(path, child)
        yield from below


def find(snapshot: SectionSnapshot, keys: Keys) -> _Place | None:
    """The node at a path, if there is one."""
    raw = snapshot.get(rows.existence_key(rows.ROOT_PARENT_ID, b""))
    for key in keys:
        if raw is None:
            return None
        raw = snapshot.get(rows.existence_key(rows.decode_node(raw).id, encode_key(key)))
    return None if raw is None else _Place(keys, rows.decode_node(raw))


def below(snapshot: SectionSnapshot, place: _Place, *, recursive: bool) -> Iterator[_Place]:
    """Nodes below ``place``, all or direct children only."""
    for found in _walk_below(snapshot, place.keys, place.node):
        if recursive or len(found.keys) == len(place.keys) + 1:
            yield found


def node_type(node: Node) -> StablePathNodeType:
    return StablePathNodeType.COMPONENT if node.is_component else StablePathNodeType.DIRECTORY


def info(place: _Place) -> StablePathInfo:
    return StablePathInfo(StablePath(place.keys), node_type(place.node))


def detail(snapshot: SectionSnapshot, place: _Place) -> StablePathDetail:
    raw = snapshot.get(rows.tracking_key(place.node.id))
    has_memo = snapshot.get(rows.component_memo_key(place.node.id)) is not None
    path, kind = StablePath(place.keys), node_type(place.node)
    if raw is None:
        return StablePathDetail(path, kind, 0, "", 0, has_memo, [])
    row = rows.decode_tracking(raw)
    items = [
        _item(group.path, group.provider_id, item)
        for group in row.groups
        for item in group.items(row.version)
    ]
    return StablePathDetail(
        path, kind, row.version, row.processor, len(items), has_memo or row.has_memos, items
    )


def _item(path: bytes, provider_id: int | None, item: Item) -> TargetStateItem:
    key = decode_key(item.key)
    text = path_text((*decode_path(path), key))
    if provider_id is not None:
        text += f"[provider_id={provider_id}]"
    return TargetStateItem(
        text,
        fingerprint_text(rows.target_path_of(path) + key_segment(item.key)),
        key,
        [
            StateSummary(v, "Deleted" if payload is None else "Existing")
            for v, payload in item.states
        ],
        item.schema_version,
        None if item.generation is None else ProviderGeneration(*item.generation),
    )


def fingerprint_text(target_path: bytes) -> str:
    segments = (target_path[i : i + 16] for i in range(0, len(target_path), 16))
    return "".join(f"/#{segment.hex()}" for segment in segments)


# --- target states -----------------------------------------------------------------------------


def target_states(snapshot: SectionSnapshot) -> Iterator[TargetStateEntry]:
    """Every owner row, with readable keys taken from its owner's tracking entry."""
    owners = _Owners(snapshot)
    for row_key, value in snapshot.scan(rows.OWNER):
        yield owners.entry(row_key[1:], rows.unpack_id(value))


class _Owners:
    """Remembers the last owners looked at: neighbouring rows mostly share them."""

    MAX_REMEMBERED = 1024

    def __init__(self, snapshot: SectionSnapshot) -> None:
        self._snapshot = snapshot
        self._readable: dict[int, dict[bytes, Keys]] = {}

    def entry(self, target_path: bytes, owner_id: int) -> TargetStateEntry:
        keys = self._of(owner_id).get(target_path)
        segments = (
            [path_text((key,))[1:] for key in keys]
            if keys is not None
            else [f"#{target_path[i : i + 16].hex()}" for i in range(0, len(target_path), 16)]
        )
        return TargetStateEntry(
            fingerprint_text(target_path),
            "".join(f"/{segment}" for segment in segments),
            segments,
            component_path_text(self._snapshot, owner_id),
            keys is None,
        )

    def _of(self, owner_id: int) -> dict[bytes, Keys]:
        known = self._readable.get(owner_id)
        if known is None:
            if len(self._readable) >= self.MAX_REMEMBERED:
                self._readable.clear()
            known = self._readable[owner_id] = self._load(owner_id)
        return known

    def _load(self, owner_id: int) -> dict[bytes, Keys]:
        raw = self._snapshot.get(rows.tracking_key(owner_id))
        if raw is None:
            return {}
        return {
            rows.target_path_of(group.path) + key_segment(item.key): (
                *decode_path(group.path),
                decode_key(item.key),
            )
            for group in rows.decode_tracking(raw).groups
            for item in group.items()
        }


def component_path_text(snapshot: SectionSnapshot, component_id: int) -> str:
    """The readable path of a component by its id."""
    raw = snapshot.get(rows.tracking_key(component_id))
    if raw is None:
        return f"#{component_id}"
    row = rows.decode_tracking(raw)
    keys = [row.key]
    parent_id = row.parent_id
    while parent_id != rows.ROOT_PARENT_ID:
        raw = snapshot.get(rows.node_key(parent_id))
        # A parent is older than its children: else the names go round in a circle.
        if raw is None or rows.decode_place(raw)[0] >= parent_id:
            break
        parent_id, key = rows.decode_place(raw)
        keys.append(key)
    return path_text([decode_key(key) for key in reversed(keys) if key])
