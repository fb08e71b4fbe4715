"""CocoIndex keeps derived data in step with its sources.

Write ordinary Python that says what a target should contain, as a function of sources. The
engine works out what changed since the last run, recomputes only that, and applies the
smallest set of inserts, updates and deletes, safely across crashes::

    import cocoindex as coco

    app = coco.App("hello", main)
    app.update_blocking()
"""

import gc as _gc
import os as _os
from importlib import import_module as _import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cocoindex import connectorkits as connectorkits
    from cocoindex.callables.batching import RetryWithSmallerBatch
    from cocoindex.callables.decorator import fn
    from cocoindex.callables.propagate import logic_propagated_to_callers, logic_tracked
    from cocoindex.callables.runner import Runner
    from cocoindex.core.deadline import check_cancellation, timeout
    from cocoindex.core.keys import StableKey, Symbol
    from cocoindex.core.memo_key import (
        NotMemoKeyable,
        memo_fingerprint,
        register_memo_key_function,
        register_not_memo_keyable,
    )
    from cocoindex.core.paths import ROOT_PATH, StablePath
    from cocoindex.core.sentinels import (
        NON_EXISTENCE,
        MemoStateOutcome,
        NonExistenceType,
        is_non_existence,
    )
    from cocoindex.core.serde import serialize_by_pickle, unpickle_safe
    from cocoindex.engine.app import App, AppConfig, DropHandle, UpdateHandle, show_progress
    from cocoindex.engine.children import ComponentMountHandle
    from cocoindex.engine.context_access import use_context
    from cocoindex.engine.context_values import ContextKey, ContextProvider
    from cocoindex.engine.database import DatabaseConnectionSpec
    from cocoindex.engine.declare import declare_target_state, declare_target_state_with_child
    from cocoindex.engine.environment import Environment
    from cocoindex.engine.exception_context import ExceptionContext
    from cocoindex.engine.exception_handlers import ExceptionHandler, exception_handler
    from cocoindex.engine.function import LogicTracking
    from cocoindex.engine.groups import StatsGroupHandle, stats_group
    from cocoindex.engine.guard import DeletionGuard
    from cocoindex.engine.lifespan import (
        EnvironmentBuilder,
        LifespanFn,
        default_env,
        lifespan,
        runtime,
        start,
        start_blocking,
        stop,
        stop_blocking,
    )
    from cocoindex.engine.limits import Limits
    from cocoindex.engine.mapping import map
    from cocoindex.engine.mount import (
        mount,
        mount_each,
        mount_target,
        use_mount,
    )
    from cocoindex.engine.providers import (
        PendingTargetStateProvider,
        TargetState,
        TargetStateProvider,
        TargetStatesProvider,
        register_root_target_states_provider,
    )
    from cocoindex.engine.scope import (
        ComponentContext,
        ComponentSubpath,
        component_subpath,
        get_component_context,
    )
    from cocoindex.engine.settings import LmdbSettings, Settings
    from cocoindex.engine.stats import (
        ComponentStats,
        TargetStats,
        UpdateSnapshot,
        UpdateStats,
        UpdateStatus,
        report_target_stats,
    )
    from cocoindex.engine.targets import (
        ChildSlot,
        ChildTargetDef,
        TargetActionSink,
        TargetHandler,
        TargetReconcileOutput,
    )
    from cocoindex.engine.typestate import MaybePendingS, PendingS, ResolvedS, ResolvesTo
    from cocoindex.engine.user_state import StateHandle, use_state
    from cocoindex.errors import (
        CocoIndexError,
        DeadlineExceededError,
        DeletionsWithheldError,
        TransientError,
    )

__version__ = "2.0.0a1"

