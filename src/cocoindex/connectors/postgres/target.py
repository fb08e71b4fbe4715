"""A table of Postgres as a target."""

from __future__ import annotations

import warnings
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar, Unpack, cast, get_args

import cocoindex as coco
from cocoindex.connectorkits import identifiers, tables
from cocoindex.connectorkits.rows import Extra, NaiveTz
from cocoindex.connectorkits.target import ManagedBy
from cocoindex.connectors.postgres import _indexes
from cocoindex.connectors.postgres._commands import SqlCommandSpec
from cocoindex.connectors.postgres._dialect import DIALECT
from cocoindex.connectors.postgres._types import TableSchema
from cocoindex.connectors.postgres._wire import base_type
from cocoindex.errors import UsageTypeError, UsageValueError

if TYPE_CHECKING:
    import asyncpg

__all__ = [
    "TableTarget",
    "create_pool",
    "declare_table_target",
    "mount_table_target",
    "table_target",
]

RowT = TypeVar("RowT")

Metric = Literal["cosine", "l2", "ip", "l1", "hamming", "jaccard"]
Method = Literal["btree", "gin", "gist", "brin", "hash"]
OnNul = Literal["strip", "error"]

_root: Final = coco.register_root_target_states_provider(
    "cocoindex/postgres/table", tables.TableHandler(DIALECT)
)


class TableTarget(tables.TableTarget[RowT, coco.MaybePendingS]):
    """A table that declared rows are kept in step with."""

    dialect = DIALECT

    def declare_vector_index(
        self,
        *,
        name: str | None = None,
        column: str,
        metric: Metric = "cosine",
        method: _indexes.VectorMethod = "ivfflat",
        lists: int | None = None,
        m: int | None = None,
        ef_construction: int | None = None,
        concurrently: bool = False,
        maintenance_work_mem: str | None = None,
    ) -> None:
        """Declare an index for nearest neighbours, called ``{table}__vector__{name}``.

        It is built after the rows of the run that declares it.

        Args:
            name: default: the column's name.
            column: a column of type ``vector``, ``halfvec``, ``sparsevec`` or ``bit``.
            metric: ``"cosine"``, ``"l2"``, ``"ip"`` or ``"l1"``; for bits ``"hamming"`` or
                ``"jaccard"``.
            method: ``"hnsw"``, or ``"ivfflat"``, which needs rows to find its centroids in.
            lists: of ``ivfflat``; by default a thousandth of the rows, and from a million rows
                on their square root, at least 10.
            m: of ``hnsw``.
            ef_construction: of ``hnsw``.
            concurrently: let others write to the table while the index is built.
            maintenance_work_mem: memory for the build, such as ``"1GB"``.

        Raises:
            ValueError: the column is unknown or holds no vectors, it has more dimensions than an
                index can hold, or the metric does not suit it.
        """
        spec = _indexes.vector_index(
            self._column(column).type,
            column,
            metric,
            method,
            {"lists": lists, "m": m, "ef_construction": ef_construction},
            _indexes.Build(concurrently, maintenance_work_mem),
        )
        self._attach("vector_index", _index_key(name, column), spec)

    def declare_index(
        self,
        *,
        name: str | None = None,
        columns: Sequence[str],
        method: Method = "btree",
        unique: bool = False,
        where: str | None = None,
        include: Sequence[str] | None = None,
        concurrently: bool = False,
    ) -> None:
        """Declare an ordinary index, called ``{table}__index__{name}``.

        Args:
            name: default: the columns' names, joined by ``_``.
            columns: what is indexed.
            method: how it is organised.
            unique: whether values must differ.
            where: a condition in SQL: index only these rows.
            include: columns to keep in the index besides.
            concurrently: let others write to the table while the index is built.

        Raises:
            ValueError: a column is unknown, or the method does not exist.
        """
        if isinstance(columns, str) or not columns:
            raise UsageTypeError("declare_index: columns must be a list of at least one name")
        if method not in get_args(Method):
            raise UsageValueError(f"declare_index: unknown method {method!r}")
        for column in (*columns, *(include or ())):
            self._column(column)
        build = _indexes.Build(concurrently)
        spec = _indexes.IndexSpec(
            tuple(columns), method, unique, where, tuple(include or ()), build
        )
        self._attach("index", _index_key(name, "_".join(columns)), spec)

    def declare_fts_index(self, *, column: str, language: str = "english") -> None:
        """Declare a full-text index.

        The table gets a generated column ``{column}__fts`` of type ``tsvector`` to search in:
        ``WHERE body__fts @@ websearch_to_tsquery('english', 'apple pie')``.

        Args:
            column: a column that holds text.
            language: a text search configuration of the server.

        Raises:
            ValueError: the column is unknown or holds no text.
        """
        if base_type(self._column(column).type) not in ("text", "bpchar"):
            raise UsageValueError(f"declare_fts_index: column {column!r} holds no text")
        self._attach("fts_index", column, _indexes.FtsIndexSpec(column, language))

    def declare_sql_command_attachment(
        self,
        *,
        name: str,
        setup_sql: str,
        teardown_sql: str | None = None,
        autocommit: bool = False,
    ) -> None:
        """Declare SQL commands that belong to the table, such as a trigger.

        The setup runs when the attachment is new. When it changes, the previous teardown and
        then the new setup run; when it is no longer declared, the teardown does.

        Args:
            name: of the attachment; unique per table.
            setup_sql: one or more commands, run in one transaction.
            teardown_sql: what undoes them; None to undo nothing.
            autocommit: run each command by itself, outside of a transaction.
        """
        spec = SqlCommandSpec(setup_sql, teardown_sql, autocommit)
        self._attach("sql_command_attachment", name, spec)

    def _column(self, name: str) -> Any:
        try:
            return self._schema.columns[name]
        except KeyError:
            known = ", ".join(self._schema.columns)
            raise UsageValueError(
                f"table {self._table} has no column {name!r}; it has {known}"
            ) from None


