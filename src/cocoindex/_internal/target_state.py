"""Alias for programs that import from here: what a target connector is written with."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from cocoindex import (
    NON_EXISTENCE,
    ChildSlot,
    ChildTargetDef,
    ContextProvider,
    NonExistenceType,
    PendingTargetStateProvider,
    TargetActionSink,
    TargetHandler,
    TargetReconcileOutput,
    TargetState,
    TargetStateProvider,
    TargetStatesProvider,
    declare_target_state,
    declare_target_state_with_child,
    is_non_existence,
    register_root_target_states_provider,
)

__all__ = [
    "NON_EXISTENCE",
    "AsyncTargetActionSinkFn",
    "ChildSlot",
    "ChildTargetDef",
    "NonExistenceType",
    "PendingTargetStateProvider",
    "TargetActionSink",
    "TargetActionSinkFn",
    "TargetHandler",
    "TargetReconcileOutput",
    "TargetState",
    "TargetStateProvider",
    "TargetStatesProvider",
    "declare_target_state",
    "declare_target_state_with_child",
    "is_non_existence",
    "register_root_target_states_provider",
]

_Action_contra = TypeVar("_Action_contra", contravariant=True)
_Children = Sequence[ChildTargetDef[Any] | None] | None


class TargetActionSinkFn(Protocol[_Action_contra]):
    """What ``TargetActionSink.from_fn`` takes."""

    def __call__(
        self, context_provider: ContextProvider, actions: Sequence[_Action_contra], /
    ) -> _Children: ...


class AsyncTargetActionSinkFn(Protocol[_Action_contra]):
    """What ``TargetActionSink.from_async_fn`` takes."""

    async def __call__(
        self, context_provider: ContextProvider, actions: Sequence[_Action_contra], /
    ) -> _Children: ...
