"""The authoring contract row by row: handlers, their outputs and records.

Deliberately without ``from __future__ import annotations``: authors' annotations are evaluated.
"""

import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from contract_handlers import (
    Annotated,
    Recorder,
    SlottedRecord,
    StructRecord,
    TupleRecord,
    declare,
)

import cocoindex as coco
from cocoindex._internal.context_keys import ContextProvider


def test_01_a_subclass_keeps_its_own_slots_and_init(host: Any, register: Any) -> None:
    class Handler(coco.TargetHandler[str, bytes, bytes]):
        __slots__ = ("conn", "seen")

        def __init__(self, conn: str) -> None:
            self.conn = conn
            self.seen: list[Any] = []

        def reconcile(self, key: Any, desired: Any, prev: Any, missing: bool, /) -> None:
            self.seen.append(key)

    handler = Handler("connection")
    host.update(declare, register(handler), {"a": b"1"})
    assert (handler.conn, handler.seen) == ("connection", ["a"])


def test_02_a_handler_needs_no_base(host: Any, register: Any) -> None:
    handler = Annotated()
    host.update(declare, register(handler), {"a": b"1"})
    assert handler.actions() == [("upsert", "a")]


@pytest.mark.parametrize("thing", [object(), 5, "text", type("H", (), {"reconcile": 3})()])
def test_02_an_object_without_callable_reconcile_is_refused(thing: Any, register: Any) -> None:
    with pytest.raises(TypeError, match="reconcile") as caught:
        register(thing)
    assert isinstance(caught.value, coco.CocoIndexError)


def test_03_reconcile_is_called_with_four_positionals_whatever_their_names(
    host: Any, register: Any
) -> None:
    calls: list[tuple[Any, ...]] = []

    class Named:
        def reconcile(self, which, wanted, before, unsure):  # type: ignore[no-untyped-def]
            calls.append((which, wanted, list(before), unsure))

    class Starred:
        def reconcile(self, *args: Any) -> None:
            calls.append((args[0], args[1], list(args[2]), args[3]))
            assert len(args) == 4

    one, two = register(Named()), register(Starred())

    def main() -> None:
        declare(one, {"a": 1})
        declare(two, {"b": 2})

    host.update(main)
    assert calls == [("a", 1, [], True), ("b", 2, [], True)]


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        (SlottedRecord, SlottedRecord(b"\x00\xff")),
        (TupleRecord, TupleRecord("n", "DROP n")),
        (StructRecord, StructRecord(b"fp")),
        (bytes, b"\x00raw"),
        (str, "text"),
        (None, None),
        (tuple[int, str], (1, "x")),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)) if isinstance(value, type) else "",
)
def test_04_records_arrive_as_the_annotated_type_after_a_restart(
    host: Any, register: Any, kind: Any, record: Any
) -> None:
    class Handler(Recorder):
        def reconcile(
            self,
            key: str,
            desired: Any,
            prev: Collection[kind],
            missing: bool,
            /,  # type: ignore[valid-type]
        ) -> Any:
            return self.decide(key, desired, prev, missing)

        def record(self, desired: Any) -> Any:
            return record

    handler = Handler()
    provider = register(handler)
    host.update(declare, provider, {"a": 1})
    host.update(declare, provider, {"a": 1})
    _, _, [found], missing = handler.seen[-1]
    assert found == record
    assert type(found) is type(record)
    assert not missing


@pytest.mark.parametrize(
    "base",
    [
        coco.TargetHandler[str, bytes, SlottedRecord],
        coco.TargetHandler[bytes, SlottedRecord],
        coco.TargetHandler[bytes, SlottedRecord, None],
        coco.TargetHandler[bytes, SlottedRecord, Annotated],
        coco.TargetHandler[str, bytes, SlottedRecord, None],
        coco.TargetHandler[str, bytes, SlottedRecord, Annotated],
    ],
    ids=["key-value-record", "value-record", "-none", "-child", "four-none", "four-child"],
)
def test_05_records_arrive_as_the_base_class_says_if_nothing_is_annotated(
    host: Any, register: Any, base: Any
) -> None:
    class Handler(Recorder, base):  # type: ignore[misc]
        def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
            return self.decide(key, desired_state, prev_possible_states, prev_may_be_missing)

        def record(self, desired: Any) -> Any:
            return SlottedRecord(desired)

    handler = Handler()
    provider = register(handler)
    host.update(declare, provider, {"a": b"1"})
    host.update(declare, provider, {"a": b"1"})
    assert handler.seen[-1] == ("a", b"1", [SlottedRecord(b"1")], False)


def test_05_a_stored_none_is_no_error_where_the_base_names_a_record(
    host: Any, register: Any
) -> None:
    class Handler(Recorder, coco.TargetHandler[str, bytes, SlottedRecord]):
        def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
            return self.decide(key, desired_state, prev_possible_states, prev_may_be_missing)

        def record(self, desired: Any) -> Any:
            return None

    handler = Handler()
    provider = register(handler)
    host.update(declare, provider, {"a": b"1"})
    host.update(declare, provider, {"a": b"1"})
    assert handler.seen[-1] == ("a", b"1", [None], False)


def test_06_outputs_are_constructed_by_keyword_or_position() -> None:
    sink = coco.TargetActionSink.from_fn(lambda context_provider, actions: None)
    by_keyword = coco.TargetReconcileOutput(
        action=1, sink=sink, tracking_record=b"r", child_invalidation="lossy"
    )
    assert by_keyword == coco.TargetReconcileOutput(1, sink, b"r", "lossy")
    assert coco.TargetReconcileOutput(1, sink, b"r").child_invalidation is None


