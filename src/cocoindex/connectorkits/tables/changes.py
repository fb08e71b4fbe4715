"""From what should be and what stands there to operations on a table.

:func:`planned` tells from records alone what a run will probably do, for previews.
:func:`bring_up`, :func:`verify` and :func:`leave` decide inside the transaction that also
carries it out, from what the catalog says; so a crash between DDL and tracking, a second
process, or a lost state store can't lead to a statement that does not fit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, Literal

from cocoindex.connectorkits.tables.actions import TableAction, TableRun
from cocoindex.connectorkits.tables.dialect import Dialect
from cocoindex.connectorkits.tables.model import (
    COLUMN,
    Existing,
    ExistingColumn,
    Layout,
    LayoutColumn,
    Part,
    TableRecord,
    TableSpec,
)
from cocoindex.connectorkits.tables.operations import (
    AddColumn,
    ChangeColumn,
    CreateTable,
    DropColumn,
    DropTable,
    Operation,
    SetMarker,
)
from cocoindex.errors import TargetError

__all__ = ["bring_up", "leave", "planned", "settle", "verify"]

_log = logging.getLogger(__name__)

AnyDialect = Dialect[Any, Any]

Left = Literal["dropped", "absent", "not ours", "replaced"]


# --- Previews ------------------------------------------------------------------------------


def planned(action: TableAction) -> list[Operation]:
    """What the records say has to be done."""
    run, decision = action.run, action.decision
    table = run.table
    if run.spec is None:
        return [DropTable(table, _options(action.prev))] if run.may_be_dropped else []
    create = _create(run)
    if decision.main == "replace":
        return [DropTable(table, run.spec.options), create]
    if decision.main == "insert" or (decision.main == "upsert" and not decision.parts):
        return [create]
    changes = list(_planned_columns(action))
    return [create, *changes] if decision.main == "upsert" else changes


def _planned_columns(action: TableAction) -> Iterator[Operation]:
    table = action.run.table
    columns = {column.name: column for column in action.run.layout.columns}
    for part, what in action.decision.parts.items():
        if not part.startswith(COLUMN):
            continue
        name = part.removeprefix(COLUMN)
        if what == "delete":
            yield DropColumn(table, name)
        elif what == "replace":
            yield ChangeColumn(table, columns[name], _recorded(part, action.prev))
        elif what == "insert":
            yield AddColumn(table, columns[name])


def _recorded(part: str, prev: tuple[TableRecord, ...]) -> ExistingColumn:
    found: Part = next(
        (known for record in reversed(prev) if (known := record.tracking_record.sub.get(part))),
        None,
    )
    return ExistingColumn(*(found or ("?", True)))


def _options(prev: tuple[TableRecord, ...]) -> dict[str, Any]:
    return prev[-1].options if prev else {}


def _create(run: TableRun) -> CreateTable:
    layout, spec = run.layout, run.spec
    options = {} if spec is None else spec.options
    return CreateTable(layout.table, layout.columns, layout.key, layout.main, options)


# --- Tables that we manage -----------------------------------------------------------------


async def bring_up(dialect: AnyDialect, tx: Any, action: TableAction) -> None:
    """Make the table what was declared.

    Raises:
        TargetError: a table stands there that is not ours and does not fit.
    """
    run, spec = action.run, action.run.spec
    assert spec is not None
    await dialect.prepare(tx, spec)
    existing = await dialect.inspect(tx, run.table)
    if existing is None:
        if action.decision.main is None and action.decision.invalidation is None:
            raise _changed_by_others(dialect, run, "is gone")
        if spec.is_gone and action.prev:
            _log.warning(
                "%s table %s is not there any more (it was dropped, or the context key %r leads to "
                "another database): it is made again, with all rows",
                dialect.name,
                run.table,
                run.table.db_key,
            )
        await dialect.apply(tx, None, [_create(run), SetMarker(run.table, spec.marker)])
        spec.seen_ours.add(spec.marker)
        return
    ours = existing.marker == spec.marker and _is_the_marked_one(dialect, existing, run.prev)
    if not ours and spec.if_exists == "error" and action.decision.main in ("insert", "upsert"):
        raise TargetError(
            f"{dialect.name} table {run.table} already exists and was not made by this app "
            "(if_exists='error'). Choose another name, or if_exists='adopt' to use it as it is."
        )
    if not ours and spec.if_exists == "own":
        await dialect.apply(tx, existing, [SetMarker(run.table, spec.marker)])
        ours = True
    if not ours and action.decision.main == "insert" and _is_marked(existing):
        _log.warning(
            "%s table %s was made by %s (it is marked %r) and is shared with it from now on: rows "
            "with the same keys overwrite each other, and whoever deletes them takes them from the "
            "other. Choose another table name unless this is meant",
            dialect.name,
            run.table,
            _maker(existing, spec),
            existing.marker,
        )
    if await _must_rebuild(dialect, tx, action, existing):
        if action.decision.main is None:
            raise _changed_by_others(dialect, run, "has another primary key, or is of another kind")
        await _rebuild(dialect, tx, run, spec, existing, ours)
    else:
        await _alter(dialect, tx, action, existing, ours)
    (spec.seen_ours.add if ours else spec.seen_ours.discard)(spec.marker)


def _is_marked(existing: Existing) -> bool:
    """Whether some app of ours has made the table."""
    return (existing.marker or "").startswith("cocoindex:")


def _maker(existing: Existing, spec: TableSpec) -> str:
    is_same = (existing.marker or "").startswith(f"cocoindex:{spec.app}:")
    return "this app through another context key" if is_same else "another app"


def _is_the_marked_one(
    dialect: AnyDialect, existing: Existing, prev: tuple[TableRecord, ...]
) -> bool:
    """Whether it can be the table that was marked, as far as records tell."""
    if not dialect.marks_names or not prev:
        return True
    return any(_is_as_recorded(dialect, existing, record) for record in prev)


def _is_as_recorded(dialect: AnyDialect, existing: Existing, record: TableRecord) -> bool:
    signature = record.tracking_record
    key = [column.name.casefold() for column in dialect.key_columns(signature.main)]
    columns = {
        part.removeprefix(COLUMN).casefold() for part in signature.sub if part.startswith(COLUMN)
    }
    # Tables of some kinds have a key that the catalog does not tell.
    same_key = not existing.key or [name.casefold() for name in existing.key] == key
    return same_key and columns <= {name.casefold() for name in existing.columns}


def _changed_by_others(dialect: AnyDialect, run: TableRun, what: str) -> TargetError:
    """Rows of this app would be lost: it does not know that it has to write them again."""
    return TargetError(
        f"{dialect.name} table {run.table} {what}, and this app has not done that. Run once with "
        "full_reprocess=True to make it as declared, with all rows."
    )


async def _must_rebuild(
    dialect: AnyDialect, tx: Any, action: TableAction, existing: Existing
) -> bool:
    if action.decision.main == "replace":
        return True
    layout = action.run.layout
    if existing.main is not None:
        return existing.main != layout.main
    if existing.key != layout.key:
        return True
    key = [(existing.columns[c.name].type, str(c.type)) for c in layout.key_columns]
    return not all(await dialect.same_types(tx, key))


async def _rebuild(
    dialect: AnyDialect, tx: Any, run: TableRun, spec: TableSpec, existing: Existing, ours: bool
) -> None:
    if not ours:
        raise _does_not_fit(dialect, run, [_key_difference(run.layout, existing)], existing)
    await dialect.apply(
        tx,
        existing,
        [DropTable(run.table, spec.options), _create(run), SetMarker(run.table, spec.marker)],
    )


def _key_difference(layout: Layout, existing: Existing) -> str:
    found = ", ".join(_found(name, existing.columns[name]) for name in existing.key)
    declared = ", ".join(map(str, layout.key_columns))
    if existing.key and found.casefold() != declared.casefold():
        return f"its primary key is ({found}), declared ({declared})"
    if not existing.key and existing.main is None:
        return f"it has no primary key, declared ({declared})"
    return "it is a table of another kind, such as a virtual or a strict one"


async def _alter(
    dialect: AnyDialect, tx: Any, action: TableAction, existing: Existing, ours: bool
) -> None:
    run = action.run
    assert run.spec is not None
    operations, differences = await _compare(dialect, tx, run.layout, existing)
    for name in _found_columns(action, existing):
        if await dialect.holds_values(tx, run.table, name):
            raise _changed_by_others(dialect, run, f"has a column {name} with values in it")
    if action.decision.main is None:
        operations = [op for op in operations if _concerns(op, action.decision.parts)]
    if not ours:
        # As nullable: their rows have no value in it, and a table must not be rebuilt for that.
        operations = [
            replace(op, not_null_later=not op.column.nullable)
            for op in operations
            if isinstance(op, AddColumn)
        ]
        if differences:
            raise _does_not_fit(dialect, run, differences, existing)
    operations = [
        replace(op, options=run.spec.options) if isinstance(op, ChangeColumn) else op
        for op in operations
    ]
    for name in _leaving_columns(action, existing):
        if ours:
            operations.append(DropColumn(run.table, name, run.spec.options))
        else:
            _log.warning(
                "%s table %s: column %s is no longer declared; it stays, because the table was "
                "not made by this app",
                dialect.name,
                run.table,
                name,
            )
    if operations:
        await dialect.apply(tx, existing, operations)
    if ours:
        await _settle(dialect, tx, action, existing)


def _concerns(operation: Operation, parts: Mapping[str, Any]) -> bool:
    """Whether it is about a column that was declared anew. What others did to the rest stays:
    converting a column may harm values that nobody would write again.
    """
    if isinstance(operation, (AddColumn, ChangeColumn)):
        return f"{COLUMN}{operation.column.name}" in parts
    return True


def _found_columns(action: TableAction, existing: Existing) -> list[str]:
    """Columns that are new to us and stand in the table; ``None`` would not replace what is in
    them, because rows without a new value are not written.
    """
    decision = action.decision
    if decision.main is not None or decision.invalidation is not None:
        return []
    return [
        name
        for part, what in decision.parts.items()
        if what == "insert"
        and part.startswith(COLUMN)
        and (name := part.removeprefix(COLUMN)) in existing.columns
    ]


def _leaving_columns(action: TableAction, existing: Existing) -> list[str]:
    return [
        name
        for part, what in action.decision.parts.items()
        if what == "delete"
        and part.startswith(COLUMN)
        and (name := part.removeprefix(COLUMN)) in existing.columns
    ]


async def _compare(
    dialect: AnyDialect, tx: Any, layout: Layout, existing: Existing
) -> tuple[list[Operation], list[str]]:
    """What makes the columns fit; and what doesn't fit, in words, additions left out."""
    known = [column for column in layout.columns if column.name in existing.columns]
    same = await dialect.same_types(
        tx, [(existing.columns[column.name].type, str(column.type)) for column in known]
    )
    is_same = dict(zip((column.name for column in known), same, strict=True))
    later = dialect.adds_not_null == "later"
    operations: list[Operation] = []
    differences: list[str] = []
    for column in layout.columns:
        before = existing.columns.get(column.name)
        if before is None:
            operations.append(AddColumn(layout.table, column, later and not column.nullable))
            continue
        relaxed = column.nullable and not before.nullable
        tightened = before.nullable and not column.nullable and column.name not in layout.key
        if not is_same[column.name] or relaxed or (tightened and not later):
            operations.append(ChangeColumn(layout.table, column, before, later and tightened))
        if not is_same[column.name] or relaxed:
            differences.append(f"column {_found(column.name, before)}, declared {column}")
    differences += [
        f"column {_found(name, column)} is not declared, so rows can't be inserted"
        for name, column in existing.columns.items()
        if name not in layout.names and not column.nullable and not column.has_default
    ]
    return operations, differences


