"""The deletion guard: most of what a listing had does not go by accident, §B2.2, §E8.1."""

from __future__ import annotations

from typing import Any

import pytest

import cocoindex as coco
from cocoindex.connectorkits.sources import Unlisted
from cocoindex.testing import fsck
from cocoindex.testing.targets import InjectedFailure

sub = coco.component_subpath

GUARD = coco.DeletionGuard(max_fraction=0.5, min_items=3)
MANY = "abcdef"


@pytest.fixture(autouse=True)
def small_guard(bench):
    bench.app_options["deletion_guard"] = GUARD


@pytest.fixture
def item(table, ran):
    async def item(key: str, value: Any = 1) -> None:
        ran(key)
        table.declare(key, value)

    return item


@pytest.fixture
def listing(item):
    """A main body that lists keys below ``e``."""

    def listing(keys, *extra, value=1, result=None):
        async def body():
            items = [(key, key) for key in keys]
            await coco.mount_each(sub("e"), item, [*items, *extra], value)
            return result

        return body

    return listing


async def withheld(bench, body, **options) -> coco.DeletionsWithheldError:
    error = await bench.fails(body, **options)
    assert isinstance(error, coco.DeletionsWithheldError)
    return error


class TestAnUpdate:
    async def test_it_applies_additions_and_changes_and_withholds_removals(
        self, bench, table, listing
    ):
        await bench.run(listing(MANY))
        table.take()

        error = await withheld(bench, listing("az", value=2, result="done"))

        assert sorted(table.take()) == [("put", "a", 2), ("put", "z", 2)]
        assert table.rows == {**dict.fromkeys("bcdef", 1), "a": 2, "z": 2}
        assert error.withheld == [('/"e"', 5, 6)]
        assert error.result == "done"
        assert "5 of 6 children below" in str(error)
        assert "allow_deletes=True" in str(error)
        assert fsck(bench.env, "bench") == []

    async def test_what_is_kept_does_not_run(self, bench, ran, listing):
        await bench.run(listing(MANY))
        ran.take()
        await withheld(bench, listing("a"))
        assert ran.take() == ["a"]

    async def test_the_next_update_lists_again_and_decides_afresh(self, bench, table, listing):
        await bench.run(listing(MANY))
        await withheld(bench, listing("a"))
        await withheld(bench, listing("a"))
        table.take()

        await bench.run(listing(MANY))
        assert table.take() == []
        await bench.run(listing("abcd"))

        assert table.rows == dict.fromkeys("abcd", 1)

    async def test_approval_holds_for_one_run(self, bench, table, listing):
        await bench.run(listing(MANY))
        await withheld(bench, listing("a"))

        await bench.run(listing("a"), allow_deletes=True)
        assert table.rows == {"a": 1}

        await bench.run(listing(MANY))
        await withheld(bench, listing("a"))
        assert table.rows == dict.fromkeys(MANY, 1)

    async def test_it_survives_a_restart(self, bench, table, listing):
        await bench.run(listing(MANY))
        await withheld(bench, listing("a"))
        bench.reopen()
        await withheld(bench, listing("a"))
        bench.reopen()
        await bench.run(listing("a"), allow_deletes=True)
        assert table.rows == {"a": 1}

    async def test_an_empty_listing_is_withheld_too(self, bench, table, listing):
        await bench.run(listing(MANY))
        error = await withheld(bench, listing(""))
        assert error.withheld == [('/"e"', 6, 6)]
        assert table.rows == dict.fromkeys(MANY, 1)

    async def test_a_failed_child_does_not_hide_the_verdict(self, bench, table, listing):
        await bench.run(listing(MANY))
        with table.failing(key="a", error=InjectedFailure()):
            handle = bench.start(listing("a", value=2))
            with pytest.raises(coco.DeletionsWithheldError):
                await handle
        assert handle.failures[0] == 1
        assert sorted(table.rows) == list(MANY)

    async def test_a_failed_main_function_is_the_error_that_is_raised(self, bench, listing):
        await bench.run(listing(MANY))

        async def failing():
            await listing("a")()
            raise ZeroDivisionError

        assert isinstance(await bench.fails(failing), ZeroDivisionError)

    def test_the_blocking_form_raises_as_well(self, bench, table):
        keys: list[Any] = [(key, key) for key in MANY]

        async def main():
            await coco.mount_each(sub("e"), lambda key: table.declare(key, 1), keys)

        app = bench.new_app("blocking", main, deletion_guard=GUARD)
        app.update_blocking()
        del keys[1:]
        with pytest.raises(coco.DeletionsWithheldError):
            app.update_blocking()
        app.update_blocking(allow_deletes=True)
        assert table.rows == {"a": 1}


