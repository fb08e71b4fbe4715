"""Memo keys: what identifies a value that is passed to a memoized function.

``memo_fingerprint(value)`` digests a canonical form of the value. A class takes part with
``__coco_memo_key__()`` or through :func:`register_memo_key_function`.
"""

from __future__ import annotations

import collections.abc
import inspect
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    NoReturn,
    TypeVar,
    get_type_hints,
)

import msgspec

from cocoindex.core.canonical import (
    SCALARS,
    WRITERS,
    Canon,
    Mode,
    NotPlainData,
    StateFn,
    Writer,
    canonical_module,
    plain_form,
    type_name_form,
    write,
    write_mapping,
    write_sequence,
    write_set,
)
from cocoindex.core.canonical_types import EXPLICIT, object_writer
from cocoindex.core.fingerprint import Domain, Fingerprint
from cocoindex.errors import UsageTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Canon",
    "Mode",
    "NotMemoKeyable",
    "NotPlainData",
    "StateFn",
    "canonical_form",
    "canonical_module",
    "fingerprint_object",
    "fingerprint_value",
    "memo_fingerprint",
    "register_form",
    "register_memo_key_function",
    "register_not_memo_keyable",
    "unregister_memo_key_function",
    "write",
]

T = TypeVar("T")

_value_domain: Final = Domain("coco.value")
_digest: Final = _value_domain.digest


class NotMemoKeyable:
    """Base class of types whose instances must not be (part of) a memo key."""

    __slots__ = ()

    def __coco_memo_key__(self) -> NoReturn:
        raise _not_keyable(type(self))


def _not_keyable(cls: type) -> UsageTypeError:
    return UsageTypeError(
        f"{cls.__qualname__} cannot be used as a memoization key: its instances hold state that "
        "no key describes. Pass it by context, or exclude the argument with memo_key={name: None}."
    )


# Registered key functions


class _Registered(msgspec.Struct, frozen=True):
    cls: type
    key_fn: Callable[[Any], object]
    state_fn: Callable[[Any, Any], Any] | None


_registry: Final[dict[type, _Registered]] = {}


def register_memo_key_function(
    typ: type[T],
    key_fn: Callable[[T], object],
    *,
    state_fn: Callable[[T, Any], Any] | None = None,
) -> None:
    """Say what identifies instances of ``typ`` (and of subclasses) in memo keys.

    Args:
        typ: the class; the most specific registered class of an instance wins.
        key_fn: returns any value that can itself be keyed.
        state_fn: like ``__coco_memo_state__``: takes the instance and the previous state (or
            ``NON_EXISTENCE``) and returns a ``MemoStateOutcome``, or an awaitable of one.
    """
    _registry[typ] = _Registered(typ, key_fn, state_fn)
    _forget_resolved()


def unregister_memo_key_function(typ: type) -> None:
    """Undo :func:`register_memo_key_function`; unknown types are ignored."""
    _registry.pop(typ, None)
    _forget_resolved()


def register_not_memo_keyable(typ: type) -> None:
    """Refuse instances of ``typ`` (and of subclasses) in memo keys with a ``TypeError``."""

    def refuse(value: object) -> NoReturn:
        raise _not_keyable(type(value))

    register_memo_key_function(typ, refuse)


def register_form(cls: type, writer: Writer) -> None:
    """Fix the canonical form of an exact type. For the package's own types."""
    EXPLICIT[cls] = writer
    WRITERS.pop(cls, None)


def _forget_resolved() -> None:
    WRITERS.clear()
    WRITERS.update(SCALARS)


# The form of a type


_MAX_RESOLVED: Final = 4096  # programs that make classes endlessly must not keep them all


def _resolve(cls: type) -> Writer:
    """Find the canonical form of ``cls``: the first rule that matches."""
    if len(WRITERS) >= _MAX_RESOLVED:
        _forget_resolved()
    return _find(cls)


def _find(cls: type) -> Writer:
    if issubclass(cls, type):
        return object_writer(cls)
    for base, scalar in SCALARS.items():
        if issubclass(cls, base):
            return scalar
    method = getattr(cls, "__coco_memo_state__", None)
    stateful = callable(method)
    if callable(getattr(cls, "__coco_memo_key__", None)):
        return _keyed_writer(cls, _own_key, _own_state if stateful else None)
    for base in cls.__mro__:
        if base in _registry:
            entry = _registry[base]
            return _keyed_writer(base, entry.key_fn, entry.state_fn)
    plain = EXPLICIT.get(cls) or _container_writer(cls) or object_writer(cls)
    return _stateful_writer(plain) if stateful else plain