def _found(name: str, column: ExistingColumn) -> str:
    return str(LayoutColumn(name, column.type, column.nullable))


async def _settle(dialect: AnyDialect, tx: Any, action: TableAction, existing: Existing) -> None:
    """Make columns NOT NULL whose reason to be nullable may be over."""
    if dialect.adds_not_null == "at once" or action.record is None:
        return
    # Rows are about to get a value in those that are pending; the next update looks again.
    names = set(action.run.layout.others).difference(action.record.pending)
    for name in await _still_nullable(dialect, tx, action.run, existing, names):
        _log.warning(
            "%s table %s: column %s stays nullable for now, because some rows have no value in "
            "it: rows of components that have failed, or rows that are not this app's. It is "
            "looked at again whenever this app writes rows.",
            dialect.name,
            action.run.table,
            name,
        )


async def settle(dialect: AnyDialect, tx: Any, run: TableRun) -> bool:
    """As an update does, now that rows were written; whether there is nothing more to do."""
    existing = await dialect.inspect(tx, run.table)
    if existing is None or existing.marker not in run.markers:
        return True
    return not await _still_nullable(dialect, tx, run, existing, set(run.loose))


async def _still_nullable(
    dialect: AnyDialect, tx: Any, run: TableRun, existing: Existing, names: AbstractSet[str]
) -> list[str]:
    """Make columns NOT NULL that were declared so; those in which a row has no value."""
    waiting = [
        column
        for column in run.layout.columns
        if column.name in names
        and not column.nullable
        and (before := existing.columns.get(column.name)) is not None
        and before.nullable
    ]
    return [c.name for c in waiting if not await dialect.set_not_null(tx, run.table, c)]


