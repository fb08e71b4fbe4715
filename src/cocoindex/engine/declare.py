"""Declaring target states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cocoindex.core.sentinels import NON_EXISTENCE
from cocoindex.engine.providers import TargetStateProvider, make_provider
from cocoindex.engine.scope import ComponentContext, current_or_none, current_scope
from cocoindex.engine.targets import TargetState
from cocoindex.errors import UsageError, UsageTypeError, UsageValueError

if TYPE_CHECKING:
    from cocoindex.engine.execution import Execution


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
        or scope.frame.has_ended
        or not scope.execution.run.is_live(target_state.provider)
    ):
        scope = _scope_for(target_state)  # says what is wrong
    _check_limits(scope.execution, target_state)
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
    _check_limits(scope.execution, target_state)
    child = make_provider(target_state.provider, target_state.key, None)
    scope.execution.declare(scope.frame, target_state.with_child(child))
    scope.execution.run.add_provider(child)
    return child


def _check_limits(execution: Execution, state: TargetState[Any]) -> None:
    limits = execution.run.limits
    most_bytes, most_states = limits.key_bytes, limits.states_per_component
    if most_bytes is not None and len(state.encoded_key) > most_bytes:
        limits.check_key(state.key, state.encoded_key)
    if most_states is not None:
        limits.check_count(len(execution.declarations), execution)


def _scope_for(target_state: TargetState[Any]) -> ComponentContext:
    scope = current_scope()
    if type(target_state) is not TargetState:
        raise UsageTypeError(
            f"expected a TargetState (provider.target_state(key, value)), "
            f"not {type(target_state).__name__}"
        )
    if target_state.provider.info is None:
        target_state.provider.require_info()
    if scope.frame.has_ended:
        raise UsageError(
            f"the function that declares {target_state} in component {scope} has returned; a task "
            "it left behind can't declare anything any more"
        )
    if not scope.execution.run.is_live(target_state.provider):
        raise UsageError(
            f"the provider of {target_state} comes from an earlier run, or another component has "
            "mounted the same container since: mount it once in each run, and pass it on"
        )
    return scope
