"""The data a function carries or reads: closure cells, defaults and module constants.

Such data is part of what the function means. Immutable values are looked at on every call, by
identity; mutable ones are read once per function and run, because programs change them while
they work. What is no plain data (a connection, a client) is left out.
"""

from __future__ import annotations

import builtins
import datetime as dt
import logging
import pathlib
import re
import types
import uuid
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from functools import partial
from operator import attrgetter, is_, itemgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cocoindex.callables.bytecode import names_of
from cocoindex.callables.source import body_of, source_file
from cocoindex.core.fingerprint import Domain
from cocoindex.core.logic import registry
from cocoindex.core.memo_key import Mode, NotPlainData, canonical_form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cocoindex.callables.source import Body

__all__ = ["FunctionParts", "Watch", "captures_of", "constants_of", "is_code"]

_logger = logging.getLogger(__name__)
_domain: Final = Domain("coco.data")
_NOTHING: Final = b""

_IMMUTABLE: Final = (
    types.NoneType,
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    Decimal,
    uuid.UUID,
    dt.date,
    dt.time,
    dt.timedelta,
    dt.tzinfo,
    pathlib.PurePath,
    re.Pattern,
    range,
    Enum,
)
_CODE: Final = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    type,
)


class _Absent:
    """Stands for the content of an empty cell, or a global that doesn't exist (yet)."""


_ABSENT: Final = _Absent()


def is_code(value: object) -> bool:
    """Whether ``value`` is a module, class or function: code rather than data."""
    return isinstance(value, _CODE) or hasattr(type(value), "__coco_function__")


def _is_immutable(value: object) -> bool:
    if isinstance(value, _IMMUTABLE) or value is _ABSENT:
        return True
    if isinstance(value, (tuple, frozenset)):
        return all(_is_immutable(item) for item in value)
    params = getattr(type(value), "__dataclass_params__", None)
    if is_dataclass(value) and params is not None and params.frozen:
        return all(_is_immutable(getattr(value, f.name, None)) for f in fields(value))
    return False


class FunctionParts:
    """A plain function taken apart: its body, and the names it uses."""

    __slots__ = ("_body", "_file", "function", "names")

    def __init__(self, function: types.FunctionType) -> None:
        self.function = function
        code = function.__code__
        # The text is looked up now, while it still is what was compiled; it is parsed later.
        self._file = source_file(code.co_filename, function.__globals__)
        self._body: Body | None = None
        self.names = names_of(code)

    @property
    def body(self) -> Body:
        """What the text of the function, or else its code, says."""
        if self._body is None:
            self._body = body_of(self.function.__code__, self._file)
        return self._body

    def works_on(self, name: str, value: object) -> bool:
        """Whether ``value`` is a container that the body uses ``name`` to change."""
        return not _is_immutable(value) and not is_code(value) and name in self.body.mutated


class _Place(msgspec.Struct, frozen=True):
    """A named place that holds a value; ``form`` is None for one that doesn't count."""

    label: str
    form: Callable[[Any], bytes | None]


class Watch:
    """Some places, and the digest of what they hold.

    The first of the places are watched at every call; the others, which only monkey patches
    bind anew, are looked at once per run.
    """

    __slots__ = (
        "_digest",
        "_epoch",
        "_fetch",
        "_forms",
        "_glance",
        "_settled",
        "_values",
        "places",
    )

    def __init__(
        self,
        places: Sequence[_Place],
        fetch: Callable[[], tuple[object, ...]] | None,
        settled: Callable[[], tuple[object, ...]] | None = None,
        glance: Callable[[], Iterable[object]] | None = None,
    ) -> None:
        """``fetch`` reads the watched places, ``settled`` the others; None if there are none.

        ``glance``: cheaper than ``fetch``; may raise ``ValueError`` where a place is empty.
        """
        self.places = tuple(places)
        self._fetch = fetch
        self._glance = glance or fetch
        self._settled = settled
        self._values: tuple[object, ...] = ()
        self._forms: list[bytes | None] = []
        self._epoch = -1
        self._digest = _NOTHING

    @property
    def watched(self) -> bool:
        """Whether :meth:`read` may change its mind within a run."""
        return self._fetch is not None

    def read(self) -> bytes:
        """Digest of the data as of now; empty if no data counts."""
        if self._epoch == registry.epoch:
            glance = self._glance
            try:
                if glance is None or all(map(is_, glance(), self._values)):
                    return self._digest
            except ValueError:
                pass
        watched = () if self._fetch is None else self._fetch()
        settled = () if self._settled is None else self._settled()
        self._reread(watched[: len(self.places) - len(settled)] + settled)
        return self._digest

    def parts(self) -> list[tuple[str, bytes]]:
        """Label and 8-byte digest of each place that counts, as last read."""
        return [
            (place.label, _domain.digest(form)[:8])
            for place, form in zip(self.places, self._forms, strict=False)
            if form is not None
        ]

    def _reread(self, values: tuple[object, ...]) -> None:
        epoch = registry.epoch
        new_run = self._epoch != epoch
        before, known = self._values, self._forms
        forms: list[bytes | None] = list(known) if known else [None] * len(values)
        for index, place in enumerate(self.places):
            if not known or _is_news(before[index], values[index], new_run):
                forms[index] = place.form(values[index])
        digest = self._combine(forms)
        # The digest first: another thread that finds the values current may use it at once.
        if digest != self._digest:
            self._digest = digest
        self._forms, self._values, self._epoch = forms, values, epoch

    def _combine(self, forms: list[bytes | None]) -> bytes:
        out = bytearray()
        for place, form in zip(self.places, forms, strict=True):
            if form is not None:
                out += canonical_form(place.label) + form
        return _domain.digest(out) if out else _NOTHING


