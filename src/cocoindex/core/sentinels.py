"""Values that stand for the absence of a value."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeGuard, final

__all__ = [
    "NON_EXISTENCE",
    "NOT_SET",
    "MemoStateOutcome",
    "NonExistenceType",
    "NotSetType",
    "is_non_existence",
    "is_not_set",
]


@final
class NonExistenceType:
    """Type of :data:`NON_EXISTENCE`; usable in unions such as ``Spec | NonExistenceType``."""

    __slots__ = ()
    _instance: NonExistenceType | None = None

    def __new__(cls) -> NonExistenceType:
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __repr__(self) -> str:
        return "NON_EXISTENCE"

    def __reduce__(self) -> str:
        return "NON_EXISTENCE"


@final
class NotSetType:
    """Type of :data:`NOT_SET`, the default of parameters for which ``None`` is a value."""

    __slots__ = ()
    _instance: NotSetType | None = None

    def __new__(cls) -> NotSetType:
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __repr__(self) -> str:
        return "NOT_SET"

    def __reduce__(self) -> str:
        return "NOT_SET"


NON_EXISTENCE: Final = NonExistenceType()
"""Says that a target state, a previous state or a tracking record does not exist."""

NOT_SET: Final = NotSetType()


def is_non_existence(value: object) -> TypeGuard[NonExistenceType]:
    """Whether ``value`` is :data:`NON_EXISTENCE` (by identity)."""
    return value is NON_EXISTENCE


def is_not_set(value: object) -> TypeGuard[NotSetType]:
    """Whether ``value`` is :data:`NOT_SET` (by identity)."""
    return value is NOT_SET


class MemoStateOutcome(NamedTuple):
    """What ``__coco_memo_state__(prev)`` returns.

    Attributes:
        state: what to remember and pass as ``prev`` next time.
        memo_valid: whether the memoized result may be reused.
        recollect_after_run: if the body runs again, ask once more afterwards with
            ``NON_EXISTENCE`` and remember that answer instead (function memos only).
    """

    state: Any
    memo_valid: bool = False
    recollect_after_run: bool = False
