"""What counts as a change of a function's logic."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cocoindex import fn
from cocoindex.core import logic


def logic_of(function) -> bytes:
    fingerprint = function.__coco_function__.logic()
    assert fingerprint is not None
    return fingerprint


@pytest.fixture
def same(load):
    """Whether ``f`` means the same in two versions of a program."""

    def compare(one: str, other: str) -> bool:
        return logic_of(load(one).f) == logic_of(load(other).f)

    return compare


BASE = """
@fn
def f(x):
    "Doc."
    y = x + 1
    return y
"""


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("y = x + 1", "y = (x  +  1)  # why"),
        BASE.replace("Doc.", "Other words."),
        BASE.replace('    "Doc."\n', ""),
        BASE.replace("@fn", "@fn(memo=True)"),
        "\n\n# moved\n" + BASE,
        "import os\nOTHER = 3\n" + BASE,
    ],
    ids=["comment", "docstring", "no docstring", "decorator", "position", "neighbours"],
)
def test_form_does_not_count(same, other):
    assert same(BASE, other)


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("+ 1", "+ 2"),
        BASE.replace("+ 1", "+ 1.0"),
        BASE.replace("x + 1", "1 + x"),
        BASE.replace("(x)", "(x, z=1)"),
        BASE.replace("def f", "async def f"),
    ],
)
def test_content_counts(same, other):
    assert not same(BASE, other)


def test_docstrings_and_decorators_of_nested_functions_do_not_count(same):
    text = """
    def noop(g): return g
    @fn
    def f(x):
        @noop
        def g(y):
            "Doc."
            return y
        return g(x)
    """
    assert same(text, text.replace("@noop", "@(noop)").replace("Doc.", "More."))
    assert not same(text, text.replace("return y", "return -y"))


def test_a_version_stands_for_the_body_and_its_data(same):
    text = """
    LIMIT = 3
    @fn(version=1)
    def f(x):
        return x[:LIMIT]
    """
    assert same(text, text.replace("return", "return 2 *").replace("= 3", "= 4"))
    assert not same(text, text.replace("version=1", "version=2"))


def test_deps_count_whatever_their_order(same):
    text = "@fn(deps={'a': 1, 'b': {2, 3}})\ndef f(x): return x"
    assert same(text, text.replace("'a': 1, 'b': {2, 3}", "'b': {3, 2}, 'a': 1"))
    assert not same(text, text.replace("'a': 1", "'a': 2"))
    assert not same(text, text.replace("(deps={'a': 1, 'b': {2, 3}})", ""))


def test_name_and_module_count(load):
    text = "@fn\ndef f(x): return x"
    assert logic_of(load(text).f) != logic_of(load(text, "other").f)
    assert logic_of(load(text).f) != logic_of(load(text.replace("def f", "def g")).g)


def test_untracked_functions_have_no_logic(load):
    module = load("@fn(logic_tracking=None)\ndef f(x): return x")
    assert module.f.__coco_function__.logic() is None


# Captured values


def test_closures_of_one_factory_differ_by_what_they_capture(load):
    module = load(
        """
        def make(prefix):
            @fn
            def f(x): return prefix + x
            return f
        """
    )
    assert logic_of(module.make("a")) == logic_of(module.make("a"))
    assert logic_of(module.make("a")) != logic_of(module.make("b"))


def test_defaults_count_by_value(load):
    text = "LIMIT = 3\n@fn\ndef f(x, a=LIMIT, *, b={'k': 1}): return x, a, b"
    one = logic_of(load(text).f)
    assert one == logic_of(load(text).f)
    assert one != logic_of(load(text.replace("LIMIT = 3", "LIMIT = 4")).f)


def test_captured_functions_count_by_their_code(load):
    text = """
    def outer(g):
        @fn
        def f(x): return g(x)
        return f
    def plus(n):
        return lambda x: x + n
    f = outer(plus(1))
    """
    one = logic_of(load(text).f)
    assert one == logic_of(load(text).f)
    assert one != logic_of(load(text.replace("plus(1)", "plus(2)")).f)
    assert one != logic_of(load(text.replace("x + n", "x - n")).f)


def test_a_wrapper_and_what_it_wraps_both_count(same):
    text = """
    import functools
    def twice(g):
        @functools.wraps(g)
        def wrapper(x):
            return g(g(x))
        return wrapper
    @fn
    @twice
    def f(x):
        return x + 1
    """
    assert same(text, text.replace("g(g(x))", "g(  g(x) )"))
    assert not same(text, text.replace("x + 1", "x + 2"))
    assert not same(text, text.replace("g(g(x))", "g(g(g(x)))"))
    assert not same(text, text.replace("    @twice\n", ""))


def test_a_cached_function_counts_like_the_function(same):
    text = "import functools\n@fn\n@functools.lru_cache\ndef f(x): return x"
    assert same(text, text + "  # same")
    assert not same(text, text.replace("return x", "return -x"))


# Module constants


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("3", "4"),
        ("3", "3.0"),
        ("1", "True"),
        ("'a'", "'b'"),
        ("(1, [2])", "(1, [3])"),
        ("{'a': {1}}", "{'a': {2}}"),
        ("re.compile('a')", "re.compile('b')"),
        ("pathlib.Path('a')", "pathlib.Path('b')"),
        ("Level.LOW", "Level.HIGH"),
        ("Config('a')", "Config('b')"),
        ("Keyed('a')", "Keyed('b')"),
        ("dt.timedelta(1)", "dt.timedelta(2)"),
    ],
)
def test_constants_that_the_body_reads_count(same, before, after):
    text = """
    import dataclasses, datetime as dt, enum, pathlib, re
    class Level(enum.Enum):
        LOW = 1
        HIGH = 2
    @dataclasses.dataclass
    class Config:
        name: str
    class Keyed:
        def __init__(self, name): self.name = name
        def __coco_memo_key__(self): return self.name
    LIMIT = VALUE
    @fn
    def f(x):
        return [x for _ in range(2) if x < LIMIT]
    """
    assert same(text.replace("VALUE", before), text.replace("VALUE", before))
    assert not same(text.replace("VALUE", before), text.replace("VALUE", after))


def test_constants_that_nested_code_reads_count(same):
    text = """
    LIMIT = 3
    @fn
    def f(x):
        def g(): return lambda: x + LIMIT
        return g()()
    """
    assert not same(text, text.replace("LIMIT = 3", "LIMIT = 4"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("VALUE = None", "VALUE = None  #"),
        ("def VALUE(): return 1", "def VALUE(): return 2"),
        ("import os as VALUE", "import sys as VALUE"),
        ("class VALUE: a = 1", "class VALUE: a = 2"),
        ("VALUE = object()", "VALUE = open"),
        ("VALUE = [open]", "VALUE = [open, open]"),
    ],
)
def test_what_is_no_plain_data_does_not_count(same, before, after):
    text = "\n@fn\ndef f(x): return VALUE"
    assert same(before + text, after + text)


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("n = 0", "global n; n += 1"),
        ("n = 0", "global n; del n"),
        ("n = 0", "exec_ = lambda: globals(); global n; n = 2"),
        ("calls = ['seed']", "calls.append(x)"),
        ("calls = {'seed': []}", "calls['seed'].append(x)"),
        ("calls = ['seed']", "calls[0] = x"),
        ("calls = ['seed', 2]", "del calls[0]"),
        ("calls = {'seed': 0}", "calls['seed'] += 1"),
        ("calls = {'seed': 0}", "(lambda: calls.setdefault('seed', x))()"),
        ("calls = {1}", "calls.update([x])"),
        ("_model = None", "global _model; _model = _model or 'loaded'"),
    ],
)
def test_working_state_of_the_body_does_not_count(load, state, line):
    module = load(f"{state}\n@fn\ndef f(x):\n    {line}\n    return x")
    before = logic_of(module.f)
    module.f("v")
    logic.new_run()
    assert logic_of(module.f) == before


def test_state_that_a_closure_rebinds_or_mutates_does_not_count(load):
    module = load(
        """
        def make():
            count, seen = 0, ["seed"]
            @fn
            def f(x):
                nonlocal count
                count += 1
                seen.append(x)
                return count
            return f
        """
    )
    function = module.make()
    before = logic_of(function)
    function("v")
    logic.new_run()
    assert logic_of(function) == before


def test_a_mutable_default_that_the_body_mutates_does_not_count(load):
    module = load("@fn\ndef f(x, seen=['seed']): seen.append(x); return x")
    before = logic_of(module.f)
    module.f("v")
    logic.new_run()
    assert logic_of(module.f) == before


def test_a_parameter_that_is_rebound_does_not_hide_its_default(same):
    text = "@fn\ndef f(x, n=LIMIT):\n    n = n * 2\n    return n"
    assert not same("LIMIT = 3\n" + text, "LIMIT = 4\n" + text)


def test_an_immutable_constant_is_noticed_at_every_call(load):
    module = load("LIMIT = 3\n@fn\ndef f(x): return LIMIT")
    before = logic_of(module.f)
    module.LIMIT = 4
    changed = logic_of(module.f)
    module.LIMIT = 3
    assert (changed != before, logic_of(module.f)) == (True, before)


def test_a_mutable_constant_is_read_once_per_run(load):
    module = load("TABLE = {'a': 1}\n@fn\ndef f(x): return TABLE[x]")
    before = logic_of(module.f)
    module.TABLE["a"] = 2
    assert logic_of(module.f) == before
    logic.new_run()
    assert logic_of(module.f) != before


def test_a_constant_defined_below_the_function_counts(same):
    text = "@fn\ndef f(x): return LIMIT\nLIMIT = 3"
    assert not same(text, text.replace("= 3", "= 4"))


def test_a_name_that_turns_into_data_counts_from_the_next_run_on(load):
    module = load("def LIMIT(): pass\n@fn\ndef f(x): return LIMIT")
    before = logic_of(module.f)
    module.LIMIT = 3
    logic.new_run()
    assert logic_of(module.f) != before


def test_an_enum_counts_whatever_its_values(same):
    text = """
    import enum
    class Mode(enum.Enum):
        A = (open,)
        B = (print,)
    MODE = Mode.A
    @fn
    def f(x): return MODE
    """
    assert same(text, text)
    assert not same(text, text.replace("= Mode.A", "= Mode.B"))


def test_what_is_left_out_is_named_once_in_the_log(load, caplog):
    module = load("CLIENT = object()\n@fn\ndef f(x): return CLIENT")
    with caplog.at_level(logging.DEBUG, logger="cocoindex"):
        for _ in range(3):
            logic_of(module.f)
            logic.new_run()
    [record] = [r for r in caplog.records if "CLIENT" in r.getMessage()]
    assert "program.f" in record.getMessage()
    assert record.levelno == logging.DEBUG


def test_a_memo_key_that_raises_is_left_out(load):
    module = load(
        """
        class Pending:
            def __coco_memo_key__(self): raise RuntimeError("not yet")
        P = Pending()
        @fn
        def f(x): return P
        """
    )
    assert logic_of(module.f) == logic_of(module.f)


def test_a_changed_capture_is_noticed_by_key_and_logic_alike(load):
    module = load(
        """
        def make():
            prefix = "a"
            @fn(memo=True)
            def f(x): return prefix + x
            def change(value):
                nonlocal prefix
                prefix = value
            return f, change
        """
    )
    function, change = module.make()
    view = function.__coco_function__
    key, code = view.call_key(("x",), {}).fingerprint, view.logic()
    change("b")
    assert view.call_key(("x",), {}).fingerprint != key
    assert view.logic() != code
    change("a")
    assert (view.call_key(("x",), {}).fingerprint, view.logic()) == (key, code)


def test_the_parts_of_the_logic_have_readable_labels(load):
    text = "LIMIT, CLIENT = 3, object()\n@fn\ndef f(x, y=1): return LIMIT, CLIENT"
    parts = load(text).f.__coco_function__.logic_parts()
    assert [label for label, _ in parts] == ["code", "defaults", "global LIMIT"]
    changed = dict(load(text.replace("= 3", "= 4")).f.__coco_function__.logic_parts())
    assert [label for label, digest in parts if changed[label] != digest] == ["global LIMIT"]


# Without a text


def from_text(text: str):
    namespace = {"fn": fn, "__name__": "shell"}
    exec(textwrap.dedent(text), namespace)
    return namespace["f"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x + 1", "x + 2"),
        ("x.a", "x.b"),
        ("(lambda: x + 1)()", "(lambda: x + 2)()"),
        ("x in {1, 2}", "x in {1, 3}"),
    ],
)
def test_without_source_literals_names_and_nested_code_count(before, after):
    text = "@fn\ndef f(x): return BODY"
    one = from_text(text.replace("BODY", before))
    again = from_text("\n\n" + text.replace("BODY", before))
    other = from_text(text.replace("BODY", after))
    assert logic_of(one) == logic_of(again)
    assert logic_of(one) != logic_of(other)


def test_without_source_mutated_state_does_not_count():
    function = from_text("calls = ['seed']\n@fn\ndef f(x): calls.append(x); return x")
    before = logic_of(function)
    function("v")
    logic.new_run()
    assert logic_of(function) == before


def test_lambdas_on_one_line_are_told_apart(load):
    module = load("f, g, h = fn(lambda x: x + 1), fn(lambda x: x + 2), fn(lambda y: y + 1)")
    assert len({logic_of(module.f), logic_of(module.g), logic_of(module.h)}) == 3
    again = load("#\n\nf, g = fn(lambda x:  x + 1), fn(lambda x: (x + 2))")
    assert [logic_of(again.f), logic_of(again.g)] == [logic_of(module.f), logic_of(module.g)]


def test_a_file_that_was_edited_after_its_import_does_not_mislead(load):
    text = """
    def make():
        @fn
        def f(x):
            return x + 1
        return f
    """
    module = load(text)
    early = logic_of(module.make())
    file = Path(module.__file__)
    file.write_text(file.read_text() + "# edited\n")
    assert logic_of(module.make()) == early
    file.write_text(file.read_text().replace("+ 1", "+ 10"))
    assert logic_of(module.make()) == early


# Deep tracking


DEEP = """
    import helpers
    LIMIT = 3
    def inner(x):
        return x + LIMIT
    def outer(x):
        return inner(x) if x else outer(1)
    @fn(logic_tracking="deep")
    def f(x):
        return outer(x)
