from __future__ import annotations

import dataclasses
import threading

import pytest

from cocoindex import fn
from cocoindex.core.sentinels import MemoStateOutcome


def call(function, *args, **kwargs):
    return function.__coco_function__.call_key(args, kwargs)


def key(function, *args, **kwargs):
    return call(function, *args, **kwargs).fingerprint


@fn(memo=True)
def f(a, b=2, *args, c=3, **kwargs):
    return a, b, args, c, kwargs


def test_equal_calls_have_equal_keys():
    assert len(key(f, 1, "x")) == 16
    assert key(f, 1, "x", c=[1], d={"k": 2}) == key(f, 1, "x", d={"k": 2}, c=(1,))


def test_how_arguments_are_passed_counts_and_defaults_are_not_filled_in():
    calls = [((1,), {}), ((), {"a": 1}), ((1, 2), {}), ((1,), {"b": 2}), ((1,), {"c": 3})]
    assert len({key(f, *args, **kwargs) for args, kwargs in calls}) == len(calls)


def test_arguments_do_not_run_into_each_other():
    assert key(f, "a", "bc") != key(f, "ab", "c")
    assert key(f, 1, [2, 3]) != key(f, 1, 2, 3)
    assert key(f, 1, d="x") != key(f, 1, e="x")


def test_different_functions_have_different_keys():
    @fn
    def g(a):
        return a

    assert key(f, 1) != key(g, 1)


def parts(*args, **kwargs):
    key = call(f, *args, **kwargs)
    checksums = key.checksums()
    return [(label, checksums[4 * i : 4 * i + 4]) for i, label in enumerate(key.labels)]


def test_parts_name_what_the_key_is_made_of():
    found = parts(1, 2, 3, c=4, d=5)
    assert [label for label, _ in found] == ["function", "a", "b", "*args[0]", "c", "d"]
    assert {len(checksum) for _, checksum in found} == {4}
    other = dict(parts(1, 2, 3, c=4, d=6))
    assert [label for label, checksum in found if other[label] != checksum] == ["d"]


def test_parts_tell_long_arguments_apart():
    found, other = parts("x" * 1000, 2), dict(parts("x" * 999 + "y", 2))
    assert [label for label, checksum in found if other[label] != checksum] == ["a"]


def test_many_positional_arguments_all_count():
    many = list(range(100))
    assert key(f, *many) != key(f, *many[:-1], 0)
    assert len(parts(*many)) == 101


def test_an_argument_that_cannot_be_keyed_is_named():
    with pytest.raises(TypeError, match=r"'c' of .*f\(\): Unsupported type for memoization key"):
        key(f, 1, c=threading.Lock())


def test_state_functions_of_all_arguments_are_collected():
    class File:
        def __init__(self, name):
            self.name = name

        def __coco_memo_key__(self):
            return self.name

        def __coco_memo_state__(self, prev_state):
            return MemoStateOutcome(self.name)

    states = call(f, File("a"), [File("b")], c=File("c")).state_fns
    assert [s.call(None).state for s in states] == ["a", "b", "c"]


def test_the_instance_is_the_first_argument_of_a_method():
    @dataclasses.dataclass
    class Splitter:
        size: int

        @fn(memo=True)
        def split(self, text):
            return text[: self.size]

    assert key(Splitter(1).split, "t") == key(Splitter(1).split, "t")
    assert key(Splitter(1).split, "t") != key(Splitter(2).split, "t")
    assert key(Splitter(1).split, "t") == key(Splitter.split, Splitter(1), "t")


def test_closures_of_one_factory_have_different_keys(load):
    module = load(
        """
        def make(prefix, sep="-"):
            @fn(memo=True, version=1)
            def f(x): return prefix + sep + x
            return f
        """
    )
    assert key(module.make("A"), "x") != key(module.make("B"), "x")
    assert key(module.make("A"), "x") != key(module.make("A", "+"), "x")
    assert key(module.make("A"), "x") == key(module.make("A"), "x")


def test_code_is_no_part_of_the_key(load):
    text = "LIMIT = 3\n@fn(memo=True)\ndef f(x): return LIMIT"
    changed = text.replace("3", "4").replace("return", "return 2 *")
    assert key(load(text).f, 1) == key(load(changed).f, 1)


def test_functions_as_arguments_are_known_by_name_and_captures():
    def scale(n):
        return lambda x: x * n

    def plain(x):
        return x

    assert key(f, plain) == key(f, plain)
    assert key(f, plain) != key(f, scale(1))
    assert key(f, scale(1)) == key(f, scale(1))
    assert key(f, scale(1)) != key(f, scale(2))
    assert key(f, f) == key(f, f) != key(f, plain)


# memo_key


def test_none_leaves_an_argument_out():
    @fn(memo=True, memo_key={"b": None, "c": None})
    def g(a, b=1, *, c=2):
        return a, b, c

    assert key(g, 1) == key(g, 1, 5) == key(g, 1, b=6, c=threading.Lock())
    assert key(g, 1) != key(g, 2)
    assert call(g, 1, 2, c=3).labels == ("function", "a")


def test_a_callable_replaces_an_argument():
    @fn(memo=True, memo_key={"a": len, "c": str.lower})
    def g(a, *, c=""):
        return a, c

    assert key(g, "ab", c="X") == key(g, "xy", c="x")
    assert key(g, "ab") != key(g, "abc")


def test_the_instance_can_be_left_out():
    class Client:
        @fn(memo=True, memo_key={"self": None})
        def get(self, url):
            return url

    assert key(Client().get, "u") == key(Client().get, "u")


def test_collected_arguments_are_changed_as_one_value():
    @fn(memo=True, memo_key={"args": lambda a: a[:1], "kwargs": lambda k: {**k, "noise": 0}})
    def g(*args, **kwargs):
        return args, kwargs

    assert key(g, 1, 2, x=1, noise=5) == key(g, 1, 3, x=1, noise=6)
    assert key(g, 1, 2) != key(g, 2, 2)
    assert key(g, 1, x=1) != key(g, 1, x=2)


def test_collected_arguments_can_be_left_out():
    @fn(memo=True, memo_key={"args": None, "kwargs": None})
    def g(a, *args, **kwargs):
        return a, args, kwargs

    assert key(g, 1) == key(g, 1, 2, x=3)


@pytest.mark.parametrize("name", ["args", "kwargs"])
def test_a_key_of_collected_arguments_has_their_kind(name):
    @fn(memo=True, memo_key={name: lambda _: 5})
    def g(*args, **kwargs):
        return args, kwargs

    with pytest.raises(TypeError, match=r"must return a (tuple|dict), not int"):
        key(g, 1, x=2)


def test_unknown_parameters_in_memo_key_are_refused():
    with pytest.raises(ValueError, match=r"Unknown memo_key parameter\(s\) for .*\.g\(\): zz"):

        @fn(memo_key={"zz": None})
        def g(a):
            return a


def test_other_values_in_memo_key_are_refused():
    with pytest.raises(TypeError, match=r"memo_key\['a'\] for .*g\(\) must be a callable or None"):

        @fn(memo_key={"a": 3})
        def g(a):
            return a
