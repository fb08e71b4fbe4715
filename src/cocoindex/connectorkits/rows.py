"""Rows: from what users declare to a key, fields, and one fingerprint."""

from __future__ import annotations

import datetime as dt
import logging
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter, itemgetter
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import msgspec

from cocoindex.connectorkits.columns import Encoder, enum_value
from cocoindex.core.fingerprint import Domain
from cocoindex.core.memo_key import fingerprint_object
from cocoindex.errors import UsageTypeError, UsageValueError

__all__ = [
    "Field",
    "RowCodec",
    "RowOptions",
    "fingerprinter",
    "key_part",
    "key_value",
    "size_of",
    "zoned",
]

_log = logging.getLogger(__name__)

Extra = Literal["warn", "ignore", "error"]
NaiveTz = dt.tzinfo | Literal["local", "error"] | None
Fields = tuple[Any, ...]
Key = tuple[Any, ...]

ENCODER_ERRORS: Final = (ValueError, TypeError, OverflowError, AttributeError, struct.error)
"""What an encoder may raise about a value; everything else is a bug and goes through."""


@dataclass(frozen=True, slots=True)
class RowOptions:
    """How rows of one target are read.

    Attributes:
        extra: what to do about keys of a dict row that are no columns.
        naive_tz: how a naive datetime is read where a zone is needed: in this zone, in the
            machine's (``"local"``), or not at all (``"error"``). ``None``: the connector's way.
        own: options of the connector's own.
    """

    extra: Extra = "warn"
    naive_tz: NaiveTz = None
    own: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.extra not in ("warn", "ignore", "error"):
            raise UsageValueError(f"extra must be 'warn', 'ignore' or 'error', not {self.extra!r}")
        zone = self.naive_tz
        if not (zone is None or isinstance(zone, dt.tzinfo) or zone in ("local", "error")):
            raise UsageValueError(f"naive_tz must be a tzinfo, 'local' or 'error', not {zone!r}")


class Field(NamedTuple):
    """One column, as the codec needs it.

    Attributes:
        name: of the column, and of the row's attribute or dict key.
        nullable: whether ``None`` is allowed.
        encoder: of values that are not ``None``.
        key_encoder: for key columns: from the value to its part of the stable key.
    """

    name: str
    nullable: bool = True
    encoder: Encoder | None = None
    key_encoder: Encoder | None = None


