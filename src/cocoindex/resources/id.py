"""Stable ids and UUIDs for the things a component makes.

The same component asking with the same ``dep`` gets the same value in every run.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator
from typing import Any

from cocoindex.core.memo_key import NotMemoKeyable, fingerprint_object
from cocoindex.engine.calls import call_async, call_sync
from cocoindex.engine.ids import Allocation
from cocoindex.engine.scope import current_scope

__all__ = ["IdGenerator", "UuidGenerator", "generate_id", "generate_uuid"]

_INT = Allocation("generate_id", is_async=True)
_UUID = Allocation("generate_uuid", is_async=False)
_INT_SERIES = Allocation("IdGenerator", is_async=True)
_UUID_SERIES = Allocation("UuidGenerator", is_async=False)


class StableUUID(uuid.UUID):
    """A UUID that may also be awaited (which gives the UUID)."""

    def __await__(self) -> Generator[Any, Any, uuid.UUID]:
        yield from ()
        return self


def _awaitable(value: uuid.UUID) -> StableUUID:
    return StableUUID(int=value.int)


async def generate_id(dep: Any = None) -> int:
    """An integer (from 1, unique within the app) that belongs to ``dep`` in this component.

    Args:
        dep: anything that can be fingerprinted.

    Raises:
        RuntimeError: outside a component.
    """
    current_scope()
    value: int = await call_async(_INT, (dep,), {})
    return value


def generate_uuid(dep: Any = None) -> StableUUID:
    """A random UUID that belongs to ``dep`` in this component. May also be awaited.

    Raises:
        RuntimeError: outside a component.
    """
    current_scope()
    return _awaitable(call_sync(_UUID, (dep,), {}))


class _Series(NotMemoKeyable):
    """Counts how often each dep was asked for."""

    def __init__(self, deps: Any = None) -> None:
        self._deps = deps
        self._ordinals: dict[bytes, int] = {}

    def _next(self, dep: Any) -> tuple[Any, Any, int]:
        digest = fingerprint_object(dep)
        ordinal = self._ordinals.get(digest, 0)
        self._ordinals[digest] = ordinal + 1
        return self._deps, dep, ordinal


class IdGenerator(_Series):
    """Distinct integers for repeated deps: the n-th call with a dep gives its n-th id.

    Create it inside the component that uses it; give several generators distinct ``deps``.
    """

    async def next_id(self, dep: Any = None) -> int:
        """The next id of ``dep``."""
        current_scope()
        value: int = await call_async(_INT_SERIES, self._next(dep), {})
        return value


class UuidGenerator(_Series):
    """Distinct UUIDs for repeated deps: the n-th call with a dep gives its n-th UUID.

    Args:
        deps: distinguishes several generators of one component.
        namespace: derive UUIDs (version 5) from this namespace and their identity instead of
            storing random ones, so that a rebuilt state store gives the same ones.
    """

    def __init__(self, deps: Any = None, *, namespace: uuid.UUID | None = None) -> None:
        super().__init__(deps)
        self._namespace = namespace

    def next_uuid(self, dep: Any = None) -> StableUUID:
        """The next UUID of ``dep``. May also be awaited."""
        scope = current_scope()
        identity = self._next(dep)
        if self._namespace is not None:
            name = f"{scope.execution}:{fingerprint_object(identity).hex()}"
            return _awaitable(uuid.uuid5(self._namespace, name))
        return _awaitable(call_sync(_UUID_SERIES, identity, {}))
