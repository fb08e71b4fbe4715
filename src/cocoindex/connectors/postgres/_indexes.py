"""Indexes of tables: of vectors, ordinary ones, of text."""

from __future__ import annotations

import logging
import math
import operator
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from cocoindex.connectorkits import identifiers
from cocoindex.connectorkits.identifiers import quote
from cocoindex.connectorkits.tables import AttachmentKind, Layout
from cocoindex.connectors.postgres._catalog import lock, qualified
from cocoindex.connectors.postgres._ddl import search_column
from cocoindex.connectors.postgres._literals import sql_text
from cocoindex.connectors.postgres._pool import acquired
from cocoindex.connectors.postgres._vectors import VECTOR_TYPES
from cocoindex.connectors.postgres._wire import base_type, type_size
from cocoindex.core.memo_key import fingerprint_object
from cocoindex.errors import TargetError, UsageTypeError, UsageValueError

_logger = logging.getLogger("cocoindex.connectors.postgres")

__all__ = [
    "FtsIndexKind",
    "FtsIndexSpec",
    "IndexKind",
    "IndexSpec",
    "VectorIndexKind",
    "VectorIndexSpec",
    "VectorMethod",
    "index_name",
    "vector_index",
]

MAX_NAME: Final = 63

VectorMethod = Literal["ivfflat", "hnsw"]


def index_name(table: str, kind: str, name: str) -> str:
    """How the server calls an index; names that are too long end in a hash."""
    return identifiers.derived(table, kind, name, max_bytes=MAX_NAME)


class Build(NamedTuple):
    """How an index is built; says nothing about what it is.

    Attributes:
        concurrently: let others write to the table meanwhile.
        memory: ``maintenance_work_mem`` for the build, such as ``"1GB"``.
    """

    concurrently: bool = False
    memory: str | None = None


class VectorIndexSpec(NamedTuple):
    """An index for nearest neighbours.

    Attributes:
        column: what is indexed.
        operators: the operator class, which stands for column type and metric.
        method: how it is organised.
        lists: parameter of ``ivfflat``; None to work it out from the number of rows.
        m: parameter of ``hnsw``.
        ef_construction: parameter of ``hnsw``.
        build: how it is built.
    """

    column: str
    metric: str
    operators: str
    method: VectorMethod
    lists: int | None = None
    m: int | None = None
    ef_construction: int | None = None
    build: Build = Build()


class IndexSpec(NamedTuple):
    """An ordinary index.

    Attributes:
        columns: what is indexed.
        method: how it is organised.
        unique: whether values must differ.
        where: a condition in SQL for the rows to index.
        include: columns that are kept in it besides.
        build: how it is built.
    """

    columns: tuple[str, ...]
    method: str
    unique: bool = False
    where: str | None = None
    include: tuple[str, ...] = ()
    build: Build = Build()


class FtsIndexSpec(NamedTuple):
    """A generated column with the words of a text, and an index of it."""

    column: str
    language: str


class _IndexKind(AttachmentKind[Any]):
    """What all indexes have in common."""

    kind: str

    def identity(self, spec: Any) -> object:
        return spec._replace(build=Build()) if hasattr(spec, "build") else spec

    def describe(self, key: str, spec: Any) -> str:
        return f"{'drop' if spec is None else 'create'} {self.kind} {key}"

    async def create(self, client: Any, layout: Layout, key: str, spec: Any) -> bool:
        name = index_name(layout.table.name, self.kind, key)
        async with acquired(client) as connection:
            definition = await self._definition(connection, layout, spec)
            if definition is None:
                return False
            create = "CREATE UNIQUE INDEX" if getattr(spec, "unique", False) else "CREATE INDEX"
            made = _Made(name, definition, create, _mark(self.identity(spec)))
            await _build(connection, layout, made, spec.build)
        return True

    async def drop(
        self, client: Any, layout: Layout, key: str, _data: tuple[str | None, ...]
    ) -> None:
        name = index_name(layout.table.name, self.kind, key)
        async with acquired(client) as connection:
            in_schema = await _in_schema(connection, layout, name)
            found = await connection.fetchrow(_INDEX, in_schema, qualified(layout.table))
            if found is not None and found["is_ours"]:  # else the name is somebody else's
                await connection.execute(f"DROP INDEX IF EXISTS {in_schema}")

    @abstractmethod
    async def _definition(self, connection: Any, layout: Layout, spec: Any) -> str | None:
        """What follows the index's name in its statement; None while it can't be built."""


