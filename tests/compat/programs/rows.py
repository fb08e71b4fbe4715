"""Rows of a database: steps 1 to 4 of "Implementing root target states".

The code is the guide's. Added: a database in memory, and the imports the guide leaves out.
"""

# ruff: noqa: UP035  (imports as the guide writes them)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Collection, NamedTuple

from cocoindex._internal.context_keys import ContextProvider

import cocoindex as coco


class DatabaseConnection:
    """A database in memory. ``log`` has one line per statement."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.rows: dict[tuple[str, ...], dict[str, Any]] = {}
        self.log: list[str] = []
        self.fail_after: str | None = None

    async def upsert(self, table: str, key: tuple[str, ...], data: dict[str, Any]) -> None:
        self.rows[key] = data
        self._done(f"upsert {table} {'.'.join(key)}")

    async def delete(self, table: str, key: tuple[str, ...]) -> None:
        assert type(key) is tuple
        self.rows.pop(key, None)
        self._done(f"delete {table} {'.'.join(key)}")

    def _done(self, statement: str) -> None:
        self.log.append(statement)
        if statement == self.fail_after:
            raise ConnectionResetError("connection lost after the statement")


connection = DatabaseConnection()
table = "people"
seen: list[tuple[Any, list[Any], bool]] = []

# -- Step 1: Define your types

# Key: How to identify a target state
_RowKey = tuple[str, ...]  # Primary key values


# Value: What the user declares
@dataclass
class _RowSpec:
    data: dict[str, Any]


# Tracking Record: What to persist for change detection
@dataclass(frozen=True, slots=True)
class _RowTrackingRecord:
    fingerprint: bytes


# Action: What operation to perform
class _RowAction(NamedTuple):
    key: _RowKey
    data: dict[str, Any] | None  # None = delete


# -- Step 2: Implement the handler


class _RowHandler(coco.TargetHandler[_RowKey, _RowSpec, _RowTrackingRecord]):
    """Handler for database rows."""

    def __init__(self, connection: DatabaseConnection, table: str):
        self._conn = connection
        self._table = table
        self._sink = coco.TargetActionSink.from_async_fn(self._apply_actions)

    async def _apply_actions(
        self, context_provider: ContextProvider, actions: Sequence[_RowAction]
    ) -> None:
        # Connection was passed in __init__ — context_provider not needed here,
        # but must be accepted per the sink protocol.
        for action in actions:
            if action.data is None:
                await self._conn.delete(self._table, action.key)
            else:
                await self._conn.upsert(self._table, action.key, action.data)

    def _compute_fingerprint(self, data: dict[str, Any]) -> bytes:
        from cocoindex.connectorkits.fingerprint import fingerprint_object

        return fingerprint_object(data)

    def reconcile(
        self,
        key: _RowKey,
        desired_state: _RowSpec | coco.NonExistenceType,
        prev_possible_states: Collection[_RowTrackingRecord],
        prev_may_be_missing: bool,
        /,
    ) -> coco.TargetReconcileOutput[_RowAction, _RowTrackingRecord] | None:
        seen.append((key, list(prev_possible_states), prev_may_be_missing))

        # Handle deletion
        if coco.is_non_existence(desired_state):
            if not prev_possible_states and not prev_may_be_missing:
                return None  # Nothing to delete
            return coco.TargetReconcileOutput(
                action=_RowAction(key=key, data=None),
                sink=self._sink,
                tracking_record=coco.NON_EXISTENCE,
            )

        # Handle upsert
        target_fp = self._compute_fingerprint(desired_state.data)

        # Skip if unchanged
        if not prev_may_be_missing and all(
            prev.fingerprint == target_fp for prev in prev_possible_states
        ):
            return None

        return coco.TargetReconcileOutput(
            action=_RowAction(key=key, data=desired_state.data),
            sink=self._sink,
            tracking_record=_RowTrackingRecord(fingerprint=target_fp),
        )


# -- Step 3: Register the provider

_row_provider = coco.register_root_target_states_provider(
    "mycompany.io/mydb/row",  # Unique provider name
    _RowHandler(connection, table),
)


# -- Step 4: Create user-facing APIs


class TableTarget:
    """User-facing API for declaring rows."""

    def __init__(self, provider: coco.TargetStateProvider[_RowKey, _RowSpec, None]):
        self._provider = provider

    def declare_row(self, *, row: dict[str, Any], key: tuple[str, ...]) -> None:
        spec = _RowSpec(data=row)
        target_state = self._provider.target_state(key, spec)
        coco.declare_target_state(target_state)


# -- A program that uses it


def declare_people(people: dict[str, dict[str, Any]]) -> None:
    target = TableTarget(_row_provider)
    for name, row in people.items():
        target.declare_row(row=row, key=("id", name))
