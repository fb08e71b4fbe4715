"""Writes and deletes rows: a transaction per chunk."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import cocoindex as coco
from cocoindex.connectorkits.batching import chunks
from cocoindex.connectorkits.rows import key_text
from cocoindex.connectorkits.tables.actions import TableRun
from cocoindex.connectorkits.tables.changes import settle
from cocoindex.connectorkits.tables.clients import (
    AnyDialect,
    Stage,
    attempted,
    client_for,
)
from cocoindex.connectorkits.tables.model import RowAction, Table
from cocoindex.connectorkits.tables.sinks import is_usable
from cocoindex.errors import TargetError

__all__ = ["RowSink"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowSink:
    """Writes and deletes rows of one table: a transaction per chunk."""

    dialect: AnyDialect
    table: Table

    async def __call__(
        self, context_provider: coco.ContextProvider, actions: Sequence[RowAction]
    ) -> None:
        """Apply actions, those of one run after those of another."""
        client = client_for(self.dialect, context_provider, self.table, actions)
        if client is None:
            return
        by_run: dict[object, tuple[TableRun, list[RowAction]]] = {}
        for run, of_run in groupby(actions, attrgetter("run")):  # neighbours mostly share it
            by_run.setdefault(run.group, (run, []))[1].extend(of_run)
        for run, all_of_run in by_run.values():
            if await is_usable(self.dialect, client, run):
                await self._write(client, run, all_of_run)
                if run.loose:
                    await self._settle(client, run)

    async def _settle(self, client: Any, run: TableRun) -> None:
        """These rows may have been the last that had no value in a column."""

        async def attempt(stage: Stage) -> bool:
            async with stage.transaction(ddl=True) as tx:
                return await settle(self.dialect, tx, run)

        if await attempted(self.dialect, client, self.table, "making columns NOT NULL", attempt):
            run.loose = ()

    async def _write(self, client: Any, run: TableRun, actions: list[RowAction]) -> None:
        dialect, ordered = self.dialect, sorted(actions, key=_writes)
        sizes = [dialect.size_of(action.fields) for action in ordered]
        parts = chunks(ordered, rows=dialect.max_rows, bytes=dialect.max_bytes, sizes=sizes)
        end = 0
        for part in parts:
            start, end = end, end + len(part)
            try:
                await self._write_chunk(client, run, part, sum(sizes[start:end]))
            except TargetError as error:
                if not await self._rewrite(client, run, [part, *parts], error):
                    raise await self._naming_the_row(client, run, part, error) from None
                return

    async def _write_chunk(
        self, client: Any, run: TableRun, part: list[RowAction], size: int
    ) -> None:
        started, attempts = time.perf_counter(), 0

        async def attempt(stage: Stage) -> int:
            nonlocal attempts
            attempts += 1
            return await self._apply(stage, run, part)

        statements = await attempted(self.dialect, client, self.table, _counted(part), attempt)
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
        upserts = {a.key: a.fields for part in parts for a in part if a.fields is not None}
        earlier = [
            RowAction(key, fields, False, run)
            for key, fields in run.refused.items()
            if key not in upserts
        ]
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

        async def attempt(stage: Stage) -> int | None:
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
            count = await attempted(dialect, client, self.table, "writing rows anew", attempt)
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
        self, stage: Stage, run: TableRun, part: Sequence[RowAction], *, undo: bool = False
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
        stage = Stage(self.dialect, client, self.table)
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