def test_06_any_sequence_of_four_in_that_order_is_an_output(host: Any, register: Any) -> None:
    class Handler(Recorder):
        def reconcile(self, key: str, desired: Any, prev: Any, missing: bool, /) -> Any:
            return ("action", self.sink, b"record", None)

    handler = Handler()
    host.update(declare, register(handler), {"a": 1})
    assert handler.actions() == ["action"]


def test_06_an_unknown_invalidation_is_refused(host: Any, register: Any) -> None:
    class Handler(Recorder):
        def reconcile(self, key: str, desired: Any, prev: Any, missing: bool, /) -> Any:
            return coco.TargetReconcileOutput("x", self.sink, b"r", cast("Any", "total"))

    handler = Handler()
    with pytest.raises(ValueError, match="total"):
        host.update(declare, register(handler), {"a": 1})
    assert handler.actions() == []


def test_07_nothing_is_tracked_after_a_delete_and_none_means_no_change(
    host: Any, register: Any
) -> None:
    handler = Annotated()
    provider = register(handler)
    host.update(declare, provider, {"a": b"1", "b": b"2"})
    assert handler.actions() == [("upsert", "a"), ("upsert", "b")]
    host.update(declare, provider, {"a": b"1"})
    assert handler.actions() == [("delete", "b")]
    handler.seen.clear()
    host.update(declare, provider, {"a": b"1"})
    assert handler.seen == [("a", b"1", [b"1"], False)]


def test_07_an_action_may_leave_nothing_tracked_for_a_declared_state(
    host: Any, register: Any
) -> None:
    class Handler(Recorder):
        def reconcile(
            self, key: str, desired: Any, prev: Collection[bytes], missing: bool, /
        ) -> Any:
            self.seen.append((key, desired, list(prev), missing))
            return coco.TargetReconcileOutput("touch", self.sink, coco.NON_EXISTENCE)

    handler = Handler()
    provider = register(handler)
    host.update(declare, provider, {"a": b"1"})
    host.update(declare, provider, {"a": b"1"})
    assert handler.seen == [("a", b"1", [], True)] * 2
    assert handler.actions() == ["touch", "touch"]


def test_07_an_undeclared_state_that_is_not_there_is_forgotten(host: Any, register: Any) -> None:
    class Handler(Annotated):
        def reconcile(
            self, key: str, desired: Any, prev: Collection[bytes], missing: bool, /
        ) -> Any:
            if coco.is_non_existence(desired):
                self.seen.append((key, desired, list(prev), missing))
                return None
            return self.decide(key, desired, prev, missing)

    handler = Handler()
    provider = register(handler)
    host.update(declare, provider, {"a": b"1"})
    host.update(declare, provider, {})
    assert len(handler.seen) == 2
    host.update(declare, provider, {})
    assert len(handler.seen) == 2
    host.update(declare, provider, {"a": b"1"})
    assert handler.seen[-1] == ("a", b"1", [], True)


def test_08_the_usual_skip_does_not_skip_the_first_run(host: Any, register: Any) -> None:
    handler = Annotated()
    host.update(declare, register(handler), {"a": b"1"})
    assert handler.seen == [("a", b"1", [], True)]
    assert handler.actions() == [("upsert", "a")]


def test_21_fingerprints_are_imported_inside_a_method(host: Any, register: Any) -> None:
    class Handler(Annotated):
        def record(self, desired: Any) -> bytes:
            from cocoindex.connectorkits.fingerprint import (
                fingerprint_bytes,
                fingerprint_object,
                fingerprint_str,
            )

            prints = (
                fingerprint_bytes(b"x"), fingerprint_str("x"), fingerprint_object(desired)
            )  # fmt: skip
            assert all(type(fp) is bytes and len(fp) == 16 for fp in prints)
            return prints[2]

    handler = Handler()
    provider = register(handler)
    host.update(declare, provider, {"a": {"k": [1]}})
    host.update(declare, provider, {"a": {"k": [1]}})
    assert handler.actions() == [("upsert", "a")]


def test_24_actions_and_specs_are_never_serialized(host: Any, register: Any) -> None:
    ran: list[str] = []

    class Handler:
        def reconcile(self, key: str, desired: Any, prev: Any, missing: bool, /) -> Any:
            return coco.TargetReconcileOutput(lambda: ran.append(key), sink, b"r")

    def apply(context_provider: ContextProvider, actions: Sequence[Callable[[], None]]) -> None:
        for action in actions:
            action()

    sink = coco.TargetActionSink.from_fn(apply)
    host.update(declare, register(Handler()), {"a": threading.Lock(), "b": (x for x in ())})
    assert ran == ["a", "b"]


def test_25_a_file_connector_may_join_paths_in_reconcile(
    host: Any, register: Any, tmp_path: Path
) -> None:
    base = tmp_path / "out"

    def apply(context_provider: ContextProvider, actions: Sequence[Any]) -> None:
        for path, content in actions:
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    sink = coco.TargetActionSink.from_fn(apply)

    class Files:
        def reconcile(self, key: str, desired: Any, prev: Any, missing: bool, /) -> Any:
            assert type(key) is str
            path = base / key
            if coco.is_non_existence(desired):
                return coco.TargetReconcileOutput((path, None), sink, coco.NON_EXISTENCE)
            return coco.TargetReconcileOutput((path, desired), sink, b"r")

    provider = register(Files())
    host.update(declare, provider, {"sub/a.txt": b"A", "b.txt": b"B"})
    host.update(declare, provider, {"sub/a.txt": b"A"})
    assert [p.relative_to(base).as_posix() for p in base.rglob("*.txt")] == ["sub/a.txt"]