class RowCodec:
    """Encodes rows of one table; compiled once per table and run.

    Args:
        fields: the columns, in the order of the encoded fields.
        primary_key: names of the key columns, in key order.
        title: how errors call the system (``"Postgres"``).
        table: how messages call the table.
        options: see :class:`RowOptions`.
    """

    __slots__ = (
        "_encoders",
        "_extractors",
        "_key",
        "_one_key",
        "_required",
        "_warned",
        "fields",
        "options",
        "table",
        "title",
    )

    def __init__(
        self,
        fields: Sequence[Field],
        primary_key: Sequence[str],
        *,
        title: str,
        table: str,
        options: RowOptions,
    ) -> None:
        self.fields = tuple(fields)
        self.title = title
        self.table = table
        self.options = options
        self._encoders = [f.encoder or _as_it_is for f in self.fields]
        position = {f.name: i for i, f in enumerate(self.fields)}
        self._key = [
            (position[name], self.fields[position[name]].key_encoder or key_part)
            for name in primary_key
        ]
        self._one_key = self._key[0] if len(self._key) == 1 else None
        # Key columns are looked at already.
        self._required = [
            i for i, f in enumerate(self.fields) if not f.nullable and f.name not in primary_key
        ]
        self._extractors: dict[type, Callable[[Any], Sequence[Any]]] = {}
        self._warned: set[str] = set()

    def encode(self, row: Any) -> tuple[Key, Fields]:
        """The key and the encoded fields of ``row``: a dict, or an object with attributes.

        Raises:
            ValueError: a key column is missing, ``None`` where none may be, or a value that the
                column can't hold. Messages name table, key and column, never a value.
            TypeError: a value of a type that the column can't hold.
        """
        # Called for every row of every run, so everything that is not needed for a good row is
        # left to `_explain`.
        extract = self._extractors.get(type(row))
        if extract is None:
            extract = self._extractors[type(row)] = self._extractor(row)
        try:
            values = extract(row)
        except AttributeError:
            raise self._no_attribute(row) from None
        try:
            if self._one_key is not None:
                i, encode = self._one_key
                if values[i] is None:
                    self._explain(values)
                key: Key = (encode(values[i]),)
            else:
                if any(values[i] is None for i, _ in self._key):
                    self._explain(values)
                key = tuple([encode(values[i]) for i, encode in self._key])
            fields = tuple(
                [
                    value if value is None else encode(value)
                    for encode, value in zip(self._encoders, values)  # noqa: B905 - as long
                ]
            )
        except ENCODER_ERRORS:
            self._explain(values)
            raise
        for i in self._required:
            if fields[i] is None:
                self._explain(values)
        return key, fields

    def _explain(self, values: Sequence[Any]) -> None:
        """Raise the error that says which column of a row is at fault.

        It does not say what with: the text of a foreign error may quote the value.
        """
        parts = []
        for i, encode in self._key:
            if values[i] is None:
                raise UsageValueError(
                    f"{self.title} primary key column {self.fields[i].name!r} cannot be None "
                    f"(table {self.table})"
                ) from None
            parts.append(self._tried(encode, i, values[i], ""))
        where = f", row {key_text(tuple(parts))}"
        for i, encode in enumerate(self._encoders):
            if values[i] is not None:
                self._tried(encode, i, values[i], where)
            elif not self.fields[i].nullable:
                raise UsageValueError(
                    f"{self._place(i)}{where}: None, but the column is NOT NULL"
                ) from None

    def _tried(self, encode: Encoder, i: int, value: Any, where: str) -> Any:
        try:
            return encode(value)
        except (UsageValueError, UsageTypeError) as error:
            kind: type[UsageValueError | UsageTypeError] = type(error)
            what = str(error)
        except (TypeError, AttributeError) as error:
            kind, what = UsageTypeError, f"the value can't be stored ({type(error).__name__})"
        except ENCODER_ERRORS as error:
            kind, what = UsageValueError, f"the value can't be stored ({type(error).__name__})"
        raise kind(f"{self._place(i)}{where}: {what}") from None

    def _place(self, i: int) -> str:
        return f"{self.title} table {self.table}, column {self.fields[i].name!r}"

    # --- extraction ------------------------------------------------------------------------

    def _extractor(self, row: Any) -> Callable[[Any], Sequence[Any]]:
        names = [f.name for f in self.fields]
        if isinstance(row, Mapping):
            return self._mapping_extractor(names)
        if isinstance(row, (str, bytes, int, float)) or row is None:
            raise UsageTypeError(
                f"{self.title} table {self.table}: a row must be a dict or a record, "
                f"not {type(row).__name__}"
            )
        get = attrgetter(*names)
        return get if len(names) > 1 else lambda row: (get(row),)

    def _no_attribute(self, row: Any) -> UsageTypeError:
        missing = [field.name for field in self.fields if not hasattr(row, field.name)]
        return UsageTypeError(
            f"{self.title} table {self.table}: {type(row).__name__} has no attribute "
            f"{', '.join(missing)}"
        )

    def _mapping_extractor(self, names: list[str]) -> Callable[[Any], Sequence[Any]]:
        get = itemgetter(*names)
        one = len(names) == 1
        count = len(names)

        def extract(row: Mapping[str, Any]) -> Sequence[Any]:
            try:
                values = get(row)
            except KeyError:
                return self._incomplete(row, names)
            if len(row) != count:
                self._extra_keys(row.keys() - names)
            return (values,) if one else values

        return extract

    def _incomplete(self, row: Mapping[str, Any], names: list[str]) -> list[Any]:
        for i, _ in self._key:
            if names[i] not in row:
                raise UsageValueError(
                    f"{self.title} row is missing primary key column {names[i]!r} "
                    f"(table {self.table})"
                ) from None
        extra = row.keys() - names
        if extra:
            self._extra_keys(extra)
        return [row.get(name) for name in names]

    def _extra_keys(self, keys: Iterable[str]) -> None:
        listed = ", ".join(sorted(map(str, keys)))
        what = f"{self.title} table {self.table}: rows have keys that are no columns: {listed}"
        if self.options.extra == "error":
            raise UsageValueError(what)
        if self.options.extra == "warn":
            self.warn_once(f"{what}. They are left out; extra='ignore' says that this is meant.")

    def warn_once(self, text: str) -> None:
        """Log a warning, the first time."""
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("%s", text)


def _as_it_is(value: Any) -> Any:
    return value


def key_text(key: Key) -> str:
    """A key as messages show it."""
    shown = ", ".join(repr(part) for part in key)
    return shown if len(shown) <= 200 else f"{shown[:200]}…"


# --- Keys ----------------------------------------------------------------------------------

