"""State kept by components: §E10."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.testing.targets import InjectedFailure

sub = coco.component_subpath


def counting(key="n", initial=0):
    state = coco.use_state(key, initial)
    state.value += 1
    return state.value


async def test_the_last_committed_value_comes_back(bench):
    assert await bench.run(counting) == 1
    assert await bench.run(counting) == 2
    bench.reopen()
    assert await bench.run(counting) == 3


async def test_values_belong_to_a_component(bench):
    async def body():
        return [await coco.use_mount(sub(key), counting) for key in "ab"]

    assert [await bench.run(body), await bench.run(body)] == [[1, 1], [2, 2]]


async def test_a_failed_run_keeps_the_old_value(bench, table):
    def failing():
        counting()
        raise ZeroDivisionError

    def declaring():
        table.declare("k", 1)
        return counting()

    await bench.run(counting)
    await bench.fails(failing)
    with table.failing(), pytest.raises(InjectedFailure):
        await bench.run(declaring)
    assert await bench.run(declaring) == 2


async def test_a_key_not_declared_in_a_committed_run_is_forgotten(bench):
    await bench.run(counting)
    await bench.run(lambda: counting("other"))
    assert await bench.run(counting) == 1


async def test_a_deleted_component_forgets_its_state(bench):
    async def body():
        return await coco.use_mount(sub("a"), counting)

    assert await bench.run(body) == 1
    await bench.run(lambda: None)
    assert await bench.run(body) == 1


async def test_changes_in_place_are_kept(bench):
    def body():
        state = coco.use_state("list", [])
        state.value.append(len(state.value))
        return list(state.value)

    assert [await bench.run(body) for _ in range(3)] == [[0], [0, 1], [0, 1, 2]]


@dataclasses.dataclass
class Cursor:
    position: int


async def test_a_type_hint_decides_what_comes_back(bench):
    async def body(hint: Any = None):
        return coco.use_state("c", Cursor(1), type_hint=hint).value

    await bench.run(body)
    assert await bench.run(lambda: body(Cursor)) == Cursor(1)
    assert await bench.run(body) == {"position": 1}
    from cocoindex.errors import DeserializationError

    assert isinstance(await bench.fails(lambda: body(int)), DeserializationError)


async def test_a_stored_value_wins_and_the_initial_one_is_never_serialized(bench):
    await bench.run(lambda: coco.use_state("k", 1).value)
    assert await bench.run(lambda: coco.use_state("k", object()).value) == 1


async def test_an_unserializable_value_fails_before_any_sink_and_names_the_key(bench, table):
    def body():
        table.declare("row", 1)
        coco.use_state("my key", object())

    error = await bench.fails(body)
    assert isinstance(error, TypeError)
    assert "my key" in str(error)
    assert table.calls == []


async def test_full_reprocess_starts_from_the_initial_value(bench):
    await bench.run(counting)
    await bench.run(counting)
    assert await bench.run(counting, full_reprocess=True) == 1
    assert await bench.run(counting) == 2


async def test_a_preview_never_persists_it(bench):
    await bench.run(counting)
    await bench.run(counting, preview=True)
    assert await bench.run(counting) == 2


async def test_keys_that_python_finds_equal_are_two_states(bench):
    def body():
        return [counting(1), counting(True, 10), counting("1", 20)]

    await bench.run(body)
    assert await bench.run(body) == [2, 12, 22]


class TestMisuse:
    async def test_the_same_key_twice(self, bench):
        def body():
            coco.use_state("k", 0)
            with pytest.raises(RuntimeError):
                coco.use_state("k", 0)

        await bench.run(body)

    async def test_inside_a_subpath_block(self, bench):
        def body():
            with sub("x"), pytest.raises(RuntimeError):
                coco.use_state("k", 0)

        await bench.run(body)

    async def test_outside_a_component(self):
        with pytest.raises(RuntimeError, match="No ComponentContext available"):
            coco.use_state("k", 0)

    @pytest.mark.parametrize("entered", ["directly", "subpath", "stats_group", "handler", "helper"])
    async def test_inside_a_memoized_call(self, bench, entered):
        @coco.fn
        async def helper():
            coco.use_state("k", 0)

        @coco.fn(memo=True)
        async def call() -> None:
            with pytest.raises(RuntimeError):
                if entered == "directly":
                    coco.use_state("k", 0)
                elif entered == "subpath":
                    with sub("x"):
                        coco.use_state("k", 0)
                elif entered == "stats_group":
                    with coco.stats_group("g"):
                        coco.use_state("k", 0)
                elif entered == "handler":
                    async with coco.exception_handler(lambda error, context: None):
                        coco.use_state("k", 0)
                else:
                    await helper()

        await bench.run(call)
