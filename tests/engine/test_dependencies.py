"""What invalidates a memo: code, context values, and both of everything below. §E9.4-§E9.6."""

from __future__ import annotations

import gc
import itertools
import textwrap
from typing import Any

import pytest

import cocoindex as coco

sub = coco.component_subpath
_keys = itertools.count()


class Program:
    """Functions ``outer`` -> ``inner`` -> ``leaf`` that can be redefined, each with a version."""

    def __init__(self, ran, **options):
        self.ran = ran
        self.options = {name: {"memo": True} for name in ("outer", "inner", "leaf")}
        for name, given in options.items():
            self.options[name] = given
        self.versions = dict.fromkeys(("outer", "inner", "leaf"), 1)
        self.define()

    def define(self, **versions):
        """Replace every function object, as a restart with edited code would."""
        self.versions |= versions
        for name in ("leaf", "inner", "outer"):
            setattr(self, name, None)
        gc.collect()
        self.leaf = self._make("leaf", None)
        self.inner = self._make("inner", "leaf")
        self.outer = self._make("outer", "inner")

    def _make(self, name, callee):
        program = self

        async def function(tag: str) -> str:
            program.ran(name)
            if callee is not None:
                await getattr(program, callee)("fixed")
            return name

        function.__qualname__ = function.__name__ = name
        return coco.fn(**self.options[name], version=self.versions[name])(function)


MEMO: dict[str, Any] = {"memo": True}
PLAIN: dict[str, Any] = {}
SELF: dict[str, Any] = {"memo": True, "logic_tracking": "self"}
UNTRACKED: dict[str, Any] = {"memo": True, "logic_tracking": None}

LOGIC = {
    "own change": ({}, dict(outer=2), ["outer"]),
    "callee": ({}, dict(inner=2), ["outer", "inner"]),
    "callee of callee": ({}, dict(leaf=2), ["outer", "inner", "leaf"]),
    "plain callee": (dict(inner=PLAIN), dict(inner=2), ["outer", "inner"]),
    "plain callee of a plain callee": (
        dict(inner=PLAIN, leaf=PLAIN), dict(leaf=2), ["outer", "inner", "leaf"],
    ),
    "self ignores callees": (dict(outer=SELF), dict(inner=2), []),
    "self heeds itself": (dict(outer=SELF), dict(outer=2), ["outer"]),
    "untracked heeds nothing": (dict(outer=UNTRACKED), dict(outer=2, inner=2), []),
    "below self nothing passes": (dict(inner=SELF), dict(leaf=2), []),
    "self in between still offers itself": (dict(inner=SELF), dict(inner=2), ["outer", "inner"]),
    "nothing": ({}, {}, []),
}  # fmt: skip


@pytest.mark.parametrize("mounted", [False, True], ids=["called", "mounted"])
@pytest.mark.parametrize("name", LOGIC)
async def test_logic(bench, ran, name, mounted):
    options, edits, expected = LOGIC[name]
    program = Program(ran, **options)

    async def body():
        if mounted:
            await coco.mount(sub("c"), program.outer, "t")
        else:
            await program.outer("t")

    await bench.run(body)
    assert ran.take() == ["outer", "inner", "leaf"]
    program.define(**edits)
    await bench.run(body)
    assert ran.take() == expected
    await bench.run(body)
    assert ran.take() == []


async def test_a_rebuilt_outer_stays_sensitive_to_what_an_inner_hit_depends_on(bench, ran):
    program = Program(ran, leaf=PLAIN)

    async def body(tag):
        await program.outer(tag)

    await bench.run(lambda: body("a"))
    ran.take()
    await bench.run(lambda: body("b"))
    assert ran.take() == ["outer"]
    program.define(leaf=2)

    await bench.run(lambda: body("b"))

    assert ran.take() == ["outer", "inner", "leaf"]


async def test_code_that_goes_there_and_back_executes_each_time(bench, ran):
    program = Program(ran)

    async def body():
        await program.outer("t")

    for version in (1, 2, 1):
        program.define(outer=version)
        await bench.run(body)
    assert ran.take() == ["outer", "inner", "leaf", "outer", "outer"]


@pytest.mark.parametrize("memo_child", [False, True])
@pytest.mark.parametrize("mount", [coco.mount, coco.use_mount])
@pytest.mark.parametrize("tracking", ["full", "self"])
async def test_a_memoized_parent_runs_again_when_code_of_its_child_changes(
    bench, ran, mount, memo_child, tracking
):
    class World:
        child: Any = None

    def define(version):
        World.child = None
        gc.collect()

        async def child() -> None:
            ran("child")

        World.child = coco.fn(memo=memo_child, version=version)(child)

    @coco.fn(memo=True, logic_tracking=tracking)
    async def parent() -> None:
        ran("parent")
        await mount(sub("child"), World.child)

    async def body():
        await coco.mount(sub("p"), parent)

    define(1)
    await bench.run(body)
    await bench.run(body)
    assert ran.take() == ["parent", "child"]
    define(2)
    await bench.run(body)
    assert ran.take() == ["parent", "child"]
    await bench.run(body)
    assert ran.take() == []


