"""The contract between the engine and a handler: §E5.4 rules, §A4, §A18.3."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest

import cocoindex as coco
from cocoindex.testing.targets import MemoryTarget


class Key(NamedTuple):
    schema: str
    table: str


@dataclasses.dataclass(frozen=True, slots=True)
class DataRecord:
    size: int


class TupleRecord(NamedTuple):
    size: int


class StructRecord(msgspec.Struct, frozen=True):
    size: int


class Seen:
    """Base of the handlers below: remembers arguments and always acts."""

    made: Any = None

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.sink = coco.TargetActionSink.from_fn(lambda _provider, _actions: None)

    def answer(self, *args: Any) -> coco.TargetReconcileOutput[Any, Any]:
        self.seen.append((args[0], args[1], list(args[2]), args[3]))
        record = args[1] if coco.is_non_existence(args[1]) else self.made
        return coco.TargetReconcileOutput(action="act", sink=self.sink, tracking_record=record)


class AnnotatedData(Seen):
    made = DataRecord(1)

    def reconcile(self, key, desired, prev: Collection[DataRecord], missing: bool, /):
        return self.answer(key, desired, prev, missing)


class AnnotatedTuple(Seen):
    made = TupleRecord(1)

    def reconcile(self, k: str, d: Any, any_name: Sequence[TupleRecord], m: bool):
        return self.answer(k, d, any_name, m)


class AnnotatedStruct(Seen):
    made = StructRecord(1)

    def reconcile(self, k, d, p: list[StructRecord], m):
        return self.answer(k, d, p, m)


class FromBase(Seen, coco.TargetHandler[Key, str, TupleRecord]):
    made = TupleRecord(1)

    def reconcile(self, key, desired, prev, missing, /):
        return self.answer(key, desired, prev, missing)


class FromShortBase(Seen, coco.TargetHandler[str, DataRecord]):
    made = DataRecord(1)

    def reconcile(self, key, desired, prev, missing, /):
        return self.answer(key, desired, prev, missing)


class FromLongBase(Seen, coco.TargetHandler[Key, str, StructRecord, None]):
    made = StructRecord(1)

    def reconcile(self, key, desired, prev, missing, /):
        return self.answer(key, desired, prev, missing)


class NoneRecord(Seen):
    def reconcile(self, key, desired, prev: Collection[None], missing, /):
        return self.answer(key, desired, prev, missing)


class BytesRecord(Seen):
    made = b"\x00\xff"

    def reconcile(self, key, desired, prev: Collection[bytes], missing, /):
        return self.answer(key, desired, prev, missing)


class NoneUnderAFallbackType(Seen, coco.TargetHandler[str, DataRecord]):
    made = None

    def reconcile(self, key, desired, prev, missing, /):
        return self.answer(key, desired, prev, missing)


class AnnotatedKey(Seen):
    made = "r"

    def reconcile(self, key: Key, desired, prev, missing, /):
        return self.answer(key, desired, prev, missing)


def _register(handler: Any) -> coco.TargetStateProvider[Any, Any, Any]:
    return coco.register_root_target_states_provider(f"test/handlers/{uuid.uuid4()}", handler)


@pytest.mark.parametrize(
    "kind",
    [
        AnnotatedData,
        AnnotatedTuple,
        AnnotatedStruct,
        FromBase,
        FromShortBase,
        FromLongBase,
        NoneRecord,
        BytesRecord,
        NoneUnderAFallbackType,
    ],
)
async def test_records_arrive_as_the_declared_type_also_after_reopening(bench, kind):
    handler = kind()
    provider = _register(handler)
    key = ("s", "t")

    def body():
        coco.declare_target_state(provider.target_state(key, "v"))

    await bench.run(body)
    bench.reopen()
    await bench.run(body)
    bench.reopen()
    await bench.run(lambda: None)

    assert [args[2:] for args in handler.seen] == [
        ([], True),
        ([kind.made], False),
        ([kind.made], False),
    ]
    assert all(type(args[2][0]) is type(kind.made) for args in handler.seen[1:])


@pytest.mark.parametrize("kind", [AnnotatedKey, FromBase, FromLongBase])
async def test_a_named_tuple_key_comes_back_as_its_class(bench, kind):
    handler = kind()
    provider = _register(handler)

    await bench.run(
        lambda: coco.declare_target_state(provider.target_state(key=Key("s", "t"), spec="v"))
    )
    bench.reopen()
    await bench.run(lambda: None)

    assert [args[0] for args in handler.seen] == [Key("s", "t")] * 2
    assert [type(args[0]) for args in handler.seen] == [Key] * 2


async def test_without_an_annotation_a_tuple_key_stays_a_tuple(bench):
    handler = BytesRecord()
    provider = _register(handler)

    await bench.run(
        lambda: coco.declare_target_state(provider.target_state(key=Key("s", "t"), value="v"))
    )

    assert type(handler.seen[0][0]) is tuple


async def test_a_record_that_no_longer_decodes_is_left_out_with_one_warning(bench, caplog):
    handler = AnnotatedData()
    handler.made = "was a string in an older release"
    provider = _register(handler)

    def body():
        for key in "ab":
            coco.declare_target_state(provider.target_state(key, "v"))

    await bench.run(body)
    bench.reopen()
    handler.seen.clear()

    await bench.run(body)

    assert handler.seen == [("a", "v", [], True), ("b", "v", [], True)]
    warnings = [r for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1


class Quiet(MemoryTarget):
    """Answers None for whatever ``quiet`` says."""

    quiet = staticmethod(lambda desired: False)

    def reconcile(self, key, desired, prev_records, prev_may_be_missing, /):
        output = super().reconcile(key, desired, prev_records, prev_may_be_missing)
        return None if self.quiet(desired) else output


async def test_none_for_a_new_item_tracks_nothing(bench):
    target = Quiet(record=str)
    target.quiet = lambda desired: True

    await bench.run(lambda: target.declare("k", 1))

    assert await bench.owners() == {}
    assert target.calls == []


async def test_none_for_an_undeclared_item_drops_it_for_good(bench):
    target = Quiet(record=str)
    await bench.run(lambda: target.declare("k", 1))
    target.quiet = coco.is_non_existence
    target.take()

    await bench.run(lambda: None)
    assert len(target.reconciled) == 1
    assert target.take() == []
    assert await bench.owners() == {}

    await bench.run(lambda: None)
    assert target.reconciled == []


async def test_none_for_a_declared_item_keeps_its_states_and_drops_absent(bench):
    target = Quiet(record=lambda v: v)
    with target.failing("after"), pytest.raises(Exception, match="injected"):
        await bench.run(lambda: target.declare("k", "A"))
    target.quiet = lambda desired: True
    await bench.run(lambda: target.declare("k", "A"))
    target.take()

    await bench.run(lambda: target.declare("k", "A"))

    assert target.reconciled == [("k", "A", ("A",), False)]


async def test_an_action_without_a_record_tracks_nothing(bench):
    class Fire(MemoryTarget):
        def reconcile(self, key, desired, prev_records, prev_may_be_missing, /):
            output = super().reconcile(key, desired, prev_records, prev_may_be_missing)
            return output._replace(tracking_record=coco.NON_EXISTENCE)

    target = Fire(record=str)
    for _ in range(2):
        await bench.run(lambda: target.declare("k", 1))

    assert target.take() == [("put", "k", 1)] * 2
    assert await bench.owners() == {}


async def test_any_sequence_of_four_is_an_output(bench):
    class Plain(MemoryTarget):
        def reconcile(self, key, desired, prev_records, prev_may_be_missing, /):
            output = super().reconcile(key, desired, prev_records, prev_may_be_missing)
            return output and [*output]

    target = Plain(record=str)
    await bench.run(lambda: target.declare("k", 1))

    assert target.rows == {"k": 1}


async def test_an_unknown_child_invalidation_is_refused(bench):
    class Wrong(MemoryTarget):
        def reconcile(self, key, desired, prev_records, prev_may_be_missing, /):
            output = super().reconcile(key, desired, prev_records, prev_may_be_missing)
            return output._replace(child_invalidation="harmful")

    target = Wrong(record=str)
    error = await bench.fails(lambda: target.declare("k", 1))

    assert isinstance(error, ValueError)
    assert target.calls == []


@pytest.mark.parametrize("sink", [None, print], ids=["none", "a function"])
@pytest.mark.parametrize("is_tracked", [False, True])
async def test_what_is_no_sink_is_refused(bench, sink, is_tracked):
    class Wrong(MemoryTarget):
        is_wrong = False

        def reconcile(self, key, desired, prev_records, prev_may_be_missing, /):
            output = super().reconcile(key, desired, prev_records, prev_may_be_missing)
            return output._replace(sink=sink) if self.is_wrong else output

    target = Wrong(record=str)
    if is_tracked:
        await bench.run(lambda: target.declare("k", 0))
    target.is_wrong = True
    error = await bench.fails(lambda: target.declare("k", 1))
    assert isinstance(error, TypeError)
    assert "the sink must be a TargetActionSink" in str(error)
    target.is_wrong = False
    await bench.run(lambda: target.declare("k", 1))
    assert target.rows == {"k": 1}


async def test_an_object_without_reconcile_is_no_handler():
    with pytest.raises(TypeError, match="reconcile"):
        coco.register_root_target_states_provider("test/handlers/none", object())


async def test_a_root_name_can_be_registered_once():
    class One(Seen):
        def reconcile(self, *args):
            return None

    class Other(One):
        pass

    coco.register_root_target_states_provider("test/handlers/twice", One())
    with pytest.raises(ValueError, match="already registered"):
        coco.register_root_target_states_provider("test/handlers/twice", Other())


async def test_a_failing_reconcile_fails_only_its_component(bench, table):
    class Poison(MemoryTarget):
        def reconcile(self, key, desired, prev_records, prev_may_be_missing, /):
            if key == 7:
                raise ZeroDivisionError
            return super().reconcile(key, desired, prev_records, prev_may_be_missing)

    target = Poison(record=str)

    async def body():
        await coco.mount_each(
            coco.component_subpath("c"), lambda n: target.declare(n, n), [(n, n) for n in range(50)]
        )

    await bench.run(body)

    assert sorted(target.rows) == [n for n in range(50) if n != 7]


@pytest.mark.parametrize("key", [1.5, object(), {"a": 1}])
async def test_an_unsupported_key_is_refused_where_it_is_given(table, key):
    with pytest.raises(TypeError, match="Unsupported StableKey Python type"):
        table.row(key, 1)


async def test_keys_that_python_finds_equal_stay_apart(bench, table):
    keys = [True, 1, "1", b"1", (1,), (True,), None, "", b"", (), coco.Symbol("1")]
    stored: list[Any] = []

    class Keeps(MemoryTarget):
        def _apply_one(self, action):
            stored.append((type(action.key), action.key, action.value))

    target = Keeps(record=str)

    def body():
        for i, key in enumerate(keys):
            target.declare(key, i)

    await bench.run(body)

    assert stored == [(type(key), key, i) for i, key in enumerate(keys)]
