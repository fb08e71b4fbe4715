"""Carries out what handlers have decided: the only part of the kit that uses clients."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cocoindex as coco
from cocoindex.connectorkits.batching import chunks
from cocoindex.connectorkits.retry import retrying
from cocoindex.connectorkits.rows import key_text
from cocoindex.connectorkits.tables.actions import AttachmentAction, TableAction, TableRun
from cocoindex.connectorkits.tables.changes import Left, bring_up, leave, verify
from cocoindex.connectorkits.tables.dialect import Dialect
from cocoindex.connectorkits.tables.model import RowAction, Table
from cocoindex.errors import CocoIndexError, MissingKeyError, TargetError, UsageTypeError

__all__ = ["AttachmentSink", "RowSink", "TableSink", "client_of"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

AnyDialect = Dialect[Any, Any]


def client_of(dialect: AnyDialect, context_provider: coco.ContextProvider, table: Table) -> Any:
    """The client that is provided for a table.

    Raises:
        KeyError: nothing is provided under the key.
        TypeError: what is provided is of another type.
    """
    try:
        client = context_provider.get(table.db_key)
    except MissingKeyError as error:
        raise MissingKeyError(f"{dialect.name} table {table} needs a connection: {error}") from None
    wanted = dialect.client_type()
    if not isinstance(client, wanted):
        names = [cls.__name__ for cls in (wanted if isinstance(wanted, tuple) else (wanted,))]
        raise UsageTypeError(
            f"{dialect.name} table {table}: the context key {table.db_key!r} should hold "
            f"{' or '.join(names)}, not {type(client).__name__}"
        )
    return client


async def _attempts(
    dialect: AnyDialect, table: Table, doing: str, fn: Callable[[], Awaitable[T]]
) -> T:
    """Retry what may pass; word what does not."""
    what = f"{dialect.name} table {table}: {doing}"
    try:
        return await retrying(
            fn, is_transient=dialect.is_transient, what=what, describe=dialect.describe
        )
    except CocoIndexError:
        raise
    except Exception as error:  # noqa: BLE001 - any driver's; its text may hold data
        raise TargetError(f"{what}: {dialect.describe(error)}", error) from None


@dataclass(frozen=True)
class TableSink:
    """Creates, changes and drops one table."""

    dialect: AnyDialect
    table: Table

    async def __call__(
        self, context_provider: coco.ContextProvider, actions: Sequence[TableAction]
    ) -> None:
        """Apply actions; those with nothing to do need no connection."""
        for action in actions:
            if action.is_nothing:
                continue
            client = client_of(self.dialect, context_provider, self.table)
            if action.run.spec is None:
                await _leave_once(self.dialect, client, action.run, warn=True)
            else:
                await self._bring_up(client, action)

    async def _bring_up(self, client: Any, action: TableAction) -> None:
        async def attempt() -> None:
            async with self.dialect.transaction(client, self.table, ddl=True) as tx:
                await bring_up(self.dialect, tx, action)

        await _attempts(self.dialect, self.table, str(action), attempt)


async def _leave_once(
    dialect: AnyDialect, client: Any, run: TableRun, *, warn: bool = False
) -> Left:
    async def attempt() -> Left:
        async with dialect.transaction(client, run.table, ddl=True) as tx:
            return await leave(dialect, tx, run)

    outcome = await run.leave(
        lambda: _attempts(dialect, run.table, f"drop table {run.table}", attempt)
    )
    if warn and outcome == "not ours":
        kept = any(record.on_undeclare == "keep" for record in run.prev)
        _log.warning(
            "%s table %s stays: it was not made by this app. What the app wrote into it %s.",
            dialect.name,
            run.table,
            "stays too (on_undeclare='keep')" if kept else "is deleted",
        )
    return outcome


async def _is_usable(dialect: AnyDialect, client: Any, run: TableRun) -> bool:
    """Whether the table is there for its rows and attachments; it may be about to go whole."""
    if run.may_be_dropped:
        return await _leave_once(dialect, client, run) == "not ours"
    if run.needs_check:

        async def attempt() -> None:
            async with dialect.transaction(client, run.table) as tx:
                await verify(dialect, tx, run)

        await run.check(lambda: _attempts(dialect, run.table, "looking at it", attempt))
    return True


@dataclass(frozen=True)
class RowSink:
    """Writes and deletes rows of one table: a transaction per chunk."""

    dialect: AnyDialect
    table: Table

    async def __call__(
        self, context_provider: coco.ContextProvider, actions: Sequence[RowAction]
    ) -> None:
        """Apply actions, those of one run after those of another."""
        client = client_of(self.dialect, context_provider, self.table)
        by_run: dict[int, tuple[TableRun, list[RowAction]]] = {}
        for action in actions:
            by_run.setdefault(id(action.run), (action.run, []))[1].append(action)
        for run, of_run in by_run.values():
            if await _is_usable(self.dialect, client, run):
                await self._write(client, run, of_run)

    async def _write(self, client: Any, run: TableRun, actions: list[RowAction]) -> None:
        dialect = self.dialect
        parts = chunks(
            sorted(actions, key=_deletes_last),
            rows=dialect.max_rows,
            bytes=dialect.max_bytes,
            size_of=lambda action: dialect.size_of(action.fields),
        )
        for part in parts:
            await self._write_chunk(client, run, part)

    async def _write_chunk(self, client: Any, run: TableRun, part: list[RowAction]) -> None:
        dialect = self.dialect
        doing = _counted(part)
        started = time.perf_counter()
        try:
            await _attempts(
                dialect, self.table, doing, lambda: self._transaction(client, run, part)
            )
        except TargetError as error:
            if error.orig is None or not dialect.blames_row(error.orig):
                raise
            raise await self._naming_the_row(client, run, part, error) from None
        _log.debug(
            "%s table %s: %s took %.3f s",
            dialect.name,
            self.table,
            doing,
            time.perf_counter() - started,
        )

    async def _transaction(self, client: Any, run: TableRun, part: Sequence[RowAction]) -> None:
        upserts = [action for action in part if action.fields is not None]
        deletes = [action.key for action in part if action.fields is None]
        async with self.dialect.transaction(client, self.table) as tx:
            await self.dialect.write(tx, run.layout, upserts, deletes)

    async def _naming_the_row(
        self, client: Any, run: TableRun, part: list[RowAction], error: TargetError
    ) -> TargetError:
        """The same error, with the key of the first row that is at fault by itself."""
        found = await self._first_refused(client, run, part)
        if found is None:
            return error
        what = f"{self.dialect.name} table {self.table}: {_counted(part)}"
        assert error.orig is not None
        return TargetError(
            f"{what}: row {key_text(found.key)}: {self.dialect.describe(error.orig)}", error.orig
        )

    async def _first_refused(
        self, client: Any, run: TableRun, part: list[RowAction]
    ) -> RowAction | None:
        """By halving, in transactions that are rolled back; ``None`` if no row alone is."""
        if len(part) == 1:
            return part[0]
        middle = len(part) // 2
        for half in (part[:middle], part[middle:]):
            if not await self._would_fit(client, run, half):
                return await self._first_refused(client, run, half)
        return None

    async def _would_fit(self, client: Any, run: TableRun, part: list[RowAction]) -> bool:
        upserts = [action for action in part if action.fields is not None]
        deletes = [action.key for action in part if action.fields is None]
        try:
            async with self.dialect.transaction(client, self.table) as tx:
                await self.dialect.write(tx, run.layout, upserts, deletes)
                raise _Undo  # noqa: TRY301 - ends the transaction
        except _Undo:
            return True
        except Exception as error:  # noqa: BLE001 - of any driver
            return not self.dialect.blames_row(error)


class _Undo(Exception):
    """Rolls a transaction back that was only tried."""


def _counted(part: Sequence[RowAction]) -> str:
    upserts = sum(action.fields is not None for action in part)
    return f"writing {upserts} and deleting {len(part) - upserts} rows"


def _deletes_last(action: RowAction) -> bool:
    return action.fields is None


@dataclass(frozen=True)
class AttachmentSink:
    """Makes and removes attachments of one table."""

    dialect: AnyDialect
    table: Table

    async def __call__(
        self, context_provider: coco.ContextProvider, actions: Sequence[AttachmentAction]
    ) -> None:
        """Apply actions one by one: they are few, and each is a statement of its own."""
        client = client_of(self.dialect, context_provider, self.table)
        for action in actions:
            if await _is_usable(self.dialect, client, action.run):
                await self._apply(client, action)

    async def _apply(self, client: Any, action: AttachmentAction) -> None:
        layout = action.run.layout

        async def attempt() -> None:
            for data in action.drops:
                await action.kind.drop(client, layout, action.key, data)
            if action.spec is None:
                return
            if not await action.kind.create(client, layout, action.key, action.spec):
                _log.info("%s table %s: %s waits for rows", self.dialect.name, self.table, action)

        await _attempts(self.dialect, self.table, str(action), attempt)
