"""Asking handlers: what they are told of earlier states, and checks of what they answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cocoindex.core.keys import decode_key
from cocoindex.core.sentinels import NON_EXISTENCE
from cocoindex.core.serde import serialize
from cocoindex.engine.rows import Item
from cocoindex.engine.targets import (
    TargetActionSink,
    TargetReconcileOutput,
    invalid_invalidation,
)
from cocoindex.errors import DeserializationError, SerializationError, UsageTypeError

if TYPE_CHECKING:
    from cocoindex.engine.entry import Group
    from cocoindex.engine.providers import HandlerInfo
    from cocoindex.engine.run import Run

Output = TargetReconcileOutput[Any, Any, Any]


def previous(
    run: Run, info: HandlerInfo, item: Item | None, schema_version: int, group: Group
) -> tuple[list[Any], bool]:
    """``prev_records`` and ``prev_may_be_missing`` of one item."""
    if item is None:
        return [], True
    missing = run.full_reprocess or item.schema_version != schema_version
    records: list[Any] = []
    for _, payload in item.states:
        if payload is None:
            missing = True
            continue
        try:
            records.append(info.decode_record(payload))
        except DeserializationError as error:
            missing = True
            run.warn_once(
                ("record", group.target_path),
                "tracking records of %s can't be read any more and count as missing: %s",
                group,
                error,
            )
    return records, missing


def deletions(
    run: Run,
    info: HandlerInfo,
    group: Group,
    items: Iterable[tuple[bytes, bytes]],
    missing: bool,
) -> Iterator[tuple[bytes, Output]]:
    """Ask for the deletion of items in one state each, given with their records.

    Left out is what there is nothing to do about.
    """
    reconcile, decode = info.reconcile, info.decode_record
    as_asked = info.key if info.rebuilds_keys else None
    sink: TargetActionSink[Any, Any] | None = None
    for encoded, record in items:
        key = decode_key(encoded)
        if as_asked is not None:
            key = as_asked(key)
        try:
            records, may_be_missing = [decode(record)], missing
        except DeserializationError:
            item = Item(encoded, ((0, record),))
            records, may_be_missing = previous(run, info, item, item.schema_version, group)
        output = reconcile(key, NON_EXISTENCE, records, may_be_missing)
        if output is None:
            continue
        # With the sink of the output before, only the rest needs a look.
        if (
            type(output) is not TargetReconcileOutput
            or output.sink is not sink
            or output.child_invalidation is not None
        ):
            output = checked(output, group, encoded)
            sink = output.sink
        yield encoded, output


def checked(returned: Any, group: Group, key: bytes) -> Output:
    """What ``reconcile`` returned for an item, if it is as it must be.

    Raises:
        TypeError, ValueError: it is not.
    """
    if type(returned) is TargetReconcileOutput:
        output: Output = returned
        if type(output.sink) is TargetActionSink and output.child_invalidation is None:
            return output
    else:
        try:
            output = TargetReconcileOutput(*returned)
        except TypeError:
            raise UsageTypeError(
                f"reconcile() of {group.text_of(key)} must return None or a "
                f"TargetReconcileOutput, not {type(returned).__name__}"
            ) from None
    if output.child_invalidation not in (None, "destructive", "lossy"):
        raise invalid_invalidation(output.child_invalidation)
    if not isinstance(output.sink, TargetActionSink):
        raise UsageTypeError(
            f"reconcile() of {group.text_of(key)}: the sink must be a TargetActionSink, "
            f"not {type(output.sink).__name__}"
        )
    return output


def serialized(record: Any, group: Group, key: bytes) -> bytes:
    """The tracking record of an item, as it is stored."""
    try:
        return serialize(record)
    except SerializationError as error:
        raise SerializationError(f"tracking record of {group.text_of(key)}: {error}") from error
