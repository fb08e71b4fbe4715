"""The identity of a call: who is called, with which arguments."""

from __future__ import annotations

import inspect
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from cocoindex.callables.identity import Identity
from cocoindex.core.canonical import SCALARS, WRITERS, Canon, StateFn, exact_form
from cocoindex.core.fingerprint import Domain
from cocoindex.core.logic import Home, registry
from cocoindex.core.memo_key import canonical_form
from cocoindex.engine.function import CallKey
from cocoindex.errors import UsageTypeError, UsageValueError

__all__ = ["CallKeys", "MemoKey"]

MemoKey = Mapping[str, Callable[[Any], Any] | None]

_LONGEST_FORM: Final = 256
"""Bytes of a canonical form beyond which its digest stands for it."""

_LONG: Final = b"#"
"""Begins such a digest; no form does."""

_FUNCTION: Final = "function"
"""Label of the part that says which function is called."""

_long_digest: Final = Domain("coco.argument").digest
_call_digest: Final = Domain("coco.call").digest


def _position(index: int) -> bytes:
    return struct.pack(">cI", b"p", index)


_POSITIONS: Final = tuple(_position(index) for index in range(32))


class _Argument(NamedTuple):
    """One argument that counts: how it was passed, its label, its value."""

    slot: bytes
    label: str
    value: object


