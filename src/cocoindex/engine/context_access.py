"""Reading context values from inside a component."""

from __future__ import annotations

from typing import TypeVar

from cocoindex.engine.context_values import ContextKey
from cocoindex.engine.scope import current_scope

T = TypeVar("T")


def use_context(key: ContextKey[T]) -> T:
    """The environment's value for ``key``.

    If the key detects changes, everything memoized around this call depends on the value.

    Raises:
        RuntimeError: outside a component.
        KeyError: nothing is provided under the key.
    """
    scope = current_scope()
    provided = scope.execution.run.context_provider.provided(key.key)
    if provided.fingerprint is not None:
        scope.frame.context[provided.fingerprint] = None
        scope.execution.run.note_context(provided.fingerprint, key.key)
    value: T = provided.value
    return value
