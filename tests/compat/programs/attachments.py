"""Tables with rows, vector indexes and SQL commands: "Implementing attachment providers".

The code is the guide's, over SQLite. Added: the table handler, the pool, and what ``...`` stands
for. A vector index becomes an ordinary index whose name and column are the spec's.
"""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from cocoindex._internal.context_keys import ContextProvider

import cocoindex as coco
from cocoindex.connectorkits.fingerprint import fingerprint_object


class Connection:
    def __init__(self, raw: sqlite3.Connection, log: list[str]) -> None:
        self._raw = raw
        self._log = log

    async def execute(self, sql: str, *args: Any) -> None:
        self._log.append(sql)
        self._raw.execute(sql, args)


class Pool:
    """What the guide calls ``pool``: connections by ``async with pool.acquire()``."""

    def __init__(self) -> None:
        self.database = ""
        self.log: list[str] = []

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        raw = sqlite3.connect(self.database)
        try:
            with raw:
                yield Connection(raw, self.log)
        finally:
            raw.close()

    def query(self, sql: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.database)) as raw:
            return raw.execute(sql).fetchall()


pool = Pool()
POOL: coco.ContextKey[Pool] = coco.ContextKey("compat_attachments/pool")
commands_seen: list[list[Any]] = []

# -- Step 1: Implement the attachment handler


class _VectorIndexSpec(NamedTuple):
    column: str
    metric: str
    method: str


class _VectorIndexAction(NamedTuple):
    name: str
    spec: _VectorIndexSpec | None  # None means delete


class _VectorIndexHandler:
    def __init__(self, pool, table_name, schema_name):  # type: ignore[no-untyped-def]
        self._pool = pool
        self._table_name = table_name
        self._sink = coco.TargetActionSink.from_async_fn(self._apply_actions)

    async def _apply_actions(
        self, context_provider: ContextProvider, actions: Sequence[_VectorIndexAction]
    ) -> None:
        async with self._pool.acquire() as conn:
            for action in actions:
                await conn.execute(f'DROP INDEX IF EXISTS "{action.name}"')
                if action.spec is not None:
                    await conn.execute(
                        f'CREATE INDEX "{action.name}" ON "{self._table_name}" '
                        f'("{action.spec.column}")'
                    )

    def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
        # Standard reconcile pattern — compare fingerprints, return action or None
        if coco.is_non_existence(desired_state):
            if not prev_possible_states and not prev_may_be_missing:
                return None
            return coco.TargetReconcileOutput(
                action=_VectorIndexAction(key, None),
                sink=self._sink,
                tracking_record=coco.NON_EXISTENCE,
            )
        fp = fingerprint_object(desired_state)
        if not prev_may_be_missing and all(prev == fp for prev in prev_possible_states):
            return None
        return coco.TargetReconcileOutput(
            action=_VectorIndexAction(key, desired_state), sink=self._sink, tracking_record=fp
        )


# "store the full spec as the tracking record instead of a fingerprint"


class _SqlCommandSpec(NamedTuple):
    setup_sql: str
    teardown_sql: str | None


class _SqlCommandHandler(coco.TargetHandler[str, _SqlCommandSpec, _SqlCommandSpec]):
    def __init__(self, pool, table_name, schema_name):  # type: ignore[no-untyped-def]
        self._pool = pool
        self._sink = coco.TargetActionSink.from_async_fn(self._apply_actions)

    async def _apply_actions(
        self, context_provider: ContextProvider, actions: Sequence[list[str]]
    ) -> None:
        async with self._pool.acquire() as conn:
            for statements in actions:
                for statement in statements:
                    await conn.execute(statement)

    def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
        commands_seen.append(list(prev_possible_states))
        if not prev_may_be_missing and all(p == desired_state for p in prev_possible_states):
            return None
        statements = [p.teardown_sql for p in prev_possible_states if p.teardown_sql is not None]
        if coco.is_non_existence(desired_state):
            return coco.TargetReconcileOutput(statements, self._sink, coco.NON_EXISTENCE)
        return coco.TargetReconcileOutput(
            [*statements, desired_state.setup_sql], self._sink, desired_state
        )


# -- Step 2: Add attachment() to the parent handler

_RowValue = dict[str, Any]
_RowFingerprint = bytes


class _RowAction(NamedTuple):
    key: str
    value: _RowValue | None


