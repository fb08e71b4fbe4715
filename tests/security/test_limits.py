"""Sizes that come from outside have limits: §B12."""

from __future__ import annotations

import itertools

import pytest

import cocoindex as coco
from cocoindex.testing.targets import MemoryTarget


@pytest.fixture
def limited(env):
    """``limited(limits)``: a function that runs one update of ``body`` under these limits."""

    numbers = itertools.count()

    def make(limits=None):
        def run(body):
            options = {} if limits is None else {"limits": limits}
            app = coco.App(coco.AppConfig(f"limited {next(numbers)}", env, **options), body)
            return app.update()

        return run

    return make


async def leaf():
    pass


@pytest.mark.parametrize("key", ["x" * 5000, b"x" * 5000, ("x" * 2500, "x" * 2500), "\0" * 2100])
async def test_a_key_that_is_too_long_is_refused(limited, key):
    table = MemoryTarget()
    run = limited()

    async def mounts():
        await coco.mount(coco.component_subpath(key), leaf)

    with pytest.raises(ValueError, match=r"takes \d+ bytes, more than Limits.key_bytes=4096"):
        await run(mounts)
    run = limited()
    with pytest.raises(ValueError, match=r"Limits\.key_bytes=4096") as refused:
        await run(lambda: table.declare(key, "v"))
    assert len(str(refused.value)) < 200
    assert table.rows == {}
    run = limited()
    with pytest.raises(ValueError, match=r"Limits\.key_bytes=4096"):
        await run(lambda: coco.use_state(key))


async def test_a_key_just_within_the_limit_is_taken(limited):
    table = MemoryTarget()

    async def main():
        table.declare("x" * 4094, "v")
        await coco.mount(coco.component_subpath("x" * 4094), leaf)
        await coco.mount(coco.component_subpath("é" * 2047), leaf)

    await limited()(main)
    assert len(table.rows) == 1


async def test_without_a_limit_long_keys_work(limited):
    table = MemoryTarget()
    await limited(coco.Limits(key_bytes=None))(lambda: table.declare("x" * 100_000, "v"))
    assert len(table.rows) == 1


async def nested(levels):
    if levels:
        await coco.use_mount(coco.component_subpath(levels), nested, levels - 1)


async def test_a_path_that_is_too_deep_is_refused_wherever_it_grows(limited):
    keys = [str(number) for number in range(257)]

    async def at_once():
        await coco.mount(coco.component_subpath(*keys), leaf)

    with pytest.raises(ValueError, match=r"257 keys, more than Limits\.path_depth=256"):
        await limited()(at_once)

    async def by_and_by():
        await nested(11)

    with pytest.raises(ValueError, match=r"11 keys, more than Limits\.path_depth=10"):
        await limited(coco.Limits(path_depth=10))(by_and_by)

    async def just_within():
        await nested(10)

    await limited(coco.Limits(path_depth=10))(just_within)


async def test_a_component_may_declare_only_so_many_target_states(limited):
    table = MemoryTarget()

    def declare(count):
        for number in range(count):
            table.declare(number, "v")

    run = limited(coco.Limits(states_per_component=3))
    with pytest.raises(ValueError, match=r"Limits\.states_per_component=3"):
        await run(lambda: declare(4))
    assert table.rows == {}
    await limited(coco.Limits(states_per_component=3))(lambda: declare(3))
    assert len(table.rows) == 3


async def test_a_small_budget_of_bytes_in_flight_only_slows_an_update_down(limited):
    table = MemoryTarget()

    async def child(number):
        table.declare(number, "v" * 1000)

    async def main():
        for number in range(50):
            await coco.mount(coco.component_subpath(number), child, number)

    await limited(coco.Limits(bytes_in_flight=1))(main)
    assert len(table.rows) == 50


@pytest.mark.parametrize("field", ["key_bytes", "path_depth", "states_per_component"])
def test_limits_must_make_sense(field):
    with pytest.raises(ValueError, match=rf"Limits\.{field} must be at least 1, not 0"):
        coco.Limits(**{field: 0})
    with pytest.raises(TypeError, match=rf"Limits\.{field} must be an int or None, not float"):
        coco.Limits(**{field: 1.5})
