"""What is handed from handlers to sinks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

from cocoindex.connectorkits.container import Decision
from cocoindex.connectorkits.tables.attachment_kind import AttachmentKind
from cocoindex.connectorkits.tables.model import (
    COLUMN,
    Key,
    Layout,
    Table,
    TableRecord,
    TableSpec,
)
from cocoindex.connectorkits.tables.operations import brief
from cocoindex.connectorkits.target import ManagedBy

__all__ = ["Attached", "AttachmentAction", "Once", "TableAction", "TableRun"]

T = TypeVar("T")


class Once:
    """Does something once, however many ask for it; a failure is told to all of them."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._outcome: tuple[Any, Exception | None] | None = None

    async def __call__(self, make: Callable[[], Awaitable[T]]) -> T:
        """What ``make`` gave, or raised, the first time."""
        async with self._lock:
            if self._outcome is None:
                try:
                    self._outcome = (await make(), None)
                except Exception as error:  # noqa: BLE001 - raised below, for all who ask
                    # Without frames, and raised as a copy: frames hold actions, which lead here.
                    self._outcome = (None, error.with_traceback(None))
        result, failure = self._outcome
        if failure is not None:
            raise copy(failure)
        return cast("T", result)


class TableRun:
    """What the parts of one table share during one run.

    Attributes:
        layout: of its rows.
        spec: what was declared; ``None`` while the table is being undeclared.
        prev: what may be recorded of it, while it is being undeclared.
        check: makes sure, once, that a table which its user manages is as declared.
        leave: removes the table, once, if it is ours.
        loose: columns that may become NOT NULL when rows have been written.
        refused: fields of rows whose unique values were taken, by key; what comes later may free
            them. No actions: they lead here, and the collector does not look into them.
        group: equal for runs whose rows can be treated together.
    """

    __slots__ = ("check", "group", "layout", "leave", "loose", "prev", "refused", "spec")

    def __init__(
        self,
        layout: Layout,
        spec: TableSpec | None,
        prev: tuple[TableRecord, ...],
        *,
        loose: tuple[str, ...] = (),
    ) -> None:
        self.layout = layout
        self.spec = spec
        self.prev = prev
        # Every component whose rows go with an undeclared table has a run of its own, all alike.
        self.group: object = id(self) if spec is not None else (layout, self.markers)
        self.check = Once()
        self.leave = Once()
        self.loose = loose
        self.refused: dict[Key, tuple[Any, ...]] = {}

    @property
    def table(self) -> Table:
        """Which table."""
        return self.layout.table

    @property
    def needs_check(self) -> bool:
        """Whether the table is its user's, so that it must be looked at before it is written."""
        return self.spec is not None and self.spec.managed_by == ManagedBy.USER

    @property
    def may_be_dropped(self) -> bool:
        """Whether the table goes, unless it turns out not to be ours."""
        return self.spec is None and not any(p.managed_by == ManagedBy.USER for p in self.prev)

    @property
    def keeps_rows(self) -> bool:
        """Whether rows shall stay in a table that was undeclared and stays."""
        return self.spec is None and any(p.on_undeclare == "keep" for p in self.prev)

    @property
    def markers(self) -> frozenset[str]:
        """The markers by which the table would be ours."""
        if self.spec is not None:
            return frozenset((self.spec.marker,))
        return frozenset(record.marker for record in self.prev)


@dataclass(frozen=True, slots=True)
class TableAction:
    """Bring a table to what was declared, or remove it.

    Attributes:
        run: the table and what was declared about it.
        decision: what the records say has to be done.
        record: what will be remembered; ``None`` if the table was undeclared.
        prev: what may be recorded.
        settle: columns that have been waiting to become NOT NULL.
        claim: mark a table as ours that was not known to be.
    """

    run: TableRun
    decision: Decision
    record: TableRecord | None
    prev: tuple[TableRecord, ...]
    settle: tuple[str, ...] = ()
    claim: bool = False

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to do, so that no connection is needed."""
        if self.run.spec is None:
            return not self.run.may_be_dropped
        return self.decision.is_nothing and not self.settle and not self.claim

    def __str__(self) -> str:
        from cocoindex.connectorkits.tables.changes import planned

        return "; ".join(map(str, planned(self))) or f"keep table {self.run.table}"

    @property
    def brief(self) -> str:
        """As messages name it: without the columns of a table that is made."""
        from cocoindex.connectorkits.tables.changes import planned

        return "; ".join(map(brief, planned(self))) or str(self)

    def __coco_describe__(self) -> dict[str, object]:
        """For previews: what becomes of the table, and which columns it is about."""
        verb, columns = self._verb_and_columns()
        return {"target": self.run.table.shown, "verb": verb, "key": "table", "fields": columns}

    def _verb_and_columns(self) -> tuple[str, tuple[str, ...]]:
        main, parts = self.decision.main, self.decision.parts
        if self.run.spec is None:
            return ("delete" if self.run.may_be_dropped else "keep"), ()
        if main in ("insert", "replace"):
            return ("create" if main == "insert" else "replace"), self.run.layout.names
        changed = [part.removeprefix(COLUMN) for part in parts if part.startswith(COLUMN)]
        columns = tuple(dict.fromkeys([*changed, *self.settle]))
        return ("keep" if self.is_nothing else "alter"), columns


class Attached(NamedTuple):
    """What was declared about an attachment.

    Attributes:
        spec: the connector's specification.
        has_rows: whether rows were declared in the table by now.
    """

    spec: Any
    has_rows: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class AttachmentAction:
    """Make or remove one attachment.

    Attributes:
        run: the table's.
        kind: its type.
        key: its name.
        kind_name: how its type is called.
        drops: data of what may be there and must go first, newest first.
        spec: what to make; ``None`` for nothing.
        may_be_there: whether just this was made before, and may be there still.
    """

    run: TableRun
    kind: AttachmentKind[Any]
    kind_name: str
    key: str
    drops: tuple[tuple[str | None, ...], ...]
    spec: Any
    may_be_there: bool = False

    def __str__(self) -> str:
        return f"{self.kind.describe(self.key, self.spec)} on {self.run.table}"

    def __coco_describe__(self) -> dict[str, object]:
        """For previews: its type and name."""
        replaces = "replace" if self.drops else "create"
        return {
            "target": self.run.table.shown,
            "verb": "delete" if self.spec is None else replaces,
            "key": f"{self.kind_name} {self.key}",
        }
