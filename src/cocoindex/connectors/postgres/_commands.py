"""SQL commands that belong to a table: run once when declared, undone when no longer."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import asyncpg

from cocoindex.connectorkits.tables import AttachmentKind, Layout
from cocoindex.connectors.postgres._errors import describe, is_transient
from cocoindex.connectors.postgres._pool import acquired
from cocoindex.errors import TargetError

__all__ = ["SqlCommandKind", "SqlCommandSpec"]

_logger = logging.getLogger("cocoindex.connectors.postgres")

_GONE: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedObjectError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
)
"""What undoing something that is undone already fails with."""

_THERE: Final = (
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateObjectError,
    asyncpg.DuplicateFunctionError,
    asyncpg.DuplicateColumnError,
    asyncpg.DuplicateSchemaError,
)
"""What doing something fails with that is done already."""


class SqlCommandSpec(NamedTuple):
    """Commands to run.

    Attributes:
        setup: run when the command is new or changed.
        teardown: run before a change, and when the command goes; None to undo nothing.
        autocommit: run statement by statement, each on its own.
    """

    setup: str
    teardown: str | None
    autocommit: bool


class SqlCommandKind(AttachmentKind[SqlCommandSpec]):
    """Commands, by a name that the user gave them."""

    outlives_table = True
    may_block = True
    on_missing = "replace"

    def data(self, spec: SqlCommandSpec) -> tuple[str | None, ...]:
        return (spec.teardown, "autocommit" if spec.autocommit else None)

    def is_done(self, spec: SqlCommandSpec, error: BaseException) -> bool:
        return spec.teardown is None and isinstance(error, _THERE)

    async def create(self, client: Any, layout: Layout, key: str, spec: SqlCommandSpec) -> bool:
        try:
            await _run(client, spec.setup, autocommit=spec.autocommit)
        except asyncpg.PostgresError as error:
            if is_transient(error):
                raise
            raise _failed("setup", key, layout, error) from None
        return True

    async def drop(
        self, client: Any, layout: Layout, key: str, data: tuple[str | None, ...]
    ) -> None:
        teardown, autocommit = data
        if not teardown:
            return
        with _tearing_down(key, layout):
            await _run(client, teardown, autocommit=autocommit is not None)

    async def undo(self, tx: Any, layout: Layout, key: str, data: tuple[str | None, ...]) -> None:
        teardown, autocommit = data
        if not teardown or autocommit is not None:  # which no transaction could take back
            return
        with _tearing_down(key, layout):
            async with tx.transaction():
                await tx.execute(teardown)

    def describe(self, key: str, spec: SqlCommandSpec | None) -> str:
        return f"{'undo' if spec is None else 'run'} SQL command {key}"


@contextmanager
def _tearing_down(key: str, layout: Layout) -> Iterator[None]:
    try:
        yield
    except _GONE as error:
        _logger.info(
            "teardown of SQL command %s of table %s: %s; taken for done",
            key,
            layout.table,
            describe(error),
        )
    except asyncpg.PostgresError as error:
        if is_transient(error):
            raise
        raise _failed("teardown", key, layout, error) from None


def _failed(step: str, key: str, layout: Layout, error: Any) -> TargetError:
    what = f"{step} of SQL command {key!r} of table {layout.table} failed: {describe(error)}"
    return TargetError(what, error)


async def _run(client: Any, sql: str, *, autocommit: bool) -> None:
    async with acquired(client) as connection:
        if autocommit:
            for statement in _statements(sql):
                await connection.execute(statement)
            return
        async with connection.transaction():
            await connection.execute(sql)


def _statements(sql: str) -> Iterator[str]:
    """The statements between semicolons; those inside of quotes and comments don't count."""
    start = 0
    for position in _ends(sql):
        if sql[start:position].strip():
            yield sql[start:position]
        start = position + 1
    if sql[start:].strip():
        yield sql[start:]


_TOKEN: Final = re.compile(
    r"""(?P<end>;)
    | \b[eE]'(?:[^'\\]|''|\\.)*'  # text with escapes
    | '[^']*' | "[^"]*"  # text and names; a doubled quote ends one and begins the next
    | (?P<tag>\$\w*\$).*?(?P=tag)  # dollar quotes
    | --[^\n]* | /\*.*?\*/  # comments
    """,
    re.VERBOSE | re.DOTALL,
)


def _ends(sql: str) -> Iterator[int]:
    return (found.start() for found in _TOKEN.finditer(sql) if found["end"])
