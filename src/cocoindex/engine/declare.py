"""Declaring target states."""

from __future__ import annotations

from typing import Any

from cocoindex.core.sentinels import NON_EXISTENCE
from cocoindex.engine.providers import TargetState, TargetStateProvider, make_provider
from cocoindex.engine.scope import ComponentContext, current_or_none, current_scope
from cocoindex.errors import DuplicateError, UsageError, UsageTypeError, UsageValueError


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
        or scope.frame.has_ended
        or scope.execution.is_sealed
    ):
        scope = _scope_for(target_state)  # says what is wrong
    # From any thread of the component, and for each of many rows: no calls that can be spared.
    execution, provider, encoded = scope.execution, target_state.provider, target_state.encoded_key
    if provider.generation is not None:
        if not execution.run.is_live(provider):
            raise _outdated(target_state)
        scope.frame.providers[provider.target_path] = provider.generation
    stretch = execution.declarations.latest
    if stretch is None or stretch.provider is not provider:
        provider.require_info()
        stretch = execution.own_declarations().begin(provider, execution.run.limits)
    if len(encoded) > stretch.longest_key or stretch.is_counted:
        execution.run.limits.check_key(target_state.key, encoded)
        execution.run.limits.check_count(len(execution.declarations), execution)
    declared = (encoded, target_state.key, target_state.value)
    if stretch.known.setdefault(encoded, declared) is not declared:
        raise DuplicateError(
            f"target state {target_state} is already declared in this execution of {execution}"
        )
    stretch.states.append(declared)
    if scope.frame.in_memo_call:
        scope.frame.declared[target_state.target_path] = None


def declare_target_state_with_child(
    target_state: TargetState[Any],
) -> TargetStateProvider[Any, Any, Any]:
    """Declare a container; returns the provider of its children.

    The provider is pending until this component has been applied: mount the declaring
    function with ``use_mount`` (or use ``mount_target``), then declare children.

    Raises:
        ValueError: the value is ``NON_EXISTENCE``, or declared before in this execution.
    """
    scope, provider = _scope_for(target_state), target_state.provider
    if target_state.value is NON_EXISTENCE:
        raise UsageValueError("a container can't be declared as NON_EXISTENCE")
    child = make_provider(provider, target_state.key, None)
    declare_target_state(target_state)
    scope.execution.declarations.add_child(provider, target_state.encoded_key, child)
    scope.execution.run.add_provider(child)
    return child


def _outdated(state: TargetState[Any]) -> UsageError:
    return UsageError(
        f"the provider of {state} comes from an earlier run, or another component has "
        "mounted the same container since: mount it once in each run, and pass it on"
    )


def _scope_for(target_state: TargetState[Any]) -> ComponentContext:
    scope = current_scope()
    if type(target_state) is not TargetState:
        raise UsageTypeError(
            f"expected a TargetState (provider.target_state(key, value)), "
            f"not {type(target_state).__name__}"
        )
    if scope.frame.has_ended or scope.execution.is_sealed:
        raise UsageError(
            f"the function that declares {target_state} in component {scope} has returned; a task "
            "it left behind can't declare anything any more"
        )
    return scope
