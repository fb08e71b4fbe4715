"""Carries out what the handlers of tables and attachments have decided."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cocoindex as coco
from cocoindex.connectorkits.tables.actions import AttachmentAction, TableAction, TableRun
from cocoindex.connectorkits.tables.changes import Left, bring_up, leave, verify
from cocoindex.connectorkits.tables.clients import (
    AnyDialect,
    Stage,
    attempted,
    client_for,
    client_of,
)
from cocoindex.connectorkits.tables.model import Blocker, Table
from cocoindex.errors import TargetError

__all__ = ["AttachmentSink", "TableSink", "is_usable"]

_log = logging.getLogger(__name__)


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

        async def attempt(stage: Stage) -> None:
            async with stage.transaction(ddl=True) as tx:
                for blocker in blockers:
                    await kinds[blocker.kind].undo(tx, layout, blocker.key, blocker.data)
                await bring_up(self.dialect, tx, action)

        await attempted(self.dialect, client, self.table, action.brief, attempt)

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
    async def attempt(stage: Stage) -> Left:
        async with stage.transaction(ddl=True) as tx:
            return await leave(dialect, tx, run)

    return await attempted(dialect, client, run.table, f"drop table {run.table}", attempt)


async def is_usable(dialect: AnyDialect, client: Any, run: TableRun) -> bool:
    """Whether the table is there for its rows and attachments.

    One that was undeclared goes now, with all that is in it, if it is ours.
    """
    if run.may_be_dropped:
        return await run.leave(lambda: _leave_if_possible(dialect, client, run)) != "gone"
    if run.spec is None:
        return await run.check(lambda: _is_there(dialect, client, run))
    if run.needs_check:

        async def attempt(stage: Stage) -> None:
            async with stage.transaction() as tx:
                await verify(dialect, tx, run)

        await run.check(lambda: attempted(dialect, client, run.table, "looking at it", attempt))
    return True


async def _is_there(dialect: AnyDialect, client: Any, run: TableRun) -> bool:
    """Whether a table that its user manages, and that was undeclared, still exists."""

    async def attempt(stage: Stage) -> bool:
        async with stage.transaction() as tx:
            return await dialect.inspect(tx, run.table) is not None

    is_there = await attempted(dialect, client, run.table, "looking at it", attempt)
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
class AttachmentSink:
    """Makes and removes attachments of one table."""

    dialect: AnyDialect
    table: Table

    async def __call__(
        self, context_provider: coco.ContextProvider, actions: Sequence[AttachmentAction]
    ) -> None:
        """Apply actions one by one: they are few, and each is a statement of its own."""
        client = client_for(self.dialect, context_provider, self.table, actions)
        if client is None:
            return
        for action in actions:
            goes_first = action.kind.outlives_table and action.spec is None
            if goes_first or await is_usable(self.dialect, client, action.run):
                await self._apply(client, action)

    async def _apply(self, client: Any, action: AttachmentAction) -> None:
        layout = action.run.layout

        async def attempt(_stage: Stage) -> None:
            for data in action.drops:
                await action.kind.drop(client, layout, action.key, data)
            if action.spec is None:
                return
            if not await self._create(client, action):
                _log.info("%s table %s: %s waits for rows", self.dialect.name, self.table, action)

        await attempted(self.dialect, client, self.table, str(action), attempt)

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
