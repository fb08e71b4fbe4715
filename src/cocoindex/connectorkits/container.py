"""Reconciling containers: what a change of a table-like thing means for it and for its rows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple, TypeVar

from cocoindex.connectorkits.statediff import (
    CompositeTrackingRecord,
    DiffAction,
    MutualTrackingRecord,
    TrackingRecordTransition,
    diff,
    diff_composite,
    resolve_system_transition,
)
from cocoindex.core.sentinels import NonExistenceType

__all__ = ["Decision", "reconcile"]

M = TypeVar("M")
K = TypeVar("K")
P = TypeVar("P")

Invalidation = Literal["destructive", "lossy"] | None


class Decision(NamedTuple):
    """What has to be done about a container.

    Attributes:
        main: about the whole; ``None`` for nothing.
        parts: about its parts, such as columns; only if the whole stays or may be missing.
        invalidation: what it does to the children.
    """

    main: DiffAction | None
    parts: dict[Any, DiffAction]
    invalidation: Invalidation

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to do."""
        return self.main is None and not self.parts


def reconcile(
    desired: MutualTrackingRecord[CompositeTrackingRecord[M, K, P]] | NonExistenceType,
    prev: Collection[MutualTrackingRecord[CompositeTrackingRecord[M, K, P]]],
    prev_may_be_missing: bool,
    *,
    is_lossy: Callable[[K, P | None, P | None], bool] = lambda _key, before, _after: (
        before is not None
    ),
) -> Decision:
    """Compare a container's record with those that may be true now.

    Args:
        desired: the record to be, or ``NON_EXISTENCE``.
        prev: records that may be there.
        prev_may_be_missing: whether the container may be missing.
        is_lossy: ``(part, before, after)``: whether this change of a part may harm children;
            ``before`` is ``None`` for a new part, ``after`` for one that goes. By default
            everything is lossy but a new part.
    """
    transition = resolve_system_transition(
        TrackingRecordTransition(desired, prev, prev_may_be_missing)
    )
    main, parts = diff_composite(transition)
    if transition is None or main in ("insert", "delete"):
        return Decision(main, {}, None)
    if main == "replace":
        return Decision(main, {}, "destructive")
    actions = {key: action for key, part in parts.items() if (action := diff(part)) is not None}
    lossy = any(_is_lossy(key, parts[key], is_lossy) for key in actions)
    return Decision(main, actions, "lossy" if lossy else None)


def _is_lossy(
    key: K,
    part: TrackingRecordTransition[P],
    is_lossy: Callable[[K, P | None, P | None], bool],
) -> bool:
    after = None if isinstance(part.desired, NonExistenceType) else part.desired
    if not part.prev:
        return is_lossy(key, None, after)
    if part.prev_may_be_missing and after is not None:
        return True  # it may be another one that stands there
    return any(before != after and is_lossy(key, before, after) for before in part.prev)