class CallKeys:
    """Computes the keys of calls of one function."""

    __slots__ = ("_custom", "_home", "_identity", "_label_sets", "_labels", "_name")

    def __init__(
        self,
        fn: Callable[..., Any],
        identity: Identity,
        name: str,
        memo_key: MemoKey | None,
        home: Home | None = None,
    ) -> None:
        """``home``: of the code that runs when a key is asked for.

        Raises ``ValueError`` or ``TypeError`` if ``memo_key`` doesn't fit ``fn``.
        """
        self._identity = identity
        self._home = home
        self._name = name
        self._custom = _CustomKey(fn, name, memo_key) if memo_key else None
        self._labels = _positional_labels(identity)
        self._label_sets = [
            (_FUNCTION, *self._labels[:count]) for count in range(len(self._labels) + 1)
        ]

    def key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallKey:
        """The key of one call.

        Raises:
            TypeError: an argument can't be keyed; the message names it.
        """
        plain = self.plain_key(args, kwargs)
        if plain is not None:
            return plain
        slots: Sequence[bytes] = _POSITIONS
        values: Sequence[Any] = args
        if self._custom is None and not kwargs and len(args) < len(self._label_sets):
            labels = self._label_sets[len(args)]
        else:
            labels, slots, values = self._taken_apart(args, kwargs)
        states: list[StateFn] = []
        forms: list[bytes | bytearray] = []
        for label, value in zip(labels[1:], values, strict=True):
            try:
                forms.append(_form(value, states))
            except UsageTypeError as error:
                raise UsageTypeError(f"argument {label!r} of {self._name}(): {error}") from error
        return self._joined(labels, slots, forms, states)

    def plain_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallKey | None:
        """The same where no code of the user's has a say in it; None where it may have."""
        if kwargs or self._custom is not None or len(args) >= len(self._label_sets):
            return None
        forms = list(map(_plain_form, args))
        if None in forms:
            return None
        return self._joined(self._label_sets[len(args)], _POSITIONS, forms, ())

    def _joined(
        self,
        labels: tuple[str, ...],
        slots: Sequence[bytes],
        forms: Sequence[Any],
        states: Sequence[StateFn],
    ) -> CallKey:
        if self._home is not None and not self._home.counts:
            registry.use(self._home)
        head = self._identity.digest()
        if len(forms) == 1:  # as most calls have it
            written = head + slots[0] + _shortened(forms[0])
            return CallKey(
                _call_digest(written), states, labels, written, (len(head), len(written))
            )
        parts = [slot + _shortened(form) for slot, form in zip(slots, forms, strict=False)]
        written = b"".join((head, *parts))
        ends = tuple(accumulate(map(len, parts), initial=len(head)))
        return CallKey(_call_digest(written), states, labels, written, ends)

    def _taken_apart(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[str, ...], Sequence[bytes], Sequence[Any]]:
        """Labels, slots and values of the arguments that count."""
        custom = self._custom
        found = (self._plain_arguments if custom is None else custom.arguments)(args, kwargs)
        slots, labels, values = tuple(zip(*found, strict=True)) or ((), (), ())
        return (_FUNCTION, *labels), slots, values

    def _plain_arguments(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Iterable[_Argument]:
        known = len(self._labels)
        for index, value in enumerate(args):
            label = self._labels[index] if index < known else f"*args[{index - known}]"
            yield _Argument(_position(index), label, value)
        for name in sorted(kwargs):
            yield _Argument(_keyword(name), name, kwargs[name])


_ROWS: Final = frozenset((list, tuple))
_NO_CANON: Final = Canon(None)  # scalars don't look at it


def _form(value: Any, states: list[StateFn]) -> bytes | bytearray:
    """The canonical form of an argument."""
    form = _plain_form(value)
    if form is None:
        form = bytearray()
        WRITERS[type(value)](form, value, Canon(states))
    return form


def _plain_form(value: Any) -> bytes | bytearray | None:
    """The form of a scalar, or a row of such; None for other arguments."""
    kind = type(value)
    if kind in _ROWS:
        return exact_form(value)
    writer = SCALARS.get(kind)
    if writer is None:
        return None
    form = bytearray()
    writer(form, value, _NO_CANON)
    return form


def _shortened(form: bytes | bytearray) -> bytes | bytearray:
    """A form, or what stands for a long one."""
    return form if len(form) <= _LONGEST_FORM else _LONG + _long_digest(form)


def _keyword(name: str) -> bytes:
    return b"k" + canonical_form(name)


def _positional_labels(identity: Identity) -> tuple[str, ...]:
    if not identity.functions:
        return ()
    code = identity.functions[-1].function.__code__  # of the innermost, behind all wrappers
    return code.co_varnames[: min(code.co_argcount, len(_POSITIONS))]


class _CustomKey:
    """Arguments as ``memo_key`` changes them."""

    def __init__(self, fn: Callable[..., Any], name: str, memo_key: MemoKey) -> None:
        parameters = inspect.signature(fn).parameters
        _check_memo_key(memo_key, parameters, name)
        self._rules = dict(memo_key)
        self._name = name
        kinds = inspect.Parameter
        self._positional = [
            p.name
            for p in parameters.values()
            if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        ]
        self._named = {
            p.name
            for p in parameters.values()
            if p.kind in (kinds.KEYWORD_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        }
        self._rest = _name_of(parameters, kinds.VAR_POSITIONAL)
        self._extra = _name_of(parameters, kinds.VAR_KEYWORD)

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterable[_Argument]:
        known = len(self._positional)
        for index, (name, value) in enumerate(zip(self._positional, args, strict=False)):
            yield from self._one(_position(index), name, value)
        rest = self._whole(self._rest, args[known:], tuple)
        for index, value in enumerate(rest):
            yield _Argument(_position(known + index), f"{self._rest}[{index}]", value)
        extra = {name: value for name, value in kwargs.items() if name not in self._named}
        for name in sorted(kwargs.keys() - extra.keys()):
            yield from self._one(_keyword(name), name, kwargs[name])
        for name, value in sorted(self._whole(self._extra, extra, dict).items(), key=_first):
            yield _Argument(b"e" + _keyword(name), name, value)

    def _one(self, slot: bytes, name: str, value: Any) -> Iterable[_Argument]:
        if name not in self._rules:
            yield _Argument(slot, name, value)
        elif (rule := self._rules[name]) is not None:
            yield _Argument(slot, name, rule(value))

    def _whole(self, name: str | None, value: Any, kind: type) -> Any:
        """``*args`` or ``**kwargs``, changed as one value."""
        if not value or name not in self._rules or name is None:
            return value
        rule = self._rules[name]
        if rule is None:
            return kind()
        changed = rule(value)
        if not isinstance(changed, kind):
            raise UsageTypeError(
                f"memo_key[{name!r}] for {self._name}() must return a {kind.__name__}, "
                f"not {type(changed).__name__}"
            )
        return changed


def _first(pair: tuple[str, Any]) -> str:
    return pair[0]


def _name_of(parameters: Mapping[str, inspect.Parameter], kind: Any) -> str | None:
    return next((p.name for p in parameters.values() if p.kind is kind), None)


def _check_memo_key(
    memo_key: MemoKey, parameters: Mapping[str, inspect.Parameter], name: str
) -> None:
    unknown = [param for param in memo_key if param not in parameters]
    if unknown:
        raise UsageValueError(
            f"Unknown memo_key parameter(s) for {name}(): {', '.join(map(str, unknown))}"
        )
    for param, rule in memo_key.items():
        if rule is not None and not callable(rule):
            raise UsageTypeError(
                f"memo_key[{param!r}] for {name}() must be a callable or None, "
                f"not {type(rule).__name__}"
            )
