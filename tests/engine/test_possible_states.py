"""What a handler is told about the past: §E5.4, §E5.5."""

from __future__ import annotations

from typing import NamedTuple

import pytest

import cocoindex as coco
from cocoindex.testing.targets import InjectedFailure

OK, FAIL = "ok", "fail"
ABSENT = None  # in histories: the target state is not declared


class Case(NamedTuple):
    history: list[tuple[str | None, str]]
    """(declared value or ABSENT, outcome of the sink) per run."""
    now: str | None
    seen: tuple[list[str], bool] | None
    """(previous records, may be missing) of the last run; None: not reconciled at all."""


CASES = {
    "never declared before": Case([], "A", ([], True)),
    "A ok": Case([("A", OK)], "X", (["A"], False)),
    "A failed": Case([("A", FAIL)], "X", (["A"], True)),
    "A ok, B failed": Case([("A", OK), ("B", FAIL)], "X", (["A", "B"], False)),
    "A ok, B failed, declare B": Case([("A", OK), ("B", FAIL)], "B", (["A", "B"], False)),
    "A ok, B failed, C failed": Case(
        [("A", OK), ("B", FAIL), ("C", FAIL)], "X", (["A", "B", "C"], False)
    ),
    "A ok, then three runs killed": Case(
        [("A", OK), ("B", FAIL), ("C", FAIL), ("D", FAIL)], "X", (["A", "B", "C", "D"], False)
    ),
    "A ok, delete failed, declared again": Case([("A", OK), (ABSENT, FAIL)], "X", (["A"], True)),
    "A ok, delete failed, still undeclared": Case(
        [("A", OK), (ABSENT, FAIL)], ABSENT, (["A"], True)
    ),
    "insert failed, undeclared": Case([("A", FAIL)], ABSENT, (["A"], True)),
    "insert failed, delete ok: forgotten": Case([("A", FAIL), (ABSENT, OK)], ABSENT, None),
    "insert failed, delete ok, declared": Case([("A", FAIL), (ABSENT, OK)], "X", ([], True)),
    "insert failed, delete failed, B ok": Case(
        [("A", FAIL), (ABSENT, FAIL), ("B", OK)], "X", (["B"], False)
    ),
    "A ok, B failed, A ok again": Case([("A", OK), ("B", FAIL), ("A", OK)], "X", (["A"], False)),
}


@pytest.mark.parametrize("flavour", ["before", "after", "died before", "died after"])
@pytest.mark.parametrize("name", CASES)
async def test_a_handler_sees_every_possible_state_oldest_first(bench, table, name, flavour):
    case = CASES[name]
    died, _, point = flavour.rpartition(" ")
    copies = []

    def strike() -> None:
        copies.append(bench.copy_store())
        raise InjectedFailure

    async def run(value):
        await bench.run(lambda: table.declare("k", value) if value is not ABSENT else None)

    for value, outcome in case.history:
        if outcome == OK:
            await run(value)
            continue
        with table.injected(point, strike), pytest.raises(InjectedFailure):
            await run(value)
        if died:
            bench.reopen(copies[-1])
    table.take()

    await run(case.now)

    if case.seen is None:
        assert table.reconciled == []
    else:
        desired = coco.NON_EXISTENCE if case.now is ABSENT else case.now
        assert table.reconciled == [("k", desired, tuple(case.seen[0]), case.seen[1])]
    assert table.rows == ({} if case.now is ABSENT else {"k": case.now})
    table.take()
    await run(case.now)
    assert table.take() == []


async def test_a_settled_unchanged_item_gets_no_action(bench, table):
    await bench.run(lambda: table.declare("k", 1))
    assert table.take() == [("put", "k", 1)]

    await bench.run(lambda: table.declare("k", 1))

    assert table.reconciled == [("k", 1, (1,), False)]
    assert table.calls == []


async def test_equal_possible_states_are_collapsed_by_commit(bench, table):
    await bench.run(lambda: table.declare("k", "A"))
    with table.failing("after"), pytest.raises(InjectedFailure):
        await bench.run(lambda: table.declare("k", "B"))
    await bench.run(lambda: table.declare("k", "B"))
    table.take()

    await bench.run(lambda: table.declare("k", "B"))

    assert table.reconciled == [("k", "B", ("B",), False)]