def vector_index(
    column_type: str,
    column: str,
    metric: str,
    method: VectorMethod,
    parameters: Mapping[str, int | None],
    build: Build,
) -> VectorIndexSpec:
    """The specification of an index; says what is wrong with it.

    Raises:
        ValueError: as ``TableTarget.declare_vector_index``.
    """
    base, size = base_type(column_type), type_size(column_type)
    kind = VECTOR_TYPES.get(base)
    if kind is None:
        raise UsageValueError(f"column {column!r} is of type {column_type}, which holds no vectors")
    if metric not in kind.metrics:
        listed = ", ".join(kind.metrics)
        raise UsageValueError(f"unsupported metric {metric!r} for {base}: choose one of {listed}")
    if method not in _PARAMETERS:
        raise UsageValueError(f"method must be 'ivfflat' or 'hnsw', not {method!r}")
    if size is not None and size > kind.most_indexed:
        advice = "halfvec, or" if base == "vector" else "fewer dimensions, or"
        raise UsageValueError(
            f"an index of {base} holds at most {kind.most_indexed:,} dimensions, and column "
            f"{column!r} has {size:,}: use {advice} an expression index by "
            "declare_sql_command_attachment"
        )
    given = {n: _whole(n, value) for n, value in parameters.items() if value is not None}
    idle = sorted(given.keys() - _PARAMETERS[method])
    if idle:
        _logger.warning("index of column %s: %s has no %s", column, method, ", ".join(idle))
    used = {name: value for name, value in given.items() if name not in idle}
    return VectorIndexSpec(column, metric, f"{base}_{metric}_ops", method, **used, build=build)


def _whole(name: str, value: Any) -> int:
    """A number that can stand in a statement."""
    try:
        return operator.index(value)
    except TypeError:
        kind = type(value).__name__
        raise UsageTypeError(f"{name} of a vector index must be an int, not {kind}") from None


_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "ivfflat": ("lists",),
    "hnsw": ("m", "ef_construction"),
}


class VectorIndexKind(_IndexKind):
    """``USING hnsw`` and ``USING ivfflat``."""

    kind = "vector"

    def needs_rows(self, spec: VectorIndexSpec) -> bool:
        return spec.method == "ivfflat" and spec.lists is None

    async def _definition(
        self, connection: Any, layout: Layout, spec: VectorIndexSpec
    ) -> str | None:
        options = {"lists": spec.lists, "m": spec.m, "ef_construction": spec.ef_construction}
        if self.needs_rows(spec):
            count = await connection.fetchval(f"SELECT count(*) FROM {qualified(layout.table)}")  # noqa: S608 - quoted
            if not count:
                return None
            options["lists"] = _lists(count)
        given = ", ".join(f"{name} = {value}" for name, value in options.items() if value)
        settings = f" WITH ({given})" if given else ""
        return f"USING {spec.method} ({quote(spec.column)} {spec.operators}){settings}"


