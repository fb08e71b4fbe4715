"""Declaring target states."""

from __future__ import annotations

from typing import Any

from cocoindex.core.sentinels import NON_EXISTENCE
from cocoindex.engine.providers import TargetStateProvider, make_provider
from cocoindex.engine.scope import ComponentContext, current_or_none, current_scope
from cocoindex.engine.targets import TargetState
from cocoindex.errors import UsageError, UsageTypeError, UsageValueError


def declare_target_state(target_state: TargetState[Any]) -> None:
    """Say that a target state should exist as given, as long as this component says so.

    Raises:
        RuntimeError: outside a component, or the container is still pending.
        ValueError: declared before in this execution.
    """
    scope = current_or_none()
    if (
        scope is None
        or type(target_state) is not TargetState
        or target_state.provider.info is None
        or scope.execution.is_sealed
    ):
        scope = _scope_for(target_state)  # says what is wrong
    scope.execution.declare(scope.frame, target_state)


def declare_target_state_with_child(
    target_state: TargetState[Any],
) -> TargetStateProvider[Any, Any, Any]:
    """Declare a container; returns the provider of its children.

    The provider is pending until this component has been applied: mount the declaring
    function with ``use_mount`` (or use ``mount_target``), then declare children.

    Raises:
        ValueError: the value is ``NON_EXISTENCE``, or declared before in this execution.
    """
    scope = _scope_for(target_state)
    if target_state.value is NON_EXISTENCE:
        raise UsageValueError("a container can't be declared as NON_EXISTENCE")
    child = make_provider(target_state.provider, target_state.key, None)
    scope.execution.declare(scope.frame, target_state.with_child(child))
    scope.execution.run.add_provider(child)
    return child


def _scope_for(target_state: TargetState[Any]) -> ComponentContext:
    scope = current_scope()
    if type(target_state) is not TargetState:
        raise UsageTypeError(
            f"expected a TargetState (provider.target_state(key, value)), "
            f"not {type(target_state).__name__}"
        )
    if target_state.provider.info is None:
        target_state.provider.require_info()
    if scope.execution.is_sealed:
        raise UsageError(f"component {scope} has finished; it can't declare anything any more")
    return scope