def _container_writer(cls: type) -> Writer | None:
    if issubclass(cls, collections.abc.Sequence):
        return write_sequence
    if issubclass(cls, collections.abc.Mapping):
        return write_mapping
    if issubclass(cls, collections.abc.Set):
        return write_set
    return None


def _own_key(value: Any) -> object:
    return value.__coco_memo_key__()


def _own_state(value: Any, prev_state: Any) -> Any:
    return value.__coco_memo_state__(prev_state)


def _keyed_writer(
    cls: type, key_fn: Callable[[Any], object], state_fn: Callable[[Any, Any], Any] | None
) -> Writer:
    prefix = (b"K" if state_fn is None else b"k") + type_name_form(cls)
    decoders: dict[type, Callable[[bytes], Any]] = {}

    def write_keyed(out: bytearray, value: Any, canon: Canon) -> None:
        out += prefix
        if state_fn is not None and canon.state_fns is not None:
            canon.state_fns.append(_state_fn(value, state_fn, decoders))
        key = key_fn(value)
        scalar = SCALARS.get(type(key))
        if scalar is not None:
            scalar(out, key, canon)
            return
        canon.alive.append(key)
        mode, canon.mode = canon.mode, Mode.ANY
        write(out, key, canon)
        canon.mode = mode

    return write_keyed


def _stateful_writer(plain: Writer) -> Writer:
    decoders: dict[type, Callable[[bytes], Any]] = {}

    def write_stateful(out: bytearray, value: Any, canon: Canon) -> None:
        out += b"V"
        if canon.state_fns is not None and id(value) not in canon.seen:
            canon.state_fns.append(_state_fn(value, _own_state, decoders))
        plain(out, value, canon)

    return write_stateful


# State functions


def _state_fn(
    value: Any, state_fn: Callable[[Any, Any], Any], decoders: dict[type, Callable[[bytes], Any]]
) -> StateFn:
    cls = type(value)
    own = state_fn is _own_state
    call = value.__coco_memo_state__ if own else partial(state_fn, value)
    decode = decoders.get(cls)
    if decode is None:
        # The function, not the bound method: decoders outlive the instances they serve.
        source = getattr(call, "__func__", call) if own else state_fn
        index = 0 if source is call else 1
        decode = decoders[cls] = _state_decoder(source, index)
    return StateFn(call, decode)


def _state_decoder(source: Callable[..., Any], index: int) -> Callable[[bytes], Any]:
    """Reads a stored state as the type of parameter ``index`` of ``source``."""
    from cocoindex.core.serde import make_deserialize_fn

    label = f"previous state of {source.__module__}.{getattr(source, '__qualname__', '?')}()"
    return make_deserialize_fn(partial(_parameter_type, source, index), label)


def _parameter_type(source: Callable[..., Any], index: int) -> Any:
    try:
        hints = get_type_hints(source)
        names = list(inspect.signature(source).parameters)
    except (NameError, TypeError, ValueError, AttributeError):
        return Any  # annotations that can't be resolved say nothing
    return hints.get(names[index], Any) if index < len(names) else Any


# Digests


def canonical_form(value: object, mode: Mode = Mode.ANY) -> bytes:
    """The canonical bytes of ``value``.

    Raises:
        NotPlainData: in a mode other than ``ANY``, if the value is no plain data.
        TypeError: if the value can't be keyed.
    """
    out = bytearray()
    write(out, value, Canon(None, mode))
    return bytes(out)


def fingerprint_value(value: object, state_fns: list[StateFn] | None = None) -> bytes:
    """16-byte digest of ``value``; state functions met on the way are added to ``state_fns``.

    Raises:
        TypeError: if the value, or something in it, can't be keyed.
    """
    writer = WRITERS[type(value)]
    if writer is write_sequence and isinstance(value, tuple):
        plain = plain_form(value)
        if plain is not None:
            return _digest(plain)
    out = bytearray()
    writer(out, value, Canon(state_fns))
    return _digest(out)


def fingerprint_object(obj: object) -> bytes:
    """16-byte digest of any value that can be keyed. Raises ``TypeError`` for others."""
    return fingerprint_value(obj)


def memo_fingerprint(obj: object) -> Fingerprint:
    """The fingerprint by which ``obj`` is told apart as an argument of a memoized function.

    Raises:
        TypeError: if the value, or something in it, can't be keyed.
    """
    return Fingerprint(fingerprint_value(obj))


WRITERS.resolve = _resolve