def _is_news(before: object, value: object, new_run: bool) -> bool:
    if value is before:
        return new_run and not _is_immutable(value)
    return new_run or _is_immutable(value) or _is_immutable(before)


class _Reader:
    """Turns values into canonical forms; names each one that doesn't count, once, in the log."""

    __slots__ = ("_mode", "_owner", "_reported")

    def __init__(self, owner: str, mode: Mode) -> None:
        self._owner = owner
        self._mode = mode
        self._reported: set[str] = set()

    def form(self, label: str, value: object) -> bytes | None:
        if value is _ABSENT:
            return None
        try:
            return canonical_form(value, self._mode)
        except NotPlainData:
            self._report(label, f"{type(value).__qualname__} is no plain data")
        except Exception as error:  # noqa: BLE001 - whatever the value's own memo key raises
            self._report(label, f"its memo key raised {error!r}")
        return None

    def _report(self, label: str, reason: str) -> None:
        if label not in self._reported:
            self._reported.add(label)
            _logger.debug(
                "%s: %s does not count towards the identity of the code: %s; pass deps= if it "
                "should",
                self._owner,
                label,
                reason,
            )


# Closure cells and defaults


def captures_of(owner: str, functions: Sequence[FunctionParts]) -> Watch:
    """The captured values of some functions: cells, defaults, keyword defaults."""
    reader = _Reader(owner, Mode.CAPTURED)
    cell_places: list[_Place] = []
    cells: list[types.CellType] = []
    default_places: list[_Place] = []
    settled: list[Callable[[], object]] = []
    for index, parts in enumerate(functions):
        prefix = f"{index}:" if index else ""
        for name, cell in _counted_cells(parts):
            cell_places.append(_cell_place(reader, parts, f"{prefix}cell {name}", name))
            cells.append(cell)
        for attribute, names in _defaults_of(parts.function):
            label = f"{prefix}{attribute.strip('_')}"
            default_places.append(_defaults_place(reader, parts, label, names))
            settled.append(partial(getattr, parts.function, attribute))
    return Watch(
        [*cell_places, *default_places],
        (lambda: tuple([_content(cell) for cell in cells])) if cells else None,
        (lambda: tuple([get() for get in settled])) if settled else None,
        partial(map, _contents, cells) if cells else None,
    )


def _counted_cells(parts: FunctionParts) -> list[tuple[str, types.CellType]]:
    names = parts.function.__code__.co_freevars
    cells = zip(names, parts.function.__closure__ or (), strict=True)
    return sorted(
        ((name, cell) for name, cell in cells if name not in parts.names.rebound), key=_name
    )


def _name(pair: tuple[str, object]) -> str:
    return pair[0]


_contents: Final[Callable[[types.CellType], object]] = attrgetter("cell_contents")


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return _ABSENT


def _cell_place(reader: _Reader, parts: FunctionParts, label: str, name: str) -> _Place:
    def form(value: object) -> bytes | None:
        return None if parts.works_on(name, value) else reader.form(label, value)

    return _Place(label, form)


def _defaults_of(
    function: types.FunctionType,
) -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """Attributes of ``function`` that hold defaults, with the names that go with a tuple."""
    if function.__defaults__:
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        yield "__defaults__", names[len(names) - len(function.__defaults__) :]
    if function.__kwdefaults__:
        yield "__kwdefaults__", None


def _defaults_place(
    reader: _Reader, parts: FunctionParts, label: str, names: tuple[str, ...] | None
) -> _Place:
    """Defaults: a tuple that goes with ``names``, or a mapping from names."""

    def form(values: Any) -> bytes | None:
        pairs = sorted(values.items()) if names is None else zip(names, values, strict=False)
        out = bytearray()
        for name, value in pairs:
            if parts.works_on(name, value):
                continue
            part = reader.form(f"{label}, {name}", value)
            if part is not None:
                out += canonical_form(name) + part
        return bytes(out) if out else None

    return _Place(label, lambda values: form(values) if values else None)


# Module constants


def constants_of(owner: str, parts: FunctionParts, known: Watch | None) -> Watch:
    """The global names that the body of a function loads and that may be bound to data now.

    Returns ``known``, made by an earlier call, if that still watches the right names.
    """
    namespace = parts.function.__globals__
    names = [
        name
        for name in parts.names.globals
        if name not in parts.names.rebound and _may_be_data(namespace, name)
    ]
    if known is not None and [place.label for place in known.places] == _global_labels(names):
        return known
    reader = _Reader(owner, Mode.DATA)
    places = [_global_place(reader, parts, name) for name in names]
    return Watch(places, _globals_fetch(namespace, names) if names else None)


def _global_labels(names: list[str]) -> list[str]:
    return [f"global {name}" for name in names]


def _may_be_data(namespace: dict[str, Any], name: str) -> bool:
    if name in namespace:
        return not is_code(namespace[name])
    return not hasattr(builtins, name)


def _globals_fetch(namespace: dict[str, Any], names: list[str]) -> Callable[[], tuple[object, ...]]:
    # The last name is given twice, since a getter of one item doesn't return a tuple.
    get: Callable[[dict[str, Any]], tuple[object, ...]] = itemgetter(*names, names[-1])

    def fetch() -> tuple[object, ...]:
        try:
            return get(namespace)
        except KeyError:
            return tuple(namespace.get(name, _ABSENT) for name in names)

    return fetch


def _global_place(reader: _Reader, parts: FunctionParts, name: str) -> _Place:
    [label] = _global_labels([name])

    def form(value: object) -> bytes | None:
        if value is None or parts.works_on(name, value):
            return None
        return reader.form(label, value)

    return _Place(label, form)
