"""The decision tables of containers and leaves."""

from __future__ import annotations

import pytest

import cocoindex as coco
from cocoindex.connectorkits import container, leaf
from cocoindex.connectorkits.statediff import CompositeTrackingRecord, MutualTrackingRecord
from cocoindex.connectorkits.target import ManagedBy


def record(main="m", managed_by=ManagedBy.SYSTEM, **parts):
    return MutualTrackingRecord(CompositeTrackingRecord(main, parts), managed_by)


GONE = coco.NON_EXISTENCE
USER = ManagedBy.USER
A = record(a=1)

TABLE = [
    # what, desired, previous, missing -> main, parts, invalidation
    ("first declaration", A, [], True, "insert", {}, None),
    ("nothing changed", A, [A], False, None, {}, None),
    ("may be missing", A, [A], True, "upsert", {"a": "upsert"}, "lossy"),
    ("whole changed", record("n", a=1), [A], False, "replace", {}, "destructive"),
    ("one of two was another", A, [A, record("n")], False, "replace", {}, "destructive"),
    ("undeclared", GONE, [A], False, "delete", {}, None),
    ("undeclared, unknown", GONE, [], True, None, {}, None),
    ("part more", record(a=1, b=2), [A], False, None, {"b": "insert"}, None),
    ("part changed", record(a=2), [A], False, None, {"a": "replace"}, "lossy"),
    ("part less", record(), [A], False, None, {"a": "delete"}, "lossy"),
    ("part maybe there", record(a=1, b=2), [A, record(a=1, b=2)], False, None, {"b": "upsert"},
     "lossy"),
    ("the user's", record(managed_by=USER, a=2), [A], False, None, {}, None),
    ("the user's, new", record(managed_by=USER), [], True, None, {}, None),
    ("was the user's", A, [record(managed_by=USER)], False, None, {}, None),
    ("the user's, undeclared", GONE, [record(managed_by=USER)], False, None, {}, None),
    ("once the user's, undeclared", GONE, [A, record(managed_by=USER)], False, None, {}, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("desired", "prev", "missing", "main", "parts", "invalidation"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_containers(desired, prev, missing, main, parts, invalidation):
    decision = container.reconcile(desired, prev, missing)
    assert decision == (main, parts, invalidation)
    assert decision.is_nothing == (main is None and not parts)


def test_what_harms_children_can_be_said():
    harmless = container.reconcile(
        record(a=2), [A], False, is_lossy=lambda _part, _before, _after: False
    )
    assert harmless == (None, {"a": "replace"}, None)
    harmful = container.reconcile(
        record(a=1, b=2), [A], False, is_lossy=lambda _part, before, _after: before is None
    )
    assert harmful == (None, {"b": "insert"}, "lossy")


SINK = coco.TargetActionSink.from_fn(print)


@pytest.mark.parametrize(
    ("desired", "prev", "missing", "action", "tracked"),
    [
        (GONE, [], False, None, None),
        (GONE, [], True, "delete", GONE),
        (GONE, [b"x"], False, "delete", GONE),
        ("v", [b"v"], False, None, None),
        ("v", [b"v"], True, "write v", b"v"),
        ("v", [], True, "write v", b"v"),
        ("v", [b"w"], False, "write v", b"v"),
        ("v", [b"v", b"w"], False, "write v", b"v"),
        ("v", [b"v", b"v"], False, None, None),
    ],
)
def test_leaves(desired, prev, missing, action, tracked):
    output = leaf.reconcile(
        desired,
        prev,
        missing,
        sink=SINK,
        fingerprint=str.encode,
        upsert=lambda value: f"write {value}",
        delete=lambda: "delete",
    )
    if action is None:
        assert output is None
    else:
        assert output == (action, SINK, tracked, None)
