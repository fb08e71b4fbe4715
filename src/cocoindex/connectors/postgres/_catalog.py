"""What the server says about a table."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from cocoindex.connectorkits.identifiers import quote
from cocoindex.connectorkits.tables import Existing, ExistingColumn, Table

__all__ = ["comment_of", "holds_values", "inspect", "is_alone", "lock", "qualified", "same_types"]

_INSPECT: Final = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type, NOT a.attnotnull AS nullable,
    a.atthasdef OR a.attidentity <> '' AS has_default,
    array_position(i.indkey::int2[], a.attnum) AS key_position,
    obj_description(c.oid, 'pg_class') AS comment
FROM pg_class c
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.oid = to_regclass($1)
ORDER BY a.attnum
"""

_UNIQUE: Final = """
SELECT array_agg(a.attname) AS columns
FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indimmediate
    AND NOT i.indisprimary AND i.indpred IS NULL AND i.indexprs IS NULL
    AND i.indnatts = i.indnkeyatts
GROUP BY i.indexrelid
"""

_IS_ALONE: Final = """
SELECT c.relkind IN ('r', 'p')
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE confrelid = c.oid AND contype = 'f')
    AND NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
            AND attgenerated = '' AND attname <> ALL ($2::text[])
    )
    AND NOT EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal AND tgtype & 8 <> 0
    )
    AND NOT EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid AND ev_type = '4')
FROM pg_class c WHERE c.oid = to_regclass($1)
"""

_MARK: Final = "cocoindex:"


def qualified(table: Table) -> str:
    """The table's name as statements use it."""
    return ".".join(quote(part) for part in table.path if part is not None)


async def lock(connection: Any, table: Table) -> None:
    """Be the only one who changes the table, until the transaction ends."""
    name = ".".join(part or "" for part in table.path)
    digest = blake2b(name.encode(), digest_size=8, person=b"coco.pg.ddl").digest()
    number = int.from_bytes(digest, "big", signed=True)
    await connection.execute(f"SELECT pg_advisory_xact_lock({number})")


async def inspect(connection: Any, table: Table) -> Existing | None:
    """The table as it stands, None if it does not."""
    rows = await connection.fetch(_INSPECT, qualified(table))
    if not rows:
        return None
    columns = {
        row["attname"]: ExistingColumn(row["type"], row["nullable"], row["has_default"])
        for row in rows
        if row["attname"] is not None
    }
    in_key = [row for row in rows if row["key_position"] is not None]
    key = tuple([row["attname"] for row in sorted(in_key, key=lambda row: row["key_position"])])
    comment, marker = _split(rows[0]["comment"] or "")
    unique = await connection.fetch(_UNIQUE, qualified(table))
    return Existing(
        columns,
        key,
        marker,
        detail=comment,
        unique=tuple(frozenset(row["columns"]) for row in unique),
    )


def _split(comment: str) -> tuple[str, str | None]:
    """What people wrote, and the marker below it."""
    start = comment.rfind(_MARK)
    if start < 0 or (start and comment[start - 1] != "\n"):
        return comment, None
    return comment[:start].rstrip("\n"), comment[start:]


def comment_of(existing: Existing | None, marker: str) -> str:
    """The comment that adds ``marker`` to what people wrote."""
    theirs = existing.detail if existing is not None else ""
    return f"{theirs}\n{marker}" if theirs else marker


async def is_alone(connection: Any, table: Table, names: Sequence[str]) -> bool:
    """Whether deleting a row and inserting it again does nothing else: no foreign key leads to the
    table, it has no other columns than these, and no trigger or rule waits for deletions.
    """
    return bool(await connection.fetchval(_IS_ALONE, qualified(table), list(names)))


async def holds_values(connection: Any, table: Table, column: str) -> bool:
    """Whether some row has a value in a column."""
    query = f"SELECT EXISTS (SELECT FROM {qualified(table)} WHERE {quote(column)} IS NOT NULL)"  # noqa: S608 - quoted
    return bool(await connection.fetchval(query))


async def same_types(connection: Any, pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether each existing type is the declared one, whatever its spelling."""
    if all(_folded(existing) == _folded(declared) for existing, declared in pairs):
        return [True] * len(pairs)
    columns = ", ".join(f"c{i} {declared}" for i, (_, declared) in enumerate(pairs))
    await connection.execute(f"CREATE TEMP TABLE _cocoindex_types ({columns})")
    rows = await connection.fetch(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = 'pg_temp._cocoindex_types'::regclass AND attnum > 0 ORDER BY attnum"
    )
    await connection.execute("DROP TABLE pg_temp._cocoindex_types")
    return [existing == row[0] for (existing, _), row in zip(pairs, rows, strict=True)]


def _folded(pg_type: str) -> str:
    return pg_type if '"' in pg_type else " ".join(pg_type.lower().split())
