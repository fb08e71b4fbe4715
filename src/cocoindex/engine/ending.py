"""How an execution ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from cocoindex.engine.stats import ERRORS, STARTS

if TYPE_CHECKING:
    from cocoindex.engine import rows
    from cocoindex.engine.execution import Execution


class Ready(NamedTuple):
    """A component is ready: its return value, and what it depends on (if anybody asks)."""

    value: Any
    deps: rows.Dependencies | None

    @classmethod
    def of(cls, execution: Execution, value: Any) -> Ready:
        return cls(value, execution.dependencies() if execution.collects_deps else None)


Then = Callable[["Execution", Ready | None, BaseException | None], None]
"""Hears how an execution ended: ready, or what it failed with."""


def note_failure(execution: Execution, error: BaseException, *, counted: bool) -> None:
    """Count an execution that has failed; ``counted``: it has been counted as started."""
    stats = execution.stats
    if isinstance(error, asyncio.CancelledError):
        if counted:
            stats.finish_cancelled(execution.name)
        return
    if not counted:
        stats.count(execution.name, STARTS)
    stats.count(execution.name, ERRORS)
    if isinstance(error, Exception):
        execution.run.note_failure(str(execution), execution.name, error)
