"""What an author of a connector may write, row by row of the authoring contract.

Deliberately without ``from __future__ import annotations``: authors' annotations are evaluated.
"""

import threading
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import pytest

import cocoindex as coco
from cocoindex._internal.context_keys import ContextProvider


@dataclass(frozen=True, slots=True)
class SlottedRecord:
    fingerprint: bytes


class TupleRecord(NamedTuple):
    name: str
    teardown: str


class StructRecord(msgspec.Struct, frozen=True):
    fingerprint: bytes


class DirKey(NamedTuple):
    path: str


class Recorder:
    """Base of the test handlers: logs reconciles and actions, upserts what differs."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, Any, list[Any], bool]] = []
        self.applied: list[list[Any]] = []
        self.sink = coco.TargetActionSink.from_fn(self.apply)

    def apply(self, context_provider: ContextProvider, actions: Sequence[Any]) -> None:
        self.applied.append(list(actions))

    def record(self, desired: Any) -> Any:
        return desired

    def decide(self, key: Any, desired: Any, prev: Collection[Any], missing: bool) -> Any:
        self.seen.append((key, desired, list(prev), missing))
        if coco.is_non_existence(desired):
            return coco.TargetReconcileOutput(
                action=("delete", key), sink=self.sink, tracking_record=coco.NON_EXISTENCE
            )
        if not missing and all(one == self.record(desired) for one in prev):
            return None
        return coco.TargetReconcileOutput(
            action=("upsert", key), sink=self.sink, tracking_record=self.record(desired)
        )

    def actions(self) -> list[Any]:
        """Actions since the last call."""
        flat = [action for batch in self.applied for action in batch]
        self.applied.clear()
        return flat


class Annotated(Recorder):
    def reconcile(self, key: str, desired: Any, prev: Collection[bytes], missing: bool, /) -> Any:
        return self.decide(key, desired, prev, missing)


def declare(provider: Any, states: dict[Any, Any]) -> None:
    for key, value in states.items():
        coco.declare_target_state(provider.target_state(key, value))


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


class TestSinks:
    """Row 9: a shared function or a bound method, sync or async; one call per batch."""

    @pytest.fixture
    def batches(self) -> list[list[Any]]:
        return []

    def handlers(self, make_sink: Callable[[], Any]) -> Any:
        class Handler:
            def reconcile(self, key: str, desired: Any, prev: Any, missing: bool, /) -> Any:
                return coco.TargetReconcileOutput(key, make_sink(), b"r")

        return Handler()

    @pytest.mark.parametrize("is_async", [False, True])
    def test_09_one_call_takes_all_actions_of_the_component(
        self, host: Any, register: Any, batches: list[list[Any]], is_async: bool
    ) -> None:
        def apply(context_provider: ContextProvider, actions: Sequence[str]) -> None:
            assert isinstance(context_provider, coco.ContextProvider)
            batches.append(list(actions))

        async def apply_async(context_provider: ContextProvider, actions: Sequence[str]) -> None:
            apply(context_provider, actions)

        shared = (
            coco.TargetActionSink.from_async_fn(apply_async)
            if is_async
            else coco.TargetActionSink.from_fn(apply)
        )
        provider = register(self.handlers(lambda: shared))
        host.update(declare, provider, {"c": 1, "a": 1, "b": 1})
        assert batches == [["c", "a", "b"]]

    def test_09_sinks_built_anew_from_one_function_are_one_sink(
        self, host: Any, register: Any, batches: list[list[Any]]
    ) -> None:
        def apply(context_provider: ContextProvider, actions: Sequence[str]) -> None:
            batches.append(list(actions))

        provider = register(self.handlers(lambda: coco.TargetActionSink.from_fn(apply)))
        host.update(declare, provider, {"a": 1, "b": 1})
        assert batches == [["a", "b"]]

    def test_09_bound_methods_of_two_instances_are_two_sinks(
        self, host: Any, register: Any
    ) -> None:
        one, two = Annotated(), Annotated()
        first, second = register(one), register(two)

        def main() -> None:
            declare(first, {"a": b"1"})
            declare(second, {"b": b"1"})
            declare(first, {"c": b"1"})

        host.update(main)
        assert one.applied == [[("upsert", "a"), ("upsert", "c")]]
        assert two.applied == [[("upsert", "b")]]

    def test_09_a_sync_sink_sees_no_running_loop(self, host: Any, register: Any) -> None:
        import asyncio

        found: list[str] = []

        def apply(context_provider: ContextProvider, actions: Sequence[str]) -> None:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            found.append("no loop")

        sink = coco.TargetActionSink.from_fn(apply)
        host.update(declare, register(self.handlers(lambda: sink)), {"a": 1})
        assert found == ["no loop"]

    def test_09_a_coroutine_function_as_sync_sink_is_refused(self) -> None:
        async def apply(context_provider: Any, actions: Any) -> None: ...

        with pytest.raises(TypeError, match="from_async_fn"):
            coco.TargetActionSink.from_fn(apply)

    def test_09_an_async_sink_may_be_any_callable_that_returns_an_awaitable(
        self, host: Any, register: Any, batches: list[list[Any]]
    ) -> None:
        async def apply(context_provider: Any, actions: Any) -> None:
            batches.append(list(actions))

        sink = coco.TargetActionSink.from_async_fn(lambda provider, acts: apply(provider, acts))
        host.update(declare, register(self.handlers(lambda: sink)), {"a": 1})
        assert batches == [["a"]]

    def test_09_an_async_sink_that_returns_something_else_fails_at_the_call(
        self, host: Any, register: Any
    ) -> None:
        sink = coco.TargetActionSink.from_async_fn(cast("Any", lambda provider, actions: None))
        with pytest.raises(TypeError):
            host.update(declare, register(self.handlers(lambda: sink)), {"a": 1})

    def test_a_last_sink_runs_after_the_others(
        self, host: Any, register: Any, batches: list[list[Any]]
    ) -> None:
        def early(context_provider: Any, actions: Any) -> None:
            batches.append(["early", *actions])

        def late(context_provider: Any, actions: Any) -> None:
            batches.append(["late", *actions])

        last = coco.TargetActionSink.from_fn(late, last=True)
        normal = coco.TargetActionSink.from_fn(early)
        first, second = (
            register(self.handlers(lambda: last)),
            register(self.handlers(lambda: normal)),
        )

        def main() -> None:
            declare(first, {"a": 1})
            declare(second, {"b": 1})

        host.update(main)
        assert batches == [["early", "b"], ["late", "a"]]


def _module_level(context_provider: ContextProvider, actions: Sequence[str]) -> None: ...


_module_sink = coco.TargetActionSink[str, None].from_fn(_module_level)


def test_10_a_subscripted_sink_class_builds_sinks_at_module_level() -> None:
    assert isinstance(_module_sink, coco.TargetActionSink)


class Container(Recorder):
    """A container whose children go to ``children``."""

    def __init__(self, children: Any) -> None:
        super().__init__()
        self.children = children
        self.sink = coco.TargetActionSink.from_fn(self.hand_out)
        self.invalidation: Any = None

    def hand_out(
        self, context_provider: ContextProvider, actions: Sequence[Any]
    ) -> list[coco.ChildTargetDef[Any] | None]:
        self.applied.append(list(actions))
        return [
            None if verb == "delete" else coco.ChildTargetDef(handler=self.children)
            for verb, _ in actions
        ]

    def reconcile(
        self, key: DirKey, desired: Any, prev: Collection[bytes], missing: bool, /
    ) -> coco.TargetReconcileOutput[Any, bytes, Any]:
        self.seen.append((key, desired, list(prev), missing))
        if coco.is_non_existence(desired):
            return coco.TargetReconcileOutput(("delete", key), self.sink, coco.NON_EXISTENCE)
        return coco.TargetReconcileOutput(
            action=("ensure", key),
            sink=self.sink,
            tracking_record=b"dir",
            child_invalidation=self.invalidation,
        )


@pytest.fixture
def container() -> Container:
    return Container(Annotated())


async def fill(provider: Any, path: str, states: dict[str, bytes]) -> None:
    declare(await coco.mount_target(provider.target_state(DirKey(path), None)), states)


def test_11_a_container_sink_returns_children_for_all_but_deletes_without_a_warning(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)

    async def main(paths: list[str]) -> None:
        for path in paths:
            await fill(provider, path, {"f": path.encode()})

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        host.update(main, ["x", "y"])
        host.update(main, ["x"])
    assert sorted(container.actions()) == [
        ("delete", ("y",)),
        ("ensure", ("x",)),
        ("ensure", ("x",)),
        ("ensure", ("y",)),
    ]
    assert container.children.actions() == [("upsert", "f"), ("upsert", "f")]


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        ([], "0"),
        ([None], "fulfilled"),
        (None, "fulfilled"),
        ([coco.ChildTargetDef(cast("Any", object()))], "reconcile"),
    ],
)
def test_11_a_sink_that_breaks_the_contract_fails_the_component(
    host: Any, register: Any, container: Container, returned: Any, error: str
) -> None:
    container.sink = coco.TargetActionSink.from_fn(lambda provider, actions: returned)
    with pytest.raises((ValueError, TypeError), match=error):
        host.update(fill, register(container), "x", {})


def test_11_a_child_for_an_action_without_child_provider_is_refused(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)
    with pytest.raises(ValueError, match=r"(?i)child"):
        host.update(declare, provider, {DirKey("x"): None})


def test_12_a_named_tuple_key_comes_back_as_its_class_where_annotated(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)

    async def main() -> None:
        state = provider.target_state(key=DirKey(path="p"), spec=None)
        await coco.mount_target(state)

    host.update(main)
    host.update(lambda: None)
    for key, _, _, _ in container.seen:
        assert type(key) is DirKey
        assert key.path == "p"


def test_12_a_named_tuple_key_comes_back_as_the_base_class_says(host: Any, register: Any) -> None:
    class Handler(Recorder, coco.TargetHandler[DirKey, bytes, SlottedRecord]):
        def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
            return self.decide(key, desired_state, prev_possible_states, prev_may_be_missing)

        def record(self, desired: Any) -> Any:
            return SlottedRecord(desired)

    handler = Handler()
    provider = register(handler)
    host.update(declare, provider, {DirKey("p"): b"1"})
    host.update(declare, provider, {})
    assert [type(key) for key, *_ in handler.seen] == [DirKey, DirKey]
    assert handler.seen[1][2:] == ([SlottedRecord(b"1")], False)


def test_12_nested_named_tuples_are_rebuilt_too(host: Any, register: Any) -> None:
    class Outer(NamedTuple):
        where: DirKey
        number: int

    class Handler(Recorder):
        def reconcile(
            self, key: Outer, desired: Any, prev: Collection[bytes], missing: bool, /
        ) -> Any:
            assert key.where.path == "p"
            return self.decide(key, desired, prev, missing)

    handler = Handler()
    provider = register(handler)
    host.update(declare, provider, {Outer(DirKey("p"), 3): b"1"})
    host.update(declare, provider, {})
    assert [type(key) for key, *_ in handler.seen] == [Outer, Outer]


def test_12_an_unannotated_key_arrives_as_a_plain_tuple(host: Any, register: Any) -> None:
    class Handler(Recorder):
        def reconcile(self, key, desired, prev, missing, /):  # type: ignore[no-untyped-def]
            return self.decide(key, desired, prev, missing)

    handler = Handler()
    provider = register(handler)
    host.update(declare, provider, {DirKey("p"): b"1"})
    host.update(declare, provider, {})
    assert type(handler.seen[1][0]) is tuple


def test_13_an_object_holding_the_pending_provider_works_once_use_mount_returns(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)
    built: list[Any] = []

    class DirTarget:
        def __init__(self, child: Any) -> None:
            self._child = child

        def declare_file(self, name: str, content: bytes) -> None:
            coco.declare_target_state(self._child.target_state(name, content))

    @coco.fn
    def declare_dir(path: str) -> DirTarget:
        parent = provider.target_state(DirKey(path), None)
        built.append(DirTarget(coco.declare_target_state_with_child(parent)))
        return cast("DirTarget", built[-1])

    async def main() -> None:
        target = await coco.use_mount(coco.component_subpath("dir"), declare_dir, "x")
        assert target is built[-1]
        target.declare_file("f", b"1")

    host.update(main)
    assert container.children.actions() == [("upsert", "f")]


def test_13_declaring_on_a_provider_still_pending_is_refused_at_once(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)

    def main() -> None:
        child = coco.declare_target_state_with_child(provider.target_state(DirKey("x"), None))
        with pytest.raises(RuntimeError, match="mount_target"):
            coco.declare_target_state(child.target_state("f", b"1"))

    host.update(main)


def test_14_mount_target_does_it_in_one_call(
    host: Any, register: Any, container: Container
) -> None:
    host.update(fill, register(container), "x", {"f": b"1"})
    assert container.actions() == [("ensure", ("x",))]
    assert container.children.actions() == [("upsert", "f")]


def test_15_casts_of_target_states_evaluate(host: Any, register: Any) -> None:
    handler = Annotated()
    provider = register(handler)

    def main() -> None:
        coco.declare_target_state(cast("coco.TargetState[None]", provider.target_state("a", b"1")))

    host.update(main)
    assert handler.actions() == [("upsert", "a")]


class OnDemand(Annotated):
    def __init__(self) -> None:
        super().__init__()
        self.indexes = Annotated()

    def attachment(self, att_type: str) -> Any:
        return self.indexes if att_type == "vector_index" else None


class AllUpFront(Annotated):
    def __init__(self) -> None:
        super().__init__()
        self.indexes = Annotated()

    def attachments(self) -> dict[str, Any]:
        return {"vector_index": self.indexes}


@pytest.mark.parametrize("make", [OnDemand, AllUpFront])
@pytest.mark.parametrize("root", [True, False], ids=["root", "child"])
def test_16_attachments_follow_what_is_declared_under_either_protocol(
    host: Any, register: Any, make: Any, root: bool
) -> None:
    handler = make()
    provider = register(handler if root else Container(handler))

    async def main(states: dict[str, bytes], indexes: dict[str, bytes]) -> None:
        rows = provider
        if not root:
            rows = await coco.mount_target(provider.target_state(DirKey("x"), None))
        declare(rows, states)
        if indexes:
            attached = rows.attachment("vector_index")
            assert attached is rows.attachment("vector_index")
            declare(attached, indexes)

    host.update(main, {"i": b"row"}, {"i": b"index", "j": b"index"})
    assert handler.actions() == [("upsert", "i")]
    assert handler.indexes.actions() == [("upsert", "i"), ("upsert", "j")]

    host.update(main, {"i": b"row"}, {"i": b"index"})
    assert handler.indexes.actions() == [("delete", "j")]

    # Orphans: nobody asks for attachments in this run.
    host.update(main, {"i": b"row"}, {})
    assert handler.indexes.actions() == [("delete", "i")]
    assert handler.actions() == []


def test_17_the_record_of_an_attachment_may_hold_what_its_teardown_needs(
    host: Any, register: Any
) -> None:
    class Commands(Recorder, coco.TargetHandler[str, TupleRecord, TupleRecord]):
        def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
            if coco.is_non_existence(desired_state):
                teardown = [prev.teardown for prev in prev_possible_states]
                return coco.TargetReconcileOutput(teardown, self.sink, coco.NON_EXISTENCE)
            return self.decide(key, desired_state, prev_possible_states, prev_may_be_missing)

    class Rows(Annotated):
        commands = Commands()

        def attachment(self, att_type: str) -> Any:
            return self.commands

    provider = register(Rows())

    def main(commands: dict[str, TupleRecord]) -> None:
        if commands:
            declare(provider.attachment("sql"), commands)

    host.update(main, {"v": TupleRecord("v", "DROP VIEW v")})
    Rows.commands.actions()
    host.update(main, {})
    assert Rows.commands.actions() == [["DROP VIEW v"]]


def test_18_a_lossy_container_shows_records_but_doubts_them_once(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)
    host.update(fill, provider, "x", {"f": b"1"})
    container.invalidation = "lossy"
    host.update(fill, provider, "x", {"f": b"1"})
    container.invalidation = None
    host.update(fill, provider, "x", {"f": b"1"})
    assert [call[2:] for call in container.children.seen] == [
        ([], True),
        ([b"1"], True),
        ([b"1"], False),
    ]


def test_18_a_destructive_container_makes_children_new_and_forgets_the_others(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)
    host.update(fill, provider, "x", {"f": b"1", "g": b"1"})
    container.children.seen.clear()
    container.invalidation = "destructive"
    host.update(fill, provider, "x", {"f": b"1"})
    container.invalidation = None
    host.update(fill, provider, "x", {"f": b"1"})
    assert container.children.seen == [("f", b"1", [], True), ("f", b"1", [b"1"], False)]


def test_19_provider_and_sentinel_annotations_evaluate_at_definition() -> None:
    def wrap(
        several: coco.TargetStatesProvider[str, bytes, None],
        one: coco.TargetStateProvider[DirKey, bytes, None],
        spec: bytes | coco.NonExistenceType,
    ) -> None: ...

    assert len(wrap.__annotations__) == 4


def test_20_a_sink_gets_connections_from_the_provider_by_name_and_type(
    register: Any, host: Any
) -> None:
    class Pool: ...

    pool, found = Pool(), []

    class Handler(Annotated):
        def apply(self, context_provider: ContextProvider, actions: Sequence[Any]) -> None:
            found.append(context_provider.get("api/contract/pool", Pool))
            found.append(context_provider.get("api/contract/pool"))
            found.append(context_provider.get(key))
            with pytest.raises(KeyError):
                context_provider.get("api/contract/nothing")
            with pytest.raises(TypeError, match=r"api/contract/pool.*int.*Pool"):
                context_provider.get("api/contract/pool", int)

    key: coco.ContextKey[Pool] = coco.ContextKey("api/contract/pool")
    context = ContextProvider()
    context.provide(key, pool)
    with host.app(declare, register(Handler()), {"a": b"1"}, context_provider=context) as app:
        app.update_blocking()
    assert found == [pool, pool, pool]


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


@pytest.mark.parametrize("name", ["api/any", "with spaces", "näme", "", "a" * 600])
def test_22_any_string_names_a_root_provider(host: Any, name: str) -> None:
    handler = Annotated()
    provider = coco.register_root_target_states_provider(name, handler)
    host.update(declare, provider, {"a": b"1"})
    host.update(declare, provider, {})
    assert handler.actions() == [("upsert", "a"), ("delete", "a")]


@pytest.mark.parametrize(
    "key", [("id", "x"), ("", "\x00"), (1, True, None), (("n", b"\x00"), ()), "é", -7, b"", True]
)
def test_23_keys_are_restored_from_the_store_when_no_code_declares_them(
    host: Any, register: Any, key: Any
) -> None:
    class Handler(Recorder):
        def reconcile(self, key, desired, prev, missing, /):  # type: ignore[no-untyped-def]
            return self.decide(key, desired, prev, missing)

    handler = Handler()
    host.update(declare, register(handler), {key: b"1"})
    handler.actions()
    host.update(lambda: None)
    [(_, found)] = handler.actions()
    assert found == key
    assert type(found) is type(key)


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


def test_a_child_handler_factory_replaces_what_the_sink_returns(
    host: Any, register: Any, container: Container
) -> None:
    applied: list[Any] = []

    def apply(context_provider: ContextProvider, actions: Sequence[Any]) -> None:
        applied.extend(actions)

    container.sink = coco.TargetActionSink.from_fn(
        apply, child_handler=lambda context_provider, action: container.children
    )
    host.update(fill, register(container), "x", {"f": b"1"})
    assert applied == [("ensure", ("x",))]
    assert container.children.actions() == [("upsert", "f")]


def test_an_async_child_handler_factory_is_refused() -> None:
    async def factory(context_provider: Any, action: Any) -> Any: ...

    with pytest.raises(TypeError):
        coco.TargetActionSink.from_fn(lambda provider, actions: None, child_handler=factory)


def test_the_slot_form_works_and_warns(host: Any, register: Any, container: Container) -> None:
    def apply(context_provider: Any, actions: Sequence[Any], child_slots: Any) -> None:
        assert list(child_slots) == [0]
        child_slots[0].fulfill(container.children)

    with pytest.warns(DeprecationWarning, match="child_handler"):
        container.sink = coco.TargetActionSink.from_fn_with_children(apply)
    host.update(fill, register(container), "x", {"f": b"1"})
    assert container.children.actions() == [("upsert", "f")]
