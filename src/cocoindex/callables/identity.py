"""Who a function is (for call keys), and what it means (its logic fingerprint)."""

from __future__ import annotations

import types
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cocoindex.callables.captured import FunctionParts, Watch, captures_of, constants_of
from cocoindex.core.canonical import Canon, Mode, write
from cocoindex.core.fingerprint import Domain
from cocoindex.core.introspect import display_name
from cocoindex.core.logic import registry
from cocoindex.core.memo_key import (
    NotPlainData,
    canonical_form,
    canonical_module,
    fingerprint_value,
    register_form,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cocoindex.core.logic import Registration
    from cocoindex.engine.function import LogicTracking

__all__ = ["Identity", "Logic", "display_name", "full_name", "module_of"]

_identity_domain: Final = Domain("coco.identity")
_logic_domain: Final = Domain("coco.logic")


def module_of(fn: Callable[..., Any]) -> str:
    """Module of ``fn``; the main script by the name under which it is imported elsewhere."""
    return canonical_module(getattr(fn, "__module__", None) or type(fn).__module__)


def full_name(fn: Callable[..., Any]) -> str:
    """``module.qualname`` as the user wrote it, for messages."""
    module = getattr(fn, "__module__", None) or type(fn).__module__
    return f"{module}.{display_name(fn)}"


def _functions_behind(fn: object) -> list[types.FunctionType]:
    """The plain functions that a callable consists of: wrappers first, then what they wrap."""
    found: list[types.FunctionType] = []
    seen: set[int] = set()
    while fn is not None and id(fn) not in seen:
        seen.add(id(fn))
        if isinstance(fn, types.FunctionType):
            found.append(fn)
            fn = getattr(fn, "__wrapped__", None)
        elif isinstance(fn, types.MethodType):
            fn = fn.__func__
        elif isinstance(fn, partial):
            fn = fn.func
        else:
            inner = getattr(fn, "__wrapped__", None)
            fn = inner if inner is not None else getattr(type(fn), "__call__", None)  # noqa: B004 - the function
    return found


class Identity:
    """Module, qualified name and captured values of a callable."""

    __slots__ = ("_digest", "_fixed", "_seen", "captures", "functions", "module", "qualname")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.module = module_of(fn)
        self.qualname = display_name(fn)
        self.functions = tuple(FunctionParts(f) for f in _functions_behind(fn))
        self.captures = captures_of(self.full_name, self.functions)
        self._fixed = canonical_form((self.module, self.qualname, self._wrappers()))
        self._seen: bytes | None = None
        self._digest = b""

    @property
    def full_name(self) -> str:
        """``module.qualname``, for messages."""
        return f"{self.module}.{self.qualname}"

    def _wrappers(self) -> tuple[tuple[str, str], ...]:
        # functools.wraps lends a wrapper the name of what it wraps; its code knows better.
        if len(self.functions) < 2:
            return ()
        return tuple(
            (canonical_module(f.function.__globals__["__name__"]), f.function.__code__.co_qualname)
            for f in self.functions
        )

    def digest(self) -> bytes:
        """16 bytes over module, name and captured values as of now."""
        captured = self.captures.read()
        if captured is not self._seen:
            self._digest = _identity_domain.digest(self._fixed + captured)
            self._seen = captured
        return self._digest


class Logic:
    """The logic fingerprint of one function object; see ``cocoindex.core.logic``."""

    __slots__ = (
        "__weakref__",
        "_all",
        "_constants",
        "_epoch",
        "_extra",
        "_fingerprint",
        "_followed",
        "_identity",
        "_registration",
        "_tracking",
        "_version",
        "_watched",
        "home",
        "name",
        "volatile",
    )

    def __init__(
        self, identity: Identity, tracking: LogicTracking, version: int | None, deps: object
    ) -> None:
        self.name = identity.qualname
        self.volatile = False
        self._identity = identity
        self._tracking = tracking
        self._version = version
        self._extra = b"" if deps is None else fingerprint_value(deps)
        self._epoch = -1
        self._fingerprint = b""
        self._watched: tuple[tuple[Watch, bytes], ...] = ()
        self._all: tuple[Watch, ...] = ()
        self._constants: dict[int, tuple[FunctionParts, Watch]] = {}
        self._followed: dict[int, tuple[FunctionParts, Watch]] = {}
        functions = identity.functions
        self.home = registry.home_of(functions[0].function.__globals__) if functions else None
        self._registration: Registration = registry.register(self)

    def logic(self) -> bytes:
        """The fingerprint as of now."""
        if self._epoch == registry.epoch:
            for watch, digest in self._watched:
                if watch.read() is not digest:
                    break
            else:
                return self._fingerprint
        return self._read()

    def _read(self) -> bytes:
        epoch = registry.epoch
        content = self._content() if self._version is None else self._version_content()
        self._fingerprint = _logic_domain.digest(content)
        self._epoch = epoch
        self.volatile = bool(self._watched)
        registry.publish(self._registration, self._fingerprint, self.name)
        return self._fingerprint

    def _head(self) -> bytearray:
        out = bytearray()
        write(out, (self._identity.module, self._identity.qualname), Canon(None))
        write(out, self._extra, Canon(None))
        return out

    def _version_content(self) -> bytearray:
        out = self._head()
        write(out, self._version, Canon(None))
        return out

    def _content(self) -> bytearray:
        out = self._head()
        watches = [self._identity.captures]
        for parts in self._identity.functions:
            out += parts.body.digest
            watches.append(self._constants_of(parts))
        if self._tracking == "deep":
            for parts, captures in self._helpers():
                out += canonical_form((module_of(parts.function), display_name(parts.function)))
                out += parts.body.digest
                watches += [captures, self._constants_of(parts)]
        digests = [watch.read() for watch in watches]
        for digest in digests:
            write(out, digest, Canon(None))
        self._all = tuple(watches)
        pairs = zip(watches, digests, strict=True)
        self._watched = tuple(pair for pair in pairs if pair[0].watched)
        return out

    def parts(self) -> list[tuple[str, bytes]]:
        """Readable label and 8-byte digest of the code and of each datum that counts."""
        self.logic()
        code = bytearray() if self._version is None else self._version_content()
        for parts in self._identity.functions if self._version is None else ():
            code += parts.body.digest
        for helper, _ in self._followed.values():
            code += helper.body.digest
        found = [("code", _logic_domain.digest(code)[:8])]
        for watch in self._all:
            found += watch.parts()
        return found

    def _constants_of(self, parts: FunctionParts) -> Watch:
        known = self._constants.get(id(parts))
        watch = constants_of(self._identity.full_name, parts, known[1] if known else None)
        self._constants[id(parts)] = (parts, watch)
        return watch

    def _helpers(self) -> list[tuple[FunctionParts, Watch]]:
        """Undecorated functions of the same package that the body reaches, in order of use."""
        home = self._identity.module.partition(".")[0]
        queue = list(self._identity.functions)
        seen = {id(parts.function) for parts in queue}
        found: list[tuple[FunctionParts, Watch]] = []
        for parts in queue:  # grows while it is walked
            for function in _called_functions(parts):
                if id(function) in seen or module_of(function).partition(".")[0] != home:
                    continue
                seen.add(id(function))
                helper = self._followed.get(id(function))
                if helper is None:
                    helper = self._follow(function)
                found.append(helper)
                queue.append(helper[0])
        return found

    def _follow(self, function: types.FunctionType) -> tuple[FunctionParts, Watch]:
        parts = FunctionParts(function)
        captures = captures_of(self._identity.full_name, [parts])
        self._followed[id(function)] = (parts, captures)
        return parts, captures


def _called_functions(parts: FunctionParts) -> Iterable[types.FunctionType]:
    namespace = parts.function.__globals__
    values = [namespace.get(name) for name in parts.names.globals]
    for owner, name in parts.names.attributes:
        module = namespace.get(owner)
        if isinstance(module, types.ModuleType):
            values.append(getattr(module, name, None))
    for value in values:
        if value is None or isinstance(value, type) or _is_decorated(value):
            continue
        if isinstance(value, types.FunctionType) or hasattr(value, "__wrapped__"):
            yield from _functions_behind(value)


def _is_decorated(value: object) -> bool:
    return hasattr(type(value), "__coco_function__")


# Functions as values: arguments, and captured by other functions


def _write_function(out: bytearray, value: types.FunctionType, canon: Canon) -> None:
    if canon.mode is Mode.DATA:
        raise NotPlainData(value)
    if canon.visited(out, value):
        return
    out += b"c" + canonical_form((module_of(value), value.__qualname__))
    mode, states = canon.mode, canon.state_fns
    if mode is Mode.CAPTURED or value.__name__ == "<lambda>":
        # All lambdas of a scope share one name.
        out += FunctionParts(value).body.digest
    canon.mode, canon.state_fns = Mode.CAPTURED, None
    for name, content in _carried(value):
        _write_carried(out, name, content, canon)
    canon.mode, canon.state_fns = mode, states
    out += b"."


def _carried(function: types.FunctionType) -> Iterable[tuple[str, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not bound yet
            continue
    yield from _carried_defaults(function)


def _carried_defaults(function: types.FunctionType) -> Iterable[tuple[str, object]]:
    for index, value in enumerate(function.__defaults__ or ()):
        yield f"default {index}", value
    yield from sorted((function.__kwdefaults__ or {}).items())


def _write_carried(out: bytearray, name: str, value: object, canon: Canon) -> None:
    start = len(out)
    out += canonical_form(name)
    try:
        write(out, value, canon)
    except Exception:  # noqa: BLE001 - no plain data, or its own memo key refused
        del out[start:]


register_form(types.FunctionType, _write_function)
