"""A component's tracking entry in memory: its items, grouped by provider."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from cocoindex.core.keys import decode_key, decode_path, key_segment, path_text
from cocoindex.engine import rows
from cocoindex.engine.rows import Item, ItemGroup, TrackingRow
from cocoindex.errors import StoreFormatError

GroupKey = tuple[bytes, int | None]
"""Encoded key chain of the provider, and its provider id."""


class Group(msgspec.Struct, eq=False, gc=False):
    """The tracked items below one provider (one generation of it)."""

    path: bytes
    provider_id: int | None
    target_path: bytes
    items: dict[bytes, Item] = msgspec.field(default_factory=dict)
    _by_segment: dict[bytes, bytes] = msgspec.field(default_factory=dict)

    def at_segment(self, segment: bytes) -> Item | None:
        """The item whose target path ends with ``segment``."""
        if segment not in self._by_segment and len(self._by_segment) < len(self.items):
            self._by_segment = {key_segment(key): key for key in self.items}
        key = self._by_segment.get(segment)
        return None if key is None else self.items.get(key)

    def path_of(self, key: bytes) -> bytes:
        return self.target_path + key_segment(key)

    def __str__(self) -> str:
        return path_text(decode_path(self.path))

    def text_of(self, key: bytes) -> str:
        return path_text((*decode_path(self.path), decode_key(key)))


class Entry(msgspec.Struct, eq=False, gc=False):
    """The working copy of a tracking row."""

    component_id: int
    raw: bytes | None
    parent_id: int
    key: bytes
    existed: bool = True
    version: int = 0
    processor: str = ""
    is_memoized: bool = False
    has_memos: bool = False
    has_state: bool = False
    groups: dict[GroupKey, Group] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.raw is None:
            self.existed = False
        else:
            self._decode(self.raw)

    def _decode(self, raw: bytes) -> None:
        try:
            row = rows.decode_tracking(raw)
        except StoreFormatError as error:
            raise StoreFormatError(f"component {self.component_id}: {error}") from error
        self.version = row.version
        self.processor = row.processor
        self.parent_id = row.parent_id
        self.key = row.key
        self.is_memoized = row.is_memoized
        self.has_memos = row.has_memos
        self.has_state = row.has_state
        for stored in row.groups:
            group = self.group((stored.path, stored.provider_id))
            group.items = {item.key: item for item in stored.items}

    def encode(self) -> bytes:
        return rows.encode(
            TrackingRow(
                self.version,
                self.processor,
                self.parent_id,
                self.key,
                self.is_memoized,
                self.has_memos,
                self.has_state,
                [
                    ItemGroup(group.path, group.provider_id, list(group.items.values()))
                    for group in self.groups.values()
                    if group.items
                ],
            )
        )

    def group(self, key: GroupKey) -> Group:
        found = self.groups.get(key)
        if found is None:
            found = self.groups[key] = Group(*key, rows.target_path_of(key[0]))
        return found

    def find(self, key: GroupKey, item_key: bytes) -> Item | None:
        group = self.groups.get(key)
        return None if group is None else group.items.get(item_key)

    def at(self, target_path: bytes) -> Iterator[tuple[Group, Item]]:
        """Items at a target path, of whatever provider generation."""
        prefix, segment = target_path[:-16], target_path[-16:]
        for group in self.groups.values():
            if group.target_path == prefix:
                item = group.at_segment(segment)
                if item is not None:
                    yield group, item

    def settled_paths(self) -> dict[bytes, bool]:
        """Every tracked target path, and whether its item is settled."""
        paths: dict[bytes, bool] = {}
        for group in self.groups.values():
            for item in group.items.values():
                path = group.path_of(item.key)
                paths[path] = item.is_settled and paths.get(path, True)
        return paths
