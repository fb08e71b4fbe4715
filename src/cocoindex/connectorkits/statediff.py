"""From what should be and what may be to what has to be done."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, cast

import msgspec

from cocoindex.connectorkits.target import ManagedBy
from cocoindex.core.sentinels import NON_EXISTENCE, NonExistenceType, is_non_existence

__all__ = [
    "CompositeTrackingRecord",
    "DiffAction",
    "ManagedBy",
    "MutualTrackingRecord",
    "TrackingRecordTransition",
    "diff",
    "diff_composite",
    "resolve_system_transition",
]

R = TypeVar("R")
K = TypeVar("K")
S = TypeVar("S")

DiffAction: TypeAlias = Literal["insert", "upsert", "replace", "delete"]


class TrackingRecordTransition(NamedTuple, Generic[R]):
    """The arguments of a reconcile, as records.

    Attributes:
        desired: the record that should be, or ``NON_EXISTENCE``.
        prev: the records that may be there now.
        prev_may_be_missing: whether, besides, nothing may be there.
    """

    desired: R | NonExistenceType
    prev: Collection[R]
    prev_may_be_missing: bool


class CompositeTrackingRecord(msgspec.Struct, Generic[R, K, S], frozen=True, array_like=True):
    """The record of something with parts, such as a table and its columns.

    Attributes:
        main: what concerns the whole; a difference replaces the whole.
        sub: the record of each part.
    """

    main: R
    sub: dict[K, S]


class MutualTrackingRecord(msgspec.Struct, Generic[R], frozen=True):
    """A record together with who manages the thing it stands for."""

    tracking_record: R
    managed_by: ManagedBy


def diff(t: TrackingRecordTransition[R] | None, /) -> DiffAction | None:
    """What leads from the previous states to the desired one; ``None`` for nothing."""
    if t is None:
        return None
    if is_non_existence(t.desired):
        return "delete" if t.prev else None
    if any(prev != t.desired for prev in t.prev):
        return "replace"
    if not t.prev_may_be_missing:
        return None
    return "upsert" if t.prev else "insert"


def diff_composite(
    t: TrackingRecordTransition[CompositeTrackingRecord[R, K, S]] | None, /
) -> tuple[DiffAction | None, dict[K, TrackingRecordTransition[S]]]:
    """The action for the whole, and the transition of every part that is desired or may be there.

    Parts desired come first, in their order. No parts are listed if the whole goes.
    """
    if t is None:
        return None, {}
    action = diff(_main_transition(t))
    if is_non_existence(t.desired):
        return action, {}
    desired = cast("CompositeTrackingRecord[R, K, S]", t.desired)
    keys = dict.fromkeys([*desired.sub, *(key for prev in t.prev for key in prev.sub)])
    whole_may_be_missing = t.prev_may_be_missing or action == "replace"
    return action, {
        key: _sub_transition(key, desired.sub, t.prev, whole_may_be_missing) for key in keys
    }


def _main_transition(
    t: TrackingRecordTransition[CompositeTrackingRecord[R, Any, Any]],
) -> TrackingRecordTransition[R]:
    desired = NON_EXISTENCE if isinstance(t.desired, NonExistenceType) else t.desired.main
    return TrackingRecordTransition(desired, [prev.main for prev in t.prev], t.prev_may_be_missing)


def _sub_transition(
    key: K,
    desired: dict[K, S],
    prev: Collection[CompositeTrackingRecord[Any, K, S]],
    whole_may_be_missing: bool,
) -> TrackingRecordTransition[S]:
    known = [record.sub[key] for record in prev if key in record.sub]
    return TrackingRecordTransition(
        desired.get(key, NON_EXISTENCE), known, whole_may_be_missing or len(known) < len(prev)
    )


def resolve_system_transition(
    t: TrackingRecordTransition[MutualTrackingRecord[R]], /
) -> TrackingRecordTransition[R] | None:
    """The transition of what the system manages; ``None`` if there is nothing for it to do.

    That is: the desired state is managed by the user, or nothing is desired and nothing was
    there, or the user managed what may be there.
    """
    system = [p.tracking_record for p in t.prev if p.managed_by == ManagedBy.SYSTEM]
    if isinstance(t.desired, NonExistenceType):
        if not t.prev or len(system) < len(t.prev):
            return None
        return TrackingRecordTransition(NON_EXISTENCE, system, t.prev_may_be_missing)
    if t.desired.managed_by == ManagedBy.USER:
        return None
    return TrackingRecordTransition(t.desired.tracking_record, system, t.prev_may_be_missing)
