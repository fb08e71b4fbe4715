"""The client of a table: found, and asked again where that may help."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import cocoindex as coco
from cocoindex.connectorkits.retry import NotConnected, retrying
from cocoindex.connectorkits.tables.actions import AttachmentAction
from cocoindex.connectorkits.tables.dialect import Dialect
from cocoindex.connectorkits.tables.model import RowAction, Table
from cocoindex.errors import CocoIndexError, MissingKeyError, TargetError, UsageTypeError

__all__ = ["AnyDialect", "Stage", "attempted", "client_for", "client_of"]

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


def client_for(
    dialect: AnyDialect,
    context_provider: coco.ContextProvider,
    table: Table,
    actions: Sequence[RowAction] | Sequence[AttachmentAction],
) -> Any:
    """:func:`client_of` the table that these actions are below."""
    is_undeclared = all(action.run.spec is None for action in actions)
    return client_of(dialect, context_provider, table, is_undeclared=is_undeclared)


class Stage:
    """The transactions of an attempt, and its failures in words."""

    def __init__(self, dialect: AnyDialect, client: Any, table: Table) -> None:
        self._dialect = dialect
        self._client = client
        self._table = table

    def transaction(self, *, ddl: bool = False) -> contextlib.AbstractAsyncContextManager[Any]:
        """A transaction of the client."""
        return self._dialect.transaction(self._client, self._table, ddl=ddl)

    async def run(self, attempt: Callable[[Stage], Awaitable[T]]) -> T:
        """Make an attempt; that there is no connection is told with the key it was to come by."""
        try:
            return await attempt(self)
        except NotConnected as error:
            place = f"{error.place} (context key {self._table.db_key!r})"
            raise NotConnected(place, error.orig) from None


async def attempted(
    dialect: AnyDialect,
    client: Any,
    table: Table,
    doing: str,
    attempt: Callable[[Stage], Awaitable[T]],
) -> T:
    """Retry what may pass; word what does not."""
    stage = Stage(dialect, client, table)
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