class TestContextValues:
    def _key(self, **options):
        return coco.ContextKey[Any](f"test/dependencies/{next(_keys)}", **options)

    def _provide(self, bench, key, value):
        bench.close()
        bench.context = coco.ContextProvider()
        bench.context.provide(key, value)

    @pytest.mark.parametrize("tracking", ["full", "self", None])
    @pytest.mark.parametrize("mounted", [False, True], ids=["called", "mounted"])
    async def test_a_change_is_noticed_through_every_frame(self, bench, ran, mounted, tracking):
        key = self._key(detect_change=True)

        @coco.fn(logic_tracking=tracking)
        async def helper() -> str:
            return coco.use_context(key)

        @coco.fn(memo=True, logic_tracking=tracking)
        async def inner() -> str:
            ran("inner")
            return await helper()

        @coco.fn(memo=True, logic_tracking=tracking)
        async def outer(tag: str) -> str:
            ran("outer")
            return await inner()

        async def body(tag="t"):
            return await coco.use_mount(sub("c"), outer, tag) if mounted else await outer(tag)

        self._provide(bench, key, "one")
        assert await bench.run(body) == "one"
        self._provide(bench, key, "one")
        assert await bench.run(body) == "one"
        assert ran.take() == ["outer", "inner"]
        assert await bench.run(lambda: body("other")) == "one"
        assert ran.take() == ["outer"]
        self._provide(bench, key, "two")
        assert await bench.run(lambda: body("other")) == "two"
        assert ran.take() == ["outer", "inner"]

    async def test_without_detect_change_a_new_value_is_no_miss(self, bench, ran):
        key = self._key()

        @coco.fn(memo=True)
        async def call() -> str:
            ran("call")
            return coco.use_context(key)

        self._provide(bench, key, "one")
        assert await bench.run(call) == "one"
        self._provide(bench, key, "two")
        assert await bench.run(call) == "one"
        assert ran.take() == ["call"]

    async def test_a_missing_value_is_a_key_error_that_reads_well(self, bench):
        key = self._key()
        error = await bench.fails(lambda: coco.use_context(key))
        assert isinstance(error, KeyError)
        assert not str(error).startswith("'")
        assert key.key in str(error)

    async def test_outside_a_component_there_is_no_context(self):
        with pytest.raises(RuntimeError, match="No ComponentContext available"):
            coco.use_context(self._key())


SOURCE = """
    import sys
    import cocoindex as coco

    {constant}

    @coco.fn(memo=True{options})
    async def work(x: int) -> int:
        {body}

    async def main():
        await work(1)

    env = coco.Environment(coco.Settings(db_path="store"))
    coco.App(coco.AppConfig("app", env), main).update_blocking()
"""
BASE = {"constant": "LIMIT = 1", "options": "", "body": "print('ran'); return x + LIMIT"}
EDITS = {
    "nothing": ({}, False),
    "a comment": ({"body": "print('ran'); return x + LIMIT  # changed"}, False),
    "a docstring": ({"body": "'''Doc.'''; print('ran'); return x + LIMIT"}, False),
    "format": ({"body": "print( 'ran' ) ;  return (x + LIMIT)"}, False),
    "a literal": ({"body": "print('ran'); return x + 1 + LIMIT"}, True),
    "a constant the body reads": ({"constant": "LIMIT = 2"}, True),
    "another constant": ({"constant": "LIMIT = 1; OTHER = 2"}, False),
    "deps": ({"options": ", deps={'a': 1}"}, True),
    "version": ({"options": ", version=3"}, True),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_the_program(script, name):
    edit, runs_again = EDITS[name]
    assert script(SOURCE.format(**BASE)).stdout == "ran\n"

    output = script(SOURCE.format(**{**BASE, **edit}), PYTHONHASHSEED="7").stdout

    assert output == ("ran\n" if runs_again else "")


def test_run_as_a_script_and_by_import_share_memos(script, tmp_path):
    program = textwrap.dedent(SOURCE.format(**BASE))
    assert script(program).stdout == "ran\n"
    assert script("import program", name="other.py").stdout == ""


def test_deps_in_another_order_are_equal(script):
    def run(deps):
        return script(SOURCE.format(**{**BASE, "options": f", deps={deps}"})).stdout

    assert run("{'a': 1, 'b': {1, 2, 3}}") == "ran\n"
    assert run("{'b': {3, 2, 1}, 'a': 1}") == ""
    assert run("{'b': {3, 2}, 'a': 1}") == "ran\n"


async def test_closures_of_one_factory_have_memos_of_their_own(bench, ran):
    def make(prefix):
        @coco.fn(memo=True)
        async def call(x: str) -> str:
            ran(prefix)
            return prefix + x

        return call

    first, second = make("A"), make("B")

    async def body():
        return await first("x"), await second("x")

    assert await bench.run(body) == ("Ax", "Bx")
    assert await bench.run(body) == ("Ax", "Bx")
    assert ran.take() == ["A", "B"]


async def test_a_counter_the_body_changes_does_not_invalidate(bench, ran):
    calls: list[str] = []
    count = 0

    @coco.fn(memo=True)
    async def call(x: str) -> int:
        nonlocal count
        count += 1
        calls.append(x)
        return count

    assert [await bench.run(lambda: call("x")) for _ in range(3)] == [1, 1, 1]
    assert calls == ["x"]


async def test_equal_functions_do_not_unregister_each_other(bench, ran):
    def make():
        @coco.fn(memo=True, version=1)
        async def call() -> None:
            ran("call")

        return call

    functions = [make(), make()]
    await bench.run(lambda: functions[-1]())
    functions.pop()
    gc.collect()
    await bench.run(lambda: functions[-1]())
    assert ran.take() == ["call"]