class _RowHandler(coco.TargetHandler[_RowValue, _RowFingerprint]):
    def __init__(self, pool, table_name, schema_name, table_schema):  # type: ignore[no-untyped-def]
        self._pool = pool
        self._table_name = table_name
        self._schema_name = schema_name
        self._columns = table_schema
        self._sink = coco.TargetActionSink.from_async_fn(self._apply_actions)

    def attachment(self, att_type: str) -> _VectorIndexHandler | _SqlCommandHandler | None:
        if att_type == "vector_index":
            return _VectorIndexHandler(self._pool, self._table_name, self._schema_name)
        if att_type == "sql_command_attachment":
            return _SqlCommandHandler(self._pool, self._table_name, self._schema_name)
        return None

    async def _apply_actions(
        self, context_provider: ContextProvider, actions: Sequence[_RowAction]
    ) -> None:
        async with self._pool.acquire() as conn:
            for key, value in actions:
                if value is None:
                    await conn.execute(f'DELETE FROM "{self._table_name}" WHERE pk = ?', key)
                else:
                    marks = ", ".join("?" for _ in self._columns)
                    await conn.execute(
                        f'INSERT OR REPLACE INTO "{self._table_name}" VALUES (?, {marks})',
                        key,
                        *(value[column] for column in self._columns),
                    )

    def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
        # Regular row reconciliation
        assert all(type(prev) is bytes for prev in prev_possible_states)
        if coco.is_non_existence(desired_state):
            return coco.TargetReconcileOutput(_RowAction(key, None), self._sink, coco.NON_EXISTENCE)
        fp = fingerprint_object(desired_state)
        if not prev_may_be_missing and all(prev == fp for prev in prev_possible_states):
            return None
        return coco.TargetReconcileOutput(_RowAction(key, desired_state), self._sink, fp)


# -- The table itself, at the path the guide draws: (db_key, schema, table_name)


class _TableAction(NamedTuple):
    name: str
    columns: tuple[str, ...] | None


class _TableHandler:
    def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
        _db, _schema, name = key
        if coco.is_non_existence(desired_state):
            return coco.TargetReconcileOutput(
                _TableAction(name, None), _table_sink, coco.NON_EXISTENCE
            )
        return coco.TargetReconcileOutput(_TableAction(name, desired_state), _table_sink, None)


async def _apply_table_actions(
    context_provider: ContextProvider, actions: Sequence[_TableAction]
) -> list[coco.ChildTargetDef[_RowHandler] | None]:
    outputs: list[coco.ChildTargetDef[_RowHandler] | None] = []
    async with pool.acquire() as conn:
        for name, columns in actions:
            if columns is None:
                await conn.execute(f'DROP TABLE IF EXISTS "{name}"')
                outputs.append(None)
                continue
            names = ", ".join(f'"{column}"' for column in columns)
            await conn.execute(f'CREATE TABLE IF NOT EXISTS "{name}" (pk PRIMARY KEY, {names})')
            outputs.append(coco.ChildTargetDef(_RowHandler(pool, name, "main", columns)))
    return outputs


_table_sink = coco.TargetActionSink.from_async_fn(_apply_table_actions)
_table_provider = coco.register_root_target_states_provider("my_connector/table", _TableHandler())


# -- Step 3: Expose attachment APIs on the user-facing target


class TableTarget:
    def __init__(self, provider, table_schema):  # type: ignore[no-untyped-def]
        self._provider = provider
        self._table_schema = table_schema

    def declare_row(self, *, row):  # type: ignore[no-untyped-def]
        # Regular child target state
        pk_values, row_dict = row["pk"], {k: v for k, v in row.items() if k != "pk"}
        coco.declare_target_state(self._provider.target_state(pk_values, row_dict))

    def declare_vector_index(self, *, name, column, metric="cosine", method="ivfflat"):  # type: ignore[no-untyped-def]
        spec = _VectorIndexSpec(column=column, metric=metric, method=method)
        att_provider = self._provider.attachment("vector_index")
        coco.declare_target_state(att_provider.target_state(name, spec))

    def declare_sql_command(self, *, name, setup_sql, teardown_sql=None):  # type: ignore[no-untyped-def]
        spec = _SqlCommandSpec(setup_sql=setup_sql, teardown_sql=teardown_sql)
        att_provider = self._provider.attachment("sql_command_attachment")
        coco.declare_target_state(att_provider.target_state(name, spec))


async def table_target(name: str, columns: tuple[str, ...]) -> TableTarget:
    state = _table_provider.target_state(("db", "main", name), columns)
    return TableTarget(await coco.mount_target(state), columns)
