"""Ids that stay the same from run to run: allocated once, remembered like a memoized call."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from cocoindex.core.deadline import check_cancellation
from cocoindex.core.fingerprint import fingerprint_bytes
from cocoindex.core.keys import StableKey
from cocoindex.core.memo_key import fingerprint_value
from cocoindex.core.serde import deserialize, serialize
from cocoindex.engine.function import CallKey, LogicTracking
from cocoindex.engine.scope import current_scope


async def next_id(key: StableKey = None) -> int:
    """The next number of the app's sequence ``key``: 1, 2, 3, …; never handed out twice.

    Raises:
        RuntimeError: outside a component.
    """
    return allocate_int(key)


def allocate_int(key: StableKey = None) -> int:
    check_cancellation()
    return current_scope().execution.run.app.next_id(key)


class Allocation:
    """A function whose memo is an identity: it survives a full reprocess."""

    memo = True
    logic_tracking: LogicTracking = None
    is_identity = True
    runs_apart = runs_on_thread = False

    def __init__(self, kind: str, *, is_async: bool) -> None:
        self.name = kind
        self.is_async = is_async

    def logic(self) -> bytes | None:
        return None

    def call_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallKey:
        digest = fingerprint_bytes(self.name.encode() + fingerprint_value((args, dict(kwargs))))
        return CallKey(digest, (), (self.name,), digest, (len(digest),))

    def plain_call_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:  # noqa: ARG002
        return None

    def invoke(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:  # noqa: ARG002 - they are the identity, not an input
        check_cancellation()
        current_scope()
        return self._allocate_async() if self.is_async else uuid.uuid4()

    invoke_here = invoke

    async def _allocate_async(self) -> int:
        return allocate_int()

    def encode_result(self, value: Any) -> bytes:
        return serialize(value)

    def decode_result(self, payload: bytes) -> Any:
        return deserialize(payload, int if self.is_async else uuid.UUID)
