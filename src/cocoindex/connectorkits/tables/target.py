"""What users hold: a table to declare rows in."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, Final, Generic, Self, TypedDict, TypeVar, get_args
from weakref import WeakKeyDictionary

import cocoindex as coco
from cocoindex.connectorkits import identifiers
from cocoindex.connectorkits.rows import Extra, NaiveTz, RowOptions, key_text
from cocoindex.connectorkits.tables.actions import Attached
from cocoindex.connectorkits.tables.codec import make_codec
from cocoindex.connectorkits.tables.dialect import Dialect
from cocoindex.connectorkits.tables.handlers import RowHandler
from cocoindex.connectorkits.tables.model import (
    Blocker,
    IfExists,
    Key,
    OnUndeclare,
    Table,
    TableSpec,
)
from cocoindex.connectorkits.tables.schema import TableSchema
from cocoindex.connectorkits.target import ManagedBy
from cocoindex.errors import DuplicateError, UsageTypeError, UsageValueError

__all__ = ["TableOptions", "TableTarget", "table_state"]

RowT = TypeVar("RowT")


class TableOptions(TypedDict, total=False):
    """Options of every table target.

    Attributes:
        managed_by: ``"system"`` (default): the engine creates, alters and drops the table;
            ``"user"``: it only writes and deletes rows and attachments.
        if_exists: a table that is there but not known to this app is used if it fits
            (``"adopt"``, default), refused (``"error"``), or used and from now on ours
            (``"own"``).
        on_undeclare: whether our rows are deleted (``"delete_rows"``, default) or kept
            (``"keep"``) when a table that stays is undeclared.
        extra: what to do about keys of a dict row that are no columns: ``"warn"`` (default),
            ``"ignore"`` or ``"error"``.
        naive_tz: the zone of datetimes without one: a ``tzinfo``, ``"local"`` or ``"error"``.
        quoted: allow table and column names other than letters, digits and underscores.
    """

    managed_by: ManagedBy | str
    if_exists: IfExists
    on_undeclare: OnUndeclare
    extra: Extra
    naive_tz: NaiveTz
    quoted: bool


def table_state(
    root: coco.TargetStateProvider[Any, TableSpec, Any],
    dialect: Dialect[Any, Any],
    db: coco.ContextKey[Any],
    path: tuple[str | None, ...],
    schema: TableSchema[Any],
    options: TableOptions,
    *,
    own: Mapping[str, Any] | None = None,
    rows: Mapping[str, Any] | None = None,
    is_gone: bool = False,
) -> coco.TargetState[RowHandler]:
    """The target state of a table; checks names and options.

    Args:
        root: the connector's root provider.
        dialect: the connector's.
        db: names the connection.
        path: the table's name, last, within what is around it.
        schema: columns and key.
        options: what the user chose.
        own: options of the connector that concern the table; plain data, remembered.
        rows: options of the connector that concern rows.
        is_gone: the table is known not to be there; if it was there before, it is made again,
            with all rows.

    Raises:
        ValueError: a name or an option is not acceptable.
        TypeError: ``db`` is no context key.
    """
    if not isinstance(db, coco.ContextKey):
        raise UsageTypeError(
            f"{dialect.name} table {path[-1]}: db must be a ContextKey, not {type(db).__name__}"
        )
    if not isinstance(schema, TableSchema):
        raise _no_schema(dialect, path, schema)
    _check_names(dialect, path, schema, quoted=options.get("quoted", False))
    table = Table(db.key, path)
    app, seen_ours = _app()
    blockers = _Blockers.of(dialect, table)
    spec = TableSpec(
        table,
        schema,
        managed_by=_managed_by(options.get("managed_by", ManagedBy.SYSTEM)),
        if_exists=_one_of(IfExists, "if_exists", options.get("if_exists", "adopt")),
        on_undeclare=_one_of(
            OnUndeclare, "on_undeclare", options.get("on_undeclare", "delete_rows")
        ),
        rows=RowOptions(options.get("extra", "warn"), options.get("naive_tz"), dict(rows or {})),
        app=app,
        seen_ours=seen_ours,
        options=dict(own or {}),
        undo=blockers,
        is_gone=is_gone,
    )
    state: coco.TargetState[RowHandler] = root.target_state(table.key, spec)
    return state


def _no_schema(
    dialect: Dialect[Any, Any], path: tuple[str | None, ...], given: object
) -> UsageTypeError:
    what = type(given).__name__
    if isinstance(given, Coroutine):
        given.close()  # else Python warns of it, too
        what = "a coroutine: put 'await' before TableSchema.from_class(...)"
    elif isinstance(given, type):
        what = f"the class {given.__name__}: say await TableSchema.from_class({given.__name__}, …)"
    return UsageTypeError(
        f"{dialect.name} table {path[-1]}: table_schema must be a TableSchema, not {what}"
    )


def _check_names(
    dialect: Dialect[Any, Any],
    path: tuple[str | None, ...],
    schema: TableSchema[Any],
    *,
    quoted: bool,
) -> None:
    most = dialect.max_name_bytes
    *around, name = path
    for part in around:
        if part is not None:
            identifiers.check(part, "schema name", quoted=quoted, max_bytes=most)
    identifiers.check(name or "", "table name", quoted=quoted, max_bytes=most)
    for column in schema.columns:
        identifiers.check(column, "column name", quoted=quoted, max_bytes=most)


def _managed_by(value: ManagedBy | str) -> ManagedBy:
    try:
        return ManagedBy(value)
    except ValueError:
        raise UsageValueError(f"managed_by must be 'system' or 'user', not {value!r}") from None


def _one_of(choices: Any, name: str, value: Any) -> Any:
    allowed = get_args(choices)
    if value not in allowed:
        listed = " or ".join(map(repr, allowed))
        raise UsageValueError(f"{name} must be {listed}, not {value!r}")
    return value


_seen_ours: Final[WeakKeyDictionary[Any, set[str]]] = WeakKeyDictionary()


def _app() -> tuple[str, set[str]]:
    """The name of the app that declares the table, and the tables it was seen to own."""
    try:
        app = coco.get_component_context().execution.run.app
    except RuntimeError:
        return "", set()
    return app.name, _seen_ours.setdefault(app, set())


class _Blockers(Sequence[Blocker]):
    """What attachments of the version before need to be undone, and a note of those of this one
    for the next. Kept as state of the component that declares table and attachments: a table is
    changed before anything else is known about them.
    """

    def __init__(self, state: coco.StateHandle[list[Blocker]]) -> None:
        self._before = state.value
        self._state = state
        self._state.value = []

    @staticmethod
    def of(dialect: Dialect[Any, Any], table: Table) -> Sequence[Blocker]:
        """Those of a table; none where nothing can be noted."""
        if not any(kind.may_block for kind in dialect.attachments.values()):
            return ()
        try:
            key = ("cocoindex/undo", *table.key)
            return _Blockers(coco.use_state(key, [], type_hint=list[Blocker]))
        except RuntimeError:  # no component, a memoized call, or a path below the component's
            return ()

    def note(self, blocker: Blocker) -> None:
        """Note one of this version."""
        self._state.value = [*self._state.value, blocker]

    def __getitem__(self, index: Any) -> Any:
        return self._before[index]

    def __len__(self) -> int:
        return len(self._before)


class TableTarget(coco.ResolvesTo["TableTarget[RowT, Any]"], Generic[RowT, coco.MaybePendingS]):
    """A table that declared rows are kept in step with.

    A connector subclasses it, says ``dialect``, and adds what can be attached.
    """

    dialect: ClassVar[Dialect[Any, Any]]

    def __init__(self, provider: Any, table_schema: TableSchema[RowT] | TableSpec) -> None:
        self._provider = provider
        if isinstance(table_schema, TableSpec):
            self._spec = table_schema
        else:
            self._spec = TableSpec(Table.from_key(provider.keys[-1]), table_schema)
        self._codec = make_codec(self.dialect, self._spec)
        self._rows = 0

    @classmethod
    def declared(cls, state: coco.TargetState[RowHandler]) -> Self:
        """Declare ``state`` in the current component."""
        try:
            return cls(coco.declare_target_state_with_child(state), state.value)
        except DuplicateError:
            raise _twice(cls.dialect, state.value) from None

    @classmethod
    def mounted(cls, state: coco.TargetState[RowHandler]) -> Coroutine[Any, Any, Self]:
        """Mount ``state``; once that is awaited, rows can be declared."""
        # Mounted here: the component notices a mount that it has forgotten to await. Else the
        # table would go, as if nobody declared it any more.
        return _mounted(cls, coco.mount_target(state), state.value)

    def declare_row(self, *, row: RowT) -> None:
        """Declare one row: a dict, or an object with an attribute per column.

        Raises:
            ValueError: a value that its column can't hold, a key column that is missing.
            TypeError: a value of a type that its column can't hold.
        """
        key, fields = self._codec.encode(row)
        try:
            coco.declare_target_state(self._provider.target_state(key, fields))
        except DuplicateError:
            raise self._two_rows(key) from None
        self._rows += 1

    def _two_rows(self, key: Key) -> DuplicateError:
        named = zip(self._schema.primary_key, key, strict=True)
        columns = ", ".join(f"{name}={key_text((part,))}" for name, part in named)
        return DuplicateError(
            f"{self.dialect.name} table {self._table}: two rows with {columns}; a component "
            "declares each key once"
        )

    @property
    def _schema(self) -> Any:
        return self._spec.schema

    @property
    def _table(self) -> Table:
        return self._spec.table

    def _attach(self, kind: str, key: str, spec: Any) -> None:
        """Declare an attachment of the table."""
        of_kind = self.dialect.attachments[kind]
        if of_kind.may_block and isinstance(self._spec.undo, _Blockers):
            self._spec.undo.note(Blocker(kind, key, of_kind.data(spec)))
        attached = Attached(spec, lambda: self._rows > 0)
        provider = self._provider.attachment(kind)
        coco.declare_target_state(provider.target_state(key, attached))

    def __coco_memo_key__(self) -> object:
        return self._provider.memo_key


_TargetT = TypeVar("_TargetT", bound=TableTarget[Any, Any])


async def _mounted(cls: type[_TargetT], mount: Awaitable[Any], spec: TableSpec) -> _TargetT:
    try:
        return cls(await mount, spec)
    except DuplicateError:
        raise _twice(cls.dialect, spec) from None


_mounted.__qualname__ = "mount_table_target"  # Python warns of a forgotten await by this name


def _twice(dialect: Dialect[Any, Any], spec: TableSpec) -> DuplicateError:
    return DuplicateError(
        f"{dialect.name} table {spec.table} is mounted twice: mount it once, and pass the target "
        "to whoever declares rows in it"
    )
