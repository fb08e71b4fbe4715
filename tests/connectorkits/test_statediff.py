from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cocoindex.connectorkits.statediff import (
    CompositeTrackingRecord as Composite,
)
from cocoindex.connectorkits.statediff import (
    ManagedBy,
    diff,
    diff_composite,
    resolve_system_transition,
)
from cocoindex.connectorkits.statediff import (
    MutualTrackingRecord as Mutual,
)
from cocoindex.connectorkits.statediff import (
    TrackingRecordTransition as Transition,
)
from cocoindex.core.sentinels import NON_EXISTENCE
from cocoindex.core.serde import deserialize, serialize

GONE = NON_EXISTENCE


@pytest.mark.parametrize(
    ("desired", "prev", "missing", "action"),
    [
        (GONE, [], True, None),
        (GONE, ["a"], False, "delete"),
        (GONE, ["a"], True, "delete"),
        ("a", [], True, "insert"),
        ("a", [], False, None),
        ("a", ["a"], False, None),
        ("a", ["a"], True, "upsert"),
        ("a", ["b"], False, "replace"),
        ("a", ["b"], True, "replace"),
        ("a", ["a", "b"], False, "replace"),
        ("a", ["a", "a"], True, "upsert"),
    ],
)
def test_diff(desired: Any, prev: list[str], missing: bool, action: str | None) -> None:
    assert diff(Transition(desired, prev, missing)) == action


def test_nothing_to_reconcile_is_no_action() -> None:
    assert diff(None) is None
    assert diff_composite(None) == (None, {})


@pytest.mark.parametrize(
    ("desired", "prev", "missing", "expected"),
    [
        (
            Composite(1, {"a": 1, "b": 2}),
            [Composite(1, {"a": 1, "c": 3})],
            False,
            (None, {"a": (1, [1], False), "b": (2, [], True), "c": (GONE, [3], False)}),
        ),
        (
            Composite(1, {"a": 1}),
            [Composite(1, {"a": 1}), Composite(1, {})],
            False,
            (None, {"a": (1, [1], True)}),
        ),
        (
            Composite(2, {"a": 1}),
            [Composite(1, {"a": 1})],
            False,
            ("replace", {"a": (1, [1], True)}),
        ),
        (Composite(1, {"a": 1}), [Composite(1, {"a": 1})], True, ("upsert", {"a": (1, [1], True)})),
        (Composite(1, {"a": 1}), [], True, ("insert", {"a": (1, [], True)})),
        (GONE, [Composite(1, {"a": 1})], False, ("delete", {})),
        (GONE, [], True, (None, {})),
    ],
)
def test_diff_of_something_with_parts(
    desired: Any, prev: list[Any], missing: bool, expected: Any
) -> None:
    action, parts = diff_composite(Transition(desired, prev, missing))
    assert (action, parts) == expected
    assert list(parts) == list(expected[1])


SYSTEM, USER = ManagedBy.SYSTEM, ManagedBy.USER


@pytest.mark.parametrize(
    ("desired", "prev", "expected"),
    [
        (Mutual("x", USER), [Mutual("y", SYSTEM)], None),
        (Mutual("x", SYSTEM), [], ("x", [])),
        (Mutual("x", SYSTEM), [Mutual("y", USER), Mutual("z", SYSTEM)], ("x", ["z"])),
        (GONE, [], None),
        (GONE, [Mutual("y", SYSTEM)], (GONE, ["y"])),
        (GONE, [Mutual("y", SYSTEM), Mutual("z", USER)], None),
    ],
)
def test_what_concerns_the_system(desired: Any, prev: list[Any], expected: Any) -> None:
    got = resolve_system_transition(Transition(desired, prev, True))
    assert got == (None if expected is None else Transition(*expected, True))


def test_records_are_frozen_and_survive_storage() -> None:
    record = Composite(("t", 1), {"a": "int"})
    with pytest.raises(AttributeError):
        record.main = 2  # type: ignore[misc]
    assert serialize(record) == b"\x01" + msgspec.msgpack.encode([["t", 1], {"a": "int"}])
    hint = Composite[tuple[str, int], str, str]
    assert deserialize(serialize(record), hint) == record
    mutual = Mutual(record, SYSTEM)
    assert deserialize(serialize(mutual), Mutual[hint]) == mutual  # type: ignore[valid-type]
