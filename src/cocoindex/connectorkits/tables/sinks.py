"""Carries out what handlers have decided: the only part of the kit that uses clients."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, Literal, TypeVar

import cocoindex as coco
from cocoindex.connectorkits.batching import chunks
from cocoindex.connectorkits.retry import NotConnected, retrying
from cocoindex.connectorkits.rows import key_text
from cocoindex.connectorkits.tables.actions import AttachmentAction, TableAction, TableRun
from cocoindex.connectorkits.tables.changes import Left, bring_up, leave, settle, verify
from cocoindex.connectorkits.tables.dialect import Dialect
from cocoindex.connectorkits.tables.model import Blocker, RowAction, Table
from cocoindex.errors import CocoIndexError, MissingKeyError, TargetError, UsageTypeError

__all__ = ["AttachmentSink", "RowSink", "TableSink", "client_of"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

AnyDialect = Dialect[Any, Any]


def client_of(
    dialect: AnyDialect,
    context_provider: coco.ContextProvider,
    table: Table,
    *,
    is_undeclared: bool = False,
) -> Any:
    """The client that is provided for a table. ``None``, if that is provided, says that a table
    which is not declared any more shall be forgotten as it stands.

    Raises:
        KeyError: nothing is provided under the key.
        TypeError: what is provided is of another type.
    """
    try:
        client = context_provider.get(table.db_key)
    except MissingKeyError as error:
        what = f"{dialect.name} table {table}"
        if not is_undeclared:
            raise MissingKeyError(f"{what} needs a connection: {error}") from None
        key = table.db_key
        raise MissingKeyError(
            f"{what} is not declared any more, and can't be removed: it was written through the "
            f"context key {key!r}, and nothing is provided under that name now. Provide the "
            "database under it until the table is removed; or, if the key was renamed, forget "
            f"what was written under its old name: builder.provide(coco.ContextKey({key!r}), None)"
        ) from None
    if client is None and is_undeclared:
        return None
    wanted = dialect.client_type()
    if not isinstance(client, wanted):
        names = [cls.__name__ for cls in (wanted if isinstance(wanted, tuple) else (wanted,))]
        raise UsageTypeError(
            f"{dialect.name} table {table}: the context key {table.db_key!r} should hold "
            f"{' or '.join(names)}, not {type(client).__name__}"
        )
    return client


class _Stage:
    """The transactions of an attempt, and its failures in words."""

    def __init__(self, dialect: AnyDialect, client: Any, table: Table) -> None:
        self._dialect = dialect
        self._client = client
        self._table = table

    def transaction(self, *, ddl: bool = False) -> contextlib.AbstractAsyncContextManager[Any]:
        """A transaction of the client."""
        return self._dialect.transaction(self._client, self._table, ddl=ddl)

    async def run(self, attempt: Callable[[_Stage], Awaitable[T]]) -> T:
        """Make an attempt; that there is no connection is told with the key it was to come by."""
        try:
            return await attempt(self)
        except NotConnected as error:
            place = f"{error.place} (context key {self._table.db_key!r})"
            raise NotConnected(place, error.orig) from None


async def _attempts(
    dialect: AnyDialect,
    client: Any,
    table: Table,
    doing: str,
    attempt: Callable[[_Stage], Awaitable[T]],
) -> T:
    """Retry what may pass; word what does not."""
    stage = _Stage(dialect, client, table)
    what = f"{dialect.name} table {table}: {doing}"
    try:
        return await retrying(
            lambda: stage.run(attempt),
            is_transient=dialect.is_transient,
            what=what,
            describe=dialect.describe,
        )
    except CocoIndexError:
        raise
    except Exception as error:  # noqa: BLE001 - any driver's; its text may hold data
        advice = _GONE.format(table.db_key) if dialect.is_missing(error) else ""
        raise TargetError(f"{what}: {dialect.describe(error)}{advice}", error) from None


_GONE: Final = (
    ". The table was dropped, or the context key {!r} leads to another database now: run once with "
    "full_reprocess=True (--full-reprocess) to make it again, with all rows"
)


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
            gone = action.run.spec is None
            client = client_of(self.dialect, context_provider, self.table, is_undeclared=gone)
            if client is None:
                _log.warning("%s table %s stays and is forgotten", self.dialect.name, self.table)
            elif gone:
                await self._leave(client, action.run)
            else:
                await self._bring_up(client, action)

    async def _bring_up(self, client: Any, action: TableAction) -> None:
        assert action.run.spec is not None
        blockers = action.run.spec.undo
        try:
            await self._change(client, action, ())
        except TargetError as error:
            if not blockers or error.orig is None or not self.dialect.is_blocked(error.orig):
                raise
            await self._change(client, action, blockers)

    async def _change(self, client: Any, action: TableAction, blockers: Sequence[Blocker]) -> None:
        """Change the table, without those of its attachments that may be in the way."""
        kinds, layout = self.dialect.attachments, action.run.layout

        async def attempt(stage: _Stage) -> None:
            async with stage.transaction(ddl=True) as tx:
                for blocker in blockers:
                    await kinds[blocker.kind].undo(tx, layout, blocker.key, blocker.data)
                await bring_up(self.dialect, tx, action)

        await _attempts(self.dialect, client, self.table, action.brief, attempt)

    async def _leave(self, client: Any, run: TableRun) -> None:
        outcome = await _leave(self.dialect, client, run)
        if outcome == "replaced":
            _log.warning(
                "%s table %s stays, with all its rows: it is not the one that this app made, which "
                "somebody has dropped.",
                self.dialect.name,
                self.table,
            )
        if outcome == "not ours":
            _log.warning(
                "%s table %s stays: it was not made by this app. What the app wrote into it %s.",
                self.dialect.name,
                self.table,
                "stays too (on_undeclare='keep')"
                if run.keeps_rows
                else "is deleted; another app that has written rows with the same keys gets them "
                "back by a run with full_reprocess=True",
            )


async def _leave(dialect: AnyDialect, client: Any, run: TableRun) -> Left:
    async def attempt(stage: _Stage) -> Left:
        async with stage.transaction(ddl=True) as tx:
            return await leave(dialect, tx, run)

    return await _attempts(dialect, client, run.table, f"drop table {run.table}", attempt)


async def _is_usable(dialect: AnyDialect, client: Any, run: TableRun) -> bool:
    """Whether the table is there for its rows and attachments.

    One that was undeclared goes now, with all that is in it, if it is ours.
    """
    if run.may_be_dropped:
        return await run.leave(lambda: _leave_if_possible(dialect, client, run)) != "gone"
    if run.spec is None:
        return await run.check(lambda: _is_there(dialect, client, run))
    if run.needs_check:

        async def attempt(stage: _Stage) -> None:
            async with stage.transaction() as tx:
                await verify(dialect, tx, run)

        await run.check(lambda: _attempts(dialect, client, run.table, "looking at it", attempt))
    return True


async def _is_there(dialect: AnyDialect, client: Any, run: TableRun) -> bool:
    """Whether a table that its user manages, and that was undeclared, still exists."""

    async def attempt(stage: _Stage) -> bool:
        async with stage.transaction() as tx:
            return await dialect.inspect(tx, run.table) is not None

    is_there = await _attempts(dialect, client, run.table, "looking at it", attempt)
    if not is_there:
        _log.info("%s table %s is gone, and its rows with it", dialect.name, run.table)
    return is_there


async def _leave_if_possible(
    dialect: AnyDialect, client: Any, run: TableRun
) -> Literal["gone", "still there"]:
    try:
        outcome = await _leave(dialect, client, run)
    except TargetError as error:
        # Rows go one by one then. What is in the way may be an attachment that goes as well; if
        # not, the table's own deletion says so.
        if error.orig is not None and dialect.is_blocked(error.orig):
            return "still there"
        raise
    return "still there" if outcome == "not ours" else "gone"


@dataclass(frozen=True)
class RowSink:
    """Writes and deletes rows of one table: a transaction per chunk."""

    dialect: AnyDialect
    table: Table

    async def __call__(
        self, context_provider: coco.ContextProvider, actions: Sequence[RowAction]
    ) -> None:
        """Apply actions, those of one run after those of another."""
        client = client_of(
            self.dialect,
            context_provider,
            self.table,
            is_undeclared=all(action.run.spec is None for action in actions),
        )
        if client is None:
            return
        by_run: dict[object, tuple[TableRun, list[RowAction]]] = {}
        for run, of_run in groupby(actions, attrgetter("run")):  # neighbours mostly share it
            by_run.setdefault(run.group, (run, []))[1].extend(of_run)
        for run, all_of_run in by_run.values():
            if await _is_usable(self.dialect, client, run):
                await self._write(client, run, all_of_run)
                if run.loose:
                    await self._settle(client, run)

    async def _settle(self, client: Any, run: TableRun) -> None:
        """These rows may have been the last that had no value in a column."""

        async def attempt(stage: _Stage) -> bool:
            async with stage.transaction(ddl=True) as tx:
                return await settle(self.dialect, tx, run)

        if await _attempts(self.dialect, client, self.table, "making columns NOT NULL", attempt):
            run.loose = ()

    async def _write(self, client: Any, run: TableRun, actions: list[RowAction]) -> None:
        dialect = self.dialect
        size = 0

        def size_of(action: RowAction) -> int:
            nonlocal size
            added = dialect.size_of(action.fields)
            size += added
            return added

        parts = chunks(
            sorted(actions, key=_writes),
            rows=dialect.max_rows,
            bytes=dialect.max_bytes,
            size_of=size_of,
        )
        for part in parts:
            try:
                await self._write_chunk(client, run, part, size)
                size = 0
            except TargetError as error:
                if not await self._rewrite(client, run, [part, *parts], error):
                    raise await self._naming_the_row(client, run, part, error) from None
                return

    async def _write_chunk(
        self, client: Any, run: TableRun, part: list[RowAction], size: int
    ) -> None:
        started, attempts = time.perf_counter(), 0

        async def attempt(stage: _Stage) -> int:
            nonlocal attempts
            attempts += 1
            return await self._apply(stage, run, part)

        statements = await _attempts(self.dialect, client, self.table, _counted(part), attempt)
        self._done(run, [part], size, statements, attempts - 1, started)

    def _done(
        self,
        run: TableRun,
        parts: Sequence[Sequence[RowAction]],
        size: int,
        statements: int,
        retries: int,
        started: float,
    ) -> None:
        if run.refused:
            for key in [action.key for part in parts for action in part]:
                run.refused.pop(key, None)
        written = sum(action.fields is not None for part in parts for action in part)
        coco.report_target_stats(
            f"{self.dialect.name} table {self.table}",
            rows_upserted=written,
            rows_deleted=sum(map(len, parts)) - written,
            bytes=size,
            statements=statements,
            retries=retries,
            seconds=time.perf_counter() - started,
        )

    async def _rewrite(
        self, client: Any, run: TableRun, parts: list[list[RowAction]], error: TargetError
    ) -> bool:
        """Delete rows that may have swapped unique values, and insert them again, at once.

        If that does not help, they are remembered: rows that come later in this run may be what
        they have swapped with. Their component has failed by then, but its rows are right.
        """
        if error.orig is None or not self.dialect.is_taken(error.orig):
            return False
        upserts = {a.key: a for part in parts for a in part if a.fields is not None}
        earlier = [action for key, action in run.refused.items() if key not in upserts]
        if await self._rewritten(client, run, parts):
            return True
        if earlier and await self._rewritten(client, run, [earlier, *parts]):
            return True
        run.refused.update(upserts)
        return False

    async def _rewritten(
        self, client: Any, run: TableRun, parts: Sequence[Sequence[RowAction]]
    ) -> bool:
        dialect, started = self.dialect, time.perf_counter()

        async def attempt(stage: _Stage) -> int | None:
            count = 0
            async with stage.transaction() as tx:
                if not await dialect.may_rewrite(tx, run.layout):
                    return None
                for part in parts:
                    keys = [action.key for action in part]
                    count += await dialect.write(tx, run.layout, [], keys)
                for part in parts:
                    upserts = [action for action in part if action.fields is not None]
                    count += await dialect.write(tx, run.layout, upserts, [])
            return count

        try:
            count = await _attempts(dialect, client, self.table, "writing rows anew", attempt)
        except TargetError as error:
            if error.orig is not None and dialect.blames_row(error.orig):
                return False
            raise
        if count is None:
            return False
        size = sum(dialect.size_of(action.fields) for part in parts for action in part)
        self._done(run, parts, size, count, 0, started)
        return True

    async def _apply(
        self, stage: _Stage, run: TableRun, part: Sequence[RowAction], *, undo: bool = False
    ) -> int:
        upserts = [action for action in part if action.fields is not None]
        deletes = [action.key for action in part if action.fields is None]
        async with stage.transaction() as tx:
            statements = await self.dialect.write(tx, run.layout, upserts, deletes)
            if undo:
                raise _Undo
        return statements

    async def _naming_the_row(
        self, client: Any, run: TableRun, part: list[RowAction], error: TargetError
    ) -> TargetError:
        """The same error, with the key of the first row that is at fault by itself."""
        if error.orig is None or not self.dialect.blames_row(error.orig):
            return error
        found = await self._first_refused(client, run, part)
        if found is None:
            return error
        what = f"{self.dialect.name} table {self.table}: {_counted(part)}"
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
        stage = _Stage(self.dialect, client, self.table)
        try:
            await self._apply(stage, run, part, undo=True)
        except _Undo:
            return True
        except Exception as error:  # noqa: BLE001 - of any driver
            return not self.dialect.blames_row(error)
        return True


class _Undo(Exception):
    """Rolls a transaction back that was only tried."""


def _counted(part: Sequence[RowAction]) -> str:
    upserts = sum(action.fields is not None for action in part)
    return f"writing {upserts} and deleting {len(part) - upserts} rows"


def _writes(action: RowAction) -> bool:
    """Deletes come first: what is unique may move from a row that goes to one that comes."""
    return action.fields is not None


@dataclass(frozen=True)
class AttachmentSink:
    """Makes and removes attachments of one table."""

    dialect: AnyDialect
    table: Table

    async def __call__(
        self, context_provider: coco.ContextProvider, actions: Sequence[AttachmentAction]
    ) -> None:
        """Apply actions one by one: they are few, and each is a statement of its own."""
        client = client_of(
            self.dialect,
            context_provider,
            self.table,
            is_undeclared=all(action.run.spec is None for action in actions),
        )
        if client is None:
            return
        for action in actions:
            goes_first = action.kind.outlives_table and action.spec is None
            if goes_first or await _is_usable(self.dialect, client, action.run):
                await self._apply(client, action)

    async def _apply(self, client: Any, action: AttachmentAction) -> None:
        layout = action.run.layout

        async def attempt(_stage: _Stage) -> None:
            for data in action.drops:
                await action.kind.drop(client, layout, action.key, data)
            if action.spec is None:
                return
            if not await self._create(client, action):
                _log.info("%s table %s: %s waits for rows", self.dialect.name, self.table, action)

        await _attempts(self.dialect, client, self.table, str(action), attempt)

    async def _create(self, client: Any, action: AttachmentAction) -> bool:
        try:
            return await action.kind.create(client, action.run.layout, action.key, action.spec)
        except TargetError as error:
            if not action.may_be_there or error.orig is None:
                raise
            if not action.kind.is_done(action.spec, error.orig):
                raise
            _log.info("%s; taken for done", error)
            return True
