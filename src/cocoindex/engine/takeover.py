"""Ownership of target states: claims, and what a claim does to the previous owner.

A target path has one owner. A component that declares a path owned by another takes the item
over within its own pre-commit: the item moves with all its possible states, and everything
that would let the old owner believe in it (component memos) is dropped in the same batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from itertools import repeat
from typing import TYPE_CHECKING, Any

import msgspec

from cocoindex.engine import rows
from cocoindex.engine.entry import Entry, Group, GroupKey
from cocoindex.engine.rows import Item

if TYPE_CHECKING:
    from cocoindex.engine.protocol import Applying
    from cocoindex.engine.providers import TargetState
    from cocoindex.engine.run import Run


class MustWait(Exception):
    """A claimed item is being applied by its owner right now; plan again when it is done."""

    def __init__(self, owner: Applying) -> None:
        super().__init__()
        self.owner = owner


class Takeovers(msgspec.Struct, eq=False):
    """The claims of one submission. Nothing changes anywhere before :meth:`apply`."""

    _run: Run
    _entry: Entry
    _claims: list[bytes] = msgspec.field(default_factory=list)
    _owner_ids: dict[bytes, int] = msgspec.field(default_factory=dict)
    """Of items that others own, by the key of their owner row."""
    _owners: dict[int, Entry] = msgspec.field(default_factory=dict)
    _taken: list[tuple[int, GroupKey, bytes]] = msgspec.field(default_factory=list)

    def claim_new(self, target_path: bytes) -> None:
        """This component begins to track ``target_path``."""
        self._claims.append(target_path)

    def look_up(self, groups: Iterable[Group], taken: AbstractSet[bytes] | None) -> None:
        """Read who owns the untracked items of these groups, all at once.

        ``taken``: the owner rows that exist, if that is known.
        """
        if taken is not None and not taken:
            return
        keys: list[bytes] = []
        for group in groups:
            keys += (group.owner_keys or {}).values()
        if not keys or (taken is not None and taken.isdisjoint(keys)):
            return
        found = self._run.app.section.get_many(keys)
        if found.count(None) == len(found):
            return
        me = self._entry.component_id
        for key, raw in zip(keys, found, strict=True):
            if raw is not None and (owner_id := rows.unpack_id(raw)) != me:
                self._owner_ids[key] = owner_id

    def contested(self, group: Group) -> set[bytes]:
        """Keys of items that another component owns, of those that were looked up."""
        if not self._owner_ids:
            return set()
        return {key for key, row in (group.owner_keys or {}).items() if row in self._owner_ids}

    def claim(self, declaration: TargetState[Any], current: Group) -> Item | None:
        """Take a declared item over, if another component tracks it (see :meth:`look_up`)."""
        target_path = declaration.target_path
        owner_id = self._owner_ids.get(rows.owner_key(target_path))
        if owner_id is None:
            return None
        kept: Item | None = None
        for group, item in list(self._owner(owner_id).at(target_path)):
            self._check_idle(owner_id, item)
            key = group.group_key
            self._taken.append((owner_id, key, item.key))
            if self._is_declared_by(owner_id, key, item.key):
                self._warn_contested(owner_id, declaration)
            if key == current.group_key:
                kept = _renumbered(item)
        self._claims.append(target_path)
        return kept

    def claim_below(self, container: bytes) -> None:
        """Take over everything tracked below a container, whoever tracks it."""
        found = self._run.app.section.scan(rows.owner_key(container))
        for row_key, raw in found:
            target_path = row_key[1:]
            owner_id = rows.unpack_id(raw)
            if target_path == container or owner_id == self._entry.component_id:
                continue
            found_items = list(self._owner(owner_id).at(target_path))
            for group, item in found_items:
                self._check_idle(owner_id, item)
                key = group.group_key
                self._taken.append((owner_id, key, item.key))
                self._entry.group(key).put(_renumbered(item))
            if found_items:  # else it is gone: in a drop, owner rows go last
                self._claims.append(target_path)

    def tracks_below(self, container: bytes) -> bool:
        """Whether anything is tracked strictly below ``container``."""
        found = self._run.app.section.scan(rows.owner_key(container), limit=2)
        return any(len(key) > len(container) + 1 for key, _ in found)

    def _owner(self, owner_id: int) -> Entry:
        in_flight = self._run.app.in_flight.get(owner_id)
        if in_flight is not None:
            return in_flight.entry
        known = self._owners.get(owner_id)
        if known is None:
            raw = self._run.app.section.get(rows.tracking_key(owner_id))
            known = self._owners[owner_id] = Entry(owner_id, raw, 0, b"")
        return known

    def _check_idle(self, owner_id: int, item: Item) -> None:
        in_flight = self._run.app.in_flight.get(owner_id)
        if in_flight is not None and not item.is_settled:
            raise MustWait(in_flight)

    def _is_declared_by(self, owner_id: int, key: GroupKey, item_key: bytes) -> bool:
        """Whether the owner has declared the item in this run, and not just kept it for now."""
        if not self._run.has_decided(owner_id):  # it has yet to say what it declares
            return False
        undecided = self._run.undecided.get(owner_id)
        return undecided is None or item_key not in undecided.kept.get(key, ())

    def _warn_contested(self, owner_id: int, declaration: TargetState[Any]) -> None:
        what = str(declaration)
        self._run.warn_once(
            ("contested", what),
            "target state %s is declared by two components in one run: %s and %s; "
            "the later claim wins, and they will overwrite each other on every run",
            what,
            self._run.path_text(owner_id),
            self._run.path_text_of(self._entry),
        )

    # --- effects -----------------------------------------------------------------------------

    def apply(self) -> None:
        """Remove what was taken from its previous owners."""
        if not self._taken:
            return
        self._run.app.takeovers += 1
        for owner_id, group_key, item_key in self._taken:
            self._owner(owner_id).group(group_key).remove(item_key)
        for owner_id in {taken[0] for taken in self._taken if self._is_declared_by(*taken)}:
            self._run.spoil_memos(owner_id)

    def rows(self) -> list[tuple[bytes, bytes | None]]:
        """Owner claims, the previous owners' new entries, and their memos gone."""
        me = rows.pack_id(self._entry.component_id)
        batch: list[tuple[bytes, bytes | None]]
        batch = [(rows.owner_key(path), me) for path in self._claims]
        for group in self._entry.groups.values():
            if group.owner_keys:
                new: Iterable[bytes] = group.owner_keys.values()
                if group.owner_keys.keys() != group.unsure.keys():
                    new = [row for key, row in group.owner_keys.items() if key in group.unsure]
                batch += zip(new, repeat(me))
                group.owner_keys = None  # a component may wait for long from here on
        if not self._taken:
            return batch
        for owner_id in {owner_id for owner_id, _, _ in self._taken}:
            batch.append((rows.tracking_key(owner_id), self._owner(owner_id).encode()))
            batch += [
                (rows.component_memo_key(node_id), None) for node_id in self._run.lineage(owner_id)
            ]
        return batch


def _renumbered(item: Item) -> Item:
    """A copy with all versions 0: the old owner's numbering is unrelated to the new one's."""
    return Item(
        item.key,
        tuple((0, payload) for _, payload in item.states),
        item.schema_version,
        item.generation,
        item.children_first,
    )


__all__ = ["MustWait", "Takeovers"]