_KEYS_AS_THEY_ARE: Final = frozenset((str, int, bool, bytes, UUID))


def key_part(value: Any) -> Any:
    """A value as part of a stable key: what no key can hold becomes text, without loss.

    Raises:
        TypeError: a type that no key can be made of.
    """
    if type(value) in _KEYS_AS_THEY_ARE:
        return value
    value = enum_value(value)
    if isinstance(value, dt.datetime):
        return _utc(value).isoformat()
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _decimal_text(value)
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (str, int, bytes, UUID)):
        return value
    if hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        return key_part(value.item())
    raise UsageTypeError(f"{type(value).__name__} can't be part of a primary key")


def _utc(value: dt.datetime) -> dt.datetime:
    return value if value.tzinfo is None else value.astimezone(dt.UTC)


def _decimal_text(value: Decimal) -> str:
    """Equal numbers have equal text, as they are one key in a database."""
    if not value.is_finite():
        raise UsageValueError("NaN or an infinity can't be part of a primary key")
    text = f"{value:f}"  # exact, whatever the context's precision is
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "0") else text


def _float_text(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN
        raise UsageValueError("NaN or an infinity can't be part of a primary key")
    return repr(value + 0.0)


def key_value(part: Any, kind: type) -> Any:
    """The value of type ``kind`` from which :func:`key_part` made ``part``."""
    if kind in (dt.datetime, dt.date, dt.time):
        return kind.fromisoformat(part)
    if kind in (Decimal, float):
        return kind(part)
    return part


# --- Fingerprints --------------------------------------------------------------------------

_digest: Final = Domain("coco.row").digest


def fingerprinter(names: Sequence[str]) -> Callable[[Fields], bytes]:
    """A function from encoded fields to 16 bytes.

    Fields that are ``None`` don't count, nor does the order of columns: adding a nullable column
    changes no fingerprint.
    """
    encode = msgspec.msgpack.Encoder().encode
    by_absent: dict[tuple[bool, ...], tuple[bytes, Callable[[Fields], Any]]] = {}

    def layout(absent: tuple[bool, ...]) -> tuple[bytes, Callable[[Fields], Any]]:
        """For rows with these fields absent: the names of the others, and what picks them."""
        order = [i for i in sorted(range(len(names)), key=names.__getitem__) if not absent[i]]
        found = encode([names[i] for i in order]), _picker(order)
        if len(by_absent) < _MOST_LAYOUTS:
            by_absent[absent] = found
        return found

    complete = layout((False,) * len(names))

    def fingerprint(fields: Fields) -> bytes:
        try:
            if None in fields:
                absent = tuple([value is None for value in fields])
                prefix, pick = by_absent.get(absent) or layout(absent)
            else:
                prefix, pick = complete
            return _digest(prefix + encode(pick(fields)))
        except (TypeError, ValueError, OverflowError):  # made by a user's own encoder
            known = zip(names, fields, strict=True)
            return fingerprint_object({n: v for n, v in known if v is not None})

    return fingerprint


_MOST_LAYOUTS: Final = 1_000
"""Rows of wide, sparse tables may be without fields in very many ways."""


def _picker(order: list[int]) -> Callable[[Fields], Any]:
    if len(order) > 1:
        return itemgetter(*order)
    return lambda fields: tuple(fields[i] for i in order)


_SIZED: Final = (str, bytes, bytearray, memoryview)


def size_of(fields: Fields | None) -> int:
    """About how many bytes a row has."""
    if fields is None:
        return 64
    size = 16 * len(fields)
    for value in fields:
        if isinstance(value, _SIZED):
            size += len(value)
    return size


# --- Time zones ----------------------------------------------------------------------------


def zoned(naive_tz: NaiveTz, warn: Callable[[], None]) -> Callable[[dt.datetime], dt.datetime]:
    """From any datetime to an aware one in UTC.

    Args:
        naive_tz: see :class:`RowOptions`; ``None`` means ``"local"``, and a call of ``warn`` for
            each naive value.
        warn: says once that naive values are taken for local time.
    """
    utc = dt.UTC

    def encode(value: dt.datetime) -> dt.datetime:
        if value.tzinfo is not None:
            return value if value.tzinfo is utc else value.astimezone(utc)
        if naive_tz == "error":
            raise UsageValueError("a datetime without time zone (naive_tz='error')")
        if isinstance(naive_tz, dt.tzinfo):
            return value.replace(tzinfo=naive_tz).astimezone(utc)
        if naive_tz is None:
            warn()
        return value.astimezone(utc)

    return encode
