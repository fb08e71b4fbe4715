"""Many memoized children of one function, most of them unchanged: §E9.10, §E3.1."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.engine import rows
from cocoindex.state.open import open_store

sub = coco.component_subpath

rate = 1
"""Read by bodies below."""


def every_so_often(numbers):
    return [number for number in numbers if number % 100 == 7]


def each(child, items, *args, **kwargs):
    async def body():
        await coco.mount_each(sub("c"), child, items, *args, **kwargs)

    return body


@pytest.fixture
def child(ran):
    @coco.fn(memo=True)
    async def child(value: Any, *rest: Any, **options: Any) -> None:
        ran(value)

    return child


async def test_only_what_changed_runs(bench, ran, child):
    numbers = range(700)
    await bench.run(each(child, [(n, (n, 0)) for n in numbers]))
    assert len(ran.take()) == 700
    handle = bench.start(each(child, [(n, (n, int(n % 100 == 7))) for n in numbers]))
    await handle
    assert ran.take() == [(n, 1) for n in every_so_often(numbers)]
    assert handle.stats().by_component[child.__qualname__].num_unchanged == 693
    bench.reopen()
    await bench.run(each(child, [(n, (n, int(n % 100 == 7))) for n in reversed(numbers)]))
    assert ran.take() == []


@dataclass(frozen=True)
class Record:
    name: str
    size: float


class Keyed:
    def __init__(self, name):
        self.name = name

    def __coco_memo_key__(self):
        return self.name


@pytest.mark.parametrize(
    "make",
    [
        lambda n, v: n + v * 100,
        lambda n, v: f"{n}{v}",
        lambda n, v: (n, (v,)),
        lambda n, v: [n, "x" * 300, v],
        lambda n, v: Record(str(n), v + 0.5),
        lambda n, v: {"n": n, "v": v},
        lambda n, v: Keyed(f"{n}{v}"),
    ],
    ids=["int", "str", "nested", "long", "dataclass", "dict", "keyed"],
)
async def test_arguments_of_all_kinds_are_told_apart(bench, ran, make):
    @coco.fn(memo=True)
    async def child(value: Any, number: int, *, more: Any) -> None:
        ran(number)

    async def body(version=lambda _: 0, more="m"):
        for n in range(9):
            await coco.mount(sub("c", n), child, make(n, version(n)), n, more=more)
        items = [(n, make(n, version(n))) for n in range(9)]
        await coco.mount_each(sub("d"), child, items, 10, more=more)

    await bench.run(body)
    await bench.run(body)
    assert sorted(ran.take()) == [*range(9), *[10] * 9]
    await bench.run(lambda: body(lambda n: int(n in (0, 4, 8))))
    assert sorted(ran.take()) == [0, 4, 8, 10, 10, 10]
    await bench.run(lambda: body(lambda n: int(n in (0, 4, 8)), [1]))
    assert sorted(ran.take()) == [*range(9), *[10] * 9]


async def test_a_constant_that_changes_between_two_items_is_noticed(bench, ran, monkeypatch):
    @coco.fn(memo=True)
    async def child(number: int) -> None:
        ran(f"{number} at {rate}")

    def items(change_at=None):
        for number in range(6):
            if number == change_at:
                monkeypatch.setitem(globals(), "rate", 2)
            yield number, number

    await bench.run(each(child, items()))
    assert len(ran.take()) == 6
    await bench.run(each(child, items(4)))
    assert ran.take() == ["4 at 2", "5 at 2"]


_keys = itertools.count()


async def test_a_context_value_counts_for_those_that_used_it(bench, ran):
    first, second = (
        coco.ContextKey[str](f"test/unchanged/{next(_keys)}", detect_change=True) for _ in range(2)
    )

    @coco.fn(memo=True)
    async def child(number: int) -> None:
        ran(number)
        if number < 6:
            coco.use_context(second if number % 2 else first)

    async def run(value):
        bench.close()
        bench.context = coco.ContextProvider()
        bench.context.provide(first, value)
        bench.context.provide(second, "stays")
        await bench.run(each(child, [(n, n) for n in range(8)]))
        return ran.take()

    assert await run("one") == list(range(8))
    assert await run("one") == []
    assert await run("two") == [0, 2, 4]
    assert await run("two") == []


class Stateful:
    """Valid as long as its state is what it was."""

    def __init__(self, name: str, state: int) -> None:
        self.name, self.state = name, state
        self.asked = 0

    def __coco_memo_key__(self):
        return self.name

    def __coco_memo_state__(self, prev: Any) -> coco.MemoStateOutcome:
        self.asked += 1
        return coco.MemoStateOutcome(state=self.state, memo_valid=prev == self.state)


async def test_the_state_of_each_argument_is_asked_for(bench, ran):
    @coco.fn(memo=True)
    async def child(value: Any) -> None:
        ran(getattr(value, "name", "plain"))

    def values(state):
        return enumerate([0, 1, Stateful("a", 1), 3, Stateful("b", state), Stateful("c", 1), 6])

    await bench.run(each(child, values(1)))
    await bench.run(each(child, values(1)))
    assert len(ran.take()) == 7
    await bench.run(each(child, values(2)))
    assert ran.take() == ["b"]


async def test_the_state_of_a_context_value_is_asked_for_each_child(bench, ran):
    key = coco.ContextKey[Stateful](f"test/unchanged/{next(_keys)}", detect_change=True)

    @coco.fn(memo=True)
    async def child(number: int) -> None:
        ran(number)
        coco.use_context(key)

    async def run(state):
        bench.close()
        bench.context = coco.ContextProvider()
        value = bench.context.provide(key, Stateful("s", state))
        await bench.run(each(child, [(n, n) for n in range(3)]))
        return ran.take(), value.asked - 1

    everything = [0, 1, 2]
    assert await run(1) == (everything, 0)
    assert await run(1) == ([], 3)
    assert await run(2) == (everything, 3)
    assert await run(2) == ([], 3)


async def test_a_memo_key_is_asked_for_at_the_place_of_its_component(bench, ran):
    class Here:
        def __coco_memo_key__(self):
            return str(coco.get_component_context())

    @coco.fn(memo=True)
    async def child(here: Here) -> None:
        ran(str(coco.get_component_context()))

    for _ in range(2):
        await bench.run(each(child, [(n, Here()) for n in range(3)]))
    assert ran.take() == ['/"c"/0', '/"c"/1', '/"c"/2']


@pytest.mark.parametrize("length", [1, 40])
async def test_results_may_differ_and_are_read_again(bench, ran, length):
    class Answer:
        value: Any = "text"

    async def child(number: int):
        ran(number)
        return [Answer.value] * (number % 3)

    def annotated(result):
        child.__annotations__["return"] = list[result]
        return coco.fn(memo=True, version=1)(child)

    items = [(n, n) for n in range(length)]
    await bench.run(each(annotated(str), items))
    await bench.run(each(annotated(str), items))
    assert ran.take() == [n for n, _ in items]
    Answer.value = 1
    await bench.run(each(annotated(int), items))
    assert ran.take() == [n for n, _ in items if n % 3]


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"?",
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: raw[:3] + bytes(16) + raw[19:],
        lambda raw: b"\x98" + raw[1:],
    ],
    ids=["garbage", "shorter", "longer", "other call", "other shape"],
)
async def test_a_damaged_memo_between_others_runs_its_component_only(bench, ran, child, damage):
    items = [(n, n) for n in range(9)]
    await bench.run(each(child, items))
    ran.take()
    bench.close()
    store = open_store(bench.path)
    section = store.section("bench")
    memos = section.scan(b"C")
    key, raw = memos[5]
    assert rows.decode_component_memo(raw).fingerprint
    section.write([(key, damage(raw))])
    store.close()
    await bench.run(each(child, items))
    assert ran.take() == [5]
    await bench.run(each(child, items))
    assert ran.take() == []


async def test_a_full_reprocess_and_a_preview_see_them_all(bench, ran, child):
    items = [(n, n) for n in range(5)]
    await bench.run(each(child, items))
    assert ran.take() == [0, 1, 2, 3, 4]
    assert await bench.run(each(child, items), preview=True) == []
    assert ran.take() == []
    await bench.run(each(child, items), full_reprocess=True)
    assert ran.take() == [0, 1, 2, 3, 4]


async def test_a_listing_twice_of_one_key_is_refused_among_unchanged_ones(bench, ran, child):
    await bench.run(each(child, [(n, n) for n in range(5)]))
    error = await bench.fails(each(child, [(0, 0), (1, 1), (1, 1)]))
    assert isinstance(error, ValueError)
    assert '"c"/1 already exists' in str(error)


async def test_a_memoized_parent_depends_on_what_unchanged_children_do(bench, ran, monkeypatch):
    @coco.fn(memo=True)
    async def child(number: int) -> None:
        ran(f"{number} at {rate}")

    @coco.fn(memo=True)
    async def parent(version: int) -> None:
        await coco.mount_each(sub("c"), child, [(n, n) for n in range(4)])

    async def body(version):
        await coco.mount(sub("p"), parent, version)

    await bench.run(lambda: body(1))
    await bench.run(lambda: body(2))  # its children are reused
    assert len(ran.take()) == 4
    monkeypatch.setitem(globals(), "rate", 3)
    await bench.run(lambda: body(2))
    assert ran.take() == [f"{n} at 3" for n in range(4)]


async def test_those_that_are_not_listed_any_more_are_deleted(bench, ran, table):
    @coco.fn(memo=True)
    async def child(number: int) -> None:
        ran(number)
        table.declare(number, number)

    await bench.run(each(child, [(n, n) for n in range(6)]))
    ran.take()
    await bench.run(each(child, [(n, n) for n in (0, 1, 4)]))
    assert ran.take() == []
    assert sorted(table.rows) == [0, 1, 4]
    await bench.run(each(child, [(n, n) for n in range(6)]))
    assert ran.take() == [2, 3, 5]