def _does_not_fit(
    dialect: AnyDialect, run: TableRun, differences: list[str], existing: Existing
) -> TargetError:
    maker = f" (it is marked {existing.marker!r})" if _is_marked(existing) else ""
    listed = "; ".join(differences)
    return TargetError(
        f"{dialect.name} table {run.table} already exists, was not made by this app{maker}, and "
        f"is not as declared: {listed}. Choose another name, let its maker change it, or say "
        "managed_by='user' or if_exists='own'."
    )


# --- Tables that their user manages --------------------------------------------------------


async def verify(dialect: AnyDialect, tx: Any, run: TableRun) -> None:
    """Make sure that a table which is not ours to change can take the declared rows.

    Raises:
        TargetError: it is missing or does not fit; the differences are listed.
    """
    existing = await dialect.inspect(tx, run.table)
    if existing is None:
        raise TargetError(
            f"{dialect.name} table {run.table} does not exist, and managed_by='user' says that "
            "its user creates it"
        )
    operations, differences = await _compare(dialect, tx, run.layout, existing)
    missing = [f"column {op.column} is missing" for op in operations if isinstance(op, AddColumn)]
    key = frozenset(run.layout.key)
    if key not in (frozenset(existing.key), *existing.unique):
        found = f"its primary key is ({', '.join(existing.key)})" if existing.key else "it has none"
        missing.append(f"primary key ({', '.join(run.layout.key)}): {found}")
    if missing or differences:
        raise TargetError(
            f"{dialect.name} table {run.table} is managed by its user and is not as declared: "
            + "; ".join([*missing, *differences])
        )


# --- Tables that were undeclared -----------------------------------------------------------


async def leave(dialect: AnyDialect, tx: Any, run: TableRun) -> Left:
    """Drop an undeclared table if it carries our marker.

    ``"replaced"``: somebody has dropped ours and made another of its name, with rows of theirs.
    """
    existing = await dialect.inspect(tx, run.table)
    if existing is None:
        return "absent"
    if existing.marker not in run.markers:
        return "not ours"
    if not _is_the_marked_one(dialect, existing, run.prev):
        return "replaced"
    await dialect.apply(tx, existing, [DropTable(run.table, _options(run.prev))])
    return "dropped"