class TestLimits:
    @pytest.mark.parametrize(
        ("before", "after", "is_withheld"),
        [
            ("abcdef", "abc", False),  # half, not more
            ("abcde", "ab", True),
            ("abc", "ab", False),  # fewer than min_items
            ("ab", "", False),
            ("abc", "", True),
        ],
    )
    async def test_both_must_be_passed(self, bench, table, listing, before, after, is_withheld):
        await bench.run(listing(before))
        if is_withheld:
            await withheld(bench, listing(after))
        else:
            await bench.run(listing(after))
        assert sorted(table.rows) == list(before if is_withheld else after)

    async def test_additions_do_not_count(self, bench, listing):
        await bench.run(listing("abcd"))
        error = await withheld(bench, listing("uvwxyz"))
        assert error.withheld == [('/"e"', 4, 4)]

    async def test_the_default_takes_a_thousand(self, bench, table, listing):
        bench.app_options.clear()
        await bench.run(listing(MANY))
        await bench.run(listing(""))
        assert table.rows == {}
        assert coco.AppConfig("a").deletion_guard == coco.DeletionGuard(0.5, 1000)

    async def test_none_disables_it(self, bench, table, listing):
        bench.app_options["deletion_guard"] = None
        await bench.run(listing(MANY))
        await bench.run(listing(""))
        assert table.rows == {}


class TestEnvironmentVariable:
    @pytest.mark.parametrize(
        ("text", "guard"),
        [
            ("", coco.DeletionGuard()),
            ("off", None),
            (" OFF ", None),
            ("0.25:10", coco.DeletionGuard(0.25, 10)),
            ("0:1", coco.DeletionGuard(0, 1)),
            ("1:5", coco.DeletionGuard(1, 5)),
        ],
    )
    def test_its_forms(self, monkeypatch, text, guard):
        monkeypatch.setenv("COCOINDEX_DELETION_GUARD", text)
        assert coco.AppConfig("a").deletion_guard == guard

    @pytest.mark.parametrize("text", ["on", "0.5", "0.5:", ":5", "2:5", "-1:5", "0.5:0", "nan:1"])
    def test_bad_values_are_named(self, monkeypatch, text):
        monkeypatch.setenv("COCOINDEX_DELETION_GUARD", text)
        with pytest.raises(ValueError, match="COCOINDEX_DELETION_GUARD") as caught:
            coco.AppConfig("a")
        assert repr(text) in str(caught.value)

    def test_the_config_wins(self, monkeypatch):
        monkeypatch.setenv("COCOINDEX_DELETION_GUARD", "off")
        assert coco.AppConfig("a", deletion_guard=GUARD).deletion_guard == GUARD

    @pytest.mark.parametrize("bad", [{"max_fraction": 1.5}, {"max_fraction": -1}, {"min_items": 0}])
    def test_bad_limits_are_refused(self, bad):
        with pytest.raises(ValueError, match="DeletionGuard"):
            coco.DeletionGuard(**bad)


class TestWhatIsGuarded:
    async def test_each_call_is_judged_alone(self, bench, table, item):
        def body(left, right):
            async def run():
                await coco.mount_each(sub("l"), item, [(k, k) for k in left])
                await coco.mount_each(sub("r"), item, [(k, k) for k in right])

            return run

        await bench.run(body("abcd", "wxyz"))
        error = await withheld(bench, body("a", "wxy"))
        assert error.withheld == [('/"l"', 3, 4)]
        assert sorted(table.rows) == list("abcdwxy")

    async def test_a_call_inside_a_child_is_judged_where_it_is(self, bench, table, item):
        def body(groups):
            async def group(keys):
                await coco.mount_each(sub("in"), item, [(k, k) for k in keys])

            async def run():
                await coco.mount_each(sub("out"), group, list(groups.items()))

            return run

        await bench.run(body({"g": "abcd", "h": "wxyz"}))
        error = await withheld(bench, body({"g": "a", "h": "wxyz"}))
        assert error.withheld == [('/"out"/"g"/"in"', 3, 4)]
        assert sorted(table.rows) == list("abcdwxyz")

    async def test_a_child_that_goes_takes_all_below_it(self, bench, table, item):
        def body(groups):
            async def group(keys):
                await coco.mount_each(sub("in"), item, [(k, k) for k in keys])

            async def run():
                await coco.mount_each(sub("out"), group, list(groups.items()))

            return run

        await bench.run(body({"g": MANY, "h": "xyz"}))
        await bench.run(body({"h": "xyz"}))  # one child of two: fewer than min_items
        assert sorted(table.rows) == list("xyz")

    async def test_children_of_a_call_that_is_not_made_any_more_go(self, bench, table, listing):
        await bench.run(listing(MANY))
        await bench.run(lambda: None)
        assert table.rows == {}
        assert await bench.paths() == ["/"]

    async def test_children_mounted_one_by_one_go(self, bench, table, item):
        def body(keys):
            async def run():
                for key in keys:
                    await coco.mount(sub("e", key), item, key)

            return run

        await bench.run(body(MANY))
        await bench.run(body(""))
        assert table.rows == {}

    async def test_target_states_inside_one_component_go(self, bench, table):
        def body(keys):
            def run():
                for key in keys:
                    table.declare(key, 1)

            return run

        await bench.run(body(MANY))
        await bench.run(body(""))
        assert table.rows == {}

    async def test_a_drop_is_not_guarded(self, bench, table, listing):
        await bench.run(listing(MANY))
        await bench.app.drop()
        assert table.rows == {}

    async def test_a_component_that_becomes_a_directory_is_no_removal(self, bench, table, item):
        def deeper(keys):
            async def run():
                for key in keys:
                    await coco.mount(sub("e", key, "x"), item, key)
                await coco.mount_each(sub("e"), item, [])

            return run

        async def flat():
            await coco.mount_each(sub("e"), item, [(k, k) for k in MANY])

        await bench.run(flat)
        await bench.run(deeper(MANY))
        assert sorted(table.rows) == list(MANY)


