"""A component's tracking entry in memory: its items, grouped by provider."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from cocoindex.core.keys import decode_key, decode_path, key_segment, path_text
from cocoindex.engine import rows
from cocoindex.engine.rows import ABSENT, Item, ItemGroup, TrackingRow
from cocoindex.errors import StoreFormatError

if TYPE_CHECKING:
    from cocoindex.engine.declarations import Stretch

GroupKey = tuple[bytes, int | None]
"""Encoded key chain of the provider, and its provider id."""


class Group(msgspec.Struct, eq=False, gc=False):
    """The tracked items below one provider (one generation of it).

    An item stands in one place only. Where it is as good as its record it is no object, so that
    a run over many of them has nothing to make.

    Attributes:
        settled: records of items that are in one state, are no containers, and have
            ``schema_version``.
        unsure: the same for items that come or go with this submission: until its sinks have
            succeeded, they may be there or not.
        changing: the records that settled items get with this submission; until its sinks have
            succeeded, they may have either.
        others: all other items.
        owner_keys: keys of the owner rows of declared items that were not tracked, by key.
        version: of the entry as it was read.
    """

    path: bytes
    provider_id: int | None
    version: int
    target_path: bytes
    schema_version: int = 0
    settled: dict[bytes, bytes] = msgspec.field(default_factory=dict)
    unsure: dict[bytes, bytes] = msgspec.field(default_factory=dict)
    changing: dict[bytes, bytes] = msgspec.field(default_factory=dict)
    others: dict[bytes, Item] = msgspec.field(default_factory=dict)
    owner_keys: dict[bytes, bytes] | None = None
    _by_segment: dict[bytes, bytes] | None = None

    @property
    def group_key(self) -> GroupKey:
        """Under which the entry has it."""
        return self.path, self.provider_id

    def read(self, stored: ItemGroup) -> None:
        self.schema_version = stored.schema_version
        self.settled = stored.settled
        stored.settled = {}
        if stored.unsure or stored.others:
            self.others = {item.key: item for item in stored.items(self.version)}

    def stored(self) -> ItemGroup:
        settled, others = self.settled, [*self.others.values()]
        if self.changing:
            settled = {k: record for k, record in settled.items() if k not in self.changing}
            others += [self._changing(key) for key in self.changing]
        return ItemGroup(
            self.path, self.provider_id, self.schema_version, settled, self.unsure, others
        )

    def __len__(self) -> int:
        return len(self.settled) + len(self.unsure) + len(self.others)

    def __contains__(self, key: bytes) -> bool:
        return key in self.settled or key in self.unsure or key in self.others

    def keys(self) -> Iterator[bytes]:
        return chain(self.settled, self.unsure, self.others)

    def get(self, key: bytes) -> Item | None:
        """The item of this key; put it back after a change."""
        if key in self.changing:
            return self._changing(key)
        record = self.settled.get(key)
        if record is not None:
            return Item(key, ((self.version, record),), self.schema_version)
        record = self.unsure.get(key)
        if record is not None:
            return Item(key, (ABSENT, (self.version, record)), self.schema_version)
        return self.others.get(key)

    def _changing(self, key: bytes) -> Item:
        now, then = (self.version, self.settled[key]), (self.version + 1, self.changing[key])
        return Item(key, (now, then), self.schema_version)

    def put(self, item: Item) -> None:
        """Track an item as it is now."""
        self.remove(item.key)
        record = item.states[0][1] if len(item.states) == 1 else None
        if record is None or item.is_container or item.schema_version != self.schema_version:
            self.others[item.key] = item
        else:
            self.settled[item.key] = record

    def remove(self, key: bytes) -> bool:
        """Track an item no more; whether it was."""
        self.changing.pop(key, None)
        return (
            self.settled.pop(key, None) is not None
            or self.others.pop(key, None) is not None
            or self.unsure.pop(key, None) is not None
        )

    def use_schema_version(self, schema_version: int) -> None:
        """From here on, items settle with this schema version."""
        for key in self.settled:
            item = self.get(key)
            assert item is not None
            self.others[key] = item
        self.settled = {}
        self.schema_version = schema_version

    def note_untracked(self, declared: Stretch) -> None:
        """Of what is declared here, note what is new."""
        settled, others = self.settled, self.others
        if not settled and not others:
            self.owner_keys = declared.owner_keys()
            return
        prefix = rows.owner_key(self.target_path)
        self.owner_keys = {
            key: prefix + key_segment(key)
            for key in declared.known
            if key not in settled and key not in others
        }

    def arrive(self) -> None:
        """What was unsure is there, and what was changing has changed."""
        if self.changing:
            self.settled.update(self.changing)
            self.changing = {}
        if not self.settled:
            self.settled, self.unsure = self.unsure, self.settled
        elif self.unsure:
            self.settled.update(self.unsure)
            self.unsure = {}

    def at_segment(self, segment: bytes) -> Item | None:
        """The item whose target path ends with ``segment``."""
        known = self._by_segment or {}
        if segment not in known and len(known) < len(self):
            known = self._by_segment = {key_segment(key): key for key in self.keys()}
        key = known.get(segment)
        return None if key is None else self.get(key)

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
        row = tracked_by(self.component_id, raw)
        self.version = row.version
        self.processor = row.processor
        self.parent_id = row.parent_id
        self.key = row.key
        self.is_memoized = row.is_memoized
        self.has_memos = row.has_memos
        self.has_state = row.has_state
        for stored in row.groups:
            self.group((stored.path, stored.provider_id)).read(stored)

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
                [group.stored() for group in self.groups.values() if len(group)],
            )
        )

    def group(self, key: GroupKey) -> Group:
        found = self.groups.get(key)
        if found is None:
            found = self.groups[key] = Group(*key, self.version, rows.target_path_of(key[0]))
        return found

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
            for key in group.keys():  # noqa: SIM118 - no dictionary
                path, other = group.path_of(key), group.others.get(key)
                is_settled = key in group.settled and key not in group.changing
                is_settled |= other is not None and other.is_settled
                paths[path] = is_settled and paths.get(path, True)
        return paths


def tracked_by(component_id: int, raw: bytes) -> TrackingRow:
    """A component's tracking row, decoded; raises ``StoreFormatError`` if it is damaged."""
    try:
        return rows.decode_tracking(raw)
    except StoreFormatError as error:
        raise StoreFormatError(f"component {component_id}: {error}") from error
