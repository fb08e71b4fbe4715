"""A reader of pickles that can't be talked into anything.

Pickle bytes are a program. This interpreter runs the part of its language that describes
values; where a program asks for a call, only the reconstructors listed here are called, with
arguments checked by each of them, and classes that a user registered. Nothing is imported or
looked up by a name found in the data. Memory stays proportional to the size of the payload:
no opcode allocates from a number, and repeated copies of one part are metered.
"""

from __future__ import annotations

import collections
import pickle
import struct
import sys
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from cocoindex.core.unpickle_values import (
    Pending,
    PendingUUID,
    allow_unpickling,
    bad,
    hashable,
    is_registered_callable,
    is_unpicklable_type,
    reconstructor,
    require,
    resolve,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["allow_unpickling", "is_unpicklable_type", "restricted_loads"]


def restricted_loads(data: bytes | memoryview) -> Any:
    """The value pickled in ``data``.

    Raises:
        pickle.UnpicklingError: ``data`` is not a pickle of protocol 2 to 5, or needs a global
            that is not allowed ("Forbidden global during unpickling: module.name").
        Exception: whatever the code of a class that a user registered raises.
    """
    reader = _Reader(bytes(data))
    try:
        return reader.run()
    except (IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
        raise bad(f"{type(error).__name__} at byte {reader.at}") from error


# --- The interpreter ----------------------------------------------------------------------


class _Reader:
    """State of one run: position, stack, marks, memo, and the budget for copies."""

    __slots__ = ("at", "budget", "data", "done", "marks", "memo", "result", "stack", "unfinished")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.unfinished = 0
        self.budget = 64 * len(data) + (1 << 20)
        self.done = False
        self.result: Any = None

    def run(self) -> Any:
        require(self.data[:1] == b"\x80" and 2 <= self.data[1] <= 5, "no pickle protocol 2 to 5")
        self.at = 2
        while not self.done:
            opcode = self.data[self.at]
            self.at += 1
            step = _STEPS.get(opcode)
            if step is None:
                raise bad(f"opcode {opcode:#04x} at byte {self.at - 1}")
            step(self)
        return self.result

    # Reading

    def take(self, size: int) -> bytes:
        end = self.at + size
        require(size >= 0 and end <= len(self.data), "truncated")
        chunk = self.data[self.at : end]
        self.at = end
        return chunk

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def sized(self, size: int) -> bytes:
        return self.take(self.number(size))

    def line(self) -> str:
        end = self.data.find(b"\n", self.at)
        require(end >= 0, "truncated")
        text = self.data[self.at : end].decode()
        self.at = end + 1
        return text

    # Stack and memo

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def put(self, slot: int) -> None:
        top = self.stack[-1]
        self.memo[slot] = top
        if isinstance(top, Pending):
            top.memo_slots.append(slot)

    def get(self, slot: int) -> None:
        value = self.memo[slot]
        require(not isinstance(value, Pending), "an array that contains itself")
        self.push(value)

    def charge(self, args: Any) -> None:
        """Meter what a reconstructor may copy, so that references can't multiply memory."""
        for arg in args:
            if isinstance(arg, (str, bytes, bytearray, list, tuple)):
                self.budget -= len(arg)
        require(self.budget >= 0, "copies beyond the size of the payload")

    # Containers

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list or type(target) is collections.deque:
            target.extend(items)
        elif is_unpicklable_type(type(target)):
            for item in items:
                target.append(item)
        else:
            raise bad("items for something that is no list")

    def set_items(self, flat: list[Any]) -> None:
        target = self.stack[-1]
        plain = type(target) is dict or type(target) is collections.OrderedDict
        require(plain or is_unpicklable_type(type(target)), "entries for no dict")
        require(len(flat) % 2 == 0, "a key without a value")
        for key, value in zip(hashable(flat[::2]), flat[1::2], strict=True):
            target[key] = value

    def add_items(self) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        require(type(target) is set, "members for something that is no set")
        target.update(hashable(items))

    # Calls

    def reduce(self) -> None:
        args = self.pop()
        function = self.pop()
        require(type(args) is tuple, "arguments that are no tuple")
        self.push(self.call(function, args))

    def call(self, function: Any, args: tuple[Any, ...]) -> Any:
        if is_registered_callable(function):
            return function(*args)
        reconstruct = reconstructor(function)
        if reconstruct is None:
            raise bad("a call of something that may not be called")
        self.charge(args)
        made = reconstruct(args)
        self.unfinished += isinstance(made, Pending)
        return made

    def new_object(self, kind: Any, args: Any, kwargs: dict[str, Any]) -> None:
        require(type(args) is tuple and type(kwargs) is dict, "arguments of an object")
        if kind is UUID and not args and not kwargs:
            self.push(PendingUUID())
            self.unfinished += 1
        elif isinstance(kind, type) and is_unpicklable_type(kind):
            self.push(kind.__new__(kind, *args, **kwargs))
        else:
            raise bad("an instance of a class that is not registered")

    def build(self) -> None:
        state = self.pop()
        target = self.stack[-1]
        if isinstance(target, Pending):
            if type(state) is tuple:
                self.charge(state)
            self.complete(target, target.finish(state))
        elif is_unpicklable_type(type(target)):
            _set_state(target, state)
        else:
            raise bad("state for an object that takes none")

    def complete(self, target: Pending, value: Any) -> None:
        self.unfinished -= 1
        self.stack[-1] = value
        for slot in target.memo_slots:
            self.memo[slot] = value

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        require(type(name) is str and type(module) is str, "a global not named by text")
        self.push(resolve(module, name))

    def stop(self) -> None:
        self.result = self.pop()
        require(not self.stack and not self.marks and not self.unfinished, "leftovers")
        self.done = True


def _set_state(target: Any, state: Any) -> None:
    """As ``pickle`` does it, except that no special attribute can be set."""
    own: Any = getattr(target, "__setstate__", None)
    if own is not None:
        own(state)
        return
    slots: Any = None
    if type(state) is tuple and len(state) == 2:
        state, slots = state
    for name, value in (state or {}).items():
        target.__dict__[_attribute(name)] = value
    for name, value in (slots or {}).items():
        setattr(target, _attribute(name), value)


def _attribute(name: Any) -> str:
    require(type(name) is str and not name.startswith("__"), "name of an attribute")
    return sys.intern(name)


def _tuple_of(reader: _Reader, size: int) -> None:
    require(len(reader.stack) >= size, "too few values for a tuple")
    items = tuple(reader.stack[-size:])
    del reader.stack[-size:]
    reader.push(items)


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _new_with_keywords(reader: _Reader) -> None:
    kwargs, args, kind = reader.pop(), reader.pop(), reader.pop()
    reader.new_object(kind, args, kwargs)


def _new(reader: _Reader) -> None:
    args, kind = reader.pop(), reader.pop()
    reader.new_object(kind, args, {})


def _append(reader: _Reader) -> None:
    item = reader.pop()
    reader.append([item])


def _set_item(reader: _Reader) -> None:
    value, key = reader.pop(), reader.pop()
    reader.set_items([key, value])


def _global(reader: _Reader) -> None:
    module, name = reader.line(), reader.line()
    reader.push(resolve(module, name))


def _duplicate(reader: _Reader) -> None:
    require(not isinstance(reader.stack[-1], Pending), "a copy of an unfinished object")
    reader.push(reader.stack[-1])


def _pop(reader: _Reader) -> None:
    if reader.stack:
        reader.pop()
    else:
        reader.pop_mark()


_STEPS: Final[dict[int, Callable[[_Reader], Any]]] = {
    pickle.PROTO[0]: lambda r: r.take(1),
    pickle.FRAME[0]: lambda r: r.take(8),
    pickle.STOP[0]: _Reader.stop,
    pickle.MARK[0]: _Reader.mark,
    pickle.POP[0]: _pop,
    pickle.POP_MARK[0]: _Reader.pop_mark,
    pickle.DUP[0]: _duplicate,
    # Scalars
    pickle.NONE[0]: lambda r: r.push(None),
    pickle.NEWTRUE[0]: lambda r: r.push(True),
    pickle.NEWFALSE[0]: lambda r: r.push(False),
    pickle.BININT[0]: lambda r: r.push(_signed(r.take(4))),
    pickle.BININT1[0]: lambda r: r.push(r.number(1)),
    pickle.BININT2[0]: lambda r: r.push(r.number(2)),
    pickle.LONG1[0]: lambda r: r.push(_signed(r.sized(1))),
    pickle.LONG4[0]: lambda r: r.push(_signed(r.sized(4))),
    pickle.BINFLOAT[0]: lambda r: r.push(struct.unpack(">d", r.take(8))[0]),
    pickle.SHORT_BINUNICODE[0]: lambda r: r.push(_text(r.sized(1))),
    pickle.BINUNICODE[0]: lambda r: r.push(_text(r.sized(4))),
    pickle.BINUNICODE8[0]: lambda r: r.push(_text(r.sized(8))),
    pickle.SHORT_BINBYTES[0]: lambda r: r.push(r.sized(1)),
    pickle.BINBYTES[0]: lambda r: r.push(r.sized(4)),
    pickle.BINBYTES8[0]: lambda r: r.push(r.sized(8)),
    pickle.BYTEARRAY8[0]: lambda r: r.push(bytearray(r.sized(8))),
    # Containers
    pickle.EMPTY_TUPLE[0]: lambda r: r.push(()),
    pickle.TUPLE1[0]: lambda r: _tuple_of(r, 1),
    pickle.TUPLE2[0]: lambda r: _tuple_of(r, 2),
    pickle.TUPLE3[0]: lambda r: _tuple_of(r, 3),
    pickle.TUPLE[0]: lambda r: r.push(tuple(r.pop_mark())),
    pickle.EMPTY_LIST[0]: lambda r: r.push([]),
    pickle.APPEND[0]: _append,
    pickle.APPENDS[0]: lambda r: r.append(r.pop_mark()),
    pickle.EMPTY_DICT[0]: lambda r: r.push({}),
    pickle.SETITEM[0]: _set_item,
    pickle.SETITEMS[0]: lambda r: r.set_items(r.pop_mark()),
    pickle.EMPTY_SET[0]: lambda r: r.push(set()),
    pickle.ADDITEMS[0]: _Reader.add_items,
    pickle.FROZENSET[0]: lambda r: r.push(frozenset(hashable(r.pop_mark()))),
    # Memo
    pickle.BINGET[0]: lambda r: r.get(r.number(1)),
    pickle.LONG_BINGET[0]: lambda r: r.get(r.number(4)),
    pickle.BINPUT[0]: lambda r: r.put(r.number(1)),
    pickle.LONG_BINPUT[0]: lambda r: r.put(r.number(4)),
    pickle.MEMOIZE[0]: lambda r: r.put(len(r.memo)),
    # Objects
    pickle.GLOBAL[0]: _global,
    pickle.STACK_GLOBAL[0]: _Reader.stack_global,
    pickle.REDUCE[0]: _Reader.reduce,
    pickle.NEWOBJ[0]: _new,
    pickle.NEWOBJ_EX[0]: _new_with_keywords,
    pickle.BUILD[0]: _Reader.build,
}
