"""Counters, watching, groups: §E17, §A8."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import cocoindex as coco

sub = coco.component_subpath
COUNTERS = ("starts", "unchanged", "adds", "deletes", "reprocesses", "errors")


def counts(stats: Any, name: str) -> dict[str, int]:
    """The counters of one processor that are not zero."""
    values = stats.by_component[name]
    return {short: value for short, value in zip(COUNTERS, values, strict=True) if value}


async def stats_of(bench, body, **options):
    handle = bench.start(body, **options)
    await handle
    return handle.stats()


async def test_a_component_is_added_reprocessed_unchanged_and_deleted(bench, table):
    @coco.fn(memo=True)
    async def page(value: int) -> None:
        table.declare("k", value)

    async def main(value):
        if value is not None:
            await coco.mount(sub("p"), page, value)

    seen = []
    for value in (1, 1, 2, None):
        stats = await stats_of(bench, lambda v=value: main(v))
        (name,) = [name for name in stats.by_component if name.endswith("page")]
        seen.append(counts(stats, name))
    assert seen == [
        {"starts": 1, "adds": 1},
        {"starts": 1, "unchanged": 1},
        {"starts": 1, "reprocesses": 1},
        {"starts": 1, "deletes": 1},
    ]


async def test_what_has_only_ever_failed_goes_under_the_name_in_its_path(bench):
    async def page(_value):
        await coco.mount(coco.component_subpath("below"), lambda: None)
        raise ZeroDivisionError

    async def main(items):
        await coco.mount_each(page, items)

    await stats_of(bench, lambda: main([("a", 1)]))
    stats = await stats_of(bench, lambda: main([]))
    assert "<unknown>" not in stats.by_component
    (name,) = [name for name in stats.by_component if name.endswith("page")]
    assert counts(stats, name) == {"starts": 1, "deletes": 1}


async def test_a_retry_after_pre_commit_is_a_reprocess(bench, table):
    async def page():
        table.declare("k", 1)

    async def main():
        await coco.mount(sub("p"), page)

    with table.failing():
        stats = await stats_of(bench, main)
    (name,) = [name for name in stats.by_component if name.endswith("page")]
    assert counts(stats, name) == {"starts": 1, "errors": 1}
    assert counts(await stats_of(bench, main), name) == {"starts": 1, "reprocesses": 1}


async def test_a_retry_after_a_failed_body_is_an_add(bench):
    fail = [True]

    async def page():
        if fail:
            fail.pop()
            raise ZeroDivisionError

    async def main():
        await coco.mount(sub("p"), page)

    stats = await stats_of(bench, main)
    (name,) = [name for name in stats.by_component if name.endswith("page")]
    assert counts(stats, name) == {"starts": 1, "errors": 1}
    assert counts(await stats_of(bench, main), name) == {"starts": 1, "adds": 1}


async def test_items_of_mount_each_count_one_by_one_and_calls_do_not(bench):
    @coco.fn(memo=True)
    async def call(n: int) -> int:
        return n

    async def item(n):
        await call(n)
        await coco.map(call, range(3))

    async def main():
        await coco.mount_each(sub("e"), item, [(n, n) for n in range(5)])

    stats = await stats_of(bench, main)
    assert sorted(v.num_adds for v in stats.by_component.values()) == [1, 5]
    assert stats.total.num_execution_starts == 6


def test_derived_numbers():
    stats = coco.ComponentStats(10, 1, 2, 3, 1, 1)
    assert (stats.num_processed, stats.num_finished, stats.num_in_progress) == (7, 8, 2)
    assert stats.num_errored == 1
    assert coco.ComponentStats(0, 1, 0, 0, 0, 0).num_in_progress == 0


class TestWatch:
    async def test_it_starts_the_run_and_ends_with_the_result(self, bench):
        async def main():
            await coco.use_mount(sub("a"), lambda: None)
            return 42

        snapshots = [s async for s in bench.start(main).watch()]
        assert snapshots[-1].status == coco.UpdateStatus.READY == "ready"
        assert snapshots[-1].result == 42
        assert snapshots[-1].stats.total.num_adds == 2
        assert all(s.result is None for s in snapshots[:-1])

    async def test_it_raises_the_error_of_the_run(self, bench):
        async def main():
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            async for _ in bench.start(main).watch():
                pass

    async def test_a_consumer_sees_progress_while_it_happens(self, bench):
        gate = asyncio.Event()

        async def child():
            await gate.wait()

        async def main():
            await coco.mount(sub("a"), child)

        seen = []
        async for snapshot in bench.start(main).watch():
            seen.append(snapshot)
            if snapshot.stats and snapshot.stats.total.num_execution_starts == 2:
                gate.set()
        assert seen[-1].stats.total.num_finished == 2
        assert any(s.status == coco.UpdateStatus.RUNNING for s in seen)


class TestGroups:
    async def test_members_report_to_the_group_instead_of_the_parent(self, bench, table):
        handles = []

        async def member():
            table.declare("k", str(coco.get_component_context()))

        async def main():
            with coco.stats_group("mine") as group:
                handles.append(group)
                await coco.mount(sub("a"), member)
            await coco.mount(sub("b"), lambda: None)

        stats = await stats_of(bench, main)
        group = handles[0]
        assert sum(c.num_adds for c in stats.by_component.values()) == 2
        assert group.stats().total.num_adds == 1
        assert not any(name.endswith("member") for name in stats.by_component)
        assert table.rows == {"k": '/"a"'}

    async def test_the_innermost_group_counts(self, bench):
        groups = []

        async def main():
            with coco.stats_group("outer") as outer:
                with coco.stats_group("inner") as inner:
                    await coco.mount(sub("a"), lambda: None)
                await coco.mount(sub("b"), lambda: None)
                groups.extend([outer, inner])

        await bench.run(main)
        assert [group.stats().total.num_adds for group in groups] == [1, 1]

    async def test_watching_a_group_ends_when_its_members_are_ready(self, bench):
        snapshots = []

        async def main():
            with coco.stats_group("g") as group:
                await coco.mount(sub("a"), lambda: None)
            snapshots.extend([snapshot async for snapshot in group.watch()])

        await bench.run(main)
        assert snapshots[-1].status == coco.UpdateStatus.READY
        assert snapshots[-1].stats.total.num_adds == 1

    async def test_an_empty_group_ends_without_stats_also_when_its_body_raised(self, bench):
        groups = []

        async def main():
            with pytest.raises(ZeroDivisionError), coco.stats_group("g") as group:
                groups.append(group)
                raise ZeroDivisionError

        await bench.run(main)
        snapshots = [snapshot async for snapshot in groups[0].watch()]
        assert [snapshot.status for snapshot in snapshots] == [coco.UpdateStatus.READY]
        assert groups[0].stats() is None

    async def test_the_update_waits_for_the_members(self, bench, table):
        async def main():
            with coco.stats_group("g"):
                await coco.mount(sub("a"), table.declare, "k", 1)

        await bench.run(main)
        assert table.rows == {"k": 1}

    async def test_a_memoized_call_stays_memoized_inside_a_group(self, bench):
        @coco.fn(memo=True)
        async def call() -> None:
            with (
                coco.stats_group("g"),
                pytest.raises(ValueError, match="memo=True mounted child components"),
            ):
                await coco.mount(sub("a"), lambda: None)

        await bench.run(call)


class TestReport:
    async def test_it_prints_one_line_per_processor_and_a_final_block(self, bench, capsys):
        async def page():
            pass

        async def main():
            await coco.mount(sub("a"), page)
            with coco.stats_group("mine", report_to_stdout=True):
                await coco.mount(sub("b"), page)

        assert await coco.show_progress(bench.start(main)) is None
        lines = capsys.readouterr().out.splitlines()
        assert any(line.startswith("[Stats]") for line in lines)
        assert any(line.startswith("[Stats: mine]") for line in lines)
        assert any("(terminated)" in line for line in lines)
        assert any("page" in line for line in lines)

    @pytest.mark.parametrize("wrong", [timedelta(0), timedelta(seconds=-1)])
    async def test_an_interval_must_be_positive(self, bench, wrong):
        async def main():
            with (
                pytest.raises(ValueError, match="positive duration"),
                coco.stats_group("g", report_to_stdout=wrong),
            ):
                pass

        await bench.run(main)