"""


def test_helpers_do_not_count_by_default(same, load):
    load("", "helpers")
    text = DEEP.replace('(logic_tracking="deep")', "")
    assert same(text, text.replace("return x + LIMIT", "return x - LIMIT"))


@pytest.mark.parametrize(
    ("old", "new"), [("x + LIMIT", "x - LIMIT"), ("LIMIT = 3", "LIMIT = 4"), ("else", "or 0 else")]
)
def test_deep_tracking_follows_helpers_and_their_constants(same, load, old, new):
    load("", "helpers")
    assert same(DEEP, DEEP)
    assert not same(DEEP, DEEP.replace(old, new))


def test_deep_tracking_stops_at_other_packages_and_at_decorated_functions(same, load):
    helpers = "def help(x): return x"
    text = "import helpers\n@fn\ndef g(x): return 1\n@fn(logic_tracking='deep')\ndef f(x): "
    text += "return helpers.help(g(x))"
    load(helpers, "helpers")
    one = logic_of(load(text).f)
    load(helpers.replace("return x", "return -x"), "helpers")
    assert logic_of(load(text.replace("return 1", "return 2")).f) == one


# The registry


def test_a_function_keeps_its_logic_current_as_long_as_it_lives(load):
    module = load("@fn\ndef f(x): return x")
    fingerprint = logic_of(module.f)
    assert logic.are_current((fingerprint,))
    del module.f
    gc.collect()
    assert not logic.are_current((fingerprint,))


def test_a_reloaded_module_keeps_the_logic_of_unchanged_functions_current(load):
    text = "@fn\ndef f(x): return x"
    old = load(text)
    fingerprint = logic_of(old.f)
    new = load(text)
    assert logic.are_current(fingerprint)
    del old.f
    gc.collect()
    assert logic.are_current(fingerprint)
    assert logic_of(new.f) == fingerprint


def test_a_function_that_is_redefined_is_gone_at_once(load):
    module = load("@fn\ndef f(x): return x")
    fingerprint = logic_of(module.f)
    gc.disable()
    try:
        del module.f
        assert not logic.are_current(fingerprint)
    finally:
        gc.enable()


def test_what_is_left_of_an_older_import_does_not_count_until_it_is_called(load):
    text = "@fn\ndef f(x): return x"
    old = load(text)
    deps = (logic_of(old.f),)
    assert logic.are_current(deps)
    new = load(text.replace("return x", "return -x"))
    assert not logic.are_current(deps)
    old.f.__coco_function__.call_key((1,), {})
    assert logic.are_current(deps)
    new.f.__coco_function__.call_key((1,), {})
    assert not logic.are_current(deps)


def test_logic_of_a_function_that_was_never_called_is_current(load):
    text = "@fn\ndef f(x): return x"
    fingerprint = logic_of(load(text).f)
    gc.collect()
    load(text)
    assert logic.are_current(fingerprint)
    assert logic.label(fingerprint) == "f"


def test_a_dependency_set_is_current_only_if_all_of_it_is(load):
    module = load("@fn\ndef f(x): return x\n@fn\ndef g(x): return x")
    both = logic_of(module.f) + logic_of(module.g)
    assert logic.are_current(both)
    assert logic.are_current(b"")
    assert not logic.are_current(both + bytes(16))
    del module.g
    gc.collect()
    assert not logic.are_current(both)


def test_an_edited_constant_is_noticed_by_everyone_who_depends_on_it(load):
    module = load("LIMIT = 3\n@fn\ndef f(x): return LIMIT")
    deps = (logic_of(module.f),)
    assert [logic.are_current(deps), logic.are_current(deps)] == [True, True]
    module.LIMIT = 4
    assert not logic.are_current(deps)
    module.LIMIT = 3
    assert logic.are_current(deps)


def test_an_unknown_fingerprint_has_no_label():
    assert logic.label(b"?" * 16) is None


# Stability


GOLDEN = """
import enum
from cocoindex import fn
LIMIT, NAMES = 3, {"b": [1, 2.5], "a": ("x", None)}
@fn
def plain(x: int, y: str = "d") -> str:
    "Doc."
    return f"{x!r:>{LIMIT}} {y=}" + "é" * 2
