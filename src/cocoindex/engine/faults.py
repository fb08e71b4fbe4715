"""Named places at which a run may be interrupted.

In production :func:`reach` does nothing. The test kit installs a hook that raises, kills,
or records, so that every boundary of the submit protocol can be tested by name.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final


class FaultPoint(StrEnum):
    """Boundaries of one component's execution, in the order in which they are passed; then those
    that a simulated store and simulated sinks pass.
    """

    MEMO_DROPPED = "memo-dropped"
    BEFORE_BODY = "before-body"
    AFTER_BODY = "after-body"
    CONTAINER_READY = "container-ready"
    BEFORE_PRECOMMIT = "before-precommit"
    WAITING_FOR_OWNER = "waiting-for-owner"
    AFTER_PRECOMMIT = "after-precommit"
    BEFORE_SINK = "before-sink"
    AFTER_SINK = "after-sink"
    BEFORE_COMMIT = "before-commit"
    AFTER_COMMIT = "after-commit"
    BEFORE_SWEEP = "before-sweep"
    BEFORE_DELETE = "before-delete"
    AFTER_DELETE = "after-delete"
    AFTER_SWEEP = "after-sweep"
    BEFORE_MEMO = "before-memo"
    AFTER_MEMO = "after-memo"
    TAKING_STOCK = "taking-stock"
    INSIDE_SINK = "inside-sink"
    BEFORE_FLUSH = "before-flush"
    AFTER_FLUSH = "after-flush"


# Before Python 3.12, a member is looked up ten times as fast in a module as in its class.
MEMO_DROPPED: Final = FaultPoint.MEMO_DROPPED
BEFORE_BODY: Final = FaultPoint.BEFORE_BODY
AFTER_BODY: Final = FaultPoint.AFTER_BODY
BEFORE_PRECOMMIT: Final = FaultPoint.BEFORE_PRECOMMIT
AFTER_PRECOMMIT: Final = FaultPoint.AFTER_PRECOMMIT
BEFORE_SINK: Final = FaultPoint.BEFORE_SINK
AFTER_SINK: Final = FaultPoint.AFTER_SINK
BEFORE_COMMIT: Final = FaultPoint.BEFORE_COMMIT
AFTER_COMMIT: Final = FaultPoint.AFTER_COMMIT
BEFORE_DELETE: Final = FaultPoint.BEFORE_DELETE
BEFORE_MEMO: Final = FaultPoint.BEFORE_MEMO
AFTER_MEMO: Final = FaultPoint.AFTER_MEMO

Hook = Callable[[FaultPoint, object], None]

_hook: Hook | None = None


def reach(point: FaultPoint, where: object) -> None:
    """Pass a fault point; ``where`` is the component, rendered by hooks that tell of it."""
    if _hook is not None:
        _hook(point, where)


def install(hook: Hook | None) -> None:
    """Install the process-wide hook, or remove it with ``None`` (for tests)."""
    global _hook  # noqa: PLW0603 - one hook per process
    _hook = hook
