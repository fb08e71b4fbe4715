"""Compares declared tables, rows and attachments with what is remembered of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

import cocoindex as coco
from cocoindex.connectorkits import container
from cocoindex.connectorkits.leaf import is_unchanged
from cocoindex.connectorkits.statediff import CompositeTrackingRecord
from cocoindex.connectorkits.tables.actions import (
    Attached,
    AttachmentAction,
    TableAction,
    TableRun,
)
from cocoindex.connectorkits.tables.attachment_kind import AttachmentKind
from cocoindex.connectorkits.tables.codec import make_codec, make_layout
from cocoindex.connectorkits.tables.dialect import Dialect
from cocoindex.connectorkits.tables.model import (
    COLUMN,
    Key,
    Layout,
    Main,
    Part,
    RowAction,
    Table,
    TableRecord,
    TableSpec,
)
from cocoindex.connectorkits.tables.observe import observe_keys, observe_pages
from cocoindex.connectorkits.tables.row_sink import RowSink
from cocoindex.connectorkits.tables.sinks import AttachmentSink, TableSink
from cocoindex.connectorkits.target import ManagedBy
from cocoindex.core.memo_key import fingerprint_object
from cocoindex.core.sentinels import NON_EXISTENCE, NonExistenceType

__all__ = ["AttachmentHandler", "AttachmentRecord", "RowHandler", "TableHandler"]

_log = logging.getLogger(__name__)

AnyDialect = Dialect[Any, Any]

_TableOutput: TypeAlias = "coco.TargetReconcileOutput[TableAction, TableRecord, RowHandler]"


class TableHandler(coco.TargetHandler[Key, TableSpec, TableRecord, "RowHandler"]):
    """The tables of one connector, by ``(db key, *path)``."""

    __slots__ = ("_dialect",)

    def __init__(self, dialect: AnyDialect) -> None:
        self._dialect = dialect

    def reconcile(
        self,
        key: Key,
        desired: TableSpec | NonExistenceType,
        prev: Collection[TableRecord],
        prev_may_be_missing: bool,
        /,
    ) -> coco.TargetReconcileOutput[TableAction, TableRecord, RowHandler]:
        """Always has an output while declared, because rows need their handler."""
        if isinstance(desired, NonExistenceType):
            return self._undeclared(key, tuple(prev))
        return self._declared(desired, tuple(prev), prev_may_be_missing)

    def reconcile_children_on_delete(self, _key: Key, record: TableRecord, /) -> bool:
        """Whether rows and attachments must go one by one because the table stays, or may stay."""
        if any(kind.outlives_table for kind in self._dialect.attachments.values()):
            return True  # rows of a table that goes are not deleted for that: see the sinks
        return record.managed_by == ManagedBy.USER or not record.owned

    def _undeclared(self, key: Key, prev: tuple[TableRecord, ...]) -> _TableOutput:
        main = prev[-1].tracking_record.main if prev else ()
        columns = self._dialect.key_columns(main)
        layout = Layout(Table.from_key(key), columns, tuple(c.name for c in columns), main)
        run = TableRun(layout, None, prev)
        decision = container.reconcile(NON_EXISTENCE, prev, False)
        action = TableAction(run, decision, None, prev)
        return coco.TargetReconcileOutput(action, self._sink(layout.table), NON_EXISTENCE)

    def _declared(
        self, spec: TableSpec, prev: tuple[TableRecord, ...], missing: bool
    ) -> _TableOutput:
        main, parts = self._dialect.signature(spec)
        signature: CompositeTrackingRecord[Any, str, Part] = CompositeTrackingRecord(main, parts)
        record = TableRecord(
            signature,
            spec.managed_by,
            marker=spec.marker,
            on_undeclare=spec.on_undeclare,
            options=dict(spec.options),
        )
        is_system = spec.managed_by == ManagedBy.SYSTEM
        owned = is_system and self._is_owned(spec, prev)
        is_lost = is_system and spec.is_gone and bool(prev)
        decision = container.reconcile(
            record,
            () if is_lost else _as_ours(prev),
            missing or is_lost,
            is_lossy=self._is_lossy,
        )
        if is_lost:
            decision = decision._replace(invalidation="destructive")
        settle = _to_settle(prev, parts) if is_system else ()
        pending = self._pending(decision, prev, parts) if is_system else ()
        is_anew = decision.main in ("insert", "replace")
        loose = () if is_anew else _loose(prev, parts, settle, pending)
        left = set() if owned else _left(prev)
        if decision.invalidation is None and _may_hold_values(spec, prev, parts, left):
            decision = decision._replace(invalidation="lossy")
        if not is_system and self._has_another_key(spec.table, main, prev):
            decision = decision._replace(invalidation="destructive")
        record = msgspec.structs.replace(
            record, owned=owned, pending=pending, loose=loose, left=tuple(sorted(left - {*parts}))
        )
        run = TableRun(make_layout(spec, main), spec, prev, loose=loose)
        action = TableAction(
            run,
            decision,
            record,
            prev,
            settle=settle,
            claim=owned
            and bool(prev)
            and not any(known.owned for known in prev)
            and spec.if_exists == "own",
        )
        sink = self._sink(spec.table)
        return coco.TargetReconcileOutput(action, sink, record, decision.invalidation)

    def _has_another_key(self, table: Table, main: Main, prev: tuple[TableRecord, ...]) -> bool:
        """Whether rows of a user's table were known by another key, so that none of them can be
        told by it any more: to delete by it would be to delete others.
        """
        key = self._dialect.key_columns(main)
        known = [self._dialect.key_columns(record.tracking_record.main) for record in prev]
        another = [before for before in known if before != key]
        if another:
            _log.warning(
                "%s table %s: rows were known by (%s) and are by (%s) from now on; those that are "
                "not declared any more stay in the table",
                self._dialect.name,
                table,
                ", ".join(map(str, another[-1])),
                ", ".join(map(str, key)),
            )
        return bool(another)

    @staticmethod
    def _is_owned(spec: TableSpec, prev: tuple[TableRecord, ...]) -> bool:
        if spec.if_exists == "own" or any(known.owned for known in prev):
            return True
        if not prev:
            return spec.if_exists == "error"  # the table is looked at before anything is written
        return spec.marker in spec.seen_ours

    def _is_lossy(self, part: str, before: Part, after: Part) -> bool:
        if not part.startswith(COLUMN):
            return False
        if after is None:
            return True
        if before is None or (before[1] and not after[1]):
            return not after[1]  # rows get a value in the column before it becomes NOT NULL
        return self._dialect.is_lossy(before, after)

    def _pending(
        self, decision: container.Decision, prev: tuple[TableRecord, ...], parts: dict[str, Part]
    ) -> tuple[str, ...]:
        if self._dialect.adds_not_null == "at once":
            return ()
        return tuple(
            part.removeprefix(COLUMN)
            for part, what in decision.parts.items()
            if (after := parts.get(part))
            and not after[1]
            and (what in ("insert", "replace") or (what == "upsert" and _may_be_null(part, prev)))
        )

    def _sink(self, table: Table) -> coco.TargetActionSink[TableAction, RowHandler]:
        return coco.TargetActionSink.from_async_fn(
            TableSink(self._dialect, table), child_handler=self._row_handler
        )

    def _row_handler(self, _provider: coco.ContextProvider, action: TableAction) -> RowHandler:
        return RowHandler(self._dialect, action.run)


def _as_ours(prev: tuple[TableRecord, ...]) -> list[TableRecord]:
    """Records as if we had managed the table all along: what its user is said to have made is
    there, and what is declared besides has to be added when the table is handed to us.
    """
    return [msgspec.structs.replace(record, managed_by=ManagedBy.SYSTEM) for record in prev]


def _left(prev: tuple[TableRecord, ...]) -> set[str]:
    """Columns that were declared once, as parts; in a table that is not ours they stay."""
    known = {part for record in prev for part in record.left}
    return known.union(part for record in prev for part in record.tracking_record.sub)


def _may_hold_values(
    spec: TableSpec, prev: tuple[TableRecord, ...], parts: dict[str, Part], left: set[str]
) -> bool:
    """Whether a column that is new to us may have values in our rows, which ``None`` has to
    replace: the table's user made it, or we did before. Of others, the sink finds out.
    """
    if spec.managed_by == ManagedBy.USER:
        return any(parts.keys() - record.tracking_record.sub.keys() for record in prev)
    return any(left & parts.keys() & {*record.left} for record in prev)


def _may_be_null(part: str, prev: tuple[TableRecord, ...]) -> bool:
    """Whether rows may lack a value in a column, because it may be new."""
    name = part.removeprefix(COLUMN)
    for record in prev:
        known = record.tracking_record.sub.get(part)
        if known is None or known[1] or name in (*record.pending, *record.loose):
            return True
    return False


def _to_settle(prev: tuple[TableRecord, ...], parts: dict[str, Part]) -> tuple[str, ...]:
    waiting = dict.fromkeys(name for record in prev for name in record.pending)
    return tuple(name for name in waiting if _is_required(name, parts))


def _loose(
    prev: tuple[TableRecord, ...],
    parts: dict[str, Part],
    settle: tuple[str, ...],
    pending: tuple[str, ...],
) -> tuple[str, ...]:
    """Columns of which a record can't tell whether they have become NOT NULL by now."""
    known = dict.fromkeys([*settle, *(name for record in prev for name in record.loose)])
    return tuple(name for name in known if _is_required(name, parts) and name not in pending)