def _lists(rows: int) -> int:
    """How many centroids pgvector recommends."""
    return max(10, rows // 1000 if rows <= 1_000_000 else math.isqrt(rows))


class IndexKind(_IndexKind):
    """B-trees, GIN, GiST, BRIN and hash indexes."""

    kind = "index"

    async def _definition(self, connection: Any, layout: Layout, spec: IndexSpec) -> str:
        del connection, layout
        include = f" INCLUDE ({_names(spec.include)})" if spec.include else ""
        where = f" WHERE {spec.where}" if spec.where else ""
        return f"USING {spec.method} ({_names(spec.columns)}){include}{where}"


class FtsIndexKind(AttachmentKind[FtsIndexSpec]):
    """A generated column of type ``tsvector`` and a GIN index."""

    async def create(self, client: Any, layout: Layout, key: str, spec: FtsIndexSpec) -> bool:
        words = quote(search_column(spec.column))
        language, column = sql_text(spec.language), quote(spec.column)
        name = index_name(layout.table.name, "fts", key)
        async with (
            acquired(client) as connection,
            connection.transaction(isolation="read_committed"),
        ):
            await lock(connection, layout.table)
            made = _Made(name, f"USING gin ({words})", "CREATE INDEX", _mark(tuple(spec)))
            if await _is_another(connection, layout, made):  # of another language
                await _drop_words(connection, layout, words)
            await connection.execute(
                f"ALTER TABLE {qualified(layout.table)} ADD COLUMN IF NOT EXISTS {words} tsvector "
                f"GENERATED ALWAYS AS (to_tsvector({language}::regconfig, coalesce({column}, ''))) "
                "STORED"
            )
            await _build(connection, layout, made, Build())
        return True

    def data(self, spec: FtsIndexSpec) -> tuple[str | None, ...]:
        return (spec.column,)

    def describe(self, key: str, spec: FtsIndexSpec | None) -> str:
        return f"{'drop' if spec is None else 'create'} full-text index of {key}"

    async def drop(
        self, client: Any, layout: Layout, key: str, data: tuple[str | None, ...]
    ) -> None:
        async with acquired(client) as connection:
            await _drop_words(connection, layout, quote(search_column(data[0] or key)))


async def _drop_words(connection: Any, layout: Layout, words: str) -> None:
    """The index goes with its column."""
    await connection.execute(
        f"ALTER TABLE IF EXISTS {qualified(layout.table)} DROP COLUMN IF EXISTS {words}"
    )


def _names(columns: Sequence[str]) -> str:
    return ", ".join(quote(column) for column in columns)


_INDEX: Final = """
SELECT i.indisvalid, i.indrelid = to_regclass($2) AS is_ours,
    obj_description(c.oid, 'pg_class') AS comment
FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.oid = to_regclass($1)
"""

_MARK: Final = "cocoindex:"


def _mark(identity: object) -> str:
    """The comment that tells indexes of one name apart, should the state store get lost."""
    return _MARK + fingerprint_object(identity).hex()


class _Made(NamedTuple):
    """An index to be: its name, what follows it, and the comment by which it is known again."""

    name: str
    definition: str
    create: str
    mark: str


async def _build(connection: Any, layout: Layout, made: _Made, build: Build) -> None:
    """Create an index unless it is there; one that was left half built is built anew."""
    statement = f"{quote(made.name)} ON {qualified(layout.table)} {made.definition}"
    if build.concurrently:  # which no transaction can hold a lock for
        if not await _is_there(connection, layout, made):
            await connection.execute(f"{made.create} CONCURRENTLY {statement}")
            await _comment(connection, layout, made)
        return
    async with connection.transaction(isolation="read_committed"):  # else: what stood before it
        await lock(connection, layout.table)
        if await _is_there(connection, layout, made):
            return
        if build.memory:
            await connection.execute(f"SET LOCAL maintenance_work_mem = {sql_text(build.memory)}")
        await connection.execute(f"{made.create} {statement}")
        await _comment(connection, layout, made)


async def _comment(connection: Any, layout: Layout, made: _Made) -> None:
    in_schema = await _in_schema(connection, layout, made.name)
    await connection.execute(f"COMMENT ON INDEX {in_schema} IS {sql_text(made.mark)}")


async def _is_there(connection: Any, layout: Layout, made: _Made) -> bool:
    """Whether the index can be used. The remains of a build that broke off are removed, and one
    of our own with another definition.
    """
    table = qualified(layout.table)
    in_schema = await _in_schema(connection, layout, made.name)
    found = await connection.fetchrow(_INDEX, in_schema, table)
    if found is None:
        return False
    if not found["is_ours"]:
        raise TargetError(f"index {in_schema} is needed for table {table}, but is not its own")
    is_usable = found["indisvalid"] and not _differs(found["comment"], made)
    if not is_usable:
        await connection.execute(f"DROP INDEX {in_schema}")
    return bool(is_usable)


async def _is_another(connection: Any, layout: Layout, made: _Made) -> bool:
    in_schema = await _in_schema(connection, layout, made.name)
    found = await connection.fetchrow(_INDEX, in_schema, qualified(layout.table))
    return found is not None and found["is_ours"] and _differs(found["comment"], made)


def _differs(comment: str | None, made: _Made) -> bool:
    return (comment or "").startswith(_MARK) and comment != made.mark


async def _in_schema(connection: Any, layout: Layout, name: str) -> str:
    """The index's name with the schema of its table, where it lives."""
    schema = layout.table.path[0]
    if schema is None:
        schema = await connection.fetchval(
            "SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.oid = to_regclass($1)",
            qualified(layout.table),
        )
    return quote(name) if schema is None else f"{quote(schema)}.{quote(name)}"
