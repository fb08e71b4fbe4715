"""All passes of a check, in the order in which they learn from each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from cocoindex.core.keys import decode_key, key_text
from cocoindex.engine import rows
from cocoindex.engine.fsck import nodes, records
from cocoindex.engine.fsck.finding import Finding, unfinished, violation
from cocoindex.engine.fsck.repair import delete_rows
from cocoindex.engine.fsck.survey import COUNTER_SIZES, Survey

if TYPE_CHECKING:
    from cocoindex.state.base import SectionSnapshot

_TAGS: Final = b"CEFKLMNOQTU"


def check_section(snapshot: SectionSnapshot) -> Iterator[Finding]:
    """Everything wrong in one app's section, streamed while it is read.

    Memory grows by some bits per component and with the largest single component, not with
    the size of the store. The result is meaningful only if no update of the app is running.
    """
    survey = Survey(snapshot)
    yield from _counters(survey)
    yield from _sequences(survey)
    nodes.collect_tombstones(survey)
    yield from nodes.check_existence(survey)
    yield from nodes.check_names(survey)
    if nodes.is_being_dropped(survey):
        # What was deleted has left other rows behind, which say nothing until stock is taken.
        yield unfinished("I3", "/", "a drop was interrupted; the next update or drop goes on")
    else:
        yield from _records(survey)
    yield from _labels(survey)
    yield from _foreign_rows(snapshot)


def _records(survey: Survey) -> Iterator[Finding]:
    yield from nodes.check_tombstones(survey)
    owned = records.Owned()
    yield from records.check_tracking(survey, owned)
    yield from records.check_owners(survey, owned)
    yield from records.check_component_memos(survey)
    yield from records.check_function_memos(survey)
    yield from records.check_user_state(survey)


def _counters(survey: Survey) -> Iterator[Finding]:
    for key, value in survey.scan(b"M"):
        name = key[1:].decode(errors="replace")
        if len(value) not in COUNTER_SIZES:
            yield violation("rows", f"counter {name}", "can't be read")
        elif name == "node":
            survey.node_limit = rows.unpack_id(value)
        elif name == "provider":
            survey.provider_limit = rows.unpack_id(value)


def _sequences(survey: Survey) -> Iterator[Finding]:
    for key, value in survey.scan(b"Q"):
        name = f"id sequence #{key[1:].hex()}"
        with suppress(ValueError, IndexError):
            name = f"id sequence {key_text(decode_key(key[1:]))}"
        if len(value) not in COUNTER_SIZES or not rows.unpack_id(value):
            yield violation("rows", name, "can't be read")
        elif key == rows.sequence_key(records.UNNAMED):
            survey.sequence_limit = rows.unpack_id(value)


def _labels(survey: Survey) -> Iterator[Finding]:
    for key, _ in survey.scan(b"L"):
        if len(key) != 17:
            yield violation(
                "rows",
                f"label #{key[1:].hex()}",
                "its key is damaged",
                "remove it",
                delete_rows(key),
            )


def _foreign_rows(snapshot: SectionSnapshot) -> Iterator[Finding]:
    """One finding per table that this release does not know."""
    tag = 0
    while tag < 256:
        row = next(snapshot.scan(b"", start=bytes((tag,))), None)
        if row is None:
            return
        if not row[0] or row[0][0] not in _TAGS:
            yield violation("rows", f"row {row[0][:24]!r}", "belongs to no known table")
        tag = (row[0][0] if row[0] else 0) + 1