def _is_required(name: str, parts: dict[str, Part]) -> bool:
    part = parts.get(f"{COLUMN}{name}")
    return part is not None and not part[1]


class RowHandler(coco.TargetHandler[Key, tuple[Any, ...], bytes]):
    """The rows of one table during one run, by primary key. Values are encoded fields."""

    __slots__ = ("_attachments", "_dialect", "_fingerprint", "_keeps", "_run", "_sink")

    def __init__(self, dialect: AnyDialect, run: TableRun) -> None:
        self._dialect = dialect
        self._run = run
        self._sink: coco.TargetActionSink[RowAction, None] = coco.TargetActionSink.from_async_fn(
            RowSink(dialect, run.table)
        )
        self._fingerprint = dialect.fingerprint(run.layout.names)
        self._keeps = run.keeps_rows
        self._attachments = {
            name: AttachmentHandler(dialect, run, name, kind)
            for name, kind in dialect.attachments.items()
        }

    def reconcile(
        self,
        key: Key,
        desired: tuple[Any, ...] | NonExistenceType,
        prev: Collection[bytes],
        prev_may_be_missing: bool,
        /,
    ) -> coco.TargetReconcileOutput[RowAction, bytes] | None:
        """Called for every declared row of every run: keep it short."""
        if isinstance(desired, NonExistenceType):
            if self._keeps or (not prev and not prev_may_be_missing):
                return None
            action = RowAction(key, None, False, self._run)
            return coco.TargetReconcileOutput(action, self._sink, NON_EXISTENCE)
        record = self._fingerprint(desired)
        if is_unchanged(record, prev, prev_may_be_missing):
            return None
        action = RowAction(key, desired, prev_may_be_missing and not prev, self._run)
        return coco.TargetReconcileOutput(action, self._sink, record)

    def attachments(self) -> Mapping[str, AttachmentHandler]:
        """A handler for every type of attachment, so that leftovers are found."""
        return self._attachments

    async def observe(
        self, context_provider: coco.ContextProvider, keys: Iterable[Key] | None, /
    ) -> Mapping[Key, Any] | AsyncIterator[Mapping[Key, Any]]:
        """The rows as they stand now; with ``keys=None`` all of them, in pages."""
        dialect, spec, layout = self._dialect, self._run.spec, self._run.layout
        if spec is None:
            return {}
        codec = make_codec(dialect, spec, stored=True)
        if keys is None:
            return observe_pages(dialect, context_provider, layout, codec, self._fingerprint)
        return await observe_keys(dialect, context_provider, layout, codec, self._fingerprint, keys)