async def test_unchanged_items_of_a_failed_run_keep_one_state(bench, table):
    def body(changing):
        table.declare("same", 1)
        table.declare("changing", changing)

    await bench.run(lambda: body(1))
    with table.failing(), pytest.raises(InjectedFailure):
        await bench.run(lambda: body(2))
    table.take()

    await bench.run(lambda: body(3))

    assert table.reconciled == [("same", 1, (1,), False), ("changing", 3, (1, 2), False)]
    assert table.take() == [("put", "changing", 3)]


async def test_actions_come_in_declaration_order_then_the_undeclared(bench, table):
    def body(*keys):
        for key in keys:
            table.declare(key, "v")

    await bench.run(lambda: body("z", "a", "m"))
    table.take()

    await bench.run(lambda: body("q", "b"))

    assert [(op, key) for op, key, _ in table.take()[:2]] == [("put", "q"), ("put", "b")]
    assert table.rows == {"q": "v", "b": "v"}


async def test_declaring_twice_in_one_execution_is_refused_and_nothing_is_applied(bench, table):
    def body():
        table.declare("other", 1)
        table.declare("k", 1)
        table.declare("k", 2)

    error = await bench.fails(body)

    assert isinstance(error, ValueError)
    assert "already declared" in str(error)
    assert table.calls == []
    assert table.rows == {}


async def test_full_reprocess_sends_every_declared_item_with_its_records(bench, table):
    def body():
        table.declare("a", 1)
        table.declare("b", 2)

    await bench.run(body)
    table.take()

    await bench.run(body, full_reprocess=True)

    assert table.reconciled == [("a", 1, (1,), True), ("b", 2, (2,), True)]
    assert table.take() == [("put", "a", 1), ("put", "b", 2)]


async def test_full_reprocess_deletes_undeclared_items_once(bench, table):
    await bench.run(lambda: table.declare("a", 1))
    table.take()

    await bench.run(lambda: None, full_reprocess=True)
    assert table.reconciled == [("a", coco.NON_EXISTENCE, (1,), True)]
    assert table.take() == [("delete", "a", None)]

    await bench.run(lambda: None, full_reprocess=True)
    assert table.reconciled == []


async def test_a_failing_sink_stops_the_sinks_after_it(bench, table):
    from cocoindex.testing.targets import MemoryTarget

    second = MemoryTarget()

    def body():
        table.declare("a", 1)
        second.declare("b", 2)
        table.declare("c", 3)

    with table.failing("after"), pytest.raises(InjectedFailure):
        await bench.run(body)
    assert table.calls == [(("put", "a", 1), ("put", "c", 3))]
    assert second.calls == []

    await bench.run(body)
    assert second.rows == {"b": 2}


async def test_the_error_of_a_sink_reaches_update_unchanged(bench, table):
    class Custom(Exception):
        pass

    error = Custom("why", 42)
    with table.failing(error=error):
        assert await bench.fails(lambda: table.declare("k", 1)) is error


async def test_values_may_be_any_object(bench):
    from cocoindex.testing.targets import MemoryTarget

    opaque = object()
    target = MemoryTarget(record=lambda value: "constant")

    await bench.run(lambda: target.declare("k", opaque))

    assert target.rows["k"] is opaque


async def test_a_declared_item_of_which_nothing_is_to_be_tracked_is_forgotten_once_it_is_gone(
    bench,
):
    told: list[tuple[list[str], bool]] = []
    fails = False

    def apply(_context, _actions):
        if fails:
            raise InjectedFailure

    sink = coco.TargetActionSink.from_fn(apply)

    class Handler:
        def reconcile(self, key, desired, previous: list[str], may_be_missing, /):
            told.append((previous, may_be_missing))
            record = coco.NON_EXISTENCE if desired == "gone" else desired
            return coco.TargetReconcileOutput(key, sink, record)

    provider = coco.register_root_target_states_provider("tests/possible/gone", Handler())
    value = "A"

    async def body():
        coco.declare_target_state(provider.target_state("k", value))

    await bench.run(body)
    value, fails = "gone", True
    await bench.fails(body)
    fails = False
    await bench.run(body)
    await bench.run(body)
    assert told == [([], True), (["A"], False), (["A"], True), ([], True)]
