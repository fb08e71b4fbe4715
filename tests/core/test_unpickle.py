from __future__ import annotations

import builtins
import collections
import datetime as dt
import functools
import operator
import os
import pathlib
import pickle
import resource
import struct
import subprocess
import sys
import types
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoindex.core.unpickle import allow_unpickling, restricted_loads

Unpickling = pickle.UnpicklingError


class Call:
    """Pickles as a call of ``function(*args)``, optionally followed by a state."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self.reduced


class Registered:
    def __init__(self, *args: Any) -> None:
        self.args = args

    def append(self, item: Any) -> None:
        self.args = (*self.args, item)


allow_unpickling(Registered)

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(alphabet=st.characters() | st.just("\ud800"))
    | st.binary()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.datetimes()
    | st.datetimes(timezones=st.just(dt.UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.complex_numbers(allow_nan=False)
    | st.builds(range, st.integers(), st.integers(), st.integers(1, 9))
    | st.lists(st.sampled_from(["a", "b", ".."])).map(lambda parts: pathlib.PurePosixPath(*parts))
)
HASHABLE = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.dictionaries(HASHABLE, inner, max_size=3).map(collections.OrderedDict)
        | st.lists(inner, max_size=3).map(lambda items: collections.deque(items, 5))
        | st.sets(HASHABLE, max_size=3)
        | st.binary().map(bytearray)
    ),
    max_leaves=10,
)


@given(VALUES, st.integers(3, 5))
def test_values_read_as_pickle_reads_them(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    back = restricted_loads(data)
    assert back == value
    assert type(back) is type(value)


@given(VALUES, st.data())
def test_damaged_pickles_give_a_clean_error_or_a_value(value: Any, data: st.DataObject) -> None:
    payload = bytearray(pickle.dumps(value, 5))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(2, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        restricted_loads(bytes(payload))
    except (Unpickling, ValueError, TypeError, ArithmeticError, AttributeError):
        pass


@given(st.binary(max_size=200))
def test_random_bytes_give_a_clean_error_or_a_value(data: bytes) -> None:
    try:
        restricted_loads(b"\x80\x05" + data)
    except (Unpickling, ValueError, TypeError, ArithmeticError, AttributeError):
        pass


def test_shared_and_recursive_structure_is_kept() -> None:
    inner = [1]
    loop: list[Any] = [inner, inner]
    loop.append(loop)
    back = restricted_loads(pickle.dumps(loop))
    assert back[0] is back[1]
    assert back[2] is back
    shared = np.dtype("<i4")
    one, two = restricted_loads(pickle.dumps([np.zeros(1, shared), np.ones(1, shared)]))
    assert one.dtype == two.dtype == shared


class Slots:
    __slots__ = ("a",)
    a: Any


class WithState:
    def __init__(self) -> None:
        self.n = 0

    def __getstate__(self) -> int:
        return 5

    def __setstate__(self, state: int) -> None:
        self.n = state


class Numbers(list[int]):
    pass


class Words(dict[str, int]):
    pass


def test_registered_classes_are_rebuilt_as_pickle_does() -> None:
    for kind in (Slots, WithState, Numbers, Words):
        allow_unpickling(kind)
    slots = Slots()
    slots.a = (1, 2)
    assert restricted_loads(pickle.dumps(slots)).a == (1, 2)
    assert restricted_loads(pickle.dumps(WithState())).n == 5
    assert restricted_loads(pickle.dumps(Numbers([1, 2]))) == [1, 2]
    assert type(restricted_loads(pickle.dumps(Words(a=1)))) is Words
    assert restricted_loads(pickle.dumps(Registered(1))).args == (1,)


FORBIDDEN = [
    os.system,
    eval,
    exec,
    __import__,
    open,
    getattr,
    subprocess.Popen,
    pickle.loads,
    functools.partial,
    operator.attrgetter,
    types.FunctionType,
    builtins.print,
    collections.Counter,
    pathlib.Path.home,
    uuid.uuid4,
    np.load,
    np.ndarray.tofile,
    memoryview,
    map,
    super,
    property,
]


@pytest.mark.parametrize("target", FORBIDDEN, ids=lambda t: getattr(t, "__qualname__", str(t)))
def test_a_global_that_is_not_listed_is_forbidden(target: Any) -> None:
    for protocol in (3, 5):
        for payload in (target, Call(target, "x"), [Call(target)]):
            try:
                data = pickle.dumps(payload, protocol)
            except (pickle.PicklingError, TypeError, AttributeError):
                continue  # this target can't be named by this protocol
            with pytest.raises(Unpickling, match="Forbidden global during unpickling: "):
                restricted_loads(data)


def test_dotted_names_lead_nowhere() -> None:
    for module, name in [
        (b"builtins", b"object.__subclasses__"),
        (b"pathlib", b"Path.write_text"),
        (b"pathlib", b"os.system"),
        (b"os", b"system"),
        (b"numpy", b"testing"),
        (__name__.encode(), b"Registered.append"),
    ]:
        body = b"\x8c" + bytes([len(module)]) + module + b"\x8c" + bytes([len(name)]) + name
        with pytest.raises(Unpickling, match="Forbidden global"):
            restricted_loads(b"\x80\x05" + body + b"\x93.")
        with pytest.raises(Unpickling, match="Forbidden global"):
            restricted_loads(b"\x80\x02c" + module + b"\n" + name + b"\n.")


HOSTILE_CALLS = [
    Call(type, "Evil", (), {}),
    Call(type, 1),
    Call(bytes, 1 << 40),
    Call(bytearray, 1 << 40),
    Call(bytearray, "x", "utf-8"),
    Call(list, (1, 2)),
    Call(dict, (("a", 1),)),
    Call(tuple, "abc"),
    Call(int, "9" * 5000),
    Call(str, b"x", "utf-8"),
    Call(object),
    Call(complex, "1"),
    Call(range, "a"),
    Call(set, "abc"),
    Call(slice, 1),
    Call(pathlib.Path, 1),
    Call(pathlib.PurePosixPath, Registered()),
    Call(uuid.UUID, "0" * 32),
    Call(Decimal, 1.5),
    Call(dt.datetime, 2020, 1, 1),
    Call(dt.datetime, b"x" * 9),
    Call(dt.datetime, b"\x07\xe4\x01\x01" + bytes(6), "no zone"),
    Call(dt.timezone, 5),
    Call(dt.timedelta, 0.5),
    Call(collections.deque, [1] * 10),
    Call(collections.OrderedDict, [("a", 1)]),
    Call(np.dtype, "i8"),
    Call(np.dtype, "i8,O", False, True),
    Call(np.dtype, {"names": ["a"], "formats": ["O"]}, False, True),
    Call(np.ndarray, (1 << 40,)),
    Call(np.float64, 1.0),
]


@pytest.mark.parametrize("call", HOSTILE_CALLS, ids=lambda c: str(c.reduced)[:60])
def test_reconstructors_check_their_arguments(call: Call) -> None:
    with pytest.raises(Unpickling, match="malformed or hostile"):
        restricted_loads(pickle.dumps(call))


def test_classes_are_resolved_as_values_and_never_called() -> None:
    assert restricted_loads(pickle.dumps([int, dict, type(None), np.float32])) == [
        int,
        dict,
        type(None),
        np.float32,
    ]


def test_only_registered_classes_are_instantiated() -> None:
    for kind in (b"int", b"object", b"list", b"type"):
        body = b"\x8c\x08builtins\x8c" + bytes([len(kind)]) + kind + b"\x93)\x81."
        with pytest.raises(Unpickling, match="not registered"):
            restricted_loads(b"\x80\x05" + body)


@pytest.mark.parametrize(
    "state", [{"__class__": int}, (None, {"__class__": int}), {"__dict__": {}}]
)
def test_a_state_can_set_no_special_attribute(state: Any) -> None:
    with pytest.raises(Unpickling, match="attribute"):
        restricted_loads(pickle.dumps(Call(Registered, state=state)))


@pytest.mark.parametrize("target", [1, "a", [], int, Registered])
def test_a_state_is_for_instances_of_registered_classes(target: Any) -> None:
    data = pickle.dumps(target)[:-1] + b"}b."
    with pytest.raises(Unpickling, match="state for an object that takes none"):
        restricted_loads(data)


def array_pickle(array: np.ndarray, old: bytes, new: bytes) -> bytes:
    data = pickle.dumps(array, 5)
    assert old in data
    return data.replace(old, new)


def test_an_array_may_not_claim_more_than_its_payload() -> None:
    array = np.arange(77, dtype="i1")
    for old, new in ((b"KM\x85", b"J\xff\xff\xff\x7f\x85"), (b"KM\x85", b"J\xff\xff\xff\xff\x85")):
        with pytest.raises(Unpickling):
            restricted_loads(array_pickle(array, old, new))
        with pytest.raises(Unpickling):
            restricted_loads(array_pickle(np.arange(154, dtype="i1")[::2], old, new))


def test_an_array_of_objects_is_never_read_from_bytes() -> None:
    array = np.arange(8, dtype="i8")
    for code in (b"O8", b"O1"):
        with pytest.raises(Unpickling):
            restricted_loads(array_pickle(array, b"\x8c\x02i8", b"\x8c\x02" + code))
        with pytest.raises(Unpickling):
            sliced = np.arange(8, dtype="i8")[::2]
            restricted_loads(array_pickle(sliced, b"\x8c\x02i8", b"\x8c\x02" + code))


def test_flags_of_a_dtype_are_computed_not_believed() -> None:
    record = np.dtype([("a", "O")])
    data = pickle.dumps(record)
    assert b"K\x1bt" in data or b"K?t" in data
    lying = data.replace(b"K\x1bt", b"K\x00t").replace(b"K?t", b"K\x00t")
    assert restricted_loads(lying).hasobject
    lying_array = pickle.dumps(np.zeros(3, "V8")).replace(b"\x8c\x02V8", b"\x8c\x02O8")
    with pytest.raises(Unpickling):
        restricted_loads(lying_array)


def test_fields_of_a_dtype_lie_inside_it() -> None:
    data = pickle.dumps(np.zeros(1, [("a", "<i4"), ("b", "<i4")]))
    assert b"K\x04\x86" in data
    with pytest.raises((Unpickling, ValueError)):
        restricted_loads(data.replace(b"K\x04\x86", b"K\x44\x86"))


def test_memory_is_not_taken_on_the_word_of_a_payload() -> None:
    big = (1 << 40).to_bytes(8, "little")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for body in (
        b"\x8e" + big,
        b"\x8d" + big,
        b"\x96" + big,
        b"\x8b\xff\xff\xff\x7f",
        b"B\xff\xff\xff\xff",
        b"X\xff\xff\xff\xff",
        b"\x95" + big,
        b"Nr\xff\xff\xff\x7f0N.",
    ):
        try:
            restricted_loads(b"\x80\x05" + body)
        except Unpickling:
            pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_references_cannot_multiply_memory() -> None:
    name = b"\x8c\x08builtins\x8c\x09bytearray\x93\x94"
    blob = b"B" + struct.pack("<I", 1 << 20) + bytes(1 << 20) + b"\x94"
    copies = b"(" + b"h\x00h\x01\x85R" * 20_000 + b"l"[:0] + b"t."
    with pytest.raises(Unpickling, match="copies beyond"):
        restricted_loads(b"\x80\x05" + name + b"0" + blob + b"0" + copies)


def test_deep_or_wide_tuples_are_refused_as_keys() -> None:
    deep = b")" + b"\x85" * 100_000
    wide = b")" + b"2\x86" * 60
    for key in (deep, wide):
        for body in (b"}" + key + b"Ns.", b"\x8f(" + key + b"\x90.", b"(" + key + b"\x91."):
            with pytest.raises(Unpickling, match="nested too deeply"):
                restricted_loads(b"\x80\x05" + body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b".",
        b"N",
        b"NN.",
        b"(N.",
        b"0",
        b"1",
        b"h\x05.",
        b"t.",
        b"a.",
        b"R.",
        b"b.",
        b"Nb.",
        b"]N\x8f\x90.",
        b"NNs.",
        b"}(Nu.",
        b"P1\n.",
        b"Q.",
        b"i",
        b"o",
        b"\x82\x01.",
        b"\x97.",
        b"\x98.",
        b"I1\n.",
        b"S'a'\n.",
        b"\x8c\x01\xff.",
        b"G\x00",
        b"NN\x93.",
        b"cos",
        b"cos\nsystem",
        b"N)R.",
        b"])R.",
        b"N)\x81.",
        b"N)}\x92.",
    ],
)
def test_malformed_programs_are_refused(body: bytes) -> None:
    with pytest.raises(Unpickling, match="malformed or hostile"):
        restricted_loads(b"\x80\x05" + body)


@pytest.mark.parametrize("data", [b"", b"\x80", b"N.", b"\x80\x01N.", b"\x80\x06N.", b"(lp0\n."])
def test_only_protocols_2_to_5_are_read(data: bytes) -> None:
    with pytest.raises(Unpickling):
        restricted_loads(data)


def test_an_unfinished_object_cannot_leak() -> None:
    unfinished = pickle.dumps(np.dtype("i4"))
    at = unfinished.index(b"R\x94(") + 2
    with pytest.raises(Unpickling, match="leftovers"):
        restricted_loads(unfinished[:at] + b".")
    with pytest.raises(Unpickling, match="unfinished"):
        restricted_loads(unfinished[:at] + b"2\x86.")


def test_nothing_is_imported_on_the_word_of_a_payload() -> None:
    assert "antigravity" not in sys.modules
    with pytest.raises(Unpickling, match=r"Forbidden global during unpickling: antigravity\.x"):
        restricted_loads(b"\x80\x05\x8c\x0bantigravity\x8c\x01x\x93.")
    assert "antigravity" not in sys.modules