@fn
async def tricky(a, /, *b, c=1, **d):
    async with a as e, b:
        g = [i async for i in e if not i]
    match g:
        case {"k": [int(x), *_]} if (y := x) > 1 or NAMES:
            return lambda: (yield)
    try:
        del d["x"], g[::2]
    except* (ValueError, OSError) as error:
        raise KeyError from error
    return ~a ** -b // 2.0 if c else ...
def make(prefix, zone=7, also=(1,)):
    @fn
    def inner(x):
        class Local: pass
        return [prefix + x + str(LIMIT) for _ in NAMES if zone], also
    return inner
closure = make("p")
@fn(version=7, deps={"m": 1})
def versioned(x): return x
for f in (plain, tricky, closure, versioned):
    key = f.__coco_function__.call_key((1, "a"), {"k": [2]})
    print(f.__coco_function__.logic().hex(), key.fingerprint.hex())
"""

EXPECTED = """
fa5b75be2975e61e51851a4478948f6b 39af6c718dbe7c576c8db87c600cfb1c
4ef8507f1b6b329456ad7e53f38e5718 b3d02778241e70e857fd0a3452f07c4b
8c133944e415a47fb7d139b0b3e58070 8e0cb4d44bce17881f5fce907b3592ad
fdf8737add03b9a4fc10249303305e79 04338ee81680ffb36d53ac18bef4e08e
"""


@pytest.fixture(scope="module")
def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.parametrize("seed", ["0", "4711"])
def test_logic_and_call_keys_are_golden(tmp_path, environment, seed):
    file = tmp_path / "golden.py"
    file.write_text(GOLDEN)
    done = subprocess.run(
        [sys.executable, file],
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "PYTHONHASHSEED": seed},
    )
    assert done.stdout.split() == EXPECTED.split()


def test_a_script_and_the_module_of_that_name_are_the_same(tmp_path, environment):
    (tmp_path / "golden.py").write_text(GOLDEN)
    runs = [["golden.py"], ["-c", "import golden"], ["-m", "golden"]]
    outputs = {
        subprocess.run(
            [sys.executable, *run],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env=environment,
        ).stdout
        for run in runs
    }
    assert len(outputs) == 1
