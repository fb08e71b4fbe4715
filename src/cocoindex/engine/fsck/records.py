"""What components keep: tracked items and their owners, memos, user state (I1 to I6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from cocoindex.core.keys import decode_key, encode_key, key_segment
from cocoindex.core.serde import deserialize
from cocoindex.engine import rows
from cocoindex.engine.fsck import repair
from cocoindex.engine.fsck.finding import Finding, unfinished, violation
from cocoindex.engine.fsck.survey import (
    Survey,
    hex_path,
    read_tracking,
    readable,
    target_text,
)
from cocoindex.engine.rows import Item, ItemGroup, TrackingRow

UNNAMED: Final = encode_key(None)
"""The sequence that remembered ids are taken from."""

_PARTITION = 500_000
"""Owner rows that are compared at once when some are dangling."""


@dataclass(slots=True)
class Owned:
    """How many owner rows the tracked items account for."""

    count: int = 0


# --- tracked items -------------------------------------------------------------------------------


def check_tracking(survey: Survey, owned: Owned) -> Iterator[Finding]:
    for row_key, value in survey.scan(b"K"):
        component_id = rows.unpack_id(row_key)
        survey.entries.add(component_id)
        row = readable(read_tracking, value)
        if row is None or len(row_key) != 9:
            yield violation("rows", f"component #{component_id}", "its tracking row can't be read")
            continue
        if row.is_memoized:
            survey.memoized.add(component_id)
        if row.has_memos:
            survey.with_memos.add(component_id)
        if row.has_state:
            survey.with_state.add(component_id)
        yield from _place_findings(survey, component_id, row)
        yield from _item_findings(survey, component_id, row, owned)


def _place_findings(survey: Survey, component_id: int, row: TrackingRow) -> Iterator[Finding]:
    node = survey.node_at(row.parent_id, row.key)
    where = partial(survey.path_at, row.parent_id, row.key)
    if component_id not in survey.nodes:
        yield violation(
            "I6" if component_id not in survey.tombstoned else "I1",
            where(),
            "has records, but no existence row",
            "let the next update delete what it tracks",
            partial(repair.adopt_orphan, component_id),
        )
    elif node is None or node.id != component_id:
        yield violation(
            "I1",
            where(),
            f"component #{component_id} stands elsewhere than its tracking row says",
            "correct the tracking row",
            partial(repair.correct_place, component_id),
        )
    elif not node.is_component and component_id not in survey.tombstoned:
        yield violation(
            "I6",
            where(),
            "is a directory now, but its records as a component have no tombstone",
            "add the tombstone",
            partial(repair.bury, row.parent_id, row.key),
        )


def _item_findings(
    survey: Survey, component_id: int, row: TrackingRow, owned: Owned
) -> Iterator[Finding]:
    me = rows.pack_id(component_id)
    seen: set[bytes] = set()
    for group in row.groups:
        yield from _generation_findings(survey, row, group)
        target_path = rows.target_path_of(group.path)
        for item in group.items():
            path = target_path + key_segment(item.key)
            if not item.is_settled:
                yield from _unsettled(survey, component_id, row, group, item)
            if path in seen:
                continue
            seen.add(path)
            owner = survey.snapshot.get(rows.owner_key(path))
            if owner == me:
                owned.count += 1
            else:
                yield _not_owned(
                    survey, component_id, path, target_text(group.path, item.key), owner
                )


def _not_owned(
    survey: Survey, component_id: int, path: bytes, where: str, owner: bytes | None
) -> Finding:
    mine = survey.path_of(component_id)
    if owner is None:
        problem = f"tracked by {mine}, but has no owner row"
    else:
        problem = f"tracked by {mine}, but owned by {survey.path_of(rows.unpack_id(owner))}"
    return violation(
        "I2",
        where,
        problem,
        "give it to the one that tracks it, or leave it to its owner if both do",
        partial(repair.claim_item, component_id, path),
    )


def _generation_findings(survey: Survey, row: TrackingRow, group: ItemGroup) -> Iterator[Finding]:
    ids = [item.generation[0] for item in group.others if item.generation is not None]
    if group.provider_id is not None:
        ids.append(group.provider_id)
    if ids and max(ids) >= survey.provider_limit > 0 and max(ids) > 0:
        yield violation(
            "I5",
            survey.path_at(row.parent_id, row.key),
            f"uses provider id {max(ids)}, but the next one given out is {survey.provider_limit}",
            "raise the counter",
            partial(repair.raise_counter, "provider", max(ids) + 1),
        )


def _unsettled(
    survey: Survey, component_id: int, row: TrackingRow, group: ItemGroup, item: Item
) -> Iterator[Finding]:
    survey.unsettled.add(component_id)
    where = target_text(group.path, item.key)
    yield unfinished("I3", where, f"has {len(item.states)} possible states")
    for node_id in survey.lineage(component_id, row.parent_id):
        key = rows.component_memo_key(node_id)
        if node_id in survey.reported or survey.snapshot.get(key) is None:
            continue
        survey.reported.add(node_id)
        yield violation(
            "I4",
            survey.path_of(node_id),
            f"its memo covers {where}, which is not settled",
            "remove the memo",
            repair.delete_rows(key),
        )


# --- owner rows ----------------------------------------------------------------------------------


def check_owners(survey: Survey, owned: Owned) -> Iterator[Finding]:
    """Owner rows without item. Items without owner row are found with the items: if all rows
    are accounted for by items, which were looked up one by one, there is nothing to search.
    """
    count = 0
    for row_key, value in survey.scan(rows.OWNER):
        if len(row_key) % 16 != 1 or len(row_key) == 1 or len(value) != 8:
            yield violation(
                "rows",
                f"owner row #{row_key[1:].hex()}",
                "can't be read",
                "remove it",
                repair.delete_rows(row_key),
            )
        else:
            count += 1
    if count != owned.count:
        parts = count // _PARTITION + 1
        for part in range(parts):
            yield from _dangling(survey, part, parts)


def _dangling(survey: Survey, part: int, parts: int) -> Iterator[Finding]:
    """Compare the owner rows of one partition with the items."""
    tracked: set[bytes] = set()
    for row_key, value in survey.scan(b"K"):
        row = readable(read_tracking, value)
        for group in [] if row is None else row.groups:
            target_path = rows.target_path_of(group.path)
            for item in group.items():
                path = target_path + key_segment(item.key)
                if _part_of(path, parts) == part:
                    tracked.add(path + row_key[1:])
    for row_key, value in survey.scan(rows.OWNER):
        path = row_key[1:]
        if not path or len(path) % 16 or _part_of(path, parts) != part:
            continue
        if path + value not in tracked:
            yield violation(
                "I2",
                hex_path(path),
                f"owned by {survey.path_of(rows.unpack_id(value))}, which does not track it",
                "remove the owner row",
                partial(repair.release_owner, path),
            )


def _part_of(path: bytes, parts: int) -> int:
    return int.from_bytes(path[-4:], "big") % parts


# --- memos and user state ------------------------------------------------------------------------


def check_component_memos(survey: Survey) -> Iterator[Finding]:
    for row_key, value in survey.scan(b"C"):
        component_id = rows.unpack_id(row_key)
        remove = repair.delete_rows(row_key)
        where = partial(survey.path_of, component_id)
        if len(row_key) != 9 or readable(rows.decode_component_memo, value) is None:
            yield violation("rows", where(), "its memo can't be read", "remove it", remove)
        elif component_id not in survey.nodes or component_id not in survey.entries:
            yield violation(
                "I1", where(), "has a memo, but no records of its own", "remove it", remove
            )
        elif component_id not in survey.memoized:
            yield violation(
                "I4",
                where(),
                "has a memo that its tracking row does not know of, so nobody would drop it",
                "remove it",
                remove,
            )


def check_function_memos(survey: Survey) -> Iterator[Finding]:
    settled: dict[bytes, bool] = {}
    current = -1
    for row_key, value in survey.scan(b"F"):
        remove = repair.delete_rows(row_key)
        if len(row_key) != 25:
            yield violation(
                "rows", f"memo #{row_key.hex()}", "its key is damaged", "remove it", remove
            )
            continue
        component_id = rows.unpack_id(row_key[:9])
        where = partial(survey.path_of, component_id)
        found = readable(_terms_of_page, value)
        if found is None:
            yield violation("rows", where(), "function memos can't be read", "remove them", remove)
            continue
        if component_id != current:
            current, settled = component_id, _settled_paths(survey, component_id)
            yield from _unknown_to_entry(survey, component_id, "function memos", row_key[:9])
        for row, terms in found:
            if any(settled.get(path) is False for path in terms.declared):
                yield unfinished(
                    "I4",
                    where(),
                    "a function memo covers an item that is not settled",
                    "remove it",
                    partial(repair.forget_function_memo, row_key[:9], row.fingerprint),
                )
            if terms.is_identity:
                yield from _identity_findings(survey, row, component_id)


def _terms_of_page(value: bytes) -> list[tuple[rows.FunctionMemoRow, rows.Terms]]:
    """The memos in a row. Raises ``ValueError`` if it is damaged."""
    found = [(row, rows.decode_terms(row.terms)) for row in rows.decode_function_memos(value)]
    if not found or any(len(terms.refs) % 16 for _, terms in found):
        raise ValueError
    return found


def _settled_paths(survey: Survey, component_id: int) -> dict[bytes, bool]:
    row = survey.tracking(component_id) if component_id in survey.unsettled else None
    return {
        rows.target_path_of(group.path) + key_segment(item.key): item.is_settled
        for group in ([] if row is None else row.groups)
        for item in group.items()
    }


def _unknown_to_entry(
    survey: Survey, component_id: int, what: str, prefix: bytes
) -> Iterator[Finding]:
    """Records that a deletion of their component would leave behind."""
    known = survey.with_memos if what == "function memos" else survey.with_state
    if component_id in known:
        return
    where = survey.path_of(component_id)
    if component_id in survey.entries:
        yield violation(
            "I6",
            where,
            f"has {what} that its tracking row does not know of",
            "note them there",
            partial(repair.note_records, component_id),
        )
    else:
        yield violation(
            "I1",
            where,
            f"has {what}, but no records of its own",
            "remove them",
            partial(repair.delete_below, prefix),
        )


def _identity_findings(
    survey: Survey, row: rows.FunctionMemoRow, component_id: int
) -> Iterator[Finding]:
    try:
        value = deserialize(row.value, int)
    except ValueError:
        return  # a UUID
    if value >= survey.sequence_limit:
        yield violation(
            "I5",
            survey.path_of(component_id),
            f"remembers id {value}, but the next one given out is {survey.sequence_limit}",
            "raise the sequence above the ids that are remembered",
            partial(repair.raise_sequence, UNNAMED, value + 1),
        )


def check_user_state(survey: Survey) -> Iterator[Finding]:
    current = -1
    for row_key, _ in survey.scan(b"U"):
        component_id = int.from_bytes(row_key[1:9], "big")
        kind, key = row_key[9:10], row_key[10:]
        if kind not in (rows.REGULAR_STATE, rows.LIVE_STATE) or readable(_is_key, key) is None:
            yield violation("rows", survey.path_of(component_id), "a state's key can't be read")
        elif component_id != current:
            current = component_id
            yield from _unknown_to_entry(survey, component_id, "user state", row_key[:9])


def _is_key(key: bytes) -> bool:
    decode_key(key)
    return True
