"""State that a component keeps for itself between runs (``use_state``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cocoindex.core.keys import StableKey, encode_key, key_text
from cocoindex.core.sentinels import NOT_SET
from cocoindex.core.serde import deserialize, serialize
from cocoindex.engine import rows
from cocoindex.engine.generics import T1, Generic1
from cocoindex.engine.scope import current_scope
from cocoindex.errors import DeserializationError, SerializationError, UsageError

if TYPE_CHECKING:
    from cocoindex.engine.execution import Execution
    from cocoindex.state.base import Batch


class StateHandle(Generic1[T1]):
    """One value that survives until the next run; read and assign :attr:`value`."""

    __slots__ = ("_initial", "_key", "_stored", "_type_hint", "_value")

    def __init__(self, key: StableKey, initial: Any, stored: bytes | None, type_hint: Any) -> None:
        self._key = key
        self._initial = initial
        self._stored = stored
        self._type_hint = type_hint
        self._value: Any = NOT_SET

    @property
    def value(self) -> T1:
        if self._value is NOT_SET:
            self._value = self._initial if self._stored is None else self._decode(self._stored)
        return self._value  # type: ignore[no-any-return]

    @value.setter
    def value(self, value: T1) -> None:
        self._value = value

    def _decode(self, stored: bytes) -> Any:
        try:
            return deserialize(stored, self._type_hint)
        except DeserializationError as error:
            raise DeserializationError(f"state {key_text(self._key)}: {error}") from error

    def encode(self) -> bytes:
        """What to store: the value as it is now, or the stored one if it was never read."""
        if self._value is NOT_SET and self._stored is not None:
            return self._stored
        try:
            return serialize(self.value)
        except SerializationError as error:
            raise SerializationError(f"state {key_text(self._key)}: {error}") from error


class UserState:
    """The state values of one component in one execution."""

    def __init__(self, execution: Execution) -> None:
        self._prefix = rows.user_state_prefix(execution.id, rows.REGULAR_STATE)
        section = execution.run.app.section
        fresh = execution.place.is_fresh
        self._stored = {} if fresh else dict(section.scan(self._prefix))
        self._limits = execution.run.limits
        self._starts_over = execution.run.full_reprocess
        self._handles: dict[bytes, StateHandle[Any]] = {}

    def open(self, key: StableKey, initial: Any, type_hint: Any) -> StateHandle[Any]:
        encoded = encode_key(key)
        self._limits.check_key(key, encoded)
        row_key = self._prefix + encoded
        stored = None if self._starts_over else self._stored.get(row_key)
        handle: StateHandle[Any] = StateHandle(key, initial, stored, type_hint)
        if self._handles.setdefault(row_key, handle) is not handle:
            raise UsageError(f"use_state({key_text(key)}) was called twice in one execution")
        return handle

    def commit_rows(self) -> Batch:
        """Write what changed; delete stored keys that this execution did not ask for."""
        batch: list[tuple[bytes, bytes | None]] = []
        for row_key, handle in self._handles.items():
            payload = handle.encode()
            if payload != self._stored.get(row_key):
                batch.append((row_key, payload))
        batch += [(row_key, None) for row_key in self._stored if row_key not in self._handles]
        return batch

    def __len__(self) -> int:
        return len(self._handles)


def use_state(
    key: StableKey, initial_value: Any = None, *, type_hint: Any = None
) -> StateHandle[Any]:
    """A value that this component keeps between runs.

    Args:
        key: names the value within the component.
        initial_value: the value as long as none was committed.
        type_hint: decode the stored value into this type.

    Raises:
        ValueError: the key is longer than ``Limits.key_bytes``.
        RuntimeError: outside a component, inside a memoized call or a ``component_subpath``
            block, or the key was used before in this execution.
    """
    scope = current_scope()
    if scope.frame.in_memo_call:
        raise UsageError("use_state() can't be used inside a memoized function call")
    if scope.subpath:
        raise UsageError("use_state() can't be used inside a component_subpath() block")
    return scope.execution.own_state().open(
        key, initial_value, Any if type_hint is None else type_hint
    )