class AttachmentRecord(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of an attachment.

    Attributes:
        fingerprint: of its specification.
        data: what is needed to remove it.
        built: whether it was surely made, and does not wait for rows.
    """

    fingerprint: bytes
    data: tuple[str | None, ...] = ()
    built: bool = True


class AttachmentHandler(coco.TargetHandler[str, Attached, AttachmentRecord]):
    """The attachments of one type to one table, by name."""

    __slots__ = ("_kind", "_name", "_run", "_sink")

    def __init__(
        self, dialect: AnyDialect, run: TableRun, name: str, kind: AttachmentKind[Any]
    ) -> None:
        self._run = run
        self._name = name
        self._kind = kind
        # What prevents the table from being dropped goes before its rows.
        last = kind.last and not (kind.outlives_table and run.spec is None)
        self._sink: coco.TargetActionSink[AttachmentAction, None] = (
            coco.TargetActionSink.from_async_fn(AttachmentSink(dialect, run.table), last=last)
        )

    def reconcile(
        self,
        key: str,
        desired: Attached | NonExistenceType,
        prev: Collection[AttachmentRecord],
        prev_may_be_missing: bool,
        /,
    ) -> coco.TargetReconcileOutput[AttachmentAction, AttachmentRecord] | None:
        """A changed specification removes what was made by the previous ones first."""
        kind, run = self._kind, self._run
        drops = tuple(dict.fromkeys(record.data for record in reversed([*prev])))
        if isinstance(desired, NonExistenceType):
            if not prev:
                return None
            action = AttachmentAction(run, kind, self._name, key, drops, None)
            return coco.TargetReconcileOutput(action, self._sink, NON_EXISTENCE)
        spec = desired.spec
        fingerprint = fingerprint_object(kind.identity(spec))
        same = all(record.fingerprint == fingerprint for record in prev)
        was_built = bool(prev) and all(record.built for record in prev)
        if same and was_built and not prev_may_be_missing:
            return None
        if same and kind.on_missing == "ensure":
            drops = ()
        built = (same and was_built) or not kind.needs_rows(spec) or desired.has_rows()
        record = AttachmentRecord(fingerprint, kind.data(spec), built)
        there = bool(prev) and same
        action = AttachmentAction(run, kind, self._name, key, drops, spec, may_be_there=there)
        return coco.TargetReconcileOutput(action, self._sink, record)