# Where a public name comes from, below this package. It is fetched when it is first used
# (PEP 562), so that a program loads what it needs. Type checkers read the imports above.
_HOMES = {
    "callables.batching": ["RetryWithSmallerBatch"],
    "callables.decorator": ["fn"],
    "callables.propagate": ["logic_propagated_to_callers", "logic_tracked"],
    "callables.runner": ["Runner"],
    "core.deadline": ["check_cancellation", "timeout"],
    "core.keys": ["StableKey", "Symbol"],
    "core.memo_key": [
        "NotMemoKeyable",
        "memo_fingerprint",
        "register_memo_key_function",
        "register_not_memo_keyable",
    ],
    "core.paths": ["ROOT_PATH", "StablePath"],
    "core.sentinels": ["NON_EXISTENCE", "MemoStateOutcome", "NonExistenceType", "is_non_existence"],
    "core.serde": ["serialize_by_pickle", "unpickle_safe"],
    "engine.app": ["App", "AppConfig", "DropHandle", "UpdateHandle", "show_progress"],
    "engine.children": ["ComponentMountHandle"],
    "engine.context_access": ["use_context"],
    "engine.context_values": ["ContextKey", "ContextProvider"],
    "engine.database": ["DatabaseConnectionSpec"],
    "engine.declare": ["declare_target_state", "declare_target_state_with_child"],
    "engine.environment": ["Environment"],
    "engine.exception_context": ["ExceptionContext"],
    "engine.exception_handlers": ["ExceptionHandler", "exception_handler"],
    "engine.function": ["LogicTracking"],
    "engine.groups": ["StatsGroupHandle", "stats_group"],
    "engine.guard": ["DeletionGuard"],
    "engine.lifespan": [
        "EnvironmentBuilder",
        "LifespanFn",
        "default_env",
        "lifespan",
        "runtime",
        "start",
        "start_blocking",
        "stop",
        "stop_blocking",
    ],
    "engine.limits": ["Limits"],
    "engine.mapping": ["map"],
    "engine.mount": ["mount", "mount_each", "mount_target", "use_mount"],
    "engine.providers": [
        "PendingTargetStateProvider",
        "TargetState",
        "TargetStateProvider",
        "TargetStatesProvider",
        "register_root_target_states_provider",
    ],
    "engine.scope": [
        "ComponentContext",
        "ComponentSubpath",
        "component_subpath",
        "get_component_context",
    ],
    "engine.settings": ["LmdbSettings", "Settings"],
    "engine.stats": [
        "ComponentStats",
        "TargetStats",
        "UpdateSnapshot",
        "UpdateStats",
        "UpdateStatus",
        "report_target_stats",
    ],
    "engine.targets": [
        "ChildSlot",
        "ChildTargetDef",
        "TargetActionSink",
        "TargetHandler",
        "TargetReconcileOutput",
    ],
    "engine.typestate": ["MaybePendingS", "PendingS", "ResolvedS", "ResolvesTo"],
    "engine.user_state": ["StateHandle", "use_state"],
    "errors": [
        "CocoIndexError",
        "DeadlineExceededError",
        "DeletionsWithheldError",
        "TransientError",
    ],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_SUBMODULES = ("callables", "connectorkits", "core", "engine", "errors", "state")


def _load(home: str) -> object:
    """Import a module without looking for garbage: what is loaded is none."""
    if not _gc.isenabled():  # so that of several threads each one that turns it off turns it on
        return _import_module(f"{__name__}.{home}")
    global _is_paused  # noqa: PLW0603 - as the collector is
    _is_paused = True
    _gc.disable()
    try:
        return _import_module(f"{__name__}.{home}")
    finally:
        _gc.enable()
        _is_paused = False


_is_paused = False
"""Whether the garbage collector is off because of a load."""


def _resume() -> None:
    """In a forked child, where the thread that was loading does not exist."""
    if _is_paused:
        _gc.enable()


if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(after_in_child=_resume)


if not TYPE_CHECKING:  # which would take any name for a public one

    def __getattr__(name: str) -> object:
        if name in _SUBMODULES:
            return _load(name)
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(_load(_HOME_OF[name]), name)
        globals()[name] = value  # found without a call from now on
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})


__all__ = [
    "NON_EXISTENCE",
    "ROOT_PATH",
    "App",
    "AppConfig",
    "ChildSlot",
    "ChildTargetDef",
    "CocoIndexError",
    "ComponentContext",
    "ComponentMountHandle",
    "ComponentStats",
    "ComponentSubpath",
    "ContextKey",
    "ContextProvider",
    "DatabaseConnectionSpec",
    "DeadlineExceededError",
    "DeletionGuard",
    "DeletionsWithheldError",
    "DropHandle",
    "Environment",
    "EnvironmentBuilder",
    "ExceptionContext",
    "ExceptionHandler",
    "LifespanFn",
    "Limits",
    "LmdbSettings",
    "LogicTracking",
    "MaybePendingS",
    "MemoStateOutcome",
    "NonExistenceType",
    "NotMemoKeyable",
    "PendingS",
    "PendingTargetStateProvider",
    "ResolvedS",
    "ResolvesTo",
    "RetryWithSmallerBatch",
    "Runner",
    "Settings",
    "StableKey",
    "StablePath",
    "StateHandle",
    "StatsGroupHandle",
    "Symbol",
    "TargetActionSink",
    "TargetHandler",
    "TargetReconcileOutput",
    "TargetState",
    "TargetStateProvider",
    "TargetStatesProvider",
    "TargetStats",
    "TransientError",
    "UpdateHandle",
    "UpdateSnapshot",
    "UpdateStats",
    "UpdateStatus",
    "check_cancellation",
    "component_subpath",
    "declare_target_state",
    "declare_target_state_with_child",
    "default_env",
    "exception_handler",
    "fn",
    "get_component_context",
    "is_non_existence",
    "lifespan",
    "logic_propagated_to_callers",
    "logic_tracked",
    "map",
    "memo_fingerprint",
    "mount",
    "mount_each",
    "mount_target",
    "register_memo_key_function",
    "register_not_memo_keyable",
    "register_root_target_states_provider",
    "report_target_stats",
    "runtime",
    "serialize_by_pickle",
    "show_progress",
    "start",
    "start_blocking",
    "stats_group",
    "stop",
    "stop_blocking",
    "timeout",
    "unpickle_safe",
    "use_context",
    "use_mount",
    "use_state",
]
