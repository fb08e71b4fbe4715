"""What a source asks the server, and how it reads the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from cocoindex.connectorkits.identifiers import quote
from cocoindex.connectors.postgres import _vectors
from cocoindex.errors import UsageValueError

__all__ = ["Reading", "TableShape"]

Decode = Callable[[Any], Any]

_COLUMNS: Final = """
SELECT a.attname, b.typname, quote_ident(n.nspname) AS schema, c.oid AS relation
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
JOIN pg_namespace n ON n.oid = b.typnamespace
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

_KEY: Final = """
SELECT a.attname
FROM pg_index i
CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(attnum, position)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = to_regclass($1) AND i.indisprimary
ORDER BY k.position
"""


class TableShape(NamedTuple):
    """What the catalog says.

    Attributes:
        identity: tells tables of different databases apart.
        names: the columns to hand out.
        selected: these, and the others that are needed.
        expressions: what is selected for each of ``selected``.
        decoders: by column, for those that need one.
        key: the columns of the primary key, if they were asked for.
    """

    identity: tuple[str, int]
    names: tuple[str, ...]
    selected: tuple[str, ...]
    expressions: tuple[str, ...]
    decoders: dict[str, Decode]
    key: tuple[str, ...]

    def key_of(self, record: Any) -> tuple[Any, ...]:
        return tuple(record[name] for name in self.key)


@dataclass(frozen=True)
class Reading:
    """What to read of which table."""

    table: tuple[str | None, str]
    columns: tuple[str, ...] | None
    where: str | None
    params: tuple[Any, ...]
    order_by: str | None
    extra: tuple[str, ...]

    @property
    def relation(self) -> str:
        return ".".join(quote(part) for part in self.table if part is not None)

    async def shape(self, connection: Any, *, keyed: bool) -> TableShape:
        """Ask the catalog.

        Raises:
            ValueError: the table, a column, or a key that is needed is not there.
        """
        rows = await connection.fetch(_COLUMNS, self.relation)
        if not rows:
            raise UsageValueError(f"there is no table {self} in this database")
        types = {row["attname"]: (row["schema"], row["typname"]) for row in rows}
        names = self.columns or tuple(types)
        key: tuple[str, ...] = ()
        if keyed:
            key = tuple([row["attname"] for row in await connection.fetch(_KEY, self.relation)])
            if not key:
                raise UsageValueError(f"table {self} has no primary key: give items() a key")
        selected = tuple(dict.fromkeys((*names, *key, *self.extra)))
        missing = [name for name in selected if name not in types]
        if missing:
            raise UsageValueError(f"table {self} has no columns {missing}")
        columns = {name: _selected(name, *types[name]) for name in selected}
        database = await connection.fetchval("SELECT current_database()")
        return TableShape(
            (database, rows[0]["relation"]),
            names,
            selected,
            tuple([expression for expression, _ in columns.values()]),
            {name: decode for name, (_, decode) in columns.items() if decode is not None},
            key,
        )

    def select(self, shape: TableShape) -> str:
        order = f" ORDER BY {self.order_by}" if self.order_by else ""
        return self._query(shape, []) + order

    def page(
        self, shape: TableShape, after: Sequence[Any] | None, size: int
    ) -> tuple[str, tuple[Any, ...]]:
        """The rows that follow the key ``after``, and the arguments of the query."""
        key = ", ".join(quote(name) for name in shape.key)
        conditions = []
        if after is not None:
            first = len(self.params) + 1
            values = ", ".join(f"${first + i}" for i in range(len(after)))
            conditions.append(f"({key}) > ({values})")
        query = f"{self._query(shape, conditions)} ORDER BY {key} LIMIT {size}"
        return query, (*self.params, *(after or ()))

    def _query(self, shape: TableShape, conditions: list[str]) -> str:
        conditions = [f"({self.where})", *conditions] if self.where else conditions
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"SELECT {', '.join(shape.expressions)} FROM {self.relation}{where}"  # noqa: S608 - names are quoted; `where` is the user's SQL

    def __str__(self) -> str:
        return ".".join(part for part in self.table if part is not None)


_DENSE: Final = ("vector", "halfvec", "sparsevec")


def _selected(name: str, schema: str, typname: str) -> tuple[str, Decode | None]:
    """What to select for a column, and how to decode it: whatever codecs the pool's user set."""
    column = quote(name)
    if typname in ("json", "jsonb"):
        return f"{column}::text AS {column}", json.loads
    if typname in _DENSE:
        return f"{schema}.{typname}_send({column}) AS {column}", _vectors.decoder(typname)
    return column, None