class TestInterplay:
    async def test_unlisted_keys_are_kept_and_do_not_count(self, bench, table, listing):
        await bench.run(listing(["a1", "a2", "a3", "b1", "b2", "b3", "b4"]))
        hidden = Unlisted(lambda key: key.startswith("a"))

        await bench.run(listing(["b1", "b2"], hidden))  # 2 of 7 removed

        assert sorted(table.rows) == ["a1", "a2", "a3", "b1", "b2"]

    async def test_with_many_removals_both_are_kept(self, bench, table, listing):
        before = ["a1", "b1", "b2", "b3", "b4"]
        await bench.run(listing(before))
        error = await withheld(bench, listing([], Unlisted(lambda key: key == "a1")))
        assert error.withheld == [('/"e"', 4, 5)]
        assert sorted(table.rows) == before

        await bench.run(listing([], Unlisted(lambda key: key == "a1")), allow_deletes=True)
        assert sorted(table.rows) == ["a1"]

    async def test_memoized_parents_run_again_until_it_is_decided(self, bench, table, ran, item):
        @coco.fn(memo=True)
        async def lister(keys: str) -> None:
            ran("list")
            await coco.mount_each(sub("e"), item, [(k, k) for k in keys])

        @coco.fn(memo=True)
        async def above(keys: str) -> None:
            ran("above")
            await coco.mount(sub("lister"), lister, keys)

        def body(keys):
            async def run():
                await coco.mount(sub("above"), above, keys)

            return run

        await bench.run(body(MANY))
        await withheld(bench, body("a"))
        ran.take()

        await withheld(bench, body("a"))
        assert ran.take() == ["above", "list", "a"]
        await bench.run(body("a"), allow_deletes=True)
        assert ran.take() == ["above", "list", "a"]
        assert table.rows == {"a": 1}

        await bench.run(body("a"))
        assert ran.take() == []

    async def test_a_withheld_directory_keeps_its_neighbours_going(self, bench, table, item):
        def body(keys, others):
            async def run():
                await coco.mount_each(sub("d", "e"), item, [(k, k) for k in keys])
                for key in others:
                    await coco.mount(sub("d", key), item, key)

            return run

        await bench.run(body("abcd", "xy"))
        error = await withheld(bench, body("", "x"))
        assert error.withheld == [('/"d"/"e"', 4, 4)]
        assert sorted(table.rows) == list("abcdx")
        assert fsck(bench.env, "bench") == []

        await bench.run(body("", "x"), allow_deletes=True)
        assert sorted(table.rows) == ["x"]

    async def test_what_is_withheld_can_be_taken_over(self, bench, table, listing):
        await bench.run(listing(MANY))

        async def body():
            await listing("a")()
            table.declare("b", 2)

        await withheld(bench, body)
        assert table.rows["b"] == 2
        await bench.run(body, allow_deletes=True)
        assert table.rows == {"a": 1, "b": 2}


class TestPreview:
    async def test_withheld_removals_are_no_actions(self, bench, table, listing):
        await bench.run(listing(MANY))

        handle = bench.start(listing("az"), preview=True)
        actions = await handle

        assert [(action.op, action.key) for action in actions] == [("put", "z")]
        assert handle.withheld == [('/"e"', 5, 6)]

    async def test_with_approval_they_are_actions(self, bench, table, listing):
        await bench.run(listing(MANY))
        handle = bench.start(listing("a"), preview=True, allow_deletes=True)
        assert sorted(action.key for action in await handle) == list("bcdef")
        assert handle.withheld == []

    async def test_a_preview_decides_nothing(self, bench, table, listing):
        await bench.run(listing(MANY))
        await bench.start(listing("a"), preview=True, allow_deletes=True)
        await withheld(bench, listing("a"))