def _index_key(name: str | None, default: str) -> str:
    return default if name is None else identifiers.check(name, "index name", quoted=True)


class Options(TypedDict, total=False):
    """What the functions below take besides.

    Attributes:
        if_exists: a table that is there but not known to this app is used if it fits
            (``"adopt"``, default), refused (``"error"``), or used and from now on ours
            (``"own"``).
        on_undeclare: whether our rows are deleted (``"delete_rows"``, default) or kept
            (``"keep"``) when the table is undeclared but stays, because it is not ours to drop.
        extra: what to do about keys of a dict row that are no columns: ``"warn"`` (default),
            ``"ignore"`` or ``"error"``.
        naive_tz: the zone of datetimes without one: a ``tzinfo``, ``"local"`` or ``"error"``.
        quoted: allow names other than letters, digits and underscores.
        cascade: drop views and foreign keys that use the table with it.
        on_nul: text with U+0000, which the server can't hold, loses it (``"strip"``, default),
            or is refused (``"error"``).
    """

    if_exists: Literal["adopt", "error", "own"]
    on_undeclare: Literal["delete_rows", "keep"]
    extra: Extra
    naive_tz: NaiveTz
    quoted: bool
    cascade: bool
    on_nul: OnNul


def table_target(
    db: coco.ContextKey[asyncpg.Pool[Any]],
    table_name: str,
    table_schema: TableSchema[RowT],
    *,
    pg_schema_name: str | None = None,
    managed_by: ManagedBy | Literal["system", "user"] = ManagedBy.SYSTEM,
    **options: Unpack[Options],
) -> coco.TargetState[tables.RowHandler]:
    """A table as a target state, for ``coco.mount_target``.

    Args:
        db: names the pool of connections. The name is remembered, not where it leads.
        table_name: the table.
        table_schema: its columns and key.
        pg_schema_name: its schema, made if it is not there; default: as the search path says.
        managed_by: ``"user"``: the table is made and changed by somebody else; only rows and
            attachments are written here.
        **options: see :class:`Options`.

    Raises:
        ValueError: a name or an option is not acceptable.
        TypeError: ``db`` is no context key, or an option is unknown.
    """
    unknown = sorted(options.keys() - Options.__annotations__.keys())
    if unknown:
        raise UsageTypeError(f"table_target() has no option {', '.join(unknown)}")
    on_nul = options.pop("on_nul", "strip")
    if on_nul not in get_args(OnNul):
        raise UsageValueError(f"on_nul must be 'strip' or 'error', not {on_nul!r}")
    own = {"cascade": True} if options.pop("cascade", False) else {}
    return tables.table_state(
        _root,
        DIALECT,
        db,
        (pg_schema_name, table_name),
        table_schema,
        cast("tables.TableOptions", {**options, "managed_by": managed_by}),
        own=own,
        rows={"on_nul": on_nul},
    )


def declare_table_target(
    db: coco.ContextKey[asyncpg.Pool[Any]],
    table_name: str,
    table_schema: TableSchema[RowT],
    *,
    pg_schema_name: str | None = None,
    managed_by: ManagedBy | Literal["system", "user"] = ManagedBy.SYSTEM,
    **options: Unpack[Options],
) -> TableTarget[RowT, coco.PendingS]:
    """As :func:`table_target`, declared in the current component, for ``coco.use_mount``."""
    return TableTarget.declared(
        table_target(
            db,
            table_name,
            table_schema,
            pg_schema_name=pg_schema_name,
            managed_by=managed_by,
            **options,
        )
    )


def mount_table_target(
    db: coco.ContextKey[asyncpg.Pool[Any]],
    table_name: str,
    table_schema: TableSchema[RowT],
    *,
    pg_schema_name: str | None = None,
    managed_by: ManagedBy | Literal["system", "user"] = ManagedBy.SYSTEM,
    **options: Unpack[Options],
) -> Coroutine[Any, Any, TableTarget[RowT, coco.ResolvedS]]:
    """As :func:`table_target`, mounted and ready to declare rows in, once it is awaited."""
    return TableTarget.mounted(
        table_target(
            db,
            table_name,
            table_schema,
            pg_schema_name=pg_schema_name,
            managed_by=managed_by,
            **options,
        )
    )


async def create_pool(dsn: str | None = None, **kwargs: Any) -> asyncpg.Pool[Any]:
    """Deprecated: use ``asyncpg.create_pool``, which this calls."""
    import asyncpg

    warnings.warn(
        "cocoindex.connectors.postgres.create_pool is deprecated: use asyncpg.create_pool",
        DeprecationWarning,
        stacklevel=2,
    )
    pool: asyncpg.Pool[Any] = await asyncpg.create_pool(dsn, **kwargs)
    return pool
