"""Reconciling rows, points, documents: things without children of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import cocoindex as coco
from cocoindex.core.sentinels import NON_EXISTENCE, NonExistenceType

__all__ = ["is_unchanged", "reconcile"]

A = TypeVar("A")
V = TypeVar("V")


def is_unchanged(fingerprint: bytes, prev: Collection[bytes], prev_may_be_missing: bool) -> bool:
    """Whether what is declared surely is what stands there."""
    if prev_may_be_missing:
        return False
    for record in prev:  # noqa: SIM110 - called for every row; a generator costs more than the rest
        if record != fingerprint:
            return False
    return True


def reconcile(
    desired: V | NonExistenceType,
    prev: Collection[bytes],
    prev_may_be_missing: bool,
    *,
    sink: coco.TargetActionSink[Any, Any],
    fingerprint: Callable[[V], bytes],
    upsert: Callable[[V], A],
    delete: Callable[[], A],
) -> coco.TargetReconcileOutput[A, bytes] | None:
    """What to do about a leaf whose tracking record is the fingerprint of its value.

    Args:
        desired: what was declared, as it will be written, key included.
        prev: records that may be there.
        prev_may_be_missing: whether nothing may be there.
        sink: applies the action.
        fingerprint: of a declared value.
        upsert: makes the action that writes a value.
        delete: makes the action that removes the leaf.
    """
    if isinstance(desired, NonExistenceType):
        if not prev and not prev_may_be_missing:
            return None
        return coco.TargetReconcileOutput(delete(), sink, NON_EXISTENCE)
    record = fingerprint(desired)
    if is_unchanged(record, prev, prev_may_be_missing):
        return None
    return coco.TargetReconcileOutput(upsert(desired), sink, record)
