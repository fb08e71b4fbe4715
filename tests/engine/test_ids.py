"""Ids and UUIDs that stay: §E22, §A9.1."""

from __future__ import annotations

import uuid

import pytest

import cocoindex as coco

sub = coco.component_subpath


def ids():
    from cocoindex.resources import id as module

    return module


async def next_id(key=None):
    from cocoindex._internal.component_ctx import next_id

    return await next_id(key)


async def test_they_count_from_one_per_key(bench):
    async def main():
        return [await next_id(), await next_id(), await next_id("k"), await next_id(("k", 1))]

    assert await bench.run(main) == [1, 2, 1, 1]


async def test_none_is_ever_given_twice(bench):
    async def main():
        return [await next_id() for _ in range(300)]

    first = await bench.run(main)
    second = await bench.run(main)
    bench.reopen()
    third = await bench.run(main)
    everything = [*first, *second, *third]
    assert first == list(range(1, 301))
    assert len(set(everything)) == 900
    assert everything == sorted(everything)


async def test_apps_count_apart(bench):
    async def main():
        return await next_id()

    one, two = (bench.new_app(name, main) for name in ("one", "two"))
    assert [await one.update(), await two.update(), await one.update()] == [1, 1, 2]


async def test_dropping_the_app_starts_over(bench):
    assert await bench.run(next_id) == 1
    await bench.app.drop()
    assert await bench.run(next_id) == 1


async def test_equal_deps_of_one_component_keep_their_id(bench):
    async def child(*deps):
        return [await ids().generate_id(dep) for dep in deps]

    async def main(*deps):
        return await coco.use_mount(sub("c"), child, *deps)

    a, b, again = await bench.run(lambda: main("a", "b", "a"))
    assert a == again != b
    assert await bench.run(lambda: main("b", "a")) == [b, a]
    bench.reopen()
    assert await bench.run(lambda: main("b", "a")) == [b, a]
    assert await bench.run(lambda: main("b")) == [b]
    (new,) = await bench.run(lambda: main("a"))
    assert new not in (a, b)


async def test_ids_survive_full_reprocess(bench):
    async def main():
        generator = ids().IdGenerator("g")
        return (
            await ids().generate_id("a"),
            str(ids().generate_uuid("a")),
            await generator.next_id("x"),
            await generator.next_id("x"),
        )

    first = await bench.run(main)
    assert await bench.run(main, full_reprocess=True) == first
    assert await bench.run(main) == first


async def test_generators_give_distinct_stable_values(bench):
    async def main():
        one, other = ids().IdGenerator("one"), ids().IdGenerator("other")
        texts = ids().UuidGenerator()
        numbers = [await one.next_id("x"), await one.next_id("x"), await other.next_id("x")]
        return numbers, [str(await texts.next_uuid(dep="x")) for _ in range(2)]

    numbers, texts = await bench.run(main)
    assert len(set(numbers)) == 3
    assert len(set(texts)) == 2
    assert await bench.run(main) == (numbers, texts)


async def test_a_uuid_may_also_be_awaited(bench):
    async def main():
        plain = ids().generate_uuid("x")
        return isinstance(plain, uuid.UUID), await ids().generate_uuid("x") == plain

    assert await bench.run(main) == (True, True)


async def test_a_generator_is_no_memo_key(bench):
    @coco.fn(memo=True)
    async def call(generator: object) -> None:
        pass

    error = await bench.fails(lambda: call(ids().IdGenerator()))
    assert isinstance(error, TypeError)
    with pytest.raises(TypeError):
        coco.memo_fingerprint([ids().UuidGenerator()])
